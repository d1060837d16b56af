//! Whatever text is read as a topology, it is answered.

use proptest::prelude::*;

use super::{SOUND, read, with};

proptest! {
    /// Any text is answered, never with a panic, and never with silence if it declares nothing.
    #[test]
    fn arbitrary_text_is_answered(text in "\\PC{0,200}") {
        let parsed = read(&text);
        prop_assert!(parsed.topology.is_some() || !parsed.problems.is_empty());
    }

    /// A sound file with a piece of it replaced: the places of all problems lie in the text.
    #[test]
    fn a_damaged_file_is_answered(
        start in 0..SOUND.len(),
        length in 0..40usize,
        piece in prop_oneof![
            "\\PC{0,20}",
            Just("\"\"".to_owned()),
            "[0-9]{1,30}",
            "[\\[\\]{}=.#*\n]{1,9}",
        ],
    ) {
        let end = (start + length).min(SOUND.len());
        let text = format!("{}{piece}{}", &SOUND[..start], &SOUND[end..]);
        let parsed = read(&text);
        prop_assert!(parsed.topology.is_some() || !parsed.problems.is_empty());
        for problem in &parsed.problems {
            prop_assert!(text.get(problem.span.clone()).is_some(), "{problem:?}");
        }
    }

    /// Any value under any key is answered.
    #[test]
    fn hostile_values_are_answered(line in 2..23usize, value in "\\PC{0,30}|[0-9eE+.-]{1,40}") {
        let key = SOUND.lines().nth(line - 1).and_then(|line| line.split_once(" = "));
        if let Some((key, _)) = key {
            for text in [format!("{key} = {value}"), format!("{key} = '{value}'")] {
                let parsed = read(&with(line, &text));
                prop_assert!(parsed.topology.is_some() || !parsed.problems.is_empty());
            }
        }
    }
}
