//! `weft up --one-process`: all nodes of a topology in this process, each on threads of its own.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::Failure;
use super::children::say;
use super::health::Health;
use super::up::{Event, LOOK_EVERY};
use super::wait::wait;
use crate::actor::{Exit, StartError, raise_open_files_for};
use crate::embed::{Node, NodeOptions};
use crate::topology::Topology;

/// How long a node that ended stays so before it is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// One node, as long as it is to run.
pub(crate) struct Hosted<'t> {
    topology: &'t Topology,
    name: &'t str,
    options: NodeOptions,
    node: Option<Node>,
    /// When it ended.
    ended: Option<Instant>,
}

/// Starts all nodes. Each keeps its data in its folder below `root`, if one is named.
pub(crate) fn start<'t>(
    topology: &'t Topology,
    root: Option<&Path>,
    replaced: &[String],
) -> Result<Vec<Hosted<'t>>, Failure> {
    raise_open_files_for(topology.nodes.len() as u64, topology.limits.sessions_max);
    let mut hosts = Vec::new();
    for node in &topology.nodes {
        let name = node.name.as_str();
        let mut hosted = Hosted {
            topology,
            name,
            options: NodeOptions {
                data: root.map(|root| root.join(name)),
                replaces: replaced.iter().any(|replaced| replaced == name),
                seed: None,
            },
            node: None,
            ended: None,
        };
        if let Err(error) = hosted.start() {
            stop(hosts);
            return Err(Failure::User(miette::miette!(
                "node {name} does not start: {error}"
            )));
        }
        hosts.push(hosted);
    }
    Ok(hosts)
}

/// Runs them until the end is asked for, or none is left.
pub(crate) fn run(
    hosts: &mut Vec<Hosted<'_>>,
    restart: bool,
    heard: &Receiver<Event>,
    mut welcome: impl FnMut(&Health),
) -> Result<ExitCode, Failure> {
    loop {
        match heard.recv_timeout(LOOK_EVERY) {
            Ok(Event::Interrupted) => {
                say("stopping");
                stop(std::mem::take(hosts));
                return Ok(ExitCode::SUCCESS);
            }
            Ok(Event::Healthy(health) | Event::Others(health)) => welcome(&health),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(LOOK_EVERY),
        }
        for node in hosts.iter_mut() {
            node.look_after(restart);
        }
        if hosts.iter().all(|node| node.node.is_none()) && !restart {
            return Err(Failure::user("no node is left", "see what they said above"));
        }
    }
}

impl Hosted<'_> {
    fn start(&mut self) -> Result<(), StartError> {
        let options = self.options.clone();
        let node = wait(Node::start_with(self.topology.clone(), self.name, options))?;
        // A folder that was filled anew is no empty one any more.
        self.options.replaces = false;
        self.node = Some(node);
        self.ended = None;
        Ok(())
    }

    fn look_after(&mut self, restart: bool) {
        if let Some(node) = self.node.take_if(|node| node.has_ended()) {
            let why = match wait(node.stop()) {
                Exit::Stopped => "it stopped".to_owned(),
                Exit::Failed(why) => why,
            };
            say(&format!("node {} has ended: {why}", self.name));
            self.ended = Some(Instant::now());
        }
        let due = self.ended.is_some_and(|at| at.elapsed() >= RESTART_AFTER);
        if restart
            && due
            && let Err(why) = self.start()
        {
            say(&format!("node {} does not start: {why}", self.name));
            self.ended = Some(Instant::now());
        }
    }
}

/// Stops all at once: each waits for nobody.
fn stop(hosted: Vec<Hosted>) {
    thread::scope(|scope| {
        for node in hosted.into_iter().filter_map(|hosted| hosted.node) {
            scope.spawn(|| wait(node.stop()));
        }
    });
}

/// Says who runs here, as `up` says it of processes.
pub(crate) fn announce(topology: &Topology, json: bool, out: &mut impl Write) -> io::Result<()> {
    let pid = std::process::id();
    for node in &topology.nodes {
        let name = &node.name;
        let endpoint = node.clients.first().map(|at| at.advertise.as_str());
        let endpoint = endpoint.unwrap_or_default();
        match json {
            true => {
                let told = serde_json::json!({ "node": name, "pid": pid, "endpoint": endpoint });
                writeln!(out, "{told}")?;
            }
            false => writeln!(out, "node {name}  in this process, {pid}  {endpoint}")?,
        }
    }
    out.flush()
}
