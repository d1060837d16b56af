//! Nodes in one thread without a socket or a disk: frames cross at once, in order, and what a node
//! persists is kept in a list, from which it can be started again. Time passes when a test says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use weft::node::{ClientId, Input, Node, NodeConfig, NodeView, Output, Recovery};
use weft::topology::{self, Topology};
use weft::types::Span;
use weft::types::limits::TICK;
use weft::types::{
    DamagedSegment, Incarnation, JournalItem, LoadFrom, LoadRequest, LogEntry, LostEntries,
    NodeName, Now, Partition, Record, Time, Wall,
};
use weft::wire::client::{Message, Publish, Reply, Request, Subscribe};
use weft::wire::peer::PeerMessage;
use weft::wire::{decode_peer, decode_reply, encode_request, records};

/// Bytes of a frame between nodes that counts as large.
pub(crate) const LARGE: usize = 100_000;

/// Several nodes and whoever talks to them.
pub(crate) struct Fabric {
    pub(crate) topology: Arc<Topology>,
    pub(crate) nodes: BTreeMap<NodeName, Node>,
    pub(crate) now: Now,
    /// Each node's journal: what it persisted, in order.
    pub(crate) journals: BTreeMap<NodeName, Vec<JournalItem>>,
    /// Journals that take their time: a `Persist` there waits until it is released.
    pub(crate) slow_disks: BTreeSet<NodeName>,
    waiting: VecDeque<(NodeName, u64)>,
    /// Frames from the first to the second are lost.
    pub(crate) cut: BTreeSet<(NodeName, NodeName)>,
    /// Of frames to a peer that have more than [`LARGE`] bytes, only so many more arrive.
    pub(crate) large_frames: Option<usize>,
    /// Clients whose pipe is full.
    pub(crate) full: BTreeSet<ClientId>,
    /// The largest frame that any node sent to a peer.
    pub(crate) largest_peer_frame: usize,
    /// All bytes that nodes sent to peers.
    pub(crate) peer_bytes: usize,
    /// Calendars that were set forward, by milliseconds.
    ahead: BTreeMap<NodeName, u64>,
    interest: BTreeSet<(NodeName, Bytes)>,
    queue: VecDeque<(NodeName, Input)>,
    inboxes: BTreeMap<(NodeName, ClientId), Vec<Message<Reply>>>,
    /// Which client was asked whether it lives, and when.
    pub(crate) pings: Vec<(ClientId, Time)>,
    pub(crate) notes: Vec<String>,
    pub(crate) stopped: BTreeSet<NodeName>,
    /// How many folders of a node are gone.
    pub(crate) wiped: BTreeMap<NodeName, u64>,
    /// How many entries of logs were sent to each node, from when this was set on.
    pub(crate) appended: Option<BTreeMap<NodeName, u64>>,
    /// Entries that a node's disk has lost; all of them stood in segment 1.
    pub(crate) lost: BTreeMap<NodeName, Vec<LostEntries>>,
    starts: u64,
}

/// A client of one node.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) node: NodeName,
    pub(crate) id: ClientId,
}

/// The shipped topology.
pub(crate) fn quickstart() -> Arc<Topology> {
    parse(include_str!("../../topology/quickstart.toml"))
}

/// A topology that a test wrote.
pub(crate) fn parse(text: &str) -> Arc<Topology> {
    let parsed = topology::parse(text, Path::new("/fabric/test.toml"));
    Arc::new(
        parsed
            .topology
            .unwrap_or_else(|| panic!("{:?}", parsed.problems)),
    )
}

