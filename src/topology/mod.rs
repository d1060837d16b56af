//! The topology: one TOML file that declares nodes, clients, channels and limits.
//!
//! `parse` reads it, `check` finds every problem at once, each with its line, `plan` says what one
//! node binds, connects and replicates, `diff` what a running fabric can take of a change. This
//! room opens no file and no socket; it is handed text.

mod channels;
mod check;
mod diff;
mod draft;
mod endpoint;
mod estimate;
mod keys;
mod limits;
mod model;
mod name;
mod parse;
mod placement;
mod plan;
mod problem;
mod table;

pub use diff::{Change, Diff, Verdict, diff};
pub use estimate::{Estimate, Share};
pub use keys::{KeyError, SecretKey};
pub use model::{
    Channel, Client, Confirm, Endpoint, Fabric, Http, Keep, Kind, Node, PublicKey, Topology,
};
pub use name::{NameError, check_name};
pub use parse::parse;
pub use plan::{
    Action, ChannelPlan, Link, NodePlan, PartitionPlan, Plan, Socket, SocketKind, plan,
};
pub use problem::{Parsed, Problem, Severity, TopologyError};

#[cfg(test)]
mod tests;
