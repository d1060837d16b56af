//! The one seam between the journal and a disk: a flat folder of named files.
//!
//! Nothing here knows of commits or segments. An implementation says truthfully what it keeps:
//! a write may be lost until [`DiskFile::sync`] returned, a new, renamed or deleted name until
//! [`Disk::sync_dir`] returned.

use std::fmt::Debug;
use std::io;

/// A folder of files. Clones are handles to the same folder.
pub trait Disk: Debug + Clone + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;
    /// Holds the folder's lock until dropped.
    type Lock: Debug + Send + Sync + 'static;

    /// Creates `name`, or empties it if it exists, for reading and writing.
    fn create(&self, name: &str) -> io::Result<Self::File>;

    /// Opens the existing file `name` for reading and writing; `NotFound` if there is none.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Gives the file `from` the name `to`, replacing a file of that name, in one step.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes the name; `NotFound` if there is none.
    fn delete(&self, name: &str) -> io::Result<()>;

    /// The names of all files, sorted.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes names durable: all that was created, renamed or deleted before.
    fn sync_dir(&self) -> io::Result<()>;

    /// Locks the folder through the file `name` for as long as the guard lives. `WouldBlock` if
    /// another holds it, in this process or in another.
    fn lock(&self, name: &str) -> io::Result<Self::Lock>;

    /// Free bytes where the folder is.
    fn free_bytes(&self) -> io::Result<u64>;

    /// How a person would find the file `name`; the folder itself for an empty name.
    fn path(&self, name: &str) -> String;
}

/// An open file of a [`Disk`]. Clones are handles to the same file.
pub trait DiskFile: Debug + Clone + Send + Sync + 'static {
    /// Reads at `position` until `buffer` is full or the file ends; says how many bytes it read.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;

    /// Asks the system to forget what it remembers of these bytes, so that the next read of them is
    /// one of the disk. What is not written out yet stays.
    fn forget(&self, position: u64, bytes: usize);

    /// Writes all of `bytes` at `position`; the file grows where needed, a gap reads as zeros.
    /// After an error any part of it may have been written.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;

    /// Makes all earlier writes durable, and the length. After an error nothing is known of
    /// the writes since the last success, and a later success says nothing of them.
    fn sync(&self) -> io::Result<()>;

    /// The length of the file in bytes.
    fn bytes(&self) -> io::Result<u64>;
}
