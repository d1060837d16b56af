//! Sealed segments are written anew with only what is still needed of them: space comes back though
//! one log keeps everything, nothing that is kept is lost, wherever the power goes meanwhile, and
//! nothing that was withdrawn comes back.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weft::store::{Disk, DiskFile, Journal, Reader, SimDisk, StoreError, examine};
use weft::types::{Checkpoint, EntryKind, JournalItem, LoadFrom, LogEntry, Partition, Wall};

use super::{commit, real_disk, request};
use crate::interposed::Interposed;
use crate::journal_kit::{Model, SETTINGS, open, partition};

/// What recovery must give back of a partition: its entries from the first that must stay on, and
/// the newest of its other items.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Kept {
    entries: Vec<LogEntry>,
    founding: Option<JournalItem>,
    checkpoint: Option<JournalItem>,
    hard_state: Option<JournalItem>,
}

/// The same of all partitions, by the rules that `JournalItem` states.
fn kept(items: &[JournalItem]) -> BTreeMap<Partition, Kept> {
    let mut all: BTreeMap<Partition, Kept> = BTreeMap::new();
    for item in items {
        let of = all.entry(item.partition().clone()).or_default();
        match item {
            JournalItem::Founding { .. } => of.founding = Some(item.clone()),
            JournalItem::HardState { .. } => of.hard_state = Some(item.clone()),
            JournalItem::Checkpoint { .. } => of.checkpoint = Some(item.clone()),
            // Their part of the rules has tests of its own.
            JournalItem::Snapshot { .. } => unreachable!("nothing begins anew here"),
            JournalItem::Entry { .. } => {}
        }
    }
    let model = Model::of(items);
    for (partition, of) in &mut all {
        let from = match &of.checkpoint {
            Some(JournalItem::Checkpoint { checkpoint, .. }) => checkpoint.keep_from,
            _ => 0,
        };
        of.entries = model.log(partition);
        of.entries.retain(|entry| entry.index >= from);
    }
    all
}

fn item(number: u32, term: u64, index: u64, data: Vec<u8>) -> JournalItem {
    JournalItem::Entry {
        partition: partition(number),
        entry: LogEntry {
            term,
            index,
            kind: EntryKind::Records,
            first_offset: index - 1,
            count: 1,
            time: Wall(index),
            data: data.into(),
        },
    }
}

fn founding(number: u32) -> JournalItem {
    JournalItem::Founding {
        partition: partition(number),
        record: Bytes::from(format!("founding of {number}")),
    }
}

fn hard_state(number: u32, term: u64, commit: u64) -> JournalItem {
    JournalItem::HardState {
        partition: partition(number),
        term,
        vote: 7,
        commit,
    }
}

fn checkpoint(number: u32, term: u64, index: u64, keep_from: u64) -> JournalItem {
    JournalItem::Checkpoint {
        partition: partition(number),
        checkpoint: Checkpoint {
            index,
            term,
            next_offset: index,
            time: Wall(index),
            keep_from,
            before_term: term,
            before_offset: keep_from - 1,
            before_time: Wall(keep_from - 1),
            state: Bytes::from(format!("what {index} led to")),
        },
    }
}

/// Until there is nothing more to give back; how often it gave back something.
fn compact<D: Disk>(reader: &Reader<D>) -> Result<u64, StoreError> {
    for round in 0..1_000 {
        if reader.compact()?.is_none() {
            return Ok(round);
        }
    }
    panic!("it never ends");
}

