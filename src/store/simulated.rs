//! A disk in memory that keeps exactly what a real one promises, and of the rest whatever a seed
//! says: unsynced pages are lost, kept or torn, names too; it fails, fills up, slows down and
//! flips bits on demand. Same seed and same calls, same disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::types::Span;

use super::{Disk, DiskFile};
use pages::{PAGE, Page, for_each_page, tear_page, zero_page};

mod pages;

/// What one call costs on a healthy disk, in microseconds: about what an NVMe disk takes.
const WRITE_US: u64 = 20;
const SYNC_US: u64 = 400;

/// A simulated disk. Clones are handles to the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

/// A file of a [`SimDisk`]. It belongs to the process that opened it: after a crash every use of
/// it fails.
#[derive(Debug, Clone)]
pub struct SimFile {
    disk: SimDisk,
    inode: u64,
    life: u64,
}

/// Holds a simulated disk's lock.
#[derive(Debug)]
pub struct SimLock {
    disk: SimDisk,
    life: u64,
}

/// How often each fault fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SimCounts {
    /// Losses of power.
    pub crashes: u64,
    /// Ends of the process alone, which lose nothing the system took.
    pub kills: u64,
    /// Unsynced pages lost in a crash.
    pub pages_lost: u64,
    /// Unsynced pages of which a crash kept some sectors.
    pub pages_torn: u64,
    /// Unsynced pages that a crash kept although it need not have.
    pub pages_kept: u64,
    /// Creations, renames and deletions undone by a crash.
    pub names_lost: u64,
    /// Writes refused.
    pub writes_failed: u64,
    /// Syncs refused.
    pub syncs_failed: u64,
    /// Reads refused.
    pub reads_failed: u64,
    /// Reads that gave what stands elsewhere in the file.
    pub reads_misdirected: u64,
    /// Writes refused because the disk was full.
    pub full: u64,
    /// Bits flipped.
    pub bits_flipped: u64,
    /// Calls slowed down.
    pub slowed: u64,
}

#[derive(Debug)]
struct State {
    rng: ChaCha8Rng,
    files: BTreeMap<u64, Inode>,
    names: BTreeMap<String, u64>,
    synced_names: BTreeMap<String, u64>,
    unsynced_names: Vec<NameChange>,
    next_inode: u64,
    /// Counts crashes and kills: handles of an earlier life are dead.
    life: u64,
    locked: bool,
    capacity: Option<u64>,
    slowness: u64,
    elapsed_us: u64,
    fail_writes: u32,
    fail_syncs: u32,
    fail_reads: u32,
    /// So many reads are sound, then so many go astray.
    stray_reads: (u32, u32),
    /// Changes left before the power goes.
    power: Option<u64>,
    changes: u64,
    counts: SimCounts,
}

/// A page that is not in the map is zero.
#[derive(Debug, Clone, Default)]
struct Inode {
    bytes: u64,
    pages: BTreeMap<u64, Page>,
    synced_bytes: u64,
    synced_pages: BTreeMap<u64, Page>,
    dirty: BTreeSet<u64>,
    /// Pages whose sync failed: the system forgot that they are dirty, yet the disk lacks them.
    forgotten: BTreeSet<u64>,
}

#[derive(Debug, Clone)]
enum NameChange {
    Create(String, u64),
    Rename(String, String),
    Delete(String),
}

