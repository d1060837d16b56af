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

fn checkpoint(of: &Partition, index: u64, keep_from: u64) -> JournalItem {
    JournalItem::Checkpoint {
        partition: of.clone(),
        checkpoint: Checkpoint {
            index,
            term: 1,
            next_offset: index,
            time: Wall(index),
            keep_from,
            before_term: 1,
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

/// A folder of a format before is read, and goes on in this one.
#[test]
fn a_folder_of_an_earlier_format_goes_on() {
    (1..=2).for_each(goes_on);
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
    let body = body.replace("format 3", &format!("format {version}"));
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
