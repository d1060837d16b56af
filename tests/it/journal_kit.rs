//! What the tests of the journal share: a model of it, random work, shorthand.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weft::store::{Disk, Found, Identity, Journal, Reader, Settings, StoreError};
use weft::types::{
    CoveredEntries, EntryKind, Incarnation, JournalItem, LoadFrom, LoadRequest, LogEntry,
    Partition, Wall,
};

/// Small segments, so that a test crosses many.
pub(crate) const SETTINGS: Settings = Settings {
    segment_bytes: 64 << 10,
};

pub(crate) fn identity() -> Identity {
    Identity {
        fabric: "quickstart".into(),
        node: "a".into(),
        fresh: Incarnation(0x1234_5678_9abc_def0),
    }
}

pub(crate) fn open<D: Disk>(disk: &D) -> Result<(Journal<D>, Vec<JournalItem>), StoreError> {
    open_as(disk, &identity(), SETTINGS)
}

/// Opens the journal of a node and reads all that it holds, in whatever segments it stands.
pub(crate) fn open_as<D: Disk>(
    disk: &D,
    identity: &Identity,
    settings: Settings,
) -> Result<(Journal<D>, Vec<JournalItem>), StoreError> {
    let mut all = Vec::new();
    let journal = Journal::open(disk.clone(), identity, settings, &mut |found| {
        all.push(found);
        Ok(())
    })?;
    let reader = journal.reader();
    let mut items = Vec::new();
    for found in all {
        match found {
            Found::Item(item) => items.push(item),
            Found::Covered(covered) => items.extend(read(&reader, covered)?),
        }
    }
    Ok((journal, items))
}

/// Reads entries that the journal only told of, but those that were withdrawn later.
fn read<D: Disk>(
    reader: &Reader<D>,
    covered: CoveredEntries,
) -> Result<Vec<JournalItem>, StoreError> {
    let partition = covered.partition;
    let mut entries = reader.load(&LoadRequest {
        id: 0,
        partition: partition.clone(),
        from: LoadFrom::Index(covered.first_index),
        index_end: covered.end_index,
        bytes_max: u64::MAX,
    })?;
    entries.retain(|entry| entry.term == covered.term);
    let item = |entry| JournalItem::Entry {
        partition: partition.clone(),
        entry,
    };
    Ok(entries.into_iter().map(item).collect())
}

pub(crate) fn partition(number: u32) -> Partition {
    Partition::new(&"orders".into(), number)
}

/// What the logs hold, by the rules that `JournalItem` states.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Model {
    logs: BTreeMap<Partition, BTreeMap<u64, LogEntry>>,
}

impl Model {
    pub(crate) fn of(items: &[JournalItem]) -> Self {
        let mut model = Self::default();
        items.iter().for_each(|item| model.take(item));
        model
    }

    pub(crate) fn take(&mut self, item: &JournalItem) {
        if let JournalItem::Entry { partition, entry } = item {
            let log = self.logs.entry(partition.clone()).or_default();
            log.split_off(&entry.index);
            log.insert(entry.index, entry.clone());
        }
    }

    pub(crate) fn log(&self, partition: &Partition) -> Vec<LogEntry> {
        let log = self.logs.get(partition);
        log.map(|log| log.values().cloned().collect())
            .unwrap_or_default()
    }

    pub(crate) fn load(&self, request: &LoadRequest) -> Vec<LogEntry> {
        let log = self.log(&request.partition);
        let first = log.iter().position(|entry| match request.from {
            LoadFrom::Index(index) => entry.index == index,
            LoadFrom::Offset(offset) => {
                let end = entry.first_offset + u64::from(entry.count);
                (entry.first_offset..end).contains(&offset)
            }
            LoadFrom::Time(time) => entry.kind == EntryKind::Records && entry.time >= time,
        });
        let mut loaded: Vec<LogEntry> = Vec::new();
        let mut bytes = 0;
        for entry in log.into_iter().skip(first.unwrap_or(usize::MAX)) {
            bytes += entry.data.len() as u64;
            let full = bytes > request.bytes_max && !loaded.is_empty();
            if full || entry.index >= request.index_end {
                break;
            }
            loaded.push(entry);
        }
        loaded
    }
}

/// Draws commits such as a node writes: appends to several logs, some of which withdraw entries,
/// hard states and foundings.
#[derive(Debug)]
pub(crate) struct Work {
    rng: ChaCha8Rng,
    pub(crate) model: Model,
    /// All items drawn, by commit.
    pub(crate) commits: Vec<Vec<JournalItem>>,
    term: u64,
    data_max: usize,
}

