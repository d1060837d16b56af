//! What surrounds the segments in a data folder: the lock, the identity, what a crash left behind.

use std::io;

use crate::types::Incarnation;

use super::base::{BASE, BASE_TEMPORARY, Base};
use super::identity::{FolderIdentity, IDENTITY_BYTES_MAX};
use super::layout::{FORMAT_VERSION, SegmentHeader, life};
use super::recovery::{holds_commits, open_segment};
use super::rewrite::KEPT_TEMPORARY;
use super::segment::{SEGMENT_TEMPORARY, make_segment, segment_name, segment_number};
use super::spare::{SPARE, SPARE_TEMPORARY};
use super::{Disk, DiskFile, Identity, StoreError};

const IDENTITY: &str = "identity";
const IDENTITY_TEMPORARY: &str = "identity.tmp";
const LOCK: &str = "lock";

/// What a crash may leave behind, worth nothing. A spare is made anew: that it is all zeros is
/// known only to the process that made it.
const LEFTOVERS: [&str; 6] = [
    BASE_TEMPORARY,
    KEPT_TEMPORARY,
    SEGMENT_TEMPORARY,
    SPARE_TEMPORARY,
    SPARE,
    IDENTITY_TEMPORARY,
];

/// A folder that is ours and locked.
pub(super) struct Folder<L> {
    pub(super) lock: L,
    pub(super) incarnation: Incarnation,
    /// What its segments carry of its identity.
    pub(super) identity: u32,
    /// The segments that are there, in order; one that was written anew stands for several.
    pub(super) segments: Vec<u64>,
    /// What those before them have left.
    pub(super) base: Option<Base>,
}

/// Locks the folder, removes what is left over, and makes sure that it belongs to `who`; founds
/// it if it is empty.
pub(super) fn open_folder<D: Disk>(
    disk: &D,
    who: &Identity,
) -> Result<Folder<D::Lock>, StoreError> {
    let lock = lock(disk)?;
    let names = disk.list().map_err(|error| folder_error(disk, &error))?;
    let known = names.iter().any(|name| name == IDENTITY);
    // Look whose it is before anything is removed.
    let folder = match known {
        true => Some(read_identity(disk, who)?),
        false => None,
    };
    for leftover in LEFTOVERS {
        if names.iter().any(|name| name == leftover) {
            delete(disk, leftover)?;
        }
    }
    let segments: Vec<u64> = names
        .iter()
        .filter_map(|name| segment_number(name))
        .collect();
    let Some(folder) = folder else {
        let folder = found(disk, who, &segments)?;
        return Ok(Folder {
            lock,
            incarnation: folder.incarnation,
            identity: folder.crc(),
            segments: vec![1],
            base: None,
        });
    };
    let base = match names.iter().any(|name| name == BASE) {
        true => Some(Base::read(disk, folder.incarnation)?),
        false => None,
    };
    let first = base.as_ref().map_or(1, |base| base.first_segment);
    // They were about to go when the process ended.
    for gone in segments.iter().filter(|number| **number < first) {
        delete(disk, &segment_name(*gone))?;
    }
    Ok(Folder {
        lock,
        incarnation: folder.incarnation,
        identity: folder.crc(),
        segments: line_up(disk, &folder, first, segments)?,
        base,
    })
}

/// Locks the folder, or says that another process has it.
pub(super) fn lock<D: Disk>(disk: &D) -> Result<D::Lock, StoreError> {
    disk.lock(LOCK).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => StoreError::Locked {
            folder: disk.path(""),
        },
        _ => folder_error(disk, &error),
    })
}

fn folder_error<D: Disk>(disk: &D, error: &io::Error) -> StoreError {
    StoreError::Folder {
        folder: disk.path(""),
        error: error.to_string(),
    }
}

fn delete<D: Disk>(disk: &D, name: &str) -> Result<(), StoreError> {
    disk.delete(name)
        .map_err(|error| StoreError::disk("cannot delete", disk.path(name), &error))
}

