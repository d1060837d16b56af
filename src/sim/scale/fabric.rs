//! Many nodes and clients in rounds of a millisecond, and what they do in each.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;

use bytes::Bytes;

use super::{Meter, Point, Rates, ScaleError, Start, load};
use crate::node::{Input, Lane, Node, NodeConfig, Outbox, Output, Recovery};
use crate::types::limits::TICK;
use crate::types::{Incarnation, NodeName, Now, Span, Time, Wall};
use crate::wire::client::Reply;
use crate::wire::{decode_peer, decode_reply};

/// How long each of the two states is measured, in simulated seconds: probes of silent clients
/// come every two, everything else more often.
pub(super) const MEASURED: u64 = 2;

/// What a round takes.
const ROUND: Span = Span::from_millis(1);

/// Rounds of a second.
const SECOND: u64 = 1_000;

/// A fabric must be ready within so many simulated seconds.
const READY: u64 = 60;

/// Clients that connect or subscribe at a node in one round.
const ARRIVALS: usize = 100;

/// What nodes did.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    control: u64,
    bulk: u64,
    signals: u64,
    replies: u64,
    messages: u64,
    peer_bytes: u64,
    client_bytes: u64,
    commits: u64,
    steps: u64,
    inputs: u64,
    outputs: u64,
    processor: u64,
}

/// What clients were told.
#[derive(Debug, Clone, Default)]
struct Told {
    welcomed: u64,
    standing: u64,
    confirmed: u64,
    delivered: u64,
    refused: Option<String>,
}

/// A fabric under measurement.
pub(super) struct Fabric<'a> {
    point: Point,
    meter: &'a mut dyn Meter,
    nodes: Vec<Node>,
    numbers: BTreeMap<NodeName, usize>,
    now: Now,
    rounds: u64,
    /// What each node takes in the next round.
    inboxes: Vec<Vec<Input>>,
    /// Which nodes want a topic's signals.
    interest: BTreeMap<Bytes, BTreeSet<usize>>,
    published: (u64, u64),
    counts: Counts,
    told: Told,
}

impl<'a> Fabric<'a> {
    /// All nodes, started on empty journals.
    pub(super) fn new(point: Point, meter: &'a mut dyn Meter) -> Result<Self, ScaleError> {
        let topology = load::topology(point);
        let now = Now {
            mono: Time(0),
            wall: Wall(1_700_000_000_000),
        };
        let mut nodes = Vec::new();
        for (number, declared) in topology.nodes.iter().enumerate() {
            let config = NodeConfig {
                // Each process holds its own.
                topology: Arc::new(topology.clone()),
                name: declared.name.clone(),
                incarnation: Incarnation(number as u64 + 1),
                seed: number as u64,
                replaces: false,
            };
            let node = Node::new(config, Recovery::new(&topology.limits), now);
            nodes.push(node.map_err(|error| ScaleError::Start(number, error.to_string()))?);
        }
        let numbered = topology.nodes.iter().enumerate();
        Ok(Self {
            numbers: numbered.map(|(at, node)| (node.name.clone(), at)).collect(),
            inboxes: vec![Vec::new(); nodes.len()],
            point,
            meter,
            nodes,
            now,
            rounds: 0,
            interest: BTreeMap::new(),
            published: (0, 0),
            counts: Counts::default(),
            told: Told::default(),
        })
    }

    /// Waits until every partition is led by its preferred leader and nobody finds a problem.
    pub(super) fn settle(&mut self) -> Result<Start, ScaleError> {
        let is_settled = |fabric: &Self| {
            fabric.nodes.iter().all(|node| {
                let view = node.view();
                let mut all = view.partitions.iter();
                let led = all.all(|seen| seen.leader.as_ref() == Some(&seen.preferred));
                led && view.problems.is_empty()
            })
        };
        self.run_until("every partition is led and nothing is wrong", is_settled)?;
        let share = |count: u64| count as f64 / self.nodes.len() as f64;
        Ok(Start {
            seconds: self.rounds as f64 / SECOND as f64,
            messages: share(self.counts.messages),
            peer_bytes: share(self.counts.peer_bytes),
            processor_ms: share(self.counts.processor) / 1e6,
        })
    }

