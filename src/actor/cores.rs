//! Which cores a node's threads may run on. A message passes several of them, and to wake one on
//! another core costs more than most of what they do: 30 to 60 us where that core sleeps. So the
//! threads that hand work to each other share a core while one is enough, and have all that are
//! allowed otherwise. It is the first of these for the first node of the topology, the second for
//! the second, and so on, so that the nodes of one machine share it out.
//!
//! Only where the process is the node's own: of a service that embeds one nothing is touched.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_setaffinity};
use tokio::time::{Interval, MissedTickBehavior};

use super::disk::WRITER;

/// How often the threads are looked at. So long a sudden load has one core only.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// They share a core if they never asked for more than this much of one, in percent...
const ENOUGH: u128 = 60;

/// ...for so long, or longer after it was not enough soon after...
const SETTLED: Duration = Duration::from_secs(1);

/// ...and at most so long...
const SETTLED_MAX: Duration = Duration::from_secs(60);

/// ...until they ask for more than this.
const CROWDED: u128 = 80;

/// How libzmq names the threads that move bytes, after a prefix of its own.
const CARRIER: &str = "/IO/";

/// Lets the threads of this process that a message passes share a core while one is enough: the one
/// at `position` of those allowed. To be awaited on the node's own thread; ends where the system
/// does not say what this needs to know.
pub(super) async fn share(position: usize) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The disk's threads start after this.
    looks.tick().await;
    looks.tick().await;
    let why = match threads() {
        Ok(threads) => {
            let mut cores = Cores::new(position, threads);
            let Err(why) = cores.go_on(looks).await;
            if let Err(why) = cores.free() {
                tracing::warn!("the node's threads are left on one core: {why}");
            }
            why
        }
        Err(why) => why,
    };
    tracing::info!("the node's threads stay on the cores that the system gives them: {why}");
}

/// When to share a core, and when not to.
#[derive(Debug)]
struct Judge {
    shares: bool,
    /// For how long it has been so, or for how long a core would have been enough.
    lasts: Duration,
    /// How long it must have been enough next time.
    settles: Duration,
}

/// What changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Share,
    Free,
}

impl Judge {
    fn new() -> Self {
        Self {
            shares: false,
            lasts: Duration::ZERO,
            settles: SETTLED,
        }
    }

    fn look(&mut self, used: Used) -> Option<Change> {
        self.lasts += used.span;
        let change = match self.shares {
            true if used.wants(CROWDED) => {
                self.settles = match self.lasts < SETTLED_MAX {
                    true => (self.settles * 2).min(SETTLED_MAX),
                    false => SETTLED,
                };
                Some(Change::Free)
            }
            true => None,
            false if used.wants(ENOUGH) => {
                self.lasts = Duration::ZERO;
                None
            }
            false => (self.lasts >= self.settles).then_some(Change::Share),
        };
        if let Some(change) = change {
            self.shares = change == Change::Share;
            self.lasts = Duration::ZERO;
        }
        change
    }
}

/// The cores of the node's threads.
struct Cores {
    position: usize,
    /// The node's own, libzmq's that move bytes and the disk's that writes. No confirm waits for
    /// the others, and they take long.
    threads: Vec<Pid>,
    /// The one they share, and all that they may have.
    on: Option<(CpuSet, CpuSet)>,
}

impl Cores {
    fn new(position: usize, threads: Vec<Pid>) -> Self {
        Self {
            position,
            threads,
            on: None,
        }
    }

    /// Until something cannot be read or done.
    async fn go_on(&mut self, mut looks: Interval) -> io::Result<Infallible> {
        let mut judge = Judge::new();
        let mut before = Times::now(&self.threads)?;
        loop {
            looks.tick().await;
            let now = Times::now(&self.threads)?;
            match judge.look(now.since(&before)) {
                Some(Change::Share) => self.share()?,
                Some(Change::Free) => self.free()?,
                None => {}
            }
            before = now;
        }
    }

    fn share(&mut self) -> io::Result<()> {
        let allowed = sched_getaffinity(None)?;
        let all = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        let all: Vec<usize> = all.collect();
        if all.len() > 1 {
            let mut core = CpuSet::new();
            core.set(all[self.position % all.len()]);
            self.on = Some((core, allowed));
            self.place(&core)?;
        }
        Ok(())
    }

    fn free(&mut self) -> io::Result<()> {
        let Some((core, allowed)) = self.on else {
            return Ok(());
        };
        // Whoever has placed the threads elsewhere meanwhile knows better.
        if sched_getaffinity(None)? == core {
            self.place(&allowed)?;
        }
        self.on = None;
        Ok(())
    }

    fn place(&self, cores: &CpuSet) -> io::Result<()> {
        for thread in &self.threads {
            sched_setaffinity(Some(*thread), cores)?;
        }
        Ok(())
    }
}

/// What has been used up to a moment.
struct Times {
    at: Instant,
    /// The time that the threads ran.
    ran: Duration,
    /// The time that this thread could have run, had nobody else had its core.
    waited: Duration,
}

