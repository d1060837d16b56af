//! The network between machines: delay, loss, duplication, reordering, and cuts in one or both
//! directions, each per lane. Clients and signals travel in order, as over one TCP connection, and
//! are lost only with it or where libzmq may drop.

use std::collections::{BTreeMap, BTreeSet};

use super::dice::Dice;
use super::machine::MachineId;
use crate::node::Lane;
use crate::types::{Span, Time};

/// Where a frame travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Road {
    /// Between nodes, on one of the two DEALERs.
    Peer(Lane),
    /// From an XPUB to a SUB.
    Signal,
    /// From a SUB to an XPUB: what it wants.
    Interest,
}

/// Every road, to cut all of them.
pub(super) const ROADS: [Road; 4] = [
    Road::Peer(Lane::Control),
    Road::Peer(Lane::Bulk),
    Road::Signal,
    Road::Interest,
];

/// How a road treats frames; permille of frames each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weather {
    /// Shortest way, in microseconds.
    pub(super) delay_us: u64,
    /// What may come on top, in microseconds.
    pub(super) jitter_us: u64,
    /// Lost.
    pub(super) loss: u32,
    /// Arrives twice.
    pub(super) duplicate: u32,
    /// Arrives up to half a second late, past others.
    pub(super) reorder: u32,
}

/// What becomes of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fate {
    /// When copies of it arrive; none if it is lost.
    pub(super) arrivals: Vec<Time>,
    /// What fired, for the count.
    pub(super) fault: Option<&'static str>,
}

/// All roads.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// How many of the faults now under way cut this road.
    cuts: BTreeMap<(MachineId, MachineId, Road), u32>,
    weather: BTreeMap<Road, Weather>,
    /// When the last frame of a road arrives, for those that stay in order.
    last: BTreeMap<(MachineId, MachineId, Road), Time>,
}

/// One direction between two machines on one road.
pub(super) type Cut = (MachineId, MachineId, Road);

impl Weather {
    /// A quiet local network.
    pub(super) const FAIR: Self = Self {
        delay_us: 100,
        jitter_us: 400,
        loss: 0,
        duplicate: 0,
        reorder: 0,
    };
}

impl Network {
    /// Cuts roads; each cut ends with its own `mend`.
    pub(super) fn cut(&mut self, cuts: &BTreeSet<Cut>) {
        for cut in cuts {
            *self.cuts.entry(*cut).or_default() += 1;
        }
    }

    /// Ends what a `cut` began.
    pub(super) fn mend(&mut self, cuts: &BTreeSet<Cut>) {
        for cut in cuts {
            if let Some(count) = self.cuts.get_mut(cut) {
                *count -= 1;
                if *count == 0 {
                    self.cuts.remove(cut);
                }
            }
        }
    }

    /// Whether frames pass.
    pub(super) fn is_open(&self, from: MachineId, to: MachineId, road: Road) -> bool {
        !self.cuts.contains_key(&(from, to, road))
    }

    /// Sets the weather of a road.
    pub(super) fn set_weather(&mut self, road: Road, weather: Weather) {
        self.weather.insert(road, weather);
    }

    /// Fair weather and no cut anywhere.
    pub(super) fn heal(&mut self) {
        self.weather.clear();
        self.cuts.clear();
    }

    /// Sends one frame.
    pub(super) fn send(&mut self, now: Time, cut: Cut, dice: &mut Dice) -> Fate {
        let road = cut.2;
        if self.cuts.contains_key(&cut) {
            return Fate::lost(match road {
                Road::Peer(_) => "frame lost in a split",
                Road::Signal => "signal lost in a split",
                Road::Interest => "interest lost in a split",
            });
        }
        let weather = self.weather.get(&road).copied().unwrap_or(Weather::FAIR);
        let is_peer = matches!(road, Road::Peer(_));
        if dice.chance(weather.loss) {
            return Fate::lost(match is_peer {
                true => "frame lost",
                false => "signal dropped",
            });
        }
        let delay = dice.micros(weather.delay_us, weather.delay_us + weather.jitter_us);
        if is_peer && dice.chance(weather.reorder) {
            let late = Span(delay.0 + dice.millis(1, 500).0);
            return Fate {
                arrivals: vec![now + late],
                fault: Some("frame reordered"),
            };
        }
        let last = self.last.entry(cut).or_default();
        let arrival = (now + delay).max(*last);
        *last = arrival;
        if is_peer && dice.chance(weather.duplicate) {
            let again = arrival + dice.millis(0, 200);
            return Fate {
                arrivals: vec![arrival, again],
                fault: Some("frame duplicated"),
            };
        }
        Fate {
            arrivals: vec![arrival],
            fault: None,
        }
    }
}

impl Fate {
    fn lost(fault: &'static str) -> Self {
        Self {
            arrivals: Vec::new(),
            fault: Some(fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BULK: Road = Road::Peer(Lane::Bulk);

    #[test]
    fn a_cut_is_one_way_and_counted() {
        let mut network = Network::default();
        let cut = BTreeSet::from([(0, 1, BULK)]);
        let mut dice = Dice::new(1, 0);
        network.cut(&cut);
        network.cut(&cut);
        network.mend(&cut);
        assert!(
            network
                .send(Time(0), (0, 1, BULK), &mut dice)
                .arrivals
                .is_empty()
        );
        assert_eq!(
            network
                .send(Time(0), (1, 0, BULK), &mut dice)
                .arrivals
                .len(),
            1
        );
        network.mend(&cut);
        assert!(network.is_open(0, 1, BULK));
    }

    #[test]
    fn signals_keep_their_order_in_any_weather() {
        let mut network = Network::default();
        let mut dice = Dice::new(7, 0);
        network.set_weather(
            Road::Signal,
            Weather {
                jitter_us: 90_000,
                reorder: 900,
                duplicate: 900,
                ..Weather::FAIR
            },
        );
        let mut last = Time(0);
        for sent in 0..200u64 {
            let fate = network.send(Time(sent * 1_000), (0, 1, Road::Signal), &mut dice);
            assert_eq!(fate.arrivals.len(), 1);
            assert!(fate.arrivals[0] >= last);
            last = fate.arrivals[0];
        }
    }
}
