//! Weft: a brokerless message fabric on ZeroMQ.
//!
//! A node is a pure core (`types`, `topology`, `wire`, `replica`, `channel`, `node`) that decides,
//! and a thin shell (`actor`, `store`, `client`, `embed`, `http`, `sim`, `cli`) that owns sockets,
//! disks, clocks and threads. The core never reads a clock, opens a file or socket, or draws
//! ambient randomness; `tests/it/tidy.rs` holds every room to its imports.

pub mod actor;
pub mod channel;
pub mod cli;
pub mod client;
pub mod embed;
pub mod http;
pub mod node;
pub mod replica;
pub mod sim;
pub mod store;
pub mod topology;
pub mod types;
pub mod wire;

pub use client::Client;
pub use embed::Node;
pub use topology::Topology;
pub use types::Record;
