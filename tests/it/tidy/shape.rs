//! The shape of files: documented, not too long, finished.

use super::source::{code, test_part, words};
use super::{assert_none, rust_files};

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;

/// The one file of tests that may sleep: between two looks at a condition it waits for.
const POLLS: &str = "tests/it/support.rs";

#[test]
fn every_file_is_in_shape() {
    let problems: Vec<String> = rust_files(&["src", "tests", "examples", "zeromq-src"])
        .iter()
        .flat_map(|file| problems(&file.path, &file.text))
        .collect();
    assert_none(&problems);
}

fn problems(path: &str, text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let code = code(text);
    if !text.starts_with("//! ") {
        problems.push(format!(
            "{path}:1: a file starts with `//! ` and what it is for"
        ));
    }
    let count = text.lines().count();
    if count > FILE_LINES_MAX {
        problems.push(format!("{path}: {count} lines, at most {FILE_LINES_MAX}"));
    }
    for (line, text) in text.lines().enumerate() {
        let columns = text.chars().count();
        if columns > LINE_COLUMNS_MAX {
            let line = line + 1;
            problems.push(format!(
                "{path}:{line}: {columns} columns, at most {LINE_COLUMNS_MAX}"
            ));
        }
    }
    for (line, name, lines) in functions(&code) {
        if lines > FUNCTION_LINES_MAX {
            problems.push(format!(
                "{path}:{line}: `{name}` has {lines} lines, at most {FUNCTION_LINES_MAX}"
            ));
        }
    }
    problems.extend(unfinished(path, text, &code));
    let tests = match path.starts_with("tests/") {
        true => text,
        false => test_part(text),
    };
    let sleeps = |word: &str| ["sleep", "sleep_ms", "park_timeout"].contains(&word);
    if path != POLLS && words(&super::source::code(tests)).any(|(_, word)| sleeps(word)) {
        problems.push(format!(
            "{path}: a test waits for a condition (with {POLLS}), it never sleeps"
        ));
    }
    problems
}

/// What says that something is not done. The words are joined here, or this file would hold them.
fn unfinished(path: &str, text: &str, code: &str) -> Vec<String> {
    let in_code = [concat!("to", "do!"), concat!("unimple", "mented!")];
    let anywhere = [
        concat!("FIX", "ME"),
        concat!("TO", "DO"),
        concat!("XX", "X:"),
    ];
    let attribute = concat!("#[ig", "nore");
    let found = in_code
        .iter()
        .chain([&attribute])
        .filter(|word| code.contains(**word))
        .chain(anywhere.iter().filter(|word| text.contains(**word)));
    found
        .map(|word| format!("{path}: holds `{word}`; finish it or leave it out"))
        .collect()
}

/// The functions with a body in masked code: line, name, and lines from `fn` to the last brace.
fn functions(code: &str) -> Vec<(usize, String, usize)> {
    let chars: Vec<char> = code.chars().collect();
    let mut found = Vec::new();
    let mut line = 1;
    for at in 0..chars.len() {
        if chars[at] == '\n' {
            line += 1;
        }
        if let Some(name) = function_name(&chars, at)
            && let Some(lines) = body_lines(&chars[at..])
        {
            found.push((line, name, lines));
        }
    }
    found
}

/// The name of the function whose `fn` stands at `at`. A type such as `fn(u8)` has none.
fn function_name(chars: &[char], at: usize) -> Option<String> {
    let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
    let starts = at == 0 || !is_word(&chars[at - 1]);
    if !starts || !chars[at..].starts_with(&['f', 'n', ' ']) {
        return None;
    }
    let name: String = chars[at + 3..].iter().take_while(|c| is_word(c)).collect();
    (!name.is_empty()).then_some(name)
}

/// How many lines it takes from here to the end of the first body in braces, if one comes before
/// the end of the declaration.
fn body_lines(chars: &[char]) -> Option<usize> {
    let (mut lines, mut braces, mut brackets) = (1, 0, 0);
    for c in chars {
        match c {
            '\n' => lines += 1,
            '(' | '[' if braces == 0 => brackets += 1,
            ')' | ']' if braces == 0 => brackets -= 1,
            ';' if braces == 0 && brackets == 0 => return None,
            '{' => braces += 1,
            '}' if braces == 1 => return Some(lines),
            '}' => braces -= 1,
            _ => {}
        }
    }
    None
}

#[test]
fn a_file_out_of_shape_is_seen() {
    let long_function = format!("//! A.\nfn f() {{\n{}}}\n", "    g();\n".repeat(69));
    let long_file = format!("//! A.\n{}", "\n".repeat(FILE_LINES_MAX));
    let wide = format!("//! A.\n// {}\n", "订".repeat(98));
    let nap = "//! A.\n#[cfg(test)]\nmod tests { fn f() { std::thread::sleep(x) } }\n";
    for (path, text, culprit) in [
        ("src/a.rs", "fn f() {}\n", "//!"),
        ("src/a.rs", &long_function, "`f` has 71 lines"),
        ("src/a.rs", &long_file, "601 lines"),
        ("src/a.rs", &wide, "101 columns"),
        (
            "src/a.rs",
            concat!("//! A.\nfn f() { to", "do!() }\n"),
            "finish",
        ),
        (
            "src/a.rs",
            concat!("//! A.\n// FIX", "ME later\n"),
            "finish",
        ),
        (
            "tests/a.rs",
            concat!("//! A.\n#[ig", "nore]\nfn f() {}\n"),
            "finish",
        ),
        (
            "tests/a.rs",
            "//! A.\nfn f() { sleep(x) }\n",
            "never sleeps",
        ),
        ("src/a.rs", nap, "never sleeps"),
        (
            "tests/a.rs",
            "//! A.\nfn f() { park_timeout(x) }\n",
            "never sleeps",
        ),
    ] {
        let found = problems(path, text);
        assert_eq!(found.len(), 1, "{culprit}: {found:?}");
        assert!(found[0].contains(culprit), "{found:?}");
    }
    for (path, text) in [
        (POLLS, "//! A.\nfn f() { sleep(x) }\n"),
        ("src/actor/a.rs", "//! A.\nfn f() { sleep(x) }\n"),
        (
            "tests/a.rs",
            "//! Never sleep in here.\nfn f(x: [u8; 2]) -> fn(u8);\n",
        ),
    ] {
        assert_eq!(problems(path, text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn functions_are_measured_whole() {
    let text = "fn a(x: [u8; 2]) {\n  if x { y }\n}\ntrait T { fn b(&self);\n fn c() {} }\n";
    let found = functions(text);
    let expected = [(1, "a".into(), 3), (5, "c".into(), 1)];
    assert_eq!(found, expected);
}
