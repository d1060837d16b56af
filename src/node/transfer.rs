//! Snapshots: what a partition has led to, sent in pieces to a replica whose log ends before its
//! leader's begins. Its log begins anew with that, where the leader's does, and Raft sends it the
//! entries that are left, as to any that lags.

use bytes::{Bytes, BytesMut};

use super::Node;
use super::member::{Member, Slot};
use crate::channel::Stream;
use crate::types::limits::{
    REPLICA_ABSENT, SNAPSHOT_PIECE_BYTES, SNAPSHOT_RESEND, SNAPSHOT_RETRY, SNAPSHOTS_MAX,
    TERMS_AHEAD_MAX,
};
use crate::types::{Checkpoint, Limits, Members, NodeName, Partition, ReplicaId, Sabotage, Time};
use crate::wire::peer::{PeerMessage, SnapshotHead, SnapshotPiece, SnapshotWanted};

/// No log comes near it.
const INDEX_MAX: u64 = 1 << 62;

/// A snapshot that a leader owes to a replica.
pub(super) struct Transfer {
    /// Where the log begins that the replica is to go on with.
    start: u64,
    /// Nothing while it waits for its turn.
    sending: Option<Sending>,
    /// When it was larger than what a journal takes, which was told.
    too_large: Option<Time>,
}

/// A snapshot on its way.
struct Sending {
    head: SnapshotHead,
    state: Bytes,
    position: u64,
    sent: Time,
}

/// A snapshot that arrives.
pub(super) struct Receiving {
    head: SnapshotHead,
    state: BytesMut,
    heard: Time,
}

impl Transfer {
    /// The index after which the replica's log is to begin.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// Whether it was not too large of late. Producers are forgotten and cursors move, so it is
    /// looked at again.
    fn may_fit(&self, now: Time) -> bool {
        self.too_large
            .is_none_or(|told| now.since(told) >= SNAPSHOT_RETRY)
    }
}

impl Sending {
    /// The piece at `position`.
    fn piece(&mut self, position: u64, now: Time) -> PeerMessage {
        (self.position, self.sent) = (position, now);
        let end = (position + SNAPSHOT_PIECE_BYTES).min(self.head.bytes);
        PeerMessage::Snapshot(SnapshotPiece {
            head: self.head.clone(),
            position,
            piece: self.state.slice(position as usize..end as usize),
        })
    }
}

impl Receiving {
    /// The state, if it is whole and what its head says.
    fn finish(self, limits: &Limits) -> Result<(Checkpoint, Stream), String> {
        let Self { head, state, .. } = self;
        let state = state.freeze();
        if crc32fast::hash(&state) != head.crc {
            return Err("its checksum does not match".to_owned());
        }
        let stream = Stream::decode(&state, limits)?;
        if stream.next_offset() != head.next_offset {
            let (is, says) = (stream.next_offset(), head.next_offset);
            return Err(format!("it ends before offset {is}, not {says}"));
        }
        let checkpoint = Checkpoint {
            index: head.index,
            term: head.index_term,
            next_offset: head.next_offset,
            time: head.time,
            keep_from: head.start + 1,
            before_term: head.start_term,
            before_offset: head.start_offset,
            before_time: head.start_time,
            state,
        };
        Ok((checkpoint, stream))
    }
}

impl Node {
    /// Notes that the partition's leader, this node, owes snapshots to these replicas.
    pub(super) fn begin_transfers(&mut self, partition: &Partition, behind: Vec<u64>) {
        let Some(Slot::Member(member)) = self.slots.get_mut(partition) else {
            return;
        };
        let start = member.replica.start().index;
        for raft_id in behind {
            let transfer = Transfer {
                start,
                sending: None,
                too_large: None,
            };
            member.transfers.insert(raft_id, transfer);
        }
        self.state_due = true;
    }

    /// Begins the snapshots whose turn it is, sends again what was not answered, and ends those
    /// that nobody waits for.
    pub(super) fn pump_transfers(&mut self) {
        let now = self.now.mono;
        let mut sending = 0;
        for (partition, slot) in &mut self.slots {
            let Slot::Member(member) = slot else { continue };
            member
                .receiving
                .take_if(|r| now.since(r.heard) >= REPLICA_ABSENT);
            if member.end_transfers(now) {
                self.dirty.insert(partition.clone());
            }
            let transfers = member.transfers.values();
            sending += transfers.filter(|owed| owed.sending.is_some()).count();
        }
        let owing: Vec<Partition> = self
            .slots
            .iter()
            .filter(
                |(_, slot)| matches!(slot, Slot::Member(member) if !member.transfers.is_empty()),
            )
            .map(|(partition, _)| partition.clone())
            .collect();
        for partition in owing {
            self.pump_transfer(&partition, &mut sending);
        }
    }

