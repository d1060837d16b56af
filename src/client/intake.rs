//! What a producer has given and the client's thread has not yet taken.
//!
//! Records are encoded and bundled by whoever gives them, under a lock that the thread holds only
//! to take all of them at once. So a record costs no message between threads, and the thread is
//! woken by the first only.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::bundle::{Bundle, Size, Waiter};
use super::error::{PublishError, Refusal};
use crate::types::limits::{HEADERS_MAX, KEY_BYTES_MAX};
use crate::types::{Record, Subject};
use crate::wire::{Code, RecordProblem};

/// What a record on its way takes beside its bytes: its length, and, if its outcome is told, its
/// answer and its place in the frame.
const RECORD_OVERHEAD: usize = 32;
const WAITER_OVERHEAD: usize = 224;

/// Bundles begun, for want of one subject, until others have a turn.
const BUNDLES_PER_TURN: usize = 64;

/// The part of the window that is taken at once, for the next records too, while nobody waits.
const ADVANCE: usize = 32;

/// Between one producer and the thread.
#[derive(Debug)]
pub(super) struct Intake {
    given: Mutex<Given>,
    /// Whether whoever gives next lets others have a turn before: somebody does now and then,
    /// though there is room.
    pause: AtomicBool,
    /// What is free of the window.
    window: Arc<Semaphore>,
    window_bytes: u32,
}

#[derive(Debug, Default)]
struct Given {
    bundles: Vec<Bundle>,
    /// What a bundle has come to lately.
    like: Size,
    /// What was taken of the window in advance. Nothing, while somebody waits for more.
    advance: usize,
    /// Those who wait for a part of the window.
    waiting: usize,
    closed: bool,
}

/// Who waits for a part of the window, until it is there or the wait is cancelled.
struct Waiting<'a>(&'a Intake);

/// The thread's end. Dropping it tells those who wait, for room or for the outcome of what was not
/// taken, that there will be none.
#[derive(Debug)]
pub(super) struct IntakeEnd(pub(super) Arc<Intake>);

impl Intake {
    pub(super) fn new(window_bytes: usize) -> Self {
        let window_bytes = u32::try_from(window_bytes).unwrap_or(u32::MAX).max(1);
        Self {
            given: Mutex::default(),
            pause: AtomicBool::new(false),
            window: Arc::new(Semaphore::new(window_bytes as usize)),
            window_bytes,
        }
    }

    /// Gives a record once there is room for it. Whether it is the first since the thread took the
    /// others, so that it has to be told. Safe to cancel: then the record is not given.
    ///
    /// # Errors
    /// `Refused` where no node would take it. `NotSent` once the thread has closed its end.
    pub(super) async fn give(&self, record: &Record, waiter: Waiter) -> Result<bool, PublishError> {
        check_bounds(record)?;
        if self.pause.load(Ordering::Relaxed) && self.pause.swap(false, Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
        let takes = self.takes(record, waiter.is_some());
        {
            let mut given = self.given();
            if given.advance >= takes || self.take_in_advance(&mut given, takes) {
                let first = self.put(&mut given, record, takes, waiter)?;
                given.advance -= takes;
                return Ok(first);
            }
        }
        let waiting = self.wait();
        let room = self.window.acquire_many(takes as u32).await;
        let room = room.map_err(|_| closed())?;
        drop(waiting);
        let first = self.put(&mut self.given(), record, takes, waiter)?;
        room.forget();
        Ok(first)
    }

    /// Adds a record, for which `takes` was taken of the window. Whether it is the first.
    #[inline]
    fn put(
        &self,
        given: &mut Given,
        record: &Record,
        takes: usize,
        waiter: Waiter,
    ) -> Result<bool, PublishError> {
        if given.closed {
            return Err(closed());
        }
        let Given { bundles, like, .. } = given;
        let first = bundles.is_empty();
        let subject = &*record.subject;
        let joins = |last: &Bundle| last.takes(subject, takes);
        if !bundles.last().is_some_and(joins) {
            self.begin(subject, bundles, like)?;
        }
        if let Some(last) = bundles.last_mut() {
            last.push(record, takes, waiter);
        }
        Ok(first)
    }

    /// Begins a bundle of this subject.
    fn begin(
        &self,
        subject: &str,
        bundles: &mut Vec<Bundle>,
        like: &mut Size,
    ) -> Result<(), PublishError> {
        check_subject(subject)?;
        if let Some(last) = bundles.last() {
            *like = last.size();
            let full = last.subject == subject || bundles.len().is_multiple_of(BUNDLES_PER_TURN);
            self.pause.store(full, Ordering::Relaxed);
        }
        bundles.push(Bundle::new(subject, &self.window, *like));
        Ok(())
    }

    /// Takes a part of the window that is enough for so many bytes, if nobody waits for it.
    fn take_in_advance(&self, given: &mut Given, takes: usize) -> bool {
        let lacking = takes - given.advance;
        let much = lacking.max(self.window_bytes as usize / ADVANCE);
        let take = |bytes: usize| self.window.try_acquire_many(bytes as u32).ok();
        let taken = (given.waiting == 0).then(|| take(much).or_else(|| take(lacking)));
        let Some(room) = taken.flatten() else {
            return false;
        };
        given.advance += room.num_permits();
        room.forget();
        true
    }

    /// Begins to wait for a part of the window, of which nothing is kept in advance then.
    fn wait(&self) -> Waiting<'_> {
        let mut given = self.given();
        given.waiting += 1;
        self.window.add_permits(std::mem::take(&mut given.advance));
        Waiting(self)
    }

