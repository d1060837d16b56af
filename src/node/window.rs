//! How many bytes may be out: sent to a client, and not yet returned by it.

use crate::types::Sabotage;

/// The bytes of one subscription, or of all subscriptions of a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Bytes that may still be sent; a record that goes alone may take it below 0.
    left: i64,
    /// It never grows beyond this, however much the client gives.
    most: i64,
    /// Bytes that are out.
    used: u64,
}

impl Window {
    /// Nothing is out, and `left` of at most `most` bytes may be.
    pub(super) fn new(left: u64, most: u64) -> Self {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        Self {
            left: i64::try_from(left).unwrap_or(i64::MAX).min(most),
            most,
            used: 0,
        }
    }

    /// Bytes that are out.
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// Bytes that may still be sent.
    pub(super) fn left(&self) -> u64 {
        u64::try_from(self.left).unwrap_or(0)
    }

    /// Whether a record of `bytes` may go after `picked` others.
    pub(super) fn fits(&self, bytes: u64, picked: u64) -> bool {
        let left = self.left.saturating_sub_unsigned(picked);
        i64::try_from(bytes).is_ok_and(|bytes| bytes <= left) || Sabotage::BoundlessWindow.is_on()
    }

    /// The same, or nothing else is out: a record larger than the window goes alone.
    pub(super) fn admits(&self, bytes: u64, picked: u64) -> bool {
        self.fits(bytes, picked) || (self.used + picked == 0 && self.left > 0)
    }

    /// Whether as much may still be sent as is out.
    pub(super) fn is_half_free(&self) -> bool {
        i64::try_from(self.used).is_ok_and(|used| used <= self.left)
    }

    /// These bytes are sent.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub_unsigned(bytes);
        self.used += bytes;
    }

    /// The client takes as many more; how many of them were out.
    pub(super) fn give_back(&mut self, bytes: u64) -> u64 {
        self.left = self.left.saturating_add_unsigned(bytes).min(self.most);
        let returned = bytes.min(self.used);
        self.used -= returned;
        returned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_larger_than_the_window_goes_alone() {
        let mut window = Window::new(100, 1_000);
        assert!(window.admits(1_000, 0) && !window.fits(1_000, 0));
        assert!(!window.admits(1_000, 10));
        assert!(window.admits(90, 10));
        window.spend(10);
        assert!(!window.admits(1_000, 0));
        assert!(window.admits(90, 0) && !window.admits(91, 0));
    }

    #[test]
    fn it_never_grows_beyond_its_most() {
        let mut window = Window::new(100, 1_000);
        window.spend(60);
        assert_eq!(window.give_back(u64::MAX), 60);
        assert_eq!(window.give_back(u64::MAX), 0);
        assert_eq!((window.left(), window.used()), (1_000, 0));
        window.spend(1_500);
        assert_eq!((window.left(), window.is_half_free()), (0, false));
        assert!(!window.admits(1, 0));
    }
}
