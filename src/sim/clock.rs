//! A machine's two clocks, neither of which is right: the monotonic one runs a little fast or slow,
//! the calendar is off by a skew and may be set in either direction at any time.

use super::dice::Dice;
use crate::types::{Now, Span, Time, Wall};

/// The calendar at the start of every run: 2026-01-01 00:00:00 UTC.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// The clocks of one machine.
#[derive(Debug)]
pub(super) struct Clock {
    /// Parts per million added to each second.
    drift_ppm: i64,
    /// Where the present drift began, on the true and on the machine's own time.
    since: (Time, Time),
    /// Milliseconds added to the calendar.
    skew_ms: i64,
}

impl Clock {
    /// A clock that is a little off: drift within 2 %, skew within two seconds.
    pub(super) fn new(dice: &mut Dice) -> Self {
        Self {
            drift_ppm: dice.between(0, 40_000) as i64 - 20_000,
            since: (Time(0), Time(dice.between(0, 1 << 40))),
            skew_ms: dice.between(0, 4_000) as i64 - 2_000,
        }
    }

    /// What the machine reads at the true instant `time`.
    pub(super) fn read(&self, time: Time) -> Now {
        let wall = EPOCH_MS as i64 + (time.0 / 1_000_000) as i64 + self.skew_ms;
        Now {
            mono: self.mono(time),
            wall: Wall(wall.max(0) as u64),
        }
    }

    /// How long `span` on this machine's monotonic clock truly takes.
    pub(super) fn truly(&self, span: Span) -> Span {
        let rate = 1_000_000 + self.drift_ppm;
        Span((u128::from(span.0) * 1_000_000 / rate.max(1) as u128) as u64)
    }

    /// Sets the calendar forward or back.
    pub(super) fn jump(&mut self, by_ms: i64) {
        self.skew_ms += by_ms;
    }

    /// Runs faster or slower from now on; what was read so far stands.
    pub(super) fn drift(&mut self, time: Time, drift_ppm: i64) {
        self.since = (time, self.mono(time));
        self.drift_ppm = drift_ppm;
    }

    fn mono(&self, time: Time) -> Time {
        let passed = i128::from(time.0.saturating_sub(self.since.0.0));
        let own = passed + passed * i128::from(self.drift_ppm) / 1_000_000;
        Time(self.since.1.0 + own.max(0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_calendar_jumps_and_the_monotonic_clock_never_does() {
        let mut clock = Clock::new(&mut Dice::new(1, 0));
        let mut last = clock.read(Time(0)).mono;
        for second in 1..100u64 {
            let time = Time(second * 1_000_000_000);
            let before = clock.read(time).wall;
            clock.drift(time, 50_000 - 1_000 * second as i64);
            clock.jump(if second % 2 == 0 {
                3_600_000
            } else {
                -7_200_000
            });
            assert_ne!(clock.read(time).wall, before);
            assert!(clock.read(time).mono >= last);
            last = clock.read(time).mono;
        }
    }
}
