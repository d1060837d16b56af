//! The DEALER socket and what watches it.

use std::time::Duration;

use bytes::Bytes;

use super::connection::TransportEvent;
use super::options::Address;
use crate::topology::SecretKey;
use crate::types::limits::{FRAME_OVERHEAD, RECORD_MAX};

/// Frames that wait in the socket either way. Publishes wait in lanes and records are bounded by
/// windows, so what waits here is small change.
const FRAMES_WAITING: i32 = 10_000;

/// What libzmq reads at once, in bytes (`in_batch_size` of its 4.3 `config.hpp`).
const LIBZMQ_BUFFER: usize = 8_192;

/// The status of RFC 27 (ZAP) for a key that is not let in; 300 is a trouble that may pass.
const REFUSED: u32 = 400;

/// A socket and what watches it.
pub(super) struct Transport {
    dealer: zmq::Socket,
    monitor: zmq::Socket,
    /// Where the monitor moves to when this ends; see `drop`.
    silence: String,
}

/// A message that lives as long as what refers to its bytes.
struct Received(zmq::Message);

impl AsRef<[u8]> for Received {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Received {
    /// Small ones lie in a buffer of libzmq with others, which they would hold as a whole.
    fn bytes(message: zmq::Message) -> Bytes {
        match message.len() > LIBZMQ_BUFFER {
            true => Bytes::from_owner(Self(message)),
            false => Bytes::copy_from_slice(&message),
        }
    }
}

impl Drop for Transport {
    /// libzmq reports to a monitor whose other end is gone as to one that will read: its one thread
    /// waits for ever, and no socket of the context is served again. So the reports end first. It
    /// knows no other way than a new monitor, of no events.
    fn drop(&mut self) {
        let _ = self.dealer.monitor(&self.silence, 0);
    }
}

impl Transport {
    /// `number` is of this socket alone, among those of the context.
    pub(super) fn connect(
        context: &zmq::Context,
        address: &Address,
        identity: Option<&SecretKey>,
        number: u64,
    ) -> zmq::Result<Self> {
        let watch = format!("inproc://monitor-{number}");
        let transport = Self {
            dealer: dealer(context, address, identity)?,
            monitor: context.socket(zmq::PAIR)?,
            silence: format!("inproc://silence-{number}"),
        };
        transport.monitor.set_linger(0)?;
        // libzmq's thread would wait at a high-water mark.
        transport.monitor.set_rcvhwm(0)?;
        transport.dealer.monitor(&watch, events())?;
        transport.monitor.connect(&watch)?;
        transport.dealer.connect(&address.endpoint)?;
        Ok(transport)
    }

    pub(super) fn poll_items(&self) -> [zmq::PollItem<'_>; 2] {
        [&self.dealer, &self.monitor].map(|socket| socket.as_poll_item(zmq::POLLIN))
    }

    pub(super) fn send(&self, frame: Bytes) -> zmq::Result<()> {
        self.dealer.send(Vec::from(frame), zmq::DONTWAIT)
    }

    /// The next message, if there is one.
    pub(super) fn receive(&self) -> Option<Vec<Bytes>> {
        let mut frames = Vec::with_capacity(1);
        loop {
            let message = self.dealer.recv_msg(zmq::DONTWAIT).ok()?;
            let more = message.get_more();
            frames.push(Received::bytes(message));
            if !more {
                return Some(frames);
            }
        }
    }

    /// What became of the connection. The first event ends this socket; what comes after it is its
    /// echo.
    pub(super) fn event(&self) -> Option<TransportEvent> {
        let mut first = None;
        while let Ok(frames) = self.monitor.recv_multipart(zmq::DONTWAIT) {
            let event = frames.first().and_then(|frame| transport_event(frame));
            first = first.or(event);
        }
        first
    }

    /// Gives the last frames time to leave: the context waits for the socket this long when both
    /// are dropped.
    pub(super) fn linger(&self, most: Duration) {
        let _ = self.dealer.set_linger(most.as_millis() as i32);
    }
}

fn dealer(
    context: &zmq::Context,
    address: &Address,
    identity: Option<&SecretKey>,
) -> zmq::Result<zmq::Socket> {
    let dealer = context.socket(zmq::DEALER)?;
    dealer.set_linger(0)?;
    dealer.set_sndhwm(FRAMES_WAITING)?;
    dealer.set_rcvhwm(FRAMES_WAITING)?;
    dealer.set_maxmsgsize((RECORD_MAX + FRAME_OVERHEAD) as i64)?;
    dealer.set_heartbeat_ivl(1_000)?;
    dealer.set_heartbeat_timeout(3_000)?;
    dealer.set_handshake_ivl(2_000)?;
    if address.endpoint.starts_with("tcp://[") {
        dealer.set_ipv6(true)?;
    }
    if let Some(key) = &address.server_key {
        dealer.set_curve_serverkey(&decode(key.as_str())?)?;
        let (public, secret) = match identity {
            Some(key) => (decode(key.public().as_str())?, decode(key.secret_z85())?),
            None => {
                let pair = zmq::CurveKeyPair::new()?;
                (pair.public_key.to_vec(), pair.secret_key.to_vec())
            }
        };
        dealer.set_curve_publickey(&public)?;
        dealer.set_curve_secretkey(&secret)?;
    }
    Ok(dealer)
}

/// What a monitor is to report.
fn events() -> i32 {
    use zmq::SocketEvent as Event;
    [
        Event::CONNECT_RETRIED,
        Event::DISCONNECTED,
        Event::HANDSHAKE_FAILED_AUTH,
        Event::HANDSHAKE_FAILED_PROTOCOL,
        Event::HANDSHAKE_FAILED_NO_DETAIL,
    ]
    .into_iter()
    .fold(0, |mask, event| mask | event as i32)
}

/// What a monitor's event means for the connection.
fn transport_event(frame: &[u8]) -> Option<TransportEvent> {
    use zmq::SocketEvent as Event;
    let number = u16::from_ne_bytes(frame.get(..2)?.try_into().ok()?);
    let value = u32::from_ne_bytes(frame.get(2..6)?.try_into().ok()?);
    let is = |event: Event| event.to_raw() == number;
    if is(Event::CONNECT_RETRIED) {
        return Some(TransportEvent::NobodyThere);
    }
    if is(Event::DISCONNECTED) {
        return Some(TransportEvent::Closed);
    }
    let failed = |text: String| Some(TransportEvent::HandshakeFailed(text));
    if is(Event::HANDSHAKE_FAILED_AUTH) && value == REFUSED {
        return Some(TransportEvent::KeyRefused);
    }
    if is(Event::HANDSHAKE_FAILED_AUTH) {
        return failed(format!("refused with status {value}"));
    }
    if is(Event::HANDSHAKE_FAILED_PROTOCOL) {
        return failed(format!("protocol error {value:#x}"));
    }
    is(Event::HANDSHAKE_FAILED_NO_DETAIL).then_some(TransportEvent::Closed)
}

fn decode(key: &str) -> zmq::Result<Vec<u8>> {
    zmq::z85_decode(key).map_err(|_| zmq::Error::EINVAL)
}
