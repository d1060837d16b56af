//! `weft diff`: what changes between two topology files, and whether a running fabric can take it.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;

use super::Failure;
use super::options::read_topology;
use crate::topology::{Diff, Verdict, diff};

/// `weft diff`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topology file that the fabric runs with
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The one that it is to run with
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let old = read_topology(Some(&args.old));
    // What is wrong with either is told, not only what is wrong with the first.
    let new = read_topology(Some(&args.new));
    let diff = diff(&old?, &new?);
    let mut out = io::stdout().lock();
    if args.json {
        let answer = json!({ "ok": diff.is_taken(), "diff": diff });
        writeln!(out, "{answer:#}")?;
    } else {
        print(&diff, &mut out)?;
    }
    Ok(ExitCode::from(u8::from(!diff.is_taken())))
}

fn print(diff: &Diff, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "epoch {} to {}", diff.old_epoch, diff.new_epoch)?;
    for change in &diff.changes {
        writeln!(out, "\n{:8}  {}", change.verdict.to_string(), change.what)?;
        writeln!(out, "{:8}  {}", "", change.why)?;
    }
    writeln!(out, "\n{}", summary(diff))
}

fn summary(diff: &Diff) -> String {
    let refused = diff.count(Verdict::Refused);
    let disturbs = diff.count(Verdict::Disturbs);
    match (diff.changes.len(), refused, disturbs) {
        (0, ..) => "nothing else changes".to_owned(),
        (all, 0, 0) => {
            format!("{}: restart the nodes with it, one at a time", changes(all))
        }
        (all, 0, _) => format!(
            "{}, {disturbs} of them noticed: restart the nodes with it, one at a time",
            changes(all)
        ),
        (all, ..) => format!(
            "{}, {refused} of them refused: a running fabric cannot take this file",
            changes(all)
        ),
    }
}

fn changes(count: usize) -> String {
    match count {
        1 => "1 change".to_owned(),
        _ => format!("{count} changes"),
    }
}