impl Fabric {
    /// Every node of the topology, started and not yet stepped.
    pub(crate) fn new(topology: Arc<Topology>) -> Self {
        let mut fabric = Self {
            nodes: BTreeMap::new(),
            now: Now {
                mono: Time(0),
                wall: Wall(1_700_000_000_000),
            },
            journals: BTreeMap::new(),
            slow_disks: BTreeSet::new(),
            waiting: VecDeque::new(),
            large_frames: None,
            cut: BTreeSet::new(),
            full: BTreeSet::new(),
            largest_peer_frame: 0,
            peer_bytes: 0,
            ahead: BTreeMap::new(),
            interest: BTreeSet::new(),
            queue: VecDeque::new(),
            inboxes: BTreeMap::new(),
            pings: Vec::new(),
            notes: Vec::new(),
            stopped: BTreeSet::new(),
            appended: None,
            lost: BTreeMap::new(),
            starts: 0,
            wiped: BTreeMap::new(),
            topology: topology.clone(),
        };
        for node in &topology.nodes {
            fabric.start(node.name.as_str());
        }
        fabric
    }

    /// The quickstart, with every partition founded and led by its preferred leader.
    pub(crate) fn ready() -> Self {
        let mut fabric = Self::new(quickstart());
        fabric.run_until("every partition is led", Fabric::is_settled);
        fabric
    }

    /// Starts a node on what its journal holds.
    pub(crate) fn start(&mut self, name: &str) {
        self.start_with(name, self.topology.clone());
    }

    /// Starts a node with a topology of its own.
    pub(crate) fn start_with(&mut self, name: &str, topology: Arc<Topology>) {
        self.start_as(name, topology, false);
    }

    /// Starts a node whose folder takes the place of one that is gone.
    pub(crate) fn start_replacing(&mut self, name: &str) {
        self.start_as(name, self.topology.clone(), true);
    }

    /// A node's folder is gone: the next one is empty, and another one.
    pub(crate) fn wipe(&mut self, name: &str) {
        self.kill(name);
        let name: NodeName = name.into();
        self.journals.remove(&name);
        *self.wiped.entry(name).or_default() += 1;
    }

    fn start_as(&mut self, name: &str, topology: Arc<Topology>, replaces: bool) {
        let name: NodeName = name.into();
        self.starts += 1;
        let mut recovery = Recovery::new(&topology.limits);
        for item in self.journals.entry(name.clone()).or_default() {
            recovery
                .handle(item.clone())
                .expect("a journal this kit kept");
        }
        // The life of the folder: another one for each node, the same for each start.
        let folder = self.wiped.get(&name).copied().unwrap_or(0);
        let first = u64::from(crc32fast::hash(name.as_str().as_bytes())) + 1;
        let incarnation = Incarnation(first + (folder << 32));
        let config = NodeConfig {
            topology,
            name: name.clone(),
            incarnation,
            seed: self.starts,
            replaces,
        };
        let node = Node::new(config, recovery, self.now).expect("the topology fits the journal");
        self.nodes.insert(name, node);
    }

    /// A node is gone at once, with all that was on its way to it and not yet synced.
    pub(crate) fn kill(&mut self, name: &str) {
        let name: NodeName = name.into();
        self.nodes.remove(&name);
        self.queue.retain(|(to, _)| *to != name);
        self.waiting.retain(|(at, _)| *at != name);
        self.interest.retain(|(node, _)| *node != name);
    }

    /// Delivers everything under way, and what it leads to.
    pub(crate) fn settle(&mut self) {
        while let Some((name, input)) = self.queue.pop_front() {
            self.step(&name, [input]);
        }
    }

    /// One tick of every node.
    pub(crate) fn tick(&mut self) {
        self.now.mono = self.now.mono + TICK;
        self.now.wall.0 += TICK.as_millis();
        for name in self.nodes.keys().cloned().collect::<Vec<_>>() {
            self.queue.push_back((name, Input::Tick));
        }
        self.settle();
    }

    /// Lets so much time pass.
    pub(crate) fn skip(&mut self, span: std::time::Duration) {
        let end = self.now.mono + Span(span.as_nanos() as u64);
        while self.now.mono < end {
            self.tick();
        }
    }

    /// Sets a node's calendar forward.
    pub(crate) fn set_forward(&mut self, node: &str, by: std::time::Duration) {
        self.ahead.insert(node.into(), by.as_millis() as u64);
    }

