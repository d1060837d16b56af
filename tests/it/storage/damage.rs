//! Damage on the disk: what stops the opening, what is cut off, what is made anew.

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
            if &page == b"wfoo" {
                disk.flip_bit(&name, (number * PAGE + 80) * 8);
                damaged += 1;
            }
        }
    }
    assert!(damaged > 2, "{damaged} footers");
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
