//! Commands wait where the client's futures do not.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

thread_local! {
    static RUNTIME: std::io::Result<Runtime> = Builder::new_current_thread().enable_time().build();
}

/// Waits on this thread.
///
/// # Panics
/// If the system has nothing left for a runtime that only counts time.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    RUNTIME.with(|runtime| match runtime {
        Ok(runtime) => runtime.block_on(future),
        Err(why) => panic!("this thread cannot wait: {why}"),
    })
}

/// Waits so long at most. The future must be one that may be cancelled.
pub(crate) fn wait_within<F: Future>(most: Duration, future: F) -> Option<F::Output> {
    wait(async { tokio::time::timeout(most, future).await.ok() })
}
