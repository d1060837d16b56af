//! `weft bench stream`: three nodes that sync, one producer that has so many records on their way
//! and waits for each one's confirm; all of them are read back.

use std::path::PathBuf;

use super::account::Account;
use super::chart;
use super::fabric::{Fabric, Folder, STREAM, Shape};
use super::figures::Report;
use super::keys::Door;
use super::part::{Made, Order, Part, Ready, Received};
use super::process::{Process, Spent, per_million, spent};
use super::reference::{Forwarding, append, forward, latency, rate, run};
use super::{Common, Replicas, Size};
use crate::cli::Failure;

/// A group smaller than this is written as large: a disk writes whole pages.
const GROUP_BYTES_MIN: usize = 4_096;

/// `weft bench stream`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) size: Size,
    /// Measure records of 16 bytes to 64 KiB as well, and draw them into this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Records on their way at a time
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    window: u32,
    #[command(flatten)]
    replicas: Replicas,
}

/// Confirmed records that a producer published, and what that took.
pub(super) struct Published {
    pub(super) made: Made,
    /// Syncs of each node meanwhile.
    pub(super) syncs: Vec<u64>,
    pub(super) before: Option<Spent>,
    pub(super) after: Option<Spent>,
}

pub(super) fn measure(args: &Args) -> Result<Report, Failure> {
    let mut report = measure_size(args, args.size.size)?;
    if let Some(file) = &args.plot {
        let lines = [
            ("weft, confirmed", 0, "records_per_s"),
            ("raw forwarder", 1, "forwarded_per_s"),
            ("one disk", 1, "records_per_s"),
        ];
        let title = format!("confirmed by a majority of {}", args.replicas.nodes);
        let drawn = chart::sizes(&title, &lines, &mut report, |size| measure_size(args, size))?;
        chart::write(file, &drawn)?;
    }
    Ok(report)
}

fn measure_size(args: &Args, size: usize) -> Result<Report, Failure> {
    let mut report = Report::new(
        "stream",
        "nodes that sync, and a producer at the leader that counts its confirms",
        "the same bytes appended and synced in groups as large as the leader's, by one process; \
         and frames of 64 records through a forwarder",
    );
    report.set("record_bytes", size);
    report.set("confirm", "quorum");
    report.set("in_flight", args.window);
    report.set("processes", args.replicas.nodes + 1);
    args.common.describe(&mut report);
    let folder = Folder::new(args.common.data.as_deref())?;
    let fabric = Fabric::start(folder.path(), Shape::of(usize::from(args.replicas.nodes)))?;
    let mut first = 0;
    for _ in 0..args.common.runs {
        let published = publish(&fabric, size, args.window as usize, first, &args.common)?;
        report_weft(&published, &mut report);
        let records = published.made.count;
        read_back(&fabric, first, records, &published.made, &mut report)?;
        let acked = read(&fabric, first, records, true)?;
        let account = Account {
            sent: records,
            first,
            readers: acked.readers,
            ..Account::default()
        };
        report.fault(account.faults("weft, at a cursor"));
        report.weft(
            "read_and_acked_per_s",
            rate(account.received(), acked.seconds),
        );
        first += records;
        let group = group_bytes(&published, size);
        let (made, cost) = append(folder.path(), group, args.common.work())?;
        let appended = made.count * group as u64 / size as u64;
        report.raw("records_per_s", rate(appended, made.seconds));
        report.raw("group_bytes", group as f64);
        report.raw("journal_syncs", made.count as f64);
        let cost = per_million(Some(Spent::default()), cost, appended);
        report.raw("cpu_s_per_million", cost.map(|cost| cost.cpu_s));
        let took = latency(&made)?;
        report.raw("p50_us", took.p50_us);
        report.raw("p99_us", took.p99_us);
        let raw = forward(Forwarding::of(size, args.common.work()))?;
        report.fault(raw.account.faults("raw"));
        report.raw("forwarded_per_s", raw.records_per_s());
    }
    Ok(report)
}

