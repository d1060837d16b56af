//! The parts that processes of a bench play: what each is told, and what it answers. A part is one
//! argument of JSON, its orders come in lines on stdin, its answers go in lines to stdout. It ends
//! when stdin does.

mod disk;
mod publish;
mod raw;
mod read;

use std::io::{self, BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::account::Seen;
use super::keys::Door;
use crate::cli::Failure;

/// How long a part waits for what does not come, before it says what it has.
const STALLED: Duration = Duration::from_secs(10);

/// How often a part that waits for its socket looks for orders.
const LOOK_MS: u64 = 100;

/// The hidden command.
#[derive(Debug, clap::Args)]
pub(crate) struct PartArgs {
    /// The part, in JSON
    part: String,
}

/// What one process does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Part {
    /// A DEALER that sends numbered frames as fast as it can.
    RawSend {
        door: Door,
        frame_bytes: usize,
        work: Work,
    },
    /// A ROUTER that sends each frame to all receivers, or back if there are none.
    RawForward {
        receivers: usize,
        /// Its secret key, under CURVE.
        secret: Option<String>,
    },
    /// DEALERs that receive numbered frames.
    RawReceive { door: Door, sockets: usize },
    /// A DEALER with one frame on its way at a time.
    RawPing {
        endpoint: String,
        frame_bytes: usize,
        work: Work,
    },
    /// A ROUTER that reads a file and sends it in numbered frames to the first who asks.
    RawServe { file: PathBuf, frame_bytes: usize },
    /// DEALERs that connect, say one word, hear one, and stay; once more when told to.
    Hold {
        endpoint: String,
        count: usize,
        /// Whether the word is a `hello`.
        hello: bool,
    },
    /// Appends to a file and syncs after each write.
    Append {
        file: PathBuf,
        bytes: usize,
        work: Work,
    },
    /// Publishes numbered records; with a window, each is to be confirmed.
    Publish {
        door: Door,
        subject: String,
        body_bytes: usize,
        first: u64,
        window: Option<usize>,
        work: Work,
    },
    /// Reads numbered records, each reader with a session of its own.
    Read {
        door: Door,
        pattern: String,
        readers: usize,
        /// The offset and number to start at; what comes from now on if absent.
        from: Option<u64>,
        /// Whether they are read at a cursor that is moved behind them.
        acks: bool,
    },
}

/// How much a part does: until the time is over, or so many records or frames if that is sooner.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Work {
    pub(super) seconds: f64,
    pub(super) most: Option<u64>,
}

/// What a part is told while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Begin.
    Go,
    /// All there is ends before this number.
    Until(u64),
    /// Say what you have done so far.
    Tell,
    /// End.
    Stop,
}

/// Said once a part can begin.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Ready {
    /// Where it listens, if it does.
    pub(super) endpoint: Option<String>,
}

/// What a part has sent or written.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Made {
    /// Records, frames or writes.
    pub(super) count: u64,
    /// Of these, confirmed.
    pub(super) confirmed: u64,
    /// Why some have no confirm: the first reason.
    pub(super) failure: Option<String>,
    /// Frames that took it.
    pub(super) frames: u64,
    /// From the first to the last.
    pub(super) seconds: f64,
    /// How long each took, where that was asked for.
    pub(super) latency: Option<Latency>,
}

/// How long something took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Latency {
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) max_us: f64,
}

/// What a part has received.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Received {
    pub(super) readers: Vec<Seen>,
    /// Frames that brought it.
    pub(super) frames: u64,
    /// From the first to the last.
    pub(super) seconds: f64,
}

/// Where a part gets its orders.
pub(super) struct Orders(Receiver<Order>);

