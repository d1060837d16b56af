//! A channel's mistakes are told all at once, and none that follows from another alone.

use super::{SOUND, check, with};

#[test]
fn keep_is_shown_as_it_is_written() {
    let keep = |value: &str, part: &str| {
        let text = with(18, &format!("[channel.orders]\nkeep = {value}"));
        check(&text, &[(19, 'E', part)]);
    };
    keep("\"30d\"", "a table, as in `keep = { age = \"30d\" }`");
    keep("'10 GiB'", "`keep = { size = \"10 GiB\" }`");
    keep("5000", "`keep = { count = 1000000 }`");
    keep("true", "`keep = { age = \"30d\", size = \"10 GiB\" }`");
    check(
        &SOUND.replace("[channel.orders]", "[channel]\norders = 1\n[channel.other]"),
        &[(19, 'E', "as in `orders = { kind = \"stream\"")],
    );
}

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
