//! How the handles of one client speak to its thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use tokio::sync::{mpsc, oneshot};

use super::bell::Bell;
use super::error::ClientError;
use super::intake::IntakeEnd;
use super::reader::ReaderEvent;
use super::session::Command;
use crate::wire::client::{CursorReply, Reply};

/// The way to the thread. Once the last handle drops it, the thread finishes what it was given.
#[derive(Debug)]
pub(super) struct Link {
    orders: Sender<Order>,
    bell: Arc<Bell>,
    next: AtomicU64,
    pub(super) traffic: Arc<Counts>,
}

/// The frames of one client, as its thread counts them.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
}

/// A command, and where its answers go.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) command: Command,
    pub(super) answer: Option<Answer>,
}

/// Where answers go.
#[derive(Debug)]
pub(super) enum Answer {
    /// The other end of what a producer gives.
    Lane(u64, IntakeEnd),
    /// Events of a subscription.
    Reader(u64, mpsc::UnboundedSender<ReaderEvent>),
    /// The answer to a question.
    Reply(u64, oneshot::Sender<Result<Reply, ClientError>>),
    /// The answer to what was asked of a cursor.
    Cursor(u64, oneshot::Sender<Result<CursorReply, ClientError>>),
    /// Told once everything is sent and the thread is about to end.
    Closed(oneshot::Sender<()>),
}

impl Link {
    pub(super) fn new(orders: Sender<Order>, bell: Arc<Bell>) -> Self {
        Self {
            orders,
            bell,
            next: AtomicU64::new(0),
            traffic: Arc::default(),
        }
    }

    /// Tells the thread.
    pub(super) fn order(
        &self,
        command: Command,
        answer: Option<Answer>,
    ) -> Result<(), ClientError> {
        self.orders
            .send(Order { command, answer })
            .map_err(|_| ClientError::Closed)?;
        self.bell.ring();
        Ok(())
    }

    /// Numbers producers, subscriptions and questions; far from the numbers of publishes.
    pub(super) fn next(&self) -> u64 {
        (1 << 40) + self.next.fetch_add(1, Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A thread that has ended needs not be told.
        let _ = self.order(Command::Close, None);
    }
}
