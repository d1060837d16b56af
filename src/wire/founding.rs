//! The founding record: who the voters of a partition are when it begins.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::types::{Partition, ReplicaId};

/// Written once per partition by its preferred leader, then by each replica; never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// The fabric's name.
    pub fabric: String,
    /// The partition.
    pub partition: Partition,
    /// How many partitions its channel has, which never changes.
    pub partitions: u32,
    /// The voters, the preferred leader first.
    pub voters: Vec<ReplicaId>,
}

impl Founding {
    /// The record as bytes; equal records are equal bytes.
    pub fn encode(&self) -> Bytes {
        // Encoding a struct of integers and strings into memory has no way to fail.
        rmp_serde::to_vec_named(self)
            .expect("a founding record always encodes")
            .into()
    }

    /// The record of these bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }

    /// What a node states instead of the whole record: the CRC-32 of its bytes.
    pub fn mark(&self) -> u32 {
        crc32fast::hash(&self.encode())
    }
}
