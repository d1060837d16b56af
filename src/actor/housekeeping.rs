//! What the journal needs now and then, on a thread of its own: the next segment is prefilled,
//! those that nobody needs go, those of which little is needed are written anew, all are read once
//! more for damage, and damaged ones are made whole.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use actix::Recipient;

use super::messages::Completed;
use crate::node::Input;
use crate::store::{Reader, RealDisk, Scrub, Scrubbed};
use crate::types::limits::{SCRUB_BYTES_PER_S, SCRUB_REST};
use crate::types::{DamagedSegment, LogEntry, Partition};

/// How often a scrub reads a piece.
const SCRUB_EVERY: Duration = Duration::from_millis(250);

/// How soon a spare is tried again that could not be made: it is wished for with every commit.
const SPARE_AGAIN: Duration = Duration::from_secs(1);

/// What is asked of the thread.
pub(super) enum Wish {
    /// Prefill the next segment.
    Spare,
    /// Let go of segments that nobody needs, and write those anew of which little is needed.
    Recycle,
    /// Something could not be read: see what is damaged.
    Look,
    /// Write a damaged segment anew, with these in the place of what was lost.
    Mend {
        segment: u64,
        entries: Vec<(Partition, LogEntry)>,
    },
}

/// The thread's state.
pub(super) struct Housekeeping {
    files: Reader<RealDisk>,
    node: Recipient<Completed>,
    /// Whether there may be more to write anew.
    compacts: bool,
    /// No spare is tried before.
    spare_at: Instant,
    scrub: Scrub,
    scrub_at: Instant,
    /// What the node was told last.
    told: Vec<DamagedSegment>,
}

impl Housekeeping {
    pub(super) fn new(files: Reader<RealDisk>, node: Recipient<Completed>) -> Self {
        Self {
            files,
            node,
            compacts: false,
            spare_at: Instant::now(),
            scrub: Scrub::default(),
            scrub_at: Instant::now() + SCRUB_EVERY,
            told: Vec::new(),
        }
    }

    /// Does what is wished for, one thing at a time, and what is due in between.
    pub(super) fn run(mut self, wishes: &mpsc::Receiver<Wish>) {
        loop {
            let patience = match self.compacts {
                true => Duration::ZERO,
                false => self.scrub_at.saturating_duration_since(Instant::now()),
            };
            match wishes.recv_timeout(patience) {
                Ok(wish) => self.fulfil(wish),
                Err(RecvTimeoutError::Disconnected) => return,
                // A segment at a time: a spare that is wished for meanwhile comes first.
                Err(RecvTimeoutError::Timeout) if self.compacts => self.compact(),
                Err(RecvTimeoutError::Timeout) => self.scrub(),
            }
        }
    }

    fn fulfil(&mut self, wish: Wish) {
        match wish {
            Wish::Spare if Instant::now() < self.spare_at => {}
            Wish::Spare => {
                if let Err(why) = self.files.prepare_spare() {
                    tracing::warn!(
                        "the next segment is not prepared, so its syncs will be slower: {why}"
                    );
                    self.spare_at = Instant::now() + SPARE_AGAIN;
                }
            }
            Wish::Recycle => {
                match self.files.recycle() {
                    Ok(0) => {}
                    Ok(count) => tracing::info!("{count} segments of the journal are free again"),
                    Err(why) => tracing::warn!("segments that could go stay for now: {why}"),
                }
                self.compacts = true;
                // Less may be needed of what is damaged.
                if !self.told.is_empty() {
                    self.look(false);
                }
            }
            Wish::Look => self.look(false),
            Wish::Mend { segment, entries } => {
                match self.files.mend(segment, &entries) {
                    Ok(true) => {}
                    Ok(false) => tracing::info!(
                        "segment {segment} of the journal is made whole after the next checkpoint"
                    ),
                    Err(why) => {
                        tracing::warn!("segment {segment} of the journal stays damaged: {why}");
                    }
                }
                self.look(true);
            }
        }
    }

    fn compact(&mut self) {
        self.compacts = match self.files.compact() {
            Ok(None) => false,
            Ok(Some(bytes)) => {
                tracing::debug!("{bytes} bytes of the journal are free again");
                true
            }
            Err(why) => {
                tracing::warn!("segments that little is needed of stay as they are: {why}");
                self.look(false);
                false
            }
        };
    }

    fn scrub(&mut self) {
        let piece = SCRUB_BYTES_PER_S * SCRUB_EVERY.as_millis() as u64 / 1_000;
        let pause = match self.files.scrub(&mut self.scrub, piece) {
            Ok(Scrubbed::Part) => SCRUB_EVERY,
            Ok(Scrubbed::All) => {
                tracing::info!("the scrub of the journal has read all of it");
                Duration::from_nanos(SCRUB_REST.0)
            }
            Ok(Scrubbed::Damage(why)) => {
                tracing::error!("the scrub of the journal finds damage: {why}");
                self.look(false);
                SCRUB_EVERY
            }
            Err(why) => {
                tracing::warn!("the journal cannot be scrubbed now: {why}");
                Duration::from_nanos(SCRUB_REST.0)
            }
        };
        self.scrub_at = Instant::now() + pause;
    }

    /// Tells the node what is damaged, if that is news or it waits for an answer. What is written
    /// to is looked at once the writer has sealed it.
    fn look(&mut self, awaited: bool) {
        match self.files.damage() {
            Ok(damaged) => {
                if awaited || damaged != self.told {
                    self.told.clone_from(&damaged);
                    self.node.do_send(Completed(Input::Damaged(damaged)));
                }
            }
            Err(why) => tracing::warn!("what is damaged of the journal cannot be told now: {why}"),
        }
    }
}
