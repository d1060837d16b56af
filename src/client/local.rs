//! A node in the same process, to which no socket is needed.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use bytes::Bytes;

use super::bell::Bell;

/// A node in this process, as whoever started it offers it to clients.
pub(crate) trait LocalNode: Send + Sync {
    /// Opens a session. What the node says goes to `ear`, which it drops when the session ends.
    fn open(&self, ear: LocalEar) -> Box<dyn LocalLine>;
}

/// A session with a node in this process. Dropping it ends it.
pub(crate) trait LocalLine: Send {
    /// Says something to the node; gives it back while the node has too much to hear.
    ///
    /// # Errors
    /// The frame. [`LocalEar::room`] is called when there is room again.
    fn send(&self, frame: Bytes) -> Result<(), Bytes>;

    /// A frame that [`LocalEar::hear`] was given is read.
    fn taken(&self);
}

/// Where a node in this process says what it has to say to a client.
#[derive(Debug)]
pub(crate) struct LocalEar {
    frames: Option<Sender<Bytes>>,
    bell: Arc<Bell>,
}

/// A [`LocalNode`], as an address holds it.
#[derive(Clone)]
pub(super) struct Local(pub(super) Arc<dyn LocalNode>);

/// The client's end of a session.
pub(super) struct Line {
    line: Box<dyn LocalLine>,
    frames: Receiver<Bytes>,
    /// What the node had no room for.
    waiting: VecDeque<Bytes>,
}

impl LocalEar {
    /// A frame for the client.
    pub(crate) fn hear(&self, frame: Bytes) {
        if let Some(frames) = &self.frames {
            // A client that is gone hears nothing, and has told so.
            let _ = frames.send(frame);
        }
        self.bell.ring();
    }

    /// There is room again for what the client says.
    pub(crate) fn room(&self) {
        self.bell.ring();
    }
}

impl Drop for LocalEar {
    /// The client learns that the session is over.
    fn drop(&mut self) {
        self.frames = None;
        self.bell.ring();
    }
}

impl Line {
    pub(super) fn open(local: &Local, bell: &Arc<Bell>) -> Self {
        let (sender, frames) = channel();
        let ear = LocalEar {
            frames: Some(sender),
            bell: Arc::clone(bell),
        };
        Self {
            line: local.0.open(ear),
            frames,
            waiting: VecDeque::new(),
        }
    }

    /// Says it now, or when there is room.
    pub(super) fn send(&mut self, frame: Bytes) {
        self.waiting.push_back(frame);
        self.push();
    }

    /// The next frame of the node. An error means that the session is over.
    pub(super) fn receive(&mut self) -> Result<Option<Bytes>, ()> {
        self.push();
        match self.frames.try_recv() {
            Ok(frame) => {
                self.line.taken();
                Ok(Some(frame))
            }
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(()),
        }
    }

    /// Whether something still waits for room, which is looked for.
    pub(super) fn is_behind(&mut self) -> bool {
        self.push();
        !self.waiting.is_empty()
    }

    fn push(&mut self) {
        while let Some(frame) = self.waiting.pop_front() {
            if let Err(frame) = self.line.send(frame) {
                self.waiting.push_front(frame);
                return;
            }
        }
    }
}

impl PartialEq for Local {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Local {}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Local")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A node that takes so many frames, and keeps its ear.
    #[derive(Default)]
    struct Fake {
        room: Arc<Mutex<usize>>,
        took: Arc<Mutex<Vec<Bytes>>>,
        ear: Mutex<Option<LocalEar>>,
    }

    struct FakeLine(Arc<Mutex<usize>>, Arc<Mutex<Vec<Bytes>>>);

    impl LocalNode for Fake {
        fn open(&self, ear: LocalEar) -> Box<dyn LocalLine> {
            *self.ear.lock().expect("no panic") = Some(ear);
            Box::new(FakeLine(self.room.clone(), self.took.clone()))
        }
    }

    impl LocalLine for FakeLine {
        fn send(&self, frame: Bytes) -> Result<(), Bytes> {
            let mut room = self.0.lock().expect("no panic");
            if *room == 0 {
                return Err(frame);
            }
            *room -= 1;
            self.1.lock().expect("no panic").push(frame);
            Ok(())
        }

        fn taken(&self) {}
    }

    #[test]
    fn what_finds_no_room_waits_and_goes_in_order() {
        let fake = Arc::new(Fake::default());
        let bell = Arc::new(Bell::new().expect("a bell"));
        let mut line = Line::open(&Local(fake.clone()), &bell);
        for text in ["one", "two", "three"] {
            line.send(Bytes::from_static(text.as_bytes()));
        }
        *fake.room.lock().expect("no panic") = 2;
        assert!(line.is_behind());
        *fake.room.lock().expect("no panic") = 2;
        assert!(!line.is_behind());
        let took = fake.took.lock().expect("no panic").concat();
        assert_eq!(took, b"onetwothree");
    }

    #[test]
    fn a_node_that_drops_its_ear_has_ended_the_session() {
        let fake = Arc::new(Fake::default());
        let bell = Arc::new(Bell::new().expect("a bell"));
        let mut line = Line::open(&Local(fake.clone()), &bell);
        let ear = fake.ear.lock().expect("no panic").take().expect("opened");
        ear.hear(Bytes::from_static(b"last"));
        drop(ear);
        assert_eq!(line.receive(), Ok(Some(Bytes::from_static(b"last"))));
        assert_eq!(line.receive(), Err(()));
    }
}
