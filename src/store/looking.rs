//! A disk that is looked at and never changed: what is written to it goes nowhere. So the code of a
//! start tells what it would do to a folder, and does not do it.

use std::io;

use super::{Disk, DiskFile};

/// A folder that stays as it is, whatever is done to it. Whoever looks has locked it already.
#[derive(Debug, Clone)]
pub(super) struct Looking<D>(pub(super) D);

/// A file of it.
#[derive(Debug, Clone)]
pub(super) struct LookingFile<F>(F);

impl<D: Disk> Disk for Looking<D> {
    type File = LookingFile<D::File>;
    type Lock = ();

    fn create(&self, _name: &str) -> io::Result<Self::File> {
        // A folder that has an identity is opened without making a file.
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn open(&self, name: &str) -> io::Result<Self::File> {
        self.0.open(name).map(LookingFile)
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn delete(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.0.free_bytes()
    }

    fn path(&self, name: &str) -> String {
        self.0.path(name)
    }
}

impl<F: DiskFile> DiskFile for LookingFile<F> {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.0.read_at(buffer, position)
    }

    fn forget(&self, position: u64, bytes: usize) {
        self.0.forget(position, bytes);
    }

    fn write_at(&self, _bytes: &[u8], _position: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&self) -> io::Result<u64> {
        self.0.bytes()
    }
}
