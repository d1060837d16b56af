//! What the node tells about itself, and which of it is not healthy.

use super::io::ClientId;
use super::member::Slot;
use super::replacing::stranger_problem;
use super::{
    ChannelView, DiskView, Node, NodeView, PartitionView, PeerView, ReplicaView, SessionsView,
    TrimmedView,
};
use crate::channel::Trimmed;
use crate::topology::{Channel, Topology};
use crate::types::limits::{CLOCK_SKEW_MAX, PEER_DOWN, STRAYS_WITHIN};
use crate::types::{ChannelName, Members, Partition, ReplicaId, Span};
use crate::wire::client::{Inspect, Reply, View};

impl Node {
    /// A client asks what this node knows.
    pub(super) fn handle_inspect(&mut self, client: &ClientId, inspect: &Inspect) {
        let view = self.view();
        // A view is integers, strings and lists of them: it always encodes.
        let body = rmp_serde::to_vec_named(&view).expect("a view always encodes");
        let id = inspect.id;
        self.reply(client, &Reply::View(View { id, body }), &[]);
    }

    /// This node's view of itself and its peers, now.
    pub fn view(&self) -> NodeView {
        let channels = self.topology.channels.keys().map(|name| {
            let account = self.ledger.get(name).cloned();
            (
                name.to_string(),
                account.unwrap_or_else(ChannelView::default),
            )
        });
        NodeView {
            fabric: self.topology.fabric.name.clone(),
            node: self.name.to_string(),
            incarnation: self.incarnation.to_string(),
            epoch: self.topology.fabric.epoch,
            uptime_ms: self.now.mono.since(self.started).as_millis(),
            stopping: self.stopping,
            peers: self.peer_views(),
            partitions: self
                .slots
                .iter()
                .map(|(p, slot)| self.partition_view(p, slot))
                .collect(),
            channels: channels.collect(),
            sessions: self.sessions_view(),
            disk: DiskView {
                free_bytes: self.gauges.disk_free,
                journal_bytes: self.gauges.journal_bytes,
                syncs: self.gauges.syncs,
                sync_us: self.gauges.sync_us,
                damaged_segments: self.damaged_segments(),
                mended_segments: self.repairs.mended,
                failed: self.journal.failure().map(str::to_owned),
            },
            mailbox: self.gauges.mailbox,
            restarts: self.gauges.restarts,
            problems: self.problems(),
        }
    }

    fn peer_views(&self) -> Vec<PeerView> {
        let now = self.now.mono;
        self.peers
            .iter()
            .map(|(name, peer)| PeerView {
                node: name.to_string(),
                up: peer.is_up(now),
                heard_ms: peer.heard.map(|heard| now.since(heard).as_millis()),
                epoch: peer.epoch,
                incarnation: peer.incarnation.map(|incarnation| incarnation.to_string()),
                clock_offset_ms: peer.clock_offset_ms(self.now),
            })
            .collect()
    }

    fn partition_view(&self, partition: &Partition, slot: &Slot) -> PartitionView {
        let preferred = self
            .placement
            .get(partition)
            .and_then(|nodes| nodes.first());
        let mut view = PartitionView {
            channel: partition.channel.to_string(),
            partition: partition.number,
            leader: self.routes.leader(partition).map(ToString::to_string),
            preferred: preferred.map(ToString::to_string).unwrap_or_default(),
            ..PartitionView::default()
        };
        match slot {
            Slot::Unfounded(_) => view.role = "unfounded".to_owned(),
            Slot::Stranger(founding) => {
                view.role = "stranger".to_owned();
                view.replicas = replicas(&Members::founded(&founding.voters), |_| None);
            }
            Slot::Member(member) => {
                let replica = &member.replica;
                view.role = match replica.role() {
                    "follower" if !replica.is_voter() => "learner".to_owned(),
                    role => role.to_owned(),
                };
                view.term = replica.term();
                view.last = replica.last_index();
                view.commit = replica.commit();
                view.first_offset = member.stream.first_offset();
                view.next_offset = member.stream.next_offset();
                view.retained_bytes = member.stream.retained_bytes();
                let Trimmed { age, size, count } = member.stream.trimmed();
                view.trimmed = TrimmedView { age, size, count };
                view.producers = member.stream.producers();
                let cursors = member.stream.cursors();
                view.cursors = cursors.map(super::lead_cursors::view).collect();
                let matched = |raft_id| Some((replica.progress(raft_id)?.0, replica.last_index()));
                let members = replica.members();
                view.replacing =
                    members.is_joint() || !members.learners.is_empty() || !replica.is_voter();
                view.replicas = replicas(members, matched);
            }
        }
        view
    }

    fn sessions_view(&self) -> SessionsView {
        let subscriptions = || {
            self.sessions
                .values()
                .flat_map(|s| s.subscriptions.values())
        };
        let waiting = subscriptions().filter(|s| s.window.left() == 0);
        SessionsView {
            sessions: self.sessions.len() as u64,
            subscriptions: subscriptions().count() as u64,
            waiting_for_credit: waiting.count() as u64,
            credit_used_bytes: subscriptions().map(|s| s.window.used()).sum(),
            inflight_bytes: self.publishes.bytes,
            inflight_bytes_max: self.topology.limits.node_inflight_bytes,
            bad_frames: self.bad_frames,
        }
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(error) = self.journal.failure() {
            problems.push(format!(
                "the journal failed: {error}; restart the node once it is mended"
            ));
        }
        if let Some(span) = self.journal.stalled(self.now.mono) {
            problems.push(format!(
                "the disk has not finished a commit for {span}; this node leads nothing meanwhile"
            ));
        }
        problems.extend(self.damage_problems());
        let (free, mark) = (self.gauges.disk_free, self.topology.limits.disk_free_min);
        if self.measured && free < mark {
            problems.push(format!(
                "{free} bytes of disk are free, fewer than disk_free_min ({mark})"
            ));
        }
        self.peer_problems(&mut problems);
        let mut of_partitions = Vec::new();
        for (partition, slot) in &self.slots {
            let mut own = Vec::new();
            self.partition_problems(partition, slot, &mut own);
            let named = |problem: String| (partition.to_string(), problem);
            of_partitions.extend(own.into_iter().map(named));
        }
        problems.extend(gathered(of_partitions));
        problems
    }

