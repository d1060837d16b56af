//! `weft up`: a whole fabric on this machine, one child process per node, watched and restarted.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::children::{Launch, Ready, Supervised, absolute, say, stop, write_quickstart};
use super::connect::on_interrupt;
use super::health::Health;
use super::node::log_to_stderr;
use super::options::{Resolved, Target, read_topology};
use super::{Failure, one_process};
use crate::node::NodeView;
use crate::topology::{Node, Topology};

/// How often children are looked after.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often the nodes are asked until all are healthy.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Nodes whose supervisor was killed stop by themselves: those that are healthy for this long have
/// one.
const OTHERS_STAY: Duration = Duration::from_secs(1);

/// Said once the nodes are started, where they cannot be asked how they are.
const KEYED: &str = "the nodes are started, and demand a key of whoever asks: that all is healthy, \
                     and who leads what, is told with --identity FILE, by `weft status` as well";

/// `weft up`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topology file [default: the built-in quickstart]
    #[arg(value_name = "FILE", env = "WEFT_TOPOLOGY")]
    file: Option<PathBuf>,
    /// Keep each node's data in DIR/NAME [default: the topology's, else ./weft-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The data folder of NODE is lost for good: fill an empty one anew in its place
    #[arg(long, value_name = "NODE")]
    replace: Vec<String>,
    /// Leave a node that died dead
    #[arg(long)]
    no_restart: bool,
    /// Run all nodes in this process, each on threads of its own. If one of them panics, all end
    #[arg(long)]
    one_process: bool,
    /// The client's key file to ask the nodes with who leads what, where they demand keys
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// One JSON object a line: each node as it starts, then what all of them lead
    #[arg(long)]
    json: bool,
}

/// What the supervisor hears.
pub(super) enum Event {
    /// SIGINT or SIGTERM.
    Interrupted,
    /// All nodes are healthy for the first time, and all are those started here.
    Healthy(Health),
    /// All nodes are healthy, and none of them was started here.
    Others(Health),
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let topology = read_topology(args.file.as_deref())?;
    check_replaced(&topology, &args.replace)?;
    let watched = watched(&args)?;
    if args.one_process {
        return run_within(&args, &topology, watched);
    }
    let program = std::env::current_exe()
        .map_err(|error| Failure::internal(format!("cannot find this program: {error}")))?;
    let root = absolute(args.data.as_deref().unwrap_or(Path::new("weft-data")))?;
    let file = match &args.file {
        Some(file) => absolute(file)?,
        None => write_quickstart(&root)?,
    };
    let launch = |node: &Node| Launch {
        program: program.clone(),
        file: file.clone(),
        node: node.name.to_string(),
        data: (args.data.is_some() || node.data.is_none()).then(|| root.join(node.name.as_str())),
        log: None,
        replaces: args.replace.contains(&node.name.to_string()),
    };
    let mut nodes: Vec<Supervised> = topology
        .nodes
        .iter()
        .map(|node| Supervised::new(node, launch(node)))
        .collect();

    let (events, heard) = interrupted()?;
    let mut out = io::stdout().lock();
    if !args.json {
        writeln!(out, "fabric {}", topology.fabric.name)?;
    }
    for node in &mut nodes {
        let pid = node.start()?;
        let (name, endpoint) = (&node.name, &node.endpoint);
        match args.json {
            true => writeln!(
                out,
                "{}",
                json!({ "node": name, "pid": pid, "endpoint": endpoint })
            )?,
            false => writeln!(out, "node {name}  pid {pid}  {endpoint}")?,
        }
    }
    out.flush()?;
    match watched {
        Some(resolved) => {
            let children = nodes.iter().map(Supervised::ready).collect();
            watch_health(resolved, children, events);
        }
        None => say(KEYED),
    }
    let lines = commands(&topology, &program, &args);
    supervise(&mut nodes, &heard, !args.no_restart, |health| {
        tell_welcome(health, &lines, args.json, &mut out);
    })
}

