//! The load of a drill: numbered producers, readers that see all of it live, and one that reads
//! everything when it is over.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::account::{Account, Fate, Fault, Log, Number};
use crate::cli::wait::{wait, wait_within};
use crate::client::{
    Address, Client, ClientError, Confirm, ConnectOptions, Item, Level, ProducerOptions, Start,
    Subscription, Wanted,
};
use crate::topology::Topology;
use crate::types::{ChannelName, Offset, Partition, Record, Span};

/// How often a producer catches up with its rate.
const PACE: Duration = Duration::from_millis(10);

/// What a producer has on its way: about two thousand of its records.
const WINDOW: usize = 700_000;

/// Records read of one channel before the others have their turn.
const ITEMS_PER_TURN: usize = 1_000;

/// How long a reader that has something left to read may see nothing of it.
const STALLED: Duration = Duration::from_secs(60);

/// A stored channel under load.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    name: ChannelName,
    pattern: String,
    subject: String,
}

/// What producers, readers and the drill share.
#[derive(Debug)]
pub(super) struct Load {
    channels: Vec<Loaded>,
    endpoints: Vec<String>,
    account: Mutex<Account>,
    stop: AtomicBool,
    /// Where each partition ends, once nothing more comes.
    ends: Mutex<Option<BTreeMap<Partition, Offset>>>,
}

/// The channels whose records are stored, each with a subject that it captures.
pub(super) fn stored_channels(topology: &Topology) -> Vec<Loaded> {
    let stored = topology.channels.iter().filter(|(_, c)| c.is_stored());
    let loaded = stored.filter_map(|(name, channel)| {
        let pattern = channel.subjects.first()?;
        Some(Loaded {
            name: name.clone(),
            pattern: pattern.as_str().to_owned(),
            subject: pattern.example("drill"),
        })
    });
    loaded.collect()
}

impl Load {
    pub(super) fn new(channels: Vec<Loaded>, endpoints: Vec<String>) -> Self {
        Self {
            channels,
            endpoints,
            account: Mutex::default(),
            stop: AtomicBool::new(false),
            ends: Mutex::new(None),
        }
    }

    /// Producers send nothing more.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// Readers end once they have read up to here.
    pub(super) fn end_at(&self, ends: BTreeMap<Partition, Offset>) {
        *locked(&self.ends) = Some(ends);
    }

    /// Records confirmed so far, and those of which nothing is known.
    pub(super) fn so_far(&self) -> (u64, u64) {
        self.account().so_far()
    }

