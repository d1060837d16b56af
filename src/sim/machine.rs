//! One simulated machine: a node, its disk with the real journal on it, its clocks and its signal
//! sockets. It lives, dies and comes back; only the disk, the clocks and the name outlast a life.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::clock::Clock;
use super::dice::Dice;
use crate::node::{Input, Node, NodeConfig, Recovery};
use crate::store::{Found, Identity, Journal, Reader, Scrub, Scrubbed, Settings, SimDisk};
use crate::topology::Topology;
use crate::types::{
    CoveredEntries, DamagedSegment, Incarnation, JournalItem, LoadFrom, LoadRequest, LogEntry,
    NodeName, Partition, Span, Time,
};

/// A machine, by its node's position in the topology.
pub(super) type MachineId = usize;

/// One machine.
pub(super) struct Machine {
    pub(super) name: NodeName,
    pub(super) clock: Clock,
    /// Counts starts; what was planned for an earlier life does not happen.
    pub(super) life: u64,
    pub(super) running: Option<Running>,
    pub(super) disk: SimDisk,
    /// How long a sync takes, in microseconds.
    pub(super) sync_us: (u64, u64),
    /// The power goes again as it starts.
    pub(super) fails_to_start: bool,
    /// Whether it stays down for long the next time.
    pub(super) away: bool,
    /// The next start need not lose what was written: the power stayed on.
    pub(super) kept: bool,
    /// Whether its disk takes the place of one that was lost, and is not known to be filled yet.
    pub(super) replaces: bool,
    /// Bits of its disk have turned, and it is not known that all of it is sound again.
    pub(super) rot: Option<Rot>,
    /// Whether its disk says that it has no room left.
    pub(super) full: bool,
}

/// Bits that turned.
#[derive(Debug)]
pub(super) struct Rot {
    /// Whether the scrub under way began after they did and has found nothing.
    pub(super) clean: bool,
}

/// Gives an entry that was synced, where a disk whose bits have turned is read.
pub(super) type Known<'a> = &'a dyn Fn(&Partition, u64) -> Option<LogEntry>;

/// Where in a commit the power goes, or what of it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doom {
    /// In the middle of its write.
    InWrite,
    /// Between the write and its sync.
    BeforeSync,
    /// Nowhere: its write fails.
    WriteFails,
    /// Nowhere: its sync fails.
    SyncFails,
}

/// What lives as long as the process does.
pub(super) struct Running {
    pub(super) node: Node,
    journal: Journal<SimDisk>,
    reader: Reader<SimDisk>,
    /// What the journal is asked to write, and whether it did.
    pub(super) commit: Option<Commit>,
    /// The topics its SUB socket asks for.
    pub(super) wants: BTreeSet<Bytes>,
    /// The topics its XPUB socket is asked for, and by whom.
    pub(super) asked: BTreeMap<Bytes, BTreeSet<MachineId>>,
    /// Set while the process is frozen: what waits for it.
    pub(super) frozen: Option<Vec<Input>>,
    /// The power goes after so many more outputs.
    pub(super) fuse: Option<u64>,
    /// The power goes with the next commit.
    pub(super) doomed: Option<Doom>,
    /// Segments may have become free since it last looked.
    owes_recycling: bool,
    scrub: Scrub,
    /// What the node was told last of what is damaged.
    told: Vec<DamagedSegment>,
    /// It was asked to stop, and when.
    pub(super) stopping: Option<Time>,
}

/// One group commit.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) sequence: u64,
    pub(super) items: Vec<JournalItem>,
    pub(super) written: bool,
}

/// What is read at a time for damage.
const SCRUB_BYTES: u64 = 64 << 10;

/// How a sync ordinarily goes, in microseconds.
pub(super) const SYNC_US: (u64, u64) = (200, 3_000);

impl Machine {
    /// A machine with an empty disk, not running.
    pub(super) fn new(name: NodeName, dice: &mut Dice) -> Self {
        Self {
            name,
            clock: Clock::new(dice),
            life: 0,
            running: None,
            disk: SimDisk::new(dice.number()),
            sync_us: SYNC_US,
            fails_to_start: false,
            away: false,
            kept: true,
            replaces: false,
            rot: None,
            full: false,
        }
    }