impl Work {
    pub(crate) fn new(seed: u64, data_max: usize) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            model: Model::default(),
            commits: Vec::new(),
            term: 1,
            data_max,
        }
    }

    pub(crate) fn commit(&mut self) -> Vec<JournalItem> {
        let mut items = Vec::new();
        for _ in 0..self.rng.gen_range(1..=4) {
            let partition = partition(self.rng.gen_range(0..3));
            match self.rng.gen_range(0..10) {
                0 => items.push(JournalItem::HardState {
                    partition,
                    term: self.term,
                    vote: self.rng.r#gen(),
                    commit: self.rng.gen_range(0..100),
                }),
                1 => items.push(JournalItem::Founding {
                    partition,
                    record: self.bytes(200),
                }),
                _ => self.append(&partition, &mut items),
            }
        }
        self.commits.push(items.clone());
        items
    }

    fn append(&mut self, partition: &Partition, items: &mut Vec<JournalItem>) {
        let log = self.model.logs.entry(partition.clone()).or_default();
        let mut last = log.last_key_value().map(|(_, entry)| entry.clone());
        if self.rng.gen_bool(0.15) {
            self.term += 1;
            let keep = log.len() - self.rng.gen_range(0..=log.len().min(40));
            last = log.get(&(keep as u64)).cloned();
        }
        for _ in 0..self.rng.gen_range(1..=3) {
            let blank = self.rng.gen_bool(0.2);
            let entry = LogEntry {
                term: self.term,
                index: last.as_ref().map_or(1, |entry| entry.index + 1),
                kind: [EntryKind::Records, EntryKind::Blank][usize::from(blank)],
                first_offset: last
                    .as_ref()
                    .map_or(0, |e| e.first_offset + u64::from(e.count)),
                count: if blank { 0 } else { self.rng.gen_range(1..5) },
                time: Wall(last.as_ref().map_or(0, |e| e.time.0) + self.rng.gen_range(0..3)),
                data: if blank {
                    Bytes::new()
                } else {
                    self.bytes(self.data_max)
                },
            };
            last = Some(entry.clone());
            let item = JournalItem::Entry {
                partition: partition.clone(),
                entry,
            };
            self.model.take(&item);
            items.push(item);
        }
    }

    fn bytes(&mut self, max: usize) -> Bytes {
        let mut bytes = vec![0; self.rng.gen_range(0..=max)];
        self.rng.fill(&mut bytes[..]);
        bytes.into()
    }

    /// Begins again after the first `commits` commits: the others are lost.
    pub(crate) fn forget_after(&mut self, commits: usize) {
        self.commits.truncate(commits);
        self.model = Model::of(&self.items(commits));
    }

    /// The items of the first `commits` commits.
    pub(crate) fn items(&self, commits: usize) -> Vec<JournalItem> {
        self.commits[..commits].concat()
    }
}

/// Every way to read `partition`, each as the model says.
pub(crate) fn assert_loads<D: Disk>(journal: &Journal<D>, model: &Model) {
    let reader = journal.reader();
    for number in 0..3 {
        let partition = partition(number);
        let log = model.log(&partition);
        let indices = log.iter().map(|entry| LoadFrom::Index(entry.index));
        let offsets = log.iter().flat_map(|entry| {
            let last = entry.first_offset + u64::from(entry.count);
            [LoadFrom::Offset(entry.first_offset), LoadFrom::Offset(last)]
        });
        let times = log.iter().flat_map(|entry| {
            let time = entry.time.0;
            [LoadFrom::Time(Wall(time)), LoadFrom::Time(Wall(time + 1))]
        });
        let beyond = [LoadFrom::Index(0), LoadFrom::Index(1 << 40)];
        for (at, from) in indices
            .chain(offsets)
            .chain(times)
            .chain(beyond)
            .enumerate()
        {
            let request = LoadRequest {
                id: 1,
                partition: partition.clone(),
                from,
                index_end: [u64::MAX, 20, 60][at % 3],
                bytes_max: [0, 1_000, 20_000][at / 3 % 3],
            };
            let loaded = reader.load(&request).expect("a load");
            assert_eq!(loaded, model.load(&request), "{request:?}");
        }
        let all = LoadRequest {
            id: 1,
            partition: partition.clone(),
            from: LoadFrom::Index(1),
            index_end: u64::MAX,
            bytes_max: u64::MAX,
        };
        assert_eq!(reader.load(&all).expect("a load"), log);
    }
}
