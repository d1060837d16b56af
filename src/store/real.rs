//! The disk of this machine: a folder of plain files.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::num::NonZero;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::fs::Advice;

use super::{Disk, DiskFile, StoreError};

/// How often a lock that is taken is tried, and the pause between: a fork takes less.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A folder on this machine.
#[derive(Debug, Clone)]
pub struct RealDisk {
    folder: Arc<Path>,
}

/// A file of a [`RealDisk`].
#[derive(Debug, Clone)]
pub struct RealFile(Arc<File>);

/// Holds the folder's lock; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub struct RealLock {
    _file: File,
}

impl RealDisk {
    /// Opens the folder, making it and its parents where they are missing.
    ///
    /// # Errors
    /// [`StoreError::Folder`] if it cannot be made or read.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let folder: PathBuf = folder.into();
        make_folder(&folder)
            .and_then(|()| fs::read_dir(&folder).map(drop))
            .map_err(|error| StoreError::Folder {
                folder: folder.display().to_string(),
                error: error.to_string(),
            })?;
        Ok(Self {
            folder: folder.into(),
        })
    }
}

impl Disk for RealDisk {
    type File = RealFile;
    type Lock = RealLock;

    fn create(&self, name: &str) -> io::Result<RealFile> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.folder.join(name))
            .map(|file| RealFile(Arc::new(file)))
    }

    fn open(&self, name: &str) -> io::Result<RealFile> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open(self.folder.join(name))
            .map(|file| RealFile(Arc::new(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.folder.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            // The journal writes no name that is not UTF-8; such a file is none of its own.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.folder)?.sync_all()
    }

    fn lock(&self, name: &str) -> io::Result<RealLock> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.folder.join(name))?;
        // A process that this one forks holds all of its locks until it runs its own program: one
        // that was just let go of may be taken for a moment still.
        for _ in 0..LOCK_TRIES {
            match file.try_lock() {
                Ok(()) => return Ok(RealLock { _file: file }),
                Err(TryLockError::WouldBlock) => thread::sleep(LOCK_PAUSE),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(&*self.folder)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn path(&self, name: &str) -> String {
        match name {
            "" => self.folder.display().to_string(),
            name => self.folder.join(name).display().to_string(),
        }
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(&mut buffer[done..], position + done as u64) {
                Ok(0) => break,
                Ok(bytes) => done += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn forget(&self, position: u64, bytes: usize) {
        // A system that does not take the advice reads from its cache, as if none had been given.
        let bytes = NonZero::new(bytes as u64);
        let _ = rustix::fs::fadvise(&*self.0, position, bytes, Advice::DontNeed);
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// Makes the folder and those above it, each durable in the one that holds it.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = match folder.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Err(io::ErrorKind::NotFound.into()),
    };
    make_folder(parent)?;
    match fs::create_dir(folder) {
        Ok(()) => File::open(parent)?.sync_all(),
        // Another process made it in between.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}