    /// Lets time pass until something holds.
    pub(crate) fn run_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..1_000 {
            if holds(self) {
                return;
            }
            self.tick();
        }
        panic!(
            "after 50 s it is still not so that {what}; notes: {:#?}",
            self.notes
        );
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.nodes
            .values()
            .all(|node| node.view().problems.is_empty())
    }

    /// Healthy, and every partition led by its preferred leader.
    pub(crate) fn is_settled(&self) -> bool {
        let views = self.nodes.values().flat_map(|node| node.view().partitions);
        self.is_healthy()
            && views
                .into_iter()
                .all(|view| view.leader.as_ref() == Some(&view.preferred))
    }

    pub(crate) fn view(&self, name: &str) -> NodeView {
        self.nodes[&NodeName::from(name)].view()
    }

    /// Who leads a partition, as everybody agrees.
    pub(crate) fn leader(&self, channel: &str, partition: u32) -> Option<NodeName> {
        let mut leaders: BTreeSet<Option<String>> = BTreeSet::new();
        for node in self.nodes.values() {
            for view in node.view().partitions {
                if view.channel == channel && view.partition == partition {
                    leaders.insert(view.leader);
                }
            }
        }
        match leaders.len() {
            1 => leaders
                .pop_first()
                .flatten()
                .map(|name| name.as_str().into()),
            _ => None,
        }
    }

    pub(crate) fn client(&mut self, node: &str, routing: &str) -> Client {
        let routing = Bytes::copy_from_slice(routing.as_bytes());
        Client {
            node: node.into(),
            id: ClientId {
                listener: 0,
                routing,
            },
        }
    }

    /// Sends frames as they are.
    pub(crate) fn send_frames(&mut self, client: &Client, frames: Vec<Bytes>) {
        let input = Input::ClientFrame {
            client: client.id.clone(),
            principal: None,
            frames,
        };
        self.queue.push_back((client.node.clone(), input));
        self.settle();
    }

    pub(crate) fn send(&mut self, client: &Client, request: &Request, body: &[u8]) {
        self.send_frames(client, vec![encode_request(request, body)]);
    }

    pub(crate) fn publish(&mut self, client: &Client, publish: Publish, records: &[Record]) {
        let mut body = Vec::new();
        for record in records {
            records::encode_record(record, &mut body);
        }
        self.send(client, &Request::Publish(publish), &body);
    }

    pub(crate) fn subscribe(&mut self, client: &Client, subscribe: Subscribe) {
        self.send(client, &Request::Subscribe(subscribe), &[]);
    }

    /// Everything a client was sent since the last time.
    pub(crate) fn inbox(&mut self, client: &Client) -> Vec<Message<Reply>> {
        self.inboxes
            .remove(&(client.node.clone(), client.id.clone()))
            .unwrap_or_default()
    }

    /// Lets time pass until a client is sent something, and takes all of it.
    pub(crate) fn answer(&mut self, client: &Client) -> Vec<Message<Reply>> {
        let id = (client.node.clone(), client.id.clone());
        self.run_until("the client is answered", |fabric| {
            fabric
                .inboxes
                .get(&id)
                .is_some_and(|inbox| !inbox.is_empty())
        });
        self.inbox(client)
    }

    /// The slow disks finish what they were given.
    pub(crate) fn sync_slow_disks(&mut self) {
        for (name, sequence) in std::mem::take(&mut self.waiting) {
            self.queue.push_back((name, Input::Persisted { sequence }));
        }
        self.settle();
    }

    /// Hands a node any input.
    pub(crate) fn input(&mut self, name: &str, input: Input) {
        self.queue.push_back((name.into(), input));
        self.settle();
    }

    /// Hands a node several inputs in one step, as sockets do that had many frames.
    pub(crate) fn inputs(&mut self, name: &str, inputs: Vec<Input>) {
        self.step(&name.into(), inputs);
        self.settle();
    }

    fn step(&mut self, name: &NodeName, inputs: impl IntoIterator<Item = Input>) {
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        let mut outbox = Vec::new();
        let mut now = self.now;
        now.wall.0 += self.ahead.get(name).copied().unwrap_or(0);
        node.step(now, inputs, &mut outbox);
        for output in outbox {
            self.execute(name, output);
        }
    }

    fn execute(&mut self, name: &NodeName, output: Output) {
        match output {
            Output::ToClient {
                client,
                droppable: Some(what),
                ..
            } if self.full.contains(&client) => {
                self.queue
                    .push_back((name.clone(), Input::Dropped { client, what }));
            }
            Output::ToClient { client, .. } if self.full.contains(&client) => {
                self.queue
                    .push_back((name.clone(), Input::ClientGone { client }));
            }
            Output::ToClient { client, frames, .. } => self.hand_over(name, client, &frames),
            Output::ToPeer { peer, frame, .. } => {
                self.peer_bytes += frame.len();
                self.count_appended(&peer, &frame);
                self.largest_peer_frame = self.largest_peer_frame.max(frame.len());
                let large_passes = frame.len() <= LARGE || self.take_large();
                if large_passes && !self.cut.contains(&(name.clone(), peer.clone())) {
                    self.queue.push_back((
                        peer,
                        Input::PeerFrame {
                            principal: None,
                            frame,
                        },
                    ));
                }
            }
            Output::Signal { topic, frame } => {
                for node in self.nodes.keys().filter(|node| *node != name) {
                    let wanted = self.interest.contains(&(node.clone(), topic.clone()));
                    if wanted && !self.cut.contains(&(name.clone(), node.clone())) {
                        let (topic, frame) = (topic.clone(), frame.clone());
                        let input = Input::SignalFrame { topic, frame };
                        self.queue.push_back((node.clone(), input));
                    }
                }
            }
            Output::Interest { topic, wanted } => self.want(name, &topic, wanted),
            Output::Persist { sequence, items } => {
                self.journals.entry(name.clone()).or_default().extend(items);
                if self.slow_disks.contains(name) {
                    self.waiting.push_back((name.clone(), sequence));
                } else {
                    self.queue
                        .push_back((name.clone(), Input::Persisted { sequence }));
                }
            }
            Output::Mend { entries, .. } => {
                for (partition, entry) in entries {
                    self.restore(name, &partition, entry);
                }
                self.tell_damage(name);
            }
            Output::Load(request) => self.load(name, &request),
            Output::Note { text, .. } => self.notes.push(format!("{name}: {text}")),
            Output::Stopped => {
                self.stopped.insert(name.clone());
            }
        }
    }
}

