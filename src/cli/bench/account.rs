//! What producers and readers of a bench say of the same records, held against each other. Knows no
//! sockets and no clock.

use serde::{Deserialize, Serialize};

/// Set in the number of a record that only carries the news of a gap after the last one.
pub(super) const TRAILER: u64 = 1 << 63;

/// What one reader saw of records that are numbered one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    /// The number that comes next.
    pub(super) next: u64,
    /// Records received, without trailers.
    pub(super) received: u64,
    /// Numbers that never came, because a later one did.
    pub(super) jumped: u64,
    /// Records that gaps told of.
    pub(super) told: u64,
    /// Gaps whose size is not known.
    pub(super) unsized_gaps: u64,
    /// Records that came twice or too late.
    pub(super) astray: u64,
}

/// What is known of the records of one run.
#[derive(Debug, Clone, Default)]
pub(super) struct Account {
    /// Records (or frames, of a raw reference) that the producer sent, counted from `first` on.
    pub(super) sent: u64,
    /// The number of the first one.
    pub(super) first: u64,
    /// Of these, confirmed; absent where nothing is.
    pub(super) confirmed: Option<u64>,
    /// Every reader that was to see all of them.
    pub(super) readers: Vec<Seen>,
}

impl Seen {
    /// Of records from this number on.
    pub(super) fn starting_at(first: u64) -> Self {
        Self {
            next: first,
            ..Self::default()
        }
    }

    /// Notes a record.
    pub(super) fn take(&mut self, numbered: u64) {
        let number = numbered & !TRAILER;
        if number < self.next {
            self.astray += 1;
            return;
        }
        self.jumped += number - self.next;
        self.next = number + 1;
        self.received += u64::from(numbered & TRAILER == 0);
    }

    /// Notes a gap.
    pub(super) fn take_gap(&mut self, missed: Option<u64>) {
        match missed {
            Some(missed) => self.told += missed,
            None => self.unsized_gaps += 1,
        }
    }
}

impl Account {
    /// Everything that does not add up, each a sentence.
    pub(super) fn faults(&self, who: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fault = |count: u64, what: &str| {
            if count > 0 {
                faults.push(format!("{who}: {count} {what}"));
            }
        };
        if let Some(confirmed) = self.confirmed {
            fault(self.sent.saturating_sub(confirmed), "confirms are missing");
            fault(confirmed.saturating_sub(self.sent), "confirms too many");
        }
        for seen in &self.readers {
            let end = self.first + self.sent;
            fault(end.saturating_sub(seen.next), "records are unread");
            let untold = seen.jumped.saturating_sub(seen.told);
            if seen.unsized_gaps == 0 {
                fault(untold, "records are lost without a gap");
            }
            let overtold = seen.told.saturating_sub(seen.jumped);
            fault(overtold, "records of gaps were not lost");
            fault(seen.astray, "records came twice or too late");
        }
        fault(u64::from(self.sent == 0), "run without any record");
        faults
    }

    /// Records received by all readers together.
    pub(super) fn received(&self) -> u64 {
        self.readers.iter().map(|seen| seen.received).sum()
    }

    /// Records that were sent and did not come, of all readers together.
    pub(super) fn lost(&self) -> u64 {
        let lost = self.readers.iter();
        lost.map(|seen| self.sent.saturating_sub(seen.received))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(numbers: &[u64], told: u64) -> Seen {
        let mut seen = Seen::default();
        numbers.iter().for_each(|number| seen.take(*number));
        seen.take_gap(Some(told));
        seen
    }

    fn faults(sent: u64, confirmed: Option<u64>, reader: Seen) -> Vec<String> {
        let account = Account {
            sent,
            confirmed,
            readers: vec![reader],
            ..Account::default()
        };
        account.faults("weft")
    }

    #[test]
    fn what_adds_up_has_no_faults() {
        assert_eq!(faults(3, None, seen(&[0, 1, 2], 0)), [""; 0]);
        assert_eq!(faults(3, Some(3), seen(&[0, 1, 2], 0)), [""; 0]);
        assert_eq!(faults(4, None, seen(&[0, 3], 2)), [""; 0]);
        // The last two are lost, which the record after them tells.
        assert_eq!(faults(3, None, seen(&[0, TRAILER | 4], 3)), [""; 0]);
        let mut later = Seen::starting_at(7);
        [7, 8].into_iter().for_each(|number| later.take(number));
        let account = Account {
            sent: 2,
            first: 7,
            readers: vec![later.clone(), later],
            ..Account::default()
        };
        assert_eq!(account.faults("weft"), [""; 0]);
        assert_eq!((account.received(), account.lost()), (4, 0));
    }

    #[test]
    fn what_does_not_add_up_is_told() {
        for (sent, confirmed, reader, told) in [
            (
                3,
                None,
                seen(&[0, 2], 0),
                "1 records are lost without a gap",
            ),
            (3, None, seen(&[0, 1], 0), "1 records are unread"),
            (
                3,
                None,
                seen(&[0, 1, 2], 4),
                "4 records of gaps were not lost",
            ),
            (
                3,
                None,
                seen(&[0, 1, 1, 2], 0),
                "1 records came twice or too late",
            ),
            (3, Some(2), seen(&[0, 1, 2], 0), "1 confirms are missing"),
            (3, Some(4), seen(&[0, 1, 2], 0), "1 confirms too many"),
            (0, None, seen(&[], 0), "1 run without any record"),
        ] {
            assert_eq!(faults(sent, confirmed, reader), [format!("weft: {told}")]);
        }
    }
}
