//! The command line: one file per command, each with its `Args` and its `run`.
//!
//! What a command was asked for goes to stdout, everything else to stderr. The exit code is 0 if
//! all is well, 1 if something is not healthy or the user can mend it, 2 if Weft itself failed.

mod check;
mod failure;
mod keys;
mod options;
mod plan;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub(crate) use failure::Failure;

/// A brokerless message fabric on ZeroMQ: replicated, acknowledged, accounted for.
#[derive(Debug, Parser)]
#[command(name = "weft", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Every command; the order is that of `weft --help`.
#[derive(Debug, Subcommand)]
enum Command {
    /// Find every problem of topology files, each with its line
    Check(check::Args),
    /// Show every socket and every copy that a topology leads to
    Plan(plan::Args),
    /// Make keys for nodes and clients
    Keys(keys::Args),
}

/// Runs the command named by the process's arguments.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to do if not even this can be written.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    let result = match cli.command {
        Command::Check(args) => check::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Keys(args) => keys::run(args),
    };
    result.unwrap_or_else(|failure| failure.report())
}
