//! Subjects and the patterns that select them.

use std::fmt;

use serde::Serialize;

use super::limits::{SUBJECT_BYTES_MAX, SUBJECT_WORDS_MAX};

/// A checked subject: dot-separated words, none empty, no `*`, `#`, white space or control
/// character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject<'a>(&'a str);

/// A checked pattern: words as in a subject, `*` for exactly one word, `#` for zero or more, only
/// as the last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Pattern(String);

/// Why a text is no subject.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Nothing at all.
    #[error("a subject cannot be empty")]
    Empty,
    /// Two dots in a row, or one at an end.
    #[error("the subject {0:?} has an empty word; words are separated by single dots")]
    EmptyWord(String),
    /// A character with a meaning of its own.
    #[error(
        "the subject {0:?} holds {1:?}; subjects hold no '*', '#', white space or \
         control character"
    )]
    BadCharacter(String, char),
    /// Too long or too many words.
    #[error(
        "the subject {0:?} is too long: at most {SUBJECT_BYTES_MAX} bytes and \
         {SUBJECT_WORDS_MAX} words"
    )]
    TooLong(String),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// `#` before the last word.
    #[error(
        "the pattern {0:?} has '#' before its end; '#' stands for zero or more words and \
         must be the last"
    )]
    HashNotLast(String),
    /// `*` or `#` as part of a word.
    #[error("the pattern {0:?} has {1:?} inside a word; it must be a word of its own")]
    WildcardInWord(String, char),
    /// Not even without wildcards.
    #[error(transparent)]
    Subject(#[from] SubjectError),
}

impl<'a> Subject<'a> {
    /// Checks `text`.
    pub fn parse(text: &'a str) -> Result<Self, SubjectError> {
        check_words(text, |word| match word.chars().find(|c| is_reserved(*c)) {
            Some(c) => Err(SubjectError::BadCharacter(shorten(text), c)),
            None => Ok(()),
        })?;
        Ok(Self(text))
    }

    /// The subject as text.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

impl Pattern {
    /// A subject that it selects, with `word` where any would do.
    pub fn example(&self, word: &str) -> String {
        let words = self.as_str().split('.').map(|own| match own {
            "*" | "#" => word,
            own => own,
        });
        words.collect::<Vec<_>>().join(".")
    }

