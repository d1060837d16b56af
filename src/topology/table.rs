//! TOML taken apart value by value, so that one mistake does not hide the next.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problems;

/// A value and the bytes of the file that it comes from.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

impl<T> At<T> {
    pub(super) fn new(value: T, span: Range<usize>) -> Self {
        Self { value, span }
    }

    /// The same place with what `change` makes of the value.
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> At<U> {
        At::new(change(self.value), self.span)
    }
}

/// What a table says of one key.
#[derive(Debug, Clone, Default)]
pub(super) enum Declared<T> {
    /// Nothing: the default counts.
    #[default]
    Absent,
    /// Something that could not be read and is reported, so that nothing more can be said of it.
    Unreadable,
    /// A value.
    Is(At<T>),
}

impl<T> Declared<T> {
    /// What `read` makes of the key's value, if there is one.
    pub(super) fn read<'a, 'i>(
        value: Option<Value<'a, 'i>>,
        problems: &mut Problems,
        read: impl FnOnce(Value<'a, 'i>, &mut Problems) -> Option<At<T>>,
    ) -> Self {
        match value {
            None => Self::Absent,
            Some(value) => read(value, problems).map_or(Self::Unreadable, Self::Is),
        }
    }

    /// The value, where one could be read.
    pub(super) fn value(&self) -> Option<&At<T>> {
        match self {
            Self::Is(at) => Some(at),
            Self::Absent | Self::Unreadable => None,
        }
    }

    /// This, or what `default` says where this says nothing.
    pub(super) fn or<'a>(&'a self, default: &'a Self) -> &'a Self {
        match self {
            Self::Absent => default,
            Self::Unreadable | Self::Is(_) => self,
        }
    }

    /// The value, or `otherwise` where nothing is said; nothing if it could not be read.
    pub(super) fn or_else(&self, otherwise: impl FnOnce() -> At<T>) -> Option<At<T>>
    where
        T: Clone,
    {
        match self {
            Self::Absent => Some(otherwise()),
            Self::Unreadable => None,
            Self::Is(at) => Some(at.clone()),
        }
    }
}

/// A value with its key, for messages.
#[derive(Clone, Copy)]
pub(super) struct Value<'a, 'i> {
    pub(super) key: &'a str,
    value: &'a Spanned<DeValue<'i>>,
}

/// A table whose keys are taken one by one; what nobody took is unknown.
pub(super) struct Table<'a, 'i> {
    /// What messages call it, as it is written: `[[node]]`.
    pub(super) what: String,
    /// Its header.
    pub(super) span: Range<usize>,
    entries: BTreeMap<&'a str, (Range<usize>, &'a Spanned<DeValue<'i>>)>,
    known: Vec<&'static str>,
}

impl<'a, 'i> Table<'a, 'i> {
    pub(super) fn new(what: impl Into<String>, span: Range<usize>, table: &'a DeTable<'i>) -> Self {
        let entries = table
            .iter()
            .map(|(key, value)| (key.get_ref().as_ref(), (key.span(), value)))
            .collect();
        Self {
            what: what.into(),
            span,
            entries,
            known: Vec::new(),
        }
    }

    /// The value of `key`, if the table has it.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Value<'a, 'i>> {
        self.known.push(key);
        self.entries
            .remove(key)
            .map(|(_, value)| Value { key, value })
    }

    /// The value of `key`, or a problem that says it is missing.
    pub(super) fn need(
        &mut self,
        key: &'static str,
        example: &str,
        problems: &mut Problems,
    ) -> Option<Value<'a, 'i>> {
        let value = self.take(key);
        if value.is_none() {
            problems.error(
                &self.span,
                format!("{} has no `{key}`", self.what),
                format!("every {} needs one", self.what),
                format!("add `{key} = {example}`"),
            );
        }
        value
    }

    /// Every entry that is left, where the keys are names of the user's choice.
    pub(super) fn take_all(&mut self) -> Vec<(At<&'a str>, Value<'a, 'i>)> {
        std::mem::take(&mut self.entries)
            .into_iter()
            .map(|(key, (span, value))| (At::new(key, span), Value { key, value }))
            .collect()
    }

    /// Reports every key that nobody took.
    pub(super) fn finish(self, problems: &mut Problems) {
        for (key, (span, _)) in &self.entries {
            let nearest = self
                .known
                .iter()
                .map(|known| (strsim::damerau_levenshtein(key, known), *known))
                .filter(|(distance, known)| *distance <= known.len().max(key.len()).div_ceil(3))
                .min();
            let remedy = match nearest {
                Some((_, known)) => format!("did you mean `{known}`?"),
                None => format!("it knows {}", self.known.join(", ")),
            };
            problems.error(
                span,
                format!("{} has no key `{}`", self.what, shorten(key)),
                "a key that is not known would be a wish that nobody hears",
                remedy,
            );
        }
    }
}

