//! Images of a folder as a power cut leaves it in the middle of a commit: some of its pages are on
//! the disk, others are not, or hold zeros, or what belongs to another page.

use std::fs;
use std::path::{Path, PathBuf};

use weft::store::RealDisk;
use weft::types::JournalItem;

use super::{PAGE, commit, entry};
use crate::journal_kit::{Model, assert_loads, open};

/// The folder's files and their bytes.
type Image = Vec<(PathBuf, Vec<u8>)>;

fn image(folder: &Path) -> Image {
    let files = fs::read_dir(folder).expect("a folder");
    let mut image: Image = files
        .map(|file| file.expect("a file").path())
        .map(|path| (path.clone(), fs::read(&path).expect("its bytes")))
        .collect();
    image.sort();
    image
}

fn pages(bytes: &[u8]) -> Vec<Vec<u8>> {
    bytes.chunks(PAGE as usize).map(<[u8]>::to_vec).collect()
}

/// What a disk may hold of pages that were on their way from `old` to `new`, at `changed`.
fn torn(old: &[Vec<u8>], new: &[Vec<u8>], changed: &[usize]) -> Vec<Vec<Vec<u8>>> {
    let mut images = Vec::new();
    // Every choice of pages that arrived, prefixes among them; those that did not are as before.
    for arrived in 0..1_u32 << changed.len() {
        let mut image = old.to_vec();
        for (bit, page) in changed.iter().enumerate() {
            if arrived & (1 << bit) != 0 {
                image[*page].clone_from(&new[*page]);
            }
        }
        images.push(image);
    }
    for one in changed {
        let mut zeroed = new.to_vec();
        zeroed[*one].fill(0);
        images.push(zeroed);
        for other in changed.iter().filter(|other| *other != one) {
            let mut swapped = new.to_vec();
            swapped.swap(*one, *other);
            images.push(swapped);
            let mut twice = new.to_vec();
            twice[*one].clone_from(&new[*other]);
            images.push(twice);
        }
    }
    images
}

/// Opens the image: every synced commit is there, of the last one all or nothing, and life goes on.
/// Whether all of it is there.
fn assert_opens(commits: &[Vec<JournalItem>], image: &Image, name: &Path, bytes: &[u8]) -> bool {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (path, held) in image {
        let file = folder.path().join(path.file_name().expect("a name"));
        let held = if path == name { bytes } else { held };
        fs::write(file, held).expect("written");
    }
    let disk = RealDisk::open(folder.path()).expect("a folder");
    let (mut journal, items) = open(&disk).expect("an image of a power cut opens");
    let (last, synced) = commits.split_last().expect("commits");
    let is_whole = items == commits.concat();
    assert!(
        is_whole || items == synced.concat(),
        "{} items",
        items.len()
    );
    assert_loads(&journal, &Model::of(&items));
    if !is_whole {
        commit(&mut journal, last);
    }
    drop(journal);
    let (_, items) = open(&disk).expect("it opens again");
    assert_eq!(items, commits.concat());
    is_whole
}

/// Commits of one page and of two, then one of four; the image before the last of them, and after.
fn commits(prefilled: bool) -> (Vec<Vec<JournalItem>>, Image, Image) {
    let (folder, disk) = super::real_disk();
    let (mut journal, _) = open(&disk).expect("a journal");
    let mut commits = Vec::new();
    if prefilled {
        // The first segment, which grows, gives way to the spare after its first commit.
        let reader = journal.reader();
        reader.prepare_spare().expect("a disk with room");
        for index in 1..=2 {
            commits.push(vec![entry(1, index, vec![index as u8; 4_500])]);
        }
    }
    let first = commits.len() as u64 + 1;
    commits.push(vec![entry(1, first, vec![1; 300])]);
    commits.push(vec![entry(2, first + 1, vec![2; 5_000])]);
    for items in &commits {
        commit(&mut journal, items);
    }
    let path = folder.path().join("data/a");
    let before = image(&path);
    // It withdraws the one before it.
    let last = [1, 2].map(|more| entry(3, first + more, vec![3; 7_000]));
    commit(&mut journal, &last);
    commits.push(last.to_vec());
    (commits, before, image(&path))
}

// Promise 2. In a segment that grows, and in one that was prefilled.
#[test]
fn promise_2_every_image_of_a_power_cut_opens_and_holds_what_was_synced() {
    for prefilled in [false, true] {
        let (commits, mut before, after) = commits(prefilled);
        let mut changes = before.iter_mut().zip(&after);
        let changed = changes.find(|(old, new)| old != new);
        let ((name, old), (_, new)) = changed.expect("the newest segment");
        assert_eq!(old.len() == new.len(), prefilled);
        old.resize(new.len(), 0);
        let (old, new) = (pages(old), pages(new));
        let differ = (0..new.len()).filter(|page| old[*page] != new[*page]);
        let differ: Vec<usize> = differ.collect();
        assert_eq!(differ.len(), 4);
        let (mut images, mut whole) = (0, 0);
        for torn in torn(&old, &new, &differ) {
            whole += usize::from(assert_opens(&commits, &after, name, &torn.concat()));
            images += 1;
        }
        // Only where all pages arrived where they belong.
        assert_eq!((images, whole), (16 + 4 + 24, 1));
    }
}
