//! The node: sessions, routing, peers and partitions composed into one state machine that is
//! stepped with inputs and answers with outputs. It blocks on nothing and owns nothing outside
//! itself.
//!
//! One file per concern: `sessions`, `requests`, `producers`, `accept`, `publish`, `subscribe`,
//! `cursors`, `moves` and `signals` face the clients; `lead`, `lead_cursors` and `serve` are a
//! partition's leader; `founding`, `peering` and `route` face the peers; `persist` is the queue in
//! front of the journal, and `repair` replaces what that has lost; `report` tells what is going on.

mod accept;
mod audit;
mod catch_up;
mod checkpoint;
mod cursors;
mod error;
mod feed;
mod feed_cursor;
mod founding;
mod io;
mod keep;
mod lead;
mod lead_cursors;
mod mail;
mod member;
mod moves;
mod peering;
mod peers;
mod persist;
mod pick;
mod producers;
mod publish;
mod recovery;
mod repair;
mod replacing;
mod report;
mod requests;
mod route;
mod serve;
mod sessions;
mod signals;
mod subscribe;
mod transfer;
mod view;
mod window;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use rand::{RngCore, SeedableRng};

use crate::topology::Topology;
use crate::types::limits::{PEER_BEAT, PUBLISH_OVERHEAD, STOP_HANDOVER};
use crate::types::{ChannelName, Incarnation, NodeName, Now, Partition, Time};
use crate::wire::client::{Refuse, Reply};
use crate::wire::{Code, Payload, decode_request, encode_reply_of, frames, request_id};

use catch_up::CatchUp;
use cursors::Cursors;
pub use error::NodeError;
pub use io::{ClientId, Droppable, Gauges, Input, Lane, Level, Outbox, Output};
use mail::Mail;
use member::Slot;
use peers::Peers;
use persist::{Done, JournalQueue};
use producers::Hellos;
use publish::Publishes;
pub use recovery::Recovery;
use repair::Repairs;
use route::Routes;
use serve::Loads;
use sessions::{Session, Sessions};
use signals::Signals;
pub use view::{
    ChannelView, CursorView, DiskView, NodeView, PartitionView, PeerView, ReplicaView,
    SessionsView, TrimmedView,
};

/// Who a node is.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The checked topology.
    pub topology: Arc<Topology>,
    /// The node's name in it.
    pub name: NodeName,
    /// The life of its data folder.
    pub incarnation: Incarnation,
    /// Draws everything random in it. Another one for each start.
    pub seed: u64,
    /// Whether it takes the place of a folder of its node that is gone for good.
    pub replaces: bool,
}

/// One node of the fabric.
pub struct Node {
    topology: Arc<Topology>,
    name: NodeName,
    incarnation: Incarnation,
    /// One start of the process: signals and requests of different starts never mix.
    life: Incarnation,
    seed: u64,
    replaces: bool,
    now: Now,
    started: Time,
    out: Outbox,
    mail: Mail,
    journal: JournalQueue,
    loads: Loads,
    catch_up: CatchUp,
    repairs: Repairs,
    peers: Peers,
    routes: Routes,
    placement: BTreeMap<Partition, Vec<NodeName>>,
    slots: BTreeMap<Partition, Slot>,
    /// Replicas that were stepped and not yet drained.
    dirty: BTreeSet<Partition>,
    /// Partitions with batches to propose.
    intakes: BTreeSet<Partition>,
    sessions: Sessions,
    hellos: Hellos,
    publishes: Publishes,
    cursors: Cursors,
    signals: Signals,
    ledger: BTreeMap<ChannelName, ChannelView>,
    gauges: Gauges,
    measured: bool,
    bad_frames: u64,
    state_due: bool,
    checkpoints_due: VecDeque<Partition>,
    last_beat: Time,
    stopping: bool,
    /// Whether the disk does not finish a commit.
    stalled: bool,
    stop_since: Option<Time>,
    stopped: bool,
}