impl SimDisk {
    /// An empty disk without bounds.
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng: ChaCha8Rng::seed_from_u64(seed),
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            synced_names: BTreeMap::new(),
            unsynced_names: Vec::new(),
            next_inode: 1,
            life: 0,
            locked: false,
            capacity: None,
            slowness: 1,
            elapsed_us: 0,
            fail_writes: 0,
            fail_syncs: 0,
            fail_reads: 0,
            stray_reads: (0, 0),
            power: None,
            changes: 0,
            counts: SimCounts::default(),
        })))
    }

    /// The power goes and comes back: what was not synced is lost, kept or torn. The process is
    /// gone, and with it every open file and the lock.
    pub fn crash(&self) {
        let mut state = self.state();
        state.counts.crashes += 1;
        state.lose_names();
        state.lose_pages();
        state.begin_life();
    }

    /// The process ends (`kill -9`), the system goes on: nothing it took is lost, yet nothing
    /// more is synced either.
    pub fn kill(&self) {
        let mut state = self.state();
        state.counts.kills += 1;
        state.begin_life();
    }

    /// The power goes during the change after the next `changes` ones: it and every later call
    /// fail until [`SimDisk::crash`].
    pub fn cut_power_after(&self, changes: u64) {
        self.state().power = Some(changes);
    }

    /// Takes back what [`SimDisk::cut_power_after`] announced, if it did not come to it.
    pub fn keep_power(&self) {
        self.state().power = None;
    }

    /// How many changes (creations, renames, deletions, writes, syncs) the disk was asked for.
    pub fn changes(&self) -> u64 {
        self.state().changes
    }

    /// The next `times` writes fail, each after writing part of its bytes.
    pub fn fail_writes(&self, times: u32) {
        self.state().fail_writes = times;
    }

    /// The next `times` syncs of files fail. Some of the bytes arrive, the others never will, and
    /// the system believes that all did.
    pub fn fail_syncs(&self, times: u32) {
        self.state().fail_syncs = times;
    }

    /// The next `times` reads fail.
    pub fn fail_reads(&self, times: u32) {
        self.state().fail_reads = times;
    }

    /// After `first` reads more, `times` reads give each page its neighbour's bytes.
    pub fn misdirect_reads(&self, first: u32, times: u32) {
        self.state().stray_reads = (first, times);
    }

    /// How many bytes of files the disk holds, at most.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Makes every call take `times` as long; 1 is healthy.
    pub fn set_slowness(&self, times: u64) {
        self.state().slowness = times.max(1);
    }

    /// The time that the calls since the last question would have taken.
    pub fn take_elapsed(&self) -> Span {
        let mut state = self.state();
        Span(std::mem::take(&mut state.elapsed_us) * 1_000)
    }

    /// Flips one bit of a file, in memory and on the disk. `bit` counts from the file's start.
    ///
    /// # Panics
    /// If there is no such file, or no such bit in it.
    pub fn flip_bit(&self, name: &str, bit: u64) {
        let mut state = self.state();
        let inode = state.names.get(name).copied();
        let inode = inode.unwrap_or_else(|| panic!("there is no file {name} to flip a bit of"));
        let position = bit / 8;
        let Some(file) = state.files.get_mut(&inode) else {
            panic!("the file {name} has no inode");
        };
        assert!(position < file.bytes, "{name} has no bit {bit}");
        for pages in [&mut file.pages, &mut file.synced_pages] {
            let page = Arc::make_mut(pages.entry(position / PAGE).or_insert_with(zero_page));
            page[(position % PAGE) as usize] ^= 1 << (bit % 8);
        }
        state.counts.bits_flipped += 1;
    }

    /// How often each fault fired.
    pub fn counts(&self) -> SimCounts {
        self.state().counts
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a change: counts it, takes its time, and fails if the power goes during it.
    fn change(&self, cost_us: u64) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.state();
        state.changes += 1;
        state.spend(cost_us);
        match &mut state.power {
            Some(0) => Err(io::Error::other("the power is off")),
            Some(left) => {
                *left -= 1;
                Ok(state)
            }
            None => Ok(state),
        }
    }

    fn powered(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.state();
        match state.power {
            Some(0) => Err(io::Error::other("the power is off")),
            _ => Ok(state),
        }
    }
}

impl State {
    fn begin_life(&mut self) {
        self.life += 1;
        self.locked = false;
        self.power = None;
        (self.fail_writes, self.fail_syncs) = (0, 0);
        (self.fail_reads, self.stray_reads) = (0, (0, 0));
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        let synced: BTreeSet<u64> = self.synced_names.values().copied().collect();
        self.files
            .retain(|inode, _| named.contains(inode) || synced.contains(inode));
    }

    /// Whether this read does.
    fn goes_astray(&mut self) -> bool {
        let (first, times) = self.stray_reads;
        self.stray_reads = match first {
            0 => (0, times.saturating_sub(1)),
            _ => (first - 1, times),
        };
        first == 0 && times > 0
    }

