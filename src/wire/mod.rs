//! The protocol: what crosses a socket or a disk, byte by byte. `PROTOCOL.md` beside this file is
//! its specification; this room implements it and holds no policy and no state.

pub mod audit;
pub mod client;
pub mod entry;
mod error;
pub mod founding;
mod frame;
pub mod peer;
mod peer_frame;
pub mod records;
mod refusal;
mod scan;
pub mod signal;

pub use error::{RecordProblem, WireError};
pub use frame::{
    Payload, REPLIES, REQUESTS, decode_reply, decode_request, encode_reply, encode_reply_of,
    encode_request, encode_request_of, frames, request_id,
};
pub use peer_frame::{PEER_MESSAGES, decode_peer, encode_peer};
pub use records::{RawRecord, RawRecords};
pub use refusal::{Code, TABLE as REFUSALS};
pub use scan::Malformed;
