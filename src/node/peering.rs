//! What nodes say to each other: who sent a frame, the beat, and what each message is for.

use bytes::Bytes;

use super::Node;
use super::member::Slot;
use super::route::Asked;
use crate::types::limits::{HAND_OVER_REST, PREFERRED_AFTER};
use crate::types::{NodeName, Partition, RecordId};
use crate::wire::decode_peer;
use crate::wire::peer::{Envelope, Holds, Leads, PEER_VERSION, PeerMessage, RaftMessage, State};

impl Node {
    /// A frame of another node.
    pub(super) fn handle_peer_frame(&mut self, principal: Option<&str>, frame: &Bytes) {
        let (envelope, messages) = match decode_peer(frame) {
            Ok(decoded) => decoded,
            Err(error) => {
                self.bad_frames += 1;
                match principal {
                    Some(node) => self.refuse_peer(node.to_owned(), error.to_string()),
                    None => self.handle_stray(&error.to_string()),
                }
                return;
            }
        };
        if let Err(why) = self.check_envelope(principal, &envelope) {
            self.refuse_peer(envelope.node.to_string(), why);
            return;
        }
        self.peers.handle_envelope(&envelope, self.now.mono);
        for message in messages {
            self.handle_peer_message(&envelope.node, message);
        }
    }

    /// One message of a peer, or of this node to itself.
    pub(super) fn handle_peer_message(&mut self, from: &NodeName, message: PeerMessage) {
        match message {
            PeerMessage::State(state) => {
                self.note_replicated(&state.leads);
                if self.peers.handle_state(from, state, self.now) {
                    self.find_leaders();
                }
                self.found_partitions();
            }
            PeerMessage::Snapshot(piece) => self.handle_snapshot(from, piece),
            PeerMessage::Wanted(wanted) => self.handle_wanted(from, &wanted),
            PeerMessage::Found(found) => self.handle_found(from, found),
            PeerMessage::Raft(raft) => self.handle_raft(from, raft),
            PeerMessage::Forward(forward) => self.handle_forward(from, forward),
            PeerMessage::Outcome(outcome) => {
                if let Some(Asked::Publish(key, part)) = self.routes.answered(from, outcome.request)
                {
                    self.handle_part(key, part, outcome.result);
                }
            }
            PeerMessage::Fetch(fetch) => self.handle_reader(from, fetch),
            PeerMessage::Fetched(fetched) => {
                if let Some(Asked::Feed(client, id, partition)) =
                    self.routes.answered(from, fetched.request)
                {
                    self.handle_feed((client, id, partition), fetched);
                }
            }
            PeerMessage::Sequence(sequence) => self.handle_sequence(from, sequence),
            PeerMessage::Sequenced(told) => {
                if let Some(Asked::Sequence(key, partition)) =
                    self.routes.answered(from, told.request)
                {
                    self.handle_sequenced((key, &partition), told.result);
                }
            }
            PeerMessage::Recall(recall) => self.handle_recall(from, &recall),
            PeerMessage::Recalled(recalled) => self.handle_recalled(from, recalled),
            PeerMessage::Cursor(ask) => self.handle_cursor(from, ask),
            PeerMessage::Cursored(told) => {
                if let Some(asked) = self.routes.answered(from, told.request) {
                    self.handle_cursored(asked, told.result);
                }
            }
        }
    }

    /// Who this node is, for the head of every frame.
    pub(super) fn envelope(&self) -> Envelope {
        Envelope {
            version: PEER_VERSION,
            fabric: self.topology.fabric.name.clone(),
            node: self.name.clone(),
            incarnation: self.incarnation,
            epoch: self.topology.fabric.epoch,
        }
    }

