//! Damage is found by a scrub, wherever it is, and a damaged segment is made whole with what other
//! replicas hold: nothing else in it is lost, wherever the power goes meanwhile, and nothing that
//! was withdrawn comes back.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use weft::store::{
    Disk, DiskFile, Journal, Reader, RealDisk, Scrub, Scrubbed, SimDisk, StoreError, examine,
    item_bytes,
};
use weft::types::{DamagedSegment, JournalItem, LogEntry, LostEntries, Partition};

use super::{FIRST, PAGE, commit, entry};
use crate::journal_kit::{Model, Work, assert_loads, open, partition};

/// One scrub of everything: how much damage it found.
fn scrub<D: Disk>(reader: &Reader<D>) -> usize {
    let (mut scrub, mut found) = (Scrub::default(), 0);
    loop {
        match reader.scrub(&mut scrub, 10_000).expect("a readable disk") {
            Scrubbed::Part => {}
            Scrubbed::Damage(_) => found += 1,
            Scrubbed::All => return found,
        }
    }
}

/// What another replica holds of what is lost.
fn found(lost: &[LostEntries], model: &Model) -> Vec<(Partition, LogEntry)> {
    let mut found = Vec::new();
    for lost in lost {
        let mut log = model.log(&lost.partition);
        log.retain(|entry| (lost.first_index..lost.end_index).contains(&entry.index));
        found.extend(log.into_iter().map(|entry| (lost.partition.clone(), entry)));
    }
    found
}

/// Mends all that was found damaged; how many entries were lost.
fn mend<D: Disk>(journal: &mut Journal<D>, model: &Model) -> usize {
    let reader = journal.reader();
    assert_eq!(reader.wants_seal(), journal.seal_damaged().expect("a seal"));
    let mut lost = 0;
    for damaged in reader.damage().expect("a readable disk") {
        let entries = found(&damaged.lost, model);
        lost += entries.len();
        assert_eq!(reader.mend(damaged.segment, &entries), Ok(true));
    }
    assert_eq!(reader.damage(), Ok(Vec::new()));
    lost
}

/// A journal of some segments, and what is in it.
fn filled(disk: &SimDisk, seed: u64, commits: usize) -> (Journal<SimDisk>, Work) {
    let (mut journal, _) = open(disk).expect("a journal");
    let mut work = Work::new(seed, 3_000);
    for _ in 0..commits {
        commit(&mut journal, &work.commit());
    }
    (journal, work)
}

fn segments(disk: &SimDisk) -> Vec<String> {
    let mut names = disk.list().expect("a list");
    names.retain(|name| name.ends_with(".seg"));
    names
}

fn bytes(disk: &SimDisk, name: &str) -> u64 {
    let file = disk.open(name).expect("a file");
    file.bytes().expect("a length")
}

/// The newest of what is not an entry.
fn others(items: &[JournalItem]) -> BTreeMap<(Partition, u8), JournalItem> {
    let mut newest = BTreeMap::new();
    for item in items {
        let kind = match item {
            JournalItem::Founding { .. } => 0,
            JournalItem::HardState { .. } => 1,
            _ => continue,
        };
        newest.insert((item.partition().clone(), kind), item.clone());
    }
    newest
}

#[test]
fn promise_1_what_a_disk_lost_stands_where_it_stood_again() {
    let (mut harmful, mut lost) = (0, 0);
    for seed in 0..30 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let disk = SimDisk::new(seed);
        let (mut journal, work) = filled(&disk, seed, 60);
        let names = segments(&disk);
        // Anywhere, but in the newest commit, which looks torn when it is opened.
        let name = &names[rng.gen_range(0..names.len() - 1)];
        for _ in 0..rng.gen_range(1..6) {
            let at = rng.gen_range(0..bytes(&disk, name));
            let count = if rng.gen_bool(0.3) { PAGE } else { 1 };
            let end = (at + count).min(bytes(&disk, name));
            (at..end).for_each(|byte| disk.flip_bit(name, byte * 8));
        }
        harmful += scrub(&journal.reader());
        lost += mend(&mut journal, &work.model);
        assert_eq!(scrub(&journal.reader()), 0, "seed {seed}");
        assert_loads(&journal, &work.model);
        drop(journal);
        let examined = examine(&disk, &mut |_, _, _| {}).expect("an examination");
        assert_eq!(examined.damage, [], "seed {seed}");
        let (mut journal, items) = open(&disk).expect("it opens");
        let written = work.items(work.commits.len());
        assert_eq!(Model::of(&items), work.model, "seed {seed}");
        assert_eq!(others(&items), others(&written), "seed {seed}");
        assert_loads(&journal, &work.model);
        commit(&mut journal, &[]);
    }
    assert!(
        harmful > 20 && lost > 30,
        "{harmful} segments, {lost} entries"
    );
}