impl Node {
    /// A node that goes on where its journal ended. It says what it wants with its first step.
    pub fn new(config: NodeConfig, recovery: Recovery, now: Now) -> Result<Self, NodeError> {
        let NodeConfig {
            topology,
            name,
            incarnation,
            seed,
            replaces,
        } = config;
        if topology.node(&name).is_none() {
            return Err(NodeError::NoSuchNode(name));
        }
        let placement = topology.placement();
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let life = Incarnation(random.next_u64());
        let others = topology.nodes.iter().map(|node| node.name.clone());
        let mut node = Self {
            mail: Mail::new(name.clone()),
            journal: JournalQueue::new(topology.limits.segment_bytes / 4),
            loads: Loads::default(),
            catch_up: CatchUp::default(),
            repairs: Repairs::default(),
            peers: Peers::new(others.filter(|other| *other != name)),
            routes: Routes::new(random.next_u64() >> 1),
            slots: BTreeMap::new(),
            dirty: BTreeSet::new(),
            intakes: BTreeSet::new(),
            sessions: Sessions::new(),
            hellos: Hellos::default(),
            publishes: Publishes::default(),
            cursors: Cursors::default(),
            signals: Signals::default(),
            ledger: BTreeMap::new(),
            gauges: Gauges::default(),
            measured: false,
            bad_frames: 0,
            state_due: true,
            checkpoints_due: VecDeque::new(),
            last_beat: now.mono,
            stopping: false,
            stalled: false,
            stop_since: None,
            stopped: false,
            out: Outbox::new(),
            topology,
            name,
            incarnation,
            life,
            seed,
            replaces,
            now,
            started: now.mono,
            placement,
        };
        node.recover(recovery)?;
        Ok(node)
    }

    /// Takes what waits, in order, and says what to do about all of it.
    pub fn step(&mut self, now: Now, inputs: impl IntoIterator<Item = Input>, outbox: &mut Outbox) {
        self.now = Now {
            mono: now.mono.max(self.now.mono),
            wall: now.wall,
        };
        for input in inputs {
            self.handle(input);
        }
        self.settle();
        outbox.append(&mut self.out);
    }

