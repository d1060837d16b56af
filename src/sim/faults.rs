//! What goes wrong, and when. Each seed draws the kinds of fault that it may meet, so that some
//! runs meet one kind often and others meet all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::dice::Dice;
use super::heap::Event;
use super::machine::{Doom, MachineId, SYNC_US};
use super::network::{Cut, ROADS, Road, Weather};
use super::oracle::Verdict;
use super::world::World;
use crate::node::{Input, Lane};
use crate::types::Time;

/// The kinds of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Kill,
    PowerCut,
    PowerCutInStep,
    InCommit(Doom),
    PowerCutInRecycling,
    PowerCutInStart,
    PowerCutOfSeveral,
    PowerCutOfAll,
    Away,
    FolderLost,
    Rot,
    Stop,
    Freeze,
    Split,
    SplitOneWay,
    SplitLane,
    Weather,
    SignalWeather,
    FullPipes,
    CutShort,
    SlowDisk,
    FullDisk,
    WallJump,
    Drift,
    ClientCut,
    Noise,
}

const KINDS: [Kind; 31] = [
    Kind::Kill,
    Kind::PowerCut,
    Kind::PowerCutInStep,
    Kind::InCommit(Doom::InWrite),
    Kind::InCommit(Doom::BeforeSync),
    Kind::InCommit(Doom::WriteFails),
    Kind::InCommit(Doom::SyncFails),
    Kind::FullDisk,
    Kind::PowerCutInRecycling,
    Kind::PowerCutInStart,
    Kind::PowerCutOfSeveral,
    Kind::PowerCutOfAll,
    Kind::Away,
    // Twice, since they wait until they can be.
    Kind::FolderLost,
    Kind::FolderLost,
    Kind::Rot,
    Kind::Rot,
    Kind::Stop,
    Kind::Freeze,
    Kind::Split,
    Kind::SplitOneWay,
    Kind::SplitLane,
    Kind::Weather,
    Kind::SignalWeather,
    Kind::FullPipes,
    Kind::CutShort,
    Kind::SlowDisk,
    Kind::WallJump,
    Kind::Drift,
    Kind::ClientCut,
    Kind::Noise,
];

/// A fault that lasts.
#[derive(Debug)]
enum Lasting {
    Cuts(BTreeSet<Cut>),
    Weather(Vec<Road>),
    SlowDisk(MachineId),
    FullDisk(MachineId),
    FullPipes,
    CutShort,
}

/// The faults of one run.
#[derive(Debug)]
pub(super) struct Faults {
    pub(super) dice: Dice,
    enabled: Vec<Kind>,
    lasting: BTreeMap<u64, Lasting>,
    next: u64,
    /// Milliseconds between two faults, on average.
    pace_ms: u64,
    machines: usize,
    /// A data folder is lost as soon as that leaves a majority of what it holds.
    pub(super) folder_due: bool,
    /// And so with bits that rot.
    pub(super) rot_due: bool,
    pub(super) over: bool,
}

impl Faults {
    /// The faults of this seed.
    pub(super) fn new(seed: u64, machines: usize) -> Self {
        let mut dice = Dice::new(seed, 1);
        let share = 200 + dice.between(0, 800) as u32;
        let mut enabled = KINDS.to_vec();
        enabled.retain(|_| dice.chance(share));
        Self {
            pace_ms: 200 + dice.between(0, 2_500),
            dice,
            enabled,
            lasting: BTreeMap::new(),
            next: 0,
            machines,
            folder_due: false,
            rot_due: false,
            over: false,
        }
    }

    /// Whether the next droppable frame finds its client's pipe full.
    pub(super) fn pipes_are_full(&self, dice: &mut Dice) -> bool {
        let full = |lasting: &Lasting| matches!(lasting, Lasting::FullPipes);
        self.lasting.values().any(full) && dice.chance(300)
    }

