//! The workload: clients that speak to nodes in bytes, as a stranger would, through the public
//! codec. Each keeps one connection and decides for itself; the world carries its frames.

mod auditor;
mod consumer;
mod crowd;
mod holder;
mod hostile;
mod listener;
mod producer;
mod signaller;

use bytes::Bytes;

use super::dice::Dice;
use super::heap::{ClientNo, ConnectionId};
use super::machine::MachineId;
use super::oracle::silence::Question;
use super::oracle::{Oracles, Verdict};
use super::report::Report;
use super::story::Story;
use crate::topology::{Kind, Topology};
use crate::types::{ChannelName, Partition, Pattern, Span, Time, Wall};
use crate::wire::client::Reply;

/// How the run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// Faults fire; everybody is busy.
    Storm,
    /// All is healed: finish what was begun, begin nothing.
    Calm,
    /// Once more: everybody publishes a little, everybody must get it.
    Probe,
}

/// What a client may see and touch.
pub(super) struct Desk<'a> {
    pub(super) me: ClientNo,
    pub(super) now: Time,
    pub(super) wall: Wall,
    pub(super) mood: Mood,
    /// Publishes are behind steps: do not think, publish.
    pub(super) hurry: bool,
    /// The connection, if there is one, and the machine's life at its other end.
    pub(super) connection: Option<ConnectionId>,
    pub(super) home: (MachineId, u64),
    pub(super) scene: &'a Scene,
    pub(super) dice: &'a mut Dice,
    pub(super) oracles: &'a mut Oracles,
    pub(super) report: &'a mut Report,
    pub(super) story: &'a mut Story,
    pub(super) acts: Vec<Act>,
}

/// What a client wants done.
#[derive(Debug)]
pub(super) enum Act {
    /// Send a frame to its node.
    Send(Bytes),
    /// Drop the connection, if any, and connect to some node.
    Connect,
}

impl Act {
    /// Whether the client's connection changes by it.
    fn connects(&self) -> bool {
        matches!(self, Self::Connect)
    }
}

/// A client.
pub(super) trait Client {
    /// Time passed. How long until the next time.
    fn wake(&mut self, desk: &mut Desk<'_>) -> Verdict<Span>;
    /// It is connected, anew.
    fn connected(&mut self, desk: &mut Desk<'_>);
    /// Its connection is gone.
    fn lost(&mut self, desk: &mut Desk<'_>);
    /// Its node said something.
    fn reply(&mut self, desk: &mut Desk<'_>, reply: Reply, records: Bytes) -> Verdict;
    /// What it still waits for.
    fn lacks(&self, me: ClientNo, scene: &Scene, oracles: &Oracles) -> Option<String>;
}

/// The channels as clients know them.
pub(super) struct Scene {
    pub(super) streams: Vec<Stage>,
    pub(super) signals: Vec<Stage>,
    pub(super) window: u64,
    pub(super) session_window: u64,
    pub(super) producer_window: u64,
}

/// One channel with subjects that it captures.
pub(super) struct Stage {
    pub(super) channel: ChannelName,
    pub(super) partitions: u32,
    pub(super) subjects: Vec<String>,
    /// Patterns that select some of the subjects.
    pub(super) patterns: Vec<String>,
}

impl Desk<'_> {
    /// Its node answered.
    pub(super) fn answered(&mut self, question: Question) {
        if let Some(connection) = self.connection {
            self.oracles.silence.answered(connection, question);
        }
    }

    /// Tells the story's reader what this client saw.
    pub(super) fn tell(&mut self, partition: Option<&Partition>, text: String) {
        let who = format!("client {}", self.me);
        self.story.tell(self.now, &who, partition, text);
    }
}

impl Scene {
    pub(super) fn new(topology: &Topology) -> Self {
        let stages = |kind: Kind| {
            let of_kind = topology.channels.iter().filter(|(_, c)| c.kind == kind);
            of_kind
                .map(|(name, channel)| Stage::new(name, channel.partitions, &channel.subjects))
                .collect()
        };
        Self {
            streams: stages(Kind::Stream),
            signals: stages(Kind::Signal),
            window: topology.limits.subscription_window_bytes,
            session_window: topology.limits.session_window_bytes,
            producer_window: topology.limits.producer_window,
        }
    }
}

impl Stage {
    fn new(channel: &ChannelName, partitions: u32, captured: &[Pattern]) -> Self {
        let mut subjects = Vec::new();
        let text = |pattern: &Pattern| pattern.as_str().to_owned();
        let mut patterns: Vec<String> = captured.iter().map(text).collect();
        for pattern in captured.iter().map(Pattern::as_str) {
            let stem = pattern.trim_end_matches('#').trim_end_matches('.');
            let stem = stem.replace('*', "one");
            match pattern.ends_with('#') {
                true if stem.is_empty() => {
                    subjects.extend(["eu.new".to_owned(), "欧洲".to_owned()]);
                }
                true => {
                    subjects.extend([
                        format!("{stem}.eu"),
                        format!("{stem}.eu.new"),
                        format!("{stem}.亚洲.新"),
                    ]);
                    patterns.extend([format!("{stem}.*"), format!("{stem}.eu.#")]);
                }
                false => subjects.push(stem),
            }
        }
        Self {
            channel: channel.clone(),
            partitions,
            subjects,
            patterns,
        }
    }
}

/// Consumers behind one connection: their windows add up to more than the session's.
const CROWD: u64 = 12;

/// The cast of a run.
pub(super) fn cast(scene: &Scene) -> Vec<Box<dyn Client>> {
    let mut cast: Vec<Box<dyn Client>> = Vec::new();
    if !scene.streams.is_empty() {
        for style in producer::STYLES {
            cast.push(Box::new(producer::Producer::new(style)));
        }
        for _ in 0..5 {
            cast.push(Box::new(consumer::Consumer::new(0, 1)));
        }
        cast.push(Box::new(crowd::Crowd::new(CROWD)));
        cast.push(Box::new(auditor::Auditor::default()));
        // Two for a cursor.
        let last = scene.streams.len() - 1;
        for stage in [0, 0, last, last, 1.min(last), 1.min(last)] {
            cast.push(Box::new(holder::Holder::new(scene, stage)));
        }
    }
    if !scene.signals.is_empty() {
        for _ in 0..2 {
            cast.push(Box::new(signaller::Signaller::default()));
            cast.push(Box::new(listener::Listener::default()));
            cast.push(Box::new(listener::Listener::default()));
        }
    }
    cast.push(Box::new(hostile::Hostile));
    cast
}
