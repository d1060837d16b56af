//! Pages: the unit in which the simulated disk keeps, loses and tears what is written.

use std::sync::Arc;

use rand::Rng;
use rand_chacha::ChaCha8Rng;

pub(super) const PAGE: u64 = 4096;
/// The unit that a disk writes whole.
const SECTOR: usize = 512;

pub(super) type Page = Arc<[u8; PAGE as usize]>;

/// Some sectors of the new page, the others of the old.
pub(super) fn tear_page(
    rng: &mut ChaCha8Rng,
    old: &mut [u8; PAGE as usize],
    new: &[u8; PAGE as usize],
) {
    for (old, new) in old.chunks_mut(SECTOR).zip(new.chunks(SECTOR)) {
        if rng.gen_bool(0.5) {
            old.copy_from_slice(new);
        }
    }
}

/// Calls `each` with every page that `bytes` from `position` touch: its number, the range in the
/// page, the range in the buffer.
pub(super) fn for_each_page(
    position: u64,
    bytes: usize,
    mut each: impl FnMut(u64, std::ops::Range<usize>, std::ops::Range<usize>),
) {
    let mut done = 0;
    while done < bytes {
        let at = position + done as u64;
        let from = (at % PAGE) as usize;
        let now = (PAGE as usize - from).min(bytes - done);
        each(at / PAGE, from..from + now, done..done + now);
        done += now;
    }
}

pub(super) fn zero_page() -> Page {
    Arc::new([0; PAGE as usize])
}
