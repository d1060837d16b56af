//! One partition as this node holds it: not founded yet, a stranger to it, or a replica with its
//! channel's state and, while it leads, what waits to be committed or read.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::keep::Idle;
use super::lead_cursors::{CursorIntake, WaitingCursors};
use super::producers::Reads;
use super::transfer::{Receiving, Transfer};
use crate::channel::{CursorError, CursorPosition, Stamp, Stream};
use crate::replica::{LogStart, Replica};
use crate::types::{LogEntry, NodeName, Offset, ReplicaId, Sabotage, Time, Wall};
use crate::wire::Code;
use crate::wire::entry::{EntryContent, EntryHead, ProducerStamp};
use crate::wire::founding::Founding;
use crate::wire::peer::{Accepted, Forward, HeldCursor, Outcome, PeerMessage, Refusal};

/// A partition that the topology places on this node.
pub(super) enum Slot {
    /// No founding record is known; while one is being written, it is kept here.
    Unfounded(Option<Founding>),
    /// It was founded with other lives of folders: this one has no vote and waits to be replaced.
    Stranger(Founding),
    /// A voter, or one that is on the way to be one.
    Member(Box<Member>),
}

/// A replica of a partition.
pub(super) struct Member {
    pub(super) me: ReplicaId,
    pub(super) replica: Replica,
    pub(super) stream: Stream,
    pub(super) founding: Founding,
    /// Batches that arrived in this loop, in order.
    pub(super) intake: Vec<Intake>,
    /// Entries this leader proposed, by rising index.
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) waiting_bytes: u64,
    /// Changes of cursors that arrived in this loop, in order.
    pub(super) asks: Vec<CursorIntake>,
    /// Commands of such that this leader proposed, by rising index.
    pub(super) asked: VecDeque<WaitingCursors>,
    /// Fetches that wait for the next record.
    pub(super) held: Vec<HeldFetch>,
    /// The term in which this replica leads, as last seen, and since when.
    pub(super) led: Option<(u64, Time)>,
    /// No hand-over before this, after one was tried.
    pub(super) hand_over_from: Time,
    /// Whether it was serving when last seen.
    pub(super) served: bool,
    /// The time of the newest proposed entry.
    pub(super) last_stamp: Wall,
    /// The index of the newest command that this leader proposed; 0 for none.
    pub(super) commanded: u64,
    /// While it serves: what was committed at the last beat.
    pub(super) beat_commit: Option<u64>,
    /// No replica that answers its leader lacks the entries up to this one, as this node was told
    /// last.
    pub(super) replicated: u64,
    /// Whether the disk could not give Raft what it asked for last.
    pub(super) unreadable: bool,
    /// No replica can be sent the entries up to this one any more, since this disk has lost some.
    pub(super) forgone: u64,
    /// Where the log has been, from time to time: there it could begin.
    pub(super) places: VecDeque<LogStart>,
    /// When each replica answered last, while this one leads; by raft id.
    pub(super) answered: BTreeMap<u64, Time>,
    /// The snapshots that this leader owes, by raft id.
    pub(super) transfers: BTreeMap<u64, Transfer>,
    /// The snapshot that is being received.
    pub(super) receiving: Option<Receiving>,
    /// What was received, until the log has begun anew with it.
    pub(super) incoming: Option<Stream>,
    /// The entries up to this one have led to `stream` already, applied here or not.
    pub(super) covered: u64,
    /// The index and `keep_from` of the newest checkpoint.
    pub(super) checkpointed: (u64, u64),
    /// Which producers were heard when, while it leads.
    pub(super) idle: Idle,
    /// Who asks this leader how far a producer has come.
    pub(super) reads: Reads,
}

/// A batch in front of the leader.
pub(super) struct Intake {
    pub(super) from: NodeName,
    pub(super) forward: Forward,
    pub(super) stamp: Option<Stamp>,
}

/// A proposed entry, and who wants to know of each of its batches.
pub(super) struct Waiting {
    pub(super) index: u64,
    pub(super) term: u64,
    pub(super) bytes: u64,
    pub(super) batches: Vec<WaitingBatch>,
}

/// A proposed batch.
pub(super) struct WaitingBatch {
    pub(super) offset: Offset,
    /// Each asker: its node, its request, and whether it asked again for what was proposed already.
    pub(super) askers: Vec<(NodeName, u64, bool)>,
}

/// A reader at the end of the partition.
pub(super) struct HeldFetch {
    pub(super) from: NodeName,
    pub(super) request: u64,
    pub(super) offset: Offset,
    pub(super) bytes_max: u64,
    pub(super) until: Time,
    /// And for as many ticks more.
    pub(super) ticks: u32,
    /// The cursor that it is for.
    pub(super) cursor: Option<HeldCursor>,
}

