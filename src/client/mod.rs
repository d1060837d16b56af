//! The Rust client: one thread owns the DEALER socket, channels stand in front of it.
//!
//! [`Client::connect`] finds a node, [`Client::publisher`] hands it records and tells what became
//! of each one, [`Client::subscribe`] reads. What decides (`session`, `connection`, `lane`,
//! `reader`) is pure: it takes the time and a frame and says what to do, and is tested without a
//! socket. `thread` is the only file that knows ZeroMQ.
//!
//! When its node is lost, the client goes on at another one: it sends again what has no answer,
//! with the same sequence, and resumes each subscription where it stood. This API blocks; an
//! asynchronous one can stand beside it, on the same thread and the same channels.

mod connection;
mod cursors;
mod error;
mod handle;
mod lane;
mod options;
mod reader;
mod session;
mod subscription;
mod thread;

pub use error::{Cause, ClientError, Failure, PublishError, Refusal};
pub use handle::{Client, Outcome, Outcomes, Publisher, Receipt};
pub use options::{Address, ConnectOptions, Level, PublisherOptions, Start, Wanted};
pub use subscription::{Delivered, Item, Subscription};
