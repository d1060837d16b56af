//! A node from start to stop: opens the data folder, lets nobody in before the gate is proven,
//! binds everything, and runs the actors until told to stop.

use std::cell::Cell;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use actix::prelude::*;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::assemble::{AllMade, Ends, start_actors};
use super::cores;
use super::disk::DiskEnd;
use super::error::StartError;
use super::fatal;
use super::gate::Gate;
use super::keys::{self, AllowList};
use super::local::LocalPort;
use super::messages::{Event, Fail, Flush, Inputs, SocketName};
use super::node::{Clock, NodeActor, duration};
use super::process::{fresh_incarnation, raise_open_files_for, stop_on_signals};
use super::sockets::Sockets;
use crate::http::{self, Board, Server};
use crate::node::{Input, Node, NodeConfig, Recovery};
use crate::store::{Found, Identity, Journal, RealDisk, Settings};
use crate::topology::{Http, Topology};
use crate::types::NodeName;
use crate::types::limits::{SOCKET_LINGER, STOP_MAX};

/// How a node ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// As it was told to.
    Stopped,
    /// It could not go on, for this reason.
    Failed(String),
}

/// A node that runs on a thread of its own, in this process.
///
/// A panic of one of its threads ends the process. To drop the handle stops the node and waits.
#[derive(Debug)]
pub struct NodeHandle {
    events: UnboundedSender<Event>,
    local: LocalPort,
    ended: Option<oneshot::Receiver<Exit>>,
    thread: Option<JoinHandle<()>>,
}

impl NodeHandle {
    /// Stops the node gracefully and waits until it has stopped, 5 s at most.
    pub async fn stop(mut self) -> Exit {
        let _ = self.events.send(Event::Stop);
        // If this is cancelled, the thread ends by itself, and nobody is held up by it.
        let thread = self.thread.take();
        let exit = match self.ended.take() {
            Some(ended) => ended.await.ok(),
            None => None,
        };
        let _ = thread.map(JoinHandle::join);
        exit.unwrap_or_else(|| Exit::Failed("the node's thread has ended".to_owned()))
    }

    /// Whether the node has ended by itself; `stop` says why.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Where clients of this process come in.
    pub fn local(&self) -> &LocalPort {
        &self.local
    }

    /// Fails one of its sockets as if libzmq had, to see that it is opened again. For drills.
    pub fn fail_socket(&self, socket: SocketName) {
        // A node that has ended has no sockets.
        let _ = self.events.send(Event::Fail(socket));
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = self.events.send(Event::Stop);
            // One that panicked has ended the process.
            let _ = thread.join();
        }
    }
}

/// A node whose start nobody may wait for any more: then it stops.
struct Unclaimed(Option<UnboundedSender<Event>>);

impl Drop for Unclaimed {
    fn drop(&mut self) {
        if let Some(events) = &self.0 {
            let _ = events.send(Event::Stop);
        }
    }
}

/// What a start needs beside the topology and the node's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The data folder.
    pub data: PathBuf,
    /// Decides all that is random in the core; another one for each start.
    pub seed: u64,
    /// A folder of this node is gone for good, and this one takes its place.
    pub replaces: bool,
}

/// Runs a node on this thread until SIGINT or SIGTERM, or until it cannot go on. `ready` is called
/// once it serves: then all its endpoints are its own.
///
/// # Errors
/// Why it did not start. Nothing is bound then.
pub fn run_node(
    topology: Topology,
    name: &str,
    start: &Start,
    ready: impl FnOnce(),
) -> Result<Exit, StartError> {
    fatal::end_process_on_panic();
    raise_open_files_for(1, topology.limits.sessions_max);
    let prepared = Prepared::new(topology, name, start)?;
    let (events, inbox) = unbounded_channel();
    let to_stop = events.clone();
    let nodes = prepared.topology.nodes.iter();
    let position = nodes.take_while(|node| node.name.as_str() != name).count();
    let own_process = move || {
        actix::spawn(cores::share(position));
        stop_on_signals(to_stop)
    };
    prepared.run(events, inbox, own_process, |_| ready())
}

