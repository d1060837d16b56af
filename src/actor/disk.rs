//! The disk's threads: one writes and syncs, one reads, one keeps house (`housekeeping`). None
//! waits for another, so that neither history nor housekeeping stalls a confirm.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::Builder;
use std::time::{Duration, Instant};

use actix::Recipient;

use super::error::StartError;
use super::fatal;
use super::housekeeping::{Housekeeping, Wish};
use super::messages::Completed;
use crate::node::{Gauges, Input};
use crate::store::{Journal, Reader, RealDisk, StoreError};
use crate::types::{JournalItem, LoadRequest, LogEntry, Partition};

/// The niceness of the threads that no confirm waits for: beside somebody who wants the processor
/// they have about a tenth of it (sched(7): a step is a factor of 1.25), and all of it otherwise.
/// So history and housekeeping take little from confirms where both are more than a machine can do.
const YIELDING: i32 = 10;

/// The name of the thread that writes and syncs.
pub(super) const WRITER: &str = "weft-write";

/// The way to the threads.
pub(super) struct DiskThreads {
    writer: mpsc::Sender<Task>,
    reader: mpsc::Sender<LoadRequest>,
    house: mpsc::Sender<Wish>,
    measured: Arc<Measured>,
}

/// Says when the threads have ended, which they do once nobody can tell them anything.
pub(super) struct DiskEnd(mpsc::Receiver<Infallible>);

enum Task {
    Persist {
        sequence: u64,
        items: Vec<JournalItem>,
    },
    Measure,
}

/// What the writer measured last.
#[derive(Debug, Default)]
struct Measured {
    disk_free: AtomicU64,
    journal_bytes: AtomicU64,
    syncs: AtomicU64,
    sync_us: AtomicU64,
    /// Whether a `Measure` is on its way: a disk that hangs must not let them pile up.
    asked: AtomicBool,
}

impl DiskThreads {
    /// Starts the threads; `node` hears of everything that is done.
    pub(super) fn start(
        journal: Journal<RealDisk>,
        node: &Recipient<Completed>,
    ) -> Result<(Self, DiskEnd), StartError> {
        let measured = Arc::new(Measured::default());
        let (writer, tasks) = mpsc::channel();
        let (reader, loads) = mpsc::channel();
        let (wish, wishes) = mpsc::channel();
        let (living, alive) = mpsc::channel();
        let (files, beside) = (journal.reader(), journal.reader());
        let (to_mend, to_look) = (wish.clone(), wish.clone());
        let mut writing = Writer {
            journal,
            node: node.clone(),
            measured: Arc::clone(&measured),
            wishes: wish,
        };
        writing.measure();
        let guard = living.clone();
        thread(WRITER, guard, move || writing.run(&tasks))?;
        let node = node.clone();
        let guard = living.clone();
        let answers = node.clone();
        thread("weft-read", guard, move || {
            yield_to_confirms();
            read(&files, &loads, &answers, &to_look);
        })?;
        let house = Housekeeping::new(beside, node);
        thread("weft-spare", living, move || {
            yield_to_confirms();
            house.run(&wishes);
        })?;
        let threads = Self {
            writer,
            reader,
            house: to_mend,
            measured,
        };
        Ok((threads, DiskEnd(alive)))
    }

    /// Writes and syncs; answered by `Persisted` or `PersistFailed`.
    pub(super) fn persist(&self, sequence: u64, items: Vec<JournalItem>) {
        // A thread that ended by itself has ended the process.
        let _ = self.writer.send(Task::Persist { sequence, items });
    }

    /// Reads; answered by `Loaded`.
    pub(super) fn load(&self, request: LoadRequest) {
        let _ = self.reader.send(request);
    }

    /// Writes a damaged segment anew; answered by `Damaged`.
    pub(super) fn mend(&self, segment: u64, entries: Vec<(Partition, LogEntry)>) {
        let _ = self.house.send(Wish::Mend { segment, entries });
    }

