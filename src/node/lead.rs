//! The leader's side of publishing: checks a batch, judges repeats, stamps what is new into one
//! entry per loop, and answers when it is committed.

use bytes::Bytes;

use super::Node;
use super::member::{
    Intake, Member, Slot, Waiting, WaitingBatch, accepted, apply_entry, digest, refused,
};
use super::persist::Done;
use super::replacing::node_of;
use crate::channel::{Bounds, Stamp, Verdict};
use crate::replica::NotLeader;
use crate::types::limits::{APPEND_BYTES_MAX, BATCH_HEAD_MAX, PRODUCER_BYTES_MAX};
use crate::types::{
    Checkpoint, EntryKind, LogEntry, NodeName, Now, Partition, Sabotage, Span, Wall, key_partition,
};
use crate::wire::entry::{BatchHead, CommandHead, EntryHead, ProducerStamp};
use crate::wire::peer::{Forward, PeerMessage};
use crate::wire::{Code, RawRecords, records};

/// An entry in the making.
#[derive(Default)]
struct Draft {
    head: EntryHead,
    records: Vec<Bytes>,
    bytes: u64,
    batches: Vec<WaitingBatch>,
    stamps: Vec<Stamp>,
}

impl Node {
    /// A batch for a partition that this node is believed to lead.
    pub(super) fn handle_forward(&mut self, from: &NodeName, forward: Forward) {
        let partition = Partition::new(&forward.channel, forward.partition);
        let request = forward.request;
        if let Err((code, message)) = self.accept_forward(from, &partition, forward) {
            self.mail.post(from, refused(request, code, message));
        }
    }

    fn accept_forward(
        &mut self,
        from: &NodeName,
        partition: &Partition,
        forward: Forward,
    ) -> Result<(), (Code, String)> {
        let max_record = self
            .topology
            .channels
            .get(&partition.channel)
            .map(|channel| (channel.partitions, channel.max_record));
        let (partitions, max_record) = max_record.ok_or_else(|| {
            (
                Code::NoChannel,
                format!("{} has no channel {}", self.name, partition.channel),
            )
        })?;
        let name = self.name.clone();
        let free = self.gauges.disk_free;
        let disk_full = self.measured && free < self.topology.limits.disk_free_min;
        let Some(Slot::Member(member)) = self.slots.get_mut(partition) else {
            return Err((
                Code::NoLeader,
                format!("{name} is no replica of {partition}"),
            ));
        };
        if !member.replica.is_serving() || member.replica.is_transferring() || self.stopping {
            return Err((
                Code::NoLeader,
                format!("{name} does not lead {partition} now"),
            ));
        }
        check_batch(partition, partitions, max_record, &forward)?;
        let stamp = forward.producer.as_ref().map(|(producer, sequence)| Stamp {
            producer: producer.clone(),
            sequence: *sequence,
            digest: digest(&forward.records),
        });
        // What is stored already is confirmed, whatever bound is reached.
        let is_new = matches!(member.stream.judge(stamp.as_ref(), None), Verdict::New);
        if is_new && disk_full {
            let message = format!("{name} has {free} bytes of disk left and takes no more records");
            return Err((Code::DiskFull, message));
        }
        if is_new && member.waiting_bytes > self.topology.limits.uncommitted_bytes {
            let bytes = member.waiting_bytes;
            return Err((
                Code::Busy,
                format!("{bytes} bytes of {partition} wait for a quorum"),
            ));
        }
        member.intake.push(Intake {
            from: from.clone(),
            forward,
            stamp,
        });
        self.intakes.insert(partition.clone());
        Ok(())
    }

    /// Proposes what arrived in this loop.
    pub(super) fn propose_intakes(&mut self) {
        for partition in std::mem::take(&mut self.intakes) {
            let wall = self.now.wall;
            let mail = &mut self.mail;
            if let Some(Slot::Member(member)) = self.slots.get_mut(&partition) {
                let mut post = |to: &NodeName, message| mail.post(to, message);
                member.propose_intake(wall, &mut post);
                member.propose_cursors(wall, &mut post);
                self.dirty.insert(partition);
            }
        }
    }

    /// Collects what the replicas want, until none wants anything.
    pub(super) fn drain_replicas(&mut self) {
        for partition in std::mem::take(&mut self.dirty) {
            self.drain_replica(&partition);
        }
    }

