//! `weft simulate --scale`: what a node sends, keeps and computes in fabrics of many sizes, and how
//! each of it grows.
//!
//! Every size is measured in a process of its own, so that what one leaves behind is not counted
//! as the memory of the next.

mod growth;
mod plot;
mod process;

use std::collections::VecDeque;
use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::Failure;
use super::table::Table;
use crate::sim::scale::{Cost, LEFT_OUT, MEASURED, Point, RECORDS, SIGNALS, Series};
use crate::sim::scale::{series, smallest};
use growth::{Growth, growths};

/// `weft simulate --scale`
#[derive(Debug, clap::Args)]
pub(crate) struct ScaleArgs {
    /// Measure instead how the cost of a node grows with nodes, partitions, clients and
    /// subscriptions: some minutes
    #[arg(long, conflicts_with_all = ["file", "seed", "seeds"])]
    pub(crate) scale: bool,
    /// With --scale, only the smallest fabrics: some seconds
    #[arg(long, requires = "scale")]
    smallest: bool,
    /// With --scale, draw it to this file, as SVG
    #[arg(long, value_name = "FILE", requires = "scale")]
    plot: Option<PathBuf>,
    /// Measure one fabric, given and told as JSON
    #[arg(long, hide = true, value_parser = parse_point)]
    pub(crate) scale_point: Option<Point>,
}

/// Fabrics that differ in one dimension, with what they cost.
pub(crate) struct Measured {
    name: &'static str,
    costs: Vec<(usize, Cost)>,
}