    /// Fills in what is known of the disk, and has it measured for the next time.
    pub(super) fn gauge(&self, gauges: &mut Gauges) {
        gauges.disk_free = self.measured.disk_free.load(Relaxed);
        gauges.journal_bytes = self.measured.journal_bytes.load(Relaxed);
        gauges.syncs = self.measured.syncs.load(Relaxed);
        gauges.sync_us = self.measured.sync_us.load(Relaxed);
        if !self.measured.asked.swap(true, Relaxed) {
            let _ = self.writer.send(Task::Measure);
        }
    }
}

impl DiskEnd {
    /// Waits until everything that was told is done; says whether it was in time.
    pub(super) fn wait(self, patience: Duration) -> bool {
        let ended = self.0.recv_timeout(patience);
        matches!(ended, Err(mpsc::RecvTimeoutError::Disconnected))
    }
}

fn thread(
    name: &str,
    living: mpsc::Sender<Infallible>,
    body: impl FnOnce() + Send + 'static,
) -> Result<(), StartError> {
    let span = tracing::Span::current();
    let run = move || {
        fatal::end_process_on_panic();
        let _span = span.entered();
        body();
        drop(living);
    };
    match Builder::new().name(name.to_owned()).spawn(run) {
        Ok(_) => Ok(()),
        Err(why) => Err(StartError::System {
            what: "a thread for the disk",
            why,
        }),
    }
}

/// Lets others of this machine go before the calling thread.
fn yield_to_confirms() {
    // Elsewhere than on Linux it would be the whole process.
    if cfg!(target_os = "linux")
        && let Err(why) = rustix::process::setpriority_process(None, YIELDING)
    {
        tracing::debug!("a thread of the disk does not yield the processor: {why}");
    }
}

struct Writer {
    journal: Journal<RealDisk>,
    node: Recipient<Completed>,
    measured: Arc<Measured>,
    wishes: mpsc::Sender<Wish>,
}

impl Writer {
    fn run(mut self, tasks: &mpsc::Receiver<Task>) {
        while let Ok(task) = tasks.recv() {
            match task {
                Task::Persist { sequence, items } => {
                    let done = match self.persist(&items) {
                        Ok(()) => Input::Persisted { sequence },
                        Err(error) => Input::PersistFailed {
                            sequence,
                            error: error.to_string(),
                        },
                    };
                    self.node.do_send(Completed(done));
                    // After the answer: nobody waits for this.
                    if self.journal.wants_spare() {
                        let _ = self.wishes.send(Wish::Spare);
                    }
                    if self.journal.wants_recycling() {
                        let _ = self.wishes.send(Wish::Recycle);
                    }
                }
                Task::Measure => {
                    self.measure();
                    // If that fails, the next commit meets it.
                    if let Ok(true) = self.journal.seal_damaged() {
                        let _ = self.wishes.send(Wish::Look);
                    }
                }
            }
        }
    }

    fn persist(&mut self, items: &[JournalItem]) -> Result<(), StoreError> {
        self.journal.write(items)?;
        let start = Instant::now();
        self.journal.sync()?;
        let us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.measured.sync_us.store(us, Relaxed);
        self.measured.syncs.fetch_add(1, Relaxed);
        Ok(())
    }

    fn measure(&mut self) {
        let bytes = self.journal.bytes();
        self.measured.journal_bytes.store(bytes, Relaxed);
        match self.journal.free_bytes() {
            Ok(free) => self.measured.disk_free.store(free, Relaxed),
            Err(why) => tracing::warn!("free space is unknown: {why}"),
        }
        self.measured.asked.store(false, Relaxed);
    }
}

fn read(
    files: &Reader<RealDisk>,
    loads: &mpsc::Receiver<LoadRequest>,
    node: &Recipient<Completed>,
    house: &mpsc::Sender<Wish>,
) {
    while let Ok(request) = loads.recv() {
        let result = files.load(&request).map_err(|error| error.to_string());
        if result.is_err() {
            let _ = house.send(Wish::Look);
        }
        let id = request.id;
        node.do_send(Completed(Input::Loaded { id, result }));
    }
}
