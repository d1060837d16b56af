//! `weft drill`: a real fabric under load whose leaders are killed and whose links are cut, and the
//! account of every record at the end.

mod account;
mod fabric;
mod load;
mod proxy;
mod trouble;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;

use super::Failure;
use super::children::{absolute, stop};
use super::connect::on_interrupt;
use super::health::Health;
use crate::client::ClientError;
use crate::types::{Offset, Partition};

use account::{Balance, Fault};
use fabric::Fabric;
use load::{Load, stored_channels};
use trouble::Trouble;

/// How long the fabric may take to be healthy, at first and after the last trouble.
const HEALTHY: Duration = Duration::from_secs(60);

/// How often nodes are asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Readers that see everything live.
const READERS: usize = 2;

/// `weft drill`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topology whose nodes and channels are drilled, on ports of their own [default: the
    /// built-in quickstart]
    #[arg(value_name = "FILE", env = "WEFT_TOPOLOGY")]
    file: Option<PathBuf>,
    /// How long there is trouble
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// How many producers publish meanwhile
    #[arg(long, value_name = "N", default_value_t = 4)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000))]
    producers: u32,
    /// How many records they publish together in a second
    #[arg(long, value_name = "N", default_value_t = 8_000)]
    rate: u64,
    /// Keep data and logs of the nodes here; the folder must not exist yet [default: a new one in
    /// ./weft-data, which goes when all is well]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What came of a drill.
struct Outcome {
    balance: Balance,
    trouble: Trouble,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let folder = match &args.data {
        Some(folder) => absolute(folder)?,
        None => absolute(&Path::new("weft-data").join(format!("drill-{}", std::process::id())))?,
    };
    if folder.exists() {
        let what = format!("{} exists already", folder.display());
        return Err(Failure::user(what, "name a new folder with --data DIR"));
    }
    let interrupted = Arc::new(AtomicBool::new(false));
    let hear = Arc::clone(&interrupted);
    on_interrupt(move || hear.store(true, Ordering::Release))?;
    let mut fabric = Fabric::start(args.file.as_deref(), &folder)?;
    let drilled = drill(&args, &mut fabric, &interrupted);
    stop(&mut fabric.nodes);
    let kept = || eprintln!("data and logs of the nodes: {}", folder.display());
    let drilled = drilled.inspect_err(|_| kept())?;
    let good = drilled.is_good();
    print(&args, &drilled, &mut io::stdout().lock())?;
    if !good || args.data.is_some() {
        kept();
    } else if let Err(error) = fs::remove_dir_all(&folder) {
        eprintln!("{} cannot be removed: {error}", folder.display());
    }
    Ok(ExitCode::from(u8::from(!good)))
}

fn drill(args: &Args, fabric: &mut Fabric, ended: &AtomicBool) -> Result<Outcome, Failure> {
    let channels = stored_channels(&fabric.topology);
    if channels.is_empty() {
        return Err(Failure::user(
            "the topology has no stored channel, so nothing is promised that could be broken",
            "declare a channel of kind \"stream\"",
        ));
    }
    let mut trouble = Trouble::new();
    wait_until_healthy(fabric, &mut trouble)?;
    let endpoints = fabric.nodes.iter().map(|node| node.endpoint.clone());
    let load = Arc::new(Load::new(channels, endpoints.collect()));
    let producers: Vec<_> = (0..args.producers)
        .map(|producer| {
            let rate = args.rate / u64::from(args.producers);
            spawn(&load, move |load| load.produce(producer, rate.max(1)))
        })
        .collect();
    let readers: Vec<_> = (0..READERS)
        .map(|reader| spawn(&load, move |load| load.read(reader)))
        .collect();

    let made = trouble.make(fabric, &load, Duration::from_secs(args.seconds), ended);
    load.stop();
    made?;
    wait_until_healthy(fabric, &mut trouble)?;
    for producer in producers {
        join(producer, "a producer")?;
    }
    load.end_at(ends(fabric)?);
    for reader in readers {
        join(reader, "a reader")?;
    }
    let log = join(spawn(&load, |load| load.read(READERS)), "the last reader")?;
    trouble.look_after(fabric)?;
    let account = std::mem::take(&mut *load.account());
    Ok(Outcome {
        balance: account.balance(&log),
        trouble,
    })
}

