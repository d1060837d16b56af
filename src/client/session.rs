//! A client's side of the protocol: routes frames to lanes and readers, and moves between nodes.
//! Pure: the thread tells it the time and what came, and does what it says.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use crate::types::{Span, Time};
use crate::wire::audit::{Audit, Audited};
use crate::wire::client::{
    Ack, Bye, CursorReply, Hello, Inspect, Message, Refuse, Reply, Request, Unsubscribe, VERSION,
    View, Welcome,
};
use crate::wire::{Code, decode_reply, encode_request};

use super::connection::{Connection, Move, TransportEvent};
use super::cursors::CursorQuestion;
use super::error::{Cause, ClientError, Failure, Refusal};
use super::intake::Intake;
use super::lanes::Lanes;
use super::options::{Address, ConnectOptions, ProducerOptions, Wanted};
use super::reader::{Reader, ReaderAction, ReaderEvent};
use crate::topology::PublicKey;

/// How long an answer to a question may take, failovers included.
const ASK_TIMEOUT: Span = Span::from_secs(10);

/// With an answer due, how long the node may be silent before it is asked whether it lives.
const ANSWER_PATIENCE: Span = Span::from_secs(1);

/// The same with subscriptions only, to which silence is natural.
const READER_PATIENCE: Span = Span::from_secs(5);

/// What the handles ask for.
#[derive(Debug)]
pub(super) enum Command {
    /// A new lane.
    Open {
        /// Chosen by the handle.
        lane: u64,
        options: ProducerOptions,
        producer: [u8; 16],
    },
    /// There are records for a lane.
    Publish { lane: u64, intake: Arc<Intake> },
    /// No more records for this lane.
    CloseLane { lane: u64 },
    /// A new subscription.
    Subscribe {
        /// Chosen by the handle.
        reader: u64,
        wanted: Wanted,
    },
    /// The consumer took this many bytes.
    Taken { reader: u64, bytes: u64 },
    /// The consumer is gone.
    Unsubscribe { reader: u64 },
    /// One request with one answer, whose id is still to be chosen.
    Ask { ticket: u64, question: Question },
    /// The consumer is done with records of its cursor.
    Ack { ack: Ack, ticket: Option<u64> },
    /// A `seek` or `delete`.
    Move { ticket: u64, request: Request },
    /// Nothing more comes: the end, once all is told that was published.
    Close,
}

/// What a node can be asked.
#[derive(Debug, Clone)]
pub(super) enum Question {
    /// What does it know?
    Inspect,
    /// What does its replica hold?
    Audit(Audit),
}

/// What the thread is to do.
#[derive(Debug)]
pub(super) enum Action {
    /// Drop the socket, if there is one, and connect a new one.
    Connect(Address),
    /// Drop the socket.
    Disconnect,
    /// Send on the socket.
    Send(Bytes),
    /// Tell a handle.
    Tell(Told),
}

/// What handles are told.
#[derive(Debug)]
pub(super) enum Told {
    /// A node said `welcome`.
    Ready(Box<Welcome>),
    /// No node answered in time; only before the first `Ready`.
    Unreachable(Vec<Failure>),
    /// For a person: what became of the connection.
    Notice(String),
    /// For a subscription.
    Reader { reader: u64, event: ReaderEvent },
    /// The answer to a question.
    Answered {
        ticket: u64,
        result: Result<Reply, ClientError>,
    },
    /// Where a cursor stands.
    Cursor {
        ticket: u64,
        result: Result<CursorReply, ClientError>,
    },
    /// All that was published before the end has its outcome, and all is sent.
    Over,
}

/// The client's whole state.
#[derive(Debug)]
pub(super) struct Session {
    name: String,
    follow: bool,
    /// The only fabric whose nodes are talked to.
    fabric: Option<String>,
    pub(super) connection: Connection,
    /// When the first `welcome` must have come.
    deadline: Option<Time>,
    node: Option<Welcome>,
    lanes: Lanes,
    /// No more is taken; what was taken is finished, until this time at the latest.
    closing: Option<Time>,
    readers: BTreeMap<u64, Reader>,
    asked: BTreeMap<u64, Asked>,
    /// What was asked of cursors, by number.
    pub(super) cursor_questions: BTreeMap<u64, CursorQuestion>,
    /// Every `hello` without its `welcome`, and the publish it fences.
    hellos: VecDeque<Option<u64>>,
    pub(super) next_id: u64,
    actions: Vec<Action>,
}

#[derive(Debug)]
struct Asked {
    ticket: u64,
    question: Question,
    since: Time,
}

