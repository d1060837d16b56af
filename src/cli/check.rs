//! `weft check`: every problem of every file, each with its line, and what the limits add up to.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use bytesize::ByteSize;
use serde_json::json;

use super::Failure;
use super::excerpt;
use super::options::{Source, read_source};
use crate::topology::{Estimate, Severity, Share};

/// A share of the memory is shown if it is a tenth of it or more.
const SHARE_SHOWN: u64 = 10;

/// `weft check`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Topology files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    let mut healthy = true;
    let mut answers = Vec::new();
    for file in &args.files {
        let source = match read_source(Some(file)) {
            Ok(source) => source,
            // The other files are still worth checking.
            Err(failure @ Failure::User(_)) => {
                failure.report();
                healthy = false;
                answers.push(json!({ "file": file, "ok": false, "unreadable": true }));
                continue;
            }
            Err(failure) => return Err(failure),
        };
        healthy &= source.parsed.topology.is_some();
        if args.json {
            answers.push(as_json(&source));
        } else {
            source.report(Severity::Warning);
            writeln!(out, "{}: {}", source.name, summary(&source))?;
        }
    }
    if args.json {
        writeln!(out, "{:#}", json!({ "ok": healthy, "files": answers }))?;
    }
    Ok(ExitCode::from(u8::from(!healthy)))
}

fn count(source: &Source, severity: Severity) -> usize {
    source
        .parsed
        .problems
        .iter()
        .filter(|problem| problem.severity == severity)
        .count()
}

fn plural(count: usize, thing: &str) -> String {
    match count {
        1 => format!("1 {thing}"),
        _ => format!("{count} {thing}s"),
    }
}

fn summary(source: &Source) -> String {
    let errors = count(source, Severity::Error);
    let warnings = count(source, Severity::Warning);
    let found = format!(
        "{}, {}",
        plural(errors, "error"),
        plural(warnings, "warning")
    );
    let Some(topology) = &source.parsed.topology else {
        return found;
    };
    let estimate = Estimate::of(topology);
    let disk = match estimate.disk_max_bytes {
        Some(most) => format!("at most {} of disk", ByteSize::b(most)),
        None => "disk without bound".to_owned(),
    };
    format!(
        "{found}; fabric {} epoch {}: {}, {}, {}; at its limits a node holds {} of memory \
         ({}) and {disk}, from {}",
        topology.fabric.name,
        topology.fabric.epoch,
        plural(topology.nodes.len(), "node"),
        plural(topology.channels.len(), "channel"),
        plural(topology.placement().len(), "partition"),
        ByteSize::b(estimate.memory_bytes),
        memory(&estimate),
        ByteSize::b(estimate.disk_min_bytes),
    )
}

/// What most of the memory is for, and which limits make it so.
fn memory(estimate: &Estimate) -> String {
    let counts = |share: &Share| share.bytes >= estimate.memory_bytes / SHARE_SHOWN;
    let shares = estimate.shares().into_iter().filter(counts);
    let shares = shares.map(|share| {
        let bytes = ByteSize::b(share.bytes);
        format!("{bytes} for {}, by {}", share.what, share.cause())
    });
    shares.collect::<Vec<_>>().join("; ")
}

fn as_json(source: &Source) -> serde_json::Value {
    let problems = source.parsed.problems.iter().map(|problem| {
        json!({
            "severity": problem.severity,
            "line": problem.line(&source.text),
            "text": source.text.get(problem.span.clone()).map(excerpt::start),
            "message": problem.message,
            "why": problem.why,
            "remedy": problem.remedy,
        })
    });
    let estimate = source.parsed.topology.as_ref().map(Estimate::of);
    json!({
        "file": source.name,
        "ok": source.parsed.topology.is_some(),
        "errors": count(source, Severity::Error),
        "warnings": count(source, Severity::Warning),
        "problems": problems.collect::<Vec<_>>(),
        "estimate": estimate,
        "memory": estimate.map(|estimate| estimate.shares()),
    })
}
