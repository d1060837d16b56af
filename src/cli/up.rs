//! `weft up`: a whole fabric on this machine, one child process per node, watched and restarted.

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Failure;
use super::connect::on_interrupt;
use super::health::Health;
use super::options::{QUICKSTART, Target, read_topology};
use crate::topology::{Node, Topology};

/// How often children are looked after.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The pause before a dead node is started again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// A node that cannot start is tried this often at least.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A node that ran this long has earned the short pause again.
const STEADY: Duration = Duration::from_secs(10);

/// A node stops within 5 s of being asked; then it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

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

/// One node and the process that runs it.
struct Supervised {
    name: String,
    endpoint: String,
    command: Launch,
    child: Option<Child>,
    started: Instant,
    /// When to start it again.
    again: Option<Instant>,
    pause: Duration,
}

/// How to start a node.
struct Launch {
    program: PathBuf,
    file: PathBuf,
    node: String,
    data: Option<PathBuf>,
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
            Ok(Event::Healthy(_)) if nodes.iter().any(|node| node.child.is_none()) => {}
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
        let dead = |node: &Supervised| node.child.is_none() && node.again.is_none();
        if nodes.iter().all(dead) {
            let help = "see what the nodes said above";
            return Err(Failure::user("no node is left", help));
        }
    }
}

/// Asks all children to stop, waits, and kills those that do not.
fn stop(nodes: &mut [Supervised]) {
    for node in nodes.iter() {
        node.signal(Signal::TERM);
    }
    let deadline = Instant::now() + STOP_TIMEOUT;
    for node in nodes.iter_mut() {
        let Some(child) = &mut node.child else {
            continue;
        };
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        if matches!(child.try_wait(), Ok(None)) {
            say(&format!(
                "node {} did not stop in time and is killed",
                node.name
            ));
            // It may end by itself just now; either way it is waited for.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Supervised {
    fn new(node: &Node, command: Launch) -> Self {
        let endpoint = node.clients.first().map(|own| own.advertise.clone());
        Self {
            name: node.name.to_string(),
            endpoint: endpoint.unwrap_or_default(),
            command,
            child: None,
            started: Instant::now(),
            again: None,
            pause: PAUSE_MIN,
        }
    }

    /// Starts the process; its stderr comes out under the node's name.
    fn start(&mut self) -> Result<u32, Failure> {
        let mut child = self.command.spawn().map_err(|error| {
            let program = self.command.program.display();
            Failure::internal(format!("cannot start {program}: {error}"))
        })?;
        if let Some(stderr) = child.stderr.take() {
            forward(self.name.clone(), stderr);
        }
        let pid = child.id();
        self.child = Some(child);
        self.started = Instant::now();
        self.again = None;
        Ok(pid)
    }

    /// Notices its death, and starts it again when it is time.
    fn look_after(&mut self, restart: bool) -> Result<(), Failure> {
        if let Some(child) = &mut self.child
            && let Ok(Some(status)) = child.try_wait()
        {
            self.child = None;
            self.handle_death(status, restart);
        }
        if self.again.is_some_and(|at| at <= Instant::now()) {
            let pid = self.start()?;
            say(&format!("node {} is started again, pid {pid}", self.name));
        }
        Ok(())
    }

    fn handle_death(&mut self, status: ExitStatus, restart: bool) {
        if !restart {
            say(&format!("node {} ended: {status}", self.name));
            return;
        }
        if status.code() == Some(1) {
            // It said why it does not start; trying again would not change that.
            say(&format!("node {} is not started again", self.name));
            return;
        }
        if self.started.elapsed() >= STEADY {
            self.pause = PAUSE_MIN;
        }
        let pause = self.pause;
        self.again = Some(Instant::now() + pause);
        self.pause = (pause * 2).min(PAUSE_MAX);
        let ms = pause.as_millis();
        say(&format!(
            "node {} ended: {status}; it is started again in {ms} ms",
            self.name
        ));
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().and_then(|child| {
            let pid = i32::try_from(child.id()).ok()?;
            Pid::from_raw(pid)
        });
        if let Some(pid) = pid {
            // The child is not waited for yet, so the pid is still its own, alive or dead.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Launch {
    /// The child holds the reading end of a pipe that closes with this process, however it ends.
    fn spawn(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.arg("node").arg("--exit-with-parent");
        if let Some(data) = &self.data {
            command.arg("--data").arg(data);
        }
        command
            .arg(&self.file)
            .arg(&self.node)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
    }
}

/// Copies a child's stderr to ours, each line under the node's name.
fn forward(name: String, stderr: ChildStderr) {
    thread::spawn(move || {
        for line in BufReader::new(stderr).split(b'\n') {
            let Ok(line) = line else {
                return;
            };
            say(&format!("{name} | {}", String::from_utf8_lossy(&line)));
        }
    });
}

/// To stderr, whether anybody still reads it or not: a closed terminal stops no node.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
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
    let pattern = channels.first()?.1.subjects.first()?.as_str();
    let words = pattern.split('.').map(|word| match word {
        "*" | "#" => "new",
        word => word,
    });
    Some((pattern.to_owned(), words.collect::<Vec<_>>().join(".")))
}

/// The text as one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%".contains(c);
    match !text.is_empty() && text.chars().all(plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// Children read files: the built-in topology becomes one.
fn write_quickstart(root: &Path) -> Result<PathBuf, Failure> {
    let file = root.join("quickstart.toml");
    let written = fs::create_dir_all(root).and_then(|()| fs::write(&file, QUICKSTART));
    written.map_err(|error| {
        let what = format!("{} cannot be written: {error}", file.display());
        Failure::user(what, "name a folder of yours with --data DIR")
    })?;
    Ok(file)
}

fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        let what = format!("{} is no path: {error}", path.display());
        Failure::user(what, "name another one")
    })
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
