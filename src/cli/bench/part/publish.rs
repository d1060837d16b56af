//! The producer of a bench, on the Rust client.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Latency, Made, Order, Orders, Ready, Work, say};
use crate::cli::Failure;
use crate::cli::bench::account::TRAILER;
use crate::cli::bench::keys::Door;
use crate::cli::connect::failure;
use crate::cli::wait::wait;
use crate::client::{Client, Confirm, Level, Outcome, Producer, ProducerOptions, PublishError};
use crate::types::Record;

/// Records between two looks at the clock, where nothing is waited for.
const RECORDS_PER_LOOK: u64 = 64;

/// How often a trailer is sent, until somebody has seen one.
const TRAILER_EVERY: Duration = Duration::from_millis(50);

/// Records that carry their number in the first eight bytes.
pub(super) struct Numbered {
    record: Record,
    body: Vec<u8>,
    next: u64,
}

impl Numbered {
    pub(super) fn new(subject: &str, body_bytes: usize, first: u64) -> Self {
        Self {
            record: Record::new(subject, Bytes::new()),
            body: vec![0x5a; body_bytes.max(8)],
            next: first,
        }
    }

    /// The next one, with a body of its own.
    fn record(&mut self, flag: u64) -> &Record {
        self.body[..8].copy_from_slice(&(self.next | flag).to_be_bytes());
        self.next += 1;
        self.record.body = Bytes::copy_from_slice(&self.body);
        &self.record
    }
}

pub(super) fn publish(
    orders: &Orders,
    door: &Door,
    numbered: Numbered,
    window: Option<usize>,
    work: Work,
) -> Result<(), Failure> {
    let client = wait(Client::connect(door.options()?)).map_err(failure)?;
    say(&Ready::default())?;
    orders.wait();
    match window {
        None => signals(orders, &client, numbered, work)?,
        Some(window) => stored(orders, &client, numbered, window.max(1), work)?,
    }
    wait(client.close());
    Ok(())
}

fn not_sent(why: PublishError) -> Failure {
    Failure::internal(format!("a record was not published: {why}"))
}

fn signals(
    orders: &Orders,
    client: &Client,
    mut numbered: Numbered,
    work: Work,
) -> Result<(), Failure> {
    let first = numbered.next;
    let before = client.traffic().frames_sent;
    let began = Instant::now();
    wait(async {
        while !work.is_over(numbered.next - first, began) {
            for _ in 0..RECORDS_PER_LOOK.min(work.most.unwrap_or(u64::MAX)) {
                client.publish_unconfirmed(numbered.record(0)).await?;
            }
        }
        Ok(())
    })
    .map_err(not_sent)?;
    say(&Made {
        count: numbered.next - first,
        frames: client.traffic().frames_sent - before,
        seconds: began.elapsed().as_secs_f64(),
        ..Made::default()
    })?;
    // Whoever missed the last record hears of it with the next one.
    while orders.wait_for(TRAILER_EVERY) != Some(Order::Stop) {
        let trailer = numbered.record(TRAILER);
        wait(client.publish_unconfirmed(trailer)).map_err(not_sent)?;
    }
    Ok(())
}

fn stored(
    orders: &Orders,
    client: &Client,
    mut numbered: Numbered,
    window: usize,
    work: Work,
) -> Result<(), Failure> {
    let first = numbered.next;
    let before = client.traffic().frames_sent;
    let producer = client
        .producer(ProducerOptions {
            level: Level::Quorum,
            // Bounded by the count of records, not by this.
            window_bytes: window * (numbered.body.len() + 1_024),
            ..ProducerOptions::default()
        })
        .map_err(failure)?;
    let began = Instant::now();
    let mut outcomes = Outcomes::default();
    wait(outcomes.fill(&producer, &mut numbered, window, work, began)).map_err(not_sent)?;
    say(&Made {
        count: numbered.next - first,
        confirmed: outcomes.took.len() as u64,
        failure: outcomes.failure,
        frames: client.traffic().frames_sent - before,
        seconds: began.elapsed().as_secs_f64(),
        latency: Latency::of(outcomes.took),
    })?;
    orders.wait();
    Ok(())
}

/// What became of the records, in their order.
#[derive(Default)]
struct Outcomes {
    waiting: VecDeque<(Instant, Confirm)>,
    took: Vec<Duration>,
    failure: Option<String>,
}

impl Outcomes {
    /// Keeps the window full until the work is done, then waits for the last confirm.
    async fn fill(
        &mut self,
        producer: &Producer,
        numbered: &mut Numbered,
        window: usize,
        work: Work,
        began: Instant,
    ) -> Result<(), PublishError> {
        let first = numbered.next;
        loop {
            while self.waiting.len() < window && !work.is_over(numbered.next - first, began) {
                let record = numbered.record(0);
                let sent = Instant::now();
                self.waiting.push_back((sent, producer.send(record).await?));
            }
            let Some((sent, confirm)) = self.waiting.pop_front() else {
                return Ok(());
            };
            self.note(sent, confirm.await);
            while let Some((sent, confirm)) = self.waiting.front_mut() {
                let sent = *sent;
                let Some(outcome) = confirm.try_now() else {
                    break;
                };
                self.waiting.pop_front();
                self.note(sent, outcome);
            }
        }
    }

    fn note(&mut self, sent: Instant, outcome: Outcome) {
        match outcome {
            Ok(_) => self.took.push(sent.elapsed()),
            Err(why) => {
                self.failure.get_or_insert(why.to_string());
            }
        }
    }
}
