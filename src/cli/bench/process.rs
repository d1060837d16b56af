//! The processes of a bench: started, spoken to in lines of JSON, and what they cost the machine.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::de::DeserializeOwned;

use super::part::{Order, Part};
use crate::cli::Failure;

/// What a clock tick of `/proc` is, in seconds: Linux shows user space 100 in a second, whatever
/// the kernel itself counts in.
const TICK_S: f64 = 0.01;

/// A process that plays one part. It ends with this one.
pub(super) struct Process {
    name: String,
    child: Child,
    orders: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

/// What processes have cost so far.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Spent {
    /// Seconds of user and system time.
    pub(super) cpu_s: f64,
    /// How often one of their threads had waited and was woken.
    pub(super) wakes: f64,
}

impl Process {
    /// Starts it; `name` is what it is called in errors.
    pub(super) fn start(name: &str, part: &Part) -> Result<Self, Failure> {
        let failed = |why: &dyn std::fmt::Display| {
            Failure::internal(format!("cannot start the {name}: {why}"))
        };
        let program = std::env::current_exe().map_err(|why| failed(&why))?;
        let part = serde_json::to_string(part).map_err(|why| failed(&why))?;
        let mut child = Command::new(program)
            .args(["bench-part", &part])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|why| failed(&why))?;
        let (Some(orders), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(failed(&"it has no pipes"));
        };
        Ok(Self {
            name: name.to_owned(),
            child,
            orders,
            lines: BufReader::new(stdout).lines(),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for what it says next.
    pub(super) fn hear<T: DeserializeOwned>(&mut self) -> Result<T, Failure> {
        let name = &self.name;
        let line = match self.lines.next() {
            Some(Ok(line)) => line,
            Some(Err(why)) => {
                return Err(Failure::internal(format!("the {name} is not heard: {why}")));
            }
            None => return Err(Failure::internal(format!("the {name} ended too early"))),
        };
        let wrong = |why| Failure::internal(format!("the {name} said {line:?}: {why}"));
        serde_json::from_str(&line).map_err(wrong)
    }

    pub(super) fn tell(&mut self, order: Order) -> Result<(), Failure> {
        let failed = |why| Failure::internal(format!("the {} does not listen: {why}", self.name));
        let line = serde_json::to_string(&order).map_err(Failure::internal)?;
        writeln!(self.orders, "{line}").map_err(failed)
    }

    /// Tells it to end, and waits until it has.
    pub(super) fn stop(mut self) -> Result<(), Failure> {
        self.tell(Order::Stop)?;
        let status = self.child.wait().map_err(Failure::internal)?;
        match status.success() {
            true => Ok(()),
            false => Err(Failure::internal(format!("the {}: {status}", self.name))),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; either way it is waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What these processes have cost, if the system tells.
pub(super) fn spent(pids: &[u32]) -> Option<Spent> {
    let mut sum = Spent::default();
    for pid in pids {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        sum.cpu_s += cpu_ticks(&stat)? as f64 * TICK_S;
        for thread in fs::read_dir(format!("/proc/{pid}/task")).ok()? {
            let status = fs::read_to_string(thread.ok()?.path().join("status"));
            // A thread may end meanwhile.
            let wakes = status
                .ok()
                .and_then(|s| number(&s, "voluntary_ctxt_switches"));
            sum.wakes += wakes.unwrap_or(0) as f64;
        }
    }
    Some(sum)
}

/// Bytes of memory that a process holds in RAM, if the system tells.
pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    number(&status, "VmRSS").map(|kib| kib << 10)
}

/// What was spent since `before`, per million of `records`: seconds of CPU, and wake-ups.
pub(super) fn per_million(
    before: Option<Spent>,
    after: Option<Spent>,
    records: u64,
) -> Option<Spent> {
    let (before, after) = (before?, after?);
    let millions = records as f64 / 1e6;
    (records > 0).then(|| Spent {
        cpu_s: (after.cpu_s - before.cpu_s) / millions,
        wakes: (after.wakes - before.wakes) / millions,
    })
}

/// User and system time in a line of `/proc/PID/stat`. The name in it may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

/// The number after a name of `/proc/PID/status`.
fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(':'))
    })?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_tells_of_a_process_is_read() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4 100 0 0 0 250 50 9 9 20 0 1 0 5 6 7";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("7 (a"), None);
        let status = "Name:\tx\nVmRSS:\t  12 kB\nvoluntary_ctxt_switches:\t3\n\
            nonvoluntary_ctxt_switches:\t9\n";
        assert_eq!(number(status, "VmRSS"), Some(12));
        assert_eq!(number(status, "voluntary_ctxt_switches"), Some(3));
        assert_eq!(number(status, "Vm"), None);
        let own = spent(&[std::process::id()]);
        assert_eq!(own.is_some(), cfg!(target_os = "linux"));
    }

    #[test]
    fn what_is_spent_is_told_per_million() {
        let at = |cpu_s, wakes| Some(Spent { cpu_s, wakes });
        let told = per_million(at(1.0, 10.0), at(3.0, 30.0), 500_000).expect("measured");
        assert_eq!((told.cpu_s, told.wakes), (4.0, 40.0));
        assert!(per_million(None, at(1.0, 1.0), 1).is_none());
        assert!(per_million(at(1.0, 1.0), at(1.0, 1.0), 0).is_none());
    }
}
