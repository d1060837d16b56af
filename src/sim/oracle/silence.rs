//! A client never gets silence: what asks for an answer gets one while its node lives and its
//! connection stands.

use std::collections::BTreeMap;

use super::{Verdict, broken};
use crate::sim::heap::ConnectionId;
use crate::types::{Span, Time};

/// How long an answer may take: the node's own time-out (5 s), a clock that is 10 % slow, a node
/// that froze, and the way there and back.
const PATIENCE: Span = Span::from_secs(14);

/// What still waits for an answer.
#[derive(Debug, Default)]
pub(in crate::sim) struct Silence {
    waiting: BTreeMap<(ConnectionId, Question), Time>,
}

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::sim) enum Question {
    /// A publish with a confirm, by its id on the wire.
    Publish(u64),
    /// A subscription, by its id on the wire.
    Subscribe(u64),
    /// An `inspect`, by its id on the wire.
    Inspect(u64),
    /// An `audit`, by its id on the wire.
    Audit(u64),
    /// A `hello` of a producer; one at a time.
    Hello,
    /// An ack, a `seek` or a `delete`, by its number on the wire.
    Ack(u64),
}

impl Silence {
    /// The question was sent.
    pub(in crate::sim) fn asked(&mut self, time: Time, connection: ConnectionId, what: Question) {
        self.waiting.entry((connection, what)).or_insert(time);
    }

    /// It was answered.
    pub(in crate::sim) fn answered(&mut self, connection: ConnectionId, what: Question) {
        self.waiting.remove(&(connection, what));
    }

    /// The connection is no more: nobody owes an answer.
    pub(in crate::sim) fn ended(&mut self, connection: ConnectionId) {
        self.waiting
            .retain(|(asked_on, _), _| *asked_on != connection);
    }

    /// Nobody has waited too long.
    pub(in crate::sim) fn check(&self, now: Time) -> Verdict {
        for ((connection, what), asked) in &self.waiting {
            let waited = now.since(*asked);
            if waited > PATIENCE {
                return broken(
                    "a client never gets silence",
                    None,
                    format!(
                        "{what:?} on connection {connection} waits for an answer since {waited}"
                    ),
                );
            }
        }
        Ok(())
    }
}