impl Question {
    fn request(self, id: u64) -> Request {
        let id = Some(id);
        match self {
            Self::Inspect => Request::Inspect(Inspect { id }),
            Self::Audit(audit) => Request::Audit(Audit { id, ..audit }),
        }
    }
}

impl Session {
    /// Connects at the first tick. `options` names at least one address.
    pub(super) fn new(options: ConnectOptions, now: Time) -> Self {
        Self {
            name: options.name,
            follow: options.follow,
            fabric: options.fabric,
            connection: Connection::new(options.addresses, now),
            deadline: Some(now + options.timeout),
            node: None,
            lanes: Lanes::default(),
            closing: None,
            readers: BTreeMap::new(),
            asked: BTreeMap::new(),
            cursor_questions: BTreeMap::new(),
            hellos: VecDeque::new(),
            next_id: 0,
            actions: Vec::new(),
        }
    }

    /// What to do, in order.
    pub(super) fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// When `handle_tick` must be called next, at the latest.
    pub(super) fn due(&self, now: Time) -> Time {
        let readers = self.readers.values().filter_map(Reader::due);
        let beat = match self.connection.is_ready() {
            true => now + Span::from_millis(250),
            false => now + Span::from_millis(50),
        };
        readers.chain(self.lanes.due()).fold(beat, Time::min)
    }

    /// A handle asks.
    pub(super) fn handle_command(&mut self, command: Command, now: Time) {
        match command {
            Command::Open {
                lane,
                options,
                producer,
            } => self.lanes.open(lane, options, producer),
            Command::Publish { lane, intake } => {
                for bundle in intake.take() {
                    self.lanes.handle_bundle(lane, bundle, now);
                }
            }
            Command::CloseLane { lane } => self.lanes.close(lane),
            Command::Subscribe { reader, wanted } => self.subscribe(reader, wanted, now),
            Command::Taken { reader, bytes } => {
                if let Some(state) = self.readers.get_mut(&reader) {
                    state.handle_taken(bytes, now);
                    self.run_reader(reader);
                }
            }
            Command::Unsubscribe { reader } => {
                if self.readers.remove(&reader).is_some() && self.connection.is_ready() {
                    self.send(&Request::Unsubscribe(Unsubscribe { id: reader }));
                }
            }
            Command::Ask { ticket, question } => self.ask(ticket, question, now),
            Command::Ack { ack, ticket } => self.ack(ack, ticket, now),
            Command::Move { ticket, request } => self.move_cursor(ticket, request, now),
            Command::Close => {
                let until = now + self.lanes.patience();
                self.closing.get_or_insert(until);
                self.readers.clear();
            }
        }
    }

    /// A frame came from the node.
    pub(super) fn handle_frame(&mut self, frame: &Bytes, now: Time) {
        self.connection.handle_heard(now);
        let message = match decode_reply(frame) {
            Ok(message) => message,
            Err(error) => {
                self.notice(format!("ignored a frame of the node: {error}"));
                return;
            }
        };
        self.handle_reply(message, now);
    }

    /// The transport spoke of the socket in use.
    pub(super) fn handle_transport(&mut self, event: TransportEvent, now: Time) {
        if let Some(cause) = self.connection.handle_transport(event) {
            self.leave(cause, now);
        }
    }

