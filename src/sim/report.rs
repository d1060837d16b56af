//! What a run found.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

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
    /// Records delivered from stored channels.
    pub delivered: u64,
    /// Signals published.
    pub signals: u64,
    /// Signals delivered.
    pub signals_delivered: u64,
    /// How often each kind of fault fired.
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
    /// Counts a fault.
    pub(super) fn fired(&mut self, fault: &'static str) {
        *self.faults.entry(fault).or_default() += 1;
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
