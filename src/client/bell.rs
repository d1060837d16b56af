//! What wakes the client's thread: handles ring it, and nodes of the same process.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rings until it is heard; to ring twice costs nothing.
#[derive(Debug)]
pub(super) struct Bell {
    rope: UnixStream,
    clapper: UnixStream,
    rings: AtomicBool,
}

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        let (rope, clapper) = UnixStream::pair()?;
        rope.set_nonblocking(true)?;
        clapper.set_nonblocking(true)?;
        Ok(Self {
            rope,
            clapper,
            rings: AtomicBool::new(false),
        })
    }

    /// Wakes the thread.
    pub(super) fn ring(&self) {
        if !self.rings.swap(true, Ordering::AcqRel) {
            // Full means that the thread has more than one byte to wake up by.
            let _ = (&self.rope).write(&[1]);
        }
    }

    /// What the thread waits on: readable while it rings.
    pub(super) fn descriptor(&self) -> RawFd {
        self.clapper.as_raw_fd()
    }

    /// Ends the ringing. What it was rung for is looked at after this.
    pub(super) fn heard(&self) {
        let mut bytes = [0; 64];
        while matches!((&self.clapper).read(&mut bytes), Ok(n) if n == bytes.len()) {}
        // A swap, so that nothing is looked at before others see it.
        self.rings.swap(false, Ordering::AcqRel);
    }
}
