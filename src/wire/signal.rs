//! Signals between nodes: a topic frame, which is the pattern and a zero byte, and a frame with a
//! header and records.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::{Incarnation, NodeName};

use super::error::{WireError, shorten};
use super::frame::{read_named, write_named};
use super::peer::PEER_VERSION;
use super::records;
use super::scan::{Item, Reader, object_len};

/// The header of a signal frame. With `count` 0 it announces `sequence` as the next to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// The peer protocol's version.
    pub version: u32,
    /// The fabric's name.
    pub fabric: String,
    /// The publisher's node.
    pub node: NodeName,
    /// The publisher's life: sequences of another one say nothing about this one's.
    pub incarnation: Incarnation,
    /// The number of the first record among all that this life of the publisher sent on this topic,
    /// from 0.
    pub sequence: u64,
    /// How many records follow.
    pub count: u64,
}

/// The second frame of a signal.
pub fn encode_signal(header: &Signal, records: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(128 + records.len());
    write_named(&mut frame, header);
    frame.extend_from_slice(records);
    frame.into()
}

/// Takes the second frame of a signal apart. The records share its memory; their number is checked,
/// their content not.
pub fn decode_signal(frame: &Bytes) -> Result<(Signal, Bytes), WireError> {
    if frame.is_empty() {
        return Err(WireError::Empty);
    }
    let len = object_len(frame).map_err(WireError::Malformed)?;
    let Ok(Item::Map(_)) = Reader::new(frame).next() else {
        return Err(WireError::NotAHeader);
    };
    let header: Signal = read_named("signal", &frame[..len])?;
    if header.version != PEER_VERSION {
        return Err(WireError::PeerVersion {
            node: shorten(header.node.as_str()),
            version: header.version,
            spoken: PEER_VERSION,
        });
    }
    let records = frame.slice(len..);
    records::check_count(records::count(&records)?, Some(header.count))?;
    Ok((header, records))
}

/// The topic of `pattern`: ends in a zero byte, so that SUB's prefix match selects it and no longer
/// one.
pub fn topic(pattern: &str) -> Bytes {
    [pattern.as_bytes(), &[0]].concat().into()
}

/// The pattern of a topic, if it is one.
pub fn topic_pattern(topic: &[u8]) -> Option<&str> {
    let pattern = topic.strip_suffix(&[0])?;
    match pattern.contains(&0) {
        true => None,
        false => std::str::from_utf8(pattern).ok(),
    }
}
