//! `weft node`: runs one node of a topology until it is told to stop.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Signal, getpid, kill_process};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use super::children::READY;
use super::{Failure, options};
use crate::actor::{self, Exit, Start, StartError};
use crate::embed::NodeOptions;
use crate::topology::Topology;

/// How long what another process holds is waited for: a node stops within this.
const PREDECESSOR_STOPS: Duration = Duration::from_secs(5);

/// How often a node looks whether its predecessor has stopped.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// `weft node`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topology file
    file: PathBuf,
    /// The node's name in it
    name: String,
    /// The data folder [default: the topology's, else ./weft-data/NAME]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The node's former data folder is lost for good: fill this one anew, and let it take that
    /// one's votes. Never give the old one back afterwards
    #[arg(long)]
    replace: bool,
    /// Stop once stdin ends, as it does with a supervisor, and say on stdout when it serves
    #[arg(long, hide = true)]
    exit_with_parent: bool,
    /// Decides everything that is random in the node's logic [default: drawn]
    #[arg(long, hide = true)]
    seed: Option<u64>,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    // A supervisor says itself whose lines it passes on.
    log_to_stderr((!args.exit_with_parent).then_some(&args.name));
    if args.exit_with_parent {
        stop_with_stdin();
    }
    let topology = options::read_topology(Some(&args.file))?;
    let options = NodeOptions {
        data: args.data,
        replaces: args.replace,
        seed: args.seed,
    };
    let start = options
        .resolve(&topology, &args.name)
        .map_err(Failure::internal)?;
    tracing::info!("data in {}; seed {}", start.data.display(), start.seed);
    let patience = match args.exit_with_parent {
        true => PREDECESSOR_STOPS,
        false => Duration::ZERO,
    };
    let ready = || {
        if args.exit_with_parent {
            // A supervisor that does not listen any more is about to end this process.
            let _ = writeln!(io::stdout(), "{READY}");
        }
    };
    match run_once_free(&topology, &args.name, &start, patience, ready) {
        Ok(Exit::Stopped) => Ok(ExitCode::SUCCESS),
        Ok(Exit::Failed(why)) => Err(Failure::internal(format!("node {}: {why}", args.name))),
        Err(StartError::Store(error)) if args.replace && error.is_loss() => Err(Failure::user(
            format!("node {} does not start: {error}", args.name),
            format!(
                "--replace fills an empty folder, and {} still holds what is left of a journal: \
                 move the folder away first, then start the node with --replace again",
                start.data.display()
            ),
        )),
        Err(error) => Err(Failure::User(miette::miette!(
            "node {} does not start: {error}",
            args.name
        ))),
    }
}

/// Runs the node. Its predecessor may be about to stop, because its supervisor was killed: what
/// that one still holds is waited for, for `patience`.
fn run_once_free(
    topology: &Topology,
    name: &str,
    start: &Start,
    patience: Duration,
    ready: impl Fn(),
) -> Result<Exit, StartError> {
    let deadline = Instant::now() + patience;
    let mut told = false;
    loop {
        match actor::run_node(topology.clone(), name, start, &ready) {
            Err(error) if error.is_in_use() && Instant::now() < deadline => {
                if !told {
                    tracing::info!("waits until another process has stopped: {error}");
                    told = true;
                }
                thread::sleep(LOOK_EVERY);
            }
            ended => return ended,
        }
    }
}

/// Asks this process to stop, as SIGTERM does, once nobody holds the other end of stdin.
fn stop_with_stdin() {
    thread::spawn(|| {
        // An error ends it as well as the end does.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = kill_process(getpid(), Signal::TERM);
    });
}

/// Logs to stderr, each line with the node's name where it is given.
/// `WEFT_LOG` chooses what is logged, as in `WEFT_LOG=debug`.
pub(super) fn log_to_stderr(node: Option<&String>) {
    let filter = EnvFilter::try_from_env("WEFT_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // Fails where somebody set a logger before, which is then in charge.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // It would be told to the stderr that just failed, and that panics.
        .log_internal_errors(false)
        .with_ansi(color)
        .with_target(false)
        .with_timer(Stamp(
            node.map(|name| format!(" {name}")).unwrap_or_default(),
        ))
        .try_init();
}

/// The time and the node's name.
struct Stamp(String);

impl FormatTime for Stamp {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let now = humantime::format_rfc3339_millis(SystemTime::now());
        write!(writer, "{now}{}", self.0)
    }
}