impl Fabric {
    fn count_appended(&mut self, peer: &NodeName, frame: &Bytes) {
        let Some(appended) = &mut self.appended else {
            return;
        };
        let (_, messages) = decode_peer(frame).expect("a node sends what can be read");
        for message in messages {
            if let PeerMessage::Raft(raft) = message {
                *appended.entry(peer.clone()).or_default() += raft.entries.len() as u64;
            }
        }
    }

    fn load(&mut self, name: &NodeName, request: &LoadRequest) {
        let mut lost = self.lost.get(name).into_iter().flatten();
        let loaded = load(&self.journals[name], request);
        let is_lost = |lost: &LostEntries| {
            let all = lost.first_index..lost.end_index;
            let mut loaded = loaded.iter();
            lost.partition == request.partition && loaded.any(|entry| all.contains(&entry.index))
        };
        let result = match lost.any(is_lost) {
            true => Err("it is damaged".to_owned()),
            false => Ok(loaded),
        };
        let id = request.id;
        self.queue
            .push_back((name.clone(), Input::Loaded { id, result }));
    }

    /// A node's disk has lost these; its journal says so.
    pub(crate) fn lose(&mut self, node: &str, partition: Partition, indices: Range<u64>) {
        let lost = LostEntries {
            partition,
            first_index: indices.start,
            end_index: indices.end,
        };
        self.lost.entry(node.into()).or_default().push(lost);
        self.tell_damage(&node.into());
    }

