//! What libzmq reports of a socket's handshakes, and how such reports end.
//!
//! libzmq writes a report to a monitor whose reader is gone as to one that will read: its thread
//! waits for ever, and no socket of the context is served again. So whoever drops a reader mutes
//! the socket first.

use std::sync::atomic::{AtomicU64, Ordering};

/// A reader for `events` of `socket`. It has no high-water mark: libzmq's thread would wait there.
pub(super) fn watch(
    context: &zmq::Context,
    socket: &zmq::Socket,
    events: &[zmq::SocketEvent],
) -> zmq::Result<zmq::Socket> {
    let reader = context.socket(zmq::PAIR)?;
    reader.set_linger(0)?;
    reader.set_rcvhwm(0)?;
    let name = fresh_name();
    let mask = events.iter().fold(0, |mask, event| mask | *event as i32);
    socket.monitor(&name, mask)?;
    if let Err(why) = reader.connect(&name) {
        mute(socket);
        return Err(why);
    }
    Ok(reader)
}

/// Ends the reports. The crate knows no other way than a new monitor, of no events.
pub(super) fn mute(socket: &zmq::Socket) {
    // Whether the name could be bound does not matter: the monitor before it has ended.
    let _ = socket.monitor(&fresh_name(), 0);
}

/// libzmq lets go of a monitor's name a little after its socket, so none is used twice.
fn fresh_name() -> String {
    static NAMES: AtomicU64 = AtomicU64::new(0);
    let name = NAMES.fetch_add(1, Ordering::Relaxed);
    format!("inproc://weft.monitor.{name}")
}
