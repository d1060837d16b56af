//! `weft completions`: what a shell needs to complete commands and options.

use std::io::{self, Write};
use std::process::ExitCode;

use clap_complete::Shell;

use super::{Failure, help};

/// `weft completions`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    // In memory first: a closed stdout is no reason to panic.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut help::command(), "weft", &mut script);
    let mut out = io::stdout().lock();
    out.write_all(&script)?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
