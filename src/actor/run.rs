//! A node from start to stop: opens the data folder, lets nobody in before the gate is proven,
//! binds everything, and runs the actors until told to stop.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use actix::prelude::*;
use ring::rand::SecureRandom;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::disk::{DiskEnd, DiskThreads};
use super::duties::{Link, Listener, Peers, Publisher, Subscriber};
use super::error::StartError;
use super::fatal;
use super::gate::Gate;
use super::keys::{self, AllowList};
use super::messages::{Counters, Event, Fail, Flush, Inputs, SocketName};
use super::node::{Clock, NodeActor, Port, Ports, duration};
use super::socket::{Duty, Shared, SocketActor};
use super::sockets::{Made, Sockets};
use crate::node::{Input, Lane, Node, NodeConfig, Outbox, Recovery};
use crate::store::{Identity, Journal, RealDisk, Settings};
use crate::topology::Topology;
use crate::types::limits::{SOCKET_LINGER, STOP_MAX};
use crate::types::{Incarnation, NodeName};

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
    thread: Option<JoinHandle<Exit>>,
}

impl NodeHandle {
    /// Stops the node gracefully and waits until it has stopped, 5 s at most.
    pub fn stop(mut self) -> Exit {
        self.stop_and_join()
    }

    /// Fails one of its sockets as if libzmq had, to see that it is opened again. For drills.
    pub fn fail_socket(&self, socket: SocketName) {
        // A node that has ended has no sockets.
        let _ = self.events.send(Event::Fail(socket));
    }

    fn stop_and_join(&mut self) -> Exit {
        let _ = self.events.send(Event::Stop);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(exit)) => exit,
            Some(Err(_)) | None => Exit::Failed("the node's thread has ended".to_owned()),
        }
    }
}

impl Drop for NodeHandle {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.stop_and_join();
        }
    }
}

/// Runs a node on this thread until SIGINT or SIGTERM, or until it cannot go on. `data` is its
/// folder; `seed` decides all that is random in the core.
///
/// # Errors
/// Why it did not start. Nothing is bound then.
pub fn run_node(
    topology: Topology,
    name: &str,
    data: &Path,
    seed: u64,
) -> Result<Exit, StartError> {
    fatal::end_process_on_panic();
    raise_open_files(topology.limits.sessions_max);
    let prepared = Prepared::new(topology, name, data, seed)?;
    let (events, inbox) = unbounded_channel();
    let to_stop = events.clone();
    let signals = move || stop_on_signals(to_stop);
    prepared.run(events, inbox, signals, || {})
}

/// Starts a node on a thread of its own. Returns once everything is bound.
///
/// # Errors
/// Why it did not start. Nothing is bound then.
pub fn spawn_node(
    topology: Topology,
    name: &str,
    data: &Path,
    seed: u64,
) -> Result<NodeHandle, StartError> {
    let (name, data) = (name.to_owned(), data.to_owned());
    let (events, inbox) = unbounded_channel();
    let (started, outcome) = mpsc::channel();
    let own = events.clone();
    let body = move || {
        fatal::end_process_on_panic();
        let failed = started.clone();
        let ready = move || drop(started.send(Ok(())));
        let exit = Prepared::new(topology, &name, &data, seed)
            .and_then(|prepared| prepared.run(own, inbox, || Ok(()), ready));
        exit.unwrap_or_else(|error| {
            let text = error.to_string();
            // Whoever waits for the start takes it; there is nobody else.
            let _ = failed.send(Err(error));
            Exit::Failed(text)
        })
    };
    let thread = std::thread::Builder::new()
        .name("weft-node".to_owned())
        .spawn(body)
        .map_err(|why| StartError::System {
            what: "the node's thread",
            why,
        })?;
    match outcome.recv() {
        Ok(Ok(())) => Ok(NodeHandle {
            events,
            thread: Some(thread),
        }),
        Ok(Err(error)) => {
            // It ends by itself, and has nothing more to say.
            let _ = thread.join();
            Err(error)
        }
        Err(mpsc::RecvError) => Err(StartError::System {
            what: "the node's thread",
            why: std::io::Error::other("it has ended"),
        }),
    }
}

/// A node with everything it needs, and nothing running but the gate.
struct Prepared {
    topology: Arc<Topology>,
    sockets: Rc<Sockets>,
    made: AllMade,
    journal: Journal<RealDisk>,
    recovery: Recovery,
    seed: u64,
    // Last, so that it outlives all sockets.
    gate: Option<Gate>,
}

struct AllMade {
    listeners: Vec<Made>,
    peers: Made,
    links: Vec<(NodeName, Lane, Made)>,
    publisher: Made,
    subscriber: Made,
}

impl Prepared {
    fn new(topology: Topology, name: &str, data: &Path, seed: u64) -> Result<Self, StartError> {
        let topology = Arc::new(topology);
        let name = NodeName::from(name);
        let node = topology
            .node(&name)
            .ok_or_else(|| no_such_node(&topology, name.as_str()))?
            .clone();
        let keys = keys::load(&topology, &node)?;
        let mut recovery = Recovery::new(&topology.limits);
        let journal = open_journal(&topology, &name, data, &mut recovery)?;
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
        Ok(Self {
            topology,
            sockets: Rc::new(sockets),
            made,
            journal,
            recovery,
            seed,
            gate,
        })
    }

