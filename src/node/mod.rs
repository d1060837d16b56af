//! The node: sessions, routing, peers and partitions composed into one state machine that is
//! stepped with inputs and answers with outputs. It blocks on nothing and owns nothing outside
//! itself.

mod io;
mod view;

pub use io::{ClientId, Droppable, Gauges, Input, Lane, Level, Outbox, Output};
pub use view::{
    ChannelView, DiskView, NodeView, PartitionView, PeerView, ReplicaView, SessionsView,
};