    /// Tells every peer what this node holds and leads.
    pub(super) fn beat(&mut self) {
        let mut state = State {
            wall: self.now.wall,
            stopping: self.stopping,
            stalled: self.stalled,
            ..State::default()
        };
        for (partition, slot) in &self.slots {
            let (channel, number) = (partition.channel.clone(), partition.number);
            let founding = match slot {
                // One that is still being written is not held.
                Slot::Unfounded(_) => None,
                Slot::Stranger(founding) => Some(founding.mark()),
                Slot::Member(member) => Some(member.founding.mark()),
            };
            state.holds.push(Holds {
                channel: channel.clone(),
                partition: number,
                founding,
                joins: matches!(slot, Slot::Member(member) if !member.replica.is_voter()),
            });
            if let Slot::Member(member) = slot
                && member.replica.is_serving()
            {
                let term = member.replica.term();
                state.leads.push(Leads {
                    channel,
                    partition: number,
                    term,
                    synced: member.replicated,
                });
            }
        }
        let peers: Vec<NodeName> = self.peers.iter().map(|(name, _)| name.clone()).collect();
        for peer in peers {
            self.mail.post(&peer, PeerMessage::State(state.clone()));
        }
        self.state_due = false;
        self.last_beat = self.now.mono;
    }

    /// A replica of this node began or ceased to lead or to serve.
    pub(super) fn note_leader_change(&mut self, partition: &Partition) {
        if let Some(Slot::Member(member)) = self.slots.get(partition)
            && member.replica.is_serving()
        {
            let term = member.replica.term();
            let next = RecordId {
                partition: partition.clone(),
                offset: member.stream.next_offset(),
            };
            self.info(format!(
                "leads {partition} in term {term}, from record {next} on"
            ));
        }
        self.state_due = true;
        self.find_leaders();
    }

    /// Looks who leads each partition now, and lets everything that waited for it go on.
    pub(super) fn find_leaders(&mut self) {
        let partitions: Vec<Partition> = self.placement.keys().cloned().collect();
        let mut changed = false;
        for partition in partitions {
            let leader = self.leader_of(&partition);
            if self.routes.set_leader(&partition, leader) {
                changed = true;
                self.reroute_parts(&partition);
                self.reroute_feeds(&partition);
                self.reroute_cursors(&partition);
            }
        }
        if changed {
            self.send_parked();
            self.pump_all();
        }
    }

    /// Notices whether the disk finishes its commits; peers are told when that changes.
    pub(super) fn note_stall(&mut self) {
        let stalled = self.journal.stalled(self.now.mono);
        if stalled.is_some() == self.stalled {
            return;
        }
        self.stalled = stalled.is_some();
        self.state_due = true;
        match stalled {
            Some(span) => self.warn(format!(
                "the disk has not finished a commit for {span}: others lead meanwhile"
            )),
            None => self.info("the disk finishes its commits again".to_owned()),
        }
    }

    /// Hands leadership over: to the preferred leader when it is ready, to anybody when this node
    /// is about to stop or cannot commit.
    pub(super) fn hand_over(&mut self) {
        let now = self.now.mono;
        let urgent = self.stopping || self.stalled;
        for (partition, slot) in &mut self.slots {
            let Slot::Member(member) = slot else { continue };
            let Some((_, since)) = member.led else {
                continue;
            };
            let resting = now < member.hand_over_from && !urgent;
            if !member.replica.is_leader() || member.replica.is_transferring() || resting {
                continue;
            }
            let preferred = self
                .placement
                .get(partition)
                .and_then(|nodes| nodes.first());
            let settled = now.since(since) >= PREFERRED_AFTER;
            let last = member.replica.last_index();
            let ready = member.replica.voters().iter().filter_map(|voter| {
                let peer = self.peers.get(&voter.node)?;
                let (matched, active) = member.replica.progress(voter.raft_id())?;
                let wanted = urgent || (settled && preferred == Some(&voter.node));
                let able = active && peer.may_lead(now);
                // Nearly there is near enough: the hand-over sends what is missing.
                let near = last - matched.min(last) < 64;
                (voter.node != self.name && wanted && able && near)
                    .then(|| (matched, voter.raft_id()))
            });
            if let Some((_, raft_id)) = ready.max() {
                member.replica.transfer_to(raft_id);
                // Nothing is accepted meanwhile, so one that fails is not tried again soon.
                member.hand_over_from = now + HAND_OVER_REST;
                self.dirty.insert(partition.clone());
            }
        }
    }

