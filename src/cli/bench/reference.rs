//! Runs of the raw reference that several benches share.

use std::path::Path;

use super::account::Account;
use super::part::{Latency, Made, Order, Part, Ready, Received, Work};
use super::process::{Process, Spent, spent};
use crate::cli::Failure;

/// Records in one frame of the reference.
pub(super) const RECORDS_PER_FRAME: u64 = 64;

/// A run of DEALER, ROUTER, DEALERs.
pub(super) struct Forwarded {
    /// Of frames.
    pub(super) account: Account,
    /// From the first frame received to the last.
    pub(super) seconds: f64,
    pub(super) before: Option<Spent>,
    pub(super) after: Option<Spent>,
}

impl Forwarded {
    /// Records that arrived, counting each receiver.
    pub(super) fn records(&self) -> u64 {
        self.account.received() * RECORDS_PER_FRAME
    }

    pub(super) fn records_per_s(&self) -> Option<f64> {
        rate(self.records(), self.seconds)
    }
}

/// So many in this time.
pub(super) fn rate(count: u64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| count as f64 / seconds)
}

/// A process sends frames of records to a ROUTER's, which sends each to every socket of a third.
pub(super) fn forward(size: usize, receivers: usize, work: Work) -> Result<Forwarded, Failure> {
    let mut router = Process::start("raw forwarder", &Part::RawForward { receivers })?;
    let endpoint = endpoint(&mut router)?;
    let mut receiver = Process::start(
        "raw receiver",
        &Part::RawReceive {
            endpoint: endpoint.clone(),
            sockets: receivers,
        },
    )?;
    receiver.hear::<Ready>()?;
    let mut sender = Process::start(
        "raw sender",
        &Part::RawSend {
            endpoint,
            frame_bytes: size * RECORDS_PER_FRAME as usize,
            work: work.in_frames(),
        },
    )?;
    sender.hear::<Ready>()?;
    let pids = [router.pid(), receiver.pid(), sender.pid()];
    let before = spent(&pids);
    sender.tell(Order::Go)?;
    let made: Made = sender.hear()?;
    receiver.tell(Order::Until(made.count))?;
    let received: Received = receiver.hear()?;
    let after = spent(&pids);
    sender.stop()?;
    receiver.stop()?;
    router.stop()?;
    Ok(Forwarded {
        account: Account {
            sent: made.count,
            readers: received.readers,
            ..Account::default()
        },
        seconds: received.seconds,
        before,
        after,
    })
}

/// One frame on its way at a time, from a DEALER to a ROUTER and back.
pub(super) fn round_trip(frame_bytes: usize, work: Work) -> Result<Made, Failure> {
    let mut router = Process::start("raw echo", &Part::RawForward { receivers: 0 })?;
    let endpoint = endpoint(&mut router)?;
    let mut pinger = Process::start(
        "raw pinger",
        &Part::RawPing {
            endpoint,
            frame_bytes,
            work,
        },
    )?;
    let made = run(&mut pinger)?;
    pinger.stop()?;
    router.stop()?;
    Ok(made)
}

/// Appends of so many bytes, each synced, to a new file in `folder`.
pub(super) fn append(
    folder: &Path,
    bytes: usize,
    work: Work,
) -> Result<(Made, Option<Spent>), Failure> {
    let mut writer = Process::start(
        "disk writer",
        &Part::Append {
            file: folder.join("appended"),
            bytes,
            work,
        },
    )?;
    let made = run(&mut writer)?;
    let cost = spent(&[writer.pid()]);
    writer.stop()?;
    Ok((made, cost))
}

/// Lets a part do its work, and hears what it has done.
pub(super) fn run(process: &mut Process) -> Result<Made, Failure> {
    process.hear::<Ready>()?;
    process.tell(Order::Go)?;
    process.hear()
}

/// Where a part listens.
pub(super) fn endpoint(process: &mut Process) -> Result<String, Failure> {
    let ready: Ready = process.hear()?;
    let missing = || Failure::internal("a part of the bench does not say where it listens");
    ready.endpoint.ok_or_else(missing)
}

/// The latency that a part has measured.
pub(super) fn latency(made: &Made) -> Result<Latency, Failure> {
    let missing = || Failure::internal("a part of the bench measured nothing");
    made.latency.ok_or_else(missing)
}

impl Work {
    /// The same number of records in frames of the reference.
    fn in_frames(self) -> Self {
        Self {
            most: self.most.map(|most| most.div_ceil(RECORDS_PER_FRAME)),
            ..self
        }
    }
}