    /// Time passed, or something was handled: moves everything on.
    pub(super) fn handle_tick(&mut self, now: Time) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.give_up();
        }
        match self.connection.handle_tick(self.patience(), now) {
            Ok(next) => self.go(next),
            Err(cause) => self.leave(cause, now),
        }
        for id in self.readers.keys().copied().collect::<Vec<_>>() {
            if let Some(reader) = self.readers.get_mut(&id) {
                reader.handle_tick(now);
            }
            self.run_reader(id);
        }
        let frame_max = self.ready_node().map(|node| node.frame_max);
        self.lanes.advance(now, frame_max, &mut self.next_id);
        self.send_published();
        if let Some(why) = self.lanes.cut_off(now)
            && self.connection.has_others()
        {
            self.leave(Cause::CutOff(why), now);
        }
        self.expire_questions(now);
        let late = |asked: &Asked| now.since(asked.since) >= ASK_TIMEOUT;
        let expired: Vec<u64> = self
            .asked
            .iter()
            .filter(|(_, asked)| late(asked))
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            self.answer(id, Err(ClientError::NoAnswer(ASK_TIMEOUT)));
        }
        if self.closing.is_some_and(|until| until <= now) {
            self.lanes
                .give_up("the client was closed, and no node took it in time");
        }
        if self.closing.is_some() && !self.lanes.are_busy() {
            if self.connection.is_ready() {
                self.send(&Request::Bye(Bye::default()));
            }
            self.tell(Told::Over);
        }
    }

    fn handle_reply(&mut self, message: Message<Reply>, now: Time) {
        match message.header {
            Reply::Welcome(welcome) => self.handle_welcome(welcome, now),
            Reply::Confirm(confirm) => {
                if let Some(lane) = self.lanes.of(confirm.id) {
                    lane.handle_confirm(&confirm);
                }
            }
            Reply::Deliver(deliver) => {
                if let Some(reader) = self.readers.get_mut(&deliver.id) {
                    reader.handle_deliver(&deliver, message.records, now);
                    self.run_reader(deliver.id);
                }
            }
            Reply::Refuse(refuse) => self.handle_refuse(&refuse, now),
            Reply::End(end) if ends_cursor(&end.reason) => {
                let reader = self.readers.get_mut(&end.id);
                let over = reader.is_some_and(|reader| reader.handle_end(&end.reason, now));
                self.run_reader(end.id);
                if over {
                    self.readers.remove(&end.id);
                }
            }
            Reply::Cursor(reply) => self.handle_cursor(reply),
            Reply::End(end) => {
                // This client did not ask for it, so the node is about to stop: the reader goes
                // on at the next one.
                if self.readers.contains_key(&end.id) && self.connection.is_ready() {
                    self.leave(Cause::Ended(end.reason), now);
                }
            }
            reply @ (Reply::View(View { id: Some(id), .. })
            | Reply::Audited(Audited { id: Some(id), .. })) => self.answer(id, Ok(reply)),
            // To a question that this client never asked.
            Reply::View(_) | Reply::Audited(_) => {}
            Reply::Ping(_) => {}
        }
    }

    fn handle_welcome(&mut self, welcome: Welcome, now: Time) {
        let foreign = self.fabric.clone().filter(|own| *own != welcome.fabric);
        if let Some(wanted) = foreign {
            let found = welcome.fabric;
            return self.leave(Cause::OtherFabric { found, wanted }, now);
        }
        let fence = self.hellos.pop_front().flatten();
        if self.connection.handle_welcome(now) {
            self.handle_ready(welcome, now);
            return;
        }
        if let Some(lane) = self.lanes.of(fence) {
            lane.handle_fence(fence);
        }
    }

    fn handle_ready(&mut self, welcome: Welcome, now: Time) {
        if self.follow {
            let curve = self.connection.address().server_key.is_some();
            self.connection.learn(endpoints(&welcome, curve));
        }
        if self.deadline.is_none() {
            let node = &welcome.node;
            let endpoint = &self.connection.address().endpoint;
            self.notice(format!("connected to node {node} at {endpoint}"));
        }
        self.deadline = None;
        for reader in self.readers.values_mut() {
            reader.handle_ready(welcome.window, now);
        }
        for id in self.readers.keys().copied().collect::<Vec<_>>() {
            self.run_reader(id);
        }
        for (id, question) in self.questions() {
            self.send(&question.request(id));
        }
        self.lanes.learn(&welcome.channels);
        self.node = Some(welcome.clone());
        self.tell(Told::Ready(Box::new(welcome)));
    }

    fn handle_refuse(&mut self, refuse: &Refuse, now: Time) {
        if self.handle_refused_question(refuse) {
            return;
        }
        let stopping = refuse.code == Code::Stopping.number();
        let reader = refuse.id.filter(|id| self.readers.contains_key(id));
        if let Some(lane) = self.lanes.of(refuse.id) {
            lane.handle_refuse(refuse, now);
        } else if let Some(id) = reader {
            if let Some(reader) = self.readers.get_mut(&id) {
                reader.handle_refuse(refuse, now);
            }
            self.run_reader(id);
        } else if let Some(id) = refuse.id.filter(|id| self.asked.contains_key(id)) {
            self.answer(id, Err(Refusal::from(refuse).into()));
        } else if !self.connection.is_ready() {
            self.leave(Cause::Refused(refuse.into()), now);
            return;
        } else {
            self.notice(format!("the node refused: {}", Refusal::from(refuse)));
        }
        if stopping && self.connection.is_ready() {
            self.leave(Cause::Refused(refuse.into()), now);
        }
    }

    fn subscribe(&mut self, reader: u64, wanted: Wanted, now: Time) {
        let mut state = Reader::new(reader, wanted, now);
        if let Some(node) = self.ready_node() {
            state.handle_ready(node.window, now);
        }
        self.readers.insert(reader, state);
        self.run_reader(reader);
    }

    fn ask(&mut self, ticket: u64, question: Question, now: Time) {
        self.next_id += 1;
        let id = self.next_id;
        if self.connection.is_ready() {
            self.send(&question.clone().request(id));
        }
        let since = now;
        self.asked.insert(
            id,
            Asked {
                ticket,
                question,
                since,
            },
        );
    }

    /// What was asked and has no answer yet.
    fn questions(&self) -> Vec<(u64, Question)> {
        let asked = self.asked.iter();
        asked
            .map(|(id, asked)| (*id, asked.question.clone()))
            .collect()
    }

    fn answer(&mut self, id: u64, result: Result<Reply, ClientError>) {
        if let Some(Asked { ticket, .. }) = self.asked.remove(&id) {
            self.tell(Told::Answered { ticket, result });
        }
    }

    /// Gives the node up: everything that waits for it goes on at the next one.
    fn leave(&mut self, cause: Cause, now: Time) {
        if self.connection.is_ready() {
            let node = self.node.as_ref().map_or("", |node| &node.node);
            let endpoint = &self.connection.address().endpoint;
            self.notice(format!("lost node {node} at {endpoint}: {cause}"));
        }
        let next = self.connection.leave(cause, now);
        self.lose_questions();
        self.hellos.clear();
        for reader in self.readers.values_mut() {
            reader.handle_lost();
        }
        self.lanes.handle_lost();
        if self.deadline.is_some() && self.connection.is_hopeless() {
            return self.give_up();
        }
        self.go(next);
    }

    /// There was no first `welcome`, and none is waited for any more.
    fn give_up(&mut self) {
        self.deadline = None;
        let failures = self.connection.failures();
        self.tell(Told::Unreachable(failures));
    }

    fn go(&mut self, next: Move) {
        match next {
            Move::Stay => {}
            Move::Pause => self.actions.push(Action::Disconnect),
            Move::Probe => self.hello(None),
            Move::Connect(address) => {
                self.actions.push(Action::Connect(address));
                self.hello(None);
            }
        }
    }

    fn hello(&mut self, fence: Option<u64>) {
        self.hellos.push_back(fence);
        let hello = Hello {
            version: Some(VERSION),
            producer: None,
            name: Some(self.name.clone()),
        };
        self.send(&Request::Hello(hello));
    }

    fn send_published(&mut self) {
        for sending in self.lanes.take_sending() {
            self.actions.push(Action::Send(sending.frame));
            if sending.fence {
                self.hello(Some(sending.publish));
            }
        }
    }

    fn run_reader(&mut self, id: u64) {
        let Some(reader) = self.readers.get_mut(&id) else {
            return;
        };
        for action in reader.take_actions() {
            match action {
                ReaderAction::Send(frame) => self.actions.push(Action::Send(frame)),
                ReaderAction::Tell(event) => {
                    if matches!(event, ReaderEvent::Ended(_)) {
                        self.readers.remove(&id);
                    }
                    self.tell(Told::Reader { reader: id, event });
                }
            }
        }
    }

    /// How long the node may be silent; for ever if nothing waits for it.
    fn patience(&self) -> Option<Span> {
        if !self.asked.is_empty() || self.lanes.await_answer() {
            return Some(ANSWER_PATIENCE);
        }
        (!self.readers.is_empty()).then_some(READER_PATIENCE)
    }

    fn ready_node(&self) -> Option<&Welcome> {
        self.node.as_ref().filter(|_| self.connection.is_ready())
    }

    pub(super) fn send(&mut self, request: &Request) {
        self.actions
            .push(Action::Send(encode_request(request, &[])));
    }

    fn notice(&mut self, text: String) {
        self.tell(Told::Notice(text));
    }

    pub(super) fn tell(&mut self, told: Told) {
        self.actions.push(Action::Tell(told));
    }
}

/// The endpoints a `welcome` names. From a node that proved its key, only those with a key of their
/// own or reached without a network are taken.
fn endpoints(welcome: &Welcome, curve: bool) -> impl Iterator<Item = Address> + '_ {
    welcome.nodes.iter().flat_map(move |node| {
        let key = node.public_key.as_deref();
        node.endpoints.iter().filter_map(move |endpoint| {
            let server_key = match endpoint.starts_with("ipc://") {
                true => None,
                false => key.and_then(|key| PublicKey::parse(key).ok()),
            };
            let downgrade = curve && server_key.is_none() && endpoint.starts_with("tcp://");
            (!downgrade).then(|| Address {
                server_key,
                ..Address::open(endpoint)
            })
        })
    })
}

/// Whether a node ends a subscription with this reason for the sake of its cursor.
fn ends_cursor(reason: &str) -> bool {
    matches!(reason, "taken_over" | "moved" | "deleted")
}
