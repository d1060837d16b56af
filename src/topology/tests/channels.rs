//! A channel's mistakes are told all at once, and none that follows from another alone.

use super::with;

#[test]
fn no_text_of_the_file_is_told_whole() {
    let long = "x".repeat(900_000);
    for (line, text) in [
        (4, format!("name = \"{long}\"")),
        (5, format!("clients = \"{long}\"")),
        (5, format!("clients = \"{long}://x\"")),
        (18, format!("[channel.{long}]")),
        (19, format!("kind = \"{long}\"")),
        (20, format!("subjects = \"{long}\"")),
        (20, format!("{long} = \"{long}\"")),
        (20, format!("{long} = 1\n{long} = 2")),
        (20, format!("subjects = [{long}]")),
    ] {
        let problems = super::read(&with(line, &text)).problems;
        assert!(!problems.is_empty());
        for problem in problems {
            let told = [problem.message, problem.why, problem.remedy].concat();
            assert!(told.len() < 2_000, "line {line}: {} bytes", told.len());
        }
    }
}
