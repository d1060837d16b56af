//! Who the other nodes are, as they state it themselves: lives, epochs, clocks, what they hold and
//! what they lead.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::limits::{PEER_DOWN, STRANGERS_MAX, STRAYS_MAX, STRAYS_WITHIN};
use crate::types::{Incarnation, NodeName, Now, Partition, Time, Wall};
use crate::wire::peer::{Envelope, State};

/// Every other node of the topology, and what was heard from nodes outside it.
#[derive(Debug)]
pub(super) struct Peers {
    peers: BTreeMap<NodeName, Peer>,
    /// Serving leaders as announced, with their terms.
    leads: BTreeMap<Partition, (NodeName, u64)>,
    /// Why frames of others were refused, and when last, by what they call themselves.
    refused: BTreeMap<String, (String, Time)>,
    /// Frames of something that is no node: since when they are counted, and how many.
    strays: Option<(Time, u64)>,
}

/// One other node.
#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) incarnation: Option<Incarnation>,
    pub(super) epoch: Option<u64>,
    pub(super) heard: Option<Time>,
    /// What its calendar clock said, and when.
    told: Option<(Wall, Time)>,
    pub(super) stopping: bool,
    /// Whether its disk does not finish a commit.
    pub(super) stalled: bool,
    /// The partitions it is declared to hold, with the mark of the founding record it has.
    pub(super) holds: BTreeMap<Partition, Option<u32>>,
    /// Those of them in which it takes the place of a folder that is gone.
    pub(super) joins: BTreeSet<Partition>,
    former: Option<Incarnation>,
    /// When two lives were last heard in turn: two nodes run under one name.
    pub(super) doubled: Option<Time>,
}

impl Peers {
    pub(super) fn new(names: impl Iterator<Item = NodeName>) -> Self {
        Self {
            peers: names.map(|name| (name, Peer::default())).collect(),
            leads: BTreeMap::new(),
            refused: BTreeMap::new(),
            strays: None,
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&NodeName, &Peer)> {
        self.peers.iter()
    }

    pub(super) fn get(&self, name: &NodeName) -> Option<&Peer> {
        self.peers.get(name)
    }

    /// Whether the peer was heard lately.
    pub(super) fn is_up(&self, name: &NodeName, now: Time) -> bool {
        self.get(name).is_some_and(|peer| peer.is_up(now))
    }

    /// Why frames were refused, by what their senders call themselves, and when last.
    pub(super) fn refused(&self) -> impl Iterator<Item = (&String, &(String, Time))> {
        self.refused.iter()
    }

    /// Remembers a refused frame; true if its sender was not known for it.
    pub(super) fn handle_refused(&mut self, who: String, why: String, now: Time) -> bool {
        if self.refused.len() >= STRANGERS_MAX && !self.refused.contains_key(&who) {
            return false;
        }
        self.refused.insert(who, (why, now)).is_none()
    }

    /// Counts a frame of something that is no node; true if it is the first in a while.
    pub(super) fn handle_stray(&mut self, now: Time) -> bool {
        let (since, count) = self.lately_strayed(now).unwrap_or((now, 0));
        self.strays = Some((since, count + 1));
        count == 0
    }

    /// How many such frames came of late, where they are a flood.
    pub(super) fn flood(&self, now: Time) -> Option<u64> {
        let (_, count) = self.lately_strayed(now)?;
        (count > STRAYS_MAX).then_some(count)
    }

    fn lately_strayed(&self, now: Time) -> Option<(Time, u64)> {
        let lately = |(since, _): &(Time, u64)| now.since(*since) < STRAYS_WITHIN;
        self.strays.filter(lately)
    }

    /// Notes a frame of a node of this fabric.
    pub(super) fn handle_envelope(&mut self, envelope: &Envelope, now: Time) {
        let Some(peer) = self.peers.get_mut(&envelope.node) else {
            return;
        };
        if peer.incarnation != Some(envelope.incarnation) {
            if peer.former == Some(envelope.incarnation) {
                peer.doubled = Some(now);
            }
            peer.former = peer.incarnation.replace(envelope.incarnation);
            peer.holds.clear();
            peer.joins.clear();
        }
        peer.epoch = Some(envelope.epoch);
        peer.heard = Some(now);
    }

    /// Takes what a node states of itself; true if a leader changed.
    pub(super) fn handle_state(&mut self, from: &NodeName, state: State, now: Now) -> bool {
        let before = self.leads.clone();
        if let Some(peer) = self.peers.get_mut(from) {
            peer.told = Some((state.wall, now.mono));
            peer.stopping = state.stopping;
            peer.stalled = state.stalled;
            let joins = state.holds.iter().filter(|holds| holds.joins);
            let of =
                |holds: &crate::wire::peer::Holds| Partition::new(&holds.channel, holds.partition);
            peer.joins = joins.map(of).collect();
            let held = |holds: crate::wire::peer::Holds| {
                (
                    Partition::new(&holds.channel, holds.partition),
                    holds.founding,
                )
            };
            peer.holds = state.holds.into_iter().map(held).collect();
        }
        self.leads.retain(|_, (node, _)| node != from);
        for leads in state.leads {
            let partition = Partition::new(&leads.channel, leads.partition);
            let newer = before
                .get(&partition)
                .is_none_or(|(_, term)| *term <= leads.term);
            if newer {
                self.leads.insert(partition, (from.clone(), leads.term));
            } else if let Some(known) = before.get(&partition).filter(|(node, _)| node != from) {
                self.leads.insert(partition, known.clone());
            }
        }
        before != self.leads
    }

    /// The announced leader of a partition, if it is up, and its term.
    pub(super) fn leader(&self, partition: &Partition, now: Time) -> Option<(&NodeName, u64)> {
        let (node, term) = self.leads.get(partition)?;
        self.is_up(node, now).then_some((node, *term))
    }
}

impl Peer {
    /// Whether it may be handed something to lead.
    pub(super) fn may_lead(&self, now: Time) -> bool {
        self.is_up(now) && !self.stopping && !self.stalled
    }

