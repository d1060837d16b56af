//! Clients in the node's own process: their frames cross no socket.
//!
//! What they say gathers in one queue, and the node is woken once for all of it. What the node says
//! goes to the client's ear at once. Both ways are bounded, as a socket's pipes are.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use actix::{Message, Recipient};
use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::messages::ToClient;
use crate::node::{ClientId, Input};
use crate::types::limits::{CLIENT_FRAMES_WAITING, LOCAL_FRAMES_WAITING};

/// The listener of clients that come by none.
pub(super) const LOCAL: u16 = u16::MAX;

/// Hears what the node says. It is dropped when the node ends the session or itself.
pub trait Ear: Send {
    /// A frame came. It counts as unread until [`LocalSession::taken`] says otherwise.
    fn hear(&self, frame: Bytes);

    /// The node takes frames again, after it had refused one.
    fn room(&self);
}

/// Where clients of this process come in.
#[derive(Debug, Clone)]
pub struct LocalPort {
    queue: UnboundedSender<FromLocal>,
    woken: Arc<AtomicBool>,
    node: Recipient<Wake>,
    next: Arc<AtomicU64>,
}

/// A session of a client of this process. Dropping it ends it.
#[derive(Debug)]
pub struct LocalSession {
    port: LocalPort,
    routing: Bytes,
    pipes: Arc<Pipes>,
}

/// There is something in the queue.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Wake;

enum FromLocal {
    Open(Bytes, Arc<Pipes>, Box<dyn Ear>),
    Frame(Bytes, Bytes),
    Close(Bytes),
}

/// How full the pipes of a session are, in frames.
#[derive(Debug, Default)]
struct Pipes {
    unheard: AtomicUsize,
    unread: AtomicUsize,
    /// The client waits for room.
    full: AtomicBool,
}

/// The node's end of all sessions.
pub(super) struct Locals {
    queue: UnboundedReceiver<FromLocal>,
    woken: Arc<AtomicBool>,
    sessions: BTreeMap<Bytes, (Arc<Pipes>, Box<dyn Ear>)>,
}

/// The node's end, and the way to it.
pub(super) fn port(node: Recipient<Wake>) -> (LocalPort, Locals) {
    let (sender, queue) = unbounded_channel();
    let woken = Arc::new(AtomicBool::new(false));
    let port = LocalPort {
        queue: sender,
        woken: Arc::clone(&woken),
        node,
        next: Arc::default(),
    };
    let locals = Locals {
        queue,
        woken,
        sessions: BTreeMap::new(),
    };
    (port, locals)
}

impl LocalPort {
    /// Opens a session whose client hears by `ear`.
    pub fn open(&self, ear: Box<dyn Ear>) -> LocalSession {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let routing = Bytes::copy_from_slice(&number.to_be_bytes());
        let pipes = Arc::new(Pipes::default());
        self.say(FromLocal::Open(routing.clone(), Arc::clone(&pipes), ear));
        LocalSession {
            port: self.clone(),
            routing,
            pipes,
        }
    }

    fn say(&self, what: FromLocal) {
        // A node that has stopped drops the queue, and every ear with it.
        let _ = self.queue.send(what);
        if !self.woken.swap(true, Ordering::AcqRel) {
            // One at a time waits, so the mailbox's bound needs no regard.
            self.node.do_send(Wake);
        }
    }
}

impl LocalSession {
    /// Says something to the node.
    ///
    /// # Errors
    /// The frame, if those before it fill the pipe; [`Ear::room`] tells when to try again.
    pub fn send(&self, frame: Bytes) -> Result<(), Bytes> {
        let is_full = || self.pipes.unheard.load(Ordering::Acquire) >= LOCAL_FRAMES_WAITING;
        if is_full() {
            self.pipes.full.store(true, Ordering::Release);
            // The node may have taken all of them before it could see that somebody waits.
            if is_full() {
                return Err(frame);
            }
        }
        self.pipes.unheard.fetch_add(1, Ordering::AcqRel);
        self.port.say(FromLocal::Frame(self.routing.clone(), frame));
        Ok(())
    }

