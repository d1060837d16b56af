//! The nodes of a bench: on free ports of loopback, with data below the bench's folder, and gone
//! with it.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::thread;
use std::time::{Duration, Instant};

use super::keys::{Door, Keys};
use crate::cli::Failure;
use crate::cli::children::{Launch, Supervised, absolute, stop};
use crate::cli::connect::on_interrupt;
use crate::cli::health::Health;
use crate::cli::keys::write_new;
use crate::cli::options::{Resolved, Server};
use crate::cli::ports::free_ports;
use crate::topology;
use crate::types::limits::GAUGES_EVERY;

/// How long the nodes may take to be healthy.
const HEALTHY: Duration = Duration::from_secs(60);

/// How often they are asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// An interrupted bench takes its folder along; every folder of one process is the same.
static INTERRUPT: Once = Once::new();

/// What a node shows of its disk is no older than this.
const MEASURED: Duration = Duration::from_millis(GAUGES_EVERY.as_millis() + 200);

/// The channel whose records are not stored, and the subject of the bench's records in it.
pub(super) const SIGNALS: &str = "signals.bench";

/// The same of the channel whose records are.
pub(super) const STREAM: &str = "stream.bench";

/// The file with the key of every node, beside the topology.
const SECRET: &str = "node.secret";

/// What a consumer of signals may be behind: a few milliseconds of the fastest work, which is how
/// long it may have to wait for a core.
pub(super) const WINDOW_BYTES: u64 = 16 << 20;

/// A folder that goes with the bench.
pub(super) struct Folder(PathBuf);

/// What nodes are to be there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) nodes: usize,
    /// Partitions of the stream, each with a replica on up to three nodes.
    pub(super) partitions: usize,
    pub(super) sessions_max: usize,
}

/// Nodes that run.
pub(super) struct Fabric {
    pub(super) nodes: Vec<Supervised>,
    resolved: Resolved,
    keys: Option<Keys>,
}

impl Folder {
    /// A new folder in `parent`, or in `./weft-data`.
    pub(super) fn new(parent: Option<&Path>) -> Result<Self, Failure> {
        let parent = absolute(parent.unwrap_or(Path::new("weft-data")))?;
        let folder = parent.join(format!("bench-{}", std::process::id()));
        fs::create_dir_all(&folder).map_err(|why| {
            let what = format!("{} cannot be made: {why}", folder.display());
            Failure::user(what, "name a folder of yours with --data DIR")
        })?;
        let written = folder.clone();
        let mut heard = Ok(());
        INTERRUPT.call_once(|| {
            heard = on_interrupt(move || {
                // The nodes end with this process; what they still write may be left.
                let _ = fs::remove_dir_all(written);
                std::process::exit(1);
            });
        });
        heard?;
        Ok(Self(folder))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(why) = fs::remove_dir_all(&self.0) {
            eprintln!("{} cannot be removed: {why}", self.0.display());
        }
    }
}

impl Fabric {
    /// Starts the nodes and waits until they are healthy.
    pub(super) fn start(folder: &Path, shape: Shape) -> Result<Self, Failure> {
        Self::start_with(folder, shape, None)
    }

    /// The same with keys, if there are any.
    pub(super) fn start_with(
        folder: &Path,
        shape: Shape,
        keys: Option<&Keys>,
    ) -> Result<Self, Failure> {
        let file = folder.join("bench.toml");
        let mut text = shape.topology(&free_ports(shape.nodes)?, keys);
        if let Some(keys) = keys {
            let public = keys.client.public();
            let _ = write!(
                text,
                "[[client]]\nname = \"bench\"\npublic_key = \"{public}\"\n"
            );
            write_new(&folder.join(SECRET), &keys.server.to_text())?;
        }
        fs::write(&file, &text).map_err(Failure::internal)?;
        let parsed = topology::parse(&text, &file);
        let Some(topology) = parsed.topology else {
            let what = format!("the bench's topology: {:?}", parsed.problems);
            return Err(Failure::internal(what));
        };
        let program = std::env::current_exe().map_err(Failure::internal)?;
        let launch = |node: &topology::Node| Launch {
            replaces: false,
            program: program.clone(),
            file: file.clone(),
            node: node.name.to_string(),
            data: Some(folder.join(node.name.as_str())),
            log: Some(folder.join(format!("{}.log", node.name))),
        };
        let nodes = topology.nodes.iter();
        let mut fabric = Self {
            nodes: nodes.map(|n| Supervised::new(n, launch(n))).collect(),
            resolved: Resolved {
                servers: Vec::new(),
                identity: keys.map(|keys| keys.client.clone()),
                meant: None,
            },
            keys: keys.cloned(),
        };
        let servers = fabric.nodes.iter().map(|node| Server {
            node: Some(node.name.clone()),
            endpoint: node.endpoint.clone(),
            key: keys.map(|keys| keys.server.public().clone()),
        });
        fabric.resolved.servers = servers.collect();
        for node in &mut fabric.nodes {
            node.start()?;
        }
        fabric.wait_until_healthy()?;
        Ok(fabric)
    }