    /// All that was given since the last time.
    pub(super) fn take(&self) -> Vec<Bundle> {
        let mut given = self.given();
        let bundles = std::mem::take(&mut given.bundles);
        if let [only] = &bundles[..] {
            given.like = only.size();
        }
        bundles
    }

    /// What of the window a record takes. What is larger than the window goes alone.
    fn takes(&self, record: &Record, told: bool) -> usize {
        let key = record.key.as_ref().map_or(0, bytes::Bytes::len);
        let headers = record.headers.iter();
        let headers: usize = headers.map(|(name, value)| name.len() + value.len()).sum();
        let overhead = RECORD_OVERHEAD + usize::from(told) * WAITER_OVERHEAD;
        let bytes = record.subject.len() + key + headers + record.body.len() + overhead;
        bytes.min(self.window_bytes as usize)
    }

    fn given(&self) -> MutexGuard<'_, Given> {
        // Whoever panicked while it held the lock left whole records.
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.given().waiting -= 1;
    }
}

impl Drop for IntakeEnd {
    fn drop(&mut self) {
        self.0.window.close();
        let mut given = self.0.given();
        given.closed = true;
        let left = std::mem::take(&mut given.bundles);
        drop(given);
        left.into_iter().for_each(|bundle| bundle.refuse(closed()));
    }
}

/// What a node would refuse with the whole frame is not put into one.
fn check_bounds(record: &Record) -> Result<(), PublishError> {
    let problem = match (&record.key, record.headers.len()) {
        (Some(key), _) if key.len() > KEY_BYTES_MAX => RecordProblem::KeyTooLong(key.len()),
        (_, headers) if headers > HEADERS_MAX => RecordProblem::TooManyHeaders(headers as u32),
        _ => return Ok(()),
    };
    let text = format!("the record cannot be published: {problem}");
    Err(Refusal::from(&Code::TooLarge.refuse(None, text)).into())
}

fn check_subject(subject: &str) -> Result<(), PublishError> {
    let checked = Subject::parse(subject).map(drop);
    checked.map_err(|error| Refusal::from(&Code::BadSubject.refuse(None, error.to_string())).into())
}