/// Partition 0 is busy and keeps little; 1 is quiet and keeps everything, as does 2, which is in
/// the first segment alone, as one that the topology no longer names.
fn fill<D: Disk>(journal: &mut Journal<D>, entries: u64) -> Result<Vec<JournalItem>, StoreError> {
    let mut commits = vec![vec![founding(0), founding(1), founding(2)]];
    commits.push(vec![item(2, 1, 1, vec![2; 900]), hard_state(2, 3, 1)]);
    for index in 1..=entries {
        let data = vec![index as u8; 6_000];
        let mut items = vec![item(0, 1, index, data), hard_state(0, 1, index - 1)];
        if index % 5 == 1 {
            items.push(item(1, 1, 1 + index / 5, vec![1; 300]));
        }
        commits.push(items);
    }
    commits.push(vec![checkpoint(0, 1, entries - 2, entries - 4)]);
    for items in &commits {
        journal.write(items)?;
        journal.sync()?;
    }
    Ok(commits.concat())
}

#[test]
fn space_comes_back_though_one_log_keeps_everything() {
    let (_folder, real) = real_disk();
    let simulated = SimDisk::new(3);
    gives_back(&simulated);
    gives_back(&real);
}

fn gives_back<D: Disk>(disk: &D) {
    let (mut journal, _) = open(disk).expect("an empty disk");
    let written = fill(&mut journal, 200).expect("a healthy disk");
    let reader = journal.reader();
    let before = journal.bytes();
    assert_eq!(reader.recycle(), Ok(0), "the first segment is needed");
    compact(&reader).expect("a healthy disk");
    assert!(journal.bytes() * 6 < before, "{} bytes", journal.bytes());
    let segments = disk.list().expect("a list");
    let segments = segments.iter().filter(|name| name.ends_with(".seg"));
    assert!(segments.count() <= 4, "{:?}", disk.list());
    assert_read(&journal, &written, "compacted");
    drop((journal, reader));
    let examined = examine(disk, &mut |_, _, _| {}).expect("a journal");
    assert_eq!(examined.damage, []);
    assert!(examined.segments.iter().any(|one| one.stands_for > 20));
    let (mut journal, items) = open(disk).expect("a journal");
    assert_eq!(kept(&items), kept(&written));
    assert_read(&journal, &written, "compacted");
    assert_eq!(journal.reader().compact(), Ok(None));
    commit(&mut journal, &[item(1, 1, 41, vec![4; 9])]);
    drop(journal);
    let (_, items) = open(disk).expect("it went on");
    assert_eq!(items.last(), Some(&item(1, 1, 41, vec![4; 9])));
}

