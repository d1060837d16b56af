//! Segments go once nothing in them is needed, and what else stood in them is there all the same,
//! wherever the power goes meanwhile.

use bytes::Bytes;
use weft::store::{Disk, DiskFile, Journal, SimDisk, StoreError};
use weft::types::{Checkpoint, JournalItem, LoadFrom, Partition, Wall};

use super::{commit, entry, real_disk, request};
use crate::journal_kit::{open, partition};

/// Bytes of an entry: a few fill a segment.
const DATA: usize = 9_000;

fn founding(of: &Partition) -> JournalItem {
    JournalItem::Founding {
        partition: of.clone(),
        record: Bytes::from(format!("founding of {of}")),
    }
}

fn hard_state(of: &Partition, term: u64, commit: u64) -> JournalItem {
    JournalItem::HardState {
        partition: of.clone(),
        term,
        vote: 7,
        commit,
    }
}

pub(super) fn checkpoint(of: &Partition, index: u64, keep_from: u64) -> JournalItem {
    JournalItem::Checkpoint {
        partition: of.clone(),
        checkpoint: Checkpoint {
            index,
            term: 1,
            next_offset: index,
            time: Wall(index),
            keep_from,
            before_term: 1,
            before_offset: keep_from - 1,
            before_time: Wall(keep_from - 1),
            state: Bytes::from(format!("what {index} led to")),
        },
    }
}

/// One partition with forty entries; an idle one that stands in the first segment alone.
fn fill<D: Disk>(journal: &mut Journal<D>) -> Result<(), StoreError> {
    let (busy, idle) = (partition(0), partition(1));
    let first = [founding(&busy), founding(&idle), hard_state(&idle, 3, 0)];
    let mut commits = vec![first.to_vec()];
    for index in 1..=40 {
        let data = Bytes::from(vec![index as u8; DATA]);
        commits.push(vec![entry(1, index, data), hard_state(&busy, 1, index)]);
    }
    commits.push(vec![checkpoint(&busy, 38, 30)]);
    for items in commits {
        journal.write(&items)?;
        journal.sync()?;
    }
    Ok(())
}

/// What must be there, whichever segments are.
fn assert_whole(items: &[JournalItem], context: &str) {
    let (busy, idle) = (partition(0), partition(1));
    for expected in [
        founding(&busy),
        founding(&idle),
        hard_state(&idle, 3, 0),
        hard_state(&busy, 1, 40),
        checkpoint(&busy, 38, 30),
    ] {
        assert!(items.contains(&expected), "{context}: {expected:?}");
    }
    let indices: Vec<u64> = items
        .iter()
        .filter_map(|item| match item {
            JournalItem::Entry { entry, .. } => Some(entry.index),
            _ => None,
        })
        .collect();
    let first = indices[0];
    assert!(first <= 30, "{context}: the first entry is {first}");
    assert_eq!(indices, (first..=40).collect::<Vec<_>>(), "{context}");
    if first > 1 {
        // The state comes before the entries that it is made of, the hard state after them.
        assert_eq!(items[..2], [founding(&busy), checkpoint(&busy, 38, 30)]);
        let state = hard_state(&busy, 1, 40);
        let state = items.iter().position(|item| *item == state);
        let is_entry = |item: &JournalItem| matches!(item, JournalItem::Entry { .. });
        assert!(state > items.iter().rposition(is_entry), "{context}");
    }
}

