//! The Rust client: one thread owns the DEALER socket, channels stand in front of it.
//!
//! [`Client::connect`] finds a node, [`Client::publish`] and [`Producer`] publish,
//! [`Client::subscribe`] reads. What decides (`session`, `connection`, `lane`, `reader`) is pure:
//! it takes the time and a frame and says what to do, and is tested without a socket. `transport`
//! is the only file that knows ZeroMQ.
//!
//! When its node is lost, the client goes on at another one: it sends again what has no answer,
//! with the same sequence, and resumes each subscription where it stood.

mod batch;
mod bell;
mod bundle;
mod connection;
mod cursors;
mod error;
mod flight;
mod handle;
mod intake;
mod lane;
mod lanes;
mod link;
mod local;
mod options;
mod producer;
mod reader;
mod session;
mod subscription;
mod thread;
mod transport;

pub use error::{Cause, ClientError, Failure, PublishError, Refusal, Retry};
pub use handle::{Client, Traffic};
pub(crate) use local::{LocalEar, LocalLine, LocalNode};
pub use options::{Address, ConnectOptions, Level, ProducerOptions, Start, Wanted};
pub use producer::{Confirm, Outcome, Producer, Receipt};
pub use subscription::{Delivered, Item, Subscription};
