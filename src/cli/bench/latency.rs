//! `weft bench latency`: one record on its way at a time, beside what its way is made of: one sync
//! of the disk, and one round trip of a frame.

use std::path::PathBuf;

use super::chart::{self, Chart, Series};
use super::fabric::{Fabric, Folder, Shape};
use super::figures::Report;
use super::process::per_million;
use super::reference::{append, latency, rate, round_trip};
use super::stream::{publish, read_back};
use super::{Common, Replicas, Size};
use crate::cli::Failure;

/// What the disk writes beside a record: a page.
const APPEND_BYTES: usize = 4_096;

/// `weft bench latency`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) size: Size,
    /// Draw the percentiles into this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    replicas: Replicas,
}

pub(super) fn measure(args: &Args) -> Result<Report, Failure> {
    let size = args.size.size;
    let mut report = Report::new(
        "latency",
        "publish to confirm, one record at a time, at the leader",
        "one append of 4 KiB and its sync, one round trip DEALER to ROUTER, and their sum",
    );
    report.set("record_bytes", size);
    report.set("records_per_frame", 1);
    report.set("confirm", "quorum");
    report.set("in_flight", 1);
    report.set("processes", args.replicas.nodes + 1);
    args.common.describe(&mut report);
    let folder = Folder::new(args.common.data.as_deref())?;
    let fabric = Fabric::start(folder.path(), Shape::of(usize::from(args.replicas.nodes)))?;
    let work = args.common.work();
    let mut first = 0;
    for _ in 0..args.common.runs {
        let published = publish(&fabric, size, 1, first, &args.common)?;
        let made = &published.made;
        let (appended, _) = append(folder.path(), APPEND_BYTES, work)?;
        let (sync, trip) = (latency(&appended)?, latency(&round_trip(size, work)?)?);
        let took = latency(made)?;
        report.weft("p50_us", took.p50_us);
        report.raw("p50_us", sync.p50_us + trip.p50_us);
        report.weft("p90_us", took.p90_us);
        report.raw("p90_us", sync.p90_us + trip.p90_us);
        report.weft("p99_us", took.p99_us);
        report.raw("p99_us", sync.p99_us + trip.p99_us);
        report.raw("sync_p50_us", sync.p50_us);
        report.raw("sync_p90_us", sync.p90_us);
        report.raw("sync_p99_us", sync.p99_us);
        report.raw("round_trip_p50_us", trip.p50_us);
        report.raw("round_trip_p90_us", trip.p90_us);
        report.raw("round_trip_p99_us", trip.p99_us);
        let cost = per_million(published.before, published.after, made.confirmed);
        report.weft("cpu_s_per_million", cost.map(|cost| cost.cpu_s));
        // Of all processes, their idle threads and their disk threads.
        let handovers = cost.map(|cost| cost.wakes / 1e6);
        report.weft("handovers_per_confirm", handovers);
        let syncs: u64 = published.syncs.iter().sum();
        report.weft("journal_syncs", syncs as f64);
        report.weft("syncs_per_confirm", rate(syncs, made.confirmed as f64));
        report.weft("frames_sent", made.frames as f64);
        report.weft("records_sent", made.count as f64);
        report.weft("records_confirmed", made.confirmed as f64);
        read_back(&fabric, first, made.count, made, &mut report)?;
        first += made.count;
    }
    if let Some(file) = &args.plot {
        chart::write(file, &percentiles(&report))?;
    }
    Ok(report)
}

/// The percentiles, each the median of all runs.
fn percentiles(report: &Report) -> Chart {
    let names = ["p50", "p90", "p99"];
    let of = |side: usize, before: &str| {
        let name = |percentile: &&str| format!("{before}{percentile}_us");
        let medians = names
            .iter()
            .map(name)
            .map(|name| report.medians(&name)[side]);
        medians.collect()
    };
    let series = |name, values| Series { name, values };
    Chart {
        title: "one record at a time, publish to confirm".to_owned(),
        unit: "microseconds",
        across: "percentile",
        marks: names.map(str::to_owned).to_vec(),
        series: vec![
            series("weft", of(0, "")),
            series("one sync of 4 KiB", of(1, "sync_")),
            series("one raw round trip", of(1, "round_trip_")),
        ],
    }
}
