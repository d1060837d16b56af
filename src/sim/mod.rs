//! The deterministic twin of the shell: many nodes on one seeded event heap, with a network, disks
//! and clocks that go wrong, clients that behave well and badly, and oracles that watch.
//!
//! It runs the real core and the real journal; what it replaces is libzmq, the kernel and time. It
//! knows nothing of actors, threads or real clocks. Every run ends with heal and converge, and a
//! seed replays it exactly.

mod client;
mod clock;
mod dice;
mod disks;
mod faults;
mod folders;
mod heap;
mod lives;
mod machine;
mod network;
mod oracle;
mod outputs;
mod report;
mod rot;
pub mod scale;
mod settle;
mod story;
mod tag;
mod topology;
mod world;

use std::sync::Arc;

pub use report::{Failure, Report};
pub use topology::topology;

use crate::topology::Topology;
use crate::types::Sabotage;

/// What to simulate.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The fabric; the seed's own ([`topology`]) if absent.
    pub topology: Option<Arc<Topology>>,
    /// All chance comes from here.
    pub seed: u64,
    /// At least so many steps of nodes before the heal.
    pub steps: u64,
    /// At least so many publishes before the heal.
    pub publishes: u64,
    /// A fault built in on purpose; only with the cargo feature of that name.
    pub sabotage: Option<Sabotage>,
}

/// The least a run does: long enough for elections, restarts and retries to meet.
pub const STEPS: u64 = 20_000;

/// See [`STEPS`].
pub const PUBLISHES: u64 = 2_000;

/// Runs one seed to its end or to the first broken promise.
///
/// # Panics
/// Where the core does: an assertion that fails is a fault found.
pub fn run(settings: &Settings) -> Report {
    Sabotage::set(settings.sabotage);
    world::World::new(settings).live()
}
