//! Runs of the raw reference that several benches share.

use std::path::Path;

use super::account::Account;
use super::keys::{Door, Keys};
use super::part::{Latency, Made, Order, Part, Ready, Received, Work};
use super::process::{Process, Spent, spent};
use crate::cli::Failure;

/// Records in one frame of the reference.
pub(super) const RECORDS_PER_FRAME: u64 = 64;

/// A run of DEALER, ROUTER, DEALERs.
pub(super) struct Forwarded {
    /// Of frames.
    pub(super) account: Account,
    records_per_frame: u64,
    /// From the first frame received to the last.
    pub(super) seconds: f64,
    pub(super) before: Option<Spent>,
    pub(super) after: Option<Spent>,
}

impl Forwarded {
    /// Records that arrived, counting each receiver.
    pub(super) fn records(&self) -> u64 {
        self.account.received() * self.records_per_frame
    }

    /// How many are in one frame.
    pub(super) fn records_per_frame(&self) -> u64 {
        self.records_per_frame
    }

    pub(super) fn records_per_s(&self) -> Option<f64> {
        rate(self.records(), self.seconds)
    }
}

/// So many in this time.
pub(super) fn rate(count: u64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| count as f64 / seconds)
}

/// What a process sends to a ROUTER's, which sends it to every socket of a third.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forwarding<'k> {
    pub(super) record_bytes: usize,
    pub(super) records_per_frame: u64,
    pub(super) receivers: usize,
    pub(super) work: Work,
    pub(super) keys: Option<&'k Keys>,
}

impl Forwarding<'_> {
    /// Frames of [`RECORDS_PER_FRAME`], to one socket, without CURVE.
    pub(super) fn of(record_bytes: usize, work: Work) -> Self {
        Self {
            record_bytes,
            records_per_frame: RECORDS_PER_FRAME,
            receivers: 1,
            work,
            keys: None,
        }
    }
}

/// Runs it.
pub(super) fn forward(forwarding: Forwarding<'_>) -> Result<Forwarded, Failure> {
    let Forwarding {
        records_per_frame,
        receivers,
        work,
        keys,
        ..
    } = forwarding;
    let secret = keys.map(|keys| keys.server.secret_z85().to_owned());
    let mut router = Process::start("raw forwarder", &Part::RawForward { receivers, secret })?;
    let door = Door::new(endpoint(&mut router)?, keys);
    let mut receiver = Process::start(
        "raw receiver",
        &Part::RawReceive {
            door: door.clone(),
            sockets: receivers,
        },
    )?;
    receiver.hear::<Ready>()?;
    let mut sender = Process::start(
        "raw sender",
        &Part::RawSend {
            door,
            frame_bytes: forwarding.record_bytes * records_per_frame as usize,
            work: Work {
                most: work.most.map(|most| most.div_ceil(records_per_frame)),
                ..work
            },
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
        records_per_frame,
        seconds: received.seconds,
        before,
        after,
    })
}

/// One frame on its way at a time, from a DEALER to a ROUTER and back.
pub(super) fn round_trip(frame_bytes: usize, work: Work) -> Result<Made, Failure> {
    let mut router = Process::start(
        "raw echo",
        &Part::RawForward {
            receivers: 0,
            secret: None,
        },
    )?;
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
