//! `weft publish`: one record from the command line, or one per line of stdin; tells where each one
//! is stored.

use std::fmt;
use std::io::{self, BufRead, BufWriter, IsTerminal, Read, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use bytes::Bytes;
use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};
use serde_json::json;

use super::Failure;
use super::connect::{CONNECT_WITHIN, connect, failure, on_interrupt, remedy};
use super::options::Target;
use super::wait::wait;
use crate::client::{Confirm, Level, Outcome, Producer, ProducerOptions, PublishError, Receipt};
use crate::types::limits::RECORD_MAX;
use crate::types::{Record, Span, Subject};

/// A day: who waits longer runs it again.
const TIMEOUT_MAX: u64 = 86_400;

/// Records whose fate is not printed yet: where nobody reads it, nothing more is sent.
const CONFIRMS_WAITING: usize = 65_536;

/// `weft publish`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the records go: dot-separated words, as in orders.eu.new
    #[arg(value_name = "SUBJECT")]
    subject: String,
    /// The record; without it, every line of stdin is one
    #[arg(value_name = "BODY")]
    body: Option<String>,
    /// Records of one key keep their order
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Said beside the body; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_header)]
    header: Vec<(String, String)>,
    /// What to wait for [default: quorum, and none for signals]
    #[arg(long, value_enum)]
    confirm: Option<Wanted>,
    /// Send BODY this many times
    #[arg(long, value_name = "N", requires = "body")]
    count: Option<u64>,
    /// How long a record may be retried, and how long a node is looked for at most
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 30,
        allow_negative_numbers = true
    )]
    #[arg(value_parser = parse_timeout)]
    timeout: u64,
    /// Print JSON, one object per record
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Wanted {
    /// The node has taken it
    None,
    /// A majority of the replicas has it on disk
    Quorum,
}

/// What has become of the records so far; read by whoever ends the command.
#[derive(Debug, Default)]
struct Tally {
    sent: AtomicU64,
    stored: AtomicU64,
    taken: AtomicU64,
    refused: AtomicU64,
    /// Nothing more is to be sent.
    over: AtomicBool,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    Subject::parse(&args.subject).map_err(|error| {
        Failure::user(
            error,
            "write words with single dots between, as in orders.eu.new",
        )
    })?;
    let timeout = Span::from_secs(args.timeout);
    let client = connect(&args.target, timeout.min(CONNECT_WITHIN))?;
    let options = ProducerOptions {
        level: match args.confirm {
            None => Level::Best,
            Some(Wanted::None) => Level::None,
            Some(Wanted::Quorum) => Level::Quorum,
        },
        timeout,
        ..ProducerOptions::default()
    };
    let producer = client.producer(options).map_err(failure)?;
    let tally = Arc::new(Tally::default());
    let interrupted = tally.clone();
    on_interrupt(move || {
        eprintln!("interrupted: {}", interrupted.summary());
        std::process::exit(1);
    })?;
    let bar = bar(&args);
    let (sent, confirms) = mpsc::sync_channel(CONFIRMS_WAITING);
    let (fed, told) = thread::scope(|scope| {
        let teller = scope.spawn(|| tell(confirms, &tally, &bar, args.json));
        let fed = wait(feed(&producer, &args, &tally, sent));
        let told = teller.join();
        (fed, told)
    });
    bar.finish_and_clear();
    let told = told.map_err(|_| Failure::internal("the thread that prints confirms panicked"))?;
    told.map_err(|error| error.with(&tally))?;
    fed?;
    drop(producer);
    wait(client.close());
    Ok(ExitCode::SUCCESS)
}

/// Sends every record, until one is refused or stdout is closed.
async fn feed(
    producer: &Producer,
    args: &Args,
    tally: &Tally,
    sent: mpsc::SyncSender<Confirm>,
) -> Result<(), Failure> {
    let mut record = Record {
        subject: args.subject.as_str().into(),
        key: args.key.clone().map(Bytes::from),
        headers: args.header.iter().cloned().collect(),
        body: Bytes::new(),
    };
    if let Some(body) = &args.body {
        record.body = Bytes::from(body.clone());
        for _ in 0..args.count.unwrap_or(1) {
            if !send(producer, &record, tally, &sent).await {
                break;
            }
        }
        return Ok(());
    }
    let mut input = io::stdin().lock();
    if input.is_terminal() {
        eprintln!("every line is a record; Ctrl-D ends");
    }
    let mut number = 0_u64;
    while let Some(line) = read_line(&mut input, &mut number)? {
        record.body = line;
        if !send(producer, &record, tally, &sent).await {
            break;
        }
    }
    Ok(())
}

/// Whether more may be sent.
async fn send(
    producer: &Producer,
    record: &Record,
    tally: &Tally,
    sent: &mpsc::SyncSender<Confirm>,
) -> bool {
    if tally.over.load(Ordering::Acquire) {
        return false;
    }
    let Ok(confirm) = producer.send(record).await else {
        return false;
    };
    tally.sent.fetch_add(1, Ordering::Relaxed);
    sent.send(confirm).is_ok()
}