fn parse_point(text: &str) -> Result<Point, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Measures one fabric in this process.
pub(crate) fn run_point(point: Point) -> Result<ExitCode, Failure> {
    let cost = process::measure_here(point)?;
    writeln!(io::stdout(), "{}", json!(cost))?;
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn run(args: &ScaleArgs, as_json: bool) -> Result<ExitCode, Failure> {
    let series = match args.smallest {
        true => smallest(),
        false => series(),
    };
    let left_out = match args.smallest {
        true => &["all but the two smallest sizes of each series, as was asked for"],
        false => LEFT_OUT,
    };
    if let Some(path) = &args.plot {
        // Whoever waits for minutes is not told only then that the file cannot be written.
        writable(
            path,
            OpenOptions::new().create(true).append(true).open(path),
        )?;
    }
    let measured = measure(&series)?;
    if let Some(path) = &args.plot {
        writable(path, fs::write(path, plot::svg(&measured)))?;
    }
    let growths = growths(&measured);
    let mut out = io::stdout().lock();
    match as_json {
        true => {
            let told = told(&measured, &growths, left_out);
            serde_json::to_writer_pretty(&mut out, &told).map_err(io::Error::from)?;
            writeln!(out)?;
        }
        false => print(&mut out, &measured, &growths, left_out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn writable<T>(path: &Path, result: io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| {
        let message = format!("{} cannot be written: {error}", path.display());
        Failure::user(message, "name a file in a folder that you may write to")
    })
}

/// Measures every size once, as many at a time as there are cores.
fn measure(series: &[Series]) -> Result<Vec<Measured>, Failure> {
    let mut points: Vec<Point> = Vec::new();
    for (_, point) in series.iter().flat_map(|one| &one.points) {
        if !points.contains(point) {
            points.push(*point);
        }
    }
    // Those that take longest come first, so that no core waits long at the end.
    points.sort_by_key(|point| point.nodes * point.nodes * point.partitions + point.readers);
    points.reverse();
    let bar = progress(points.len() as u64);
    let waiting = Mutex::new(VecDeque::from(points));
    let next = || {
        let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.pop_front()
    };
    let work = || -> Result<Vec<Cost>, Failure> {
        let mut costs = Vec::new();
        while let Some(point) = next() {
            costs.push(process::measure_apart(point)?);
            bar.inc(1);
        }
        Ok(costs)
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let costs = std::thread::scope(|scope| -> Result<Vec<Cost>, Failure> {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let mut costs = Vec::new();
        for worker in workers {
            let done = worker
                .join()
                .unwrap_or_else(|_| Err(Failure::internal("a thread that measures has panicked")));
            costs.extend(done?);
        }
        Ok(costs)
    })?;
    bar.finish_and_clear();
    let found = |point: &Point| costs.iter().find(|cost| cost.point == *point).copied();
    let measured = series.iter().map(|one| {
        let sizes = one.points.iter();
        let costs = sizes.filter_map(|(size, point)| Some((*size, found(point)?)));
        Measured {
            name: one.name,
            costs: costs.collect(),
        }
    });
    Ok(measured.collect())
}

fn progress(points: u64) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} fabrics");
    let bar = ProgressBar::new(points);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

fn told(measured: &[Measured], growths: &[Growth], left_out: &[&str]) -> serde_json::Value {
    let series = measured.iter().map(|one| {
        let costs = one.costs.iter();
        let costs = costs.map(|(size, cost)| json!({ "size": size, "cost": cost }));
        json!({ "grows": one.name, "points": costs.collect::<Vec<_>>() })
    });
    json!({
        "seconds": MEASURED,
        "records_per_second": RECORDS,
        "signals_per_second": SIGNALS,
        "series": series.collect::<Vec<_>>(),
        "growth": growths,
        "left_out": left_out,
    })
}

fn print(
    out: &mut impl Write,
    measured: &[Measured],
    growths: &[Growth],
    left_out: &[&str],
) -> Result<(), Failure> {
    writeln!(
        out,
        "one node, in one second; load: the whole fabric takes {RECORDS} records and {SIGNALS} \
         signals a second\n\n{}\n\
         the power of its size with which a figure grows, from each point to the next: 0 is \
         constant,\n1 linear, 2 the square; the verdict is on the last step\n",
        cost_table(measured)
    )?;
    let mut table = Table::new(["WHAT GROWS", "OF ONE NODE", "POWERS", "VERDICT"]);
    for growth in growths {
        table.row([
            growth.grows.to_owned(),
            growth.figure.to_owned(),
            growth.powers(),
            growth.verdict.to_owned(),
        ]);
    }
    writeln!(out, "{table}")?;
    for what in left_out {
        writeln!(out, "left out: {what}")?;
    }
    Ok(())
}

fn cost_table(measured: &[Measured]) -> Table<16> {
    let mut table = Table::new([
        "WHAT GROWS",
        "SIZE",
        "IDLE: CONTROL",
        "BULK",
        "MESSAGES",
        "KIB",
        "CPU MS",
        "LOAD: CONTROL",
        "BULK",
        "KIB",
        "CPU MS",
        "STEPS",
        "IN/STEP",
        "OUT/STEP",
        "MIB",
        "START: CPU MS",
    ]);
    for one in measured {
        for (size, cost) in &one.costs {
            let (idle, load) = (&cost.idle, &cost.load);
            let figures = [
                idle.control,
                idle.bulk,
                idle.messages,
                idle.peer_bytes / 1024.0,
                idle.processor_ms,
                load.control,
                load.bulk,
                load.peer_bytes / 1024.0,
                load.processor_ms,
                load.steps,
                load.inputs_per_step,
                load.outputs_per_step,
                cost.memory_bytes / f64::from(1 << 20),
                cost.start.processor_ms,
            ];
            let mut figures = figures.into_iter().map(figure);
            let mut cells = [one.name.to_owned(), size.to_string()].into_iter();
            table.row(std::array::from_fn(|_| {
                cells.next().or_else(|| figures.next()).unwrap_or_default()
            }));
        }
    }
    table
}

/// A figure with about three digits that count.
fn figure(value: f64) -> String {
    match value {
        _ if value >= 100.0 => format!("{value:.0}"),
        _ if value >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