    fn drain_replica(&mut self, partition: &Partition) {
        let Some(Slot::Member(member)) = self.slots.get_mut(partition) else {
            return;
        };
        let failed_before = member.replica.failure().is_some();
        member.begin_reads();
        let output = member.replica.drain();
        for item in output.items {
            self.journal.push(item, self.now.mono);
        }
        if let Some(number) = output.ready {
            self.journal
                .await_sync(Done::Ready(partition.clone(), number));
        }
        for message in output.messages {
            if let Some(node) = node_of(member.replica.members(), &self.peers, message.to) {
                self.mail.post(&node, PeerMessage::Raft(message));
            }
        }
        let mail = &mut self.mail;
        let mut post = |to: &NodeName, message| mail.post(to, message);
        if let Some(checkpoint) = &output.installed {
            member.install(checkpoint);
        }
        let committed = output.committed.len();
        for entry in output.committed {
            member.apply(entry, &mut post);
        }
        member.answer_reads(&output.reads, &mut post);
        let changed = member.note_leadership(self.now.mono, &mut post);
        let failure = member
            .replica
            .failure()
            .filter(|_| !failed_before)
            .map(str::to_owned);
        let (behind, installed) = (output.behind, output.installed);
        if !behind.is_empty() {
            self.begin_transfers(partition, behind);
        }
        if let Some(Checkpoint {
            index, keep_from, ..
        }) = installed
        {
            self.info(format!(
                "{partition} begins anew with a snapshot of entry {index}; entries from \
                 {keep_from} on follow"
            ));
        }
        if let Some(load) = output.load {
            self.load_for_raft(load);
        }
        if committed > 0 {
            self.serve_held(partition);
        }
        if changed {
            self.note_leader_change(partition);
        }
        if let Some(reason) = failure {
            self.error(format!(
                "{partition} stops taking part on this node: {reason}"
            ));
        }
    }
}

impl Member {
    fn apply(&mut self, entry: LogEntry, post: &mut impl FnMut(&NodeName, PeerMessage)) {
        // The log took the entry after reading it and holds it to the offset of the one before; see
        // `Log::append`.
        let forgets = Sabotage::ForgottenTrim.is_on() && !self.replica.is_leader();
        let forgotten = forgets && entry.kind == EntryKind::Command;
        if entry.index > self.covered && !forgotten {
            let applied = apply_entry(&mut self.stream, &entry, |_| true);
            let done = applied.expect("committed entries continue");
            self.confirm_cursors(entry.index, entry.term, done, post);
        }
        self.confirm(entry.index, entry.term, post);
    }

    fn propose_intake(&mut self, wall: Wall, post: &mut impl FnMut(&NodeName, PeerMessage)) {
        let mut draft = Draft::default();
        let mut next = self.replica.next_offset();
        next -= next.min(u64::from(Sabotage::ReusedOffset.is_on()));
        self.stamp_time(wall);
        for Intake {
            from,
            forward,
            stamp,
        } in std::mem::take(&mut self.intake)
        {
            let request = forward.request;
            match self.stream.judge(stamp.as_ref(), forward.after) {
                Verdict::New => {
                    let bytes = forward.records.len() as u64 + BATCH_HEAD_MAX;
                    if draft.bytes + bytes > APPEND_BYTES_MAX {
                        self.propose(std::mem::take(&mut draft), post);
                    }
                    if draft.batches.is_empty() {
                        draft.head.first_offset = next;
                        draft.head.time = self.last_stamp;
                    }
                    if let Some(stamp) = &stamp {
                        self.stream.propose(stamp.clone(), next);
                    }
                    let offset = next;
                    next += u64::from(forward.count);
                    draft.push(from, forward, stamp, offset);
                }
                Verdict::Repeat(offset) => post(&from, accepted(request, offset, true)),
                Verdict::Proposed(offset) => {
                    let in_draft = draft
                        .batches
                        .iter_mut()
                        .find(|batch| batch.offset == offset);
                    match in_draft.or_else(|| self.proposed_at(offset)) {
                        Some(batch) => batch.askers.push((from, request, true)),
                        None => {
                            let message = "its first try is not decided yet".to_owned();
                            post(&from, refused(request, Code::OutcomeUnknown, message));
                        }
                    }
                }
                verdict => {
                    let (code, message) = explain(verdict, stamp.as_ref(), forward.after);
                    post(&from, refused(request, code, message));
                }
            }
        }
        self.propose(draft, post);
    }

    fn propose(&mut self, draft: Draft, post: &mut impl FnMut(&NodeName, PeerMessage)) {
        if draft.batches.is_empty() {
            return;
        }
        let data = draft.head.encode(&draft.records);
        match self.replica.propose(data) {
            Ok(index) => {
                self.waiting_bytes += draft.bytes;
                let (term, bytes, batches) = (self.replica.term(), draft.bytes, draft.batches);
                self.waiting.push_back(Waiting {
                    index,
                    term,
                    bytes,
                    batches,
                });
            }
            Err(error) => {
                for stamp in &draft.stamps {
                    self.stream.withdraw(stamp);
                }
                for (from, request, _) in draft.batches.into_iter().flat_map(|b| b.askers) {
                    post(&from, refused(request, Code::NoLeader, error.to_string()));
                }
            }
        }
    }