/// The next line without its end.
fn read_line(input: &mut impl BufRead, number: &mut u64) -> Result<Option<Bytes>, Failure> {
    *number += 1;
    let mut line = Vec::new();
    let read = input
        .take(RECORD_MAX + 2)
        .read_until(b'\n', &mut line)
        .map_err(|error| Failure::internal(format!("stdin cannot be read: {error}")))?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.len() as u64 > RECORD_MAX {
        return Err(Failure::user(
            format!("line {number} of stdin is longer than {RECORD_MAX} bytes"),
            "no record may be larger; split the line",
        ));
    }
    Ok(Some(line.into()))
}

/// Why not every record went on.
enum Trouble {
    Publish(PublishError),
    Output(io::Error),
}

/// Prints what becomes of each record, in order; the first failure ends the sending.
fn tell(
    confirms: mpsc::Receiver<Confirm>,
    tally: &Tally,
    bar: &ProgressBar,
    json: bool,
) -> Result<(), Trouble> {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut failed = None;
    loop {
        let next = match confirms.try_recv() {
            Ok(confirm) => Some(confirm),
            Err(_) => {
                tally.written(out.flush())?;
                confirms.recv().ok()
            }
        };
        let Some(mut confirm) = next else { break };
        let outcome = match confirm.try_now() {
            Some(outcome) => outcome,
            None => {
                tally.written(out.flush())?;
                wait(confirm)
            }
        };
        tally.count(&outcome);
        bar.inc(1);
        match outcome {
            Ok(receipt) => tally.written(print(&mut out, &receipt, json))?,
            Err(error) => {
                tally.over.store(true, Ordering::Release);
                failed.get_or_insert(error);
            }
        }
    }
    tally.written(out.flush())?;
    failed.map_or(Ok(()), |error| Err(Trouble::Publish(error)))
}

fn print(out: &mut impl Write, receipt: &Receipt, json: bool) -> io::Result<()> {
    match (receipt, json) {
        (Receipt::Stored { id, .. }, false) => writeln!(out, "{id}"),
        (Receipt::Taken, false) => Ok(()),
        (Receipt::Stored { id, repeated }, true) => {
            let answer = json!({
                "id": id.to_string(),
                "channel": id.partition.channel.as_str(),
                "partition": id.partition.number,
                "offset": id.offset,
                "repeated": repeated,
            });
            writeln!(out, "{answer}")
        }
        (Receipt::Taken, true) => writeln!(out, "{}", json!({ "id": null })),
    }
}

impl Tally {
    fn count(&self, outcome: &Outcome) {
        let counter = match outcome {
            Ok(Receipt::Stored { .. }) => &self.stored,
            Ok(Receipt::Taken) => &self.taken,
            Err(PublishError::Refused(_) | PublishError::NotSent(_)) => &self.refused,
            Err(PublishError::Unknown(_)) => return,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A closed stdout ends the sending.
    fn written(&self, result: io::Result<()>) -> Result<(), Trouble> {
        result.map_err(|error| {
            self.over.store(true, Ordering::Release);
            Trouble::Output(error)
        })
    }

    fn summary(&self) -> String {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (sent, stored) = (get(&self.sent), get(&self.stored));
        let (taken, refused) = (get(&self.taken), get(&self.refused));
        let unknown = sent.saturating_sub(stored + taken + refused);
        let mut parts = vec![format!("{stored} records confirmed")];
        if taken > 0 {
            parts.push(format!("{taken} taken without confirm"));
        }
        parts.push(format!("{refused} not stored"));
        parts.push(format!("{unknown} unknown"));
        parts.join(", ")
    }
}

impl Trouble {
    fn with(self, tally: &Tally) -> Failure {
        let error = match self {
            Self::Output(error) => return error.into(),
            Self::Publish(error) => error,
        };
        let help = match &error {
            PublishError::Refused(refusal) => remedy(refusal),
            PublishError::Unknown(_) => {
                "`weft subscribe --from start` shows what is stored; `weft status` what is wrong"
            }
            PublishError::NotSent(_) => "`weft status` shows what is wrong",
        };
        Failure::user(format!("{error} ({})", tally.summary()), help)
    }
}

/// Shown only while nothing else scrolls over the terminal.
fn bar(args: &Args) -> ProgressBar {
    let watched = io::stderr().is_terminal() && !io::stdout().is_terminal();
    if !watched || args.body.is_some() && args.count.unwrap_or(1) < 1_000 {
        return ProgressBar::hidden();
    }
    let (bar, template) = match args.count {
        Some(count) => (
            ProgressBar::new(count),
            "{bar:40} {pos}/{len} {per_sec} {eta}",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{spinner} {pos} records {per_sec}",
        ),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style.with_key("per_sec", write_rate)),
        Err(_) => bar,
    }
}

fn write_rate(state: &ProgressState, out: &mut dyn fmt::Write) {
    // A line that could not be written is drawn again soon.
    let _ = write!(out, "{}/s", HumanCount(state.per_sec() as u64));
}

fn parse_timeout(text: &str) -> Result<u64, String> {
    let seconds = text.parse().ok();
    let fits = |seconds: &u64| (1..=TIMEOUT_MAX).contains(seconds);
    seconds
        .filter(fits)
        .ok_or_else(|| format!("write a whole number of seconds from 1 to {TIMEOUT_MAX}"))
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} has no '='; write NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}
