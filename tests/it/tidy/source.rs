//! Rust text as the checks need it: code without comments and literals, its words, its paths.

use std::collections::BTreeSet;

/// `text` with comments and the insides of literals turned to spaces. Lines and columns stay.
pub(super) fn code(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at).unwrap_or(at);
        if end == at {
            out.push(chars[at]);
            at += 1;
        }
        for c in &chars[at.min(end)..end] {
            out.push(if *c == '\n' { '\n' } else { ' ' });
        }
        at = at.max(end);
    }
    out
}

/// The part of `text` from its test module on; empty if it has none.
pub(super) fn test_part(text: &str) -> &str {
    text.find("#[cfg(test)]").map_or("", |at| &text[at..])
}

/// A file without it.
pub(super) fn code_part(text: &str) -> &str {
    &text[..text.len() - test_part(text).len()]
}

/// Identifiers and keywords of masked code, each with its line from 1.
pub(super) fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().flat_map(|(line, text)| {
        text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
            .filter(|word| !word.is_empty())
            .map(move |word| (line + 1, word))
    })
}

/// The segments that follow `prefix` in paths of masked code, groups in braces included: for
/// `crate::` all rooms that are named, each with its line.
pub(super) fn segments_after(code: &str, prefix: &str) -> BTreeSet<(usize, String)> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$' || c == ':') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group).map(|head| (line, head))),
            None => found.extend(head(rest).map(|head| (line, head))),
        }
    }
    found
}

/// The first segment of each member of a group whose opening brace is behind.
fn group_heads(group: &str) -> impl Iterator<Item = String> {
    let mut depth = 1;
    let end = group.find(|c| {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        depth == 0
    });
    let mut nested = 0;
    group[..end.unwrap_or(group.len())]
        .split(move |c| {
            nested += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            c == ',' && nested == 0
        })
        .filter_map(head)
        .collect::<Vec<_>>()
        .into_iter()
}

fn head(path: &str) -> Option<String> {
    let path = path.trim_start();
    let end = path.find(|c: char| !(c.is_alphanumeric() || c == '_'));
    let head = &path[..end.unwrap_or(path.len())];
    (!head.is_empty()).then(|| head.to_owned())
}

/// Where the comment or literal that starts at `at` ends, if one starts there.
fn literal_end(chars: &[char], at: usize) -> Option<usize> {
    let next = chars.get(at + 1).copied();
    let in_word = at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_');
    match (chars[at], next) {
        ('/', Some('/')) => Some(find(chars, at, |c, _| c == '\n')),
        ('/', Some('*')) => Some(block_comment_end(chars, at)),
        ('"', _) => Some(quoted_end(chars, at, '"')),
        ('r' | 'b' | 'c', _) if !in_word => prefixed_end(chars, at),
        ('\'', Some('\\')) => Some(quoted_end(chars, at, '\'')),
        // 'a' is a character, 'a a lifetime.
        ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => Some(at + 3),
        _ => None,
    }
}

/// The end of a literal with a prefix: `b"…"`, `r"…"`, `br##"…"##`, `b'…'`.
fn prefixed_end(chars: &[char], at: usize) -> Option<usize> {
    let letters = chars[at..]
        .iter()
        .take(2)
        .take_while(|c| matches!(c, 'r' | 'b' | 'c'))
        .count();
    let raw = chars[at..at + letters].contains(&'r');
    let hashes = chars[at + letters..]
        .iter()
        .take_while(|c| **c == '#')
        .count();
    let quote = at + letters + hashes;
    match chars.get(quote)? {
        '"' if raw => Some(find(chars, quote + 1, |_, end| {
            chars[end] == '"'
                && chars[end + 1..]
                    .iter()
                    .take(hashes)
                    .filter(|c| **c == '#')
                    .count()
                    == hashes
        }))
        .map(|end| (end + 1 + hashes).min(chars.len())),
        '"' if hashes == 0 => Some(quoted_end(chars, quote, '"')),
        '\'' if hashes == 0 && chars[at] == 'b' => Some(quoted_end(chars, quote, '\'')),
        _ => None,
    }
}

fn quoted_end(chars: &[char], start: usize, quote: char) -> usize {
    let mut at = start + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0;
    let mut at = start;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => depth += 1,
            ('*', Some('/')) => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn find(chars: &[char], from: usize, is_end: impl Fn(char, usize) -> bool) -> usize {
    (from..chars.len())
        .find(|at| is_end(chars[*at], *at))
        .unwrap_or(chars.len())
}

#[test]
fn comments_and_literals_are_no_code() {
    for (text, expected) in [
        ("a // b \"c\nd", "a        \nd"),
        ("a /* b /* c */ d */ e", "a                   e"),
        ("f(\"a\\\"b\") + c", "f(      ) + c"),
        ("f(r#\"a\"b\"#) + c", "f(        ) + c"),
        ("f(b\"a\", b'x', 'y')", "f(    ,     ,    )"),
        ("f('\\'', '\\n', '\"')", "f(    ,     ,    )"),
        ("fn f<'a>(x: &'a str)", "fn f<'a>(x: &'a str)"),
        ("let bar = car;", "let bar = car;"),
        ("\"open", "     "),
        ("/* open", "       "),
        ("x /* 订 */ y", "x         y"),
    ] {
        assert_eq!(code(text), expected, "{text}");
    }
}

#[test]
fn paths_are_found_with_their_groups() {
    let found = |text: &str| -> Vec<(usize, String)> {
        segments_after(text, "crate::").into_iter().collect()
    };
    let named = |names: &[(usize, &str)]| -> Vec<(usize, String)> {
        names
            .iter()
            .map(|(line, name)| (*line, (*name).to_owned()))
            .collect()
    };
    for (text, expected) in [
        ("use crate::types::Time;", &[(1, "types")][..]),
        ("\nlet x = crate::wire::Code::Busy;", &[(2, "wire")]),
        (
            "use crate::{types::{A, B}, wire, node::io};",
            &[(1, "node"), (1, "types"), (1, "wire")],
        ),
        ("pub(crate) fn f() {}", &[]),
        ("$crate::types", &[]),
    ] {
        assert_eq!(found(text), named(expected), "{text}");
    }
}
