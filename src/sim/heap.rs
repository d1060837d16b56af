//! What is going to happen, in the order of simulated time; what falls on one instant happens in
//! the order in which it was planned, so that a run is a function of its seed alone.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::machine::MachineId;
use crate::node::Lane;
use crate::types::{LoadRequest, LogEntry, Partition, Span, Time};

/// A client of the workload, by position.
pub(super) type ClientNo = usize;

/// A connection of a client to a machine; every reconnect is a new one.
pub(super) type ConnectionId = u64;

/// Something that is going to happen.
#[derive(Debug)]
pub(super) enum Event {
    /// A machine's heartbeat.
    Tick { machine: MachineId, life: u64 },
    /// A frame between nodes arrives.
    Peer {
        to: MachineId,
        lane: Lane,
        frame: Bytes,
    },
    /// A frame of a client arrives at its node.
    Request {
        connection: ConnectionId,
        frame: Bytes,
    },
    /// A message of a node arrives at its client.
    Reply {
        connection: ConnectionId,
        frames: Vec<Bytes>,
    },
    /// A node is told that a client's connection is gone.
    Gone { connection: ConnectionId },
    /// A node is told that a droppable frame found the pipe of its client full.
    Dropped {
        connection: ConnectionId,
        what: crate::node::Droppable,
    },
    /// A client notices that its connection is gone.
    Lost { connection: ConnectionId },
    /// A client's own timer.
    Wake { client: ClientNo },
    /// A machine's journal writes what `Persist` asked for.
    Write { machine: MachineId, life: u64 },
    /// A machine's journal syncs what it wrote.
    Sync { machine: MachineId, life: u64 },
    /// A machine whose journal failed is stopped.
    GivenUp { machine: MachineId, life: u64 },
    /// A machine's journal reads.
    Load {
        machine: MachineId,
        life: u64,
        request: LoadRequest,
    },
    /// A machine reads a part of its journal for damage.
    Scrub { machine: MachineId, life: u64 },
    /// A machine writes a damaged segment anew.
    Mend {
        machine: MachineId,
        life: u64,
        mend: Mend,
    },
    /// A topic that `from`'s SUB socket wants, or no longer, reaches `to`'s XPUB socket.
    Topic {
        from: MachineId,
        life: u64,
        to: MachineId,
        topic: Bytes,
        wanted: bool,
    },
    /// `from`'s SUB socket connected to `to`'s XPUB socket anew, or was seen to be gone: all its
    /// topics are asked for again.
    Topics { from: MachineId, to: MachineId },
    /// A signal arrives.
    Signal {
        from: (MachineId, u64),
        to: (MachineId, u64),
        topic: Bytes,
        frame: Bytes,
        /// What was lost on this way before it was sent.
        lost: u64,
    },
    /// A machine that froze goes on.
    Thaw { machine: MachineId, life: u64 },
    /// A machine that is down starts.
    Start { machine: MachineId, life: u64 },
    /// The next thing goes wrong.
    Fault,
    /// Something that went wrong ends, by its number.
    FaultEnds { number: u64 },
    /// A look at what the nodes say of themselves.
    Audit,
}

/// A damaged segment, and what other machines gave for what it lost.
#[derive(Debug)]
pub(super) struct Mend {
    pub(super) segment: u64,
    pub(super) entries: Vec<(Partition, LogEntry)>,
}

/// The future.
#[derive(Debug, Default)]
pub(super) struct Heap {
    events: BTreeMap<(Time, u64), Event>,
    planned: u64,
    now: Time,
}

impl Heap {
    /// The simulated instant.
    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// Plans `event` for `delay` from now.
    pub(super) fn after(&mut self, delay: Span, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Plans `event` for `time`, or for now if that is past.
    pub(super) fn at(&mut self, time: Time, event: Event) {
        self.planned += 1;
        self.events
            .insert((time.max(self.now), self.planned), event);
    }

    /// Moves on to the next event.
    pub(super) fn next(&mut self) -> Option<Event> {
        let ((time, _), event) = self.events.pop_first()?;
        self.now = time;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_then_in_the_order_planned() {
        let mut heap = Heap::default();
        heap.after(Span(20), Event::Wake { client: 2 });
        heap.after(Span(10), Event::Wake { client: 0 });
        heap.after(Span(10), Event::Wake { client: 1 });
        let mut order = Vec::new();
        while let Some(Event::Wake { client }) = heap.next() {
            order.push((heap.now().0, client));
        }
        assert_eq!(order, [(10, 0), (10, 1), (20, 2)]);
    }
}
