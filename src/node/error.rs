//! Why a node does not start on what its journal holds.

use crate::types::{ChannelName, NodeName, Partition};

/// Why a node cannot start on this journal with this topology.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// The topology does not name the node.
    #[error("the topology has no node {0}")]
    NoSuchNode(NodeName),
    /// A partition has copies elsewhere than the topology wants them.
    #[error(
        "{partition} has its copies on {has}, the topology wants them on {wants}; moving \
         partitions is \
         not built yet: give the channel and the nodes back their former declaration"
    )]
    Moved {
        /// The partition.
        partition: Partition,
        /// The voters.
        has: String,
        /// The placement.
        wants: String,
    },
    /// The number of partitions changed.
    #[error(
        "the channel {channel} was founded with {had} partitions, the topology says {says}; the \
         count \
         never changes, since it decides where keys belong: declare a new channel"
    )]
    Repartitioned {
        /// The channel.
        channel: ChannelName,
        /// As founded.
        had: u32,
        /// As declared.
        says: u32,
    },
}