    /// Connects all clients and lets them subscribe.
    pub(super) fn connect(&mut self) -> Result<(), ScaleError> {
        let point = self.point;
        let hellos = (0..point.clients).map(|client| (client, load::hello(client)));
        self.arrive(hellos);
        let readers = (0..point.readers).map(|number| load::reader(point, number));
        self.arrive(readers);
        let listeners = (0..point.listeners).map(|number| load::listener(point, number));
        self.arrive(listeners);
        // A reader is told that it stands, and then where it begins.
        let (clients, told) = (point.clients, 2 * point.readers + point.listeners);
        self.run_until("every client is welcome and subscribed", |fabric| {
            let (welcomed, standing) = (fabric.told.welcomed, fabric.told.standing);
            welcomed == clients as u64 && standing >= told as u64
        })?;
        // Until what begins with a subscription has come to rest.
        self.run(SECOND, false)
    }

    /// Measures while nobody publishes.
    pub(super) fn idle(&mut self) -> Result<Rates, ScaleError> {
        self.counts = Counts::default();
        self.run(MEASURED * SECOND, false)?;
        Ok(self.rates())
    }

    /// Measures while records and signals are published, after a second of it.
    pub(super) fn load(&mut self) -> Result<Rates, ScaleError> {
        self.run(SECOND, true)?;
        self.counts = Counts::default();
        self.run(MEASURED * SECOND, true)?;
        let rates = self.rates();
        let published = self.published.0;
        self.run_until("every record is confirmed", |fabric| {
            fabric.told.confirmed == published
        })?;
        Ok(rates)
    }

    pub(super) fn resident_bytes(&mut self) -> u64 {
        self.meter.resident_bytes()
    }

    pub(super) fn confirmed(&self) -> u64 {
        self.told.confirmed
    }

    pub(super) fn delivered(&self) -> u64 {
        self.told.delivered
    }

    fn rates(&self) -> Rates {
        let Counts {
            control,
            bulk,
            signals,
            replies,
            messages,
            peer_bytes,
            client_bytes,
            commits,
            steps,
            inputs,
            outputs,
            processor,
        } = self.counts;
        let rate = |count: u64| count as f64 / (MEASURED * self.nodes.len() as u64) as f64;
        let per_step = |count: u64| count as f64 / steps.max(1) as f64;
        Rates {
            control: rate(control),
            bulk: rate(bulk),
            signals: rate(signals),
            replies: rate(replies),
            messages: rate(messages),
            peer_bytes: rate(peer_bytes),
            client_bytes: rate(client_bytes),
            commits: rate(commits),
            steps: rate(steps),
            inputs_per_step: per_step(inputs),
            outputs_per_step: per_step(outputs),
            processor_ms: rate(processor) / 1e6,
        }
    }

    /// Gives each node what its clients send, some of it in each round.
    fn arrive(&mut self, inputs: impl Iterator<Item = (usize, Input)>) {
        let mut arrived: usize = 0;
        for (client, input) in inputs {
            self.inboxes[load::home(self.point, client)].push(input);
            arrived += 1;
            if arrived.is_multiple_of(ARRIVALS * self.nodes.len()) {
                self.round();
            }
        }
    }

    fn run_until(
        &mut self,
        what: &'static str,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<(), ScaleError> {
        for _ in 0..2 * READY {
            self.run(SECOND / 2, false)?;
            if holds(self) {
                return Ok(());
            }
        }
        let seconds = READY;
        Err(ScaleError::NotReady { what, seconds })
    }

    fn run(&mut self, rounds: u64, loaded: bool) -> Result<(), ScaleError> {
        for _ in 0..rounds {
            if loaded {
                self.publish();
            }
            self.round();
            if let Some(why) = self.told.refused.take() {
                return Err(ScaleError::Failed(why));
            }
        }
        Ok(())
    }

    /// What clients publish in this round: evenly over the second.
    fn publish(&mut self) {
        let due = |rate: u64| self.rounds % SECOND * rate % SECOND < rate;
        let (records, signals) = (due(load::RECORDS), due(load::SIGNALS));
        if records {
            let (client, input) = load::record(self.point, self.published.0);
            self.inboxes[load::home(self.point, client)].push(input);
            self.published.0 += 1;
        }
        if signals {
            let (client, input) = load::signal(self.point, self.published.1);
            self.inboxes[load::home(self.point, client)].push(input);
            self.published.1 += 1;
        }
    }

