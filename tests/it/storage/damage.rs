//! Damage on the disk: what stops the opening, what is cut off, what is made anew.

use weft::store::{Found, examine};
use weft::types::Checkpoint;

use super::*;

#[test]
fn damage_in_the_middle_stops_the_opening_and_a_torn_end_does_not() {
    let disk = SimDisk::new(5);
    let (mut journal, _) = open(&disk).expect("a journal");
    let items: Vec<JournalItem> = (1..=3).map(|index| entry(1, index, "abc")).collect();
    for item in &items {
        commit(&mut journal, std::slice::from_ref(item));
    }
    drop(journal);
    // A bit of the header's sequence, and one of the payload.
    for bit in [(2 * PAGE + 17) * 8, (2 * PAGE + 70) * 8 + 3] {
        disk.flip_bit(FIRST, bit);
        let Err(StoreError::Damaged { file, position, .. }) = open(&disk).map(drop) else {
            panic!("damage at bit {bit} was not seen");
        };
        assert!(file.ends_with(FIRST), "{file}");
        assert_eq!(position, 2 * PAGE);
        disk.flip_bit(FIRST, bit);
        assert_eq!(open(&disk).expect("mended").1, items);
    }
    disk.flip_bit(FIRST, (3 * PAGE + 70) * 8);
    let (mut journal, found) = open(&disk).expect("the newest commit is cut");
    assert_eq!(found, items[..2]);
    commit(&mut journal, &items[2..]);
    drop(journal);
    assert_eq!(open(&disk).expect("a journal").1, items);
}

#[test]
fn a_sealed_segment_must_be_whole() {
    let fill = || {
        let disk = SimDisk::new(5);
        let (mut journal, _) = open(&disk).expect("a journal");
        for index in 1..=6 {
            commit(&mut journal, &[entry(1, index, vec![index as u8; 20_000])]);
        }
        disk
    };
    let second = "journal-0000000000000002.seg";
    let disk = fill();
    // The last commit of the first segment: newest there, yet the next segment knows of it.
    disk.flip_bit(FIRST, (PAGE + 6 * PAGE) * 8);
    assert!(matches!(open(&disk), Err(StoreError::Damaged { file, .. }) if file.ends_with(FIRST)));
    let disk = fill();
    disk.flip_bit(second, 33 * 8);
    assert!(matches!(open(&disk), Err(StoreError::Damaged { file, .. }) if file.ends_with(second)));
    for gone in [FIRST, second] {
        let disk = fill();
        disk.delete(gone).expect("a deletion");
        assert!(
            matches!(open(&disk), Err(StoreError::MissingSegment { file }) if file.ends_with(gone))
        );
    }
}

#[test]
fn a_footer_that_is_damaged_is_made_anew() {
    let disk = SimDisk::new(5);
    let (mut journal, _) = open(&disk).expect("a journal");
    let items: Vec<JournalItem> = (1..=40).map(|i| entry(1, i, vec![3; 6_000])).collect();
    items
        .iter()
        .for_each(|item| commit(&mut journal, std::slice::from_ref(item)));
    let mut damaged = 0;
    for name in disk.list().expect("a list") {
        let file = disk.open(&name).expect("a file");
        let mut page = [0; 4];
        for number in 1..file.bytes().expect("a length").div_ceil(PAGE) {
            file.read_at(&mut page, number * PAGE).expect("a read");
            if &page == b"wftr" {
                disk.flip_bit(&name, (number * PAGE + 80) * 8);
                damaged += 1;
            }
        }
    }
    assert!(damaged > 2, "{damaged} footers");
    assert_loads(&journal, &Model::of(&items));
}

/// What opening finds: entries, and how many it only tells of.
fn found(disk: &SimDisk) -> Result<(Journal<SimDisk>, u64, u64), StoreError> {
    let (mut read, mut told) = (0, 0);
    let journal = Journal::open(disk.clone(), &identity(), SETTINGS, &mut |found| {
        match found {
            Found::Item(JournalItem::Entry { .. }) => read += 1,
            Found::Item(_) => {}
            Found::Covered(covered) => told += covered.end_index - covered.first_index,
        }
        Ok(())
    })?;
    Ok((journal, read, told))
}

