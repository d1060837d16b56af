//! The topology: one TOML file that declares nodes, clients, channels and limits.
//!
//! `parse` reads it, `check` finds every problem at once, each with its line, `plan` says what one
//! node binds, connects and replicates. This room opens no file and no socket; it is handed text.

mod keys;
mod model;
mod name;

pub use keys::{KeyError, SecretKey};
pub use model::{
    Channel, Client, Confirm, Endpoint, Fabric, Keep, Kind, Node, PublicKey, SpanNanos, Topology,
};
pub use name::{NameError, check_name};