    /// Whether the power goes while a machine lets go of segments.
    pub(super) fn cut_recycling(&self, dice: &mut Dice) -> bool {
        let enabled = self.enabled.contains(&Kind::PowerCutInRecycling);
        enabled && !self.over && dice.chance(200)
    }

    /// Whether the power goes while a machine writes segments anew.
    pub(super) fn cut_compaction(&self, dice: &mut Dice) -> bool {
        let enabled = self.enabled.contains(&Kind::PowerCutInRecycling);
        enabled && !self.over && dice.chance(100)
    }

    /// Whether a read goes astray as a machine starts.
    pub(super) fn reads_astray(&self, dice: &mut Dice) -> bool {
        self.enabled.contains(&Kind::Rot) && !self.over && dice.chance(100)
    }

    /// A disk is to lose something, as soon as it may.
    fn fall_due(&mut self, kind: Kind) {
        match kind {
            Kind::Rot => self.rot_due = true,
            _ => self.folder_due = true,
        }
    }

    /// Whether bits rot again, now that a disk is sound.
    pub(super) fn rots_again(&self, dice: &mut Dice) -> bool {
        self.enabled.contains(&Kind::Rot) && !self.over && dice.chance(700)
    }

    /// Whether the next frame between nodes is cut short.
    pub(super) fn cuts_short(&self, dice: &mut Dice) -> bool {
        let short = |lasting: &Lasting| matches!(lasting, Lasting::CutShort);
        self.lasting.values().any(short) && dice.chance(50)
    }

    fn victim(&mut self) -> MachineId {
        self.dice.below(self.machines)
    }

    /// A random half of the machines, neither empty nor all.
    fn half(&mut self) -> BTreeSet<MachineId> {
        let all: Vec<MachineId> = (0..self.machines).collect();
        let mut half: BTreeSet<MachineId> = all
            .iter()
            .copied()
            .filter(|_| self.dice.chance(500))
            .collect();
        if half.is_empty() || half.len() == all.len() {
            half = BTreeSet::from([self.victim()]);
        }
        half
    }

    fn split(&mut self, roads: &[Road], both_ways: bool) -> BTreeSet<Cut> {
        let half = self.half();
        let mut cuts = BTreeSet::new();
        for from in 0..self.machines {
            for to in 0..self.machines {
                let leaves = half.contains(&from) && !half.contains(&to);
                let enters = !half.contains(&from) && half.contains(&to);
                if leaves || (both_ways && enters) {
                    cuts.extend(roads.iter().map(|road| (from, to, *road)));
                }
            }
        }
        cuts
    }
}

impl World {
    /// Something goes wrong now, and the next thing later.
    pub(super) fn next_fault(&mut self) -> Verdict {
        if self.faults.over {
            return Ok(());
        }
        let pace = self.faults.pace_ms;
        let delay = self.faults.dice.millis(pace / 4, pace * 2);
        self.heap.after(delay, Event::Fault);
        if self.faults.enabled.is_empty() || self.faults.lasting.len() > 3 {
            return Ok(());
        }
        let kind = *self.faults.dice.pick(&self.faults.enabled);
        self.inflict(kind)
    }