    fn peer_problems(&self, problems: &mut Vec<String>) {
        let now = self.now.mono;
        for (name, peer) in self.peers.iter() {
            if !peer.is_up(now) {
                problems.push(match peer.heard {
                    Some(heard) => format!("{name} was last heard {} ago", now.since(heard)),
                    None => format!("{name} was never heard"),
                });
            }
            if peer.is_doubled(now) {
                problems.push(format!("two nodes run under the name {name}"));
            }
            let ahead = peer.clock_offset_ms(self.now).unwrap_or(0);
            let offset = ahead.unsigned_abs();
            if offset > CLOCK_SKEW_MAX.as_millis() {
                let sign = if ahead < 0 { "behind" } else { "ahead of" };
                problems.push(format!(
                    "the clock of {name} is {offset} ms {sign} this node's"
                ));
            }
        }
        if let Some(count) = self.peers.flood(now) {
            problems.push(format!(
                "something that is no node sent {count} frames to the endpoint for peers within \
                 {STRAYS_WITHIN}: a client that took the wrong port?"
            ));
        }
        let lately = |when: &crate::types::Time| now.since(*when) < Span(5 * PEER_DOWN.0);
        for (who, (why, when)) in self.peers.refused() {
            if lately(when) {
                problems.push(format!("peer frames of {who} are refused: {why}"));
            }
        }
    }

    fn partition_problems(&self, partition: &Partition, slot: &Slot, problems: &mut Vec<String>) {
        match slot {
            Slot::Unfounded(_) => {
                let nodes = self.placement.get(partition).into_iter().flatten();
                let missing: Vec<String> = nodes
                    .filter(|node| **node != self.name && !self.peers.is_up(node, self.now.mono))
                    .map(ToString::to_string)
                    .collect();
                problems.push(match missing.is_empty() {
                    true => format!("{partition}: not founded yet"),
                    false => format!(
                        "{partition}: not founded yet, it waits for {}",
                        missing.join(", ")
                    ),
                });
            }
            Slot::Stranger(_) => problems.push(stranger_problem(partition, &self.me())),
            Slot::Member(member) => {
                if let Some(reason) = member.replica.failure() {
                    problems.push(format!("{partition} stopped taking part here: {reason}"));
                }
                let doubt = self.peers.iter().find(|(_, peer)| {
                    let held = peer.holds.get(partition).copied().flatten();
                    peer.is_up(self.now.mono)
                        && held.is_some_and(|mark| mark != member.founding.mark())
                });
                if let Some((name, _)) = doubt {
                    problems.push(format!("{name} has another founding record of {partition}"));
                }
                problems.extend(self.replacement_problems(partition, member));
                if self.routes.leader(partition).is_none() {
                    problems.push(format!("{partition}: no leader"));
                }
            }
        }
    }
}

/// What is wrong with several partitions is said once, with all their names before it.
fn gathered(problems: Vec<(String, String)>) -> Vec<String> {
    let mut gathered: Vec<(String, Option<String>)> = Vec::new();
    for (partition, problem) in problems {
        let Some(what) = problem.strip_prefix(&format!("{partition}: ")) else {
            gathered.push((problem, None));
            continue;
        };
        let same = |(_, known): &&mut (String, Option<String>)| known.as_deref() == Some(what);
        match gathered.iter_mut().find(same) {
            Some((partitions, _)) => *partitions += &format!(", {partition}"),
            None => gathered.push((partition, Some(what.to_owned()))),
        }
    }
    let told = |(before, what): (String, Option<String>)| match what {
        Some(what) => format!("{before}: {what}"),
        None => before,
    };
    gathered.into_iter().map(told).collect()
}

/// Which partitions these channels have, for a person.
pub(super) fn declared_partitions(channels: &[(&ChannelName, &Channel)]) -> String {
    let told = |(name, channel): &(&ChannelName, &Channel)| match (
        channel.is_stored(),
        channel.partitions,
    ) {
        (false, _) => format!("{name} is a signal channel and has none"),
        (true, 1) => format!("{name} has only 0"),
        (true, count) => format!("{name} has 0 to {}", count - 1),
    };
    channels.iter().map(told).collect::<Vec<_>>().join("; ")
}

/// The declared channels with their subjects, for a person.
pub(super) fn declared_subjects(topology: &Topology) -> String {
    let channels = topology.channels.iter().map(|(name, channel)| {
        let patterns: Vec<&str> = channel.subjects.iter().map(|p| p.as_str()).collect();
        format!("{name} ({})", patterns.join(", "))
    });
    channels.collect::<Vec<_>>().join("; ")
}

fn replicas(members: &Members, matched: impl Fn(u64) -> Option<(u64, u64)>) -> Vec<ReplicaView> {
    let replica = |replica: &ReplicaId, learner| {
        let known = matched(replica.raft_id());
        ReplicaView {
            node: replica.node.to_string(),
            matched: known.map(|(matched, _)| matched),
            lag: known.map(|(matched, last)| last.saturating_sub(matched)),
            learner,
        }
    };
    let voters = members.voters.iter().map(|voter| replica(voter, false));
    let learners = members.learners.iter();
    voters
        .chain(learners.map(|learner| replica(learner, true)))
        .collect()
}
