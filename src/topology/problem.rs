//! What is wrong with a topology file, and where.

use std::ops::Range;
use std::path::Path;
use std::str::FromStr;

use serde::Serialize;

use super::model::Topology;

/// Characters of one sentence about a problem: the longest of ours, with names and a list.
const SENTENCE_MAX: usize = 600;

/// The answer to a topology file: all that is wrong with it, and what it declares if no error is
/// among the problems.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// What the file declares; absent if any problem is an error.
    pub topology: Option<Topology>,
    /// Every problem, in the order of the file.
    pub problems: Vec<Problem>,
}

/// One problem of a topology file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Whether the file can be used all the same.
    pub severity: Severity,
    /// The bytes of the text it is about.
    pub span: Range<usize>,
    /// What is wrong, naming the culprit.
    pub message: String,
    /// Why that is wrong.
    pub why: String,
    /// What to write instead.
    pub remedy: String,
}

/// How grave a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file can be used, with a risk that is named.
    Warning,
    /// The file cannot be used.
    Error,
}

impl Problem {
    /// The line it starts on, from 1.
    pub fn line(&self, text: &str) -> usize {
        let end = self.span.start.min(text.len());
        text.as_bytes()[..end]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1
    }
}

/// Collects problems.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub(super) fn error(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(
            Severity::Error,
            span,
            message.into(),
            why.into(),
            remedy.into(),
        );
    }

    pub(super) fn warning(
        &mut self,
        span: &Range<usize>,
        message: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(
            Severity::Warning,
            span,
            message.into(),
            why.into(),
            remedy.into(),
        );
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether any of them is an error.
    pub(super) fn has_error(&self) -> bool {
        self.0
            .iter()
            .any(|problem| problem.severity == Severity::Error)
    }

    /// All of them in the order of the file, errors first where one place has several.
    pub(super) fn sorted(mut self) -> Vec<Problem> {
        self.0.sort_by_key(|problem| {
            (
                problem.span.start,
                std::cmp::Reverse(problem.severity),
                problem.span.end,
            )
        });
        self.0
    }

    fn push(
        &mut self,
        severity: Severity,
        span: &Range<usize>,
        message: String,
        why: String,
        remedy: String,
    ) {
        self.0.push(Problem {
            severity,
            span: span.clone(),
            message: bounded(message),
            why: bounded(why),
            remedy: bounded(remedy),
        });
    }
}

/// A text that declares no topology, and every error in it, each with its line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the topology cannot be used:{}", self.lines())]
pub struct TopologyError {
    /// Line, from 1, and what is wrong there.
    pub errors: Vec<(usize, Problem)>,
}

impl TopologyError {
    fn lines(&self) -> String {
        let line = |(line, problem): &(usize, Problem)| {
            format!("\n  line {line}: {}; {}", problem.message, problem.remedy)
        };
        self.errors.iter().map(line).collect()
    }
}

/// Reads a topology file's text. Relative paths in it start at the working directory. Warnings are
/// passed over; [`parse`](super::parse) tells them.
impl FromStr for Topology {
    type Err = TopologyError;

    fn from_str(text: &str) -> Result<Self, TopologyError> {
        let Parsed { topology, problems } = super::parse(text, Path::new("."));
        topology.ok_or_else(|| {
            let errors = problems.into_iter();
            let errors = errors.filter(|problem| problem.severity == Severity::Error);
            let line = |problem: &Problem| {
                let before = text.bytes().take(problem.span.start);
                1 + before.filter(|byte| *byte == b'\n').count()
            };
            TopologyError {
                errors: errors.map(|problem| (line(&problem), problem)).collect(),
            }
        })
    }
}

/// What a problem says, at most [`SENTENCE_MAX`] characters of it: no text of the file, however
/// long, is printed back whole.
fn bounded(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(SENTENCE_MAX) {
        text.truncate(end);
        text.push('…');
    }
    text
}
