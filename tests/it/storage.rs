//! The journal at rest: reads, withdrawals, damage, foreign and hostile folders, and the seam
//! `Disk`, on this machine's disk and on the simulated one.

mod compaction;
mod damage;
mod examined;
mod images;
mod mending;
mod recycling;

use std::io;

use bytes::Bytes;
use proptest::prelude::*;
use weft::store::{
    Disk, DiskFile, Identity, Journal, RealDisk, Settings, SimDisk, StoreError, commit_bytes_max,
    item_bytes,
};
use weft::types::{EntryKind, Incarnation, JournalItem, LoadFrom, LoadRequest, LogEntry, Wall};

use crate::interposed::Interposed;
use crate::journal_kit::{Model, SETTINGS, Work, assert_loads, identity, open, partition};

const FIRST: &str = "journal-0000000000000001.seg";
const PAGE: u64 = 4096;

fn real_disk() -> (tempfile::TempDir, RealDisk) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let disk = RealDisk::open(folder.path().join("data/a")).expect("a folder");
    (folder, disk)
}

fn entry(term: u64, index: u64, data: impl Into<Bytes>) -> JournalItem {
    JournalItem::Entry {
        partition: partition(0),
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

fn commit<D: Disk>(journal: &mut Journal<D>, items: &[JournalItem]) {
    journal.write(items).expect("a write");
    journal.sync().expect("a sync");
}

fn request(from: LoadFrom) -> LoadRequest {
    LoadRequest {
        id: 1,
        partition: partition(0),
        from,
        index_end: u64::MAX,
        bytes_max: u64::MAX,
    }
}

fn disk_keeps_its_word<D: Disk>(disk: &D) {
    assert_eq!(disk.list().expect("a list"), Vec::<String>::new());
    assert_eq!(
        disk.open("b").expect_err("none").kind(),
        io::ErrorKind::NotFound
    );
    let file = disk.create("b").expect("a file");
    file.write_at(b"end", 5_000).expect("a write");
    file.write_at(b"start", 0).expect("a write");
    file.sync().expect("a sync");
    assert_eq!(file.bytes().expect("a length"), 5_003);
    let mut buffer = [7; 16];
    let read = file.read_at(&mut buffer, 4_992).expect("a read");
    assert_eq!((read, &buffer[..11]), (11, &b"\0\0\0\0\0\0\0\0end"[..]));
    assert_eq!(file.read_at(&mut buffer, 6_000).expect("a read"), 0);
    let clone = file.clone();
    clone.write_at(b"S", 0).expect("a write");
    file.read_at(&mut buffer[..5], 0).expect("a read");
    assert_eq!(&buffer[..5], b"Start");
    disk.create("a")
        .expect("a file")
        .write_at(b"old", 0)
        .expect("a write");
    disk.rename("b", "a").expect("a rename");
    disk.sync_dir().expect("a sync");
    assert_eq!(disk.list().expect("a list"), ["a"]);
    assert_eq!(
        disk.open("a").expect("a file").bytes().expect("a length"),
        5_003
    );
    assert_eq!(
        disk.rename("b", "c").expect_err("none").kind(),
        io::ErrorKind::NotFound
    );
    assert_eq!(
        disk.create("a")
            .expect("emptied")
            .bytes()
            .expect("a length"),
        0
    );
    disk.delete("a").expect("a deletion");
    assert_eq!(
        disk.delete("a").expect_err("none").kind(),
        io::ErrorKind::NotFound
    );
    let lock = disk.lock("lock").expect("a lock");
    let held = disk.clone().lock("lock").expect_err("held");
    assert_eq!(held.kind(), io::ErrorKind::WouldBlock);
    drop(lock);
    disk.lock("lock").expect("free again");
    assert!(disk.free_bytes().expect("free space") > 1 << 20);
}

fn journal_works_on<D: Disk>(disk: &D, seed: u64) {
    let mut work = Work::new(seed, 3_000);
    for _ in 0..3 {
        let (mut journal, items) = open(disk).expect("a journal");
        assert_eq!(items, work.items(work.commits.len()));
        for at in 0..40 {
            commit(&mut journal, &work.commit());
            if at % 10 == 0 {
                journal.reader().prepare_spare().expect("a spare");
            }
        }
        assert_loads(&journal, &work.model);
    }
    let (journal, _) = open(disk).expect("a journal");
    assert_eq!(journal.incarnation(), identity().fresh);
    assert_loads(&journal, &work.model);
    let segments = disk.list().expect("a list").len();
    assert!(
        segments > 6,
        "only {segments} files: too few to cross segments"
    );
}

#[test]
fn the_bytes_are_those_of_format_md() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).expect("a journal");
    let partition = partition(2);
    let record = Bytes::from_static(b"founded");
    let (term, vote, commit_index) = (3, 4, 5);
    let founding = JournalItem::Founding {
        partition: partition.clone(),
        record,
    };
    let state = JournalItem::HardState {
        partition: partition.clone(),
        term,
        vote,
        commit: commit_index,
    };
    commit(&mut journal, &[founding, state]);
    let entry = LogEntry {
        term,
        index: 1,
        kind: EntryKind::Records,
        first_offset: 0,
        count: 1,
        time: Wall(1_700_000_000_000),
        data: vec![b'x'; 5_000].into(),
    };
    commit(&mut journal, &[JournalItem::Entry { partition, entry }]);
    let read = |name: &str| {
        let file = disk.open(name).expect("a file");
        let mut bytes = vec![0; file.bytes().expect("a length") as usize];
        file.read_at(&mut bytes, 0).expect("a read");
        bytes
    };
    let page = include_str!("../../src/store/FORMAT.md");
    let text = String::from_utf8(read("identity")).expect("text");
    assert!(
        page.contains(&format!("```\n{text}```")),
        "FORMAT.md lacks {text}"
    );
    // Length and CRC-32 of the file as a few lines of Python make it from FORMAT.md.
    let segment = read(FIRST);
    assert_eq!(
        (segment.len(), crc32fast::hash(&segment)),
        (16384, 0x52a6_4243)
    );
}

