//! The lives of a machine's process: it ends, at once or in peace, starts again on what its disk
//! holds, stands still and goes on.

use super::heap::Event;
use super::machine::MachineId;
use super::oracle::{Verdict, broken};
use super::world::World;
use crate::node::Input;
use crate::types::limits::TICK;
use crate::types::{Partition, Span};

/// A stop must be done after this long.
const STOP_MAX: Span = Span::from_secs(5);

impl World {
    /// The machine's process ends at once; it starts again later.
    pub(super) fn crash(&mut self, machine: MachineId, power_stays: bool, how: &str) -> Verdict {
        if self.machines[machine].running.is_none() {
            return Ok(());
        }
        self.tell(machine, how);
        self.end_life(machine, power_stays);
        Ok(())
    }

    fn end_life(&mut self, machine: MachineId, power_stays: bool) {
        self.machines[machine].die(power_stays);
        let down = match self.faults.over {
            _ if self.machines[machine].away => self.dice.millis(5_000, 15_000),
            true => self.dice.millis(100, 500),
            false => self.dice.millis(50, 6_000),
        };
        let life = self.machines[machine].life;
        self.heap.after(down, Event::Start { machine, life });
        let of_it = |(id, found): (&u64, &super::world::Connection)| {
            (found.machine == machine).then_some(*id)
        };
        let connections: Vec<u64> = self.connections.iter().filter_map(of_it).collect();
        for connection in connections {
            let delay = self.dice.millis(20, 1_500);
            self.heap.after(delay, Event::Lost { connection });
            self.oracles.silence.ended(connection);
        }
        for to in (0..self.machines.len()).filter(|to| *to != machine) {
            let delay = self.dice.millis(1, 1_000);
            self.heap.after(delay, Event::Topics { from: machine, to });
        }
    }

    /// The machine starts on what its disk holds.
    pub(super) fn start(&mut self, machine: MachineId, life: u64) -> Verdict {
        if self.machines[machine].life != life || self.machines[machine].running.is_some() {
            return Ok(());
        }
        let now = self.heap.now();
        self.machines[machine].away = false;
        let fails = std::mem::take(&mut self.machines[machine].fails_to_start);
        if fails {
            let changes = self.dice.between(0, 12);
            self.machines[machine].disk.cut_power_after(changes);
        }
        let strays = !fails && self.faults.reads_astray(&mut self.dice);
        let found = &mut self.machines[machine];
        let first = self.dice.between(0, 20) as u32;
        found.disk.misdirect_reads(first, u32::from(strays));
        let logs = &self.oracles.logs;
        let known = |partition: &Partition, index| {
            let fact = logs.durable(machine, partition).fact(index);
            fact.map(|fact| fact.entry.clone())
        };
        let items = match found.start(&self.topology, now, &mut self.dice, &known) {
            Ok(_) | Err(_) if fails => {
                self.report.fired("power cut within a start");
                self.tell(machine, "loses power as it starts");
                self.end_life(machine, false);
                return Ok(());
            }
            Ok(items) => items,
            Err(error) if strays => {
                self.report.fired("reads misdirected");
                self.tell(machine, format!("does not start this time: {error}"));
                self.end_life(machine, true);
                return Ok(());
            }
            Err(error) if found.rot.is_some() && error.contains(" is damaged ") => {
                self.tell(machine, format!("does not start: {error}"));
                self.replace_folder(machine);
                self.end_life(machine, false);
                return Ok(());
            }
            Err(error) => {
                let says = format!("machine {machine} after a crash: {error}");
                return broken("a node starts on what its disk holds", None, says);
            }
        };
        self.machines[machine].disk.misdirect_reads(0, 0);
        let kept = std::mem::replace(&mut self.machines[machine].kept, true);
        self.tell(machine, format!("starts with {} items", items.len()));
        self.oracles.logs.recovered(machine, &items, kept)?;
        let first = self.dice.millis(0, TICK.as_millis());
        self.heap.after(first, Event::Tick { machine, life });
        let first = self.dice.millis(0, 1_000);
        self.heap.after(first, Event::Scrub { machine, life });
        for other in (0..self.machines.len()).filter(|other| *other != machine) {
            let (from, to) = (other, machine);
            self.heap
                .after(self.dice.millis(1, 200), Event::Topics { from, to });
            let (from, to) = (machine, other);
            self.heap
                .after(self.dice.millis(1, 200), Event::Topics { from, to });
        }
        Ok(())
    }

    pub(super) fn stop(&mut self, machine: MachineId) -> Verdict {
        let now = self.heap.now();
        let Some(running) = &mut self.machines[machine].running else {
            return Ok(());
        };
        if running.stopping.is_some() || running.frozen.is_some() {
            return Ok(());
        }
        running.stopping = Some(now);
        self.report.fired("graceful stop");
        self.tell(machine, "is asked to stop");
        self.step(machine, Input::Stop)
    }

    /// The node says that it is done; its process ends in peace.
    pub(super) fn stopped(&mut self, machine: MachineId) -> Verdict {
        let Some(running) = &self.machines[machine].running else {
            return Ok(());
        };
        if running.stopping.is_none() {
            let says = format!("machine {machine} stopped unasked");
            return broken("a node stops when it is asked to", None, says);
        }
        self.tell(machine, "stopped");
        self.end_life(machine, true);
        Ok(())
    }

    /// No stop takes too long.
    pub(super) fn check_stops(&self) -> Verdict {
        for machine in &self.machines {
            let stopping = machine.running.as_ref();
            let stopping = stopping.filter(|running| running.frozen.is_none());
            let Some(since) = stopping.and_then(|running| running.stopping) else {
                continue;
            };
            // A disk that takes seconds may add its own time.
            let most = Span(STOP_MAX.0 + 4 * machine.sync_us.1 * 1_000);
            if self.heap.now().since(since) > most {
                let says = format!(
                    "{} was asked to at {} s",
                    machine.name,
                    since.0 / 1_000_000_000
                );
                return broken("a graceful stop is done within 5 s", None, says);
            }
        }
        Ok(())
    }

    pub(super) fn freeze(&mut self, machine: MachineId) {
        let life = self.machines[machine].life;
        let Some(running) = &mut self.machines[machine].running else {
            return;
        };
        if running.frozen.is_some() || running.stopping.is_some() {
            return;
        }
        running.frozen = Some(Vec::new());
        self.report.fired("process frozen");
        self.tell(machine, "freezes");
        let span = self.faults.dice.millis(100, 3_000);
        self.heap.after(span, Event::Thaw { machine, life });
    }

    /// A frozen process goes on with what waited for it.
    pub(super) fn thaw(&mut self, machine: MachineId, life: u64) -> Verdict {
        let found = &mut self.machines[machine];
        let (true, Some(running)) = (found.life == life, &mut found.running) else {
            return Ok(());
        };
        let waiting = running.frozen.take().unwrap_or_default();
        self.step_all(machine, waiting)
    }
}