    /// Opens the journal and starts the node on what it holds: all its items.
    pub(super) fn start(
        &mut self,
        topology: &Arc<Topology>,
        now: Time,
        dice: &mut Dice,
        known: Known<'_>,
    ) -> Result<Vec<JournalItem>, String> {
        let now = self.clock.read(now);
        let fresh = Incarnation(dice.number().max(1));
        let mut recovery = Recovery::new(&topology.limits);
        let known = self.rot.is_some().then_some(known);
        if let Some(rot) = &mut self.rot {
            // Its scrub begins anew.
            rot.clean = true;
        }
        let (journal, items) = self.open(topology, (fresh, known), &mut |found| {
            let handled = match found {
                Found::Item(item) => recovery.handle(item),
                Found::Covered(covered) => recovery.handle_covered(&covered),
            };
            handled.map_err(|error| error.to_string())
        })?;
        let config = NodeConfig {
            topology: topology.clone(),
            name: self.name.clone(),
            incarnation: journal.incarnation(),
            seed: dice.number(),
            replaces: self.replaces,
        };
        let node = Node::new(config, recovery, now)
            .map_err(|error| format!("the node does not start: {error}"))?;
        self.running = Some(Running {
            node,
            reader: journal.reader(),
            journal,
            commit: None,
            wants: BTreeSet::new(),
            asked: BTreeMap::new(),
            frozen: None,
            fuse: None,
            doomed: None,
            owes_recycling: false,
            scrub: Scrub::default(),
            told: Vec::new(),
            stopping: None,
        });
        Ok(items)
    }

    /// Opens the journal that is on the disk and gives all of it: what it need not read too.
    pub(super) fn open(
        &self,
        topology: &Topology,
        (fresh, known): (Incarnation, Option<Known<'_>>),
        handle: &mut dyn FnMut(Found) -> Result<(), String>,
    ) -> Result<(Journal<SimDisk>, Vec<JournalItem>), String> {
        let identity = Identity {
            fabric: topology.fabric.name.clone(),
            node: self.name.clone(),
            fresh,
        };
        let settings = Settings::from(&topology.limits);
        let mut all = Vec::new();
        let journal = Journal::open(self.disk.clone(), &identity, settings, &mut |found| {
            all.push(found.clone());
            handle(found)
        })
        .map_err(|error| format!("the journal does not open: {error}"))?;
        let reader = journal.reader();
        let mut items = Vec::new();
        for found in all {
            match found {
                Found::Item(item) => items.push(item),
                Found::Covered(covered) => items.extend(read(&reader, covered, known)?),
            }
        }
        Ok((journal, items))
    }

    /// The process ends at once. The disk keeps what was written if the power stays on, else what
    /// was synced and any part of the rest.
    pub(super) fn die(&mut self, power_stays: bool) {
        let commit = self.running.take().and_then(|running| running.commit);
        let waits = commit.is_some_and(|commit| !commit.written);
        self.life += 1;
        self.kept &= power_stays && !waits;
        match power_stays {
            true => self.disk.kill(),
            false => self.disk.crash(),
        }
    }

    /// How long the next sync takes.
    pub(super) fn sync_span(&self, dice: &mut Dice) -> Span {
        dice.micros(self.sync_us.0, self.sync_us.1)
    }
}

/// Reads entries that the journal only told of, but those that were withdrawn later.
fn read(
    reader: &Reader<SimDisk>,
    covered: CoveredEntries,
    known: Option<Known<'_>>,
) -> Result<Vec<JournalItem>, String> {
    let partition = covered.partition;
    let request = LoadRequest {
        id: 0,
        partition: partition.clone(),
        from: LoadFrom::Index(covered.first_index),
        index_end: covered.end_index,
        bytes_max: u64::MAX,
    };
    let mut entries = match (reader.load(&request), known) {
        (Ok(entries), _) => entries,
        (Err(_), Some(known)) => (covered.first_index..covered.end_index)
            .filter_map(|index| known(&partition, index))
            .collect(),
        (Err(error), None) => return Err(format!("the journal is not read: {error}")),
    };
    entries.retain(|entry| entry.term == covered.term);
    let item = |entry| JournalItem::Entry {
        partition: partition.clone(),
        entry,
    };
    Ok(entries.into_iter().map(item).collect())
}

impl Running {
    /// Writes the commit under way.
    pub(super) fn write(&mut self) -> Result<(), (u64, String)> {
        let Some(commit) = self.commit.as_mut() else {
            return Ok(());
        };
        commit.written = true;
        let written = self.journal.write(&commit.items);
        let sequence = commit.sequence;
        written.map_err(|error| {
            self.commit = None;
            (sequence, error.to_string())
        })
    }

