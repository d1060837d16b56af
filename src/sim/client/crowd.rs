//! Several consumers behind one connection: the session's window is less than all of theirs.

use bytes::Bytes;

use super::consumer::Consumer;
use super::{Client, Desk, Scene};
use crate::sim::heap::ClientNo;
use crate::sim::oracle::{Oracles, Verdict};
use crate::types::Span;
use crate::wire::client::Reply;

/// A session with several subscriptions at once.
#[derive(Debug)]
pub(super) struct Crowd {
    consumers: Vec<Consumer>,
}

impl Crowd {
    /// `count` consumers.
    pub(super) fn new(count: u64) -> Self {
        let consumers = (0..count).map(|first| Consumer::new(first, count));
        Self {
            consumers: consumers.collect(),
        }
    }

    /// The consumer whose subscription this number is.
    fn of(&mut self, id: u64) -> Option<&mut Consumer> {
        let count = self.consumers.len() as u64;
        let position = usize::try_from(id % count).ok()?;
        self.consumers.get_mut(position)
    }
}

impl Client for Crowd {
    fn wake(&mut self, desk: &mut Desk<'_>) -> Verdict<Span> {
        let mut next = Span::from_secs(1);
        for consumer in &mut self.consumers {
            let wants = desk.acts.len();
            next = next.min(consumer.wake(desk)?);
            if desk.acts[wants..].iter().any(super::Act::connects) {
                // The connection is everybody's: the others come back with it.
                break;
            }
        }
        Ok(next)
    }

    fn connected(&mut self, desk: &mut Desk<'_>) {
        for consumer in &mut self.consumers {
            consumer.connected(desk);
        }
    }

    fn lost(&mut self, desk: &mut Desk<'_>) {
        for consumer in &mut self.consumers {
            consumer.lost(desk);
        }
    }

    fn reply(&mut self, desk: &mut Desk<'_>, reply: Reply, records: Bytes) -> Verdict {
        let id = match &reply {
            Reply::Deliver(deliver) => Some(deliver.id),
            Reply::End(end) => Some(end.id),
            Reply::Refuse(refuse) => refuse.id,
            _ => None,
        };
        match id.and_then(|id| self.of(id)) {
            Some(consumer) => consumer.reply(desk, reply, records),
            None => Ok(()),
        }
    }

    fn lacks(&self, me: ClientNo, scene: &Scene, oracles: &Oracles) -> Option<String> {
        let mut consumers = self.consumers.iter();
        consumers.find_map(|consumer| consumer.lacks(me, scene, oracles))
    }
}
