//! Frames between nodes: an envelope that says who sends, then messages. Decoding copies the bytes
//! inside messages; whoever wants them shared with the frame changes this file alone.

use bytes::Bytes;

use super::error::WireError;
use super::frame::{header_name, read_named, write_named};
use super::peer::{Envelope, PEER_VERSION, PeerMessage};
use super::scan::{Item, Reader, object_len};

/// The messages a node understands from another.
pub const PEER_MESSAGES: &[&str] = &[
    "state",
    "found",
    "raft",
    "forward",
    "outcome",
    "fetch",
    "fetched",
    "snapshot",
    "wanted",
    "cursor",
    "cursored",
    "recall",
    "recalled",
    "sequence",
    "sequenced",
];

/// One frame with all of `messages`.
pub fn encode_peer(envelope: &Envelope, messages: &[PeerMessage]) -> Bytes {
    let mut frame = Vec::with_capacity(256);
    write_named(&mut frame, envelope);
    for message in messages {
        write_named(&mut frame, message);
    }
    frame.into()
}

/// Takes a peer's frame apart. Messages of a name that this version does not know are passed over:
/// within one version only such may be added that a receiver can do without.
pub fn decode_peer(frame: &Bytes) -> Result<(Envelope, Vec<PeerMessage>), WireError> {
    let (envelope, mut rest) = decode_envelope(frame)?;
    let mut messages = Vec::new();
    while !rest.is_empty() {
        let len = object_len(rest).map_err(WireError::Malformed)?;
        let name = header_name(&rest[..len])?;
        if PEER_MESSAGES.contains(&name) {
            messages.push(read_named(name, &rest[..len])?);
        }
        rest = &rest[len..];
    }
    Ok((envelope, messages))
}

/// The envelope and the bytes of the messages after it.
fn decode_envelope(frame: &Bytes) -> Result<(Envelope, &[u8]), WireError> {
    if frame.is_empty() {
        return Err(WireError::Empty);
    }
    let len = object_len(frame).map_err(WireError::Malformed)?;
    let Ok(Item::Map(_)) = Reader::new(frame).next() else {
        return Err(WireError::NotAHeader);
    };
    let envelope: Envelope = read_named("envelope", &frame[..len])?;
    if envelope.version != PEER_VERSION {
        return Err(WireError::PeerVersion {
            node: super::error::shorten(envelope.node.as_str()),
            version: envelope.version,
            spoken: PEER_VERSION,
        });
    }
    Ok((envelope, &frame[len..]))
}
