//! `weft bench connections`: clients that have said `hello` and nothing since, and the memory that
//! each takes of its node.

use super::Common;
use super::account::Account;
use super::fabric::{Fabric, Folder, Shape};
use super::figures::Report;
use super::part::{Made, Order, Part};
use super::process::{Process, resident_bytes};
use super::reference::endpoint;
use crate::actor::raise_open_files;
use crate::cli::Failure;

/// `weft bench connections`
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) common: Common,
    /// Clients
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=9_000))]
    count: u32,
}

pub(super) fn measure(args: &Args) -> Result<Report, Failure> {
    let count = args.count as usize;
    let mut report = Report::new(
        "connections",
        "a node, and one process of clients that said `hello` and are idle",
        "a bare ROUTER, and one process of as many idle DEALERs",
    );
    report.set("clients", count);
    report.set("processes", 2);
    args.common.describe(&mut report);
    // A DEALER takes two. If there are fewer, a connection fails, and says so.
    let _ = raise_open_files(2 * u64::from(args.count) + 1_024);
    for _ in 0..args.common.runs {
        // A node that had these clients before would keep what they took.
        let folder = Folder::new(args.common.data.as_deref())?;
        let fabric = Fabric::start(
            folder.path(),
            Shape {
                sessions_max: 10_000,
                ..Shape::of(1)
            },
        )?;
        let node = fabric.pids().first().copied().unwrap_or_default();
        let held = hold(node, &fabric.endpoint(), count, true)?;
        report.fault(held.account.faults("weft"));
        report.weft("kib_per_client", held.kib_per_client(count));
        report.weft("resident_mib_before", held.before.map(mib));
        report.weft("resident_mib_after", held.after.map(mib));
        report.weft("clients_answered", held.account.received() as f64);
        drop(fabric);
        let mut router = Process::start(
            "raw router",
            &Part::RawForward {
                receivers: 0,
                secret: None,
            },
        )?;
        let endpoint = endpoint(&mut router)?;
        let held = hold(router.pid(), &endpoint, count, false)?;
        report.fault(held.account.faults("raw"));
        report.raw("kib_per_client", held.kib_per_client(count));
        report.raw("resident_mib_before", held.before.map(mib));
        report.raw("resident_mib_after", held.after.map(mib));
        report.raw("clients_answered", held.account.received() as f64);
        router.stop()?;
    }
    Ok(report)
}

/// Memory of a process before and with its clients.
struct Held {
    account: Account,
    before: Option<u64>,
    after: Option<u64>,
}

impl Held {
    fn kib_per_client(&self, count: usize) -> Option<f64> {
        let more = self.after?.saturating_sub(self.before?);
        Some(more as f64 / 1_024.0 / count as f64)
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// Connects so many clients, each of which is answered once.
fn hold(pid: u32, endpoint: &str, count: usize, hello: bool) -> Result<Held, Failure> {
    let before = resident_bytes(pid);
    let mut holder = Process::start(
        "holder of connections",
        &Part::Hold {
            endpoint: endpoint.to_owned(),
            count,
            hello,
        },
    )?;
    let made: Made = holder.hear()?;
    let after = resident_bytes(pid);
    // They are all there still.
    holder.tell(Order::Tell)?;
    let still: Made = holder.hear()?;
    holder.stop()?;
    let mut seen = super::account::Seen::default();
    (0..still.count).for_each(|number| seen.take(number));
    Ok(Held {
        account: Account {
            sent: made.count.max(count as u64),
            readers: vec![seen],
            ..Account::default()
        },
        before,
        after,
    })
}
