//! Promise 2, the disk's part: whatever was synced is there after any crash, whole and in order;
//! of what was not, a prefix at most.

use weft::store::{SimDisk, StoreError};

use crate::journal_kit::{Work, assert_loads, open};

/// Enough for some segments, few enough to cut the power at every step.
const COMMITS: usize = 30;

/// Commits until the disk fails; says how many are known to be synced.
fn work_until_it_fails(
    work: &mut Work,
    disk: &SimDisk,
    commits: usize,
    synced: &mut usize,
) -> Result<(), StoreError> {
    let (mut journal, _) = open(disk)?;
    let reader = journal.reader();
    for _ in 0..commits {
        if journal.wants_spare() {
            reader.prepare_spare()?;
        }
        journal.write(&work.commit())?;
        journal.sync()?;
        *synced = work.commits.len();
    }
    Ok(())
}

/// Reopens and says how many commits of `work` are there: all that were synced, and a prefix.
fn assert_prefix(work: &Work, disk: &SimDisk, synced: usize, context: &str) -> usize {
    let (journal, items) = open(disk).unwrap_or_else(|error| panic!("{context}: {error}"));
    // One commit is unsynced at a time, so that nothing else can be there.
    let found = (synced..=work.commits.len()).rfind(|count| work.items(*count) == items);
    let found = found.unwrap_or_else(|| {
        panic!(
            "{context}: {} items are no prefix of {} commits from {synced} on",
            items.len(),
            work.commits.len()
        )
    });
    drop(journal);
    found
}

#[test]
fn a_crash_at_every_step_keeps_what_was_synced() {
    let mut lost_tail = 0;
    let mut torn = 0;
    for data_max in [300, 4_000] {
        let disk = SimDisk::new(7);
        work_until_it_fails(&mut Work::new(7, data_max), &disk, COMMITS, &mut 0)
            .expect("no faults");
        let changes = disk.changes();
        for cut in 0..changes {
            let context = format!("data up to {data_max}, power cut at change {cut}");
            let disk = SimDisk::new(cut);
            let mut work = Work::new(7, data_max);
            let mut synced = 0;
            disk.cut_power_after(cut);
            work_until_it_fails(&mut work, &disk, COMMITS, &mut synced)
                .expect_err("the power was cut");
            disk.crash();
            let found = assert_prefix(&work, &disk, synced, &context);
            lost_tail += usize::from(found < work.commits.len());
            // What was found once is there for good.
            disk.crash();
            let again = assert_prefix(&work, &disk, found, &context);
            assert_eq!(again, found, "{context}");
            torn += disk.counts().pages_torn;
        }
    }
    assert!(lost_tail > 10, "{lost_tail} crashes lost a tail");
    assert!(torn > 10, "{torn} pages were torn");
}

#[test]
fn a_crash_while_opening_keeps_what_was_synced() {
    for seed in 0..50 {
        let disk = SimDisk::new(seed);
        let mut work = Work::new(seed, 3_900);
        let mut synced = 0;
        disk.cut_power_after(40 + seed);
        let end = work_until_it_fails(&mut work, &disk, 80, &mut synced);
        assert!(end.is_err(), "seed {seed}: the power was cut");
        disk.crash();
        for cut in 0.. {
            disk.cut_power_after(cut);
            let opened = open(&disk).is_ok();
            disk.crash();
            if opened {
                break;
            }
        }
        assert_prefix(&work, &disk, synced, &format!("seed {seed}"));
    }
}

#[test]
fn life_goes_on_after_many_crashes() {
    for seed in 0..15 {
        let disk = SimDisk::new(seed);
        let mut work = Work::new(seed, 2_500);
        for round in 0..12 {
            let context = format!("seed {seed}, round {round}");
            let mut synced = work.commits.len();
            disk.cut_power_after(3 + (seed * 7 + round * 13) % 50);
            let end = work_until_it_fails(&mut work, &disk, 100, &mut synced);
            assert!(end.is_err(), "{context}: the power was cut");
            if round % 3 == 0 {
                disk.kill();
            }
            disk.crash();
            let found = assert_prefix(&work, &disk, synced, &context);
            work.forget_after(found);
        }
        let (journal, _) = open(&disk).expect("the last opening");
        assert_loads(&journal, &work.model);
    }
}

#[test]
fn a_commit_whose_sync_failed_is_written_anew_before_it_is_believed() {
    let mut believed = 0;
    for seed in 0..60 {
        let disk = SimDisk::new(seed);
        let mut work = Work::new(seed, 3_900);
        let (mut journal, _) = open(&disk).expect("an empty disk");
        for _ in 0..5 {
            journal.write(&work.commit()).expect("a write");
            journal.sync().expect("a sync");
        }
        journal.write(&work.commit()).expect("a write");
        disk.fail_syncs(1);
        journal.sync().expect_err("the sync fails");
        // The process dies of it; the system's cache still shows the commit.
        disk.kill();
        let found = assert_prefix(&work, &disk, 5, "after the failed sync");
        believed += found - 5;
        disk.crash();
        assert_prefix(&work, &disk, found, "after the loss of power");
    }
    assert!(believed > 10, "{believed} unsynced commits were believed");
}

#[test]
fn one_seed_is_one_disaster() {
    let run = |seed| {
        let disk = SimDisk::new(seed);
        let mut work = Work::new(1, 3_000);
        disk.cut_power_after(50);
        let end = work_until_it_fails(&mut work, &disk, COMMITS, &mut 0);
        disk.crash();
        let (_, items) = open(&disk).expect("a journal");
        (end, items, disk.counts(), disk.take_elapsed())
    };
    for seed in 0..10 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    let counts: Vec<_> = (0..10).map(|seed| run(seed).2).collect();
    assert!(
        counts.iter().any(|other| *other != counts[0]),
        "seeds differ"
    );
}
