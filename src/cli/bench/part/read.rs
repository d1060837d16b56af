//! The readers of a bench, on the Rust client: each with a session and a thread of its own.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use super::{LOOK_MS, Order, Orders, Ready, Received, STALLED, say};
use crate::cli::Failure;
use crate::cli::bench::account::Seen;
use crate::cli::bench::keys::Door;
use crate::cli::connect::failure;
use crate::cli::wait::{wait, wait_within};
use crate::client::{Client, ClientError, Delivered, Item, Start, Subscription, Wanted};

/// What a reader of stored records may be behind, which stay where they are: a node's default.
const HISTORY_WINDOW_BYTES: u64 = 1 << 20;

/// Records between two acks of a cursor, each of which is waited for.
const RECORDS_PER_ACK: u64 = 4_096;

/// What one reader did, and when.
struct Done {
    seen: Seen,
    frames: u64,
    /// When the first record came, or history was asked for, and when the last one came.
    span: Option<(Instant, Instant)>,
}

/// Reads until told where the records end. A reader from an offset begins when told to go.
pub(super) fn read(
    orders: &Orders,
    door: &Door,
    pattern: &str,
    readers: usize,
    (from, acks): (Option<u64>, bool),
) -> Result<(), Failure> {
    let until = Arc::new(AtomicU64::new(u64::MAX));
    let begin = Arc::new(Barrier::new(readers + 1));
    let wanted = match from {
        None => Wanted::from(pattern),
        Some(first) => Wanted {
            channel: pattern.split('.').next().map(Into::into),
            partition: Some(0),
            window_bytes: Some(HISTORY_WINDOW_BYTES),
            cursor: acks.then(|| format!("bench-{first}")),
            ..Wanted::new(pattern, Start::Offset(first))
        },
    };
    let threads: Vec<_> = (0..readers)
        .map(|_| {
            let (until, begin, wanted) = (until.clone(), begin.clone(), wanted.clone());
            let client = wait(Client::connect(door.options()?)).map_err(failure)?;
            let early = match from {
                None => Some(wait(client.subscribe(wanted.clone())).map_err(failure)?),
                Some(_) => None,
            };
            Ok(thread::spawn(move || {
                begin.wait();
                let asked = from.map(|_| Instant::now());
                let subscription = match early {
                    Some(subscription) => Ok(subscription),
                    None => wait(client.subscribe(wanted)),
                };
                subscription.and_then(|own| follow(&client, own, (from, asked), acks, &until))
            }))
        })
        .collect::<Result<_, Failure>>()?;
    say(&Ready::default())?;
    if from.is_some() {
        orders.wait();
    }
    begin.wait();
    match orders.wait() {
        Order::Until(end) => until.store(end, Ordering::Release),
        _ => return Ok(()),
    }
    let mut done = Vec::new();
    for thread in threads {
        let joined = thread.join();
        let joined = joined.map_err(|_| Failure::internal("a reader panicked"))?;
        done.push(joined.map_err(failure)?);
    }
    let spans = done.iter().filter_map(|done| done.span);
    let (firsts, lasts): (Vec<_>, Vec<_>) = spans.unzip();
    let span = firsts.into_iter().min().zip(lasts.into_iter().max());
    let seconds = span.map(|(first, last)| last - first);
    say(&Received {
        frames: done.iter().map(|done| done.frames).sum(),
        readers: done.into_iter().map(|done| done.seen).collect(),
        seconds: seconds.unwrap_or_default().as_secs_f64(),
    })?;
    orders.wait();
    Ok(())
}

fn follow(
    client: &Client,
    mut records: Subscription,
    (from, asked): (Option<u64>, Option<Instant>),
    acks: bool,
    until: &AtomicU64,
) -> Result<Done, ClientError> {
    let before = client.traffic().frames_received;
    let mut done = Done {
        seen: Seen::starting_at(from.unwrap_or(0)),
        frames: 0,
        span: asked.map(|asked| (asked, asked)),
    };
    let (mut noted, mut heard) = (0, Instant::now());
    loop {
        let end = until.load(Ordering::Acquire);
        while done.seen.next < end {
            // Looked at where it is: items are large.
            let next = records.try_next();
            let Some(item) = &next else { break };
            if acks && let Ok(Item::Record(delivered)) = item {
                ack(&records, delivered, done.seen.next + 1, end)?;
            }
            done.take(item)?;
        }
        // The clock is read when all that came is taken, not with every record.
        if done.seen.received > noted {
            noted = done.seen.received;
            heard = Instant::now();
            done.span = done.span.map(|(first, _)| (first, heard));
            done.frames = client.traffic().frames_received - before;
        }
        let stalled = end < u64::MAX && heard.elapsed() > STALLED;
        if done.seen.next >= end || stalled {
            return Ok(done);
        }
        if let Some(item) = wait_within(Duration::from_millis(LOOK_MS), records.next()) {
            let item = item.unwrap_or(Err(ClientError::Closed));
            if acks && let Ok(Item::Record(delivered)) = &item {
                ack(&records, delivered, done.seen.next + 1, end)?;
            }
            done.take(&item)?;
        }
    }
}

/// Moves the cursor behind the record before number `next`, now and then and at the end.
fn ack(
    records: &Subscription,
    delivered: &Delivered,
    next: u64,
    end: u64,
) -> Result<(), ClientError> {
    match next.is_multiple_of(RECORDS_PER_ACK) || next >= end {
        true => wait(records.commit(delivered)),
        false => Ok(()),
    }
}

impl Done {
    #[inline]
    fn take(&mut self, item: &Result<Item, ClientError>) -> Result<(), ClientError> {
        match item {
            Ok(Item::Record(delivered)) => {
                if self.span.is_none() {
                    let now = Instant::now();
                    self.span = Some((now, now));
                }
                let number = delivered.record.body.first_chunk::<8>();
                let number = number.map_or(u64::MAX >> 1, |bytes| u64::from_be_bytes(*bytes));
                self.seen.take(number);
            }
            Ok(Item::Gap { missed, .. }) => self.seen.take_gap(*missed),
            Err(error) => return Err(error.clone()),
        }
        Ok(())
    }
}