fn read_identity<D: Disk>(disk: &D, who: &Identity) -> Result<FolderIdentity, StoreError> {
    let folder = read_any_identity(disk)?;
    folder.check(&disk.path(IDENTITY), who)?;
    Ok(folder)
}

/// The names of all files of the folder, and whose it is, whoever that is.
pub(super) fn look_at_identity<D: Disk>(
    disk: &D,
) -> Result<(Vec<String>, FolderIdentity), StoreError> {
    let names = disk.list().map_err(|error| folder_error(disk, &error))?;
    Ok((names, read_any_identity(disk)?))
}

/// The numbers of the segments among `names`, from `first` on, in order.
pub(super) fn segments_from(names: &[String], first: u64) -> Vec<u64> {
    let numbers = names.iter().filter_map(|name| segment_number(name));
    let mut numbers: Vec<u64> = numbers.filter(|number| *number >= first).collect();
    numbers.sort_unstable();
    numbers
}

fn read_any_identity<D: Disk>(disk: &D) -> Result<FolderIdentity, StoreError> {
    let path = disk.path(IDENTITY);
    let failed = |error| StoreError::disk("cannot read", path.clone(), &error);
    let file = disk.open(IDENTITY).map_err(failed)?;
    let bytes = file.bytes().map_err(failed)?;
    if bytes > IDENTITY_BYTES_MAX {
        return Err(StoreError::BadIdentity {
            file: path,
            reason: format!("it is longer than {IDENTITY_BYTES_MAX} bytes"),
        });
    }
    let mut text = vec![0; bytes as usize];
    let filled = file.read_at(&mut text, 0).map_err(failed)?;
    FolderIdentity::decode(&path, &text[..filled])
}

/// Makes the first segment, then the identity: a folder with an identity has had a journal, so one
/// that lacks it has lost it and must not vote as if it had promised nothing.
fn found<D: Disk>(
    disk: &D,
    who: &Identity,
    segments: &[u64],
) -> Result<FolderIdentity, StoreError> {
    for number in segments {
        let name = segment_name(*number);
        if holds_commits(disk, &name)? {
            return Err(StoreError::MissingIdentity {
                folder: disk.path(""),
                segment: name,
            });
        }
        delete(disk, &name)?;
    }
    let folder = who.founded();
    let header = SegmentHeader {
        version: FORMAT_VERSION,
        identity: folder.crc(),
        number: 1,
        life: life(folder.incarnation, 1),
        first_sequence: 1,
        previous_crc: 0,
        rewritten: None,
        prefilled_bytes: 0,
    };
    make_segment(disk, &header, None)?;
    let failed = |error| StoreError::disk("cannot write", disk.path(IDENTITY), &error);
    let file = disk.create(IDENTITY_TEMPORARY).map_err(failed)?;
    file.write_at(folder.encode().as_bytes(), 0)
        .map_err(failed)?;
    file.sync().map_err(failed)?;
    disk.rename(IDENTITY_TEMPORARY, IDENTITY).map_err(failed)?;
    disk.sync_dir().map_err(failed)?;
    Ok(folder)
}

/// Segments are numbered from `first` without a hole, but that one which was written anew stands
/// for those after it, too; says which there are. Those that another stands for were about to go
/// when the process ended.
fn line_up<D: Disk>(
    disk: &D,
    folder: &FolderIdentity,
    first: u64,
    mut segments: Vec<u64>,
) -> Result<Vec<u64>, StoreError> {
    segments.retain(|number| *number >= first);
    segments.sort_unstable();
    let (mut expected, mut line) = (first, Vec::new());
    let missing = |number| StoreError::MissingSegment {
        file: disk.path(&segment_name(number)),
    };
    for number in segments {
        if number < expected {
            delete(disk, &segment_name(number))?;
            continue;
        }
        if number > expected {
            return Err(missing(expected));
        }
        let (_, header) = open_segment(disk, folder.incarnation, folder.crc(), number)?;
        expected = header.next_number();
        line.push(number);
    }
    match line.is_empty() {
        true => Err(missing(expected)),
        false => Ok(line),
    }
}
