//! A journal that nobody runs on, examined as it lies: by the store and by `weft journal`.

use std::fs;
use std::process::Output;

use bytes::Bytes;
use serde_json::Value;
use weft::store::{Disk, DiskFile, Journal, RealDisk, StoreError, examine};
use weft::types::JournalItem;

use super::recycling::checkpoint;
use super::{FIRST, PAGE, commit, entry, real_disk};
use crate::journal_kit::{SETTINGS, open, partition};
use crate::support::{flat, weft};

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
    let one = text(&journal(&["dump", "--partition", "orders/0"], &data).stdout);
    assert_eq!(one, dump);
    for unknown in ["orders/9", "nope"] {
        let none = journal(&["dump", "--partition", unknown], &data);
        assert_eq!(
            (none.status.code(), text(&none.stdout)),
            (Some(1), String::new())
        );
        let told = flat(&text(&none.stderr));
        assert!(
            told.contains(unknown) && told.ends_with("it holds orders/0"),
            "{told}"
        );
    }
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
        told.contains("the next start cuts it") && told.ends_with("sound up to commit 11\n"),
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

/// What `weft journal verify` says, and that a start refuses the folder with the same words.
fn refused(disk: &RealDisk, data: &std::path::Path) -> String {
    let verified = journal(&["verify", "--json"], data);
    assert_eq!(
        verified.status.code(),
        Some(1),
        "{}",
        text(&verified.stdout)
    );
    let told: Value = serde_json::from_slice(&verified.stdout).expect("JSON");
    assert_eq!(told["sound"], false);
    assert_ne!(told["damage"].as_array().map(Vec::len), Some(0), "{told}");
    let error = open(disk).map(drop).expect_err("a start refuses it");
    assert_eq!(told["refused"], error.to_string());
    let told = text(&journal(&["verify"], data).stdout);
    assert!(
        told.contains(&format!("a start refuses it: {error}")),
        "{told}"
    );
    told
}

// Promise 2: what a node promised is missed, and not taken for a folder that promised nothing.
#[test]
fn promise_2_a_folder_without_its_segments_is_damaged() {
    for with_base in [true, false] {
        let (folder, disk) = real_disk();
        let data = folder.path().join("data/a");
        let mut running = fill(&disk);
        for index in 11..=40 {
            commit(&mut running, &[entry(1, index, vec![7; 3_000])]);
        }
        let reader = running.reader();
        commit(&mut running, &[checkpoint(&partition(0), 40, 41)]);
        reader.recycle().expect("segments go");
        drop((running, reader));
        assert!(data.join("base").is_file() && !data.join(FIRST).is_file());
        if !with_base {
            // What is left begins in the middle of a life.
            fs::remove_file(data.join("base")).expect("removed");
            let told = refused(&disk, &data);
            assert!(
                told.contains(&format!("{FIRST} at 0: it is missing")),
                "{told}"
            );
        }
        let mut gone = Vec::new();
        for file in fs::read_dir(&data).expect("a folder") {
            let path = file.expect("a file").path();
            if path.extension().is_some_and(|extension| extension == "seg") {
                fs::remove_file(&path).expect("removed");
                gone.push(path);
            }
        }
        gone.sort();
        let first = if with_base {
            &gone[0]
        } else {
            &data.join(FIRST)
        };
        let told = refused(&disk, &data);
        assert!(
            told.contains(&format!("{} at 0: it is missing", first.display())),
            "{told}"
        );
        assert!(told.ends_with("damaged in 1 place\n"), "{told}");
    }
}

/// A file that was prefilled and is shorter now has lost what nobody can count: a node that has
/// forgotten what it promised must not vote.
#[test]
fn promise_2_a_prefilled_segment_that_was_cut_is_damaged() {
    let (folder, disk) = real_disk();
    let data = folder.path().join("data/a");
    let (mut running, _) = open(&disk).expect("an empty folder");
    running.reader().prepare_spare().expect("a disk with room");
    let mut index = 0;
    let newest = data.join("journal-0000000000000002.seg");
    let mut after = 0;
    while after < 6 {
        index += 1;
        commit(&mut running, &[entry(1, index, vec![7; 3_000])]);
        after += u64::from(newest.is_file());
    }
    drop(running);
    let file = disk
        .open("journal-0000000000000002.seg")
        .expect("a segment");
    assert_eq!(file.bytes().expect("a length"), SETTINGS.segment_bytes);
    // Between two commits: nothing else would tell.
    let half = 4 * PAGE;
    let cut = fs::OpenOptions::new().write(true).open(&newest);
    cut.and_then(|file| file.set_len(half)).expect("cut");
    let told = refused(&disk, &data);
    let reason = format!("made with {} bytes", SETTINGS.segment_bytes);
    assert!(
        told.contains(&format!("at {half}: ")) && told.contains(&reason),
        "{told}"
    );
}

/// A file that grew tells less, and no more is claimed: how much of the last commit is not there,
/// and that what else may have been there would not show.
#[test]
fn a_segment_that_grew_and_was_cut_says_what_it_can() {
    let (folder, disk) = real_disk();
    let data = folder.path().join("data/a");
    let (mut running, _) = open(&disk).expect("an empty folder");
    for index in 1..=3 {
        commit(&mut running, &[entry(1, index, vec![7; 9_000])]);
    }
    drop(running);
    let cut = |bytes| {
        let file = fs::OpenOptions::new().write(true).open(data.join(FIRST));
        file.and_then(|file| file.set_len(bytes)).expect("cut");
        journal(&["verify"], &data)
    };
    // The second commit begins on page 4 and has three.
    let told = cut(5 * PAGE + 100);
    assert_eq!(told.status.code(), Some(0));
    let told = text(&told.stdout);
    let not_whole = format!(
        "commit 2 at byte {} is not whole: of 3 pages 2 are",
        4 * PAGE
    );
    assert!(told.contains(&not_whole), "{told}");
    assert!(told.contains("a file that was cut") && told.ends_with("sound up to commit 1\n"));
    let told = text(&cut(4 * PAGE).stdout);
    assert!(
        told.contains("it would not show") && told.ends_with("sound\n"),
        "{told}"
    );
}