    fn spend(&mut self, cost_us: u64) {
        self.elapsed_us += cost_us * self.slowness;
        if self.slowness > 1 {
            self.counts.slowed += 1;
        }
    }

    /// Each unsynced change of a name happened or did not, as far as it still can.
    fn lose_names(&mut self) {
        for change in std::mem::take(&mut self.unsynced_names) {
            if self.rng.gen_bool(0.5) {
                apply(&mut self.synced_names, &change);
            } else {
                self.counts.names_lost += 1;
            }
        }
        self.names = self.synced_names.clone();
    }

    /// All unsynced pages of a file are kept, or none, or the first ones, or any.
    fn lose_pages(&mut self) {
        let Self {
            rng, files, counts, ..
        } = self;
        for file in files.values_mut() {
            let unsynced: Vec<u64> = file.dirty.union(&file.forgotten).copied().collect();
            let manner = rng.gen_range(0..4);
            let kept = rng.gen_range(0..=unsynced.len());
            for (at, number) in unsynced.iter().enumerate() {
                if file.forgotten.contains(number) {
                    counts.pages_lost += 1;
                    continue;
                }
                let (keep, tear) = match manner {
                    0 => (false, false),
                    1 => (true, false),
                    2 => (at < kept, at == kept),
                    _ => (rng.gen_bool(0.5), rng.gen_bool(0.25)),
                };
                let Some(new) = file.pages.get(number).cloned() else {
                    continue;
                };
                if tear {
                    counts.pages_torn += 1;
                    let old = file.synced_pages.entry(*number).or_insert_with(zero_page);
                    tear_page(rng, Arc::make_mut(old), &new);
                } else if keep {
                    counts.pages_kept += 1;
                    file.synced_pages.insert(*number, new);
                } else {
                    counts.pages_lost += 1;
                    continue;
                }
                // A page beyond the synced length is there only if the length is.
                let end = ((number + 1) * PAGE).min(file.bytes);
                file.synced_bytes = file.synced_bytes.max(end);
            }
            file.dirty.clear();
            file.forgotten.clear();
            file.pages = file.synced_pages.clone();
            file.bytes = file.synced_bytes;
        }
    }

    fn used_bytes(&self) -> u64 {
        let named = self
            .names
            .values()
            .filter_map(|inode| self.files.get(inode));
        named.map(|file| file.bytes).sum()
    }

    fn change_name(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.unsynced_names.push(change);
    }
}

impl Disk for SimDisk {
    type File = SimFile;
    type Lock = SimLock;

    fn create(&self, name: &str) -> io::Result<SimFile> {
        let mut state = self.change(WRITE_US)?;
        let inode = state.next_inode;
        state.next_inode += 1;
        state.files.insert(inode, Inode::default());
        state.change_name(NameChange::Create(name.to_owned(), inode));
        let life = state.life;
        drop(state);
        Ok(SimFile {
            disk: self.clone(),
            inode,
            life,
        })
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let state = self.powered()?;
        let inode = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        let life = state.life;
        drop(state);
        Ok(SimFile {
            disk: self.clone(),
            inode,
            life,
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.change(WRITE_US)?;
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        let mut state = self.change(WRITE_US)?;
        if !state.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.change_name(NameChange::Delete(name.to_owned()));
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.powered()?.names.keys().cloned().collect())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.change(SYNC_US)?;
        state.unsynced_names.clear();
        state.synced_names = state.names.clone();
        Ok(())
    }

    fn lock(&self, _name: &str) -> io::Result<SimLock> {
        let mut state = self.powered()?;
        if std::mem::replace(&mut state.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let life = state.life;
        drop(state);
        Ok(SimLock {
            disk: self.clone(),
            life,
        })
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.powered()?;
        let capacity = state.capacity.unwrap_or(1 << 40);
        Ok(capacity.saturating_sub(state.used_bytes()))
    }

    fn path(&self, name: &str) -> String {
        format!("simulated:/{name}")
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut state = self.disk.state();
        if state.life == self.life {
            state.locked = false;
        }
    }
}

impl SimFile {
    /// The state, unless the process that opened this file has ended.
    fn of_this_life<'a>(&self, state: MutexGuard<'a, State>) -> io::Result<MutexGuard<'a, State>> {
        if state.life == self.life && state.files.contains_key(&self.inode) {
            return Ok(state);
        }
        Err(io::Error::other(
            "the process that opened this file is gone",
        ))
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut state = self.of_this_life(self.disk.powered()?)?;
        state.spend(WRITE_US);
        if let Some(left) = state.fail_reads.checked_sub(1) {
            state.fail_reads = left;
            state.counts.reads_failed += 1;
            return Err(io::Error::other("simulated read error"));
        }
        let stray = u64::from(state.goes_astray());
        state.counts.reads_misdirected += stray;
        let file = &state.files[&self.inode];
        let bytes = file.bytes.saturating_sub(position).min(buffer.len() as u64) as usize;
        for_each_page(position, bytes, |number, in_page, range| {
            match file.pages.get(&(number ^ stray)) {
                Some(page) => buffer[range].copy_from_slice(&page[in_page]),
                None => buffer[range].fill(0),
            }
        });
        Ok(bytes)
    }

