//! A journal that nobody runs on, examined as it lies: by the store and by `weft journal`.

use std::fs;
use std::process::Output;

use bytes::Bytes;
use serde_json::Value;
use weft::store::{Disk, DiskFile, Journal, RealDisk, StoreError, examine};
use weft::types::JournalItem;

use super::{FIRST, PAGE, commit, entry, real_disk};
use crate::journal_kit::{open, partition};
use crate::support::weft;

fn journal(args: &[&str], folder: &std::path::Path) -> Output {
    let mut command = weft();
    command.arg("journal").args(args).arg(folder);
    command.output().expect("weft runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// A commit a page, all in one segment.
fn fill(disk: &RealDisk) -> Journal<RealDisk> {
    let (mut journal, _) = open(disk).expect("an empty folder");
    let founding = JournalItem::Founding {
        partition: partition(0),
        record: Bytes::from_static(b"founded"),
    };
    commit(&mut journal, &[founding]);
    for index in 1..=10 {
        commit(&mut journal, &[entry(1, index, "订单 🚀")]);
    }
    journal
}

#[test]
fn a_journal_is_examined_as_it_lies_and_damage_is_named() {
    let (folder, disk) = real_disk();
    let data = folder.path().join("data/a");
    let running = fill(&disk);
    let refused = journal(&["verify"], &data);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("stop the node first"));
    drop(running);

    let sound = journal(&["verify"], &data);
    assert_eq!(sound.status.code(), Some(0), "{}", text(&sound.stderr));
    assert!(text(&sound.stdout).contains("fabric quickstart, node a"));
    assert!(text(&sound.stdout).ends_with("sound\n"));
    let dump = text(&journal(&["dump"], &data).stdout);
    assert_eq!(dump.lines().count(), 11);
    assert!(
        dump.lines()
            .next()
            .is_some_and(|line| line.contains("founding"))
    );
    let one = text(&journal(&["dump", "--partition", "orders/9"], &data).stdout);
    assert_eq!(one, "");
    let json = text(&journal(&["dump", "--json"], &data).stdout);
    let last: Value = serde_json::from_str(json.lines().last().expect("lines")).expect("JSON");
    assert_eq!((&last["index"], &last["commit"]), (&10.into(), &11.into()));

    // The third commit and the seventh are damaged; all others are found.
    let before = fs::read(data.join(FIRST)).expect("a segment");
    let file = disk.open(FIRST).expect("a segment");
    for commit in [3, 7] {
        file.write_at(b"?", commit * PAGE + 80).expect("a write");
    }
    let mut indices = Vec::new();
    let examined = examine(&disk, &mut |segment, _, item| {
        if let JournalItem::Entry { entry, .. } = item {
            assert_eq!(segment, 1);
            indices.push(entry.index);
        }
    });
    let examined = examined.expect("damage is no error");
    let places: Vec<u64> = examined.damage.iter().map(|found| found.position).collect();
    assert_eq!(places, [3 * PAGE, 7 * PAGE]);
    let expected: Vec<u64> = (1..=10).filter(|index| ![2, 6].contains(index)).collect();
    assert_eq!(indices, expected);
    let damaged = journal(&["verify", "--json"], &data);
    assert_eq!(damaged.status.code(), Some(1));
    let told: Value = serde_json::from_slice(&damaged.stdout).expect("JSON");
    assert_eq!(told["damage"].as_array().map(Vec::len), Some(2));
    assert_eq!(told["segments"][0]["entries"], 8);

    // Nothing was changed by looking.
    file.write_at(&before[..], 0).expect("a write");
    let (_, items) = open(&disk).expect("it is sound again");
    assert_eq!(items.len(), 11);
}

#[test]
fn a_segment_that_lost_its_end_is_told() {
    let (_folder, disk) = real_disk();
    let (mut journal, _) = open(&disk).expect("an empty folder");
    for index in 1..=30 {
        let data = Bytes::from(vec![7; 3_000]);
        commit(&mut journal, &[entry(1, index, data)]);
    }
    drop(journal);
    let sound = examine(&disk, &mut |_, _, _| {}).expect("a journal");
    assert!(sound.damage.is_empty() && sound.segments.len() > 1);
    let first = &sound.segments[0];
    let file = disk.open(FIRST).expect("a segment");
    file.write_at(b"?", first.bytes - PAGE + 80)
        .expect("a write");
    let examined = examine(&disk, &mut |_, _, _| {}).expect("damage is no error");
    let [damage] = &examined.damage[..] else {
        panic!("{:?}", examined.damage);
    };
    assert_eq!(
        (&damage.file, damage.position),
        (&first.file, first.bytes - PAGE)
    );
    assert!(damage.reason.starts_with("1 commits"), "{}", damage.reason);
}

#[test]
fn a_torn_end_is_told_and_left_to_the_next_start() {
    let (folder, disk) = real_disk();
    let data = folder.path().join("data/a");
    drop(fill(&disk));
    let file = disk.open(FIRST).expect("a segment");
    file.write_at(b"half a commit", 12 * PAGE).expect("a write");
    let told = text(&journal(&["verify"], &data).stdout);
    assert!(
        told.contains("the next start cuts it") && told.ends_with("sound\n"),
        "{told}"
    );
    let missing = journal(&["verify"], &folder.path().join("nowhere"));
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("is no data folder"));
    fs::remove_file(data.join("identity")).expect("removed");
    let examined = examine(&disk, &mut |_, _, _| {});
    assert!(
        matches!(examined, Err(StoreError::Disk { .. })),
        "{examined:?}"
    );
}