#[test]
fn power_that_goes_meanwhile_takes_nothing_along() {
    let disk = SimDisk::new(0);
    let (mut journal, _) = open(&disk).expect("an empty disk");
    let written = fill(&mut journal, 60).expect("a healthy disk");
    let before = disk.changes();
    compact(&journal.reader()).expect("a healthy disk");
    let steps = disk.changes() - before;
    assert!(steps > 15, "{steps} changes");
    for cut in 0..steps {
        let context = format!("power cut at change {cut}");
        let disk = SimDisk::new(cut);
        let (mut journal, _) = open(&disk).expect("an empty disk");
        fill(&mut journal, 60).expect("a healthy disk");
        disk.cut_power_after(cut);
        compact(&journal.reader()).expect_err("the power was cut");
        drop(journal);
        disk.crash();
        for again in 0..3 {
            // What the first opening was about to clear away may be cut short too.
            disk.cut_power_after(again);
            let _ = open(&disk).is_ok();
            disk.crash();
        }
        let examined = examine(&disk, &mut |_, _, _| {}).expect("a journal");
        assert_eq!(examined.damage, [], "{context}");
        let (mut journal, items) = open(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_eq!(kept(&items), kept(&written), "{context}");
        compact(&journal.reader()).expect("a healthy disk");
        commit(&mut journal, &[item(0, 1, 61, vec![1; 9])]);
    }
}

#[test]
fn a_read_under_way_gives_what_it_would_have_given() {
    let disk = Interposed::new(SimDisk::new(1));
    let (mut journal, _) = open(&disk).expect("a journal");
    let written = fill(&mut journal, 100).expect("a healthy disk");
    let reader = journal.reader();
    let mut all = request(LoadFrom::Index(1));
    all.partition = partition(1);
    // Once before anything was read, once when it knows where its entries are.
    for round in 0..2 {
        let beside = journal.reader();
        disk.on_next_open(move || {
            compact(&beside).expect("a healthy disk");
        });
        let read = reader.load(&all).expect("a read");
        assert_eq!(read, kept(&written)[&partition(1)].entries);
        // More to give back for the second time.
        if round == 0 {
            for index in 101..=130 {
                commit(&mut journal, &[item(0, 1, index, vec![3; 6_000])]);
            }
            commit(&mut journal, &[checkpoint(0, 1, 130, 131)]);
        }
    }
}

/// Partition 0 had entries that another leader's replaced; all that is left of these is in a
/// segment that is written anew, and what they replaced in one that is not.
#[test]
fn what_was_withdrawn_stays_withdrawn() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).expect("a journal");
    let mut written = vec![
        founding(0),
        founding(1),
        item(1, 1, 1, vec![1; 40_000]),
        item(0, 1, 1, vec![1; 10]),
        item(0, 1, 2, vec![1; 10]),
        item(0, 1, 3, vec![1; 10]),
    ];
    let mut parts = vec![written.clone()];
    parts.push(vec![item(0, 2, 2, vec![2; 20_000]), hard_state(0, 2, 2)]);
    parts.push(vec![checkpoint(0, 2, 2, 3), item(1, 1, 2, vec![1; 30_000])]);
    parts.push(vec![item(1, 1, 3, vec![1; 45_000])]);
    parts.iter().for_each(|items| commit(&mut journal, items));
    written = parts.concat();
    for _ in 0..3 {
        let _ = journal.reader().recycle().expect("a healthy disk");
        compact(&journal.reader()).expect("a healthy disk");
        drop(journal);
        disk.crash();
        let (again, items) = open(&disk).expect("a journal");
        assert_eq!(kept(&items), kept(&written));
        journal = again;
        assert_eq!(
            journal.write(&[item(0, 2, 4, vec![])]),
            Err(StoreError::Gap {
                partition: partition(0),
                index: 4,
                expected: 3
            })
        );
    }
}

/// Random logs that grow, are withdrawn, committed and let go of, with everything that gives space
/// back at random moments, and starts in between.
#[test]
fn whatever_happens_nothing_kept_is_lost() {
    let (mut rewritten, mut gone) = (0, 0);
    for seed in 0..40 {
        let mut dice = ChaCha8Rng::seed_from_u64(seed);
        let disk = SimDisk::new(seed);
        let (mut journal, _) = open(&disk).expect("a journal");
        let mut logs = [Random::default(); 3];
        let mut written: Vec<JournalItem> = (0..3).map(founding).collect();
        commit(&mut journal, &written);
        // The last keeps everything in half of the runs.
        let bounded = 2 + seed % 2;
        for round in 0..150 {
            let number = dice.gen_range(0..3_usize);
            let items = logs[number].next(number as u32, (number as u64) < bounded, &mut dice);
            commit(&mut journal, &items);
            written.extend(items);
            match dice.gen_range(0..40) {
                0..4 => rewritten += compact(&journal.reader()).expect("a healthy disk"),
                4..6 => gone += journal.reader().recycle().expect("a healthy disk"),
                6 => {
                    drop(journal);
                    disk.crash();
                    let (again, items) =
                        open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                    assert_eq!(kept(&items), kept(&written), "seed {seed}");
                    journal = again;
                }
                _ => {}
            }
            if round % 10 == 0 {
                assert_read(&journal, &written, &format!("seed {seed}, round {round}"));
            }
        }
        drop(journal);
        let examined = examine(&disk, &mut |_, _, _| {}).expect("a journal");
        assert_eq!(examined.damage, [], "seed {seed}");
    }
    assert!(rewritten > 100 && gone > 20, "{rewritten} {gone}");
}

