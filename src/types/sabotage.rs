//! Faults built in on purpose, to see that the simulator's oracles catch them. They exist only with
//! the cargo feature `sabotage`; without it every question here is answered at compile time, with
//! no.

#[cfg(feature = "sabotage")]
use std::cell::Cell;

/// A way to break a promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sabotage {
    /// A replica counts itself among the synced before its disk has synced.
    ConfirmBeforeSync,
    /// A follower promises before its disk has synced.
    PromiseBeforeSync,
    /// A vote is not written down.
    ForgottenVote,
    /// After a restart, entries that a later one withdrew are there again.
    ForgottenTruncation,
    /// After a restart, nothing is known of what producers sent before.
    LostWindow,
    /// A new leader stamps the last offset once more.
    ReusedOffset,
    /// Signals beyond a client's credit are dropped and not counted.
    UncountedDrop,
    /// A gap in what a peer sent is not passed on.
    UnseenGap,
    /// Some entries never reach the journal.
    LogHole,
    /// Readers see what is not committed.
    UncommittedRead,
    /// A position that a publish must come after is not looked at.
    ForgottenAfter,
    /// The window of a subscription is not looked at.
    BoundlessWindow,
    /// After `kill -9`, what only the system's cache holds counts as synced.
    UnsyncedTail,
    /// A confirm names the offset after the record's.
    WrongOffset,
    /// Records are stamped with the clock as it is, though it was set back.
    BackwardTime,
    /// A publish whose time is over is never answered.
    SilentPublish,
    /// A refused publish is in no account.
    UncountedRefusal,
    /// A leader lets go of a record that the bounds would keep.
    EarlyTrim,
    /// Records that were let go of are in no account.
    UncountedTrim,
    /// A replica that does not lead goes on with what the others let go of.
    ForgottenTrim,
    /// A reader is not told that records are gone that it had not come to.
    SilentTrim,
    /// A replica that begins anew is not sent the entries that are still retained.
    SnapshotWithoutTail,
    /// A checkpoint lacks what producers sent before.
    HollowCheckpoint,
    /// An audit leaves out the last entry that it read.
    SkimmedAudit,
    /// An ack moves a cursor past records that nobody acked.
    CursorAheadOfAck,
    /// Whoever held a cursor before may still move it.
    StaleToken,
    /// An ack is answered before it is committed.
    EarlyAck,
    /// A checkpoint lacks the cursors.
    ForgottenCursors,
    /// Records that are let go of before a cursor came to them are in no account.
    UncountedMiss,
    /// A segment that is written anew lacks an entry that must stay.
    ForgetfulCompaction,
    /// Hard states are lost with the segments that they stood in.
    VotelessBase,
    /// Segments are written anew with all that may go.
    HoardingCompaction,
    /// An empty folder speaks for the one whose place it is to take.
    StolenVote,
    /// What a disk lost is replaced by what another replica has, though that lacks it.
    StaleRepair,
    /// A scrub reads nothing.
    BlindScrub,
    /// A producer is told what the first partition knows of it.
    HastyWelcome,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 36] = [
        // The one that shows itself least often.
        Self::UnsyncedTail,
        Self::ConfirmBeforeSync,
        Self::PromiseBeforeSync,
        Self::ForgottenVote,
        Self::ForgottenTruncation,
        Self::LostWindow,
        Self::ReusedOffset,
        Self::UncountedDrop,
        Self::UnseenGap,
        Self::LogHole,
        Self::UncommittedRead,
        Self::ForgottenAfter,
        Self::BoundlessWindow,
        Self::WrongOffset,
        Self::BackwardTime,
        Self::SilentPublish,
        Self::UncountedRefusal,
        Self::EarlyTrim,
        Self::UncountedTrim,
        Self::ForgottenTrim,
        Self::SilentTrim,
        Self::SnapshotWithoutTail,
        Self::HollowCheckpoint,
        Self::SkimmedAudit,
        Self::CursorAheadOfAck,
        Self::StaleToken,
        Self::EarlyAck,
        Self::ForgottenCursors,
        Self::UncountedMiss,
        Self::ForgetfulCompaction,
        Self::VotelessBase,
        Self::HoardingCompaction,
        Self::StolenVote,
        Self::StaleRepair,
        Self::BlindScrub,
        Self::HastyWelcome,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::ConfirmBeforeSync => "confirm-before-sync",
            Self::PromiseBeforeSync => "promise-before-sync",
            Self::ForgottenVote => "forgotten-vote",
            Self::ForgottenTruncation => "forgotten-truncation",
            Self::LostWindow => "lost-window",
            Self::ReusedOffset => "reused-offset",
            Self::UncountedDrop => "uncounted-drop",
            Self::UnseenGap => "unseen-gap",
            Self::LogHole => "log-hole",
            Self::UncommittedRead => "uncommitted-read",
            Self::ForgottenAfter => "forgotten-after",
            Self::BoundlessWindow => "boundless-window",
            Self::UnsyncedTail => "unsynced-tail",
            Self::WrongOffset => "wrong-offset",
            Self::BackwardTime => "backward-time",
            Self::SilentPublish => "silent-publish",
            Self::UncountedRefusal => "uncounted-refusal",
            Self::EarlyTrim => "early-trim",
            Self::UncountedTrim => "uncounted-trim",
            Self::ForgottenTrim => "forgotten-trim",
            Self::SilentTrim => "silent-trim",
            Self::SnapshotWithoutTail => "snapshot-without-tail",
            Self::HollowCheckpoint => "hollow-checkpoint",
            Self::SkimmedAudit => "skimmed-audit",
            Self::CursorAheadOfAck => "cursor-ahead-of-ack",
            Self::StaleToken => "stale-token",
            Self::EarlyAck => "early-ack",
            Self::ForgottenCursors => "forgotten-cursors",
            Self::UncountedMiss => "uncounted-miss",
            Self::ForgetfulCompaction => "forgetful-compaction",
            Self::VotelessBase => "voteless-base",
            Self::HoardingCompaction => "hoarding-compaction",
            Self::StolenVote => "stolen-vote",
            Self::StaleRepair => "stale-repair",
            Self::BlindScrub => "blind-scrub",
            Self::HastyWelcome => "hasty-welcome",
        }
    }

    /// Whether this thread runs with it.
    #[cfg(feature = "sabotage")]
    pub(crate) fn is_on(self) -> bool {
        ON.get() == Some(self)
    }

    /// Never: this is not built to be broken.
    #[cfg(not(feature = "sabotage"))]
    #[inline(always)]
    pub(crate) const fn is_on(self) -> bool {
        false
    }

    /// What this thread runs with from now on.
    ///
    /// # Panics
    /// If one is asked for and the feature is not there.
    pub(crate) fn set(sabotage: Option<Self>) {
        #[cfg(feature = "sabotage")]
        ON.set(sabotage);
        #[cfg(not(feature = "sabotage"))]
        assert!(
            sabotage.is_none(),
            "built without the cargo feature `sabotage`"
        );
    }
}

#[cfg(feature = "sabotage")]
thread_local! {
    static ON: Cell<Option<Sabotage>> = const { Cell::new(None) };
}
