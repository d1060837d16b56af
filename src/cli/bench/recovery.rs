//! `weft bench recovery`: how long a producer waits when the leader is killed, and how long a node
//! that holds much takes to serve again.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::account::Account;
use super::fabric::{Fabric, Folder, Shape};
use super::figures::Report;
use super::part::{Made, Order, Ready};
use super::stream::{producer, publish, read, read_back};
use super::{Common, Size};
use crate::cli::Failure;

/// Records on their way at a time, while the node is filled.
const WINDOW: usize = 1_000;

/// How long a node may take to serve again.
const SERVES: Duration = Duration::from_secs(600);

/// `weft bench recovery`
#[derive(Debug, clap::Args)]
#[command(mut_arg("size", |arg| arg.default_value("1024")))]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    #[command(flatten)]
    pub(super) size: Size,
    /// GiB of records that a node holds when it is started again
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    gib: f64,
}

pub(super) fn measure(args: &Args) -> Result<Report, Failure> {
    let mut report = Report::new(
        "recovery",
        "kill -9 of the leader of three nodes under a producer with one record on its way; kill \
         -9 and restart of one node that holds much",
        "all files of that node's journal read once, by one process; an election has no raw \
         reference",
    );
    report.set("record_bytes", args.size.size);
    report.set("confirm", "quorum");
    report.set("held_gib", args.gib);
    args.common.describe(&mut report);
    let folder = Folder::new(args.common.data.as_deref())?;
    fail_over(args, &folder.path().join("three"), &mut report)?;
    restart(args, &folder.path().join("one"), &mut report)?;
    Ok(report)
}

fn start(folder: &Path, nodes: usize) -> Result<Fabric, Failure> {
    fs::create_dir_all(folder).map_err(Failure::internal)?;
    Fabric::start(folder, Shape::of(nodes))
}

/// Kills the leader after a third of each run. The record on its way then is the one that waits the
/// longest for its confirm.
fn fail_over(args: &Args, folder: &Path, report: &mut Report) -> Result<(), Failure> {
    let mut fabric = start(folder, 3)?;
    let mut first = 0;
    for _ in 0..args.common.runs {
        // The number of records says nothing of the time until the kill.
        let by_time = Common {
            records: None,
            ..args.common.clone()
        };
        let mut producer = producer(&fabric, args.size.size, 1, first, &by_time)?;
        producer.hear::<Ready>()?;
        producer.tell(Order::Go)?;
        thread::sleep(Duration::from_secs_f64(by_time.work().seconds / 3.0));
        // It may be another one by now than the one that the producer began at.
        let leader = fabric.leader()?;
        fabric.nodes[leader].kill(Duration::ZERO);
        let made: Made = producer.hear()?;
        producer.stop()?;
        let healed = Instant::now();
        fabric.wait_until_healthy()?;
        let took = made.latency.map(|took| took.max_us / 1e6);
        report.weft("kill_to_confirm_s", took);
        report.weft("healthy_after_restart_s", healed.elapsed().as_secs_f64());
        report.weft("records_sent", made.count as f64);
        report.weft("records_confirmed", made.confirmed as f64);
        read_back(&fabric, first, made.count, &made, report)?;
        first += made.count;
    }
    Ok(())
}

fn restart(args: &Args, folder: &Path, report: &mut Report) -> Result<(), Failure> {
    let mut fabric = start(folder, 1)?;
    let size = args.size.size;
    let records = (args.gib * 1_073_741_824.0 / size as f64).ceil() as u64;
    let filling = Common {
        records: Some(records.max(1)),
        seconds: 3_600,
        ..args.common.clone()
    };
    let made = publish(&fabric, size, WINDOW, 0, &filling)?.made;
    for _ in 0..args.common.runs {
        let node = &mut fabric.nodes[0];
        node.kill(Duration::ZERO);
        let (began, ready) = (Instant::now(), node.ready());
        node.start()?;
        while !ready.get() {
            if let Some(status) = fabric.nodes[0].take_death() {
                let what = format!("the node did not start again: {status}");
                return Err(Failure::internal(what));
            }
            if began.elapsed() > SERVES {
                return Err(Failure::internal("the node does not serve again"));
            }
            thread::sleep(Duration::from_millis(1));
        }
        report.weft("restart_s", began.elapsed().as_secs_f64());
        fabric.wait_until_healthy()?;
        report.weft("restart_to_healthy_s", began.elapsed().as_secs_f64());
        let began = Instant::now();
        let bytes = read_all(folder)?;
        report.raw("restart_s", began.elapsed().as_secs_f64());
        report.raw("read_mib", bytes as f64 / 1_048_576.0);
    }
    let received = read(&fabric, 0, made.count, false)?;
    let account = Account {
        sent: made.count,
        confirmed: Some(made.confirmed),
        readers: received.readers,
        ..Account::default()
    };
    report.fault(account.faults("weft, restarted"));
    report.weft("held_records_sent", account.sent as f64);
    report.weft("held_records_read", account.received() as f64);
    Ok(())
}

/// Reads every file below a folder; says how many bytes that was.
fn read_all(folder: &Path) -> Result<u64, Failure> {
    let mut buffer = vec![0; 1 << 20];
    let mut waiting = vec![folder.to_owned()];
    let mut bytes = 0;
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(&path).map_err(Failure::internal)? {
                waiting.push(entry.map_err(Failure::internal)?.path());
            }
            continue;
        }
        let mut file = match File::open(&path) {
            Ok(file) => file,
            // The node may have made a file for later, under a name of its own until it is done.
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => continue,
            Err(why) => return Err(Failure::internal(why)),
        };
        loop {
            match file.read(&mut buffer).map_err(Failure::internal)? {
                0 => break,
                read => bytes += read as u64,
            }
        }
    }
    Ok(bytes)
}
