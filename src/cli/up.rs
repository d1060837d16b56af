//! `weft up`: a whole fabric on this machine, one child process per node, watched and restarted.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::Failure;
use super::children::{Launch, Supervised, absolute, say, stop, write_quickstart};
use super::connect::on_interrupt;
use super::health::Health;
use super::options::{Target, read_topology};
use crate::topology::{Node, Topology};

/// How often children are looked after.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// `weft up`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topology file [default: the built-in quickstart]
    #[arg(value_name = "FILE", env = "WEFT_TOPOLOGY")]
    file: Option<PathBuf>,
    /// Keep each node's data in DIR/NAME [default: the topology's, else ./weft-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Leave a node that died dead
    #[arg(long)]
    no_restart: bool,
}

/// What the supervisor hears.
enum Event {
    /// SIGINT or SIGTERM.
    Interrupted,
    /// All nodes are healthy for the first time.
    Healthy(Health),
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let topology = read_topology(args.file.as_deref())?;
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
    };
    let mut nodes: Vec<Supervised> = topology
        .nodes
        .iter()
        .map(|node| Supervised::new(node, launch(node)))
        .collect();

    let (events, heard) = mpsc::channel();
    let interrupts = events.clone();
    on_interrupt(move || {
        // The supervisor may have ended by itself.
        let _ = interrupts.send(Event::Interrupted);
    })?;
    let mut out = io::stdout().lock();
    writeln!(out, "fabric {}", topology.fabric.name)?;
    for node in &mut nodes {
        let pid = node.start()?;
        writeln!(out, "node {}  pid {pid}  {}", node.name, node.endpoint)?;
    }
    out.flush()?;
    watch_health(args.file.clone(), events);
    let given = args.file.as_deref();
    supervise(
        &mut nodes,
        &heard,
        !args.no_restart,
        &mut out,
        |health, out| welcome(health, &topology, &program, given, out),
    )
}

/// Looks after the children until the end is asked for, or all of them are dead.
fn supervise(
    nodes: &mut [Supervised],
    heard: &Receiver<Event>,
    restart: bool,
    out: &mut impl Write,
    welcome: impl Fn(&Health, &mut dyn Write) -> io::Result<()>,
) -> Result<ExitCode, Failure> {
    loop {
        match heard.recv_timeout(LOOK_EVERY) {
            Ok(Event::Interrupted) => {
                say("stopping");
                stop(nodes);
                return Ok(ExitCode::SUCCESS);
            }
            // Other processes may serve the same topology; they are not what this one started.
            Ok(Event::Healthy(_)) if nodes.iter().any(|node| !node.is_running()) => {}
            Ok(Event::Healthy(health)) => {
                // A closed stdout stops no node.
                let _ = welcome(&health, out);
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

/// Tells when all is healthy for the first time.
fn watch_health(file: Option<PathBuf>, events: Sender<Event>) {
    thread::spawn(move || {
        let target = Target {
            topology: file,
            ..Target::default()
        };
        // Nodes that demand a key let a supervisor without one ask nothing; then nothing is told.
        let Ok(resolved) = target.resolve() else {
            return;
        };
        loop {
            let health = Health::gather(&resolved);
            if health.healthy {
                // The supervisor may have ended meanwhile.
                let _ = events.send(Event::Healthy(health));
                return;
            }
            thread::sleep(Duration::from_millis(200));
        }
    });
}

/// Who leads what, and what to try next.
fn welcome(
    health: &Health,
    topology: &Topology,
    program: &Path,
    file: Option<&Path>,
    out: &mut dyn Write,
) -> io::Result<()> {
    for view in health.views() {
        let leads: Vec<String> = view
            .partitions
            .iter()
            .filter(|own| own.role == "leader")
            .map(|own| format!("{}/{}", own.channel, own.partition))
            .collect();
        let leads = match leads.is_empty() {
            true => "nothing".to_owned(),
            false => leads.join(" "),
        };
        writeln!(out, "node {} leads {leads}", view.node)?;
    }
    let weft = quoted(&program.display().to_string());
    let target = match file.and_then(|file| std::path::absolute(file).ok()) {
        Some(file) => format!(" --topology {}", quoted(&file.display().to_string())),
        None => String::new(),
    };
    writeln!(out, "\nall nodes are healthy; try in a second terminal:")?;
    if let Some((pattern, subject)) = example(topology) {
        let (pattern, subject) = (quoted(&pattern), quoted(&subject));
        writeln!(out, "  {weft} publish {subject} 'hello' --key me{target}")?;
        writeln!(out, "  {weft} subscribe {pattern} --from start{target}")?;
    }
    writeln!(out, "  {weft} status{target}")?;
    out.flush()
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