#[test]
fn damage_in_the_newest_segment_seals_it() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).expect("a journal");
    let mut model = Model::default();
    for index in 1..=5 {
        let items = [entry(1, index, vec![index as u8; 2_000])];
        commit(&mut journal, &items);
        model.take(&items[0]);
    }
    disk.flip_bit(FIRST, (2 * PAGE + 500) * 8);
    let reader = journal.reader();
    assert_eq!(scrub(&reader), 1);
    // It is still written to.
    assert!(reader.wants_seal());
    assert_eq!(reader.damage(), Ok(Vec::new()));
    let six = [entry(1, 6, vec![6; 2_000])];
    journal.write(&six).expect("a write");
    model.take(&six[0]);
    assert_eq!(journal.seal_damaged(), Ok(true));
    assert_eq!(journal.seal_damaged(), Ok(false));
    let lost = LostEntries {
        partition: partition(0),
        first_index: 2,
        end_index: 3,
    };
    let damaged = DamagedSegment {
        segment: 1,
        lost: vec![lost],
    };
    assert_eq!(reader.damage(), Ok(vec![damaged]));
    // Without what was lost, or with something else, it stays as it is.
    let third = found(
        &[LostEntries {
            partition: partition(0),
            first_index: 3,
            end_index: 4,
        }],
        &model,
    );
    for entries in [Vec::new(), third] {
        let refused = reader.mend(1, &entries).expect_err("entry 2 is lost");
        assert!(
            refused.to_string().contains("entry 2 of orders/0 is lost"),
            "{refused}"
        );
        assert!(disk.open("kept.tmp").is_err());
    }
    assert_eq!(mend(&mut journal, &model), 1);
    assert_loads(&journal, &model);
    // There is no such segment any more, or it was never damaged.
    assert_eq!(reader.mend(1, &[]), Ok(true));
    assert_eq!(reader.mend(99, &[]), Ok(true));
}

#[test]
fn whoever_reads_what_is_damaged_has_it_mended() {
    let disk = SimDisk::new(3);
    let (mut journal, work) = filled(&disk, 3, 40);
    disk.flip_bit(FIRST, (PAGE + 200) * 8);
    let reader = journal.reader();
    let mut failed = 0;
    for number in 0..3 {
        let all = weft::types::LoadRequest {
            partition: partition(number),
            ..super::request(weft::types::LoadFrom::Index(1))
        };
        failed += usize::from(reader.load(&all).is_err());
    }
    assert_eq!(failed, 1);
    assert_eq!(mend(&mut journal, &work.model), 1);
    assert_loads(&journal, &work.model);
}

#[test]
fn promise_1_what_was_withdrawn_does_not_come_back_with_a_lost_footer() {
    let disk = SimDisk::new(4);
    let (mut journal, _) = open(&disk).expect("a journal");
    let mut model = Model::default();
    let mut write = |journal: &mut Journal<SimDisk>, items: &[JournalItem]| {
        commit(journal, items);
        items.iter().for_each(|item| model.take(item));
    };
    let of = |term, index: u64| entry(term, index, vec![term as u8; 1_500]);
    write(&mut journal, &[of(1, 1), of(1, 2)]);
    write(&mut journal, &[of(1, 3), of(1, 4)]);
    // On this commit's first page; it withdraws all of the one before.
    write(&mut journal, &[of(2, 3)]);
    write(&mut journal, &[of(2, 4)]);
    for index in 5..60 {
        write(&mut journal, &[of(2, index)]);
    }
    let file = disk.open(FIRST).expect("the first segment");
    let (mut page, mut commits) = (vec![0; PAGE as usize], Vec::new());
    let end = bytes(&disk, FIRST);
    for position in (0..end).step_by(PAGE as usize) {
        file.read_at(&mut page, position).expect("a read");
        if page.starts_with(b"wcom") {
            commits.push(position);
        } else if page.starts_with(b"wftr") {
            disk.flip_bit(FIRST, (position + 70) * 8);
        }
    }
    disk.flip_bit(FIRST, (commits[2] + 70) * 8);
    let reader = journal.reader();
    assert_eq!(scrub(&reader), 1);
    let damaged = reader.damage().expect("a readable disk");
    // What stood before the damage may have been withdrawn by what cannot be read.
    let lost: Vec<(u64, u64)> = damaged[0]
        .lost
        .iter()
        .map(|l| (l.first_index, l.end_index))
        .collect();
    assert_eq!(lost, [(1, 4)]);
    assert_eq!(mend(&mut journal, &model), 3);
    assert_loads(&journal, &model);
}