#[test]
fn both_disks_keep_their_word() {
    disk_keeps_its_word(&SimDisk::new(1));
    disk_keeps_its_word(&real_disk().1);
}

#[test]
fn a_journal_works_on_both_disks() {
    journal_works_on(&SimDisk::new(1), 3);
    journal_works_on(&real_disk().1, 4);
}

#[test]
fn a_reader_never_mixes_what_was_withdrawn_with_what_replaced_it() {
    let disk = Interposed::new(SimDisk::new(1));
    let (mut journal, _) = open(&disk).expect("a journal");
    // Two to a segment, so that the load takes several pieces.
    for index in 1..=6 {
        commit(&mut journal, &[entry(1, index, vec![1; 20_000])]);
    }
    let reader = journal.reader();
    disk.on_next_open(move || {
        for index in 2..=6 {
            commit(&mut journal, &[entry(2, index, vec![2; 20_000])]);
        }
    });
    let log = reader.load(&request(LoadFrom::Index(1))).expect("a load");
    let terms: Vec<(u64, u64)> = log.iter().map(|entry| (entry.index, entry.term)).collect();
    assert_eq!(terms, [(1, 1), (2, 2), (3, 2), (4, 2), (5, 2), (6, 2)]);
}

#[test]
fn what_is_not_synced_is_not_read() {
    let (mut journal, _) = open(&SimDisk::new(1)).expect("a journal");
    let reader = journal.reader();
    journal.write(&[entry(1, 1, "x")]).expect("a write");
    assert_eq!(
        reader.load(&request(LoadFrom::Index(1))).expect("a load"),
        []
    );
    journal.sync().expect("a sync");
    assert_eq!(
        reader
            .load(&request(LoadFrom::Index(1)))
            .expect("a load")
            .len(),
        1
    );
}

