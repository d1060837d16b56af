//! The end of the process. A node whose thread panicked must not go on with half a mind: its peers
//! notice at once that it is gone, and a new life recovers from the journal.

use std::cell::Cell;
use std::sync::Once;

thread_local! {
    static OF_A_NODE: Cell<bool> = const { Cell::new(false) };
}

/// From now on a panic of this thread ends the process, in every build, and even where a runtime
/// would catch it. Other threads of a process that embeds a node are not touched.
pub(super) fn end_process_on_panic() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            before(info);
            if OF_A_NODE.get() {
                std::process::abort();
            }
        }));
    });
    OF_A_NODE.set(true);
}

/// Says why and ends the process.
pub(super) fn end_process(why: &str) -> ! {
    tracing::error!("{why}");
    std::process::abort();
}