impl Member {
    pub(super) fn new(me: ReplicaId, replica: Replica, stream: Stream, founding: Founding) -> Self {
        let last_stamp = stream.last_time();
        Self {
            me,
            replica,
            stream,
            founding,
            intake: Vec::new(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            asks: Vec::new(),
            asked: VecDeque::new(),
            held: Vec::new(),
            led: None,
            hand_over_from: Time(0),
            served: false,
            last_stamp,
            commanded: 0,
            beat_commit: None,
            replicated: 0,
            unreadable: false,
            forgone: 0,
            places: VecDeque::new(),
            answered: BTreeMap::new(),
            transfers: BTreeMap::new(),
            receiving: None,
            incoming: None,
            covered: 0,
            checkpointed: (0, 0),
            idle: Idle::default(),
            reads: Reads::default(),
        }
    }

    /// Answers everything that waited for this replica as leader: it no longer is, or leads another
    /// term. What it proposed may or may not be stored.
    pub(super) fn give_up(&mut self, post: &mut impl FnMut(&NodeName, PeerMessage)) {
        let partition = self.founding.partition.clone();
        for waiting in self.waiting.drain(..) {
            for (from, request, _) in waiting.batches.into_iter().flat_map(|batch| batch.askers) {
                let message = format!("{partition} lost its leader before the commit was known");
                post(&from, refused(request, Code::OutcomeUnknown, message));
            }
        }
        self.waiting_bytes = 0;
        for intake in self.intake.drain(..) {
            let message = format!("{partition} has lost its leader");
            post(
                &intake.from,
                refused(intake.forward.request, Code::NoLeader, message),
            );
        }
        for held in self.held.drain(..) {
            let message = format!("{partition} has lost its leader");
            post(
                &held.from,
                super::serve::not_served(held.request, Code::NoLeader, message),
            );
        }
        self.give_up_cursors(post);
        self.give_up_reads(post);
        self.stream.forget_proposed();
        self.commanded = 0;
        self.idle = Idle::default();
    }

    /// Tells the askers of a committed entry where their batches are.
    pub(super) fn confirm(
        &mut self,
        index: u64,
        term: u64,
        post: &mut impl FnMut(&NodeName, PeerMessage),
    ) {
        if self
            .waiting
            .front()
            .is_none_or(|waiting| waiting.index != index)
        {
            return;
        }
        let Some(waiting) = self.waiting.pop_front() else {
            return;
        };
        self.waiting_bytes -= waiting.bytes;
        for batch in waiting.batches {
            for (from, request, repeated) in batch.askers {
                let message = match waiting.term == term {
                    true => accepted(request, batch.offset, repeated),
                    false => {
                        let message = "another leader's entry took its place".to_owned();
                        refused(request, Code::OutcomeUnknown, message)
                    }
                };
                post(&from, message);
            }
        }
    }

    /// The batch proposed at `offset`, to add an asker to.
    pub(super) fn proposed_at(&mut self, offset: Offset) -> Option<&mut WaitingBatch> {
        let begins = |waiting: &Waiting| waiting.batches.first().map(|batch| batch.offset);
        let after = self
            .waiting
            .partition_point(|waiting| begins(waiting) <= Some(offset));
        let batches = &mut self.waiting.get_mut(after.checked_sub(1)?)?.batches;
        let at = batches.binary_search_by_key(&offset, |batch| batch.offset);
        batches.get_mut(at.ok()?)
    }
}

/// What became of each change of a cursor that an entry holds.
pub(super) type CursorsDone = Vec<Result<CursorPosition, CursorError>>;

/// Carries a committed entry out on the channel's state. A stamp that `keeps` does not want is
/// taken for none.
pub(super) fn apply_entry(
    stream: &mut Stream,
    entry: &LogEntry,
    keeps: impl Fn(&Stamp) -> bool,
) -> Result<CursorsDone, String> {
    match EntryContent::decode(&entry.data).map_err(|error| error.to_string())? {
        EntryContent::Blank => Ok(Vec::new()),
        EntryContent::Command(head) => Ok(stream.apply_command(&head.does, head.time)),
        EntryContent::Records(head) => {
            let batches = stamps(&head).map(|(count, stamp)| (count, stamp.filter(&keeps)));
            let bytes = entry.data.len() as u64;
            stream
                .apply(
                    (entry.index, entry.first_offset),
                    entry.time,
                    bytes,
                    batches,
                )
                .map_err(|error| error.to_string())?;
            Ok(Vec::new())
        }
    }
}

/// What an entry's head says to the channel: each batch's record count and stamp.
fn stamps(head: &EntryHead) -> impl Iterator<Item = (u32, Option<Stamp>)> + '_ {
    head.batches.iter().map(|batch| {
        let stamp = batch.stamp.as_ref().map(
            |ProducerStamp {
                 producer,
                 sequence,
                 digest,
             }| Stamp {
                producer: producer.clone(),
                sequence: *sequence,
                digest: digest.clone(),
            },
        );
        (batch.count, stamp)
    })
}

/// What tells a retry of a batch from other records under its sequence.
pub(super) fn digest(records: &[u8]) -> Bytes {
    let digest = ring::digest::digest(&ring::digest::SHA256, records);
    Bytes::copy_from_slice(&digest.as_ref()[..16])
}

pub(super) fn accepted(request: u64, offset: Offset, repeated: bool) -> PeerMessage {
    let offset = offset + u64::from(Sabotage::WrongOffset.is_on());
    PeerMessage::Outcome(Outcome {
        request,
        result: Ok(Accepted { offset, repeated }),
    })
}

pub(super) fn refused(request: u64, code: Code, message: String) -> PeerMessage {
    let refusal = Refusal {
        code: code.number(),
        message,
    };
    PeerMessage::Outcome(Outcome {
        request,
        result: Err(refusal),
    })
}