#[test]
fn a_damaged_base_is_written_anew() {
    let disk = SimDisk::new(5);
    let (journal, work) = filled(&disk, 5, 60);
    let reader = journal.reader();
    reader.recycle().expect("a healthy disk");
    let sound = bytes(&disk, "base");
    disk.flip_bit("base", 100 * 8);
    drop((journal, reader));
    assert!(matches!(open(&disk), Err(StoreError::Damaged { .. })));
    disk.flip_bit("base", 100 * 8);
    let (journal, _) = open(&disk).expect("it opens");
    disk.flip_bit("base", 100 * 8);
    assert_eq!(scrub(&journal.reader()), 0);
    assert_eq!(bytes(&disk, "base"), sound);
    drop(journal);
    let (_, items) = open(&disk).expect("it opens");
    assert_eq!(Model::of(&items), work.model);
}

#[test]
fn promise_1_wherever_the_power_goes_a_segment_is_damaged_or_whole() {
    let (mut whole, mut damaged) = (0, 0);
    for changes in 0..40 {
        let disk = SimDisk::new(changes);
        let (mut journal, work) = filled(&disk, 7, 60);
        // The base knows of the first segment, which need not be read to open the journal.
        journal.reader().recycle().expect("a healthy disk");
        disk.flip_bit(FIRST, (PAGE + 200) * 8);
        let reader = journal.reader();
        assert_eq!(scrub(&reader), 1);
        let lost = reader.damage().expect("a readable disk");
        let entries = found(&lost[0].lost, &work.model);
        disk.cut_power_after(changes);
        let mended = reader.mend(1, &entries);
        drop((journal, reader));
        disk.crash();
        match open(&disk) {
            Ok((opened, items)) => {
                assert_eq!(Model::of(&items), work.model, "after {changes}");
                journal = opened;
                assert_eq!(scrub(&journal.reader()), 0, "after {changes}");
                whole += 1;
            }
            Err(error) => {
                assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
                assert!(mended.is_err(), "after {changes}: {error}");
                damaged += 1;
            }
        }
    }
    assert!(
        whole > 10 && damaged > 4,
        "{whole} whole, {damaged} damaged"
    );
}

#[test]
fn a_scrub_goes_on_while_segments_come_and_go() {
    let disk = SimDisk::new(8);
    let (mut journal, mut work) = filled(&disk, 8, 10);
    let reader = journal.reader();
    let (mut state, mut passes) = (Scrub::default(), 0);
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for _ in 0..300 {
        match rng.gen_range(0..4) {
            0 => commit(&mut journal, &work.commit()),
            1 => drop(reader.compact().expect("a healthy disk")),
            _ => match reader.scrub(&mut state, rng.gen_range(0..30_000)) {
                Ok(Scrubbed::All) => passes += 1,
                Ok(Scrubbed::Part) => {}
                other => panic!("{other:?}"),
            },
        }
    }
    assert!(passes > 3, "{passes}");
}

/// What this thread had a disk read.
fn read_from_disk() -> u64 {
    let told = std::fs::read_to_string("/proc/thread-self/io").expect("Linux tells it");
    let bytes = told
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes: "));
    bytes.expect("it tells that").parse().expect("a number")
}

// A disk that lost what the system still remembers would go unnoticed until nobody has it any more.
#[test]
fn a_scrub_asks_the_disk_and_not_the_cache() {
    // Not in a temporary folder, which may be memory.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let disk = RealDisk::open(folder.path().join("data")).expect("a folder");
    let (mut journal, _) = open(&disk).expect("a journal");
    let mut work = Work::new(3, 3_000);
    for _ in 0..60 {
        commit(&mut journal, &work.commit());
    }
    let bytes: u64 = work.commits.iter().flatten().map(item_bytes).sum();
    let before = read_from_disk();
    assert_loads(&journal, &work.model);
    assert_eq!(read_from_disk(), before, "all of it is in the cache");
    assert_eq!(scrub(&journal.reader()), 0);
    assert!(read_from_disk() >= before + bytes);
}
