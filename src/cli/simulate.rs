//! `weft simulate`: the fabric in a simulated world that goes wrong, one seed after the other.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::options::read_source;
use super::{Failure, scale};
use crate::sim::{self, PUBLISHES, Report, STEPS, Settings};
use crate::topology::{Severity, Topology};
use crate::types::Sabotage;

/// `weft simulate`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topology to simulate; by default one of several small fabrics made for it, by the seed
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The seed; equal seeds are equal runs
    #[arg(long, conflicts_with = "seeds")]
    #[arg(required_unless_present_any = ["seeds", "scale", "scale_point"])]
    seed: Option<u64>,
    /// Many seeds, from A up to B, exclusive
    #[arg(long, value_name = "A..B", value_parser = parse_range)]
    seeds: Option<Range<u64>>,
    /// At least so many steps of nodes in each run
    #[arg(long, default_value_t = STEPS)]
    steps: u64,
    /// At least so many publishes in each run
    #[arg(long, default_value_t = PUBLISHES)]
    publishes: u64,
    /// Break a promise on purpose, to see that it is noticed
    #[cfg(feature = "sabotage")]
    #[arg(long = "break", value_name = "NAME", value_parser = parse_sabotage)]
    sabotage: Option<Sabotage>,
    /// Fail unless every kind of fault fired so often in all runs together
    #[arg(long, value_name = "N", default_value_t = 0)]
    each_fault: u64,
    #[command(flatten)]
    scale: scale::ScaleArgs,
    /// Print JSON: one line per seed, or one document with --scale
    #[arg(long)]
    json: bool,
}

thread_local! {
    /// The seed this thread is at, for the message of a panic.
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    if let Some(point) = args.scale.scale_point {
        return scale::run_point(point);
    }
    if args.scale.scale {
        return scale::run(&args.scale, args.json);
    }
    let topology = match &args.file {
        None => None,
        Some(file) => Some(Arc::new(read(file)?)),
    };
    let seeds = match (&args.seeds, args.seed) {
        (Some(seeds), _) => seeds.clone(),
        (None, Some(seed)) => seed..seed + 1,
        (None, None) => 0..0,
    };
    let replay = Replay::new(&args);
    replay.announce_panics();
    let settings = Settings {
        topology,
        seed: 0,
        steps: args.steps,
        publishes: args.publishes,
        sabotage: args.sabotage(),
    };
    let began = Instant::now();
    let mut total = Total::default();
    let mut out = io::stdout().lock();
    let bar = progress(&seeds);
    run_all(&seeds, &settings, |report| {
        bar.inc(1);
        total.add(&report);
        if args.json {
            writeln!(out, "{}", as_json(&report))?;
        }
        if let Some(failure) = &report.failure {
            total.failed += 1;
            bar.suspend(|| {
                eprintln!("seed {}: {failure}replay it with:", report.seed);
                eprintln!("  {}\n", replay.command(report.seed));
            });
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    if !args.json {
        total.print(&mut out, began.elapsed().as_secs_f64())?;
    }
    let rare = total.rarer_than(args.each_fault);
    if !rare.is_empty() {
        let (least, rare) = (args.each_fault, rare.join(", "));
        eprintln!("these faults fired fewer than {least} times: {rare}");
    }
    let good = total.failed == 0 && rare.is_empty();
    Ok(ExitCode::from(u8::from(!good)))
}

fn read(file: &std::path::Path) -> Result<Topology, Failure> {
    let source = read_source(Some(file))?;
    source.report(Severity::Error);
    source.parsed.topology.ok_or(Failure::Reported)
}

/// Runs the seeds on all cores; `take` gets the reports as they come.
fn run_all(
    seeds: &Range<u64>,
    settings: &Settings,
    mut take: impl FnMut(Report) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let next = AtomicU64::new(seeds.start);
    let count = usize::try_from(seeds.end.saturating_sub(seeds.start)).unwrap_or(usize::MAX);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let (sender, reports) = mpsc::channel();
        for _ in 0..cores.min(count) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    SEED.set(Some(seed));
                    let settings = Settings {
                        seed,
                        ..settings.clone()
                    };
                    if sender.send(sim::run(&settings)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        reports.into_iter().try_for_each(&mut take)
    })
}

fn progress(seeds: &Range<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() || seeds.end.saturating_sub(seeds.start) < 2 {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} seeds, {eta} left");
    let bar = ProgressBar::new(seeds.end - seeds.start);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

#[cfg(feature = "sabotage")]
fn parse_sabotage(text: &str) -> Result<Sabotage, String> {
    let mut all = Sabotage::ALL.into_iter();
    all.find(|known| known.name() == text).ok_or_else(|| {
        let names = Sabotage::ALL.map(Sabotage::name);
        format!("it is one of {}", names.join(", "))
    })
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let wrong = || format!("{text:?} is not a range of seeds, which reads A..B, as in 0..100");
    let (start, end) = text.split_once("..").ok_or_else(wrong)?;
    let start: u64 = start.parse().map_err(|_| wrong())?;
    let end: u64 = end.parse().map_err(|_| wrong())?;
    match start < end {
        true => Ok(start..end),
        false => Err(wrong()),
    }
}

fn as_json(report: &Report) -> serde_json::Value {
    let mut value = json!(report);
    // A JSON number may not hold 64 bits everywhere.
    value["trace"] = json!(format!("{:016x}", report.trace));
    value
}

impl Args {
    #[cfg(feature = "sabotage")]
    fn sabotage(&self) -> Option<Sabotage> {
        self.sabotage
    }

    #[cfg(not(feature = "sabotage"))]
    fn sabotage(&self) -> Option<Sabotage> {
        None
    }
}

/// The command that replays a seed.
#[derive(Debug, Clone)]
struct Replay {
    file: Option<PathBuf>,
    steps: u64,
    publishes: u64,
    sabotage: Option<Sabotage>,
}

impl Replay {
    fn new(args: &Args) -> Self {
        Self {
            file: args.file.clone(),
            steps: args.steps,
            publishes: args.publishes,
            sabotage: args.sabotage(),
        }
    }

    fn command(&self, seed: u64) -> String {
        let mut command = "weft simulate".to_owned();
        if let Some(file) = &self.file {
            command += &format!(" {}", file.display());
        }
        command += &format!(" --seed {seed}");
        if self.steps != STEPS {
            command += &format!(" --steps {}", self.steps);
        }
        if self.publishes != PUBLISHES {
            command += &format!(" --publishes {}", self.publishes);
        }
        if let Some(sabotage) = self.sabotage {
            command += &format!(" --break {}", sabotage.name());
        }
        command
    }

    /// A panic of the core says which seed it was.
    fn announce_panics(&self) {
        let replay = self.clone();
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            hook(info);
            if let Some(seed) = SEED.get() {
                eprintln!("seed {seed} stopped the core; replay it with:");
                eprintln!("  {}", replay.command(seed));
            }
        }));
    }
}

