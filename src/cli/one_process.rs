//! `weft up --one-process`: all nodes of a topology in this process, each on threads of its own.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::Failure;
use super::children::say;
use super::up::{Event, LOOK_EVERY};
use super::wait::wait;
use crate::actor::{Exit, StartError};
use crate::embed::{Node, NodeOptions};
use crate::topology::Topology;

/// How long a node that ended stays so before it is started again.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// One node, as long as it is to run.
struct Hosted<'t> {
    topology: &'t Topology,
    name: &'t str,
    options: NodeOptions,
    node: Option<Node>,
    /// When it ended.
    ended: Option<Instant>,
}

/// Runs all nodes until the end is asked for, or none is left. `data` is the folder of each.
pub(crate) fn host(
    topology: &Topology,
    data: impl Fn(&str) -> Option<std::path::PathBuf>,
    replaced: &[String],
    restart: bool,
    heard: &Receiver<Event>,
    mut welcome: impl FnMut(&super::health::Health),
) -> Result<ExitCode, Failure> {
    let hosted = topology.nodes.iter().map(|node| Hosted {
        topology,
        name: node.name.as_str(),
        options: NodeOptions {
            data: data(node.name.as_str()),
            replaces: replaced.contains(&node.name.to_string()),
            seed: None,
        },
        node: None,
        ended: None,
    });
    let mut hosted: Vec<Hosted> = hosted.collect();
    for node in &mut hosted {
        let started = node.start();
        started.map_err(|error| {
            let what = format!("node {} does not start: {error}", node.name);
            Failure::user(what, "the nodes that had started have stopped again")
        })?;
    }
    loop {
        match heard.recv_timeout(LOOK_EVERY) {
            Ok(Event::Interrupted) => {
                say("stopping");
                stop(hosted);
                return Ok(ExitCode::SUCCESS);
            }
            Ok(Event::Healthy(health)) => welcome(&health),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(LOOK_EVERY),
        }
        for node in &mut hosted {
            node.look_after(restart);
        }
        if hosted.iter().all(|node| node.node.is_none()) && !restart {
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

/// The folder of a node below the one that was named for all.
pub(crate) fn below<'r>(
    root: Option<&'r Path>,
) -> impl Fn(&str) -> Option<std::path::PathBuf> + 'r {
    move |name| root.map(|root| root.join(name))
}
