//! `weft bench history`: a reader that catches up with what is stored, as fast as it can, and what
//! that does to a producer whose records are confirmed meanwhile.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::account::Account;
use super::fabric::{Fabric, Folder, Shape};
use super::figures::Report;
use super::keys::Door;
use super::part::{Made, Order, Part, Ready, Received};
use super::process::{Process, per_million, spent};
use super::reference::{endpoint, rate, run};
use super::stream::{producer, publish, read};
use super::{Common, Size};
use crate::cli::Failure;

/// Records on their way at a time, of the producer.
const WINDOW: usize = 1_000;

/// What the reference reads and sends at once: as much as a `deliver` holds at most.
const PIECE_BYTES: usize = 256 << 10;

/// `weft bench history`
#[derive(Debug, clap::Args)]
#[command(mut_arg("size", |arg| arg.default_value("1024")))]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) size: Size,
    /// MiB of records that are stored beforehand
    #[arg(long, value_name = "N", default_value_t = 512)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    mib: u64,
}

pub(super) fn measure(args: &Args) -> Result<Report, Failure> {
    let size = args.size.size;
    let mut report = Report::new(
        "history",
        "a node, and a reader from the start; alone, and while a producer's records are confirmed",
        "a ROUTER that reads a file of as many bytes and sends 256 KiB at a time to a DEALER",
    );
    report.set("record_bytes", size);
    report.set("stored_mib", args.mib);
    report.set("confirm", "quorum of one node");
    report.set("in_flight", WINDOW);
    report.set("processes", 3);
    args.common.describe(&mut report);
    let folder = Folder::new(args.common.data.as_deref())?;
    let fabric = Fabric::start(folder.path(), Shape::of(1))?;
    let records = (args.mib << 20).div_ceil(size as u64);
    let filling = Common {
        records: Some(records),
        seconds: 3_600,
        ..args.common.clone()
    };
    let stored = publish(&fabric, size, WINDOW, 0, &filling)?.made;
    report.fault(unconfirmed(&stored));
    let file = folder.path().join("history");
    write_file(&file, args.mib)?;
    let mut next = stored.count;
    for _ in 0..args.common.runs {
        read_alone(&fabric, stored.count, size, &mut report)?;
        next = publish_alone(&fabric, size, next, &args.common, &mut report)?;
        next = both(&fabric, stored.count, size, next, &args.common, &mut report)?;
        serve(&file, &mut report)?;
    }
    Ok(report)
}

fn mb_per_s(records: u64, size: usize, seconds: f64) -> Option<f64> {
    rate(records * size as u64, seconds).map(|bytes| bytes / 1e6)
}

/// What a producer says of its confirms, if they are not as many as its records.
fn unconfirmed(made: &Made) -> Vec<String> {
    let account = Account {
        sent: made.count,
        confirmed: Some(made.confirmed),
        ..Account::default()
    };
    account.faults("weft")
}

fn take(received: Received, sent: u64, report: &mut Report) -> Account {
    let account = Account {
        sent,
        readers: received.readers,
        ..Account::default()
    };
    report.fault(account.faults("weft"));
    account
}

fn read_alone(
    fabric: &Fabric,
    records: u64,
    size: usize,
    report: &mut Report,
) -> Result<(), Failure> {
    let pids = fabric.pids();
    let before = spent(&pids);
    let received = read(fabric, 0, records, false)?;
    let cost = per_million(before, spent(&pids), records);
    let (seconds, frames) = (received.seconds, received.frames);
    let account = take(received, records, report);
    report.weft("mb_per_s", mb_per_s(account.received(), size, seconds));
    report.weft("records_per_s", rate(account.received(), seconds));
    report.weft("records_per_frame", rate(account.received(), frames as f64));
    report.weft("node_cpu_s_per_million", cost.map(|cost| cost.cpu_s));
    report.weft("records_sent", account.sent as f64);
    report.weft("records_received", account.received() as f64);
    report.weft("records_lost", account.lost() as f64);
    Ok(())
}

fn publish_alone(
    fabric: &Fabric,
    size: usize,
    first: u64,
    common: &Common,
    report: &mut Report,
) -> Result<u64, Failure> {
    let published = publish(fabric, size, WINDOW, first, common)?;
    let made = &published.made;
    report.fault(unconfirmed(made));
    report.weft("confirmed_alone_per_s", rate(made.confirmed, made.seconds));
    let syncs: u64 = published.syncs.iter().sum();
    report.weft("journal_syncs_alone", syncs as f64);
    report.weft("frames_sent_alone", made.frames as f64);
    if let Some(took) = made.latency {
        report.weft("confirm_alone_p99_us", took.p99_us);
    }
    Ok(first + made.count)
}

/// The producer publishes while a reader reads the same history again and again, so that it reads
/// for as long as the producer publishes.
fn both(
    fabric: &Fabric,
    records: u64,
    size: usize,
    first: u64,
    common: &Common,
    report: &mut Report,
) -> Result<u64, Failure> {
    let mut producer = producer(fabric, size, WINDOW, first, common)?;
    let mut rates = Vec::new();
    let made: Made = std::thread::scope(|scope| {
        let publishing = scope.spawn(|| run(&mut producer));
        while rates.is_empty() || !publishing.is_finished() {
            let received = read(fabric, 0, records, false)?;
            let seconds = received.seconds;
            let account = take(received, records, report);
            rates.extend(mb_per_s(account.received(), size, seconds));
        }
        let made = publishing.join();
        made.map_err(|_| Failure::internal("the producer's thread panicked"))?
    })?;
    producer.stop()?;
    report.fault(unconfirmed(&made));
    // The last one may have been alone for a part of its time.
    let busy = &rates[..rates.len().saturating_sub(1).max(1)];
    report.weft("mb_per_s_beside_a_producer", super::figures::median(busy));
    let confirmed = rate(made.confirmed, made.seconds);
    report.weft("confirmed_beside_a_reader_per_s", confirmed);
    if let Some(took) = made.latency {
        report.weft("confirm_beside_a_reader_p99_us", took.p99_us);
    }
    Ok(first + made.count)
}

fn write_file(path: &Path, mib: u64) -> Result<(), Failure> {
    let failed = |why| Failure::user(format!("{}: {why}", path.display()), "free some space");
    let mut file = File::create(path).map_err(|why: std::io::Error| failed(why))?;
    let block = vec![0x5a; 1 << 20];
    for _ in 0..mib {
        file.write_all(&block).map_err(failed)?;
    }
    file.sync_all().map_err(failed)
}

fn serve(file: &Path, report: &mut Report) -> Result<(), Failure> {
    let bytes = fs::metadata(file).map_err(Failure::internal)?.len();
    let mut router = Process::start(
        "raw server",
        &Part::RawServe {
            file: file.to_owned(),
            frame_bytes: PIECE_BYTES,
        },
    )?;
    let mut reader = Process::start(
        "raw reader",
        &Part::RawReceive {
            door: Door::new(endpoint(&mut router)?, None),
            sockets: 1,
        },
    )?;
    reader.hear::<Ready>()?;
    router.tell(Order::Go)?;
    let made: Made = router.hear()?;
    reader.tell(Order::Until(made.count))?;
    let received: Received = reader.hear()?;
    reader.stop()?;
    router.stop()?;
    let account = Account {
        sent: made.count,
        readers: received.readers,
        ..Account::default()
    };
    report.fault(account.faults("raw"));
    report.raw(
        "mb_per_s",
        rate(bytes, received.seconds).map(|rate| rate / 1e6),
    );
    report.raw("frames_sent", made.count as f64);
    Ok(())
}