    fn pump_transfer(&mut self, partition: &Partition, sending: &mut usize) {
        let bytes_max = self.journal.state_bytes_max();
        let now = self.now.mono;
        let Some(Slot::Member(member)) = self.slots.get_mut(partition) else {
            return;
        };
        let mut too_large = None;
        let members: Vec<ReplicaId> = member.replica.members().all().cloned().collect();
        for receiver in members {
            let raft_id = receiver.raft_id();
            let Some(mut owed) = member.transfers.remove(&raft_id) else {
                continue;
            };
            let may_fit = owed.may_fit(now);
            match &mut owed.sending {
                Some(under_way) if now.since(under_way.sent) >= SNAPSHOT_RESEND => {
                    let piece = under_way.piece(under_way.position, now);
                    self.mail.post(&receiver.node, piece);
                }
                Some(_) => {}
                None if *sending < SNAPSHOTS_MAX && may_fit => {
                    match member.snapshot(&receiver, now) {
                        Some(new) if new.head.bytes <= bytes_max => {
                            owed.start = new.head.start;
                            let new = owed.sending.insert(new);
                            self.mail.post(&receiver.node, new.piece(0, now));
                            *sending += 1;
                        }
                        Some(new) => {
                            let told = owed.too_large.replace(now);
                            if told.is_none() {
                                too_large = Some((receiver.node.clone(), new.head.bytes));
                            }
                        }
                        None => {}
                    }
                }
                None => {}
            }
            member.transfers.insert(raft_id, owed);
        }
        if let Some((node, bytes)) = too_large {
            self.warn(format!(
                "{partition} remembers {bytes} bytes, more than a segment of the journal holds: \
                 {node} cannot be sent them before they are fewer; lower `producers_max`, delete \
                 cursors or raise `segment_bytes`"
            ));
        }
    }

    /// A piece of a snapshot from a partition's leader.
    pub(super) fn handle_snapshot(&mut self, from: &NodeName, piece: SnapshotPiece) {
        let partition = Partition::new(&piece.head.channel, piece.head.partition);
        let receiving = self.slots.values().filter(|slot| match slot {
            Slot::Member(member) => member.receiving.is_some(),
            _ => false,
        });
        let full = receiving.count() >= SNAPSHOTS_MAX;
        let bytes_max = self.journal.state_bytes_max();
        let Some(Slot::Member(member)) = self.slots.get(&partition) else {
            return;
        };
        let ours = member.me.raft_id() == piece.head.to;
        if !self.speaks_as(from, piece.head.from, member) || !ours {
            let why = format!("a snapshot of {partition} between others than these two nodes");
            self.refuse_peer(from.to_string(), why);
            return;
        }
        let Some(Slot::Member(member)) = self.slots.get_mut(&partition) else {
            return;
        };
        if member.receiving.is_none() && full {
            // It is sent again when there is room.
            return;
        }
        let outcome = member.take_piece(piece, bytes_max, &self.topology.limits, self.now.mono);
        match outcome {
            Ok(Some(answer)) => self.mail.post(from, PeerMessage::Wanted(answer)),
            Ok(None) => {}
            Err(why) => {
                self.refuse_peer(
                    from.to_string(),
                    format!("a snapshot of {partition}: {why}"),
                );
            }
        }
        self.dirty.insert(partition);
    }

    /// A replica says how much it has of a snapshot.
    pub(super) fn handle_wanted(&mut self, from: &NodeName, wanted: &SnapshotWanted) {
        let partition = Partition::new(&wanted.channel, wanted.partition);
        let Some(Slot::Member(member)) = self.slots.get_mut(&partition) else {
            return;
        };
        let sender = member.replica.members().find(wanted.from);
        if sender.is_none_or(|sender| sender.node != *from) {
            return;
        }
        let owed = member.transfers.get_mut(&wanted.from);
        let Some(under_way) = owed.and_then(|owed| owed.sending.as_mut()) else {
            return;
        };
        let head = &under_way.head;
        if (wanted.term, wanted.start, wanted.index) != (head.term, head.start, head.index) {
            return;
        }
        if wanted.position >= head.bytes {
            member.transfers.remove(&wanted.from);
            member.replica.report_snapshot(wanted.from, true);
            self.dirty.insert(partition);
            return;
        }
        // An answer that came twice asks for nothing new.
        let again = wanted.position == under_way.position;
        if !again || self.now.mono.since(under_way.sent) >= SNAPSHOT_RESEND {
            let piece = under_way.piece(wanted.position, self.now.mono);
            self.mail.post(from, piece);
        }
    }
}

impl Member {
    /// What this leader's partition has led to, for a replica.
    fn snapshot(&self, to: &ReplicaId, now: Time) -> Option<Sending> {
        let (start, index) = (self.replica.start(), self.replica.applied());
        if index < self.covered || index < start.index {
            return None;
        }
        let state = self.stream.encode();
        let start = match Sabotage::SnapshotWithoutTail.is_on() {
            true => crate::replica::LogStart {
                index,
                term: self.replica.term_at(index)?,
                offset: self.stream.next_offset(),
                time: self.stream.last_time(),
            },
            false => start,
        };
        let head = SnapshotHead {
            channel: self.founding.partition.channel.clone(),
            partition: self.founding.partition.number,
            from: self.me.raft_id(),
            to: to.raft_id(),
            term: self.replica.term(),
            start: start.index,
            start_term: start.term,
            start_offset: start.offset,
            start_time: start.time,
            index,
            index_term: self.replica.term_at(index)?,
            next_offset: self.stream.next_offset(),
            time: self.stream.last_time(),
            bytes: state.len() as u64,
            crc: crc32fast::hash(&state),
        };
        Some(Sending {
            head,
            state,
            position: 0,
            sent: now,
        })
    }

