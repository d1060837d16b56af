//! `weft bench idle`: what a fabric with many partitions takes while nobody wants anything of it.

use std::thread;
use std::time::{Duration, Instant};

use super::Common;
use super::fabric::{Fabric, Folder, Shape};
use super::figures::Report;
use super::part::{Part, Ready};
use super::process::{Process, resident_bytes, spent};
use crate::cli::Failure;

/// Nodes, each of which has a replica of every partition.
const NODES: usize = 3;

/// How long the nodes are left alone first, so that what founding left to do is done.
const SETTLE: Duration = Duration::from_secs(3);

/// `weft bench idle`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    /// Partitions, of three replicas each
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1_024))]
    partitions: u16,
}

pub(super) fn measure(args: &Args) -> Result<Report, Failure> {
    let partitions = usize::from(args.partitions);
    let mut report = Report::new(
        "idle",
        "three nodes without clients, each with a replica of every partition",
        "one ROUTER without peers",
    );
    report.set("partitions", partitions);
    report.set("replicas", NODES);
    report.set("processes", NODES);
    args.common.describe(&mut report);
    let folder = Folder::new(args.common.data.as_deref())?;
    let fabric = Fabric::start(
        folder.path(),
        Shape {
            partitions,
            ..Shape::of(NODES)
        },
    )?;
    let work = args.common.work();
    thread::sleep(SETTLE.min(Duration::from_secs_f64(work.seconds)));
    for _ in 0..args.common.runs {
        let synced = fabric.syncs()?;
        let mut most = None;
        for used in watch(&fabric.pids(), work.seconds) {
            report.weft("cpu_percent_per_node", used.cpu_percent);
            report.weft("resident_mib_per_node", used.resident_mib);
            report.weft("handovers_per_s_per_node", used.wakes_per_s);
            most = used.cpu_percent.into_iter().chain(most).reduce(f64::max);
        }
        report.weft("cpu_percent_of_the_busiest_node", most);
        let syncs: u64 = fabric.syncs()?.iter().sum();
        report.weft("journal_syncs", (syncs - synced.iter().sum::<u64>()) as f64);
        let mut router = Process::start(
            "raw router",
            &Part::RawForward {
                receivers: 0,
                secret: None,
            },
        )?;
        router.hear::<Ready>()?;
        for used in watch(&[router.pid()], work.seconds) {
            report.raw("cpu_percent_per_node", used.cpu_percent);
            report.raw("resident_mib_per_node", used.resident_mib);
            report.raw("handovers_per_s_per_node", used.wakes_per_s);
        }
        router.stop()?;
    }
    Ok(report)
}

/// What one process used.
struct Used {
    cpu_percent: Option<f64>,
    resident_mib: Option<f64>,
    wakes_per_s: Option<f64>,
}

/// What each of these processes uses in so many seconds.
fn watch(pids: &[u32], seconds: f64) -> Vec<Used> {
    let now = || pids.iter().map(|pid| spent(&[*pid]));
    let (before, began): (Vec<_>, _) = (now().collect(), Instant::now());
    thread::sleep(Duration::from_secs_f64(seconds));
    let (after, took): (Vec<_>, _) = (now().collect(), began.elapsed().as_secs_f64());
    let costs = before.into_iter().zip(after).zip(pids);
    let used = costs.map(|((before, after), pid)| {
        let both = before.zip(after);
        Used {
            cpu_percent: both.map(|(b, a)| (a.cpu_s - b.cpu_s) / took * 100.0),
            resident_mib: resident_bytes(*pid).map(|bytes| bytes as f64 / 1_048_576.0),
            wakes_per_s: both.map(|(b, a)| (a.wakes - b.wakes) / took),
        }
    });
    used.collect()
}
