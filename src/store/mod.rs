//! The journal: one log of commits per node, for all its partitions, on one disk.
//!
//! [`Journal`] is the one writer, [`Reader`]s read beside it; both see the world only through
//! [`Disk`], which is this machine's ([`RealDisk`]) or a simulated one ([`SimDisk`]). The room
//! never knows what an entry's data means, and decides nothing about elections or confirms.
//! `FORMAT.md` draws the bytes.

mod base;
mod disk;
mod error;
mod examine;
mod folder;
mod identity;
mod index;
mod items;
mod journal;
mod layout;
mod looking;
mod mend;
mod plan;
mod reader;
mod reading;
mod real;
mod recovery;
mod rewrite;
mod scrub;
mod segment;
mod simulated;
mod spare;

pub use disk::{Disk, DiskFile};
pub use error::StoreError;
pub use examine::{Damage, Examine, Examined, ExaminedSegment, Torn, examine};
pub use identity::Identity;
pub use journal::{Journal, Settings, commit_bytes_max, item_bytes};
pub use layout::FORMAT_VERSION;
pub use reader::Reader;
pub use real::{RealDisk, RealFile, RealLock};
pub use recovery::{Found, Visit};
pub use scrub::{Scrub, Scrubbed};
pub use simulated::{SimCounts, SimDisk, SimFile, SimLock};
