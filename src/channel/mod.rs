//! Delivery semantics of one partition, one file per kind. A kind's state comes out of the log
//! alone, so that every replica, and every restart, agrees on it.

mod checkpoint;
mod cursor;
mod extent;
mod ranges;
mod stream;

pub use cursor::{CursorAccount, CursorError, CursorPosition};
pub use extent::{Bounds, Trimmed};
pub use ranges::Ranges;
pub use stream::{Stamp, Stream, StreamError, Verdict};
