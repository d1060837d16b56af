//! The simulator itself: a few seeds at full length keep every promise, meet faults, and replay
//! exactly. Many more run in `.ci/run`.

use std::sync::Arc;

use weft::sim::{PUBLISHES, Report, STEPS, Settings, run, topology};

fn simulate(seed: u64) -> Report {
    let report = run(&Settings {
        topology: Arc::new(topology()),
        seed,
        steps: STEPS,
        publishes: PUBLISHES,
    });
    if let Some(failure) = &report.failure {
        panic!("seed {seed}: {failure}replay it with:\n  weft simulate --seed {seed}");
    }
    report
}

/// Every promise, on runs that are long enough to break them.
#[test]
fn every_promise_is_kept_through_faults() {
    let (mut faults, mut publishes, mut confirms) = (0, 0, 0);
    for seed in 0..3 {
        let report = simulate(seed);
        assert!(report.steps >= STEPS && report.publishes >= PUBLISHES);
        assert!(report.elections > 0 && report.delivered > report.confirms);
        assert!(report.signals_delivered > 0);
        publishes += report.publishes;
        confirms += report.confirms;
        faults += report.faults.values().sum::<u64>();
    }
    // A run whose partitions are without a quorum for long may confirm little; not all of them.
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