/// What was used between two moments.
#[derive(Debug, Clone, Copy)]
struct Used {
    span: Duration,
    ran: Duration,
    waited: Duration,
}

impl Times {
    fn now(threads: &[Pid]) -> io::Result<Self> {
        let mut times = Self {
            at: Instant::now(),
            ran: Duration::ZERO,
            waited: Duration::ZERO,
        };
        for thread in threads {
            let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat"))?;
            // <https://docs.kernel.org/scheduler/sched-stats.html>: on the processor, then waiting
            // for it, in nanoseconds.
            let mut spans = text.split_whitespace().map(str::parse);
            let (Some(Ok(ran)), Some(Ok(waited))) = (spans.next(), spans.next()) else {
                return Err(io::Error::other(format!("schedstat holds {text:?}")));
            };
            times.ran += Duration::from_nanos(ran);
            if *thread == gettid() {
                times.waited = Duration::from_nanos(waited);
            }
        }
        Ok(times)
    }

    fn since(&self, before: &Self) -> Used {
        Used {
            span: self.at.saturating_duration_since(before.at),
            ran: self.ran.saturating_sub(before.ran),
            waited: self.waited.saturating_sub(before.waited),
        }
    }
}

impl Used {
    /// Whether the threads asked for more than this much of a core: what they had, and what this
    /// one, which all messages pass, did not get.
    fn wants(self, percent: u128) -> bool {
        (self.ran + self.waited).as_nanos() * 100 > self.span.as_nanos() * percent
    }
}

/// The threads of this process that a message passes.
fn threads() -> io::Result<Vec<Pid>> {
    let (mut found, mut carriers, mut writers) = (vec![gettid()], 0, 0);
    for entry in fs::read_dir("/proc/self/task")? {
        let entry = entry?;
        // One that has ended meanwhile has no name.
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let (carries, writes) = (name.contains(CARRIER), name.trim_end() == WRITER);
        carriers += usize::from(carries);
        writers += usize::from(writes);
        let number = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok());
        found.extend(number.and_then(Pid::from_raw).filter(|_| carries || writes));
    }
    match (carriers, writers) {
        (1.., 1) => Ok(found),
        _ => Err(io::Error::other("it does not tell them apart")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one look finds where so many percent of a core were used, and waited for.
    fn used(ran: u64, waited: u64) -> Used {
        let of = |percent: u64| LOOK_EVERY * u32::try_from(percent).expect("few") / 100;
        Used {
            span: LOOK_EVERY,
            ran: of(ran),
            waited: of(waited),
        }
    }

    /// So many looks that find the same: the first change, and after how long it came.
    fn first(judge: &mut Judge, used: Used, looks: u32) -> Option<(Change, Duration)> {
        (1..=looks).find_map(|n| Some((judge.look(used)?, LOOK_EVERY * n)))
    }

    const MINUTE: u32 = 1_200;

    #[test]
    fn a_core_is_shared_once_it_was_enough_for_a_second() {
        let mut judge = Judge::new();
        assert_eq!(first(&mut judge, used(61, 0), MINUTE), None);
        assert_eq!(first(&mut judge, used(40, 25), MINUTE), None);
        assert_eq!(first(&mut judge, used(50, 5), 19), None);
        // A single look that finds more, and the second begins anew.
        assert_eq!(judge.look(used(90, 0)), None);
        let shared = first(&mut judge, used(50, 5), MINUTE);
        assert_eq!(shared, Some((Change::Share, SETTLED)));
        // Between the two nothing changes.
        assert_eq!(first(&mut judge, used(70, 9), MINUTE), None);
    }

    #[test]
    fn the_first_look_that_finds_too_much_or_a_core_that_others_have_frees_the_threads() {
        for too_much in [used(95, 0), used(5, 80), used(50, 40)] {
            let mut judge = Judge::new();
            assert!(first(&mut judge, used(0, 0), MINUTE).is_some());
            assert_eq!(judge.look(too_much), Some(Change::Free));
        }
    }

    #[test]
    fn what_was_not_enough_soon_is_tried_again_later_and_later() {
        let mut judge = Judge::new();
        let mut waits = Vec::new();
        for _ in 0..8 {
            let shared = first(&mut judge, used(2, 0), 2 * MINUTE);
            waits.push(shared.map_or(0, |(_, after)| after.as_secs()));
            assert_eq!(judge.look(used(1, 95)), Some(Change::Free));
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60]);
        // One that lasted is tried again soon.
        assert!(first(&mut judge, used(2, 0), 2 * MINUTE).is_some());
        assert_eq!(first(&mut judge, used(2, 0), MINUTE), None);
        assert_eq!(judge.look(used(99, 0)), Some(Change::Free));
        let shared = first(&mut judge, used(2, 0), MINUTE);
        assert_eq!(shared, Some((Change::Share, SETTLED)));
    }
}
