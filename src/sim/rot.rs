//! Bits that turn on a disk at rest, the scrubs that find them, and what is made of it.

use std::fmt::Write as _;

use super::heap::{Event, Mend};
use super::machine::{MachineId, Rot};
use super::oracle::{Verdict, broken};
use super::world::World;
use crate::node::Input;
use crate::store::{Disk, DiskFile, Scrubbed};

/// The unit of the journal's blocks.
const PAGE: usize = 4096;

impl World {
    /// Bits of one file of a machine turn, if that is due. Only while all others are as they should
    /// be, as for a folder that is lost: a damage that shows as the node starts is such a loss.
    pub(super) fn rot(&mut self) -> Verdict {
        let victim = self.dice.below(self.machines.len());
        if !self.faults.rot_due || !self.may_lose(victim) {
            return Ok(());
        }
        let found = &mut self.machines[victim];
        let names = found.disk.list().unwrap_or_default();
        let segments = names.iter().filter(|name| name.ends_with(".seg"));
        let segments: Vec<&String> = segments.collect();
        let (Some(newest), Some(running)) = (segments.last(), &mut found.running) else {
            return Ok(());
        };
        let name = match self.dice.below(10) {
            0 if names.iter().any(|name| name == "base") => "base",
            1..=4 => newest.as_str(),
            _ => segments[self.dice.below(segments.len())].as_str(),
        };
        let bytes = match name == newest.as_str() {
            true => before_newest(&found.disk, name),
            false => length(&found.disk, name),
        };
        if bytes == 0 {
            return Ok(());
        }
        self.faults.rot_due = false;
        self.report.fired("bits rot");
        let mut text = format!("bits of {name} rot, of");
        for _ in 0..self.dice.between(1, 8) {
            let at = self.dice.between(0, bytes - 1);
            let count = if self.dice.chance(200) { PAGE } else { 1 };
            for byte in (at..bytes).take(count) {
                found
                    .disk
                    .flip_bit(name, byte * 8 + self.dice.between(0, 7));
            }
            let _ = write!(text, " {count} bytes from {at} on");
        }
        if self.dice.chance(600) {
            self.report.fired("reads misdirected");
            found
                .disk
                .misdirect_reads(0, self.dice.between(1, 4) as u32);
            text.push_str("; reads go astray");
        }
        found.rot = Some(Rot { clean: true });
        self.oracles.rotten.insert(found.name.to_string());
        running.begin_scrub();
        self.tell(victim, text);
        Ok(())
    }

    /// A machine reads a part of its journal, to see whether it is as it was written.
    pub(super) fn scrub(&mut self, machine: MachineId, life: u64) -> Verdict {
        let found = &mut self.machines[machine];
        let (true, Some(running)) = (found.life == life, &mut found.running) else {
            return Ok(());
        };
        let (least, most) = if found.rot.is_some() {
            (10, 200)
        } else {
            (500, 2_000)
        };
        let delay = self.dice.millis(least, most);
        self.heap.after(delay, Event::Scrub { machine, life });
        let scrubbed = match running.scrub() {
            Ok(scrubbed) => scrubbed,
            Err(error) => return broken("a healthy disk is read", None, error),
        };
        match (scrubbed, &mut found.rot) {
            (Scrubbed::Part, _) | (Scrubbed::All, None) => {}
            (Scrubbed::Damage(error), None) => {
                return broken("a healthy disk is sound", None, error.to_string());
            }
            (Scrubbed::Damage(error), Some(rot)) => {
                rot.clean = false;
                self.tell(machine, format!("finds that {error}"));
            }
            (Scrubbed::All, Some(rot)) if rot.clean && running.is_sound() => {
                found.rot = None;
                self.faults.rot_due = self.faults.rots_again(&mut self.dice);
                self.tell(machine, "has a sound disk");
            }
            (Scrubbed::All, Some(rot)) => rot.clean = true,
        }
        self.look(machine, false)
    }

    /// A machine's node is told what is damaged, if that is news or it waits for an answer.
    pub(super) fn look(&mut self, machine: MachineId, awaited: bool) -> Verdict {
        let Some(running) = &mut self.machines[machine].running else {
            return Ok(());
        };
        match running.look(awaited) {
            Ok(Some(damaged)) => self.step(machine, Input::Damaged(damaged)),
            Ok(None) => Ok(()),
            Err(error) => broken("a healthy disk is read", None, error),
        }
    }

    /// A machine writes a damaged segment anew.
    pub(super) fn mend(
        &mut self,
        (machine, life): (MachineId, u64),
        Mend { segment, entries }: &Mend,
    ) -> Verdict {
        if self.machines[machine].life != life {
            return Ok(());
        }
        let doomed = self.faults.cut_compaction(&mut self.dice);
        let found = &mut self.machines[machine];
        let Some(running) = &mut found.running else {
            return Ok(());
        };
        if doomed {
            found.disk.cut_power_after(self.dice.between(0, 12));
        }
        let mended = running.mend(*segment, entries);
        if doomed {
            self.report.fired("power cut within compaction");
            return self.crash(machine, false, "loses power as a segment is mended");
        }
        found.disk.keep_power();
        let count = entries.len();
        self.tell(
            machine,
            match mended {
                Ok(true) => format!("mends segment {segment} with {count} entries of others"),
                Ok(false) => format!("cannot mend segment {segment} yet"),
                Err(error) => format!("cannot mend segment {segment}: {error}"),
            },
        );
        self.report.mended += 1;
        self.look(machine, true)
    }
}

/// How long a file is.
fn length(disk: &crate::store::SimDisk, name: &str) -> u64 {
    let file = disk.open(name);
    file.and_then(|file| file.bytes()).unwrap_or(0)
}

/// Where the second newest commit of a segment begins: what is damaged behind it looks as if it had
/// never been synced.
fn before_newest(disk: &crate::store::SimDisk, name: &str) -> u64 {
    let Ok(file) = disk.open(name) else { return 0 };
    let pages = length(disk, name) / PAGE as u64;
    let mut page = [0; PAGE];
    let mut begins = (1..pages).rev().filter(|number| {
        let read = file.read_at(&mut page, number * PAGE as u64);
        read.is_ok() && page.starts_with(b"wcom")
    });
    begins.nth(1).map_or(0, |number| number * PAGE as u64)
}