/// Why nothing more is taken.
pub(super) fn closed() -> PublishError {
    PublishError::NotSent("the client is closed".to_owned())
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use tokio::sync::oneshot;

    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    fn record(body: &'static str) -> Record {
        Record::new("a.b", body)
    }

    #[test]
    fn the_thread_is_told_of_the_first_record_only_until_it_took_them() {
        let intake = Intake::new(1_000);
        assert_eq!(now(intake.give(&record("1"), None)), Poll::Ready(Ok(true)));
        assert_eq!(now(intake.give(&record("2"), None)), Poll::Ready(Ok(false)));
        let other = Record::new("a.c", "3");
        assert_eq!(now(intake.give(&other, None)), Poll::Ready(Ok(false)));
        let taken = intake.take();
        let counts = taken
            .iter()
            .map(|bundle| (bundle.subject.as_str(), bundle.count()));
        assert_eq!(counts.collect::<Vec<_>>(), [("a.b", 2), ("a.c", 1)]);
        assert_eq!(now(intake.give(&record("4"), None)), Poll::Ready(Ok(true)));
    }

    #[test]
    fn a_full_window_holds_back_until_records_are_told_and_a_cancelled_one_is_not_given() {
        let intake = Intake::new(100);
        let large = Record::new("a.b", vec![0; 1_000]);
        assert_eq!(now(intake.give(&large, None)), Poll::Ready(Ok(true)));
        assert_eq!(now(intake.give(&record("late"), None)), Poll::Pending);
        drop(intake.take());
        assert_eq!(
            now(intake.give(&record("next"), None)),
            Poll::Ready(Ok(true))
        );
        let taken = intake.take();
        assert_eq!(taken.iter().map(Bundle::count).sum::<usize>(), 1);
    }

    #[test]
    fn what_was_taken_in_advance_is_free_for_whoever_waits() {
        let intake = Intake::new(32 << 10);
        assert_eq!(now(intake.give(&record("1"), None)), Poll::Ready(Ok(true)));
        assert!(intake.given().advance > 0);
        let all = Record::new("a.b", vec![0; 40_000]);
        let mut giving = pin!(intake.give(&all, None));
        let mut context = Context::from_waker(Waker::noop());
        assert_eq!(giving.as_mut().poll(&mut context), Poll::Pending);
        assert_eq!(intake.given().advance, 0);
        drop(intake.take());
        assert_eq!(giving.poll(&mut context), Poll::Ready(Ok(true)));
        assert_eq!(intake.given().waiting, 0);
    }

    #[test]
    fn a_record_that_is_refused_takes_nothing_of_the_window() {
        let intake = Intake::new(1_000);
        let bad = Record::new("a..b", vec![0; 100]);
        for _ in 0..100 {
            let given = now(intake.give(&bad, None));
            assert!(matches!(given, Poll::Ready(Err(PublishError::Refused(_)))));
        }
        let all = Record::new("a.b", vec![0; 1_000]);
        assert_eq!(now(intake.give(&all, None)), Poll::Ready(Ok(true)));
    }

    #[test]
    fn whoever_gives_much_lets_others_have_a_turn() {
        let intake = Intake::new(1 << 20);
        let large = Record::new("a.b", vec![0; 1_000]);
        let pending = |_: &i32| now(intake.give(&large, None)).is_pending();
        // Two bundles, of which one is full.
        assert_eq!((0..100).filter(pending).count(), 1);
        let subjects = (0..100).map(|number| Record::new(format!("a.{number}"), "x"));
        let pending = |record: &Record| now(intake.give(record, None)).is_pending();
        assert_eq!(subjects.filter(pending).count(), 1);
    }

    #[test]
    fn what_was_not_taken_is_refused_when_the_thread_ends() {
        let intake = Arc::new(Intake::new(1_000));
        let end = IntakeEnd(Arc::clone(&intake));
        let (sender, mut receiver) = oneshot::channel();
        assert_eq!(
            now(intake.give(&record("1"), Some(sender))),
            Poll::Ready(Ok(true))
        );
        drop(end);
        assert_eq!(receiver.try_recv(), Ok(Err(closed())));
        assert_eq!(
            now(intake.give(&record("2"), None)),
            Poll::Ready(Err(closed()))
        );
        assert!(intake.take().is_empty());
    }
}