#[test]
fn what_nobody_needs_goes_and_all_else_stays() {
    let disk = SimDisk::new(3);
    let (mut journal, _) = open(&disk).expect("an empty disk");
    fill(&mut journal).expect("a healthy disk");
    let reader = journal.reader();
    let before = journal.bytes();
    let gone = reader.recycle().expect("a healthy disk");
    assert!(gone > 1, "{gone} segments went");
    assert!(journal.bytes() < before / 2);
    assert_eq!(reader.recycle().expect("again"), 0);
    // What is needed is read as before; what is not is not there.
    let entries = reader.load(&request(LoadFrom::Index(30))).expect("a read");
    assert_eq!(entries.len(), 11);
    let entries = reader.load(&request(LoadFrom::Index(1))).expect("a read");
    assert!(entries.is_empty());
    drop((journal, reader));
    disk.crash();
    let (mut journal, items) = open(&disk).expect("a base and the rest");
    assert_whole(&items, "after it");
    // And again, from a journal that begins with a base.
    let busy = partition(0);
    for index in 41..=80 {
        let data = Bytes::from(vec![index as u8; DATA]);
        commit(
            &mut journal,
            &[entry(1, index, data), hard_state(&busy, 1, index)],
        );
    }
    commit(&mut journal, &[checkpoint(&busy, 80, 80)]);
    assert!(journal.reader().recycle().expect("a healthy disk") > 1);
    drop(journal);
    disk.crash();
    let (journal, items) = open(&disk).expect("another base");
    assert!(items.contains(&founding(&partition(1))));
    assert!(items.contains(&hard_state(&partition(1), 3, 0)));
    assert!(items.contains(&checkpoint(&busy, 80, 80)));
    assert_eq!(journal.reader().recycle().expect("nothing more"), 0);
}