pub(crate) fn run_part(args: PartArgs) -> Result<ExitCode, Failure> {
    let part: Part = serde_json::from_str(&args.part).map_err(|why| {
        let help = "parts are started by `weft bench`";
        Failure::user(format!("no part of a bench: {why}"), help)
    })?;
    crate::cli::connect::log_to_stderr();
    let orders = Orders::open();
    match part {
        Part::RawSend {
            door,
            frame_bytes,
            work,
        } => raw::send(&orders, &door, frame_bytes, work),
        Part::RawForward { receivers, secret } => {
            raw::forward(&orders, receivers, secret.as_deref())
        }
        Part::RawReceive { door, sockets } => raw::receive(&orders, &door, sockets),
        Part::RawPing {
            endpoint,
            frame_bytes,
            work,
        } => raw::ping(&orders, &endpoint, frame_bytes, work),
        Part::RawServe { file, frame_bytes } => disk::serve(&orders, &file, frame_bytes),
        Part::Hold {
            endpoint,
            count,
            hello,
        } => raw::hold(&orders, &endpoint, count, hello),
        Part::Append { file, bytes, work } => disk::append(&orders, &file, bytes, work),
        Part::Publish {
            door,
            subject,
            body_bytes,
            first,
            window,
            work,
        } => {
            let numbered = publish::Numbered::new(&subject, body_bytes, first);
            publish::publish(&orders, &door, numbered, window, work)
        }
        Part::Read {
            door,
            pattern,
            readers,
            from,
            acks,
        } => read::read(&orders, &door, &pattern, readers, (from, acks)),
    }
    .map(|()| ExitCode::SUCCESS)
}

impl Orders {
    /// Listens to stdin. Once that ends, so does this process: nobody needs it any more.
    fn open() -> Self {
        let (sender, orders) = mpsc::channel();
        thread::spawn(move || {
            for line in io::stdin().lock().lines() {
                let order = line.ok().and_then(|line| serde_json::from_str(&line).ok());
                let Some(order) = order else { break };
                if sender.send(order).is_err() {
                    return;
                }
            }
            std::process::exit(1);
        });
        Self(orders)
    }

    /// The next order.
    fn wait(&self) -> Order {
        self.0.recv().unwrap_or(Order::Stop)
    }

    /// The next order, if one comes within this time.
    fn wait_for(&self, most: Duration) -> Option<Order> {
        match self.0.recv_timeout(most) {
            Ok(order) => Some(order),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Order::Stop),
        }
    }

    /// The next order, if it is there already.
    fn now(&self) -> Option<Order> {
        self.0.try_recv().ok()
    }
}

impl Work {
    /// Whether it is done, after so many since `began`.
    fn is_over(&self, count: u64, began: Instant) -> bool {
        self.most.is_some_and(|most| count >= most) || began.elapsed().as_secs_f64() >= self.seconds
    }
}

impl Latency {
    /// Of how long each one took.
    fn of(mut took: Vec<Duration>) -> Option<Self> {
        took.sort_unstable();
        let us = |percent: usize| {
            // The nearest rank: at least so many of a hundred took no longer.
            let rank = (took.len() * percent).div_ceil(100).max(1);
            let took = took.get(rank - 1);
            took.map(|took| took.as_secs_f64() * 1e6)
        };
        Some(Self {
            p50_us: us(50)?,
            p90_us: us(90)?,
            p99_us: us(99)?,
            max_us: us(100)?,
        })
    }
}

/// Says something to whoever started this process.
fn say(what: &impl Serialize) -> Result<(), Failure> {
    let line = serde_json::to_string(what).map_err(Failure::internal)?;
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_nearest_rank() {
        let took: Vec<Duration> = (1..=200).rev().map(Duration::from_micros).collect();
        let latency = Latency::of(took).expect("some");
        assert_eq!((latency.p50_us, latency.p99_us), (100.0, 198.0));
        assert_eq!(latency.max_us, 200.0);
        let one = Latency::of(vec![Duration::from_micros(7)]).expect("one");
        assert_eq!((one.p50_us, one.p99_us), (7.0, 7.0));
        assert_eq!(Latency::of(Vec::new()), None);
    }

    #[test]
    fn parts_and_orders_survive_their_line() {
        let part = Part::RawForward {
            receivers: 3,
            secret: None,
        };
        let line = serde_json::to_string(&part).expect("JSON");
        assert_eq!(line, r#"{"raw_forward":{"receivers":3,"secret":null}}"#);
        let order: Order = serde_json::from_str(r#"{"until":7}"#).expect("an order");
        assert_eq!(order, Order::Until(7));
    }
}