    fn forget(&self, _position: u64, _bytes: usize) {
        // There is no cache that differs from the disk.
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut state = self.of_this_life(self.disk.change(WRITE_US)?)?;
        let used = state.used_bytes();
        let before = state.files[&self.inode].bytes;
        let growth = (position + bytes.len() as u64).saturating_sub(before);
        let room = state
            .capacity
            .map_or(u64::MAX, |bytes| bytes.saturating_sub(used));
        let (written, result) = if let Some(left) = state.fail_writes.checked_sub(1) {
            state.fail_writes = left;
            state.counts.writes_failed += 1;
            let part = state.rng.gen_range(0..=bytes.len());
            (part, Err(io::Error::other("simulated write error")))
        } else if growth > room {
            state.counts.full += 1;
            let part = (bytes.len() as u64).saturating_sub(growth - room);
            (part as usize, Err(io::ErrorKind::StorageFull.into()))
        } else {
            (bytes.len(), Ok(()))
        };
        let Some(file) = state.files.get_mut(&self.inode) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        for_each_page(position, written, |number, in_page, range| {
            // Zeros into a page that is all zeros: nothing to hold.
            let zeros = bytes[range.clone()].iter().all(|byte| *byte == 0);
            if !zeros || file.pages.contains_key(&number) {
                let page = file.pages.entry(number).or_insert_with(zero_page);
                Arc::make_mut(page)[in_page].copy_from_slice(&bytes[range]);
            }
            file.dirty.insert(number);
            file.forgotten.remove(&number);
        });
        if written > 0 {
            file.bytes = file.bytes.max(position + written as u64);
        }
        result
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.of_this_life(self.disk.change(SYNC_US)?)?;
        let fails = state.fail_syncs.checked_sub(1);
        let State {
            rng, files, counts, ..
        } = &mut *state;
        let Some(file) = files.get_mut(&self.inode) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        for number in std::mem::take(&mut file.dirty) {
            if fails.is_some() && rng.gen_bool(0.5) {
                file.forgotten.insert(number);
                continue;
            }
            if let Some(page) = file.pages.get(&number) {
                file.synced_pages.insert(number, page.clone());
            }
        }
        file.synced_bytes = file.bytes;
        match fails {
            None => Ok(()),
            Some(left) => {
                counts.syncs_failed += 1;
                state.fail_syncs = left;
                Err(io::Error::other("simulated sync error"))
            }
        }
    }

    fn bytes(&self) -> io::Result<u64> {
        let state = self.of_this_life(self.disk.powered()?)?;
        Ok(state.files[&self.inode].bytes)
    }
}

fn apply(names: &mut BTreeMap<String, u64>, change: &NameChange) {
    match change {
        NameChange::Create(name, inode) => {
            names.insert(name.clone(), *inode);
        }
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
        NameChange::Delete(name) => {
            names.remove(name);
        }
    }
}
