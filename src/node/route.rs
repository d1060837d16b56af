//! Which node leads which partition, as far as this one knows, and what it asked of others.

use std::collections::BTreeMap;

use super::io::ClientId;
use crate::types::{NodeName, Partition};

/// Leaders and open requests.
#[derive(Debug, Default)]
pub(super) struct Routes {
    leaders: BTreeMap<Partition, NodeName>,
    next: u64,
    asked: BTreeMap<u64, (NodeName, Asked)>,
}

/// What an answer is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// A part of a publish.
    Publish(u64, usize),
    /// A partition's records for a subscription.
    Feed(ClientId, u64, Partition),
    /// The cursor of a subscription.
    Open(ClientId, u64, Partition),
    /// Acks of a subscription.
    Acks(ClientId, u64, Partition),
    /// How far a producer has come in a partition.
    Sequence(u64, Partition),
    /// A `seek` or `delete`.
    Move(u64, Partition),
}

impl Routes {
    /// Requests are numbered from `first`, which differs from life to life: an answer to an earlier
    /// life is then for nothing.
    pub(super) fn new(first: u64) -> Self {
        Self {
            next: first,
            ..Self::default()
        }
    }

    pub(super) fn leader(&self, partition: &Partition) -> Option<&NodeName> {
        self.leaders.get(partition)
    }

    /// Takes what is known now; true if it is news.
    pub(super) fn set_leader(&mut self, partition: &Partition, leader: Option<NodeName>) -> bool {
        let before = self.leaders.get(partition);
        if before == leader.as_ref() {
            return false;
        }
        match leader {
            Some(leader) => self.leaders.insert(partition.clone(), leader),
            None => self.leaders.remove(partition),
        };
        true
    }

    /// Numbers a request to `node`.
    pub(super) fn ask(&mut self, node: &NodeName, asked: Asked) -> u64 {
        let request = self.number();
        self.asked.insert(request, (node.clone(), asked));
        request
    }

    /// A number for a request whose answer nobody waits for.
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// What this node's answer is for. A late or repeated one, or one of another node, is for
    /// nothing.
    pub(super) fn answered(&mut self, node: &NodeName, request: u64) -> Option<Asked> {
        if self
            .asked
            .get(&request)
            .is_none_or(|(asked, _)| asked != node)
        {
            return None;
        }
        self.asked.remove(&request).map(|(_, asked)| asked)
    }

    /// No answer to this request is wanted any more.
    pub(super) fn forget(&mut self, request: u64) {
        self.asked.remove(&request);
    }
}
