//! The protocol: what crosses a socket or a disk, byte by byte. `PROTOCOL.md` beside this file is
//! its specification; this room implements it and holds no policy and no state.

pub mod client;
pub mod peer;
mod refusal;

pub use refusal::{Code, TABLE as REFUSALS};
