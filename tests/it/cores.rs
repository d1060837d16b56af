//! The cores that the threads of real nodes may run on.

use std::collections::BTreeMap;
use std::fs;

use rustix::thread::{CpuSet, Pid, sched_getaffinity};

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

#[test]
fn the_threads_that_a_message_passes_share_a_core_while_one_is_enough() {
    let test = "the_threads_that_a_message_passes_share_a_core_while_one_is_enough";
    let Some(all) = two_cores(test) else {
        return;
    };
    let mut each = (0..CpuSet::MAX_CPU)
        .filter(|core| all.is_set(*core))
        .map(|core| {
            let mut one = CpuSet::new();
            one.set(core);
            one
        });
    let (first, second) = (each.next().expect("one"), each.next().expect("another"));
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