impl<'a, 'i> Value<'a, 'i> {
    pub(super) fn span(&self) -> Range<usize> {
        self.value.span()
    }

    /// A string.
    pub(super) fn string(self, problems: &mut Problems) -> Option<At<String>> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(At::new(text.to_string(), self.span())),
            _ => self.mismatch("a string in quotes", problems),
        }
    }

    /// Yes or no.
    pub(super) fn switch(self, problems: &mut Problems) -> Option<At<bool>> {
        match self.value.get_ref() {
            DeValue::Boolean(value) => Some(At::new(*value, self.span())),
            _ => self.mismatch("true or false", problems),
        }
    }

    /// A whole number, not negative.
    pub(super) fn count(self, problems: &mut Problems) -> Option<At<u64>> {
        match self.value.get_ref() {
            DeValue::Integer(number) => {
                match u64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Some(At::new(number, self.span())),
                    Err(_) => self.mismatch("a whole number from 0 up", problems),
                }
            }
            _ => self.mismatch("a whole number, without quotes", problems),
        }
    }

    /// A size in bytes: a number, or a string with a unit.
    pub(super) fn size(self, problems: &mut Problems) -> Option<At<u64>> {
        let DeValue::String(text) = self.value.get_ref() else {
            return match self.value.get_ref() {
                DeValue::Integer(_) => self.count(problems),
                _ => self.mismatch("a size such as \"64 MiB\", or bytes as a number", problems),
            };
        };
        match text.parse::<bytesize::ByteSize>() {
            Ok(size) => Some(At::new(size.as_u64(), self.span())),
            Err(_) => self.mismatch("a size such as \"64 MiB\" or \"1 GB\"", problems),
        }
    }

    /// A length of time in nanoseconds, from a string with a unit.
    pub(super) fn age(self, problems: &mut Problems) -> Option<At<u64>> {
        let wanted = "a length of time such as \"7d\" or \"36h\", of at most 500 years";
        let DeValue::String(text) = self.value.get_ref() else {
            return self.mismatch(wanted, problems);
        };
        let nanos = humantime::parse_duration(text)
            .ok()
            .and_then(|age| u64::try_from(age.as_nanos()).ok());
        match nanos {
            Some(nanos) => Some(At::new(nanos, self.span())),
            None => self.mismatch(wanted, problems),
        }
    }

    /// One string or a list of them.
    pub(super) fn strings(self, problems: &mut Problems) -> Vec<At<String>> {
        match self.value.get_ref() {
            DeValue::Array(items) => items
                .iter()
                .filter_map(|value| {
                    Value {
                        key: self.key,
                        value,
                    }
                    .string(problems)
                })
                .collect(),
            DeValue::String(_) => self.string(problems).into_iter().collect(),
            _ => self
                .mismatch("a string in quotes, or a list of them", problems)
                .unwrap_or_default(),
        }
    }

    /// A table; `example` shows one to who wrote something else.
    pub(super) fn table(
        self,
        what: impl Into<String>,
        example: &str,
        problems: &mut Problems,
    ) -> Option<Table<'a, 'i>> {
        match self.value.get_ref() {
            DeValue::Table(table) => Some(Table::new(what, self.span(), table)),
            _ => {
                let wanted = format!("a table, as in `{} = {example}`", self.key);
                self.mismatch(&wanted, problems)
            }
        }
    }

    /// The string that it is, unless it is something else.
    pub(super) fn as_text(&self) -> Option<&'a str> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// Whether it is a whole number.
    pub(super) fn is_count(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::Integer(_))
    }

    /// Every table of an array of tables.
    pub(super) fn tables(self, problems: &mut Problems) -> Vec<Table<'a, 'i>> {
        let what = format!("[[{}]]", self.key);
        let DeValue::Array(items) = self.value.get_ref() else {
            let wanted = format!("written as {what}, in double brackets");
            return self.mismatch(&wanted, problems).unwrap_or_default();
        };
        let table = |value: &'a Spanned<DeValue<'i>>| match value.get_ref() {
            DeValue::Table(table) => Some(Table::new(what.clone(), value.span(), table)),
            _ => {
                let key = self.key;
                let wanted = format!("written as {what}, in double brackets");
                Value { key, value }.mismatch(&wanted, problems)
            }
        };
        items.iter().filter_map(table).collect()
    }

    fn mismatch<T>(self, wanted: &str, problems: &mut Problems) -> Option<T> {
        let found = match self.value.get_ref() {
            DeValue::String(text) => format!("{:?}", shorten(text)),
            DeValue::Integer(number) => shorten(number.as_str()),
            DeValue::Float(number) => shorten(number.as_str()),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(_) => "a date".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        problems.error(
            &self.span(),
            format!("`{}` cannot be {found}", self.key),
            "the value is of another kind than the key asks for",
            format!("`{}` is {wanted}", self.key),
        );
        None
    }
}

/// Enough of a hostile text to recognise it.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