    /// What is damaged, as the node's journal says.
    fn tell_damage(&mut self, node: &NodeName) {
        let lost = self.lost.get(node).cloned().unwrap_or_default();
        let damaged = (!lost.is_empty()).then_some(DamagedSegment { segment: 1, lost });
        let input = Input::Damaged(damaged.into_iter().collect());
        self.queue.push_back((node.clone(), input));
    }

    /// An entry of another replica stands where one was lost: it must be the same.
    fn restore(&mut self, node: &NodeName, partition: &Partition, entry: LogEntry) {
        let index = entry.index;
        let item = JournalItem::Entry {
            partition: partition.clone(),
            entry,
        };
        let there = self.journals[node].iter().rev().find(|there| match there {
            JournalItem::Entry {
                partition: of,
                entry,
            } => of == partition && entry.index == index,
            _ => false,
        });
        assert_eq!(there, Some(&item), "{node} is given what it had lost");
        for lost in self.lost.get_mut(node).into_iter().flatten() {
            if lost.partition == *partition && lost.first_index == index {
                lost.first_index += 1;
            }
        }
        let lost = self.lost.entry(node.clone()).or_default();
        lost.retain(|lost| lost.first_index < lost.end_index);
    }

    fn hand_over(&mut self, name: &NodeName, client: ClientId, frames: &[Bytes]) {
        let frame = frames.last().expect("a message has a frame");
        let message = decode_reply(frame).expect("a node sends what can be read");
        // A client ignores pings.
        if matches!(message.header, Reply::Ping(_)) {
            return self.pings.push((client, self.now.mono));
        }
        let inbox = self.inboxes.entry((name.clone(), client)).or_default();
        inbox.push(message);
    }

    /// Whether another large frame arrives.
    fn take_large(&mut self) -> bool {
        let Some(left) = &mut self.large_frames else {
            return true;
        };
        let passes = *left > 0;
        *left = left.saturating_sub(1);
        passes
    }

    fn want(&mut self, name: &NodeName, topic: &Bytes, wanted: bool) {
        let place = (name.clone(), topic.clone());
        match wanted {
            true => self.interest.insert(place),
            false => self.interest.remove(&place),
        };
        for node in self.nodes.keys().filter(|node| *node != name) {
            let topic = topic.clone();
            let input = Input::Interest { topic, wanted };
            self.queue.push_back((node.clone(), input));
        }
    }
}

/// What a journal would answer.
fn load(items: &[JournalItem], request: &LoadRequest) -> Vec<LogEntry> {
    let mut log: Vec<LogEntry> = Vec::new();
    for item in items {
        if let JournalItem::Entry { partition, entry } = item
            && *partition == request.partition
        {
            log.retain(|kept| kept.index < entry.index);
            log.push(entry.clone());
        }
        if let JournalItem::Snapshot { partition, .. } = item
            && *partition == request.partition
        {
            log.clear();
        }
    }
    let wanted = |entry: &&LogEntry| match request.from {
        LoadFrom::Index(index) => entry.index >= index,
        LoadFrom::Offset(offset) => entry.first_offset + u64::from(entry.count) > offset,
        LoadFrom::Time(time) => entry.count > 0 && entry.time >= time,
    };
    let mut bytes = 0;
    let mut found = Vec::new();
    for entry in log
        .iter()
        .filter(wanted)
        .filter(|entry| entry.index < request.index_end)
    {
        bytes += entry.data.len() as u64;
        if bytes > request.bytes_max && !found.is_empty() {
            break;
        }
        found.push(entry.clone());
    }
    found
}

/// A record with a subject, a key and a body.
pub(crate) fn record(subject: &str, key: &str, body: &str) -> Record {
    Record {
        subject: subject.into(),
        key: (!key.is_empty()).then(|| Bytes::copy_from_slice(key.as_bytes())),
        body: Bytes::copy_from_slice(body.as_bytes()),
        ..Record::default()
    }
}