    pub(super) fn wait_until_healthy(&mut self) -> Result<(), Failure> {
        let deadline = Instant::now() + HEALTHY;
        loop {
            for node in &mut self.nodes {
                if let Some(status) = node.take_death() {
                    let what = format!("node {} of the bench ended: {status}", node.name);
                    return Err(Failure::internal(what));
                }
                node.start_if_due()?;
            }
            let health = Health::gather(&self.resolved);
            if health.healthy {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let problems = health.problems.join("; ");
                let what = format!("the nodes of the bench are not healthy: {problems}");
                return Err(Failure::internal(what));
            }
            thread::sleep(ASK_EVERY);
        }
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        self.nodes.iter().filter_map(Supervised::pid).collect()
    }

    /// Where clients of the first node connect.
    pub(super) fn endpoint(&self) -> String {
        let first = self.nodes.first();
        first.map_or(String::new(), |node| node.endpoint.clone())
    }

    /// The same with the keys it takes.
    pub(super) fn door(&self) -> Door {
        Door::new(self.endpoint(), self.keys.as_ref())
    }

    /// Which node leads the first partition of the stream.
    pub(super) fn leader(&self) -> Result<usize, Failure> {
        let health = Health::gather(&self.resolved);
        let leads = |node: &crate::cli::health::NodeHealth| {
            let partitions = node.view.iter().flat_map(|view| &view.partitions);
            partitions
                .into_iter()
                .any(|own| own.partition == 0 && own.role == "leader")
        };
        let leader = health.nodes.iter().position(leads);
        leader.ok_or_else(|| Failure::internal("no node of the bench leads its stream"))
    }

    /// Syncs of the journals since their nodes started, in the order of the nodes. A node measures
    /// its disk now and then, so this waits until all have done so.
    pub(super) fn syncs(&self) -> Result<Vec<u64>, Failure> {
        thread::sleep(MEASURED);
        let health = Health::gather(&self.resolved);
        let syncs: Vec<u64> = health.views().map(|view| view.disk.syncs).collect();
        match syncs.len() == self.nodes.len() {
            true => Ok(syncs),
            false => Err(Failure::internal(health.problems.join("; "))),
        }
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        stop(&mut self.nodes);
    }
}

impl Shape {
    /// So many nodes, with a stream of one partition.
    pub(super) fn of(nodes: usize) -> Self {
        Self {
            nodes,
            partitions: 1,
            sessions_max: 100,
        }
    }

    fn topology(self, ports: &[[u16; 3]], keys: Option<&Keys>) -> String {
        let mut text = "[fabric]\nname = \"bench\"\nepoch = 1\n".to_owned();
        for (number, [clients, peers, signals]) in ports.iter().enumerate() {
            // Only what others reach speaks CURVE.
            let at = if keys.is_some() {
                "tcp://*"
            } else {
                "tcp://127.0.0.1"
            };
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "[[node]]\nname = \"n{number}\"\nclients = \"{at}:{clients}\"\n\
                 peers = \"{at}:{peers}\"\nsignals = \"{at}:{signals}\"\n"
            );
            if let Some(keys) = keys {
                let (public, at) = (keys.server.public(), "tcp://127.0.0.1");
                let _ = write!(
                    text,
                    "public_key = \"{public}\"\nsecret_key_file = \"{SECRET}\"\n\
                     [node.advertise]\nclients = \"{at}:{clients}\"\n\
                     peers = \"{at}:{peers}\"\nsignals = \"{at}:{signals}\"\n"
                );
            }
        }
        let (replicas, partitions) = (self.nodes.min(3), self.partitions);
        let _ = write!(
            text,
            "[channel.signals]\nkind = \"signal\"\nsubjects = [\"signals.#\"]\n\
             [channel.stream]\nkind = \"stream\"\nsubjects = [\"stream.#\"]\n\
             partitions = {partitions}\nreplicas = {replicas}\nconfirm = \"quorum\"\n\
             [limits]\nsessions_max = {}\nsubscription_window_bytes = {WINDOW_BYTES}\n\
             session_window_bytes = {WINDOW_BYTES}\n",
            self.sessions_max
        );
        text
    }
}