/// Starts a node on a thread of its own. Done once everything is bound. To cancel it stops what
/// has begun.
///
/// # Errors
/// Why it did not start. Nothing is bound then.
pub async fn spawn_node(
    topology: Topology,
    name: &str,
    start: Start,
) -> Result<NodeHandle, StartError> {
    let name = name.to_owned();
    let (events, inbox) = unbounded_channel();
    let (started, outcome) = oneshot::channel();
    let (ends, ended) = oneshot::channel();
    let own = events.clone();
    let body = move || {
        fatal::end_process_on_panic();
        // Several nodes may share a log.
        let _span = tracing::error_span!("node", name = %name).entered();
        let started = Cell::new(Some(started));
        // Whoever gave up waiting has said that it is to stop.
        let tell = |told| drop(started.take().map(|started| started.send(told)));
        let exit = Prepared::new(topology, &name, &start).and_then(|prepared| {
            let ready = |local| tell(Ok(local));
            prepared.run(own, inbox, || Ok(()), ready)
        });
        let exit = exit.unwrap_or_else(|error| {
            let text = error.to_string();
            tell(Err(error));
            Exit::Failed(text)
        });
        // Whoever dropped the handle did not want to know.
        let _ = ends.send(exit);
    };
    let failed = |why| StartError::System {
        what: "the node's thread",
        why,
    };
    let thread = std::thread::Builder::new()
        .name("weft-node".to_owned())
        .spawn(body)
        .map_err(failed)?;
    let mut unclaimed = Unclaimed(Some(events.clone()));
    match outcome.await {
        Ok(Ok(local)) => {
            unclaimed.0 = None;
            Ok(NodeHandle {
                events,
                local,
                ended: Some(ended),
                thread: Some(thread),
            })
        }
        Ok(Err(error)) => {
            // It ends by itself, and has nothing more to say.
            let _ = thread.join();
            Err(error)
        }
        Err(_) => Err(failed(io::Error::other("it has ended"))),
    }
}

/// A node with everything it needs, and nothing running but the gate.
struct Prepared {
    topology: Arc<Topology>,
    sockets: Rc<Sockets>,
    made: AllMade,
    http: Option<TcpListener>,
    journal: Journal<RealDisk>,
    recovery: Recovery,
    seed: u64,
    replaces: bool,
    // Last, so that it outlives all sockets.
    gate: Option<Gate>,
}

impl Prepared {
    fn new(topology: Topology, name: &str, start: &Start) -> Result<Self, StartError> {
        let topology = Arc::new(topology);
        let name = NodeName::from(name);
        let node = topology
            .node(&name)
            .ok_or_else(|| no_such_node(&topology, name.as_str()))?
            .clone();
        let keys = keys::load(&topology, &node)?;
        let mut recovery = Recovery::new(&topology.limits);
        let journal = open_journal(&topology, &name, &start.data, &mut recovery)?;
        let context = zmq::Context::new();
        let gate = match &keys {
            Some(keys) => {
                let list = AllowList::new(&topology)?;
                Some(Gate::open(&context, list, keys, &name)?)
            }
            None => None,
        };
        let sockets = Sockets::new(context, Arc::clone(&topology), node, keys);
        let made = AllMade::new(&sockets)?;
        let http = sockets.node().http.map(bind_http).transpose()?;
        Ok(Self {
            topology,
            sockets: Rc::new(sockets),
            made,
            http,
            journal,
            recovery,
            seed: start.seed,
            replaces: start.replaces,
            gate,
        })
    }

    /// Runs until the node has stopped. `ready` is called once it serves.
    fn run(
        self,
        events: UnboundedSender<Event>,
        mut inbox: UnboundedReceiver<Event>,
        own_process: impl FnOnce() -> Result<(), StartError>,
        ready: impl FnOnce(LocalPort),
    ) -> Result<Exit, StartError> {
        let Self {
            topology,
            sockets,
            made,
            http,
            journal,
            recovery,
            seed,
            replaces,
            gate,
        } = self;
        let clock = Clock::start();
        let config = NodeConfig {
            topology,
            name: sockets.node().name.clone(),
            incarnation: journal.incarnation(),
            seed,
            replaces,
        };
        let node = Node::new(config, recovery, clock.now())?;
        let board = http.is_some().then(Board::default);
        let server = http.zip(board.clone());
        let server = server.map(|(listener, board)| Server::start(listener, board));
        let server = server.transpose().map_err(|why| StartError::System {
            what: "the thread that serves http",
            why,
        })?;
        let core = (node, clock, board);
        let system = System::new();
        let outcome: Result<(Exit, DiskEnd), StartError> = system.block_on(async {
            own_process()?;
            let (actor, ends, disk) = start_actors(&sockets, made, journal, core, &events)?;
            tracing::info!("ready: {}", describe(&sockets));
            ready(ends.local.clone());
            Ok((drive(&actor, &ends, &mut inbox).await, disk))
        });
        drop(server);
        // Drops the actors, and with them every socket and the way to the disk.
        drop(system);
        let (exit, disk) = outcome?;
        if !disk.wait(duration(SOCKET_LINGER)) {
            tracing::warn!("the disk has not finished; what was not synced was not confirmed");
        }
        // The gate first: it needs the context. Then the context waits for what lingers.
        drop(gate);
        drop(sockets);
        Ok(exit)
    }
}

