//! One replica of one partition: drives Raft and maps what it wants to things to persist, messages
//! to send and entries to apply.
//!
//! The order that makes it safe: entries and votes go to the journal; what promises them to others
//! (`persisted_messages`) is held until the journal has synced them; only a leader's appends leave
//! at once. This room never looks into a record and never decides who may publish.

mod checks;
mod codec;
mod log;
mod members;
mod reads;
mod recovery;
mod sending;

use std::collections::VecDeque;

use bytes::Bytes;
use raft::eraftpb::{Entry, HardState, Message, MessageType};
use raft::{Config, Progress, ProgressState, RawNode, SnapshotStatus, StateRole};

use crate::types::limits::{
    APPEND_BYTES_MAX, APPENDS_INFLIGHT_MAX, ELECTION_TICKS, HEARTBEAT_TICKS,
};
use crate::types::{
    Checkpoint, JournalItem, LoadFrom, LoadRequest, LogEntry, Members, Offset, Partition,
    ReplicaId, Sabotage, Wall,
};
use crate::wire::entry::EntryContent;
use crate::wire::peer::RaftMessage;

use log::{Log, Wish};
use reads::take_reads;
pub use recovery::{RecoveredLog, RecoveryError};

/// Who a replica is and what bounds it.
#[derive(Debug, Clone)]
pub struct ReplicaConfig {
    /// The partition.
    pub partition: Partition,
    /// This replica.
    pub me: ReplicaId,
    /// The members, as of the last applied entry, or of entry `covered` if that comes later.
    pub members: Members,
    /// What entries up to this one changed is part of `members` already.
    pub covered: u64,
    /// Draws the election timeouts, with the partition, the node and the term.
    pub seed: u64,
    /// Committed entries kept in memory, in bytes.
    pub cache_bytes: u64,
}

/// One replica of one partition.
pub struct Replica {
    config: ReplicaConfig,
    members: Members,
    /// The changes of members up to this entry are part of `members`.
    covered: u64,
    raw: RawNode<Log>,
    /// Messages that promise something not yet synced, by the number of their `Ready`.
    held: VecDeque<(u64, Vec<Message>)>,
    /// Every `Ready` not yet known to be durable, in order: its number, and whether it needs a sync
    /// of its own. One that does not is durable as soon as those before it are.
    outstanding: VecDeque<(u64, bool)>,
    synced: u64,
    /// The newest `Ready` that changed the term or the vote.
    voted: u64,
    failure: Option<String>,
    /// What Raft was just told to begin anew with.
    incoming: Option<Checkpoint>,
    /// The `Ready` that began anew, until it is synced.
    begun: Option<u64>,
}

/// What a replica wants after it was stepped.
#[derive(Debug, Default)]
pub struct ReplicaOutput {
    /// To be made durable, in order.
    pub items: Vec<JournalItem>,
    /// Set if `items` must be synced before anything else happens here: tell
    /// [`Replica::handle_persisted`] this number then.
    pub ready: Option<u64>,
    /// May leave now.
    pub messages: Vec<RaftMessage>,
    /// Newly committed entries, in order.
    pub committed: Vec<LogEntry>,
    /// A read from the journal that a lagging follower needs; at most one is under way.
    pub load: Option<LoadRequest>,
    /// For which reads a majority has confirmed that this replica led when they began: their
    /// numbers, and what was committed then.
    pub reads: Vec<(u64, u64)>,
    /// The log began anew with this, before anything of `committed` that is beyond its entry.
    pub installed: Option<Checkpoint>,
    /// The raft ids of replicas that lack entries from before this leader's log. They are sent
    /// nothing before [`Replica::report_snapshot`].
    pub behind: Vec<u64>,
}

/// Where a log begins: what it has no entries of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogStart {
    /// The index before the first entry, 0 for a log from its beginning.
    pub index: u64,
    /// The term of that index.
    pub term: u64,
    /// The offset of the first record after it.
    pub offset: Offset,
    /// The time of that index's entry.
    pub time: Wall,
}

/// A proposal that could not be made: this replica does not lead, or is about to hand over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this replica does not lead the partition")]
pub struct NotLeader;

