//! Data folders that are gone for good, and the empty ones that take their place.

use super::machine::{Machine, MachineId};
use super::oracle::Verdict;
use super::world::World;
use crate::node::NodeView;
use crate::store::SimDisk;
use crate::types::Partition;

/// Fewer replicas leave no majority without the one whose folder is gone.
const REPLICAS_MIN: u32 = 3;

impl World {
    /// A machine dies and its disk with it, if that is due; it comes back with an empty one. Only
    /// while all others are as they should be: a second loss of what a majority held would be one
    /// too many.
    pub(super) fn lose_folder(&mut self) -> Verdict {
        if !self.faults.folder_due {
            return Ok(());
        }
        let victim = self.dice.below(self.machines.len());
        if !self.may_lose(victim) {
            return Ok(());
        }
        self.faults.folder_due = false;
        self.report.fired("folder lost");
        self.crash(victim, false, "loses its data folder")?;
        self.replace_folder(victim);
        Ok(())
    }

    /// Whether a majority of all that the machine holds is left without it, for sure.
    pub(super) fn may_lose(&self, machine: MachineId) -> bool {
        let views = self.views();
        let all_up = views.len() == self.machines.len();
        let is_settled = |machine: &Machine| !machine.replaces && machine.rot.is_none();
        let settled = self.machines.iter().all(is_settled);
        all_up && settled && !views.iter().any(is_filling) && self.is_dispensable(machine)
    }

    /// The machine, which does not run, has an empty disk.
    pub(super) fn replace_folder(&mut self, machine: MachineId) {
        let found = &mut self.machines[machine];
        found.disk = SimDisk::new(self.dice.number());
        (found.replaces, found.kept, found.rot) = (true, true, None);
        self.oracles.logs.lost(machine);
    }

    /// Notices which machines have taken the place of what was lost.
    pub(super) fn note_replaced(&mut self) {
        if !self.machines.iter().any(|machine| machine.replaces) {
            return;
        }
        let views = self.views();
        if views.len() < self.machines.len() || views.iter().any(is_filling) {
            return;
        }
        for machine in 0..self.machines.len() {
            if std::mem::take(&mut self.machines[machine].replaces) {
                self.report.replaced += 1;
                self.tell(machine, "has taken the place of the folder that was lost");
            }
        }
    }

    fn views(&self) -> Vec<NodeView> {
        let running = self.machines.iter().filter_map(|m| m.running.as_ref());
        running.map(|running| running.node.view()).collect()
    }

    /// Whether every partition that the machine holds has enough other replicas.
    fn is_dispensable(&self, machine: MachineId) -> bool {
        let partitions = self.oracles.logs.partitions();
        let holds = |partition: &&Partition| {
            let replicas = self.oracles.logs.replicas(partition);
            replicas.contains(&machine)
        };
        partitions.filter(holds).all(|partition| {
            let declared = self.topology.channels.get(&partition.channel);
            declared.is_some_and(|channel| channel.replicas >= REPLICAS_MIN)
        })
    }
}

/// Whether something of it is founded or filled only now, as far as the node knows.
pub(super) fn is_filling(view: &NodeView) -> bool {
    let roles = ["unfounded", "stranger"];
    let mut partitions = view.partitions.iter();
    partitions.any(|own| own.replacing || roles.contains(&own.role.as_str()))
}
