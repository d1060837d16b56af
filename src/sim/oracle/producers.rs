//! A producer that comes back is told a sequence that it may go on with: above every one that was
//! stored and is still remembered, and not beyond the next.

use super::{Verdict, broken};
use crate::types::{Span, Time};

/// What was begun so lately is not forgotten yet, by whichever clock.
const REMEMBERED: Span = Span::from_secs(2);

/// Whether `next` is what the producer may go on with: it asked at `asked`, when all that it had
/// begun was confirmed. `begun` is each of its sequences with the time at which it was begun.
pub(in crate::sim) fn check(begun: &[(Time, u64)], asked: Time, next: u64) -> Verdict {
    const ORACLE: &str = "a producer is told its next sequence";
    let highest = |begun: &[(Time, u64)]| begun.iter().map(|(_, sequence)| *sequence).max();
    let lately = begun.partition_point(|(time, _)| asked.since(*time) >= REMEMBERED);
    if let Some(stored) = highest(&begun[lately..]).filter(|stored| next <= *stored) {
        let says = format!("it is told {next}, and sequence {stored} is stored");
        return broken(ORACLE, None, says);
    }
    let used = highest(begun).unwrap_or(0);
    match next > used + 1 {
        true => broken(ORACLE, None, format!("it is told {next} after {used}")),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_taken_or_was_never_reached_is_seen() {
        let at = |ms| Time(Span::from_millis(ms).0);
        let begun = [(at(0), 1), (at(3_000), 2), (at(4_000), 3)];
        let judged = |next| check(&begun, at(4_500), next).is_ok();
        assert_eq!([1, 3, 4, 5].map(judged), [false, false, true, false]);
        // By then it may be forgotten.
        let later = |next| check(&begun, at(9_000), next).is_ok();
        assert_eq!([1, 4, 5].map(later), [true, true, false]);
        assert!(check(&[], at(1), 1).is_ok() && check(&[], at(1), 2).is_err());
    }
}