/// Runs a part of the load on a thread of its own.
fn spawn<T: Send + 'static>(
    load: &Arc<Load>,
    part: impl FnOnce(&Load) -> Result<T, ClientError> + Send + 'static,
) -> JoinHandle<Result<T, ClientError>> {
    let load = Arc::clone(load);
    thread::spawn(move || part(&load))
}

fn join<T>(part: JoinHandle<Result<T, ClientError>>, who: &str) -> Result<T, Failure> {
    match part.join() {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Failure::internal(format!("{who} failed: {error}"))),
        Err(_) => Err(Failure::internal(format!("{who} panicked"))),
    }
}

fn wait_until_healthy(fabric: &mut Fabric, trouble: &mut Trouble) -> Result<(), Failure> {
    let deadline = Instant::now() + HEALTHY;
    loop {
        trouble.look_after(fabric)?;
        let health = Health::gather(&fabric.resolved);
        if health.healthy {
            return Ok(());
        }
        if Instant::now() >= deadline {
            let problems = health.problems.join("; ");
            let seconds = HEALTHY.as_secs();
            let what = format!("not healthy after {seconds} s: {problems}");
            return Err(Failure::user(what, "see the logs of the nodes"));
        }
        thread::sleep(ASK_EVERY);
    }
}

/// Where each partition ends once all that was published is committed.
fn ends(fabric: &Fabric) -> Result<BTreeMap<Partition, Offset>, Failure> {
    let deadline = Instant::now() + HEALTHY;
    loop {
        let health = Health::gather(&fabric.resolved);
        let partitions = health.partitions();
        let settled = |partition: &super::health::PartitionHealth<'_>| {
            partition.leader.is_some() && partition.view.commit == partition.view.last
        };
        if partitions.values().all(settled) {
            let ends = partitions
                .into_iter()
                .map(|((channel, number), partition)| {
                    let name = Partition::new(&channel.into(), number);
                    (name, partition.view.next_offset)
                });
            return Ok(ends.collect());
        }
        if Instant::now() >= deadline {
            let what = "some partition never committed all that it holds";
            return Err(Failure::user(what, "see the logs of the nodes"));
        }
        thread::sleep(ASK_EVERY);
    }
}

impl Outcome {
    /// Whether every promise was kept, and something was tried.
    fn is_good(&self) -> bool {
        let Trouble { kills, deaths, .. } = &self.trouble;
        self.balance.faults.is_empty()
            && deaths.is_empty()
            && *kills > 0
            && self.balance.confirmed > 0
    }
}

fn print(args: &Args, outcome: &Outcome, out: &mut impl Write) -> io::Result<()> {
    let Outcome { balance, trouble } = outcome;
    if args.json {
        let json = json!({
            "good": outcome.is_good(),
            "records": balance,
            "kills": trouble.kills,
            "cuts": trouble.cuts,
            "longest_pause_ms": trouble.longest_pause.as_millis() as u64,
            "deaths": trouble.deaths,
        });
        return writeln!(out, "{json}");
    }
    for (fault, (count, examples)) in &balance.faults {
        for example in examples {
            writeln!(out, "{fault}: {example}")?;
        }
        let more = count.saturating_sub(examples.len() as u64);
        if more > 0 {
            writeln!(out, "{fault}: {more} more")?;
        }
    }
    for death in &trouble.deaths {
        writeln!(out, "{death}")?;
    }
    if trouble.kills == 0 || balance.confirmed == 0 {
        let what = "nothing was proven: a drill needs a kill and a confirm";
        writeln!(out, "{what}; give it more time with --seconds")?;
    }
    let pause = trouble.longest_pause.as_secs_f64();
    writeln!(
        out,
        "{} unknown, {} of them stored · {} refused · {} cuts · at most {pause:.1} s without a \
         confirm",
        balance.unknown, balance.unknown_stored, balance.not_stored, trouble.cuts
    )?;
    let (lost, twice) = (balance.count(Fault::Lost), balance.count(Fault::Twice));
    writeln!(
        out,
        "{} confirmed · {} read · {lost} lost · {twice} twice · {} kills",
        balance.confirmed, balance.read, trouble.kills
    )
}