/// Waits for what ends the node, and for it to end.
async fn drive(node: &Addr<NodeActor>, ends: &Ends, inbox: &mut UnboundedReceiver<Event>) -> Exit {
    let mut deadline: Option<Instant> = None;
    let exit = loop {
        let event = match deadline {
            None => inbox.recv().await,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), inbox.recv()).await {
                Ok(event) => event,
                Err(_) => {
                    tracing::warn!("stopping took too long; leaving as after a crash");
                    break Exit::Stopped;
                }
            },
        };
        match event {
            Some(Event::Stop) if deadline.is_none() => {
                tracing::info!("stopping");
                deadline = Some(Instant::now() + duration(STOP_MAX));
                node.do_send(Inputs(vec![Input::Stop]));
            }
            Some(Event::Stop) => {}
            Some(Event::Fail(socket)) => {
                let found = ends.fail.iter().find(|(name, _)| *name == socket);
                if let Some((_, actor)) = found {
                    actor.do_send(Fail);
                }
            }
            Some(Event::Stopped) => break Exit::Stopped,
            Some(Event::Broken(why)) => break Exit::Failed(why),
            // The actors hold senders, so this does not come.
            None => break Exit::Failed("nobody is left to stop the node".to_owned()),
        }
    };
    // What the node said last is still on its way through the mailboxes.
    let flush = async {
        for actor in &ends.flush {
            let _ = actor.send(Flush).await;
        }
    };
    let _ = tokio::time::timeout(duration(SOCKET_LINGER), flush).await;
    tracing::info!("stopped");
    exit
}

fn bind_http(declared: Http) -> Result<TcpListener, StartError> {
    let endpoint = declared.to_string();
    if declared.is_exposed() {
        return Err(StartError::OpenHttp { endpoint });
    }
    http::bind(declared.bind).map_err(|why| match why.kind() {
        io::ErrorKind::AddrInUse => StartError::EndpointInUse {
            what: "http",
            endpoint,
        },
        _ => StartError::Endpoint {
            what: "http",
            endpoint,
            why: why.to_string(),
        },
    })
}

fn open_journal(
    topology: &Topology,
    name: &NodeName,
    data: &Path,
    recovery: &mut Recovery,
) -> Result<Journal<RealDisk>, StartError> {
    let disk = RealDisk::open(PathBuf::from(data))?;
    let identity = Identity {
        fabric: topology.fabric.name.clone(),
        node: name.clone(),
        fresh: fresh_incarnation()?,
    };
    let settings = Settings {
        segment_bytes: topology.limits.segment_bytes,
    };
    let mut visit = |found| {
        let handled = match found {
            Found::Item(item) => recovery.handle(item),
            Found::Covered(covered) => recovery.handle_covered(&covered),
        };
        handled.map_err(|error| error.to_string())
    };
    Ok(Journal::open(disk, &identity, settings, &mut visit)?)
}

fn no_such_node(topology: &Topology, name: &str) -> StartError {
    let likeness = |other: &NodeName| strsim::jaro_winkler(name, other.as_str());
    let names = topology.nodes.iter().map(|node| &node.name);
    let nearest = names
        .clone()
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .filter(|nearest| likeness(nearest) > 0.7);
    let known: Vec<&str> = names.map(NodeName::as_str).collect();
    StartError::NoSuchNode {
        name: name.to_owned(),
        nearest: nearest.cloned(),
        known: known.join(", "),
    }
}

fn describe(sockets: &Sockets) -> String {
    let node = sockets.node();
    let clients: Vec<&str> = node.clients.iter().map(|e| e.bind.as_str()).collect();
    format!(
        "node {} serves clients on {}",
        node.name,
        clients.join(", ")
    )
}