    fn inflict(&mut self, kind: Kind) -> Verdict {
        let victim = self.faults.victim();
        match kind {
            Kind::Kill => {
                self.report.fired("process killed");
                self.crash(victim, true, "is killed")
            }
            Kind::PowerCut => {
                self.report.fired("power cut");
                self.crash(victim, false, "loses power")
            }
            Kind::PowerCutInStep => {
                let fuse = self.faults.dice.between(0, 40);
                if let Some(running) = &mut self.machines[victim].running {
                    running.fuse = Some(fuse);
                }
                Ok(())
            }
            // It has its own occasion, too rare to wait for at a given time.
            Kind::PowerCutInRecycling => Ok(()),
            Kind::InCommit(doom) => {
                if let Some(running) = &mut self.machines[victim].running {
                    running.doomed = Some(doom);
                }
                Ok(())
            }
            Kind::PowerCutInStart => {
                self.machines[victim].fails_to_start = true;
                self.report.fired("power cut");
                self.crash(victim, false, "loses power")
            }
            Kind::PowerCutOfSeveral => {
                self.report.fired("power cut of several");
                let half = self.faults.half();
                self.crash_all(half, "loses power with others")
            }
            Kind::PowerCutOfAll => {
                self.report.fired("power cut of all");
                self.crash_all(0..self.machines.len(), "loses power with all others")
            }
            Kind::Away => self.send_away(victim),
            Kind::FolderLost | Kind::Rot => {
                self.faults.fall_due(kind);
                Ok(())
            }
            Kind::Stop => self.stop(victim),
            Kind::Freeze => {
                self.freeze(victim);
                Ok(())
            }
            Kind::WallJump | Kind::Drift => {
                self.bend_clock(kind, victim);
                Ok(())
            }
            Kind::ClientCut => {
                let seat = self.faults.dice.below(self.seats.len());
                if let Some(connection) = self.seats[seat] {
                    self.report.fired("client cut off");
                    self.let_go(connection);
                }
                Ok(())
            }
            Kind::Noise => self.noise(victim),
            lasting => {
                self.begin_lasting(lasting, victim);
                Ok(())
            }
        }
    }

    fn crash_all(&mut self, victims: impl IntoIterator<Item = MachineId>, how: &str) -> Verdict {
        for victim in victims {
            self.crash(victim, false, how)?;
        }
        Ok(())
    }

    /// A machine stays without power for long.
    fn send_away(&mut self, victim: MachineId) -> Verdict {
        // Two at once would leave nobody to go on without them.
        if self.machines.iter().any(|machine| machine.away) {
            return Ok(());
        }
        self.report.fired("node away");
        self.machines[victim].away = true;
        self.crash(victim, false, "loses power for long")
    }

    fn begin_lasting(&mut self, kind: Kind, victim: MachineId) {
        let faults = &mut self.faults;
        let (name, lasting) = match kind {
            Kind::Split => ("split", Lasting::Cuts(faults.split(&ROADS, true))),
            Kind::SplitOneWay => ("split one way", Lasting::Cuts(faults.split(&ROADS, false))),
            Kind::SplitLane => {
                let lane = *faults.dice.pick(&[Lane::Control, Lane::Bulk]);
                let both = faults.dice.chance(500);
                let cuts = faults.split(&[Road::Peer(lane)], both);
                ("split of one lane", Lasting::Cuts(cuts))
            }
            Kind::Weather => {
                let lanes = [Road::Peer(Lane::Control), Road::Peer(Lane::Bulk)];
                let roads = match faults.dice.below(3) {
                    0 => vec![lanes[0]],
                    1 => vec![lanes[1]],
                    _ => lanes.to_vec(),
                };
                ("bad weather", Lasting::Weather(roads))
            }
            Kind::SignalWeather => ("signals drop", Lasting::Weather(vec![Road::Signal])),
            Kind::SlowDisk => ("slow disk", Lasting::SlowDisk(victim)),
            Kind::FullDisk => ("full disk", Lasting::FullDisk(victim)),
            Kind::FullPipes => ("clients read slowly", Lasting::FullPipes),
            _ => ("frames are cut short", Lasting::CutShort),
        };
        let span = faults.dice.millis(300, 12_000);
        let number = faults.next;
        faults.next += 1;
        let text = format!("{name} begins: {lasting:?}");
        match &lasting {
            Lasting::Cuts(cuts) => self.network.cut(cuts),
            Lasting::Weather(roads) => {
                for road in roads {
                    let dice = &mut self.faults.dice;
                    let bad = Weather {
                        delay_us: dice.between(50, 20_000),
                        jitter_us: dice.between(0, 100_000),
                        loss: dice.between(0, 300) as u32,
                        duplicate: dice.between(0, 200) as u32,
                        reorder: dice.between(0, 200) as u32,
                    };
                    self.network.set_weather(*road, bad);
                }
            }
            Lasting::SlowDisk(machine) => {
                let slow = self.faults.dice.between(50_000, 4_000_000);
                self.machines[*machine].sync_us = (slow / 2, slow);
            }
            Lasting::FullDisk(machine) => self.machines[*machine].full = true,
            Lasting::FullPipes | Lasting::CutShort => {}
        }
        self.report.fired(name);
        self.story.tell(self.heap.now(), "-", None, text);
        self.faults.lasting.insert(number, lasting);
        self.heap.after(span, Event::FaultEnds { number });
    }

