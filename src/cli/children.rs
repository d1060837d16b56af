//! Children that run a node each: started, watched, restarted and stopped. They end with the
//! process that started them, however it ends.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Failure;
use super::options::QUICKSTART;
use crate::topology::Node;

/// The pause before a dead node is started again; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(200);

/// A node that cannot start is tried this often at least.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// A node that ran this long has earned the short pause again.
const STEADY: Duration = Duration::from_secs(10);

/// A node stops within 5 s of being asked; then it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// What a node says on stdout once it serves: from then on all its endpoints are its own.
pub(crate) const READY: &str = "ready";

/// One node and the process that runs it.
pub(crate) struct Supervised {
    pub(crate) name: String,
    pub(crate) endpoint: String,
    command: Launch,
    child: Option<Child>,
    ready: Ready,
    started: Instant,
    /// When to start it again.
    again: Option<Instant>,
    pause: Duration,
    /// Whether it has run before: then what it cannot do now may pass.
    proven: bool,
}

/// Whether the process of a node has said that it serves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ready(Arc<AtomicBool>);

/// How to start a node.
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) file: PathBuf,
    pub(crate) node: String,
    pub(crate) data: Option<PathBuf>,
    /// Where its stderr is appended to; else it comes out of ours.
    pub(crate) log: Option<PathBuf>,
    /// Whether its folder takes the place of one that is gone.
    pub(crate) replaces: bool,
}

/// Asks all children to stop, waits, and kills those that do not.
pub(crate) fn stop(nodes: &mut [Supervised]) {
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
    pub(crate) fn new(node: &Node, command: Launch) -> Self {
        let endpoint = node.clients.first().map(|own| own.advertise.clone());
        Self {
            name: node.name.to_string(),
            endpoint: endpoint.unwrap_or_default(),
            command,
            child: None,
            ready: Ready::default(),
            started: Instant::now(),
            again: None,
            pause: PAUSE_MIN,
            proven: false,
        }
    }

    /// Whether it neither runs nor is to be started again.
    pub(crate) fn is_dead(&self) -> bool {
        self.child.is_none() && self.again.is_none()
    }

    /// Whether its process runs, as far as [`Self::look_after`] has seen.
    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some()
    }

    /// The number that the system knows its process by, while it has one.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether its process serves: the one that runs at that time, now or later.
    pub(crate) fn ready(&self) -> Ready {
        self.ready.clone()
    }

    /// Starts the process; its stderr comes out under the node's name, or goes to its log.
    pub(crate) fn start(&mut self) -> Result<u32, Failure> {
        let mut child = self.command.spawn().map_err(|error| {
            let program = self.command.program.display();
            Failure::internal(format!("cannot start {program}: {error}"))
        })?;
        if let Some(stderr) = child.stderr.take() {
            forward(self.name.clone(), stderr);
        }
        self.ready.set(false);
        if let Some(stdout) = child.stdout.take() {
            self.ready.clone().hear(stdout);
        }
        let pid = child.id();
        self.child = Some(child);
        self.started = Instant::now();
        self.again = None;
        Ok(pid)
    }

    /// Notices its death, and starts it again when it is time.
    pub(crate) fn look_after(&mut self, restart: bool) -> Result<(), Failure> {
        if let Some(status) = self.take_death() {
            self.handle_death(status, restart);
        }
        if let Some(pid) = self.start_if_due()? {
            say(&format!("node {} is started again, pid {pid}", self.name));
        }
        Ok(())
    }

    /// How it ended, if it has ended since this was last asked.
    pub(crate) fn take_death(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        self.ready.set(false);
        Some(status)
    }

    /// Starts it again if its pause is over.
    pub(crate) fn start_if_due(&mut self) -> Result<Option<u32>, Failure> {
        match self.again {
            Some(at) if at <= Instant::now() => self.start().map(Some),
            _ => Ok(None),
        }
    }

    /// Ends it as `kill -9` does, to be started again after `pause`.
    pub(crate) fn kill(&mut self, pause: Duration) {
        let Some(mut child) = self.child.take() else {
            return;
        };
        // It may just have ended by itself; either way it is waited for.
        let _ = child.kill();
        let _ = child.wait();
        self.again = Some(Instant::now() + pause);
    }

    fn handle_death(&mut self, status: ExitStatus, restart: bool) {
        if !restart {
            say(&format!("node {} ended: {status}", self.name));
            return;
        }
        self.proven |= status.code() != Some(1) || self.started.elapsed() >= STEADY;
        if !self.proven {
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

impl Ready {
    pub(crate) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Waits for the word, on a thread of its own.
    fn hear(self, stdout: ChildStdout) {
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines();
            if lines.any(|line| line.is_ok_and(|line| line == READY)) {
                self.set(true);
            }
        });
    }
}

impl Launch {
    /// The child holds the reading end of a pipe that closes with this process, however it ends.
    fn spawn(&self) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.arg("node").arg("--exit-with-parent");
        if self.replaces {
            command.arg("--replace");
        }
        if let Some(data) = &self.data {
            command.arg("--data").arg(data);
        }
        let stderr = match &self.log {
            Some(log) => File::options().create(true).append(true).open(log)?.into(),
            None => Stdio::piped(),
        };
        command
            .arg(&self.file)
            .arg(&self.node)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr)
            // Ctrl-C at the terminal is the supervisor's to hear, and to pass on.
            .process_group(0)
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
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Children read files: the built-in topology becomes one.
pub(crate) fn write_quickstart(root: &Path) -> Result<PathBuf, Failure> {
    let file = root.join("quickstart.toml");
    let written = fs::create_dir_all(root).and_then(|()| fs::write(&file, QUICKSTART));
    written.map_err(|error| {
        let what = format!("{} cannot be written: {error}", file.display());
        Failure::user(what, "name a folder of yours with --data DIR")
    })?;
    Ok(file)
}

pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| {
        let what = format!("{} is no path: {error}", path.display());
        Failure::user(what, "name another one")
    })
}