impl Replica {
    /// A replica that goes on where its journal ended.
    pub fn new(config: ReplicaConfig, recovered: RecoveredLog) -> Self {
        let applied = recovered.commit();
        let log = Log::new(
            config.partition.clone(),
            codec::conf_state(&config.members),
            recovered,
            config.cache_bytes,
        );
        let raft_config = Config {
            id: config.me.raft_id(),
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied,
            max_size_per_msg: APPEND_BYTES_MAX,
            max_inflight_msgs: APPENDS_INFLIGHT_MAX,
            check_quorum: true,
            pre_vote: true,
            // The partition's leader bounds what it proposes; see `node`.
            max_uncommitted_size: raft::NO_LIMIT,
            max_committed_size_per_ready: 4 * APPEND_BYTES_MAX,
            // It would join all appends of a loop to one message, beyond every bound.
            batch_append: false,
            // Followers hear of a commit with the next append or heartbeat: a message of its own,
            // and its answer, would delay whoever publishes one record after the other.
            skip_bcast_commit: true,
            ..Config::default()
        };
        let quiet = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&raft_config, log, &quiet)
            .expect("the configuration is constant and the log's state was checked by recovery");
        let mut replica = Self {
            members: config.members.clone(),
            covered: config.covered,
            config,
            raw,
            held: VecDeque::new(),
            outstanding: VecDeque::new(),
            synced: 0,
            voted: 0,
            failure: None,
            incoming: None,
            begun: None,
        };
        replica.steady();
        replica
    }

    /// Takes no part from now on: what it would promise, it could not keep.
    pub fn fail(&mut self, reason: &str) {
        self.failure.get_or_insert_with(|| reason.to_owned());
    }

    /// Time passed: `limits::TICK` of it.
    pub fn handle_tick(&mut self) {
        // Who has just begun anew stands for no election before that is synced.
        if self.failure.is_none() && self.begun.is_none() {
            self.raw.tick();
            self.steady();
        }
    }

    /// A message of another replica. One that makes no sense is dropped, with the reason.
    pub fn handle_message(&mut self, message: RaftMessage) -> Result<(), String> {
        if self.failure.is_some() {
            return Ok(());
        }
        let message = codec::from_wire(message)?;
        self.check_message(&message)?;
        if self.begun.is_some() && message.get_msg_type() == MessageType::MsgTimeoutNow {
            return Ok(());
        }
        let outcome = self.raw.step(message);
        self.steady();
        match outcome {
            // A peer that is no voter (a stranger's late message) is no fault of this replica.
            Ok(()) | Err(raft::Error::StepPeerNotFound | raft::Error::ProposalDropped) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The log begins anew with what the leader `from` of `term` has sent: all that this log lacks
    /// of it follows by and by. `members` are those of the checkpoint's state. False if this log
    /// needs it no more, or follows another leader.
    pub fn install(
        &mut self,
        (from, term): (u64, u64),
        checkpoint: Checkpoint,
        members: &Members,
    ) -> bool {
        if self.failure.is_some() {
            return false;
        }
        let (index, before) = (checkpoint.keep_from - 1, checkpoint.before_term);
        let conf_state = codec::conf_state(members);
        let snapshot = codec::raft_snapshot(index, before, conf_state);
        let message = codec::snapshot_message((from, self.config.me.raft_id()), term, snapshot);
        // Refused only if its sender is no voter, which it then is not for anybody.
        let _ = self.raw.step(message);
        self.steady();
        // One that came before may be there still.
        let unstable = self.raw.raft.raft_log.unstable_snapshot().as_ref();
        let begins = unstable.is_some_and(|began| began.get_metadata().index == index);
        if begins {
            self.covered = checkpoint.index;
            self.members = members.clone();
        }
        self.incoming = begins.then_some(checkpoint);
        begins
    }

    /// Goes on with a replica that was behind: it has begun anew with what it was sent, or not.
    pub fn report_snapshot(&mut self, raft_id: u64, begun: bool) {
        let status = match begun {
            true => SnapshotStatus::Finish,
            false => SnapshotStatus::Failure,
        };
        self.raw.report_snapshot(raft_id, status);
        self.steady();
    }

    /// Whether this leader sends nothing to the replica until that has begun anew.
    pub fn awaits_snapshot(&self, raft_id: u64) -> bool {
        let progress = self.raw.raft.prs().get(raft_id);
        let waits = |progress: &Progress| progress.state == ProgressState::Snapshot;
        self.is_leader() && progress.is_some_and(waits)
    }

    /// The journal synced everything of the `Ready` with this number and before.
    pub fn handle_persisted(&mut self, number: u64) {
        while let Some((front, needs_sync)) = self.outstanding.front().copied() {
            if needs_sync && front > number {
                break;
            }
            self.outstanding.pop_front();
            self.synced = front;
        }
        if self.failure.is_none() {
            self.raw.on_persist_ready(self.synced);
            // Raft takes a snapshot for applied only once it is synced.
            if self
                .begun
                .take_if(|number| *number <= self.synced)
                .is_some()
            {
                self.raw.advance_apply();
            }
            self.steady();
        }
    }

    /// The journal answered the load. Entries whose term is not the log's are refused.
    pub fn handle_loaded(&mut self, entries: Result<Vec<LogEntry>, String>) -> Result<(), String> {
        let (wish, outcome) = self.raw.mut_store().handle_loaded(entries);
        if let Some(context) = wish {
            if outcome.is_ok() {
                self.raw.on_entries_fetched(context);
            }
            self.raw.mut_store().forget_loaded();
        }
        self.steady();
        outcome
    }

    /// Appends an entry as leader. `data` must begin at [`Self::next_offset`]; the index it got.
    pub fn propose(&mut self, data: Bytes) -> Result<u64, NotLeader> {
        if !self.is_leader() || self.is_transferring() {
            return Err(NotLeader);
        }
        self.raw
            .propose(Vec::new(), data.into())
            .map_err(|_| NotLeader)?;
        Ok(self.raw.raft.raft_log.last_index())
    }

    /// Calls an election, as the founder does at once.
    pub fn campaign(&mut self) {
        // Refused only where there is nothing to do: it leads already.
        let _ = self.raw.campaign();
        self.steady();
    }

    /// Hands leadership to the replica on `node`, if this one leads and that one is a voter.
    pub fn transfer_to(&mut self, raft_id: u64) {
        self.raw.transfer_leader(raft_id);
        self.steady();
    }

    /// The peer does not answer: send it probes only.
    pub fn report_unreachable(&mut self, raft_id: u64) {
        self.raw.report_unreachable(raft_id);
    }

    /// Collects everything there is to do. To be called after the calls above, until it is empty.
    pub fn drain(&mut self) -> ReplicaOutput {
        let mut output = ReplicaOutput::default();
        while self.failure.is_none() && self.raw.has_ready() {
            self.handle_ready(&mut output);
        }
        self.release_held(&mut output);
        if let Some(Wish {
            from,
            end,
            bytes_max,
        }) = self.raw.store().take_wish()
        {
            output.load = Some(LoadRequest {
                id: 0,
                partition: self.config.partition.clone(),
                from: LoadFrom::Index(from),
                index_end: end,
                bytes_max,
            });
        }
        output
    }

    /// Whether it leads and has committed an entry of its term: only then may it serve and accept.
    pub fn is_serving(&self) -> bool {
        self.failure.is_none()
            && self.raw.raft.state == StateRole::Leader
            && self.raw.raft.apply_to_current_term()
    }

    /// Whether it leads, serving or not.
    pub fn is_leader(&self) -> bool {
        self.failure.is_none() && self.raw.raft.state == StateRole::Leader
    }

    /// Whether it is handing leadership over.
    pub fn is_transferring(&self) -> bool {
        self.raw.raft.lead_transferee.is_some()
    }

    /// `leader`, `follower`, `candidate` or `failed`.
    pub fn role(&self) -> &'static str {
        match (&self.failure, self.raw.raft.state) {
            (Some(_), _) => "failed",
            (_, StateRole::Leader) => "leader",
            (_, StateRole::Follower) => "follower",
            (_, StateRole::Candidate | StateRole::PreCandidate) => "candidate",
        }
    }

    /// Why it no longer takes part, if it does not.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The leader as far as known.
    pub fn leader(&self) -> Option<&ReplicaId> {
        self.members.find(self.raw.raft.leader_id)
    }

    /// Raft's current term.
    pub fn term(&self) -> u64 {
        self.raw.raft.term
    }

    /// Raft's commit index.
    pub fn commit(&self) -> u64 {
        self.raw.raft.raft_log.committed
    }

    /// The highest index handed out as committed; it and all before it are synced here.
    pub fn applied(&self) -> u64 {
        self.raw.raft.raft_log.applied()
    }

    /// The term of an entry of the log, or of the one before its first.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        self.raw.store().term_at(index)
    }

    /// Where the log begins.
    pub fn start(&self) -> LogStart {
        self.raw.store().start()
    }

    /// Forgets the entries up to that of `start`, which is applied.
    pub fn compact(&mut self, start: LogStart) {
        if start.index <= self.applied() {
            self.raw.mut_store().compact(start);
        }
    }

    /// The last index.
    pub fn last_index(&self) -> u64 {
        self.raw.raft.raft_log.last_index()
    }

    /// The offset after the last entry, committed or not: where the next proposal begins.
    pub fn next_offset(&self) -> Offset {
        // Entries that a `Ready` has not handed out yet are in Raft's unstable part only.
        self.raw.raft.raft_log.unstable_entries().iter().fold(
            self.raw.store().next_offset(),
            |next, entry| match codec::content(&codec::data(entry)) {
                Ok(EntryContent::Records(head)) => head.first_offset + u64::from(head.count()),
                _ => next,
            },
        )
    }

    /// How far each other voter is, on the leader: the highest index it has synced, and whether it
    /// answered lately.
    pub fn progress(&self, raft_id: u64) -> Option<(u64, bool)> {
        let progress = self.raw.raft.prs().get(raft_id)?;
        self.is_leader()
            .then_some((progress.matched, progress.recent_active))
    }

    /// The committed entry that holds `offset`, and those after it, from memory; `None` if it is no
    /// longer there. `bytes_max` is passed only by the first.
    pub fn cached(&self, offset: Offset, bytes_max: u64) -> Option<Vec<LogEntry>> {
        let applied = match Sabotage::UncommittedRead.is_on() {
            true => self.last_index(),
            false => self.raw.raft.raft_log.applied(),
        };
        self.raw.store().cached(offset, applied, bytes_max)
    }

    /// Whether a loaded entry is the one this log holds at its index.
    pub fn holds(&self, entry: &LogEntry) -> bool {
        entry.index <= self.last_index()
            && self.raw.raft.raft_log.term(entry.index) == Ok(entry.term)
    }

    fn handle_ready(&mut self, output: &mut ReplicaOutput) {
        let mut ready = self.raw.ready();
        let number = ready.number();
        if !ready.snapshot().is_empty() && !self.begin(output) {
            return;
        }
        let partition = &self.config.partition;
        for entry in ready.take_entries() {
            match self.raw.mut_store().append(entry) {
                Ok(entry) => {
                    output.items.push(JournalItem::Entry {
                        partition: partition.clone(),
                        entry,
                    });
                }
                Err(reason) => {
                    self.failure = Some(reason);
                    return;
                }
            }
        }
        if let Some(state) = ready.hs() {
            self.take_hard_state(number, state, output);
        }
        take_reads(&mut ready, output);
        let promises = self.take_messages(&mut ready, output);
        let must_sync = ready.must_sync();
        if let Err(reason) = self.take_committed(ready.take_committed_entries(), output) {
            self.failure = Some(reason);
            return;
        }
        let begins = !ready.snapshot().is_empty();
        self.raw.advance_append_async(ready);
        if begins {
            self.begun = Some(number);
        }
        if self.begun.is_none() {
            self.raw.advance_apply();
        }
        let applied = self.raw.raft.raft_log.applied();
        self.raw.mut_store().trim_cache(applied);
        self.steady();
        if !promises.is_empty() {
            let early = Sabotage::PromiseBeforeSync.is_on();
            let after = if early { 0 } else { number };
            self.held.push_back((after, promises));
        }
        self.outstanding.push_back((number, must_sync));
        if must_sync && Sabotage::ConfirmBeforeSync.is_on() {
            self.handle_persisted(number);
        } else if must_sync {
            output.ready = Some(number);
        } else if self.outstanding.len() == 1 {
            self.handle_persisted(number);
        }
    }

    fn take_committed(
        &mut self,
        entries: Vec<Entry>,
        output: &mut ReplicaOutput,
    ) -> Result<(), String> {
        for entry in entries {
            let entry = self.raw.store().committed(&entry);
            self.apply_members(&entry)?;
            output.committed.push(entry);
        }
        Ok(())
    }

    fn take_hard_state(&mut self, number: u64, state: &HardState, output: &mut ReplicaOutput) {
        let before = self.raw.mut_store().set_hard_state(state.clone());
        if (before.term, before.vote) != (state.term, state.vote) {
            self.voted = number;
        }
        let forgets = Sabotage::ForgottenVote.is_on();
        let vote = if forgets { 0 } else { state.vote };
        let (term, commit) = (state.term, state.commit);
        let partition = self.config.partition.clone();
        output.items.push(JournalItem::HardState {
            partition,
            term,
            vote,
            commit,
        });
    }

    /// Raft begins anew with what was just installed.
    fn begin(&mut self, output: &mut ReplicaOutput) -> bool {
        let Some(checkpoint) = self.incoming.take() else {
            let reason = "Raft begins anew with what nobody sent".to_owned();
            self.failure = Some(reason);
            return false;
        };
        let conf_state = codec::conf_state(&self.members);
        self.raw.mut_store().begin(&checkpoint);
        self.raw.mut_store().set_conf_state(conf_state);
        output.items.push(JournalItem::Snapshot {
            partition: self.config.partition.clone(),
            checkpoint: checkpoint.clone(),
        });
        output.installed = Some(checkpoint);
        true
    }

    /// Raft draws its election timeout from an ambient generator whenever it resets; ours depends
    /// on (seed, partition, node, term) only, so that a run can be repeated.
    fn steady(&mut self) {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.config.seed.to_le_bytes());
        hasher.update(self.config.partition.channel.as_str().as_bytes());
        hasher.update(&self.config.partition.number.to_le_bytes());
        hasher.update(self.config.me.node.as_str().as_bytes());
        hasher.update(&self.raw.raft.term.to_le_bytes());
        let extra = hasher.finalize() as usize % ELECTION_TICKS;
        self.raw
            .raft
            .set_randomized_election_timeout(ELECTION_TICKS + extra);
    }
}
