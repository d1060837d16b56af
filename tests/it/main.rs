//! Everything that is tested from the outside, in one binary.

mod abuse;
mod cli;
mod client;
mod crash;
mod cursors;
mod drill;
mod fabric;
mod fuzz;
mod http;
mod interop;
mod interposed;
mod journal_kit;
mod kit;
mod ledger;
mod node;
mod readme;
mod security;
mod simulation;
mod skips;
mod sockets;
mod space;
mod storage;
mod support;
mod tidy;
mod up;
mod wire;
