//! A data folder that takes the place of one that is gone, as its operator asked. It is sent each
//! partition as a learner, votes only once it has caught up and the members have changed for it by
//! joint consensus, and never speaks for the folder of before.

use super::Node;
use super::member::{Member, Slot};
use super::peers::{Peer, Peers};
use crate::replica::NotLeader;
use crate::types::limits::PEER_DOWN;
use crate::types::{
    Command, Members, MembersChange, NodeName, Partition, ReplicaId, Span, Time, Wall,
};
use crate::wire::entry::CommandHead;

impl Node {
    /// Takes the next step of every replacement in what this node leads.
    pub(super) fn tend_members(&mut self) {
        let (now, wall) = (self.now.mono, self.now.wall);
        let mut steps = Vec::new();
        for (partition, slot) in &mut self.slots {
            let Slot::Member(member) = slot else { continue };
            if let Some(change) = member.next_step(&self.peers, now)
                && member.propose_members(&change, wall).is_ok()
            {
                steps.push((partition.clone(), change));
            }
            let serving = member.replica.is_serving();
            member.beat_commit = serving.then(|| member.replica.commit());
        }
        for (partition, change) in steps {
            self.dirty.insert(partition.clone());
            let what = match change {
                MembersChange::Learn { learner } => format!("{learner} is filled, as a learner"),
                MembersChange::Forget { learner } => format!("{learner} is filled no more"),
                MembersChange::Replace { voter, learner } => {
                    format!("{learner} has caught up and takes the place of {voter}")
                }
                MembersChange::Settle => "its former voters are needed no more".to_owned(),
            };
            self.info(format!("{partition}: {what}"));
        }
    }

    /// Whether this node's peer may speak as the replica of this number: it is a member, or a
    /// member by a part of the log that is not here yet.
    pub(super) fn speaks_as(&self, from: &NodeName, raft_id: u64, member: &Member) -> bool {
        if let Some(known) = member.replica.members().find(raft_id) {
            return known.node == *from;
        }
        let Some(peer) = self.peers.get(from) else {
            return false;
        };
        let founding = Some(member.founding.mark());
        let same = peer.holds.get(&member.founding.partition) == Some(&founding);
        same && peer.replica(from).is_some_and(|id| id.raft_id() == raft_id)
    }
}

impl Member {
    /// What has to change about the members, if anything can now.
    fn next_step(&self, peers: &Peers, now: Time) -> Option<MembersChange> {
        if !self.replica.may_change_members() {
            return None;
        }
        let members = self.replica.members();
        if members.is_joint() {
            return Some(MembersChange::Settle);
        }
        let mut steps = members.voters.iter().filter_map(|voter| {
            let peer = peers.get(&voter.node)?;
            let here = peer.replica(&voter.node).filter(|_| peer.is_up(now))?;
            // Two nodes under one name: nobody can tell which of them is meant.
            if peer.is_doubled(now) {
                return None;
            }
            let joins = here != *voter && peer.joins.contains(&self.founding.partition);
            match members.learner_of(&voter.node).cloned() {
                Some(learner) if learner != here => {
                    (joins || here == *voter).then_some(MembersChange::Forget { learner })
                }
                Some(learner) => {
                    let voter = voter.clone();
                    let ready = joins && self.has_caught_up(&learner);
                    ready.then_some(MembersChange::Replace { voter, learner })
                }
                None => joins.then_some(MembersChange::Learn { learner: here }),
            }
        });
        steps.next()
    }

    /// Whether a replica has synced all that was committed a beat ago.
    fn has_caught_up(&self, replica: &ReplicaId) -> bool {
        let Some((matched, active)) = self.replica.progress(replica.raft_id()) else {
            return false;
        };
        active && self.beat_commit.is_some_and(|commit| matched >= commit)
    }

    fn propose_members(&mut self, change: &MembersChange, wall: Wall) -> Result<(), NotLeader> {
        self.stamp_time(wall);
        let (time, change) = (self.last_stamp, change.clone());
        let does = Command::Members {
            change: change.clone(),
        };
        let data = CommandHead { time, does }.encode();
        self.replica.propose_members(&change, &data).map(drop)
    }
}

impl Peer {
    /// The replica that it is, in its present life.
    pub(super) fn replica(&self, node: &NodeName) -> Option<ReplicaId> {
        let incarnation = self.incarnation?;
        Some(ReplicaId {
            node: node.clone(),
            incarnation,
        })
    }

    /// Whether two nodes ran under its name lately.
    pub(super) fn is_doubled(&self, now: Time) -> bool {
        let lately = |when: Time| now.since(when) < Span(5 * PEER_DOWN.0);
        self.doubled.is_some_and(lately)
    }
}

/// The node of the replica with this number, be it a member or one that a log does not name yet.
pub(super) fn node_of(members: &Members, peers: &Peers, raft_id: u64) -> Option<NodeName> {
    if let Some(member) = members.find(raft_id) {
        return Some(member.node.clone());
    }
    let is = |(name, peer): &(&NodeName, &Peer)| {
        let replica = peer.replica(name);
        replica.is_some_and(|replica| replica.raft_id() == raft_id)
    };
    peers.iter().find(is).map(|(name, _)| name.clone())
}

impl Node {
    /// What is not as it should be while a folder takes the place of another.
    pub(super) fn replacement_problems(
        &self,
        partition: &Partition,
        member: &Member,
    ) -> Vec<String> {
        let members = member.replica.members();
        let mut problems = Vec::new();
        if !member.replica.is_voter() {
            problems.push(format!(
                "{partition}: being filled in this data folder ({}), which has no vote until then",
                self.incarnation
            ));
        }
        if !member.replica.is_serving() {
            return problems;
        }
        if members.is_joint() {
            problems.push(format!(
                "{partition}: a new data folder has taken the place of another, whose vote is \
                 still needed for a moment"
            ));
        }
        for learner in &members.learners {
            let (id, last) = (learner.raft_id(), member.replica.last_index());
            let matched = member
                .replica
                .progress(id)
                .map_or(0, |(matched, _)| matched);
            problems.push(format!(
                "{partition}: {learner} is being filled and has {matched} of {last} entries"
            ));
        }
        for voter in &members.voters {
            let peer = self.peers.get(&voter.node);
            let here = peer.and_then(|peer| peer.replica(&voter.node));
            let Some(here) = here.filter(|here| here != voter) else {
                continue;
            };
            let holds = peer.is_some_and(|peer| {
                let founding = Some(member.founding.mark());
                peer.holds.get(partition) == Some(&founding) && !peer.joins.contains(partition)
            });
            if holds {
                problems.push(format!(
                    "{partition}: {here} has no vote, that is {voter}'s: start {0} with the \
                     latter's data folder, or, if that is lost for good, with an empty one and \
                     `weft node --replace` or `weft up --replace {0}`",
                    here.node
                ));
            }
        }
        problems
    }
}

/// What a node says of a partition that was founded with another of its folders.
pub(super) fn stranger_problem(partition: &Partition, me: &ReplicaId) -> String {
    format!(
        "{partition}: founded with another data folder of this node; this one ({}) has no vote \
         and holds nothing: give the old folder back, or, if that is lost for good, start this \
         node with `weft node --replace` or `weft up --replace {}`",
        me.incarnation, me.node
    )
}