    /// Proposes what the clock or a bound asks for, one command at a time; true if it did.
    /// `calendar` is what retention goes by.
    pub(super) fn propose_command(
        &mut self,
        keep: &Bounds,
        producer_idle: Span,
        now: Now,
        calendar: Wall,
    ) -> bool {
        let leads = self.replica.is_serving() && !self.replica.is_transferring();
        if !leads || self.commanded > self.replica.applied() {
            return false;
        }
        let heard = self
            .idle
            .heard_before(self.stream.heard(), producer_idle, now.mono);
        let due = self.stream.due(keep, calendar);
        let Some(does) = due.or_else(|| self.stream.forget(heard)) else {
            return false;
        };
        self.stamp_time(now.wall);
        let time = self.last_stamp;
        match self.replica.propose(CommandHead { time, does }.encode()) {
            Ok(index) => self.commanded = index,
            // It leads no more: another leader looks after it.
            Err(NotLeader) => return false,
        }
        true
    }

    /// The time of the next entry: never before that of the last.
    pub(super) fn stamp_time(&mut self, wall: Wall) {
        self.last_stamp = match Sabotage::BackwardTime.is_on() {
            true => wall,
            false => self.last_stamp.max(self.stream.last_time()).max(wall),
        };
    }

    /// Notices that this replica began or ceased to lead, or serves now; true if so.
    fn note_leadership(
        &mut self,
        now: crate::types::Time,
        post: &mut impl FnMut(&NodeName, PeerMessage),
    ) -> bool {
        let term = self.replica.is_leader().then(|| self.replica.term());
        let serving = self.replica.is_serving();
        let led = self.led.map(|(term, _)| term);
        if led == term && serving == self.served {
            return false;
        }
        if led.is_some() && led != term {
            self.give_up(post);
        }
        if led != term {
            self.led = term.map(|term| (term, now));
        }
        self.served = serving;
        true
    }
}

impl Draft {
    fn push(&mut self, from: NodeName, forward: Forward, stamp: Option<Stamp>, offset: u64) {
        self.bytes += forward.records.len() as u64 + BATCH_HEAD_MAX;
        self.batches.push(WaitingBatch {
            offset,
            askers: vec![(from, forward.request, false)],
        });
        self.head.batches.push(BatchHead {
            count: forward.count,
            // A batch fits one frame, far below 4 GiB.
            bytes: forward.records.len() as u32,
            crc: forward.crc,
            stamp: stamp.clone().map(|stamp| ProducerStamp {
                producer: stamp.producer,
                sequence: stamp.sequence,
                digest: stamp.digest,
            }),
        });
        self.records.push(forward.records);
        self.stamps.extend(stamp);
    }
}

/// Holds a batch to what its header says, without decoding its records.
fn check_batch(
    partition: &Partition,
    partitions: u32,
    max_record: u64,
    forward: &Forward,
) -> Result<(), (Code, String)> {
    let wire = |error: crate::wire::WireError| (error.code(), error.to_string());
    records::check_crc(&forward.records, Some(forward.crc)).map_err(wire)?;
    let mut count = 0;
    for record in RawRecords::new(&forward.records) {
        let record = record.map_err(wire)?;
        if record.bytes.len() as u64 > max_record {
            let bytes = record.bytes.len();
            let message = format!("record {count} has {bytes} bytes, {max_record} are allowed");
            return Err((Code::TooLarge, message));
        }
        if let Some(key) = record.key {
            let belongs = key_partition(key, partitions);
            if belongs != partition.number {
                let message =
                    format!("the key of record {count} belongs to partition {belongs}, not here");
                return Err((Code::WrongPartition, message));
            }
        }
        count += 1;
    }
    records::check_count(count, Some(u64::from(forward.count))).map_err(wire)?;
    if count == 0 {
        return Err((Code::CountMismatch, "the batch holds no record".to_owned()));
    }
    let producer = forward
        .producer
        .as_ref()
        .map(|(producer, _)| producer.len());
    if producer.is_some_and(|len| len == 0 || len > PRODUCER_BYTES_MAX) {
        let message = format!("a producer has 1 to {PRODUCER_BYTES_MAX} bytes");
        return Err((Code::BadProducer, message));
    }
    Ok(())
}

fn explain(verdict: Verdict, stamp: Option<&Stamp>, after: Option<u64>) -> (Code, String) {
    let sequence = stamp.map_or(0, |stamp| stamp.sequence);
    match verdict {
        Verdict::Reused => {
            let message = format!("sequence {sequence} was used for other records");
            (Code::SequenceReused, message)
        }
        Verdict::OutOfOrder => {
            let after = after.unwrap_or_default();
            (
                Code::OutOfOrder,
                format!("sequence {after}, to come before {sequence}, is not here"),
            )
        }
        Verdict::TooOld | Verdict::New | Verdict::Repeat(_) | Verdict::Proposed(_) => {
            let message = format!("sequence {sequence} is older than what is remembered");
            (Code::SequenceTooOld, message)
        }
    }
}
