//! The spare: one segment's worth of zeros, written ahead of time, because a sync into space the
//! file system has already given costs about half of one that must also give space.

use super::{Disk, DiskFile, StoreError};

/// A spare in the making.
pub(super) const SPARE_TEMPORARY: &str = "spare.tmp";
/// A spare that is durable and all zeros.
pub(super) const SPARE: &str = "spare";

/// Zeros per write and sync: a commit that waits behind one waits for no more than this.
const STEP: u64 = 256 << 10;

/// Where the spare is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Spare {
    /// There is none.
    #[default]
    Absent,
    /// Somebody is writing it.
    Making,
    /// It waits to be taken.
    Ready,
}

/// Writes a spare of `bytes`, durable under its name. A failure leaves nothing behind.
pub(super) fn make<D: Disk>(disk: &D, bytes: u64) -> Result<(), StoreError> {
    write(disk, bytes).inspect_err(|_| {
        // The space matters now; if even this fails, the next start removes the file.
        let _ = disk.delete(SPARE_TEMPORARY);
    })
}

fn write<D: Disk>(disk: &D, bytes: u64) -> Result<(), StoreError> {
    let failed = |action| {
        let path = disk.path(SPARE_TEMPORARY);
        move |error| StoreError::disk(action, path, &error)
    };
    let file = disk
        .create(SPARE_TEMPORARY)
        .map_err(failed("cannot make"))?;
    let zeros = vec![0; STEP as usize];
    let mut position = 0;
    while position < bytes {
        let now = (bytes - position).min(STEP);
        file.write_at(&zeros[..now as usize], position)
            .map_err(failed("cannot write"))?;
        file.sync().map_err(failed("cannot sync"))?;
        position += now;
    }
    disk.rename(SPARE_TEMPORARY, SPARE)
        .map_err(failed("cannot rename"))?;
    disk.sync_dir().map_err(failed("cannot sync the folder of"))
}
