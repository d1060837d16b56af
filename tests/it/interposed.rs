//! A disk that lets a test act at the moment when a file is opened.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use weft::store::{Disk, SimDisk, SimFile, SimLock};

type Act = Box<dyn FnOnce() + Send>;

/// A simulated disk with a hook in front.
#[derive(Clone)]
pub(crate) struct Interposed {
    disk: SimDisk,
    act: Arc<Mutex<Option<Act>>>,
}

impl Interposed {
    pub(crate) fn new(disk: SimDisk) -> Self {
        Self {
            disk,
            act: Arc::default(),
        }
    }

    /// Calls `act` once, before the next file is opened.
    pub(crate) fn on_next_open(&self, act: impl FnOnce() + Send + 'static) {
        *self.act.lock().expect("a lock") = Some(Box::new(act));
    }
}

impl fmt::Debug for Interposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Interposed").field(&self.disk).finish()
    }
}

impl Disk for Interposed {
    type File = SimFile;
    type Lock = SimLock;

    fn create(&self, name: &str) -> io::Result<SimFile> {
        self.disk.create(name)
    }

    fn open(&self, name: &str) -> io::Result<SimFile> {
        let act = self.act.lock().expect("a lock").take();
        if let Some(act) = act {
            act();
        }
        self.disk.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.disk.delete(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }

    fn lock(&self, name: &str) -> io::Result<SimLock> {
        self.disk.lock(name)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }

    fn path(&self, name: &str) -> String {
        self.disk.path(name)
    }
}