/// All nodes in this process.
fn run_within(
    args: &Args,
    topology: &Topology,
    watched: Option<Resolved>,
) -> Result<ExitCode, Failure> {
    log_to_stderr(None);
    let (events, heard) = interrupted()?;
    let mut out = io::stdout().lock();
    if !args.json {
        writeln!(out, "fabric {}", topology.fabric.name)?;
    }
    let mut hosts = one_process::start(topology, args.data.as_deref(), &args.replace)?;
    one_process::announce(topology, args.json, &mut out)?;
    match watched {
        // All of them serve.
        Some(resolved) => watch_health(resolved, Vec::new(), events),
        None => say(KEYED),
    }
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("weft"));
    let lines = commands(topology, &program, args);
    one_process::run(&mut hosts, !args.no_restart, &heard, |health| {
        tell_welcome(health, &lines, args.json, &mut out);
    })
}

/// What there is to hear, of which the wish to end is the first.
fn interrupted() -> Result<(Sender<Event>, Receiver<Event>), Failure> {
    let (events, heard) = mpsc::channel();
    let interrupts = events.clone();
    on_interrupt(move || {
        // The supervisor may have ended by itself.
        let _ = interrupts.send(Event::Interrupted);
    })?;
    Ok((events, heard))
}

fn tell_welcome(health: &Health, lines: &[String], json: bool, out: &mut impl Write) {
    let told = match json {
        true => writeln!(out, "{}", welcome_json(health, lines)),
        false => welcome(health, lines, out),
    };
    // A closed stdout stops no node.
    let _ = told.and_then(|()| out.flush());
}

/// Only a declared node's folder can be replaced.
fn check_replaced(topology: &Topology, replaced: &[String]) -> Result<(), Failure> {
    let names: Vec<&str> = topology
        .nodes
        .iter()
        .map(|node| node.name.as_str())
        .collect();
    match replaced.iter().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(Failure::user(
            format!("the topology has no node {name} whose folder could be replaced"),
            format!("its nodes are {}", names.join(", ")),
        )),
    }
}

