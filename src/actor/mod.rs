//! The shell of a node: actors around the core, each of which owns one socket or a disk thread.
//!
//! They translate what happens into inputs and carry outputs out. What to do about anything is
//! the core's say. This is the only room that imports actix, and the only one that opens sockets
//! for a node.

mod assemble;
mod cores;
mod disk;
mod duties;
mod error;
mod fatal;
mod gate;
mod housekeeping;
mod keys;
mod local;
mod messages;
mod monitor;
mod node;
mod process;
mod refusals;
mod run;
mod socket;
mod sockets;

pub use error::StartError;
pub(crate) use keys::shared_secret;
pub use local::{Ear, LocalPort, LocalSession};
pub use messages::SocketName;
pub(crate) use process::{raise_open_files, raise_open_files_for};
pub use run::{Exit, NodeHandle, Start, run_node, spawn_node};
