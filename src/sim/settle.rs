//! The end of every run: heal, let everything converge, publish a little more, let it converge
//! again, then take the disks out and read them.

use std::collections::BTreeMap;

use super::client::Mood;
use super::folders::is_filling;
use super::oracle::{Verdict, broken, space};
use super::world::World;
use crate::node::NodeView;
use crate::store::Disk;
use crate::types::{Incarnation, Partition, Span};

/// How long convergence may take once all is healed.
const CONVERGENCE: Span = Span::from_secs(60);

/// How long all must stay as it is before it counts.
const CALM: Span = Span::from_millis(1_000);

impl World {
    /// Heals and audits.
    pub(super) fn settle(&mut self) -> Verdict {
        self.heal();
        self.mood = Mood::Calm;
        self.converge()?;
        self.mood = Mood::Probe;
        self.oracles.signals.probe();
        self.wait(Span::from_millis(3_000))?;
        self.converge()?;
        self.oracles.signals.check_all()?;
        self.check_cursors()?;
        self.check_space()?;
        self.autopsy()
    }

    fn converge(&mut self) -> Verdict {
        let end = self.heap.now() + CONVERGENCE;
        loop {
            self.wait(CALM)?;
            let Some(lacks) = self.lacks() else {
                return Ok(());
            };
            if self.heap.now() > end {
                let (partition, says) = lacks;
                return broken("all converge after heal", partition.as_ref(), says);
            }
        }
    }

    fn wait(&mut self, span: Span) -> Verdict {
        let end = self.heap.now() + span;
        while self.heap.now() < end {
            self.turn()?;
        }
        Ok(())
    }

    /// What has not converged yet, and where.
    fn lacks(&self) -> Option<(Option<Partition>, String)> {
        let mut views = Vec::new();
        for machine in &self.machines {
            let Some(running) = &machine.running else {
                return Some((None, format!("{} is not up", machine.name)));
            };
            let view = running.node.view();
            if view.disk.failed.is_some() {
                return Some((None, format!("{} has no journal", machine.name)));
            }
            if view.stopping {
                return Some((None, format!("{} is about to stop", machine.name)));
            }
            views.push(view);
        }
        for (channel, declared) in &self.topology.channels {
            for number in 0..declared.partitions {
                let partition = Partition::new(channel, number);
                if declared.replicas > 0
                    && let Some(says) = disagreement(&views, &partition, declared.replicas)
                {
                    return Some((Some(partition), says));
                }
            }
        }
        if let Some(found) = self.machines.iter().find(|found| found.rot.is_some()) {
            let says = format!("the disk of {} is not known to be sound again", found.name);
            return Some((None, says));
        }
        if let Some(view) = views.iter().find(|view| is_filling(view)) {
            let says = format!("{} says that a lost folder is being replaced", view.node);
            return Some((None, says));
        }
        self.clients_lack().map(|says| (None, says))
    }

    /// Every replica says of every cursor what the committed log says.
    fn check_cursors(&mut self) -> Verdict {
        for machine in 0..self.machines.len() {
            let Some(running) = &self.machines[machine].running else {
                continue;
            };
            for held in running.node.view().partitions {
                let partition = Partition::new(&held.channel.as_str().into(), held.partition);
                self.oracles.claimed(machine, &partition, held.commit)?;
                self.oracles.cursors.check_view(&partition, &held)?;
            }
        }
        Ok(())
    }

    /// Gives back all space that can be, and looks at what the journals take then.
    fn check_space(&mut self) -> Verdict {
        let segment_bytes = self.topology.limits.segment_bytes;
        for (machine, found) in self.machines.iter_mut().enumerate() {
            let Some(running) = &mut found.running else {
                continue;
            };
            match running.give_back_all() {
                Ok(compactions) => self.report.compactions += compactions,
                Err(error) => return broken("a healthy disk gives back space", None, error),
            }
            let names = found.disk.list().unwrap_or_default();
            let segments = names.iter().filter(|name| name.ends_with(".seg")).count();
            let takes = (running.gauges().journal_bytes, segments as u64);
            space::check(machine, takes, segment_bytes, &self.oracles.logs)?;
        }
        Ok(())
    }

    /// Takes the power from all machines at once and reads what their disks hold.
    fn autopsy(&mut self) -> Verdict {
        for machine in 0..self.machines.len() {
            let flushed = |world: &Self| {
                let running = world.machines[machine].running.as_ref();
                running.is_none_or(|running| running.commit.is_none())
            };
            while !flushed(self) {
                self.turn()?;
            }
            self.machines[machine].die(false);
        }
        for (machine, found) in self.machines.iter().enumerate() {
            let fresh = Incarnation(1);
            let (_, items) = match found.open(&self.topology, (fresh, None), &mut |_| Ok(())) {
                Ok(opened) => opened,
                Err(error) => {
                    let says = format!("machine {machine} at the end: {error}");
                    return broken("a node starts on what its disk holds", None, says);
                }
            };
            self.oracles.logs.recovered(machine, &items, false)?;
        }
        let partitions: Vec<Partition> = self.oracles.logs.partitions().cloned().collect();
        for partition in &partitions {
            for machine in self.oracles.logs.replicas(partition) {
                let log = self.oracles.logs.durable(machine, partition);
                self.oracles.commits.held_by(machine, partition, log)?;
            }
        }
        Ok(())
    }
}

/// Why the replicas of a partition are not yet one, if they are not.
fn disagreement(views: &[NodeView], partition: &Partition, replicas: u32) -> Option<String> {
    let (mut leaders, mut roles) = (Vec::new(), Vec::new());
    let mut ends: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    let mut count = 0;
    for view in views {
        let is_it = |held: &&crate::node::PartitionView| {
            held.channel == partition.channel.as_str() && held.partition == partition.number
        };
        let Some(held) = view.partitions.iter().find(is_it) else {
            continue;
        };
        count += 1;
        if held.role == "leader" {
            leaders.push(view.node.as_str());
        }
        roles.push(format!("{} as {}", view.node, held.role));
        let log = (held.term, held.last, held.commit);
        let records = (held.first_offset, held.next_offset, held.retained_bytes);
        let readers = (held.producers, held.cursors.clone());
        let end = (log, records, held.trimmed, readers);
        ends.entry(end).or_default().push(&view.node);
    }
    if count != replicas || leaders.len() != 1 {
        return Some(format!(
            "{partition} is held by {roles:?}, which differ in (term, last, commit), (first \
             offset, next offset, bytes), trimmed, (producers, cursors): {ends:?}"
        ));
    }
    let at_end = ends.keys().all(|((_, last, commit), ..)| last == commit);
    match ends.len() == 1 && at_end {
        true => None,
        false => Some(format!(
            "the replicas of {partition} differ in (term, last, commit), (first offset, next \
             offset, bytes), trimmed, (producers, cursors): {ends:?}"
        )),
    }
}
