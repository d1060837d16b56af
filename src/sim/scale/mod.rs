//! How cost grows: fabrics of many sizes on a network and disks without faults, and what each node
//! of them sends, keeps and computes.
//!
//! It drives the real core, [`crate::node::Node`], in rounds of a millisecond: what is sent or
//! written in one round has arrived or is synced in the next. There is no journal, no libzmq and no
//! kernel here, so what those cost comes on top. Everything but processor time and memory is the
//! same on every run, and those two are measured by whoever calls.

mod fabric;
mod grid;
mod load;

use serde::{Deserialize, Serialize};

pub use grid::{BASE, LEFT_OUT, Series, series, smallest};

use crate::types::Span;
use fabric::Fabric;

/// The size of a fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Point {
    /// Nodes, each on a host of its own.
    pub nodes: usize,
    /// Partitions of stored channels, with three replicas each.
    pub partitions: usize,
    /// Clients of all nodes together.
    pub clients: usize,
    /// Their subscriptions to one partition each, from its end on.
    pub readers: usize,
    /// Their subscriptions to signals, each with a pattern of its own as far as a node takes them.
    pub listeners: usize,
}

/// What only the process around it can measure.
pub trait Meter {
    /// Processor time of this thread so far.
    fn processor(&mut self) -> Span;
    /// Bytes of memory that this process has resident.
    fn resident_bytes(&mut self) -> u64;
}

/// What a fabric of one size costs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// The fabric.
    pub point: Point,
    /// From empty journals until every partition is led by its preferred leader.
    pub start: Start,
    /// While nobody publishes. Clients are connected and have subscribed.
    pub idle: Rates,
    /// While `load::RECORDS` records and `load::SIGNALS` signals a second are published.
    pub load: Rates,
    /// Memory of one node in bytes: what the process grew by from before the nodes were built to
    /// the end of the idle time, divided by their number.
    pub memory_bytes: f64,
    /// Records that were published and confirmed.
    pub confirmed: u64,
    /// Records and signals that were delivered.
    pub delivered: u64,
}

/// What it costs one node to found what it holds, on average.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Start {
    /// How long it takes, in simulated seconds; looked at twice a second.
    pub seconds: f64,
    /// Messages within its frames to peers.
    pub messages: f64,
    /// Bytes of its frames to peers.
    pub peer_bytes: f64,
    /// Milliseconds of processor time in `Node::step`.
    pub processor_ms: f64,
}

/// What one node does in one second, on average.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Rates {
    /// Frames that it sends to peers on the control lane.
    pub control: f64,
    /// Frames that it sends to peers on the bulk lane.
    pub bulk: f64,
    /// Frames of signals that it sends to peers.
    pub signals: f64,
    /// Frames that it sends to clients.
    pub replies: f64,
    /// Messages within its frames to peers: of Raft, beats, fetches, answers.
    pub messages: f64,
    /// Bytes of its frames to peers.
    pub peer_bytes: f64,
    /// Bytes of its frames to clients.
    pub client_bytes: f64,
    /// Commits that its journal syncs.
    pub commits: f64,
    /// Calls of `Node::step`.
    pub steps: f64,
    /// Inputs of one step.
    pub inputs_per_step: f64,
    /// Outputs of one step.
    pub outputs_per_step: f64,
    /// Milliseconds of processor time in `Node::step`.
    pub processor_ms: f64,
}

/// Why a fabric was not measured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScaleError {
    /// A point that is no fabric.
    #[error("{0} nodes and {1} partitions are no fabric: at least three and one are")]
    TooSmall(usize, usize),
    /// A node does not start.
    #[error("node {0} does not start: {1}")]
    Start(usize, String),
    /// It was not healthy in time.
    #[error("after {seconds} simulated seconds it is not so that {what}")]
    NotReady {
        /// What did not come about.
        what: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A fabric without faults refused something or left it undone.
    #[error("{0}")]
    Failed(String),
}

/// Builds a fabric of this size, lets it settle, and measures it idle and under load.
pub fn measure(point: Point, meter: &mut dyn Meter) -> Result<Cost, ScaleError> {
    if point.nodes < 3 || point.partitions == 0 {
        return Err(ScaleError::TooSmall(point.nodes, point.partitions));
    }
    let before = meter.resident_bytes();
    let mut fabric = Fabric::new(point, meter)?;
    let start = fabric.settle()?;
    fabric.connect()?;
    let idle = fabric.idle()?;
    let memory = fabric.resident_bytes().saturating_sub(before);
    let load = fabric.load()?;
    Ok(Cost {
        point,
        start,
        idle,
        load,
        memory_bytes: memory as f64 / point.nodes as f64,
        confirmed: fabric.confirmed(),
        delivered: fabric.delivered(),
    })
}

/// Records that are published in a second, to all partitions in turn.
pub const RECORDS: u64 = load::RECORDS;

/// Signals that are published in a second, to all patterns in turn.
pub const SIGNALS: u64 = load::SIGNALS;

/// How long each of the two states is measured, in simulated seconds.
pub const MEASURED: u64 = fabric::MEASURED;