    /// Probes only, to peers that are down.
    pub(super) fn report_unreachable(&mut self) {
        let now = self.now.mono;
        for slot in self.slots.values_mut() {
            let Slot::Member(member) = slot else { continue };
            if !member.replica.is_leader() {
                continue;
            }
            // One that runs in another folder by now is gone.
            let down = |replica: &&crate::types::ReplicaId| {
                let peer = self.peers.get(&replica.node);
                let same = peer.and_then(|peer| peer.incarnation) == Some(replica.incarnation);
                replica.node != self.name && !(same && self.peers.is_up(&replica.node, now))
            };
            let members = member.replica.members().all();
            let ids: Vec<u64> = members.filter(down).map(|down| down.raft_id()).collect();
            for raft_id in ids {
                member.replica.report_unreachable(raft_id);
            }
        }
    }

    /// A frame that no node sent: most likely its sender took the wrong port. It is logged, and no
    /// problem of the fabric unless it is one of very many.
    fn handle_stray(&mut self, error: &str) {
        if self.peers.handle_stray(self.now.mono) {
            self.warn(format!(
                "something that is no node connected to the endpoint for peers (a client that took \
                 the wrong port?): {error}"
            ));
        }
    }

    /// Remembers a frame that this node does not take; the first of each sender is logged.
    pub(super) fn refuse_peer(&mut self, who: String, why: String) {
        if self
            .peers
            .handle_refused(who.clone(), why.clone(), self.now.mono)
        {
            self.warn(format!("refuses peer frames of {who}: {why}"));
        }
    }

    fn leader_of(&self, partition: &Partition) -> Option<NodeName> {
        let announced = self.peers.leader(partition, self.now.mono);
        let Some(Slot::Member(member)) = self.slots.get(partition) else {
            return announced.map(|(node, _)| node.clone());
        };
        if member.replica.is_serving() {
            return Some(self.name.clone());
        }
        announced
            .filter(|(_, term)| *term >= member.replica.term())
            .map(|(node, _)| node.clone())
    }

    fn handle_raft(&mut self, from: &NodeName, message: RaftMessage) {
        let Some(channel) = message.channel.clone() else {
            return;
        };
        let partition = Partition::new(&channel, message.partition);
        let Some(Slot::Member(member)) = self.slots.get(&partition) else {
            return;
        };
        let to = member.replica.members().find(message.to);
        if to.is_some_and(|to| to.node == self.name && *to != member.me) {
            // For the folder that this one replaces.
            return;
        }
        let speaks = self.speaks_as(from, message.from, member);
        let Some(Slot::Member(member)) = self.slots.get_mut(&partition) else {
            return;
        };
        let why = match speaks {
            true => member.replica.handle_message(message).err(),
            false => Some("its sender is another member, or none".to_owned()),
        };
        self.dirty.insert(partition.clone());
        if let Some(why) = why {
            self.bad_frames += 1;
            self.refuse_peer(
                from.to_string(),
                format!("a Raft message of {partition}: {why}"),
            );
        }
    }

    fn check_envelope(&self, principal: Option<&str>, envelope: &Envelope) -> Result<(), String> {
        let ours = &self.topology.fabric.name;
        if envelope.fabric != *ours {
            return Err(format!(
                "it belongs to the fabric {:?}, this is {ours:?}",
                envelope.fabric
            ));
        }
        if envelope.node == self.name {
            let who = envelope.incarnation;
            return Err(format!(
                "another node runs under the name of this one, in folder {who}"
            ));
        }
        if self.topology.node(&envelope.node).is_none() {
            return Err("this node's topology does not name it".to_owned());
        }
        if principal.is_some_and(|proven| proven != envelope.node.as_str()) {
            return Err("its key is that of another node".to_owned());
        }
        Ok(())
    }
}
