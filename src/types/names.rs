//! Names of nodes, channels, partitions, replicas and records.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Offset;

/// A node's name in the topology.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeName(pub Arc<str>);

/// A channel's name in the topology.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChannelName(pub Arc<str>);

/// One ordered, independently replicated slice of a channel. Printed `channel/number`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition {
    /// The channel it belongs to.
    pub channel: ChannelName,
    /// From 0 to the channel's partition count, exclusive.
    pub number: u32,
}

/// One life of a data folder: random, never zero. A new one never speaks for the old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// A voter: a node in one life of its data folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId {
    /// The node.
    pub node: NodeName,
    /// The life of its data folder.
    pub incarnation: Incarnation,
}

/// A record's name for ever. Printed and parsed as `channel/partition/offset`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordId {
    /// The partition it is stored in.
    pub partition: Partition,
    /// Its position there.
    pub offset: Offset,
}

/// A text that is not a record id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a record id, which reads channel/partition/offset, as in orders/2/1041")]
pub struct RecordIdError(String);

impl ReplicaId {
    /// The number under which Raft knows this replica: 64-bit FNV-1a
    /// (<https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>) of the name and the
    /// incarnation, never zero. Founding refuses a set of replicas in which two would share one.
    pub fn raft_id(&self) -> u64 {
        let fnv =
            |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        let hash = self
            .node
            .as_str()
            .as_bytes()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, fnv);
        let hash = self.incarnation.0.to_le_bytes().iter().fold(hash, fnv);
        hash.max(1)
    }
}

macro_rules! name {
    ($type:ident) => {
        impl $type {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $type {
            fn from(name: &str) -> Self {
                Self(name.into())
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(NodeName);
name!(ChannelName);

impl Partition {
    /// Partition `number` of `channel`.
    pub fn new(channel: &ChannelName, number: u32) -> Self {
        Self {
            channel: channel.clone(),
            number,
        }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.channel, self.number)
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.incarnation)
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.partition, self.offset)
    }
}

impl FromStr for RecordId {
    type Err = RecordIdError;

    fn from_str(text: &str) -> Result<Self, RecordIdError> {
        let error = || RecordIdError(text.to_owned());
        let mut parts = text.rsplitn(3, '/');
        let offset = parts
            .next()
            .and_then(|part| part.parse().ok())
            .ok_or_else(error)?;
        let number = parts
            .next()
            .and_then(|part| part.parse().ok())
            .ok_or_else(error)?;
        let channel = parts
            .next()
            .filter(|part| !part.is_empty())
            .ok_or_else(error)?;
        Ok(Self {
            partition: Partition {
                channel: channel.into(),
                number,
            },
            offset,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_id_is_printed_and_parsed_alike() {
        let id: RecordId = "orders/2/1041".parse().expect("an id");
        assert_eq!(id.partition, Partition::new(&"orders".into(), 2));
        assert_eq!(id.offset, 1041);
        assert_eq!(id.to_string(), "orders/2/1041");
        for text in [
            "",
            "orders",
            "orders/2",
            "/2/1",
            "orders/2/x",
            "orders/-1/2",
        ] {
            assert!(text.parse::<RecordId>().is_err(), "{text}");
        }
    }

    #[test]
    fn another_life_of_a_folder_is_another_raft_id() {
        let replica = |incarnation| ReplicaId {
            node: "a".into(),
            incarnation: Incarnation(incarnation),
        };
        assert_ne!(replica(1).raft_id(), replica(2).raft_id());
        assert_ne!(replica(1).raft_id(), 0);
    }
}