    /// Syncs the commit under way; its sequence.
    pub(super) fn sync(&mut self) -> Option<(u64, Result<(), String>)> {
        let commit = self.commit.take()?;
        let synced = self.journal.sync().map_err(|error| error.to_string());
        if self.journal.wants_spare() {
            // Without a spare the journal makes its next segment itself.
            let _ = self.reader.prepare_spare();
        }
        Some((commit.sequence, synced))
    }

    /// Whether segments may have become free.
    pub(super) fn wants_recycling(&mut self) -> bool {
        self.owes_recycling |= self.journal.wants_recycling();
        self.owes_recycling
    }

    /// Lets go of segments; how many went.
    pub(super) fn recycle(&mut self) -> Result<u64, String> {
        self.owes_recycling = false;
        self.reader.recycle().map_err(|error| error.to_string())
    }

    /// Writes segments anew; how many bytes that gave back, if it was worth it.
    pub(super) fn compact(&mut self) -> Result<Option<u64>, String> {
        self.reader.compact().map_err(|error| error.to_string())
    }

    /// Gives back all space that can be; how often segments were written anew for it.
    pub(super) fn give_back_all(&mut self) -> Result<u64, String> {
        self.recycle()?;
        let mut compactions = 0;
        while self.compact()?.is_some() {
            compactions += 1;
        }
        Ok(compactions)
    }

    /// Reads about a segment, to see whether it is as it was written.
    pub(super) fn scrub(&mut self) -> Result<Scrubbed, String> {
        let scrubbed = self.reader.scrub(&mut self.scrub, SCRUB_BYTES);
        scrubbed.map_err(|error| error.to_string())
    }

    /// The next scrub begins with the first segment.
    pub(super) fn begin_scrub(&mut self) {
        self.scrub = Scrub::default();
    }

    /// Whether nothing is known to be damaged.
    pub(super) fn is_sound(&self) -> bool {
        self.told.is_empty() && !self.reader.wants_seal()
    }

    /// What is damaged, if that is news or the node waits for an answer.
    pub(super) fn look(&mut self, awaited: bool) -> Result<Option<Vec<DamagedSegment>>, String> {
        if self.reader.wants_seal() && self.commit.is_none() && self.journal.failed().is_none() {
            let sealed = self.journal.seal_damaged();
            sealed.map_err(|error| error.to_string())?;
        }
        let damaged = self.reader.damage().map_err(|error| error.to_string())?;
        let news = awaited || damaged != self.told;
        self.told.clone_from(&damaged);
        Ok(news.then_some(damaged))
    }

    /// Writes a damaged segment anew; whether it is whole again.
    pub(super) fn mend(
        &mut self,
        segment: u64,
        entries: &[(Partition, LogEntry)],
    ) -> Result<bool, String> {
        let mended = self.reader.mend(segment, entries);
        mended.map_err(|error| error.to_string())
    }

    /// Reads entries back.
    pub(super) fn load(&self, request: &LoadRequest) -> Result<Vec<LogEntry>, String> {
        self.reader.load(request).map_err(|error| error.to_string())
    }

    /// What the shell would measure.
    pub(super) fn gauges(&self) -> crate::node::Gauges {
        crate::node::Gauges {
            disk_free: self.journal.free_bytes().unwrap_or(0),
            journal_bytes: self.journal.bytes(),
            mailbox: self.frozen.as_ref().map_or(0, Vec::len) as u64,
            ..crate::node::Gauges::default()
        }
    }
}
