//! The simulator itself: a few seeds at full length keep every promise, meet faults, and replay
//! exactly. Many more run in `.ci/run`.

use weft::sim::{PUBLISHES, Report, STEPS, Settings, run};

fn settings(seed: u64) -> Settings {
    Settings {
        topology: None,
        seed,
        steps: STEPS,
        publishes: PUBLISHES,
        sabotage: None,
    }
}

fn simulate(seed: u64) -> Report {
    let report = run(&settings(seed));
    if let Some(failure) = &report.failure {
        panic!("seed {seed}: {failure}replay it with:\n  weft simulate --seed {seed}");
    }
    report
}

/// Every promise, on runs that are long enough to break them.
#[test]
fn every_promise_is_kept_through_faults() {
    let (mut faults, mut publishes, mut confirms) = (0, 0, 0);
    // Each shape of a fabric once.
    for seed in 4..8 {
        let report = simulate(seed);
        assert!(report.steps >= STEPS && report.publishes >= PUBLISHES);
        assert!(report.confirms * 10 > report.publishes, "{report:?}");
        assert!(report.elections > 0 && report.delivered > report.confirms);
        assert!(report.signals_delivered > 0);
        publishes += report.publishes;
        confirms += report.confirms;
        faults += report.faults.values().sum::<u64>();
    }
    // A run that is without a quorum for long may confirm little; not all of them.
    assert!(confirms * 2 > publishes, "{confirms} of {publishes}");
    assert!(faults > 100, "only {faults} faults fired");
}

/// The core is deterministic: same inputs, same outputs, on every run.
#[test]
fn one_seed_replays_exactly_and_another_does_not() {
    let first = simulate(7);
    assert_eq!(first, simulate(7));
    assert_ne!(first.trace, simulate(8).trace);
}

/// Every fault that is built in on purpose breaks a promise, and the oracles see it.
#[cfg(feature = "sabotage")]
mod sabotage {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering};

    use weft::sim::{Settings, run};
    use weft::types::Sabotage;

    use super::settings;

    /// A promise is broken within so many seeds.
    const SEEDS: u64 = 200;

    /// The seed to begin with: where a rare fault shows today, so that nobody waits for others.
    fn first(sabotage: Sabotage) -> u64 {
        match sabotage {
            Sabotage::UnseenGap => 13,
            Sabotage::ForgottenTruncation => 34,
            Sabotage::StaleRepair => 39,
            Sabotage::UnsyncedTail | Sabotage::BlindScrub => 47,
            _ => 0,
        }
    }

    /// What noticed it first, and at which seed.
    fn caught(sabotage: Sabotage) -> Option<(u64, String)> {
        (0..SEEDS).find_map(|tried| {
            let seed = (first(sabotage) + tried) % SEEDS;
            let settings = Settings {
                sabotage: Some(sabotage),
                ..settings(seed)
            };
            let by = match catch_unwind(AssertUnwindSafe(|| run(&settings))) {
                Ok(report) => report.failure?.oracle.to_owned(),
                Err(_) => "an assertion of the core".to_owned(),
            };
            Some((seed, by))
        })
    }

    #[test]
    fn every_sabotage_is_caught() {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut missed = Vec::new();
            while let Some(sabotage) = Sabotage::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                match caught(*sabotage) {
                    Some((seed, by)) => eprintln!("{} at seed {seed}: {by}", sabotage.name()),
                    None => missed.push(sabotage.name()),
                }
            }
            missed
        };
        let missed = std::thread::scope(|scope| {
            let other = scope.spawn(work);
            let mut missed = work();
            missed.extend(other.join().expect("no panic"));
            missed
        });
        assert!(missed.is_empty(), "nobody noticed {missed:?}");
    }
}
