//! What a run found.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// Every kind of fault that a run may meet.
pub(super) const FAULTS: [&str; 41] = [
    "bad weather",
    "bits rot",
    "calendar set back",
    "calendar set forward",
    "client cut off",
    "client's pipe full",
    "clients read slowly",
    "clock drifts",
    "folder lost",
    "frame duplicated",
    "frame lost",
    "frame lost in a split",
    "frame reordered",
    "frames are cut short",
    "full disk",
    "graceful stop",
    "hostile frame",
    "node away",
    "noise between nodes",
    "peer frame cut short",
    "power cut",
    "power cut between write and sync",
    "power cut of all",
    "power cut of several",
    "power cut within a start",
    "power cut within a step",
    "power cut within a write",
    "power cut within compaction",
    "power cut within recycling",
    "process frozen",
    "process killed",
    "reads misdirected",
    "signal dropped",
    "signal lost in a split",
    "signals drop",
    "slow disk",
    "split",
    "split of one lane",
    "split one way",
    "sync fails",
    "write fails",
];

/// The outcome of one seed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Steps of all nodes.
    pub steps: u64,
    /// Simulated time, in milliseconds.
    pub simulated_ms: u64,
    /// Publishes to stored channels that clients began, retries not counted.
    pub publishes: u64,
    /// Of these, confirmed in whole.
    pub confirms: u64,
    /// Attempts refused, in whole or in part.
    pub refusals: u64,
    /// Publishes sent again.
    pub retries: u64,
    /// Leaders seen, one per partition and term.
    pub elections: u64,
    /// Times that a partition let go of records.
    pub trims: u64,
    /// Segments of journals that went.
    pub recycled: u64,
    /// Snapshots that a replica's log began anew with.
    pub snapshots: u64,
    /// Times that segments of journals were written anew.
    pub compactions: u64,
    /// Producers forgotten by a partition.
    pub forgotten: u64,
    /// Producers that came back and were told their next sequence.
    pub returned: u64,
    /// Times that a cursor was taken.
    pub cursors_taken: u64,
    /// Empty data folders that took the place of lost ones.
    pub replaced: u64,
    /// Times that a damaged segment was to be made whole.
    pub mended: u64,
    /// Records acked.
    pub acked: u64,
    /// Records delivered from stored channels.
    pub delivered: u64,
    /// Signals published.
    pub signals: u64,
    /// Signals delivered.
    pub signals_delivered: u64,
    /// How often each kind of fault fired; all of them, those too that never did.
    pub faults: BTreeMap<&'static str, u64>,
    /// A hash of everything that happened: equal for two runs of one seed.
    pub trace: u64,
    /// What an oracle found, if one did.
    pub failure: Option<Failure>,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The promise, named by its oracle.
    pub oracle: &'static str,
    /// What is wrong, in words.
    pub says: String,
    /// The last events that matter, oldest first.
    pub story: Vec<String>,
}

impl Report {
    /// Of a run that has not begun.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            faults: FAULTS.into_iter().map(|fault| (fault, 0)).collect(),
            ..Self::default()
        }
    }

    /// Counts a fault.
    pub(super) fn fired(&mut self, fault: &'static str) {
        let count = self.faults.get_mut(fault);
        *count.unwrap_or_else(|| panic!("{fault:?} is not in the list of faults")) += 1;
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "broken promise: {}", self.oracle)?;
        writeln!(f, "  {}", self.says)?;
        writeln!(f, "what happened last:")?;
        for line in &self.story {
            writeln!(f, "  {line}")?;
        }
        Ok(())
    }
}
