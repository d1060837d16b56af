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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    const CHILD: &str = "WEFT_TEST_PANICS";

    /// Runs itself again in a child, where a task of a runtime panics, which the runtime catches.
    #[test]
    fn a_panic_ends_the_process_even_where_a_runtime_catches_it() {
        if std::env::var_os(CHILD).is_some() {
            super::end_process_on_panic();
            actix::System::new().block_on(async {
                let task = actix::spawn(async { panic!("as the test wants") });
                assert!(task.await.is_ok(), "it was caught");
            });
            return;
        }
        let own = std::env::current_exe().expect("this test");
        let child = Command::new(own)
            .args(["--exact", "--nocapture"])
            .arg("actor::fatal::tests::a_panic_ends_the_process_even_where_a_runtime_catches_it")
            .env(CHILD, "1")
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&child.stderr);
        assert!(said.contains("as the test wants"), "{said}");
        assert_eq!(child.status.signal(), Some(6), "{said}");
    }
}
