//! Delivery semantics of one partition, one file per kind. A kind's state comes out of the log
//! alone, so that every replica, and every restart, agrees on it.

mod checkpoint;
mod extent;
mod stream;

pub use extent::{Bounds, Trimmed};
pub use stream::{Stamp, Stream, StreamError, Verdict};