    /// What its calendar clock says by now.
    pub(super) fn wall(&self, now: Time) -> Option<Wall> {
        let (wall, told) = self.told?;
        Some(Wall(wall.0.saturating_add(now.since(told).as_millis())))
    }

    /// Its calendar clock minus ours, in milliseconds.
    pub(super) fn clock_offset_ms(&self, now: Now) -> Option<i64> {
        let wall = self.wall(now.mono)?;
        // Beyond 64 bits no difference is worth telling apart.
        i64::try_from(i128::from(wall.0) - i128::from(now.wall.0)).ok()
    }

    pub(super) fn is_up(&self, now: Time) -> bool {
        self.heard.is_some_and(|heard| now.since(heard) < PEER_DOWN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Span;
    use crate::wire::peer::Leads;

    fn state(term: Option<u64>) -> State {
        let channel = "orders".into();
        State {
            wall: Wall(5_000),
            leads: term
                .map(|term| Leads {
                    synced: 0,
                    channel,
                    partition: 0,
                    term,
                })
                .into_iter()
                .collect(),
            ..State::default()
        }
    }

    fn envelope(node: &str, incarnation: u64) -> Envelope {
        Envelope {
            version: 1,
            fabric: "f".to_owned(),
            node: node.into(),
            incarnation: Incarnation(incarnation),
            epoch: 1,
        }
    }

    #[test]
    fn the_leader_of_the_higher_term_counts_while_it_is_heard() {
        let (b, c): (NodeName, NodeName) = ("b".into(), "c".into());
        let mut peers = Peers::new([b.clone(), c.clone()].into_iter());
        let now = Now {
            mono: Time(0),
            wall: Wall(4_000),
        };
        let partition = Partition::new(&"orders".into(), 0);
        peers.handle_envelope(&envelope("b", 1), now.mono);
        peers.handle_envelope(&envelope("c", 1), now.mono);
        assert!(peers.handle_state(&b, state(Some(3)), now));
        assert!(
            !peers.handle_state(&c, state(Some(2)), now),
            "an old leader does not know yet"
        );
        assert_eq!(peers.leader(&partition, now.mono), Some((&b, 3)));
        assert!(peers.handle_state(&c, state(Some(4)), now));
        assert_eq!(peers.leader(&partition, now.mono), Some((&c, 4)));
        assert_eq!(peers.leader(&partition, now.mono + PEER_DOWN), None);
        let offset = |now: Now| peers.get(&b)?.clock_offset_ms(now);
        assert_eq!(offset(now), Some(1_000));
        // What this node's calendar does meanwhile is not the peer's.
        let later = Now {
            mono: now.mono + Span::from_millis(200),
            wall: Wall(9_200),
        };
        assert_eq!(offset(later), Some(-4_000));
    }

    #[test]
    fn two_nodes_under_one_name_are_noticed_and_a_restart_is_not() {
        let b: NodeName = "b".into();
        let mut peers = Peers::new([b.clone()].into_iter());
        for (incarnation, doubled) in [(1, false), (2, false), (1, true)] {
            peers.handle_envelope(&envelope("b", incarnation), Time(9));
            assert_eq!(
                peers.get(&b).is_some_and(|peer| peer.doubled.is_some()),
                doubled
            );
        }
    }
}