    /// A lasting fault is over.
    pub(super) fn end_fault(&mut self, number: u64) {
        let Some(lasting) = self.faults.lasting.remove(&number) else {
            return;
        };
        let text = format!("over: {lasting:?}");
        self.story.tell(self.heap.now(), "-", None, text);
        match lasting {
            Lasting::Cuts(cuts) => {
                self.network.mend(&cuts);
                self.reconnect_signals();
            }
            Lasting::Weather(roads) => {
                for road in roads {
                    self.network.set_weather(road, Weather::FAIR);
                }
            }
            Lasting::SlowDisk(machine) => self.machines[machine].sync_us = SYNC_US,
            Lasting::FullDisk(machine) => self.machines[machine].full = false,
            Lasting::FullPipes | Lasting::CutShort => {}
        }
    }

    /// Everything heals; nothing goes wrong any more.
    pub(super) fn heal(&mut self) {
        self.faults.over = true;
        (self.faults.folder_due, self.faults.rot_due) = (false, false);
        let lasting: Vec<u64> = self.faults.lasting.keys().copied().collect();
        for number in lasting {
            self.end_fault(number);
        }
        self.network.heal();
        self.reconnect_signals();
        for machine in &mut self.machines {
            if let Some(running) = &mut machine.running {
                running.fuse = None;
                running.doomed = None;
            }
        }
        let text = "all is healed".to_owned();
        self.story.tell(self.heap.now(), "-", None, text);
    }

    fn bend_clock(&mut self, kind: Kind, victim: MachineId) {
        let now: Time = self.heap.now();
        let dice = &mut self.faults.dice;
        let clock = &mut self.machines[victim].clock;
        if kind == Kind::Drift {
            clock.drift(now, dice.between(0, 100_000) as i64 - 50_000);
            self.report.fired("clock drifts");
            return;
        }
        let by = match dice.below(3) {
            0 => dice.between(0, 2_000),
            1 => dice.between(0, 3_600_000),
            _ => dice.between(0, 200_000_000),
        } as i64;
        let (by, name) = match dice.chance(500) {
            true => (by, "calendar set forward"),
            false => (-by, "calendar set back"),
        };
        clock.jump(by);
        self.report.fired(name);
        self.tell(victim, format!("{name} by {} ms", by.abs()));
    }

    fn noise(&mut self, victim: MachineId) -> Verdict {
        let count = self.faults.dice.below(300);
        let frame = self.faults.dice.bytes(count);
        self.report.fired("noise between nodes");
        match self.faults.dice.chance(500) {
            true => self.step(
                victim,
                Input::PeerFrame {
                    principal: None,
                    frame: frame.into(),
                },
            ),
            false => self.step(
                victim,
                Input::SignalFrame {
                    topic: crate::wire::signal::topic("ticks.#"),
                    frame: frame.into(),
                },
            ),
        }
    }

    /// Signal sockets that are no longer cut off connect anew.
    fn reconnect_signals(&mut self) {
        for from in 0..self.machines.len() {
            for to in (0..self.machines.len()).filter(|to| *to != from) {
                let delay = self.dice.millis(1, 300);
                self.heap.after(delay, Event::Topics { from, to });
            }
        }
    }
}