    /// Ends the transfers that Raft does not wait for, and those to replicas that are gone. True if
    /// Raft was told.
    fn end_transfers(&mut self, now: Time) -> bool {
        let Self {
            replica,
            transfers,
            answered,
            ..
        } = self;
        let mut told = false;
        transfers.retain(|raft_id, _| {
            if !replica.awaits_snapshot(*raft_id) {
                return false;
            }
            let gone = answered
                .get(raft_id)
                .is_some_and(|at| now.since(*at) >= REPLICA_ABSENT);
            if gone {
                replica.report_snapshot(*raft_id, false);
                told = true;
            }
            !gone
        });
        told
    }

    /// Takes a piece of a snapshot; how much of it is there, if the leader is to know.
    fn take_piece(
        &mut self,
        piece: SnapshotPiece,
        bytes_max: u64,
        limits: &Limits,
        now: Time,
    ) -> Result<Option<SnapshotWanted>, String> {
        let SnapshotPiece {
            head,
            position,
            piece,
        } = piece;
        check_head(&head, bytes_max)?;
        if head.term < self.replica.term() {
            return Ok(None);
        }
        if head.term == self.replica.term() && self.replica.is_leader() {
            let term = head.term;
            return Err(format!(
                "its sender claims to lead term {term}, as this replica does"
            ));
        }
        if head.term > self.replica.term().saturating_add(TERMS_AHEAD_MAX) {
            return Err(format!("its term {} is absurd", head.term));
        }
        if self.replica.commit() >= head.start {
            // It is here already, or more than that.
            self.receiving = None;
            return Ok(Some(wanted(&head, head.bytes)));
        }
        let same = |receiving: &Receiving| receiving.head == head;
        if !self.receiving.as_ref().is_some_and(same) {
            self.receiving = Some(Receiving {
                head: head.clone(),
                state: BytesMut::new(),
                heard: now,
            });
        }
        let Some(mut receiving) = self.receiving.take() else {
            return Ok(None);
        };
        receiving.heard = now;
        let has = receiving.state.len() as u64;
        if position == has && has + piece.len() as u64 <= head.bytes {
            receiving.state.extend_from_slice(&piece);
        }
        let has = receiving.state.len() as u64;
        if has < head.bytes {
            self.receiving = Some(receiving);
            return Ok(Some(wanted(&head, has)));
        }
        let (checkpoint, mut stream) = receiving.finish(limits)?;
        stream.found(&self.founding.voters);
        check_members(stream.members(), &self.me)?;
        let members = stream.members().clone();
        self.incoming = Some(stream);
        let leader = (head.from, head.term);
        if !self.replica.install(leader, checkpoint, &members) {
            self.incoming = None;
        }
        // Raft tells the leader once it is synced.
        Ok(None)
    }

    /// The log began anew with what was received: so does the state.
    pub(super) fn install(&mut self, checkpoint: &Checkpoint) {
        if let Some(stream) = self.incoming.take() {
            self.stream = stream;
            self.covered = checkpoint.index;
            self.checkpointed = (checkpoint.index, checkpoint.keep_from);
            self.places.clear();
            self.last_stamp = self.last_stamp.max(self.stream.last_time());
        }
    }
}

fn check_head(head: &SnapshotHead, bytes_max: u64) -> Result<(), String> {
    if head.bytes > bytes_max {
        let bytes = head.bytes;
        return Err(format!("it has {bytes} bytes, {bytes_max} fit the journal"));
    }
    let terms = 0 < head.start_term && head.start_term <= head.index_term;
    let ordered = 0 < head.start && head.start <= head.index && head.index < INDEX_MAX;
    let offsets = head.start_offset <= head.next_offset && head.start_time <= head.time;
    if !(ordered && offsets && terms && head.index_term <= head.term) {
        let (start, index) = (head.start, head.index);
        return Err(format!(
            "its log begins after entry {start}, its state is of entry {index}: these, or their \
             terms, offsets and times, contradict each other"
        ));
    }
    Ok(())
}

/// Raft takes no others: it would end the process.
fn check_members(members: &Members, me: &ReplicaId) -> Result<(), String> {
    match members.is_sound() && members.all().any(|member| member == me) {
        true => Ok(()),
        false => Err(format!(
            "its members contradict each other or lack this node ({me})"
        )),
    }
}

fn wanted(head: &SnapshotHead, position: u64) -> SnapshotWanted {
    SnapshotWanted {
        channel: head.channel.clone(),
        partition: head.partition,
        from: head.to,
        term: head.term,
        start: head.start,
        index: head.index,
        position,
    }
}
