//! One fabric in one process: measured here, or by a process that is started for it.

use std::fs;
use std::process::{Command, Stdio};

use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::cli::Failure;
use crate::sim::scale::{self, Cost, Meter, Point};
use crate::types::Span;

/// What the system says of this process.
struct System;

impl Meter for System {
    fn processor(&mut self) -> Span {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        // A thread's processor time is never negative.
        let part = |part: i64| u64::try_from(part).unwrap_or(0);
        Span(part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec))
    }

    fn resident_bytes(&mut self) -> u64 {
        resident_kib().unwrap_or(0) << 10
    }
}

/// What Linux says of this process's memory.
fn resident_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Measures a fabric in this process, which has done nothing else yet.
pub(super) fn measure_here(point: Point) -> Result<Cost, Failure> {
    if resident_kib().is_none() {
        let help = "run it on Linux, with /proc mounted";
        return Err(Failure::user(
            "memory is read from /proc/self/status, which is not there",
            help,
        ));
    }
    scale::measure(point, &mut System).map_err(Failure::internal)
}

/// Measures a fabric in a process of its own.
pub(super) fn measure_apart(point: Point) -> Result<Cost, Failure> {
    let weft = std::env::current_exe().map_err(Failure::internal)?;
    let mut command = Command::new(weft);
    command.args(["simulate", "--scale-point", &json!(point).to_string()]);
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(Failure::internal)?;
    let cost = serde_json::from_slice(&output.stdout).ok();
    cost.filter(|_| output.status.success()).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        Failure::internal(format!("{point:?} was not measured: {}", said.trim()))
    })
}