    /// Checks `text`.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        check_words(text, |word| {
            if word == "*" || word == "#" {
                return Ok(());
            }
            match word.chars().find(|c| is_reserved(*c)) {
                Some(c @ ('*' | '#')) => Err(PatternError::WildcardInWord(shorten(text), c)),
                Some(c) => Err(SubjectError::BadCharacter(shorten(text), c).into()),
                None => Ok(()),
            }
        })?;
        let words: Vec<&str> = text.split('.').collect();
        if words.iter().rev().skip(1).any(|word| *word == "#") {
            return Err(PatternError::HashNotLast(shorten(text)));
        }
        Ok(Self(text.to_owned()))
    }

    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it selects `subject`.
    pub fn matches(&self, subject: &str) -> bool {
        let mut wanted = self.0.split('.');
        let mut words = subject.split('.');
        loop {
            match (wanted.next(), words.next()) {
                (Some("#"), _) | (None, None) => return true,
                (Some("*"), Some(_)) => {}
                (Some(want), Some(word)) if want == word => {}
                _ => return false,
            }
        }
    }

    /// Whether it selects every subject that `other` selects.
    pub fn covers(&self, other: &Pattern) -> bool {
        let mut ours = self.0.split('.');
        let mut theirs = other.0.split('.');
        loop {
            match (ours.next(), theirs.next()) {
                (Some("#"), _) | (None, None) => return true,
                (Some("*"), Some(word)) if word != "#" => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }

    /// Whether some subject is selected by both.
    pub fn overlaps(&self, other: &Pattern) -> bool {
        let mut ours = self.0.split('.');
        let mut theirs = other.0.split('.');
        loop {
            match (ours.next(), theirs.next()) {
                (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
                (Some(a), Some(b)) if a == b || a == "*" || b == "*" => {}
                _ => return false,
            }
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

fn is_reserved(c: char) -> bool {
    matches!(c, '*' | '#') || c.is_whitespace() || c.is_control()
}

fn check_words<E: From<SubjectError>>(
    text: &str,
    check: impl Fn(&str) -> Result<(), E>,
) -> Result<(), E> {
    if text.is_empty() {
        return Err(SubjectError::Empty.into());
    }
    if text.len() > SUBJECT_BYTES_MAX || text.split('.').count() > SUBJECT_WORDS_MAX {
        return Err(SubjectError::TooLong(shorten(text)).into());
    }
    for word in text.split('.') {
        if word.is_empty() {
            return Err(SubjectError::EmptyWord(shorten(text)).into());
        }
        check(word)?;
    }
    Ok(())
}

/// Enough of a hostile text to recognise it.
fn shorten(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_declared() {
        for (pattern, subject, expected) in [
            ("orders.#", "orders", true),
            ("orders.#", "orders.eu.new", true),
            ("orders.#", "order", false),
            ("orders.*", "orders.eu", true),
            ("orders.*", "orders", false),
            ("orders.*", "orders.eu.new", false),
            ("*.new", "orders.new", true),
            ("#", "订单.新.🚀", true),
            ("订单.*", "订单.新", true),
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
        ] {
            let parsed = Pattern::parse(pattern).expect(pattern);
            assert_eq!(parsed.matches(subject), expected, "{pattern} on {subject}");
        }
    }

    #[test]
    fn an_example_is_selected_by_its_pattern() {
        for pattern in ["orders.#", "*.new", "#", "订单.*.x.#", "a.b"] {
            let parsed = Pattern::parse(pattern).expect(pattern);
            let example = parsed.example("new");
            Subject::parse(&example).expect("a subject");
            assert!(parsed.matches(&example), "{example} on {pattern}");
        }
    }

    #[test]
    fn a_pattern_covers_what_it_selects_all_of() {
        let pattern = |text| Pattern::parse(text).expect(text);
        for (one, other) in [
            ("#", "a.*.#"),
            ("a.#", "a"),
            ("a.#", "a.b.#"),
            ("a.*", "a.b"),
            ("*.#", "*.b"),
            ("a.b", "a.b"),
        ] {
            assert!(pattern(one).covers(&pattern(other)), "{one} {other}");
        }
        let patterns = ["#", "a", "a.#", "a.*", "a.*.#", "*", "*.#", "*.b", "a.b"];
        let subjects = ["a", "b", "a.b", "b.b", "a.b.c", "a.c", "b.c.d"];
        for (one, other) in patterns.iter().flat_map(|a| patterns.map(|b| (*a, b))) {
            let (covering, covered) = (pattern(one), pattern(other));
            let misses = |subject: &&str| covered.matches(subject) && !covering.matches(subject);
            let missed = subjects.iter().find(|subject| misses(subject));
            let covers = covering.covers(&covered);
            assert!(!covers || missed.is_none(), "{one} {other} {missed:?}");
        }
    }

    #[test]
    fn overlap_is_seen_from_both_sides() {
        for (a, b, expected) in [
            ("orders.#", "orders.eu", true),
            ("orders.*", "orders", false),
            ("orders.#", "orders", true),
            ("*.x", "y.*", true),
            ("*.x", "y.z", false),
            ("#", "anything.at.all", true),
            ("a.b.#", "a.c.#", false),
        ] {
            let (pa, pb) = (Pattern::parse(a).expect(a), Pattern::parse(b).expect(b));
            assert_eq!(pa.overlaps(&pb), expected, "{a} and {b}");
            assert_eq!(pb.overlaps(&pa), expected, "{b} and {a}");
        }
    }

    #[test]
    fn a_bad_text_is_named() {
        assert!(matches!(
            Pattern::parse("a.#.b"),
            Err(PatternError::HashNotLast(_))
        ));
        assert!(matches!(
            Pattern::parse("a.b#"),
            Err(PatternError::WildcardInWord(_, '#'))
        ));
        assert!(matches!(
            Subject::parse("a..b"),
            Err(SubjectError::EmptyWord(_))
        ));
        assert!(matches!(
            Subject::parse("a.*"),
            Err(SubjectError::BadCharacter(_, '*'))
        ));
        assert!(matches!(
            Subject::parse("a b"),
            Err(SubjectError::BadCharacter(_, ' '))
        ));
        assert!(matches!(Subject::parse(""), Err(SubjectError::Empty)));
        assert!(matches!(
            Subject::parse(&"a".repeat(256)),
            Err(SubjectError::TooLong(_))
        ));
    }
}
