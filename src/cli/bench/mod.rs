//! `weft bench`: what the fabric reaches beside raw libzmq or the raw disk, in turn, in one run.
//!
//! Every subcommand starts its own nodes and clients, each a process. Nothing is shown that was not
//! measured in that run, and every record is accounted for.

mod account;
mod chart;
mod connections;
mod fabric;
mod fanout;
mod figures;
mod history;
mod idle;
mod keys;
mod latency;
mod part;
mod process;
mod recovery;
mod reference;
mod signal;
mod stream;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use clap::builder::RangedU64ValueParser;

pub(crate) use part::{PartArgs, run_part};

use super::Failure;
use figures::Report;
use part::Work;

/// `weft bench`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    bench: Bench,
}

/// What is measured.
#[derive(Debug, clap::Subcommand)]
enum Bench {
    /// Signals through one node, beside a raw forwarder
    Signal(signal::Args),
    /// Records that a majority syncs, many on their way, beside the disk and a raw forwarder
    Stream(stream::Args),
    /// One record on its way at a time, beside one sync and one raw round trip
    Latency(latency::Args),
    /// Signals to many consumers, beside a ROUTER that sends the same frames
    Fanout(fanout::Args),
    /// A reader of what is stored, alone and beside a producer, beside a file that is sent
    History(history::Args),
    /// Memory that idle clients take of their node, beside a bare ROUTER
    Connections(connections::Args),
    /// A leader that is killed, to the next confirm; and the restart of a node that holds much
    Recovery(recovery::Args),
    /// What nodes with many partitions take while nothing happens
    Idle(idle::Args),
}

/// What all benches take.
#[derive(Debug, Clone, clap::Args)]
struct Common {
    /// How often each side runs, in turn
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// How long one run of one side lasts
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=3_600))]
    seconds: u32,
    /// End a run sooner, after so many records
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    records: Option<u64>,
    /// Where the nodes' data lies while the bench runs; what it writes goes afterwards [default:
    /// ./weft-data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How many nodes sync.
#[derive(Debug, Clone, clap::Args)]
struct Replicas {
    /// Nodes, each with a replica
    #[arg(long, value_name = "N", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u8).range(1..=3))]
    nodes: u8,
}

/// How large records are.
#[derive(Debug, Clone, clap::Args)]
struct Size {
    /// Bytes of a record's body
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(8..=1_000_000))]
    size: usize,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let (report, common) = match &args.bench {
        Bench::Signal(args) => (signal::measure(args)?, &args.common),
        Bench::Stream(args) => (stream::measure(args)?, &args.common),
        Bench::Latency(args) => (latency::measure(args)?, &args.common),
        Bench::Fanout(args) => (fanout::measure(args)?, &args.common),
        Bench::History(args) => (history::measure(args)?, &args.common),
        Bench::Connections(args) => (connections::measure(args)?, &args.common),
        Bench::Recovery(args) => (recovery::measure(args)?, &args.common),
        Bench::Idle(args) => (idle::measure(args)?, &args.common),
    };
    let mut out = io::stdout().lock();
    show(&report, common.json, &mut out)?;
    Ok(ExitCode::from(u8::from(!report.is_good())))
}

fn show(report: &Report, json: bool, out: &mut impl io::Write) -> Result<(), Failure> {
    match json {
        true => writeln!(out, "{}", report.as_json())?,
        false => report.print(out)?,
    }
    Ok(())
}

impl Common {
    fn work(&self) -> Work {
        Work {
            seconds: f64::from(self.seconds),
            most: self.records,
        }
    }

    /// Says what a figure is worth without which it is worth nothing.
    fn describe(&self, report: &mut Report) {
        let cores = thread::available_parallelism().map_or(1, usize::from);
        report.set("cores", cores);
        report.set("runs", self.runs);
        report.set("seconds", self.seconds);
        if let Some(records) = self.records {
            report.set("records_at_most", records);
        }
    }
}