    fn recover(&mut self, recovery: Recovery) -> Result<(), NodeError> {
        let mine = self
            .placement
            .iter()
            .filter(|(_, nodes)| nodes.contains(&self.name));
        self.slots = mine
            .map(|(p, _)| (p.clone(), Slot::Unfounded(None)))
            .collect();
        for (partition, recovered) in recovery.partitions {
            let channel = &partition.channel;
            let Some(declared) = self.topology.channels.get(channel) else {
                self.warn(format!(
                    "keeps {partition}, whose channel the topology has no more"
                ));
                continue;
            };
            let (had, says) = (recovered.founding.partitions, declared.partitions);
            if had != says {
                let channel = channel.clone();
                return Err(NodeError::Repartitioned { channel, had, says });
            }
            let wants: BTreeSet<&NodeName> = self
                .placement
                .get(&partition)
                .into_iter()
                .flatten()
                .collect();
            let has: BTreeSet<&NodeName> = recovered
                .founding
                .voters
                .iter()
                .map(|voter| &voter.node)
                .collect();
            if wants != has {
                let names = |set: BTreeSet<&NodeName>| {
                    set.iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                        .join(", ")
                };
                let (has, wants) = (names(has), names(wants));
                return Err(NodeError::Moved {
                    partition,
                    has,
                    wants,
                });
            }
            let stream = Some(recovered.stream);
            let state = (stream, recovered.covered);
            let mut member = self.begin_member(recovered.founding, recovered.log, state);
            member.replica.compact(recovered.dispensable);
            member.replicated = recovered.dispensable.index;
            member.covered = recovered.covered;
            self.dirty.insert(partition.clone());
            self.slots.insert(partition, Slot::Member(Box::new(member)));
        }
        Ok(())
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::ClientFrame {
                client,
                principal,
                frames,
            } => {
                self.handle_client_frame(client, principal, &frames);
            }
            Input::ClientGone { client } => self.end_session(&client),
            Input::Dropped { client, what } => self.handle_dropped(&client, &what),
            Input::PeerFrame { principal, frame } => {
                self.handle_peer_frame(principal.as_deref(), &frame);
            }
            Input::SignalFrame { topic, frame } => self.handle_signal(&topic, &frame),
            Input::Interest { topic, wanted } => self.handle_interest(&topic, wanted),
            Input::Persisted { sequence } => self.handle_persisted(sequence),
            Input::PersistFailed { error, .. } => {
                self.error(format!(
                    "the journal failed, nothing is confirmed any more: {error}"
                ));
                self.fail_replicas(&error);
                self.journal.handle_failed(error);
            }
            Input::Loaded { id, result } => self.handle_loaded(id, result),
            Input::Damaged(damaged) => self.handle_damaged(damaged),
            Input::Gauges(gauges) => {
                self.gauges = gauges;
                self.measured = true;
            }
            Input::Tick => self.handle_tick(),
            Input::Stop => self.handle_stop(),
        }
    }

    /// Brings one loop to its end: what this node says to itself, proposals, replicas, then the
    /// journal and the peers.
    fn settle(&mut self) {
        loop {
            self.send_acks();
            while let Some(message) = self.mail.take_loopback() {
                let me = self.name.clone();
                self.handle_peer_message(&me, message);
            }
            self.propose_intakes();
            self.drain_replicas();
            if self.state_due {
                self.beat();
            }
            if self.dirty.is_empty()
                && self.intakes.is_empty()
                && self.mail.is_quiet()
                && self.cursors.due.is_empty()
            {
                break;
            }
        }
        self.journal.flush(self.now.mono, &mut self.out);
        let envelope = self.envelope();
        self.mail.flush(&envelope, &mut self.out);
    }

    fn handle_tick(&mut self) {
        if self.journal.failure().is_none() {
            for (partition, slot) in &mut self.slots {
                if let Slot::Member(member) = slot {
                    member.replica.handle_tick();
                    self.dirty.insert(partition.clone());
                }
            }
        }
        if self.now.mono.since(self.last_beat) >= PEER_BEAT {
            self.state_due = true;
            self.report_unreachable();
            self.found_partitions();
            self.expire_interest();
            self.probe_sessions();
            self.propose_commands();
            self.tend_members();
            self.note_progress();
            self.pump_transfers();
            self.write_checkpoints();
        }
        self.find_leaders();
        self.note_stall();
        self.hand_over();
        self.expire_held();
        self.expire_publishes();
        self.send_parked();
        self.tend_hellos();
        self.tend_cursors();
        self.tend_repairs();
        self.tend_catch_up();
        self.pump_all();
        self.finish_stop();
    }

    fn handle_persisted(&mut self, sequence: u64) {
        if self.journal.failure().is_some() {
            return;
        }
        for done in self.journal.handle_persisted(sequence) {
            match done {
                Done::Founded(partition) => self.handle_founded(&partition),
                Done::Ready(partition, number) => {
                    if let Some(Slot::Member(member)) = self.slots.get_mut(&partition) {
                        member.replica.handle_persisted(number);
                        self.dirty.insert(partition);
                    }
                }
            }
        }
    }

    /// Nothing here can be synced any more: others lead, and serve the clients of this node.
    fn fail_replicas(&mut self, error: &str) {
        for (partition, slot) in &mut self.slots {
            if let Slot::Member(member) = slot {
                member.replica.fail(&format!("the journal failed: {error}"));
                self.dirty.insert(partition.clone());
            }
        }
    }

    fn handle_stop(&mut self) {
        if !self.stopping {
            self.stopping = true;
            self.stop_since = Some(self.now.mono);
            self.state_due = true;
            self.info("stops: hands over what it leads".to_owned());
        }
        self.hand_over();
        self.finish_stop();
    }

    /// A stop is done when nothing is led, everything is answered and synced, or it took too long.
    fn finish_stop(&mut self) {
        let Some(since) = self.stop_since.filter(|_| !self.stopped) else {
            return;
        };
        let leads = self.slots.values().any(|slot| match slot {
            Slot::Member(member) => member.replica.is_leader() && member.replica.voters().len() > 1,
            Slot::Unfounded(_) | Slot::Stranger(_) => false,
        });
        let patient = self.now.mono.since(since) < STOP_HANDOVER;
        if patient && (leads || !self.all_answered() || !self.journal.is_idle()) {
            return;
        }
        self.abandon_publishes();
        let subscriptions: Vec<(ClientId, u64)> = self
            .sessions
            .iter()
            .flat_map(|(client, session)| {
                session.subscriptions.keys().map(|id| (client.clone(), *id))
            })
            .collect();
        for (client, id) in subscriptions {
            self.abandon_acks(&client, id);
            self.end_subscription(&client, id);
            let reason = format!("{} stops", self.name);
            self.reply(
                &client,
                &Reply::End(crate::wire::client::End { id, reason }),
                &[],
            );
        }
        self.stopped = true;
        self.out.push(Output::Stopped);
    }

    fn handle_client_frame(
        &mut self,
        client: ClientId,
        principal: Option<String>,
        parts: &[Bytes],
    ) {
        // Another key behind the same routing id is another client, and takes nothing over.
        let other = |session: &Session| session.principal != principal;
        if self.sessions.get(&client).is_some_and(other) {
            self.end_session(&client);
        }
        let known = self.sessions.contains_key(&client);
        let full = self.sessions.len() as u64 >= self.topology.limits.sessions_max;
        let payload = Payload::of(parts);
        let delimited = payload.as_ref().is_ok_and(|payload| payload.delimited)
            || parts
                .first()
                .is_some_and(|part| part.is_empty() && parts.len() > 1);
        if !known && full {
            let message = format!("{} has {} sessions", self.name, self.sessions.len());
            let id = payload.ok().and_then(|payload| request_id(payload.frame));
            let refuse = publish::refuse(Code::TooManySessions, id, message);
            self.send(client, delimited, &Reply::Refuse(refuse), &[]);
            return;
        }
        let (now, window) = (self.now.mono, self.topology.limits.session_window_bytes);
        let session = self
            .sessions
            .entry(client.clone())
            .or_insert_with(|| Session::new(now, window));
        session.heard = now;
        session.delimited = delimited;
        session.principal = principal;
        let sent = payload.as_ref().ok().map(|payload| payload.frame);
        match payload.and_then(|payload| decode_request(payload.frame)) {
            Ok(message) => {
                let frame = parts.last().map_or(0, Bytes::len);
                let records = apart(frame, message.records);
                self.handle_request(&client, message.header, &records);
            }
            Err(error) => {
                self.bad_frames += 1;
                let id = sent.and_then(|frame| request_id(frame));
                let refuse = publish::refuse(error.code(), id, error.to_string());
                self.refuse(&client, refuse);
            }
        }
    }

    /// Forgets a client. Its publishes go on; their answers go nowhere.
    fn end_session(&mut self, client: &ClientId) {
        let Some(session) = self.sessions.get(client) else {
            return;
        };
        for id in session.subscriptions.keys().copied().collect::<Vec<_>>() {
            self.end_subscription(client, id);
        }
        self.forget_hellos(client);
        self.sessions.remove(client);
    }

    fn refuse(&mut self, client: &ClientId, refuse: Refuse) {
        self.reply(client, &Reply::Refuse(refuse), &[]);
    }

    /// Answers a client, if it is still known.
    fn reply(&mut self, client: &ClientId, reply: &Reply, records: &[u8]) {
        self.reply_of(client, reply, &[records]);
    }

    /// The same with records in several pieces.
    fn reply_of(&mut self, client: &ClientId, reply: &Reply, pieces: &[&[u8]]) {
        let Some(session) = self.sessions.get(client) else {
            return;
        };
        let delimited = session.delimited;
        self.send(client.clone(), delimited, reply, pieces);
    }

    fn send(&mut self, client: ClientId, delimited: bool, reply: &Reply, pieces: &[&[u8]]) {
        let frames = frames(delimited, encode_reply_of(reply, pieces));
        self.out.push(Output::ToClient {
            client,
            frames,
            droppable: None,
        });
    }

    fn info(&mut self, text: String) {
        self.out.push(Output::Note {
            level: Level::Info,
            text,
        });
    }

    fn warn(&mut self, text: String) {
        self.out.push(Output::Note {
            level: Level::Warn,
            text,
        });
    }

    fn error(&mut self, text: String) {
        self.out.push(Output::Note {
            level: Level::Error,
            text,
        });
    }
}

/// The records of a frame of so many bytes. Those that wait are weighed without their header, so
/// they keep no large one in memory.
fn apart(frame: usize, records: Bytes) -> Bytes {
    let header = frame.saturating_sub(records.len()) as u64;
    match header > PUBLISH_OVERHEAD {
        true => Bytes::copy_from_slice(&records),
        false => records,
    }
}