#[test]
fn power_that_goes_while_segments_go_takes_nothing_along() {
    let disk = SimDisk::new(0);
    let (mut journal, _) = open(&disk).expect("an empty disk");
    fill(&mut journal).expect("a healthy disk");
    let before = disk.changes();
    journal.reader().recycle().expect("a healthy disk");
    let steps = disk.changes() - before;
    assert!(steps > 5, "{steps} changes");
    for cut in 0..steps {
        let context = format!("power cut at change {cut}");
        let disk = SimDisk::new(cut);
        let (mut journal, _) = open(&disk).expect("an empty disk");
        fill(&mut journal).expect("a healthy disk");
        disk.cut_power_after(cut);
        journal.reader().recycle().expect_err("the power was cut");
        drop(journal);
        disk.crash();
        for again in 0..3 {
            // What the first opening was about to clear away may be cut short too.
            disk.cut_power_after(again);
            let _ = open(&disk).is_ok();
            disk.crash();
        }
        let (mut journal, items) = open(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_whole(&items, &context);
        journal.reader().recycle().expect("a healthy disk");
        commit(&mut journal, &[entry(1, 41, "goes on")]);
    }
}

/// A snapshot of entry 60, after which the log goes on with entry 50.
fn snapshot(of: &Partition) -> JournalItem {
    let JournalItem::Checkpoint { checkpoint, .. } = checkpoint(of, 60, 50) else {
        unreachable!("a checkpoint");
    };
    JournalItem::Snapshot {
        partition: of.clone(),
        checkpoint,
    }
}

/// A log of forty entries that begins anew with a snapshot in the middle of a segment, beside a
/// partition whose space comes back.
fn begin_anew<D: Disk>(journal: &mut Journal<D>) -> Result<(), StoreError> {
    let (of, busy) = (partition(0), partition(1));
    let mut commits = vec![vec![founding(&of), founding(&busy)]];
    let of_busy = |index: u64| {
        let JournalItem::Entry { entry, .. } = entry(1, index, vec![9; DATA]) else {
            unreachable!("an entry");
        };
        let partition = busy.clone();
        [
            JournalItem::Entry { partition, entry },
            hard_state(&busy, 1, index),
        ]
    };
    for index in 1..=40 {
        let mut items = vec![entry(1, index, vec![1; 100]), hard_state(&of, 1, index - 1)];
        items.extend(of_busy(index));
        commits.push(items);
    }
    commits.push(vec![snapshot(&of), hard_state(&of, 2, 49)]);
    for index in 50..=80 {
        let mut items = vec![entry(2, index, vec![2; 100]), hard_state(&of, 2, index)];
        items.extend(of_busy(index - 9));
        commits.push(items);
    }
    commits.push(vec![checkpoint(&busy, 71, 71)]);
    for items in commits {
        journal.write(&items)?;
        journal.sync()?;
    }
    Ok(())
}

/// What `of` begins with, and what follows that.
fn assert_begun(items: &[JournalItem], context: &str) {
    let of = partition(0);
    let own: Vec<_> = items
        .iter()
        .filter(|item| *item.partition() == of)
        .collect();
    assert_eq!(*own[0], founding(&of), "{context}");
    let place = own.iter().rposition(|item| **item == snapshot(&of));
    let place = place.unwrap_or_else(|| panic!("{context}: no snapshot"));
    let indices = own[place..].iter().filter_map(|item| match item {
        JournalItem::Entry { entry, .. } => Some((entry.term, entry.index)),
        _ => None,
    });
    let expected: Vec<_> = (50..=80).map(|index| (2, index)).collect();
    assert_eq!(indices.collect::<Vec<_>>(), expected, "{context}");
    assert!(own.contains(&&hard_state(&of, 2, 80)), "{context}");
}

/// What a log held before its snapshot is void, wherever it stands and whichever of it is left;
/// the snapshot and all after it stay until a checkpoint has followed.
#[test]
fn a_log_that_began_anew_stays_whole_while_others_give_back_space() {
    let disk = SimDisk::new(5);
    let (mut journal, _) = open(&disk).expect("an empty disk");
    begin_anew(&mut journal).expect("a healthy disk");
    let reader = journal.reader();
    let load = |from| {
        reader
            .load(&request(LoadFrom::Index(from)))
            .expect("a read")
    };
    let assert_reads = |context: &str| {
        assert!(load(1).is_empty() && load(40).is_empty(), "{context}");
        let read: Vec<_> = load(50)
            .iter()
            .map(|entry| (entry.term, entry.index))
            .collect();
        let expected: Vec<_> = (50..=80).map(|index| (2, index)).collect();
        assert_eq!(read, expected, "{context}");
    };
    assert_reads("as written");
    let before = disk.changes();
    assert!(reader.recycle().expect("a healthy disk") > 1);
    let steps = disk.changes() - before;
    assert_reads("with less segments");
    let gap = journal.write(&[entry(2, 82, "too far")]);
    assert!(matches!(gap, Err(StoreError::Gap { .. })), "{gap:?}");
    drop((journal, reader));
    for cut in 0..=steps {
        let context = format!("power cut at change {cut}");
        let disk = SimDisk::new(cut);
        let (mut journal, _) = open(&disk).expect("an empty disk");
        begin_anew(&mut journal).expect("a healthy disk");
        disk.cut_power_after(cut);
        let recycled = journal.reader().recycle();
        assert_eq!(recycled.is_ok(), cut == steps, "{context}");
        drop(journal);
        disk.crash();
        let (mut journal, items) = open(&disk).unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_begun(&items, &context);
        journal.reader().recycle().expect("a healthy disk");
        commit(&mut journal, &[entry(2, 81, "goes on")]);
    }
    // Once a checkpoint has followed, what it does not need goes too.
    let (mut journal, _) = open(&disk).expect("the disk");
    commit(&mut journal, &[checkpoint(&partition(0), 80, 81)]);
    assert!(journal.reader().recycle().expect("a healthy disk") > 0);
    drop(journal);
    disk.crash();
    let (_, items) = open(&disk).expect("the disk");
    assert!(items.contains(&checkpoint(&partition(0), 80, 81)));
    assert!(!items.contains(&snapshot(&partition(0))));
}

/// A base that is written between a snapshot and the first hard state after it tells the one before
/// as the snapshot left it.
#[test]
fn what_stood_before_a_snapshot_does_not_contradict_it() {
    let disk = SimDisk::new(6);
    let (mut journal, _) = open(&disk).expect("an empty disk");
    let of = partition(0);
    commit(&mut journal, &[founding(&of)]);
    for index in 1..=40 {
        let items = [entry(1, index, vec![1; DATA]), hard_state(&of, 1, index)];
        commit(&mut journal, &items);
    }
    commit(&mut journal, &[snapshot(&of)]);
    assert!(journal.reader().recycle().expect("a healthy disk") > 0);
    drop(journal);
    disk.crash();
    let (mut journal, items) = open(&disk).expect("the disk");
    let own: Vec<_> = items.iter().rev().take(2).collect();
    assert_eq!(own, [&hard_state(&of, 1, 49), &snapshot(&of)]);
    // Nor does the next, once it has said more.
    commit(&mut journal, &[entry(1, 50, "a"), hard_state(&of, 1, 50)]);
    journal.reader().recycle().expect("a healthy disk");
    drop(journal);
    let (_, items) = open(&disk).expect("the disk");
    assert_eq!(items.last(), Some(&hard_state(&of, 1, 50)));
}

/// A folder of a format before is read, and goes on in this one.
#[test]
fn a_folder_of_an_earlier_format_goes_on() {
    goes_on(1);
}

fn goes_on(version: u8) {
    let disk = SimDisk::new(1);
    let (mut journal, _) = open(&disk).expect("an empty disk");
    commit(&mut journal, &[founding(&partition(0)), entry(1, 1, "one")]);
    drop(journal);
    let read = |name: &str, bytes: usize| {
        let mut buffer = vec![0; bytes];
        let file = disk.open(name).expect("a file");
        let filled = file.read_at(&mut buffer, 0).expect("a read");
        buffer.truncate(filled);
        buffer
    };
    let text = String::from_utf8(read("identity", 4096)).expect("text");
    let (body, _) = text.split_once("check").expect("a check");
    let body = body.replace("format 2", &format!("format {version}"));
    let text = format!("{body}check {:08x}\n", crc32fast::hash(body.as_bytes()));
    let write = |name: &str, bytes: &[u8]| {
        let file = disk.open(name).expect("a file");
        file.write_at(bytes, 0).expect("a write");
    };
    write("identity", text.as_bytes());
    let mut header = read(super::FIRST, 64);
    header[8] = version;
    header[12..16].copy_from_slice(&crc32fast::hash(text.as_bytes()).to_le_bytes());
    let crc = crc32fast::hash(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    write(super::FIRST, &header);
    for index in 2..=20 {
        let (mut journal, items) = open(&disk).expect("the folder");
        assert_eq!(items.len() as u64, index);
        let data = Bytes::from(vec![7; DATA]);
        commit(&mut journal, &[entry(1, index, data)]);
    }
}

#[test]
fn a_damaged_base_stops_the_start_by_name() {
    let (_folder, disk) = real_disk();
    let (mut journal, _) = open(&disk).expect("an empty folder");
    fill(&mut journal).expect("a healthy disk");
    journal.reader().recycle().expect("a healthy disk");
    drop(journal);
    let file = disk.open("base").expect("the base");
    let bytes = file.bytes().expect("a length");
    for position in [0, 70, 300, bytes / 2] {
        let mut byte = [0];
        file.read_at(&mut byte, position).expect("a read");
        file.write_at(&[byte[0] ^ 1], position).expect("a write");
        match open(&disk).map(|_| ()) {
            Err(StoreError::Damaged { file, .. }) => assert!(file.ends_with("base"), "{file}"),
            // Behind the last item there is nothing to damage.
            Ok(()) => assert!(position > 300, "{position}"),
            other => panic!("{position}: {other:?}"),
        }
        file.write_at(&byte, position).expect("a write");
    }
    disk.delete("base").expect("deleted");
    let error = open(&disk)
        .map(|_| ())
        .expect_err("the first segments are gone");
    assert!(
        matches!(error, StoreError::MissingSegment { .. }),
        "{error}"
    );
}
