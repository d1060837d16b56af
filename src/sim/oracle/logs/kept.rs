//! What a machine's journal must keep.

use super::Logs;
use crate::sim::machine::MachineId;

impl Logs {
    /// How many of the synced entries of a machine must stay, and what their data takes.
    pub(in crate::sim) fn kept(&self, machine: MachineId) -> (u64, u64) {
        let logs = self.disks.get(&machine).map(|disk| disk.durable.values());
        let kept = logs.into_iter().flatten().flat_map(|log| {
            let keep_from = log.checkpoint.map_or(1, |(_, keep_from)| keep_from);
            let before = usize::try_from(keep_from - 1).unwrap_or(usize::MAX);
            log.entries.iter().skip(before)
        });
        kept.fold((0, 0), |(entries, bytes), fact| {
            (entries + 1, bytes + fact.entry.data.len() as u64)
        })
    }
}
