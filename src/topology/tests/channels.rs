//! A channel's mistakes are told all at once, and none that follows from another alone.

use super::{SOUND, check, with};

#[test]
fn one_bad_value_hides_no_other() {
    let orders = |lines: &str| with(18, &format!("[channel.orders]\n{lines}"));
    check(
        &orders("partitions = 0\nreplicas = 9\nkeep = \"30d\"\nmax_record = \"65 MiB\""),
        &[
            (19, 'E', "cannot have 0 partitions"),
            (20, 'E', "cannot have 9 replicas"),
            (21, 'E', "`keep` cannot be \"30d\""),
            (22, 'E', "`max_record` of channel orders cannot be 65.0 MiB"),
        ],
    );
    check(
        &orders("partitions = 0\nreplicas = 1"),
        &[
            (19, 'E', "cannot have 0 partitions"),
            (20, 'W', "has one copy of each record"),
        ],
    );
    let more = "[channel.x]\nkind = 'strem'\nsubjects = 'x'\npartitions = 0\n\
        [channel.y]\nkind = 'strem'\nsubjects = 'y'\npartitions = 10000000\nreplicas = 4\n";
    check(
        &format!("{SOUND}{more}"),
        &[
            (25, 'E', "`kind` cannot be \"strem\""),
            (27, 'E', "channel x cannot have 0 partitions"),
            (29, 'E', "`kind` cannot be \"strem\""),
            (31, 'E', "channel y cannot have 10000000 partitions"),
            (32, 'E', "wants 4 replicas, but there are 3 nodes"),
        ],
    );
}

#[test]
fn what_follows_from_another_mistake_alone_is_not_told() {
    // What could not be read is not taken for the default, nor a default for a wish.
    let text = with(18, "[channel.orders]\nreplicas = \"two\"");
    let single: Vec<&str> = text.lines().take(7).chain(text.lines().skip(17)).collect();
    check(
        &single.join("\n"),
        &[(9, 'E', "`replicas` cannot be \"two\"")],
    );
    let text = with(19, "kind = \"strem\"");
    let single: Vec<&str> = text.lines().take(7).chain(text.lines().skip(17)).collect();
    check(
        &single.join("\n"),
        &[(9, 'E', "`kind` cannot be \"strem\"")],
    );
    // A count that cannot be does not use up what the others may have.
    let more = "[channel.x]\nkind = 'stream'\nsubjects = 'x'\npartitions = 10000000\n\
        [channel.y]\nkind = 'stream'\nsubjects = 'y'\npartitions = 2\n";
    check(
        &format!("{SOUND}{more}"),
        &[(27, 'E', "channel x cannot have 10000000 partitions")],
    );
    // A signal may say that it has no replicas.
    check(
        &with(22, "kind = \"sginal\"\nreplicas = 0\npartitions = 1"),
        &[(22, 'E', "write \"signal\" or \"stream\"")],
    );
}

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

/// The words for somebody who has never heard of a quorum.
#[test]
fn few_copies_are_explained() {
    let replicas = |count: u32, part: &str| {
        let text = with(18, &format!("[channel.orders]\nreplicas = {count}"));
        check(&text, &[(19, 'W', part)]);
    };
    replicas(1, "one copy of each record: lose its disk, and it is lost");
    replicas(
        1,
        "nobody can read or write while the one node that has it is away",
    );
    replicas(
        2,
        "channel orders stands still while either of its 2 copies is away",
    );
    replicas(2, "more than half of 2 is both");
    replicas(
        2,
        "write `replicas = 3` or more, on nodes of at least 3 hosts",
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