/// The sum of all runs.
#[derive(Debug, Default)]
struct Total {
    seeds: u64,
    failed: u64,
    simulated_ms: u64,
    rows: BTreeMap<&'static str, u64>,
    faults: BTreeMap<&'static str, u64>,
}

impl Total {
    fn add(&mut self, report: &Report) {
        self.seeds += 1;
        self.simulated_ms += report.simulated_ms;
        for (name, value) in [
            ("steps", report.steps),
            ("publishes", report.publishes),
            ("confirms", report.confirms),
            ("refusals", report.refusals),
            ("retries", report.retries),
            ("elections", report.elections),
            ("trims", report.trims),
            ("segments recycled", report.recycled),
            ("snapshots installed", report.snapshots),
            ("segments written anew", report.compactions),
            ("producers forgotten", report.forgotten),
            ("cursors taken", report.cursors_taken),
            ("folders replaced", report.replaced),
            ("records acked", report.acked),
            ("records delivered", report.delivered),
            ("signals", report.signals),
            ("signals delivered", report.signals_delivered),
        ] {
            *self.rows.entry(name).or_default() += value;
        }
        for (fault, count) in &report.faults {
            *self.faults.entry(fault).or_default() += count;
        }
    }

    fn rarer_than(&self, least: u64) -> Vec<&'static str> {
        let rare = self.faults.iter().filter(|(_, count)| **count < least);
        rare.map(|(fault, _)| *fault).collect()
    }

    fn print(&self, out: &mut impl Write, seconds: f64) -> Result<(), Failure> {
        writeln!(out, "faults that fired")?;
        for (fault, count) in &self.faults {
            writeln!(out, "  {fault:<32} {count:>10}")?;
        }
        writeln!(out, "what happened")?;
        for (name, value) in &self.rows {
            writeln!(out, "  {name:<32} {value:>10}")?;
        }
        let simulated = self.simulated_ms as f64 / 1_000.0;
        writeln!(out, "  {:<32} {simulated:>10.0}", "simulated seconds")?;
        writeln!(
            out,
            "{} of {} seeds kept every promise, {:.0} simulated seconds per second",
            self.seeds - self.failed,
            self.seeds,
            simulated / seconds.max(0.001)
        )?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_seeds_is_read_or_explained() {
        assert_eq!(parse_range("3..9"), Ok(3..9));
        for text in ["", "3", "9..3", "3..3", "a..b", "-1..2"] {
            let error = parse_range(text).expect_err(text);
            assert!(error.contains("0..100"), "{error}");
        }
    }
}