/// Looks after the children until the end is asked for, or all of them are dead.
fn supervise(
    nodes: &mut [Supervised],
    heard: &Receiver<Event>,
    restart: bool,
    mut welcome: impl FnMut(&Health),
) -> Result<ExitCode, Failure> {
    loop {
        match heard.recv_timeout(LOOK_EVERY) {
            Ok(Event::Interrupted) => {
                say("stopping");
                stop(nodes);
                return Ok(ExitCode::SUCCESS);
            }
            Ok(Event::Healthy(health)) => welcome(&health),
            Ok(Event::Others(health)) => {
                stop(nodes);
                return Err(runs_already(&health));
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => thread::sleep(LOOK_EVERY),
        }
        for node in nodes.iter_mut() {
            node.look_after(restart)?;
        }
        if nodes.iter().all(Supervised::is_dead) {
            let help = "see what the nodes said above";
            return Err(Failure::user("no node is left", help));
        }
    }
}

/// Where to ask the nodes how they are. None where they demand a key and none is given.
fn watched(args: &Args) -> Result<Option<Resolved>, Failure> {
    let target = Target {
        topology: args.file.clone(),
        identity: args.identity.clone(),
        ..Target::default()
    };
    match target.resolve() {
        Ok(resolved) => Ok(Some(resolved)),
        Err(_) if args.identity.is_none() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Tells when all is healthy for the first time: here, or where other processes serve the same
/// topology.
fn watch_health(resolved: Resolved, children: Vec<Ready>, events: Sender<Event>) {
    thread::spawn(move || {
        let mut others_since = None;
        loop {
            // Before they are asked: whoever serves by then has the endpoints, and answers.
            let ours = children.iter().all(Ready::get);
            let health = Health::gather(&resolved);
            let others = health.healthy && !children.iter().any(Ready::get);
            let since = *others_since.get_or_insert_with(Instant::now);
            let event = match health.healthy {
                true if ours => Event::Healthy(health),
                true if others && since.elapsed() >= OTHERS_STAY => Event::Others(health),
                _ => {
                    others_since = others_since.filter(|_| others);
                    thread::sleep(ASK_EVERY);
                    continue;
                }
            };
            // The supervisor may have ended meanwhile.
            let _ = events.send(event);
            return;
        }
    });
}

/// The nodes of another supervisor answer.
fn runs_already(health: &Health) -> Failure {
    let nodes = health.nodes.iter().filter_map(|node| {
        let view = node.view.as_ref()?;
        let up = humantime::format_duration(Duration::from_secs(view.uptime_ms / 1_000));
        Some(format!("{} at {} for {up}", view.node, node.endpoint))
    });
    let nodes: Vec<String> = nodes.collect();
    let fabric = health.views().next().map_or("", |view| &view.fabric);
    Failure::user(
        format!(
            "the fabric {fabric} runs already, and was not started here: {}",
            nodes.join(", ")
        ),
        "use that one, as `weft status` does, or stop it first; for a second one name a topology \
         with endpoints of its own, and another folder with --data DIR",
    )
}

/// What each node leads.
fn leads(health: &Health) -> BTreeMap<&str, Vec<String>> {
    let of_node = |view: &NodeView| {
        let led = view.partitions.iter().filter(|own| own.role == "leader");
        led.map(|own| format!("{}/{}", own.channel, own.partition))
            .collect()
    };
    let views = health.views();
    views
        .map(|view| (view.node.as_str(), of_node(view)))
        .collect()
}

/// Who leads what, and what to try next.
fn welcome(health: &Health, commands: &[String], out: &mut impl Write) -> io::Result<()> {
    for (node, leads) in leads(health) {
        let leads = match leads.is_empty() {
            true => "nothing".to_owned(),
            false => leads.join(" "),
        };
        writeln!(out, "node {node} leads {leads}")?;
    }
    writeln!(out, "\nall nodes are healthy; try in a second terminal:")?;
    for command in commands {
        writeln!(out, "  {command}")?;
    }
    Ok(())
}

fn welcome_json(health: &Health, commands: &[String]) -> serde_json::Value {
    json!({ "healthy": true, "leads": leads(health), "try": commands })
}

/// Commands to paste into a second terminal.
fn commands(topology: &Topology, program: &Path, args: &Args) -> Vec<String> {
    let weft = quoted(&program.display().to_string());
    let option = |name: &str, path: &Option<PathBuf>| {
        let path = path
            .as_deref()
            .and_then(|path| std::path::absolute(path).ok());
        path.map_or(String::new(), |path| {
            format!(" --{name} {}", quoted(&path.display().to_string()))
        })
    };
    let target = option("topology", &args.file) + &option("identity", &args.identity);
    let mut commands = Vec::new();
    if let Some((pattern, subject)) = example(topology) {
        let (pattern, subject) = (quoted(&pattern), quoted(&subject));
        commands.push(format!("{weft} publish {subject} 'hello' --key me{target}"));
        commands.push(format!("{weft} subscribe {pattern} --from start{target}"));
    }
    commands.push(format!("{weft} status{target}"));
    commands
}

/// A pattern of the topology, a stored one if there is one, and a subject that it selects.
fn example(topology: &Topology) -> Option<(String, String)> {
    let mut channels: Vec<_> = topology.channels.iter().collect();
    channels.sort_by_key(|(name, channel)| (!channel.is_stored(), channel.partitions < 2, *name));
    let pattern = channels.first()?.1.subjects.first()?;
    Some((pattern.as_str().to_owned(), pattern.example("new")))
}

/// The text as one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pasted_words_survive_a_shell() {
        assert_eq!(quoted("/usr/bin/weft"), "/usr/bin/weft");
        assert_eq!(quoted("orders.#"), "'orders.#'");
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
    }
}