    /// A millisecond: every node takes what has arrived, and what it says is on its way.
    fn round(&mut self) {
        self.rounds += 1;
        self.now.mono = self.now.mono + ROUND;
        self.now.wall.0 += ROUND.as_millis();
        let ticks = TICK.as_millis();
        for (number, inbox) in self.inboxes.iter_mut().enumerate() {
            // Nodes tick in turn, as processes do that were started one after the other.
            let turn = number as u64 * ticks / self.nodes.len() as u64;
            if (self.rounds + turn).is_multiple_of(ticks) {
                inbox.push(Input::Tick);
            }
        }
        let inboxes = vec![Vec::new(); self.nodes.len()];
        let inboxes = mem::replace(&mut self.inboxes, inboxes);
        let mut said: Vec<(usize, Outbox)> = Vec::new();
        let began = self.meter.processor();
        for (number, inbox) in inboxes.into_iter().enumerate() {
            if inbox.is_empty() {
                continue;
            }
            self.counts.steps += 1;
            self.counts.inputs += inbox.len() as u64;
            let mut outbox = Vec::new();
            self.nodes[number].step(self.now, inbox, &mut outbox);
            said.push((number, outbox));
        }
        self.counts.processor += self.meter.processor().0.saturating_sub(began.0);
        for (number, outbox) in said {
            self.counts.outputs += outbox.len() as u64;
            for output in outbox {
                self.execute(number, output);
            }
        }
    }

    fn execute(&mut self, from: usize, output: Output) {
        match output {
            Output::ToPeer { peer, lane, frame } => self.send(&peer, lane, frame),
            Output::ToClient { frames, .. } => self.answer(&frames),
            Output::Signal { topic, frame } => self.signal(from, &topic, &frame),
            Output::Interest { topic, wanted } => self.want(from, &topic, wanted),
            Output::Persist { sequence, .. } => {
                self.counts.commits += 1;
                self.inboxes[from].push(Input::Persisted { sequence });
            }
            // Whatever is read is new enough to be in memory, and no disk loses anything.
            Output::Load(request) => {
                let why = format!("{} is read from disk", request.partition);
                self.told.refused.get_or_insert(why);
            }
            Output::Mend { .. } | Output::Note { .. } | Output::Stopped => {}
        }
    }

    fn send(&mut self, peer: &NodeName, lane: Lane, frame: Bytes) {
        match lane {
            Lane::Control => self.counts.control += 1,
            Lane::Bulk => self.counts.bulk += 1,
        }
        self.counts.peer_bytes += frame.len() as u64;
        match decode_peer(&frame) {
            Ok((_, messages)) => self.counts.messages += messages.len() as u64,
            Err(error) => {
                let why = format!("a node sends a frame that cannot be read: {error}");
                self.told.refused.get_or_insert(why);
            }
        }
        if let Some(number) = self.numbers.get(peer) {
            let principal = None;
            self.inboxes[*number].push(Input::PeerFrame { principal, frame });
        }
    }

    fn answer(&mut self, frames: &[Bytes]) {
        self.counts.replies += 1;
        let bytes = frames.iter().map(|frame| frame.len() as u64);
        self.counts.client_bytes += bytes.sum::<u64>();
        let reply = frames.last().map(decode_reply);
        let told = &mut self.told;
        match reply {
            Some(Ok(reply)) => match reply.header {
                Reply::Welcome(_) => told.welcomed += 1,
                Reply::Deliver(deliver) if deliver.count == 0 => told.standing += 1,
                Reply::Deliver(deliver) => told.delivered += deliver.count,
                Reply::Confirm(_) => told.confirmed += 1,
                Reply::Refuse(refuse) => {
                    told.refused.get_or_insert(format!("{refuse:?}"));
                }
                _ => {}
            },
            _ => {
                let why = "a client is sent what cannot be read".to_owned();
                told.refused.get_or_insert(why);
            }
        }
    }

    fn signal(&mut self, from: usize, topic: &Bytes, frame: &Bytes) {
        let wanted = self.interest.get(topic).into_iter().flatten();
        for number in wanted.filter(|number| **number != from) {
            self.counts.signals += 1;
            self.counts.peer_bytes += (topic.len() + frame.len()) as u64;
            let (topic, frame) = (topic.clone(), frame.clone());
            self.inboxes[*number].push(Input::SignalFrame { topic, frame });
        }
    }

    fn want(&mut self, from: usize, topic: &Bytes, wanted: bool) {
        let nodes = self.interest.entry(topic.clone()).or_default();
        match wanted {
            true => nodes.insert(from),
            false => nodes.remove(&from),
        };
        for (number, inbox) in self.inboxes.iter_mut().enumerate() {
            if number != from {
                let topic = topic.clone();
                inbox.push(Input::Interest { topic, wanted });
            }
        }
    }
}