#[test]
fn a_commit_that_cannot_be_is_refused_and_harms_nothing() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).expect("a journal");
    let limit = commit_bytes_max(&SETTINGS);
    let empty = item_bytes(&entry(1, 1, ""));
    let largest = entry(1, 1, vec![7; (limit - empty) as usize]);
    let larger = entry(1, 1, vec![7; (limit - empty) as usize + 1]);
    assert_eq!(
        journal.write(&[larger]),
        Err(StoreError::TooLarge {
            bytes: limit + 1,
            limit
        })
    );
    // Two in one segment do not fit; each finds its own.
    commit(&mut journal, std::slice::from_ref(&largest));
    commit(&mut journal, std::slice::from_ref(&largest));
    assert_eq!(
        journal.write(&[entry(1, 2, ""), entry(1, 4, "")]),
        Err(StoreError::Gap {
            partition: partition(0),
            index: 4,
            expected: 3
        })
    );
    commit(&mut journal, &[entry(1, 2, "still here")]);
    drop(journal);
    let (_, items) = open(&disk).expect("a journal");
    assert_eq!(items, [largest.clone(), largest, entry(1, 2, "still here")]);
    let used = disk.open(FIRST).expect("a file").bytes().expect("a length");
    assert!(used <= SETTINGS.segment_bytes, "{used}");
}

#[test]
fn a_spare_is_taken_and_a_full_disk_gets_none() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).expect("a journal");
    let reader = journal.reader();
    assert_eq!(reader.prepare_spare(), Ok(true));
    assert_eq!(reader.prepare_spare(), Ok(false), "there is one");
    let spare = disk.open("spare").expect("the spare");
    assert_eq!(spare.bytes().expect("a length"), SETTINGS.segment_bytes);
    for index in 1..=3 {
        commit(&mut journal, &[entry(1, index, vec![0; 30_000])]);
    }
    assert!(disk.open("spare").is_err(), "it became a segment");
    assert!(journal.wants_spare());
    disk.set_capacity(Some(200 << 10));
    assert_eq!(reader.prepare_spare(), Ok(false), "no room");
    disk.set_capacity(None);
    disk.fail_writes(1);
    reader.prepare_spare().expect_err("the write fails");
    assert_eq!(reader.prepare_spare(), Ok(true));
    commit(&mut journal, &[entry(1, 4, "the journal is well")]);
}

/// A sync into a file that grows costs twice, so the first segment of all, and one that was begun
/// when there was no room for a spare, gets no longer than it must.
#[test]
fn a_segment_that_grows_gives_way_to_the_first_spare() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).expect("a journal");
    let reader = journal.reader();
    let bytes = |name: &str| disk.open(name).expect("a file").bytes().expect("a length");
    commit(&mut journal, &[entry(1, 1, "grows")]);
    commit(&mut journal, &[entry(1, 2, "grows")]);
    assert!(journal.wants_spare());
    assert_eq!(reader.prepare_spare(), Ok(true));
    assert!(!journal.wants_spare());
    commit(&mut journal, &[entry(1, 3, "is given")]);
    let second = FIRST.replace("1.seg", "2.seg");
    assert!(bytes(FIRST) < SETTINGS.segment_bytes);
    assert_eq!(bytes(&second), SETTINGS.segment_bytes);
    assert!(!journal.wants_spare(), "it is not half full");
    drop((journal, reader));
    let (mut journal, items) = open(&disk).expect("a journal");
    assert_eq!(items.len(), 3);
    assert!(
        !journal.wants_spare(),
        "it does not grow after a start either"
    );
    commit(&mut journal, &[entry(1, 4, "is given")]);
    assert!(disk.open(&FIRST.replace("1.seg", "3.seg")).is_err());
}