/// So opening takes as long as the footers and the newest segment do.
#[test]
fn a_sealed_segment_is_not_read_if_its_footer_says_all() {
    let disk = SimDisk::new(5);
    let (mut journal, _) = open(&disk).expect("a journal");
    let items: Vec<JournalItem> = (1..=60)
        .map(|i| entry(1 + i / 8, i, vec![i as u8; 6_000]))
        .collect();
    items
        .iter()
        .for_each(|item| commit(&mut journal, std::slice::from_ref(item)));
    drop(journal);
    let (mut journal, read, told) = found(&disk).expect("a journal without a base");
    assert_eq!((read, told), (60, 0));
    let checkpoint = Checkpoint {
        index: 60,
        term: 8,
        next_offset: 60,
        time: Wall(60),
        keep_from: 1,
        before_term: 0,
        before_offset: 0,
        before_time: Wall(0),
        state: Bytes::from_static(b"what they led to"),
    };
    let partition = partition(0);
    commit(
        &mut journal,
        &[JournalItem::Checkpoint {
            partition,
            checkpoint,
        }],
    );
    assert_eq!(journal.reader().recycle(), Ok(0), "all of it must stay");
    drop(journal);
    disk.kill();
    let (journal, read, told) = found(&disk).expect("a journal with a base");
    assert!(
        read + told == 60 && read < 10,
        "{read} read, {told} told of"
    );
    assert_loads(&journal, &Model::of(&items));
    drop(journal);
    // Damage shows where it is read.
    let bit = (3 * PAGE + 700) * 8;
    disk.flip_bit(FIRST, bit);
    let (journal, ..) = found(&disk).expect("it is not looked at");
    let error = journal.reader().load(&request(LoadFrom::Index(1)));
    assert!(
        matches!(error, Err(StoreError::Damaged { .. })),
        "{error:?}"
    );
    drop(journal);
    let examined = examine(&disk, &mut |_, _, _| {}).expect("damage is no error");
    assert_eq!(examined.damage.len(), 1, "{:?}", examined.damage);
    // A footer that cannot be trusted is none.
    let file = disk.open(FIRST).expect("the first segment");
    let pages = file.bytes().expect("a length") / PAGE;
    disk.flip_bit(FIRST, ((pages - 1) * PAGE + 70) * 8);
    assert!(matches!(
        found(&disk).map(drop),
        Err(StoreError::Damaged { .. })
    ));
    disk.flip_bit(FIRST, bit);
    let (journal, more, fewer) = found(&disk).expect("its commits say all");
    assert!(
        more > read && more + fewer == 60,
        "{more} read, {fewer} told of"
    );
    assert_loads(&journal, &Model::of(&items));
}

#[test]
fn a_damaged_entry_is_not_given_out() {
    let disk = SimDisk::new(5);
    let (mut journal, _) = open(&disk).expect("a journal");
    commit(
        &mut journal,
        &[entry(1, 1, vec![1; 9_000]), entry(1, 2, vec![2; 100])],
    );
    disk.flip_bit(FIRST, (PAGE + 5_000) * 8);
    let reader = journal.reader();
    let damaged = reader.load(&request(LoadFrom::Index(1)));
    assert!(matches!(damaged, Err(StoreError::Damaged { position, .. }) if position == PAGE + 64));
    assert_eq!(
        reader
            .load(&request(LoadFrom::Index(2)))
            .expect("a load")
            .len(),
        1
    );
    disk.fail_reads(1);
    let refused = reader.load(&request(LoadFrom::Index(2)));
    assert!(
        matches!(refused, Err(StoreError::Disk { .. })),
        "{refused:?}"
    );
}

// Promise 1: whatever read it is that goes astray as a journal is opened, nothing is cut for it.
#[test]
fn promise_1_a_read_that_goes_astray_for_once_costs_nothing() {
    let (mut refused, mut opened) = (0, 0);
    let cases = (0..60).map(|first| (first, 3_000, 30));
    // Commits of a page each, an even and an odd number of them.
    let small = (0..20).flat_map(|first| [(first, 100, 30), (first, 100, 31)]);
    for (first, data_max, commits) in cases.chain(small) {
        let disk = SimDisk::new(9);
        let (mut journal, _) = open(&disk).expect("a journal");
        let mut work = Work::new(9, data_max);
        for _ in 0..commits {
            commit(&mut journal, &work.commit());
        }
        journal.reader().recycle().expect("a healthy disk");
        drop(journal);
        let before = disk.counts().reads_misdirected;
        disk.misdirect_reads(first, 1);
        let found = open(&disk);
        let astray = disk.counts().reads_misdirected > before;
        match found {
            Ok((journal, items)) => {
                assert_eq!(Model::of(&items), work.model, "after {first}");
                drop(journal);
                opened += usize::from(astray);
            }
            Err(error) => {
                assert!(astray, "{error}");
                refused += 1;
            }
        }
        disk.misdirect_reads(0, 0);
        let (journal, items) = open(&disk).expect("it was a read, no more");
        assert_eq!(Model::of(&items), work.model, "after {first}");
        assert_loads(&journal, &work.model);
    }
    assert!(
        refused > 5 && opened > 0,
        "{refused} refused, {opened} opened"
    );
}