    /// Runs until the node has stopped. `ready` is called once it serves.
    fn run(
        self,
        events: UnboundedSender<Event>,
        mut inbox: UnboundedReceiver<Event>,
        signals: impl FnOnce() -> Result<(), StartError>,
        ready: impl FnOnce(),
    ) -> Result<Exit, StartError> {
        let Self {
            topology,
            sockets,
            made,
            journal,
            recovery,
            seed,
            gate,
        } = self;
        let clock = Clock::start();
        let config = NodeConfig {
            topology,
            name: sockets.node().name.clone(),
            incarnation: journal.incarnation(),
            seed,
        };
        let node = Node::new(config, recovery, clock.now())?;
        let core = (node, clock);
        let system = System::new();
        let outcome: Result<(Exit, DiskEnd), StartError> = system.block_on(async {
            signals()?;
            let (actor, ends, disk) = start_actors(&sockets, made, journal, core, &events)?;
            tracing::info!("ready: {}", describe(&sockets));
            ready();
            Ok((drive(&actor, &ends, &mut inbox).await, disk))
        });
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

impl AllMade {
    fn new(sockets: &Sockets) -> Result<Self, StartError> {
        let listeners = (0..sockets.node().clients.len()).map(|i| sockets.clients(i));
        let lanes = sockets
            .others()
            .flat_map(|peer| [Lane::Control, Lane::Bulk].map(|lane| (peer.name.clone(), lane)));
        let links = lanes.map(|(peer, lane)| {
            let made = sockets.link(&peer, lane)?;
            Ok((peer, lane, made))
        });
        Ok(Self {
            listeners: listeners.collect::<Result<_, StartError>>()?,
            peers: sockets.peers()?,
            publisher: sockets.publisher()?,
            links: links.collect::<Result<_, StartError>>()?,
            subscriber: sockets.subscriber()?,
        })
    }
}

/// The addresses of the socket actors.
struct Ends {
    flush: Vec<Recipient<Flush>>,
    fail: Vec<(SocketName, Recipient<Fail>)>,
}

impl Ends {
    fn port<D: Duty>(&mut self, name: SocketName, duty: D, made: Made, shared: &Shared) -> Port<D> {
        let actor = SocketActor::start(duty, made, shared);
        self.flush.push(actor.clone().recipient());
        self.fail.push((name, actor.clone().recipient()));
        Port::new(actor)
    }
}

fn start_actors(
    sockets: &Rc<Sockets>,
    made: AllMade,
    journal: Journal<RealDisk>,
    (node, clock): (Node, Clock),
    events: &UnboundedSender<Event>,
) -> Result<(Addr<NodeActor>, Ends, DiskEnd), StartError> {
    let ctx = Context::<NodeActor>::new();
    let address = ctx.address();
    let (disk, disk_end) = DiskThreads::start(journal, &address.clone().recipient())?;
    let counters = Counters::default();
    let shared = Shared {
        sockets: Rc::clone(sockets),
        node: address.recipient(),
        counters: counters.clone(),
        events: events.clone(),
    };
    let mut ends = Ends {
        flush: Vec::new(),
        fail: Vec::new(),
    };
    let mut listeners = Vec::new();
    for (made, endpoint) in made.listeners.into_iter().zip(&sockets.node().clients) {
        let index = u16::try_from(listeners.len()).unwrap_or(u16::MAX);
        let endpoint = endpoint.bind.clone();
        let duty = Listener { index, endpoint };
        listeners.push(ends.port(SocketName::Clients(index), duty, made, &shared));
    }
    let mut links = std::collections::BTreeMap::new();
    for (peer, lane, made) in made.links {
        let name = SocketName::Link(peer.clone(), lane);
        let duty = Link {
            peer: peer.clone(),
            lane,
        };
        links.insert((peer, lane), ends.port(name, duty, made, &shared));
    }
    ends.port(SocketName::Peers, Peers, made.peers, &shared);
    let ports = Ports {
        listeners,
        links,
        publisher: ends.port(
            SocketName::Publisher,
            Publisher::default(),
            made.publisher,
            &shared,
        ),
        subscriber: ends.port(
            SocketName::Subscriber,
            Subscriber::default(),
            made.subscriber,
            &shared,
        ),
    };
    let actor = ctx.run(NodeActor {
        node,
        clock,
        outbox: Outbox::new(),
        ports,
        disk,
        counters,
        events: events.clone(),
    });
    Ok((actor, ends, disk_end))
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

fn stop_on_signals(events: UnboundedSender<Event>) -> Result<(), StartError> {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signal = signal(kind).map_err(|why| StartError::System {
            what: "the watch for signals",
            why,
        })?;
        let events = events.clone();
        actix::spawn(async move {
            while signal.recv().await.is_some() {
                let _ = events.send(Event::Stop);
            }
        });
    }
    Ok(())
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
    let mut visit = |item| recovery.handle(item).map_err(|error| error.to_string());
    Ok(Journal::open(disk, &identity, settings, &mut visit)?)
}

fn fresh_incarnation() -> Result<Incarnation, StartError> {
    let mut bytes = [0; 8];
    let filled = ring::rand::SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| StartError::System {
        what: "the system's random generator",
        why: std::io::Error::other("it gave nothing"),
    })?;
    Ok(Incarnation(u64::from_ne_bytes(bytes).max(1)))
}

/// A client costs a file descriptor, and libzmq spins when there is none left.
fn raise_open_files(sessions: u64) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let wanted = sessions + 1_024;
    if limit.current.is_some_and(|current| current < wanted) {
        let ceiling = limit.maximum.unwrap_or(wanted);
        limit.current = Some(wanted.min(ceiling));
        if setrlimit(Resource::Nofile, limit).is_err() || ceiling < wanted {
            tracing::warn!(
                "this process may open {ceiling} files, and limits.sessions_max = {sessions} asks \
                 for {wanted}: raise the limit (ulimit -n) or lower sessions_max"
            );
        }
    }
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
