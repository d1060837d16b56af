//! The command line: one file per command, each with its `Args` and its `run`.
//!
//! What a command was asked for goes to stdout, everything else to stderr. The exit code is 0 if
//! all is well, 1 if something is not healthy or the user can mend it, 2 if Weft itself failed.

mod bench;
mod check;
mod children;
mod completions;
mod connect;
mod cursor;
mod diff;
mod drill;
mod excerpt;
mod failure;
mod health;
mod help;
mod journal;
mod keys;
mod ledger;
mod manual;
mod node;
mod one_process;
mod options;
mod pen;
mod plan;
mod ports;
mod publish;
mod scale;
mod simulate;
mod status;
mod subscribe;
mod table;
mod up;
mod verify;
mod wait;

use std::process::ExitCode;

use clap::{FromArgMatches, Parser, Subcommand};

pub(crate) use failure::Failure;

/// A brokerless message fabric on ZeroMQ: replicated, acknowledged, accounted for.
#[derive(Debug, Parser)]
#[command(name = "weft", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Every command; `help` says which belong together.
#[derive(Debug, Subcommand)]
enum Command {
    /// Start every node of a topology here, restart those that die
    Up(up::Args),
    /// Publish records, and tell where each one is stored
    #[command(visible_alias = "pub")]
    Publish(publish::Args),
    /// Print the records of a pattern, from any position on
    #[command(visible_alias = "sub")]
    Subscribe(subscribe::Args),
    /// Show how everything is; exit 1 if anything is not healthy
    Status(status::Args),
    /// Account for every record; exit 1 if the sums do not balance
    Ledger(ledger::Args),
    /// List cursors, show where one stands, move or delete one
    Cursor(cursor::Args),
    /// Find every problem of topology files, each with its line
    Check(check::Args),
    /// Show or draw the sockets, channels and copies of a topology
    Plan(plan::Args),
    /// Show what changes between two files, and if it can be taken
    Diff(diff::Args),
    /// Run one node until SIGINT or SIGTERM
    Node(node::Args),
    /// Look into the data folder of a node that does not run
    Journal(journal::Args),
    /// Kill leaders, cut links, and account for every record
    Drill(drill::Args),
    /// Run a simulated fabric where everything goes wrong
    Simulate(simulate::Args),
    /// Measure the fabric beside raw libzmq and the raw disk
    Bench(bench::Args),
    /// Make keys for nodes and clients
    Keys(keys::Args),
    /// One process of a bench
    #[command(hide = true)]
    BenchPart(bench::PartArgs),
    /// Write a man page for each command
    Manual(manual::Args),
    /// Print what a shell needs to complete commands and options
    Completions(completions::Args),
}

/// Freed memory that a process keeps for what it allocates next, in each arena: the frames on their
/// way.
const KEPT_BYTES: usize = 4 << 20;

/// For each frame of 128 KiB or more glibc maps new pages, until something larger was freed: what
/// is smaller it keeps then, up to twice as much (mallopt(3), M_MMAP_THRESHOLD). Every new page
/// costs a fault.
fn keep_freed_memory() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(KEPT_BYTES)));
}

/// Runs the command named by the process's arguments.
pub fn main() -> ExitCode {
    let parsed = help::command().try_get_matches();
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to do if not even this can be written.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    keep_freed_memory();
    let result = match cli.command {
        Command::Up(args) => up::run(args),
        Command::Publish(args) => publish::run(args),
        Command::Subscribe(args) => subscribe::run(args),
        Command::Status(args) => status::run(args),
        Command::Ledger(args) => ledger::run(args),
        Command::Cursor(args) => cursor::run(args),
        Command::Check(args) => check::run(args),
        Command::Journal(args) => journal::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Diff(args) => diff::run(args),
        Command::Node(args) => node::run(args),
        Command::Drill(args) => drill::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Keys(args) => keys::run(args),
        Command::BenchPart(args) => bench::run_part(args),
        Command::Manual(args) => manual::run(&args),
        Command::Completions(args) => completions::run(&args),
    };
    result.unwrap_or_else(|failure| failure.report())
}
