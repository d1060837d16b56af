//! Log lines about strangers, bounded: whoever knocks a thousand times a second fills no disk.

use std::time::{Duration, Instant};

use crate::types::limits::REFUSALS_LOGGED;

/// How long a count of lines lasts.
const WINDOW: Duration = Duration::from_secs(10);

/// The lines of one source.
pub(super) struct Refusals {
    source: String,
    since: Option<Instant>,
    logged: u32,
    silent: u64,
}

impl Refusals {
    pub(super) fn new(source: String) -> Self {
        Self {
            source,
            since: None,
            logged: 0,
            silent: 0,
        }
    }

    /// Logs the line, or counts it where too many were logged of late.
    pub(super) fn note(&mut self, now: Instant, text: impl FnOnce() -> String) {
        if self.admit(now) {
            tracing::warn!("{}: {}", self.source, text());
        }
    }

    fn admit(&mut self, now: Instant) -> bool {
        let fresh = self.since.is_none_or(|since| now - since >= WINDOW);
        if fresh {
            if self.silent > 0 {
                let count = self.silent;
                tracing::warn!("{}: refused {count} more connections", self.source);
            }
            *self = Self {
                since: Some(now),
                ..Self::new(std::mem::take(&mut self.source))
            };
        }
        if self.logged < REFUSALS_LOGGED {
            self.logged += 1;
            return true;
        }
        self.silent += 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_logged() {
        let mut refusals = Refusals::new("test".to_owned());
        let start = Instant::now();
        let admitted = (0..1_000).filter(|_| refusals.admit(start)).count();
        assert_eq!(admitted, REFUSALS_LOGGED as usize);
        assert_eq!(refusals.silent, 1_000 - u64::from(REFUSALS_LOGGED));
        assert!(refusals.admit(start + WINDOW));
        assert_eq!(refusals.silent, 0);
    }
}
