//! What a node shows to monitoring: its figures for Prometheus at `/metrics`, and at `/health`
//! whether it is healthy, in words.
//!
//! A thread of its own serves them from what the node wrote on a [`Board`] last. Nothing that an
//! http client does reaches the node, and none is let in but by an address that the topology names.

mod metrics;
mod server;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

pub use metrics::{METRICS, Metric};
pub use server::{Server, bind};

use crate::node::NodeView;

/// Where the node writes what it knows of itself, and the server reads it.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<Mutex<Option<Written>>>);

/// When the node said what.
type Written = (Instant, Arc<NodeView>);

impl Board {
    /// Takes the place of what was there.
    pub fn write(&self, view: NodeView) {
        let written = Some((Instant::now(), Arc::new(view)));
        // Whoever panicked left either the old or the new one.
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = written;
    }

    /// What was written last, and when.
    fn read(&self) -> Option<Written> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