    /// A frame that was heard is read.
    pub fn taken(&self) {
        self.pipes.unread.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for LocalSession {
    fn drop(&mut self) {
        self.port.say(FromLocal::Close(self.routing.clone()));
    }
}

impl Locals {
    /// What was said since the last time.
    pub(super) fn take(&mut self) -> Vec<Input> {
        // A swap, so that nothing below is looked at before others see it.
        self.woken.swap(false, Ordering::AcqRel);
        let mut inputs = Vec::new();
        while let Ok(said) = self.queue.try_recv() {
            match said {
                FromLocal::Open(routing, pipes, ear) => {
                    self.sessions.insert(routing, (pipes, ear));
                }
                FromLocal::Frame(routing, frame) => {
                    let Some((pipes, ear)) = self.sessions.get(&routing) else {
                        continue;
                    };
                    pipes.unheard.fetch_sub(1, Ordering::AcqRel);
                    if pipes.full.swap(false, Ordering::AcqRel) {
                        ear.room();
                    }
                    inputs.push(Input::ClientFrame {
                        client: client(routing),
                        principal: None,
                        frames: vec![frame],
                    });
                }
                FromLocal::Close(routing) => {
                    if self.sessions.remove(&routing).is_some() {
                        let client = client(routing);
                        inputs.push(Input::ClientGone { client });
                    }
                }
            }
        }
        inputs
    }

    /// Hands a frame to its client. What the node must hear of that.
    pub(super) fn deliver(&mut self, order: ToClient) -> Option<Input> {
        let ToClient {
            client,
            mut frames,
            droppable,
        } = order;
        let Some((pipes, ear)) = self.sessions.get(&client.routing) else {
            return Some(Input::ClientGone { client });
        };
        let full = pipes.unread.load(Ordering::Acquire) >= CLIENT_FRAMES_WAITING as usize;
        match (full, droppable) {
            (true, Some(what)) => return Some(Input::Dropped { client, what }),
            (true, None) => {
                self.sessions.remove(&client.routing);
                return Some(Input::ClientGone { client });
            }
            (false, _) => {}
        }
        // No delimiter was sent, so there is none before the frame.
        if let Some(frame) = frames.pop() {
            pipes.unread.fetch_add(1, Ordering::AcqRel);
            ear.hear(frame);
        }
        None
    }
}

impl fmt::Debug for FromLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(routing, ..) => f.debug_tuple("Open").field(routing).finish(),
            Self::Frame(routing, _) => f.debug_tuple("Frame").field(routing).finish(),
            Self::Close(routing) => f.debug_tuple("Close").field(routing).finish(),
        }
    }
}

fn client(routing: Bytes) -> ClientId {
    ClientId {
        listener: LOCAL,
        routing,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use actix::prelude::*;

    use super::*;

    /// What an ear was told; it ends when the ear does.
    struct Told(Sender<Option<Bytes>>);

    impl Ear for Told {
        fn hear(&self, frame: Bytes) {
            self.0.send(Some(frame)).expect("the test listens");
        }

        fn room(&self) {
            self.0.send(None).expect("the test listens");
        }
    }

    struct Deaf;

    impl Actor for Deaf {
        type Context = Context<Self>;
    }

    impl Handler<Wake> for Deaf {
        type Result = ();

        fn handle(&mut self, _: Wake, _: &mut Context<Self>) {}
    }

    fn session(port: &LocalPort) -> (LocalSession, Receiver<Option<Bytes>>) {
        let (told, hears) = channel();
        (port.open(Box::new(Told(told))), hears)
    }

    fn to_client(session: &LocalSession, droppable: bool) -> ToClient {
        ToClient {
            client: client(session.routing.clone()),
            frames: vec![Bytes::from_static(b"x")],
            droppable: droppable.then(|| crate::node::Droppable {
                subscription: 1,
                channel: "ticks".into(),
                count: 1,
                bytes: 1,
            }),
        }
    }

    fn with_port(test: impl FnOnce(LocalPort, Locals)) {
        System::new().block_on(async {
            let (port, locals) = port(Deaf.start().recipient());
            test(port, locals);
        });
    }

    // Promise 5: neither side makes the other keep what it does not take.
    #[test]
    fn a_full_pipe_gives_the_frame_back_and_tells_when_there_is_room() {
        with_port(|port, mut locals| {
            let (session, hears) = session(&port);
            for _ in 0..LOCAL_FRAMES_WAITING {
                session.send(Bytes::new()).expect("there is room");
            }
            let back = session.send(Bytes::from_static(b"one more"));
            assert_eq!(back, Err(Bytes::from_static(b"one more")));
            assert!(hears.try_recv().is_err(), "there is none yet");
            assert_eq!(locals.take().len(), LOCAL_FRAMES_WAITING);
            assert_eq!(hears.try_recv(), Ok(None));
            session.send(Bytes::new()).expect("there is room again");
        });
    }

    #[test]
    fn a_client_that_does_not_read_misses_signals_and_then_its_session() {
        with_port(|port, mut locals| {
            let (session, hears) = session(&port);
            locals.take();
            for _ in 0..CLIENT_FRAMES_WAITING {
                assert_eq!(locals.deliver(to_client(&session, false)), None);
            }
            let dropped = locals.deliver(to_client(&session, true));
            assert!(
                matches!(dropped, Some(Input::Dropped { .. })),
                "{dropped:?}"
            );
            session.taken();
            assert_eq!(locals.deliver(to_client(&session, true)), None);
            let gone = locals.deliver(to_client(&session, false));
            assert!(matches!(gone, Some(Input::ClientGone { .. })), "{gone:?}");
            let heard = hears.iter().count();
            assert_eq!(heard, CLIENT_FRAMES_WAITING as usize + 1, "and then no ear");
        });
    }
}