#[test]
fn a_full_disk_fails_the_journal_for_good() {
    let disk = SimDisk::new(5);
    let (mut journal, _) = open(&disk).expect("a journal");
    commit(&mut journal, &[entry(1, 1, "kept")]);
    disk.set_capacity(Some(20_000));
    let error = journal
        .write(&[entry(1, 2, vec![9; 30_000])])
        .expect_err("no room");
    let StoreError::Disk { kind, file, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(*kind, io::ErrorKind::StorageFull);
    assert!(file.ends_with(FIRST), "{file}");
    disk.set_capacity(None);
    let failed = StoreError::Failed {
        cause: error.to_string(),
    };
    assert_eq!(journal.write(&[entry(1, 2, "x")]), Err(failed.clone()));
    assert_eq!(journal.sync(), Err(failed));
    assert_eq!(journal.failed(), Some(&*error.to_string()));
    assert_eq!(
        journal
            .reader()
            .load(&request(LoadFrom::Index(1)))
            .expect("a load")
            .len(),
        1
    );
    drop(journal);
    let (mut journal, items) = open(&disk).expect("a journal");
    assert_eq!(items, [entry(1, 1, "kept")]);
    commit(&mut journal, &[entry(1, 2, "x")]);
    assert_eq!(disk.counts().full, 1);
}

#[test]
fn a_failed_sync_fails_the_journal_for_good() {
    let disk = SimDisk::new(5);
    let (mut journal, _) = open(&disk).expect("a journal");
    journal.write(&[entry(1, 1, "x")]).expect("a write");
    disk.fail_syncs(1);
    let cause = journal.sync().expect_err("it fails").to_string();
    let failed = Err(StoreError::Failed { cause });
    assert_eq!(journal.sync(), failed);
    assert_eq!(journal.write(&[entry(1, 1, "x")]), failed);
    assert_eq!(
        journal
            .reader()
            .load(&request(LoadFrom::Index(1)))
            .expect("a load"),
        []
    );
}

fn open_as<D: Disk>(disk: &D, fabric: &str, node: &str) -> Result<(), StoreError> {
    let who = Identity {
        fabric: fabric.into(),
        node: node.into(),
        fresh: Incarnation(99),
    };
    Journal::open(disk.clone(), &who, SETTINGS, &mut |_| Ok(())).map(drop)
}

#[test]
fn a_folder_that_is_not_ours_is_left_alone() {
    let (folder, disk) = real_disk();
    let (journal, _) = open(&disk).expect("a journal");
    assert!(matches!(open(&disk), Err(StoreError::Locked { .. })));
    let reader = journal.reader();
    drop(journal);
    assert!(
        matches!(open(&disk), Err(StoreError::Locked { .. })),
        "a reader is left"
    );
    drop(reader);
    assert!(matches!(
        open_as(&disk, "other", "a"),
        Err(StoreError::ForeignFabric { found, .. }) if found == "quickstart"
    ));
    assert!(matches!(
        open_as(&disk, "quickstart", "b"),
        Err(StoreError::ForeignNode { found, .. }) if found == "a"
    ));
    assert!(matches!(
        open_as(&disk, "a\nb", "b"),
        Err(StoreError::Unusable { .. })
    ));
    let (journal, _) = open(&disk).expect("still ours");
    assert_eq!(journal.incarnation(), identity().fresh);
    let file = folder.path().join("data/a/identity");
    let error = RealDisk::open(&file).expect_err("a file is no folder");
    assert!(matches!(&error, StoreError::Folder { folder, .. } if folder.ends_with("identity")));
}

#[test]
fn another_format_is_named() {
    let disk = SimDisk::new(1);
    open(&disk).expect("a journal");
    let read = |name: &str, bytes: usize| {
        let mut buffer = vec![0; bytes];
        let file = disk.open(name).expect("a file");
        let filled = file.read_at(&mut buffer, 0).expect("a read");
        buffer.truncate(filled);
        buffer
    };
    let mut header = read(FIRST, 64);
    header[8] = 3;
    let crc = crc32fast::hash(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    disk.open(FIRST)
        .expect("a file")
        .write_at(&header, 0)
        .expect("a write");
    let error = open(&disk).map(drop).expect_err("a newer segment");
    assert!(
        matches!(
            error,
            StoreError::FormatVersion {
                found: 3,
                known: 2,
                ..
            }
        ),
        "{error}"
    );
    let text = String::from_utf8(read("identity", 4096)).expect("text");
    let (body, _) = text.split_once("check").expect("a check");
    let body = body.replace("format 2", "format 7");
    let text = format!("{body}check {:08x}\n", crc32fast::hash(body.as_bytes()));
    let file = disk.create("identity").expect("a file");
    file.write_at(text.as_bytes(), 0).expect("a write");
    let error = open(&disk).map(drop).expect_err("a newer folder");
    assert!(
        matches!(
            error,
            StoreError::FormatVersion {
                found: 7,
                known: 2,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_folder_never_forgets_that_it_had_a_life() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).expect("a journal");
    commit(&mut journal, &[entry(1, 1, "x")]);
    drop(journal);
    disk.rename("identity", "elsewhere").expect("a rename");
    assert!(matches!(
        open(&disk),
        Err(StoreError::MissingIdentity { .. })
    ));
    disk.rename("elsewhere", "identity").expect("a rename");
    disk.delete(FIRST).expect("a deletion");
    assert!(matches!(
        open(&disk),
        Err(StoreError::MissingSegment { .. })
    ));
}

#[test]
fn a_visitor_may_refuse() {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).expect("a journal");
    commit(&mut journal, &[entry(1, 1, "x")]);
    drop(journal);
    let mut refuse = |_| Err("no such channel".to_owned());
    let error = Journal::open(disk.clone(), &identity(), SETTINGS, &mut refuse).map(drop);
    assert!(
        matches!(error, Err(StoreError::Rejected { position: PAGE, .. })),
        "{error:?}"
    );
    let tiny = Settings { segment_bytes: 100 };
    let error = Journal::open(disk, &identity(), tiny, &mut |_| Ok(())).map(drop);
    assert!(
        matches!(error, Err(StoreError::Unusable { .. })),
        "{error:?}"
    );
}

#[test]
fn a_slow_disk_says_how_slow() {
    let elapsed = |slowness| {
        let disk = SimDisk::new(1);
        let (mut journal, _) = open(&disk).expect("a journal");
        disk.take_elapsed();
        disk.set_slowness(slowness);
        commit(&mut journal, &[entry(1, 1, "x")]);
        disk.take_elapsed().0
    };
    assert!(elapsed(1) > 0);
    assert_eq!(elapsed(50), 50 * elapsed(1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_work_reads_back_as_the_model_says(seed in any::<u64>(), data_max in 0_usize..3_900) {
        let disk = SimDisk::new(seed);
        let mut work = Work::new(seed, data_max);
        for _ in 0..2 {
            let (mut journal, items) = open(&disk).expect("a journal");
            prop_assert_eq!(items, work.items(work.commits.len()));
            for _ in 0..40 {
                commit(&mut journal, &work.commit());
            }
            assert_loads(&journal, &work.model);
        }
        let (journal, _) = open(&disk).expect("a journal");
        assert_loads(&journal, &work.model);
    }
}

proptest! {
    #[test]
    fn no_bytes_in_a_folder_make_the_opening_panic(
        seed in 0_u64..4,
        name in prop::sample::select(vec![
            "identity", FIRST, "journal-0000000000000002.seg", "journal-ffffffffffffffff.seg",
        ]),
        page in 0_u64..16,
        position in 0_u64..128,
        bytes in prop::collection::vec(any::<u8>(), 1..200),
    ) {
        let disk = SimDisk::new(seed);
        let (mut journal, _) = open(&disk).expect("a journal");
        let mut work = Work::new(seed, 3_000);
        for _ in 0..8 {
            commit(&mut journal, &work.commit());
        }
        drop(journal);
        let file = disk.open(name).or_else(|_| disk.create(name)).expect("a file");
        let position = if name == "identity" { position } else { page * PAGE + position };
        file.write_at(&bytes, position).expect("a write");
        if let Ok((journal, items)) = open(&disk) {
            // What was opened is a prefix of what was written.
            let all = work.items(work.commits.len());
            prop_assert_eq!(&all[..items.len()], &items[..]);
            assert_loads(&journal, &Model::of(&items));
        }
    }
}
