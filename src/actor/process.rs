//! What a node asks of its process and machine beside sockets and disk: signals, file descriptors,
//! randomness.

use ring::rand::SecureRandom;
use tokio::sync::mpsc::UnboundedSender;

use super::error::StartError;
use super::messages::Event;
use crate::types::Incarnation;

/// Hands SIGINT and SIGTERM on as the wish to stop.
pub(super) fn stop_on_signals(events: UnboundedSender<Event>) -> Result<(), StartError> {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signal = signal(kind).map_err(|why| StartError::System {
            what: "the watch for signals",
            why,
        })?;
        let events = events.clone();
        actix::spawn(async move {
            while signal.recv().await.is_some() {
                let _ = events.send(Event::Stop);
            }
        });
    }
    Ok(())
}

/// A life that no data folder had before.
pub(super) fn fresh_incarnation() -> Result<Incarnation, StartError> {
    let mut bytes = [0; 8];
    let filled = ring::rand::SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| StartError::System {
        what: "the system's random generator",
        why: std::io::Error::other("it gave nothing"),
    })?;
    Ok(Incarnation(u64::from_ne_bytes(bytes).max(1)))
}

/// Has this process open as many files as so many nodes of these limits may need: a client costs a
/// file descriptor, and libzmq spins when there is none left.
pub(crate) fn raise_open_files_for(nodes: u64, sessions: u64) {
    let wanted = nodes * (sessions + 1_024);
    if let Err(ceiling) = raise_open_files(wanted) {
        tracing::warn!(
            "this process may open {ceiling} files, and limits.sessions_max = {sessions} asks for \
             {wanted}: raise the limit (ulimit -n) or lower sessions_max"
        );
    }
}

/// Lets this process, and those that it starts from now on, open so many files.
///
/// # Errors
/// How many it may open, where they are fewer.
pub(crate) fn raise_open_files(wanted: u64) -> Result<(), u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    let Some(current) = limit.current.filter(|current| *current < wanted) else {
        return Ok(());
    };
    let ceiling = limit.maximum.unwrap_or(wanted);
    limit.current = Some(wanted.min(ceiling));
    match setrlimit(Resource::Nofile, limit) {
        Ok(()) if ceiling >= wanted => Ok(()),
        Ok(()) => Err(ceiling),
        Err(_) => Err(current),
    }
}
