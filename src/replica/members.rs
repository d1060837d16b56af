//! Who the members are: changed by entries of the log, one step at a time, once they are committed.
//!
//! Raft holds its own list and is told of each step as it is applied here. A state that another
//! replica sent knows its members already: the entries that led there are not applied again.

use bytes::Bytes;

use super::{NotLeader, Replica, codec};
use crate::types::{LogEntry, Members, MembersChange, ReplicaId};

impl Replica {
    /// The members, as of the last entry that was applied.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The voters, the preferred leader first.
    pub fn voters(&self) -> &[ReplicaId] {
        &self.members.voters
    }

    /// Whether this replica counts for majorities. One that is being filled does not.
    pub fn is_voter(&self) -> bool {
        self.members.votes(&self.config.me)
    }

    /// Whether this leader may propose a change of members: one at a time.
    pub fn may_change_members(&self) -> bool {
        self.is_serving() && !self.is_transferring() && !self.raw.raft.has_pending_conf()
    }

    /// Proposes a change of members, which `data` holds as an entry does.
    pub fn propose_members(
        &mut self,
        change: &MembersChange,
        data: &Bytes,
    ) -> Result<u64, NotLeader> {
        if !self.may_change_members() || !self.members.takes(change) {
            return Err(NotLeader);
        }
        self.raw
            .propose_conf_change(data.to_vec(), codec::conf_change(change))
            .map_err(|_| NotLeader)?;
        Ok(self.last_index())
    }

    /// Carries out the change of members that a committed entry holds, if it holds one.
    pub(super) fn apply_members(&mut self, entry: &LogEntry) -> Result<(), String> {
        if entry.index <= self.covered {
            return Ok(());
        }
        let Some(change) = codec::members_change(&entry.data) else {
            return Ok(());
        };
        if !self.members.apply(&change) {
            return Ok(());
        }
        let state = self
            .raw
            .apply_conf_change(&codec::conf_change(&change))
            .map_err(|error| format!("entry {}, {change:?}: {error}", entry.index))?;
        self.raw.mut_store().set_conf_state(state);
        self.steady();
        Ok(())
    }
}
