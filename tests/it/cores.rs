//! The cores that the threads of real nodes may run on.

use std::collections::BTreeMap;
use std::fs;

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

use crate::skips::two_cores;
use crate::support::{Fabric, Process, Speaker, wait_until};

/// What each thread of a node may run on, by its name.
fn cores(node: &Process) -> BTreeMap<String, CpuSet> {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.id())).expect("it runs");
    let told = tasks.filter_map(|task| {
        let task = task.expect("a thread");
        let number = task.file_name().to_str()?.parse().ok()?;
        // A thread may end meanwhile.
        let name = fs::read_to_string(task.path().join("comm")).ok()?;
        Some((
            name.trim_end().to_owned(),
            sched_getaffinity(Pid::from_raw(number)).ok()?,
        ))
    });
    told.collect()
}

/// Whether those that a message passes may run on these, and the others anywhere.
fn are_on(node: &Process, wanted: &CpuSet, all: &CpuSet) -> bool {
    let cores = cores(node);
    let passed = ["weft", "ZMQbg/IO/0", "weft-write"];
    let others = ["ZMQbg/Reaper", "weft-read", "weft-spare"];
    passed.iter().all(|name| cores.get(*name) == Some(wanted))
        && others.iter().all(|name| cores.get(*name) == Some(all))
}

/// The first two of these cores, each alone.
fn first_two(all: &CpuSet) -> [CpuSet; 2] {
    let mut each = (0..CpuSet::MAX_CPU).filter(|core| all.is_set(*core));
    [(); 2].map(|()| {
        let mut one = CpuSet::new();
        one.set(each.next().expect("two cores"));
        one
    })
}

#[test]
fn a_node_takes_no_core_that_it_was_not_given() {
    let Some(all) = two_cores("a_node_takes_no_core_that_it_was_not_given") else {
        return;
    };
    let [_, second] = first_two(&all);
    let fabric = Fabric::new(&["a", "b"]);
    // What this thread may use, a process that it starts may use.
    sched_setaffinity(None, &second).expect("one of its cores");
    let a = fabric.serve("a");
    sched_setaffinity(None, &all).expect("all of its cores");
    // By the time that one with all cores has settled, one that began before it has.
    let b = fabric.serve("b");
    wait_until("the other is on one", || are_on(&b, &second, &all));
    assert!(are_on(&a, &second, &second), "{:?}", cores(&a));
    assert!(!a.log().contains("stay on the cores"), "{}", a.log());
}

#[test]
fn the_threads_that_a_message_passes_share_a_core_while_one_is_enough() {
    let test = "the_threads_that_a_message_passes_share_a_core_while_one_is_enough";
    let Some(all) = two_cores(test) else {
        return;
    };
    let [first, second] = first_two(&all);
    let fabric = Fabric::new(&["a", "b"]);
    let (a, b) = (fabric.serve("a"), fabric.serve("b"));
    wait_until("the first node is on the first core", || {
        are_on(&a, &first, &all)
    });
    wait_until("the second is on the second", || are_on(&b, &second, &all));
    // More than a core can do: each of these frames is refused.
    let floods: [Speaker; 2] = [fabric.speaker("a"), fabric.speaker("a")];
    wait_until("the first has both", || {
        for _ in 0..2_000 {
            for flood in &floods {
                // What finds no room is not needed.
                let _ = flood.socket.send(&[0xc1][..], zmq::DONTWAIT);
            }
        }
        are_on(&a, &all, &all)
    });
    drop(floods);
    wait_until("one is enough again", || are_on(&a, &first, &all));
    assert!(!a.log().contains("stay on the cores"), "{}", a.log());
}
