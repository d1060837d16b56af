//! What machines ask of their disks, and what becomes of it.

use super::heap::Event;
use super::machine::{Doom, MachineId};
use super::oracle::{Verdict, broken};
use super::world::World;
use crate::node::Input;
use crate::types::LoadRequest;

impl World {
    /// The commit under way is written.
    pub(super) fn write(&mut self, machine: MachineId, life: u64) -> Verdict {
        let found = &mut self.machines[machine];
        let (true, Some(running)) = (found.life == life, &mut found.running) else {
            return Ok(());
        };
        let doomed = running.doomed;
        match doomed {
            Some(Doom::InWrite) => found.disk.cut_power_after(self.dice.between(0, 3)),
            Some(Doom::WriteFails) => found.disk.fail_writes(1),
            Some(Doom::SyncFails | Doom::BeforeSync) | None => {}
        }
        let written = running.write();
        match (doomed, written) {
            (Some(Doom::InWrite), _) => {
                self.report.fired("power cut within a write");
                return self.crash(machine, false, "loses power within a write");
            }
            (Some(Doom::BeforeSync), _) => {
                self.report.fired("power cut between write and sync");
                return self.crash(machine, false, "loses power between a write and its sync");
            }
            (Some(Doom::WriteFails), Err((sequence, error))) => {
                self.report.fired("write fails");
                return self.fail_journal(machine, sequence, error);
            }
            (_, Err((_, error))) => {
                return broken("a healthy disk takes every commit", None, error);
            }
            (_, Ok(())) => {}
        }
        let delay = self.machines[machine].sync_span(&mut self.dice);
        self.heap.after(delay, Event::Sync { machine, life });
        Ok(())
    }

    /// And synced.
    pub(super) fn sync(&mut self, machine: MachineId, life: u64) -> Verdict {
        let found = &mut self.machines[machine];
        let (true, Some(running)) = (found.life == life, &mut found.running) else {
            return Ok(());
        };
        let doomed = running.doomed == Some(Doom::SyncFails);
        if doomed {
            found.disk.fail_syncs(1);
        }
        let Some((sequence, synced)) = running.sync() else {
            return Ok(());
        };
        match synced {
            Ok(()) => {}
            Err(error) if doomed => {
                self.report.fired("sync fails");
                return self.fail_journal(machine, sequence, error);
            }
            Err(error) => return broken("a healthy disk takes every commit", None, error),
        }
        self.oracles.logs.synced(machine);
        self.recycle(machine)?;
        self.step(machine, Input::Persisted { sequence })
    }

    /// Lets go of segments that nobody needs, and writes others anew, sooner or later.
    fn recycle(&mut self, machine: MachineId) -> Verdict {
        let found = &mut self.machines[machine];
        let Some(running) = &mut found.running else {
            return Ok(());
        };
        if !running.wants_recycling() || !self.dice.chance(200) {
            return Ok(());
        }
        let doomed = self.faults.cut_recycling(&mut self.dice);
        if doomed {
            found.disk.cut_power_after(self.dice.between(0, 8));
        }
        let gone = running.recycle();
        if doomed && gone != Ok(0) {
            self.report.fired("power cut within recycling");
            return self.crash(machine, false, "loses power while segments go");
        }
        found.disk.keep_power();
        match gone {
            Ok(gone) => self.report.recycled += gone,
            Err(error) => return broken("a healthy disk lets go of segments", None, error),
        }
        self.compact(machine)
    }

    fn compact(&mut self, machine: MachineId) -> Verdict {
        // Sometimes there is no time for more than one.
        for _ in 0..self.dice.between(1, 4) {
            let doomed = self.faults.cut_compaction(&mut self.dice);
            let found = &mut self.machines[machine];
            let Some(running) = &mut found.running else {
                return Ok(());
            };
            if doomed {
                found.disk.cut_power_after(self.dice.between(0, 12));
            }
            let given_back = running.compact();
            if doomed && given_back != Ok(None) {
                self.report.fired("power cut within compaction");
                return self.crash(machine, false, "loses power as segments are written anew");
            }
            found.disk.keep_power();
            match given_back {
                Ok(None) => break,
                Ok(Some(bytes)) => {
                    self.report.compactions += 1;
                    let text = format!("writes segments anew, which gives back {bytes} bytes");
                    self.tell(machine, text);
                }
                Err(_) if found.rot.is_some() => break,
                Err(error) => return broken("a healthy disk gives back space", None, error),
            }
        }
        self.look(machine, false)
    }

    /// Entries are read back.
    pub(super) fn load(&mut self, machine: MachineId, life: u64, request: &LoadRequest) -> Verdict {
        let found = &self.machines[machine];
        let (true, Some(running)) = (found.life == life, &found.running) else {
            return Ok(());
        };
        let result = running.load(request);
        let (id, failed) = (request.id, result.is_err());
        self.step(machine, Input::Loaded { id, result })?;
        match failed {
            true => self.look(machine, false),
            false => Ok(()),
        }
    }

    /// A commit failed. Nobody knows how much of it is on the disk; the process goes on without its
    /// journal until somebody starts it again.
    fn fail_journal(&mut self, machine: MachineId, sequence: u64, error: String) -> Verdict {
        let found = &mut self.machines[machine];
        found.kept = false;
        let life = found.life;
        let delay = self.dice.millis(100, 4_000);
        self.heap.after(delay, Event::GivenUp { machine, life });
        self.tell(machine, format!("its journal fails: {error}"));
        self.step(machine, Input::PersistFailed { sequence, error })
    }

    /// Somebody starts a node again whose journal failed.
    pub(super) fn give_up(&mut self, machine: MachineId, life: u64) -> Verdict {
        match self.machines[machine].life == life {
            true => self.crash(machine, true, "is stopped, since its journal failed"),
            false => Ok(()),
        }
    }
}
