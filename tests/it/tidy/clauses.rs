//! Every clause of PROTOCOL.md is cited by a test: somewhere in a test stands its number, as `[C7]`
//! or `[P3]`.

use std::collections::BTreeSet;

use super::source::test_part;
use super::{assert_none, rust_files};

const SPECIFICATION: &str = include_str!("../../../src/wire/PROTOCOL.md");

/// Clauses whose tests come with the code that keeps them. The list only shrinks: a clause in it
/// that a test cites, or that the page does not hold, fails.
const AWAITING: &[&str] = &[];

#[test]
fn every_clause_is_cited_by_a_test() {
    let cited = rust_files(&["src", "tests"])
        .iter()
        .filter(|file| !file.path.starts_with("tests/it/tidy"))
        .flat_map(|file| match file.path.starts_with("tests/") {
            true => citations(&file.text),
            false => citations(test_part(&file.text)),
        })
        .collect();
    assert_none(&problems(&declared(SPECIFICATION), &cited, AWAITING));
}

#[test]
fn the_clauses_are_numbered_in_order() {
    for letter in ["C", "P"] {
        let numbers: Vec<String> = declared(SPECIFICATION)
            .into_iter()
            .filter(|clause| clause.starts_with(letter))
            .collect();
        let expected: Vec<String> = (1..=numbers.len())
            .map(|n| format!("{letter}{n}"))
            .collect();
        assert!(numbers.len() > 5);
        assert_eq!(numbers, expected);
    }
}

fn problems(declared: &[String], cited: &BTreeSet<String>, awaiting: &[&str]) -> Vec<String> {
    let mut problems = Vec::new();
    for clause in declared {
        match (cited.contains(clause), awaiting.contains(&&**clause)) {
            (false, false) => problems.push(format!("[{clause}]: no test cites it")),
            (true, true) => problems.push(format!("[{clause}]: cited, so take it off AWAITING")),
            _ => {}
        }
    }
    let known = |clause: &&str| declared.iter().any(|declared| declared == clause);
    for clause in awaiting.iter().copied().filter(|clause| !known(clause)) {
        problems.push(format!("[{clause}]: on AWAITING, but no clause"));
    }
    for clause in cited
        .iter()
        .map(|clause| &**clause)
        .filter(|clause| !known(clause))
    {
        problems.push(format!("[{clause}]: cited by a test, but no clause"));
    }
    problems
}

/// The clauses of the page in its order: list items that start with a bold number.
fn declared(page: &str) -> Vec<String> {
    page.lines()
        .filter_map(|line| line.strip_prefix("- **["))
        .filter_map(|rest| rest.split_once("]**"))
        .map(|(clause, _)| clause.to_owned())
        .collect()
}

/// All of `[C1]`, `[P12]` and the like in `text`.
fn citations(text: &str) -> BTreeSet<String> {
    text.split('[')
        .skip(1)
        .filter_map(|rest| rest.split_once(']'))
        .map(|(inside, _)| inside)
        .filter(|inside| {
            let digits = inside.strip_prefix(['C', 'P']).unwrap_or("");
            !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit())
        })
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_clause_without_a_test_is_seen() {
    let page = "- **[C1]** One.\n- **[C2]** Two, see [C9].\n- **[P1]** Three.\n";
    let declared = declared(page);
    assert_eq!(declared, ["C1", "C2", "P1"]);
    let cited = citations("/// [C1]\n/// [P1] and a[C] and [C2x] and [D4]\n");
    assert_eq!(cited, ["C1", "P1"].map(str::to_owned).into());
    for (awaiting, culprit) in [
        (&[][..], "[C2]: no test"),
        (&["C2", "P1"], "[P1]: cited"),
        (&["C2", "C7"], "[C7]: on AWAITING"),
    ] {
        let found = problems(&declared, &cited, awaiting);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(culprit), "{found:?}");
    }
    assert_eq!(problems(&declared, &cited, &["C2"]), Vec::<String>::new());
    let strange = citations("[C1] [P1] [C8]");
    let found = problems(&declared, &strange, &["C2"]);
    assert_eq!(found, ["[C8]: cited by a test, but no clause"]);
}
