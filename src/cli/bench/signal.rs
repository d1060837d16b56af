//! `weft bench signal`: one producer, one node, one consumer, each a process, over tcp.

use std::path::PathBuf;

use super::account::Account;
use super::chart;
use super::fabric::{Fabric, Folder, SIGNALS, Shape, WINDOW_BYTES};
use super::figures::Report;
use super::keys::Keys;
use super::part::{Made, Order, Part, Ready, Received, Work};
use super::process::{Process, per_million, spent};
use super::reference::{Forwarded, Forwarding, forward, rate};
use super::{Common, Size};
use crate::cli::Failure;
use crate::types::Record;
use crate::wire::records::encode_record;

/// `weft bench signal`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) size: Size,
    /// Prove keys and encrypt, on both sides; the raw one then sends frames as large as Weft's
    #[arg(long)]
    curve: bool,
    /// Measure records of 16 bytes to 64 KiB as well, and draw them into this file, as SVG
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
}

pub(super) fn measure(args: &Args) -> Result<Report, Failure> {
    let mut report = measure_size(args, args.size.size)?;
    if let Some(file) = &args.plot {
        let lines = [("weft", 0, "records_per_s"), ("raw", 1, "records_per_s")];
        let drawn = chart::sizes("signals through a node", &lines, &mut report, |size| {
            measure_size(args, size)
        })?;
        chart::write(file, &drawn)?;
    }
    Ok(report)
}

fn measure_size(args: &Args, size: usize) -> Result<Report, Failure> {
    let mut report = Report::new(
        "signal",
        "a producer, a node and a consumer: signals, which nobody confirms",
        match args.curve {
            false => "a DEALER, a ROUTER and a DEALER: frames of 64 records",
            true => "a DEALER, a ROUTER and a DEALER: frames as long as Weft's, under CURVE too",
        },
    );
    report.set("record_bytes", size);
    report.set("confirm", "none");
    report.set("consumer_window_bytes", WINDOW_BYTES as usize);
    report.set("processes", 3);
    report.set("curve", if args.curve { "on" } else { "off" });
    let keys = args.curve.then(Keys::new).transpose()?;
    compare(&args.common, (size, 1), keys.as_ref(), &mut report)?;
    Ok(report)
}

/// Runs both sides in turn, with records of this size and so many consumers in one process.
pub(super) fn compare(
    common: &Common,
    (size, consumers): (usize, usize),
    keys: Option<&Keys>,
    report: &mut Report,
) -> Result<(), Failure> {
    common.describe(report);
    let folder = Folder::new(common.data.as_deref())?;
    let fabric = Fabric::start_with(folder.path(), Shape::of(1), keys)?;
    for _ in 0..common.runs {
        let bundled = run(&fabric, size, consumers, common.work(), report)?;
        let plain = Forwarding::of(size, common.work());
        // Under CURVE every byte counts: then frames are as long as those of Weft.
        let (record_bytes, records_per_frame) = match keys {
            Some(_) => (encoded_bytes(size), bundled.max(1)),
            None => (size, plain.records_per_frame),
        };
        let raw = forward(Forwarding {
            record_bytes,
            records_per_frame,
            receivers: consumers,
            keys,
            ..plain
        })?;
        report_raw(&raw, report);
    }
    Ok(())
}

/// What a record of the bench has with its subject.
fn encoded_bytes(size: usize) -> usize {
    let mut bytes = Vec::new();
    encode_record(&Record::new(SIGNALS, vec![0; size]), &mut bytes);
    bytes.len()
}

/// How many records a frame had on its way out.
fn run(
    fabric: &Fabric,
    size: usize,
    readers: usize,
    work: Work,
    report: &mut Report,
) -> Result<u64, Failure> {
    let door = fabric.door();
    let mut consumer = Process::start(
        "consumer",
        &Part::Read {
            door: door.clone(),
            pattern: SIGNALS.to_owned(),
            readers,
            from: None,
            acks: false,
        },
    )?;
    consumer.hear::<Ready>()?;
    let mut producer = Process::start(
        "producer",
        &Part::Publish {
            door,
            subject: SIGNALS.to_owned(),
            body_bytes: size,
            first: 0,
            window: None,
            work,
        },
    )?;
    producer.hear::<Ready>()?;
    let mut pids = fabric.pids();
    pids.extend([consumer.pid(), producer.pid()]);
    let (syncs, before) = (fabric.syncs()?, spent(&pids));
    producer.tell(Order::Go)?;
    let made: Made = producer.hear()?;
    consumer.tell(Order::Until(made.count))?;
    let received: Received = consumer.hear()?;
    let after = spent(&pids);
    let synced = fabric.syncs()?.iter().sum::<u64>() - syncs.iter().sum::<u64>();
    producer.stop()?;
    consumer.stop()?;
    let account = Account {
        sent: made.count,
        readers: received.readers,
        ..Account::default()
    };
    report.fault(account.faults("weft"));
    let (arrived, lost) = (account.received(), account.lost());
    report.weft("records_per_s", rate(arrived, received.seconds));
    report.weft("offered_per_s", rate(made.count, made.seconds));
    let cost = per_million(before, after, arrived);
    report.weft("cpu_s_per_million", cost.map(|cost| cost.cpu_s));
    report.weft("handovers_per_million", cost.map(|cost| cost.wakes));
    report.weft("journal_syncs", synced as f64);
    report.weft("frames_sent", made.frames as f64);
    report.weft("records_per_frame_in", rate(made.count, made.frames as f64));
    report.weft(
        "records_per_frame_out",
        rate(arrived, received.frames as f64),
    );
    report.weft("records_sent", made.count as f64);
    report.weft("records_received", arrived as f64);
    report.weft("records_lost", lost as f64);
    Ok(arrived / received.frames.max(1))
}

pub(super) fn report_raw(raw: &Forwarded, report: &mut Report) {
    report.fault(raw.account.faults("raw"));
    let bundled = raw.records_per_frame();
    let (frames, records) = (raw.account.sent, raw.account.sent * bundled);
    let cost = per_million(raw.before, raw.after, raw.records());
    report.raw("records_per_s", raw.records_per_s());
    report.raw("cpu_s_per_million", cost.map(|cost| cost.cpu_s));
    report.raw("handovers_per_million", cost.map(|cost| cost.wakes));
    report.raw("frames_sent", frames as f64);
    report.raw("records_per_frame_in", bundled as f64);
    report.raw("records_per_frame_out", bundled as f64);
    report.raw("records_sent", records as f64);
    report.raw("records_received", raw.records() as f64);
    report.raw("records_lost", (raw.account.lost() * bundled) as f64);
}