/// Everything that is kept is read.
fn assert_read<D: Disk>(journal: &Journal<D>, written: &[JournalItem], context: &str) {
    let kept = kept(written).into_iter();
    for (of, kept) in kept.filter(|(_, kept)| !kept.entries.is_empty()) {
        for from in [
            LoadFrom::Index(kept.entries[0].index),
            LoadFrom::Time(kept.entries[0].time),
        ] {
            let mut all = request(from);
            all.partition = of.clone();
            let read = journal.reader().load(&all).expect("a read");
            assert_eq!(read, kept.entries, "{context}");
        }
    }
}

/// A log by its last index, what is committed, and what it keeps.
#[derive(Debug, Clone, Copy, Default)]
struct Random {
    term: u64,
    last: u64,
    committed: u64,
    keep_from: u64,
}

impl Random {
    fn next(&mut self, number: u32, bounded: bool, dice: &mut ChaCha8Rng) -> Vec<JournalItem> {
        if dice.gen_bool(0.2) {
            // Another leader's entries take the place of those not committed.
            self.term += 1;
            self.last = dice.gen_range(self.committed..=self.last);
        }
        let mut items = Vec::new();
        for _ in 0..dice.gen_range(1..4) {
            self.last += 1;
            let most = [500, 9_000][usize::from(dice.gen_bool(0.5))];
            let bytes = dice.gen_range(0..most);
            let data = vec![self.term as u8; bytes];
            items.push(item(number, self.term, self.last, data));
        }
        if dice.gen_bool(0.5) {
            self.committed = dice.gen_range(self.committed..=self.last);
            items.push(hard_state(number, self.term, self.committed));
        }
        if dice.gen_bool(0.3) && bounded && self.committed > 0 {
            self.keep_from = dice.gen_range(self.keep_from..=self.committed + 1);
            let kept = self.keep_from.max(1);
            items.push(checkpoint(number, self.term, self.committed, kept));
        }
        items
    }
}

#[test]
fn many_small_ones_become_a_few() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).expect("a journal");
    commit(&mut journal, &[founding(0), founding(1)]);
    // Each segment holds a little that stays, and is written anew alone as soon as it is sealed.
    for index in 1..=300 {
        let data = vec![0; 20_000];
        commit(
            &mut journal,
            &[item(0, 1, index, data), item(1, 1, index, vec![1; 1_000])],
        );
        commit(&mut journal, &[checkpoint(0, 1, index, index + 1)]);
        compact(&journal.reader()).expect("a healthy disk");
        let segments = disk.list().expect("a list").len() as u64;
        // What stays would fill so many.
        let full = index * 1_000 / SETTINGS.segment_bytes;
        assert!(segments <= 8 + 3 * full, "{segments} after {index}");
        let most = 2 * (index * 1_000 + 2 * SETTINGS.segment_bytes);
        assert!(journal.bytes() <= most, "{} after {index}", journal.bytes());
    }
}

#[test]
fn what_cannot_be_read_is_left_as_it_is() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).expect("a journal");
    fill(&mut journal, 40).expect("a healthy disk");
    // In the first entry of the partition that is in the first segment alone.
    disk.flip_bit(super::FIRST, (2 * super::PAGE + 300) * 8);
    let reader = journal.reader();
    let error = reader.compact().expect_err("it is damaged");
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert!(disk.open("kept.tmp").is_err());
    disk.flip_bit(super::FIRST, (2 * super::PAGE + 300) * 8);
    // The others are written anew all the same; a full disk is left alone.
    disk.set_capacity(Some(300 << 10));
    assert_eq!(reader.compact(), Ok(None));
    disk.set_capacity(None);
    assert!(compact(&reader).expect("a healthy disk") > 0);
    let first = disk.open(super::FIRST).expect("the first segment");
    assert!(first.bytes().expect("a length") > 40_000);
}