    pub(super) fn account(&self) -> MutexGuard<'_, Account> {
        locked(&self.account)
    }

    /// Publishes `rate` records a second until told to stop, and notes what becomes of each one.
    pub(super) fn produce(&self, producer: u32, rate: u64) -> Result<(), ClientError> {
        let client = self.client(producer as usize)?;
        let sender = client.producer(ProducerOptions {
            level: Level::Quorum,
            window_bytes: WINDOW,
            ..ProducerOptions::default()
        })?;
        let (sent, confirms) = mpsc::channel();
        thread::scope(|scope| {
            scope.spawn(|| self.note_outcomes(producer, confirms));
            let began = Instant::now();
            let mut number = 0;
            while !self.stop.load(Ordering::Acquire) {
                let due = began.elapsed().as_micros() * u128::from(rate) / 1_000_000;
                while u128::from(number) < due && !self.stop.load(Ordering::Acquire) {
                    let record = self.record(Number { producer, number });
                    let confirm = wait(sender.send(&record)).map_err(|_| ClientError::Closed)?;
                    if sent.send(confirm).is_err() {
                        return Err(ClientError::Closed);
                    }
                    number += 1;
                }
                thread::park_timeout(PACE);
            }
            drop(sent);
            Ok(())
        })
    }

    fn note_outcomes(&self, producer: u32, confirms: mpsc::Receiver<Confirm>) {
        for confirm in confirms {
            let outcome = wait(confirm);
            self.account().note(producer, Fate::from(&outcome));
        }
    }

    fn record(&self, number: Number) -> Record {
        // One channel for each producer: records of several do not travel together.
        let channel = number.producer as usize % self.channels.len();
        Record {
            subject: self.channels[channel].subject.as_str().into(),
            key: Some(Bytes::from(number.key())),
            body: Bytes::from(number.body()),
            ..Record::default()
        }
    }

    /// Reads every channel from its start to where it ends, beginning at one node and going on at
    /// others; what it misses or sees again is a fault.
    pub(super) fn read(&self, first: usize) -> Result<Log, ClientError> {
        let client = self.client(first)?;
        let mut log = Log::default();
        let subscriptions = self.channels.iter().map(|channel| {
            wait(client.subscribe(Wanted {
                channel: Some(channel.name.clone()),
                ..Wanted::new(&channel.pattern, Start::Start)
            }))
        });
        let mut subscriptions = subscriptions.collect::<Result<Vec<_>, _>>()?;
        let mut moved = Instant::now();
        while let Some(behind) = self.behind(&log) {
            for subscription in &mut subscriptions {
                for _ in 0..ITEMS_PER_TURN {
                    let Some(item) = next(subscription)? else {
                        break;
                    };
                    moved = Instant::now();
                    if let Err((fault, text)) = take(&mut log, &item) {
                        self.account().fault(fault, text);
                        return Ok(log);
                    }
                }
            }
            if behind > 0 && moved.elapsed() >= STALLED {
                let text = format!("a reader misses {behind} records");
                self.account().fault(Fault::Misread, text);
                return Ok(log);
            }
            if behind == 0 {
                moved = Instant::now();
            }
        }
        Ok(log)
    }

    /// How many records are known to be left to read: none as long as more may come. `None` at the
    /// end.
    fn behind(&self, log: &Log) -> Option<u64> {
        let ends = locked(&self.ends);
        let Some(ends) = ends.as_ref() else {
            return Some(0);
        };
        let left = ends
            .iter()
            .map(|(partition, end)| end.saturating_sub(log.next(partition)));
        Some(left.sum()).filter(|behind| *behind > 0)
    }

    fn client(&self, first: usize) -> Result<Client, ClientError> {
        let mut addresses: Vec<Address> = self.endpoints.iter().map(Address::open).collect();
        let first = first % addresses.len().max(1);
        addresses.rotate_left(first);
        wait(Client::connect(ConnectOptions {
            timeout: Span::from_secs(30),
            name: "weft drill".to_owned(),
            spread: false,
            ..ConnectOptions::new(addresses)
        }))
    }
}

/// The next item, if one comes soon.
fn next(subscription: &mut Subscription) -> Result<Option<Item>, ClientError> {
    let item = match subscription.try_next() {
        Some(item) => Some(Some(item)),
        None => wait_within(PACE, subscription.next()),
    };
    match item {
        Some(item) => item.unwrap_or(Err(ClientError::Closed)).map(Some),
        None => Ok(None),
    }
}

fn take(log: &mut Log, item: &Item) -> Result<(), (Fault, String)> {
    match item {
        Item::Record(delivered) => match &delivered.id {
            Some(id) => {
                let pushed = log.push(id, &delivered.record.body);
                pushed.map_err(|text| (Fault::Misread, text))
            }
            None => Err((Fault::Misread, "read a record without a place".to_owned())),
        },
        // A drill's channels keep everything.
        Item::Gap { channel, missed } => {
            let missed = missed.map_or("some".to_owned(), |missed| missed.to_string());
            let channel = channel.as_ref().map_or("a channel", |name| name.as_str());
            let text = format!("a reader was told that {missed} records of {channel} are gone");
            Err((Fault::Lost, text))
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_is_told_is_gone_is_lost() {
        let gap = Item::Gap {
            channel: Some("orders".into()),
            missed: Some(3),
        };
        let told = take(&mut Log::default(), &gap).expect_err("nothing may be gone");
        let text = "a reader was told that 3 records of orders are gone".to_owned();
        assert_eq!(told, (Fault::Lost, text));
    }
}
