//! What time and a channel's bounds ask of a partition: its leader decides, and says so in the log.

use std::collections::VecDeque;

use super::Node;
use super::member::Slot;
use crate::channel::Bounds;
use crate::topology::Keep;
use crate::types::{Span, Time, Wall};

/// How finely idleness is told: a producer is forgotten after its time and up to one part in this
/// many more.
const IDLE_PARTS: u64 = 16;

/// How many numbered batches a leader had seen at which times. By its own steady clock: a calendar
/// that jumps must forget nobody. A new leader begins anew, so it forgets later, never earlier.
#[derive(Debug, Default)]
pub(super) struct Idle {
    seen: VecDeque<(Time, u64)>,
}

impl Idle {
    /// `heard` batches were seen by `now`; how many had been seen `idle` ago. Whoever was not heard
    /// since then has been silent for so long.
    pub(super) fn heard_before(&mut self, heard: u64, idle: Span, now: Time) -> u64 {
        let part = Span(idle.0 / IDLE_PARTS);
        if self
            .seen
            .back()
            .is_none_or(|(at, _)| now.since(*at) >= part)
        {
            self.seen.push_back((now, heard));
        }
        let old = |(at, _): &&(Time, u64)| now.since(*at) >= idle;
        let old = self.seen.iter().take_while(old).count();
        self.seen.drain(..old.saturating_sub(1));
        let oldest = self.seen.front().filter(|_| old > 0);
        oldest.map_or(0, |(_, heard)| *heard)
    }
}

impl Node {
    /// Proposes what is due in the partitions that this node leads.
    pub(super) fn propose_commands(&mut self) {
        if self.journal.failure().is_some() || self.stopping {
            return;
        }
        let idle = self.topology.limits.producer_idle;
        let calendar = self.calendar();
        for (partition, slot) in &mut self.slots {
            let channel = self.topology.channels.get(&partition.channel);
            let (Slot::Member(member), Some(channel)) = (slot, channel) else {
                continue;
            };
            if member.propose_command(&bounds(&channel.keep), idle, self.now, calendar) {
                self.dirty.insert(partition.clone());
            }
        }
    }

    /// The time that ages are told by: this node's, or that of most nodes it hears of, whichever is
    /// earlier. So one calendar that was set forward lets go of nothing.
    fn calendar(&self) -> Wall {
        let now = self.now.mono;
        let own = self.now.wall;
        let up = self.peers.iter().filter(|(_, peer)| peer.is_up(now));
        let mut walls: Vec<Wall> = up.filter_map(|(_, peer)| peer.wall(now)).collect();
        walls.push(own);
        walls.sort_unstable();
        walls[(walls.len() - 1) / 2].min(own)
    }
}

fn bounds(keep: &Keep) -> Bounds {
    Bounds {
        age: keep.age,
        bytes: keep.size,
        count: keep.count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_idle_before_its_time() {
        let mut idle = Idle::default();
        let hour = Span::from_secs(3_600);
        let mut at = |minute: u64, heard| {
            let now = Time(0) + Span::from_secs(60 * minute);
            idle.heard_before(heard, hour, now)
        };
        for minute in 0..60 {
            assert_eq!(at(minute, 10 + minute), 0);
        }
        assert_eq!(at(60, 99), 10);
        // Within a sixteenth of the hour.
        let heard = at(90, 99);
        assert!((36..=40).contains(&heard), "{heard}");
        assert_eq!(at(1_000, 99), 99);
    }
}