/// A producer process at the leader publishes, with so many records on their way.
pub(super) fn publish(
    fabric: &Fabric,
    size: usize,
    window: usize,
    first: u64,
    common: &Common,
) -> Result<Published, Failure> {
    let mut producer = producer(fabric, size, window, first, common)?;
    let mut pids = fabric.pids();
    pids.push(producer.pid());
    let (synced, before) = (fabric.syncs()?, spent(&pids));
    let made = run(&mut producer)?;
    let after = spent(&pids);
    let now = fabric.syncs()?;
    producer.stop()?;
    let syncs = now.iter().zip(synced).map(|(now, before)| now - before);
    Ok(Published {
        made,
        syncs: syncs.collect(),
        before,
        after,
    })
}

/// A producer process at the leader, about to begin.
pub(super) fn producer(
    fabric: &Fabric,
    size: usize,
    window: usize,
    first: u64,
    common: &Common,
) -> Result<Process, Failure> {
    let leader = fabric.leader()?;
    let part = Part::Publish {
        door: Door::new(fabric.nodes[leader].endpoint.clone(), None),
        subject: STREAM.to_owned(),
        body_bytes: size,
        first,
        window: Some(window),
        work: common.work(),
    };
    Process::start("producer", &part)
}

/// Bytes of records that the busiest node synced at once, as the mean of the run.
fn group_bytes(published: &Published, size: usize) -> usize {
    let syncs = published.syncs.iter().max().copied().unwrap_or(0).max(1);
    let bytes = published.made.count * size as u64 / syncs;
    usize::try_from(bytes)
        .unwrap_or(usize::MAX)
        .clamp(GROUP_BYTES_MIN, 64 << 20)
}

fn report_weft(published: &Published, report: &mut Report) {
    let Published {
        made,
        syncs,
        before,
        after,
    } = published;
    report.weft("records_per_s", rate(made.confirmed, made.seconds));
    if let Some(took) = made.latency {
        report.weft("p50_us", took.p50_us);
        report.weft("p99_us", took.p99_us);
    }
    let cost = per_million(*before, *after, made.confirmed);
    report.weft("cpu_s_per_million", cost.map(|cost| cost.cpu_s));
    report.weft("handovers_per_million", cost.map(|cost| cost.wakes));
    let all: u64 = syncs.iter().sum();
    report.weft("journal_syncs", all as f64);
    report.weft("syncs_per_confirm", rate(all, made.confirmed as f64));
    report.weft("frames_sent", made.frames as f64);
    report.weft("records_per_frame_in", rate(made.count, made.frames as f64));
    report.weft("records_sent", made.count as f64);
    report.weft("records_confirmed", made.confirmed as f64);
}

/// One reader process reads what was just published.
pub(super) fn read_back(
    fabric: &Fabric,
    first: u64,
    sent: u64,
    made: &Made,
    report: &mut Report,
) -> Result<(), Failure> {
    let received = read(fabric, first, sent, false)?;
    let account = Account {
        sent,
        first,
        confirmed: Some(made.confirmed),
        readers: received.readers,
    };
    report.fault(account.faults("weft"));
    let why = made.failure.iter();
    report.fault(why.map(|why| format!("weft: a record was not confirmed: {why}")));
    report.weft(
        "read_back_per_s",
        rate(account.received(), received.seconds),
    );
    report.weft("records_received", account.received() as f64);
    report.weft("records_lost", account.lost() as f64);
    Ok(())
}

/// What one reader process sees of `sent` records from `first` on, if it `acks` at a cursor.
pub(super) fn read(
    fabric: &Fabric,
    first: u64,
    sent: u64,
    acks: bool,
) -> Result<Received, Failure> {
    let leader = fabric.leader()?;
    let mut reader = Process::start(
        "reader",
        &Part::Read {
            door: Door::new(fabric.nodes[leader].endpoint.clone(), None),
            pattern: STREAM.to_owned(),
            readers: 1,
            from: Some(first),
            acks,
        },
    )?;
    reader.hear::<Ready>()?;
    reader.tell(Order::Go)?;
    reader.tell(Order::Until(first + sent))?;
    let received = reader.hear()?;
    reader.stop()?;
    Ok(received)
}
