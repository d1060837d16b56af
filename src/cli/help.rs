//! What `--help` says beyond the definition of each command: which commands belong together, and
//! how each is called.

use clap::{Command, CommandFactory};

use super::Cli;

/// What people want, and the commands for it, in the order of `weft --help`.
const GROUPS: &[(&str, &[&str])] = &[
    ("Run a fabric", &["up", "node", "keys"]),
    ("Publish and read", &["publish", "subscribe", "cursor"]),
    ("Look inside", &["status", "ledger", "journal"]),
    ("Before a rollout", &["check", "plan", "diff"]),
    ("Try to break it", &["drill", "simulate", "bench"]),
    ("Have it at hand", &["manual", "completions"]),
];

/// Calls of each command, as a person would paste them.
const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "up",
        &[
            "weft up",
            "weft up fabric.toml --data /srv/weft --identity ops.secret",
            "weft up fabric.toml --replace c",
        ],
    ),
    (
        "node",
        &[
            "weft node fabric.toml alpha --data /srv/weft/alpha",
            "weft node fabric.toml alpha --data /srv/weft/empty --replace",
        ],
    ),
    (
        "keys new",
        &[
            "weft keys new --for node alpha",
            "weft keys new --for client billing --out /etc/weft/billing.secret",
        ],
    ),
    (
        "publish",
        &[
            "weft publish orders.eu.new 'two shirts' --key customer-42",
            "weft publish orders.eu.new --topology fabric.toml < orders.txt",
            "weft publish ticks.eu 17 --header unit=kelvin --confirm none",
        ],
    ),
    (
        "subscribe",
        &[
            "weft subscribe 'orders.#'",
            "weft subscribe 'orders.eu.*' --from start --count 10 --json",
            "weft subscribe 'orders.#' --from orders/2/17",
            "weft subscribe 'orders.#' --cursor billing --from start",
        ],
    ),
    (
        "cursor list",
        &["weft cursor list", "weft cursor list orders --json"],
    ),
    ("cursor show", &["weft cursor show billing"]),
    (
        "cursor seek",
        &[
            "weft cursor seek billing orders/2/17",
            "weft cursor seek billing 2026-01-31T12:00:00Z --channel orders",
        ],
    ),
    (
        "cursor delete",
        &["weft cursor delete billing --channel orders"],
    ),
    (
        "status",
        &[
            "weft status",
            "weft status --wait 60 --topology fabric.toml --identity ops.secret",
            "weft status --connect tcp://10.0.0.1:7101 --json",
        ],
    ),
    ("ledger", &["weft ledger", "weft ledger orders --verify"]),
    ("journal verify", &["weft journal verify weft-data/a"]),
    (
        "journal dump",
        &["weft journal dump weft-data/a --partition orders/0"],
    ),
    ("check", &["weft check fabric.toml"]),
    (
        "plan",
        &[
            "weft plan",
            "weft plan fabric.toml alpha --json",
            "weft plan fabric.toml --format svg > fabric.svg",
        ],
    ),
    ("diff", &["weft diff running.toml next.toml"]),
    (
        "bench signal",
        &[
            "weft bench signal --size 128 --runs 5 --json",
            "weft bench signal --curve",
        ],
    ),
    (
        "bench stream",
        &[
            "weft bench stream --size 1024 --window 1000 --json",
            "weft bench stream --plot stream.svg",
        ],
    ),
    (
        "bench latency",
        &["weft bench latency --nodes 3 --seconds 10"],
    ),
    (
        "bench fanout",
        &["weft bench fanout --consumers 10 --size 128"],
    ),
    ("bench history", &["weft bench history --mib 4096"]),
    (
        "bench connections",
        &["weft bench connections --count 5000 --runs 1"],
    ),
    ("bench recovery", &["weft bench recovery --gib 10 --runs 5"]),
    (
        "bench idle",
        &["weft bench idle --partitions 64 --seconds 20"],
    ),
    (
        "drill",
        &[
            "weft drill --seconds 20",
            "weft drill fabric.toml --producers 8 --rate 2000",
        ],
    ),
    (
        "simulate",
        &[
            "weft simulate --seed 7",
            "weft simulate --seeds 1..100 --json",
        ],
    ),
    ("manual", &["weft manual --out /usr/local/share/man/man1"]),
    (
        "completions",
        &["weft completions bash > ~/.local/share/bash-completion/completions/weft"],
    ),
];

/// The command line with all that its help says.
pub(super) fn command() -> Command {
    let command = Cli::command();
    let listing = listing(&command);
    command
        .help_template("{about-with-newline}\nUsage: {usage}\n\n{before-help}Options:\n{options}")
        .before_help(listing)
        .mut_subcommands(|sub| dress(sub, ""))
}

/// Every group, with what each of its commands is for.
fn listing(command: &Command) -> String {
    let mut text = String::new();
    for (what, names) in GROUPS {
        text += &format!("{what}:\n");
        for name in *names {
            let own = command.find_subcommand(name);
            let about = own.and_then(Command::get_about).map(ToString::to_string);
            let aliases = own.into_iter().flat_map(Command::get_visible_aliases);
            let called: Vec<&str> = std::iter::once(*name).chain(aliases).collect();
            let called = called.join(", ");
            text += &format!("  {called:<15} {}\n", about.unwrap_or_default());
        }
    }
    text + "\n`weft COMMAND --help` says more, with examples."
}

/// Lets a command's help end with its examples; of one that has commands, with theirs.
fn dress(command: Command, above: &str) -> Command {
    if command.is_hide_set() {
        return command;
    }
    let path = format!("{above}{}", command.get_name());
    let examples: Vec<&str> = EXAMPLES
        .iter()
        .filter(|(of, _)| *of == path || of.starts_with(&format!("{path} ")))
        .flat_map(|(_, examples)| examples.iter().copied())
        .collect();
    let mut text = command
        .get_after_help()
        .map_or(String::new(), |text| format!("{text}\n\n"));
    text += "Examples:";
    for example in examples {
        text += &format!("\n  {example}");
    }
    command
        .after_help(text)
        .mut_subcommands(|sub| dress(sub, &format!("{path} ")))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{FromArgMatches, Parser};

    use super::*;

    /// The words of a line as a shell takes them, up to a redirection.
    fn words(line: &str) -> Vec<String> {
        let mut words = vec![String::new()];
        for (number, part) in line.split('\'').enumerate() {
            let quoted = number % 2 == 1;
            for c in part.chars() {
                match c {
                    ' ' if !quoted => words.push(String::new()),
                    _ => words.last_mut().expect("a word").push(c),
                }
            }
        }
        let end = words.iter().position(|word| word == "<" || word == ">");
        words.truncate(end.unwrap_or(words.len()));
        words
    }

    /// Each command below this one, with its own.
    fn all(command: &Command) -> Vec<Command> {
        let below = command
            .get_subcommands()
            .filter(|sub| sub.get_name() != "help" && !sub.is_hide_set());
        let below = below.flat_map(|sub| [vec![sub.clone()], all(sub)].concat());
        below.collect()
    }

    #[test]
    fn the_help_of_every_command_ends_with_examples_that_are_right() {
        let mut root = command();
        root.build();
        let commands = all(&root);
        assert!(commands.len() > 20, "{}", commands.len());
        let mut seen = 0;
        for mut command in commands {
            let help = command.render_help().to_string();
            let (_, examples) = help.rsplit_once("Examples:\n").expect("examples");
            let name = command.get_bin_name().expect("built").to_owned();
            assert!(examples.lines().count() > 0, "{name} has no example");
            for line in examples.lines() {
                assert!(
                    line.starts_with(&format!("  {name} ")) || line.trim() == name,
                    "{line}"
                );
                let parsed = super::command().try_get_matches_from(words(line.trim()));
                let matches = parsed.unwrap_or_else(|error| panic!("{line}: {error}"));
                Cli::from_arg_matches(&matches).unwrap_or_else(|error| panic!("{line}: {error}"));
                seen += 1;
            }
        }
        assert!(seen > 30, "{seen}");
        // Such an example would be noticed.
        assert!(Cli::try_parse_from(words("weft publish --bogus")).is_err());
    }

    #[test]
    fn every_command_is_in_one_group() {
        let grouped: Vec<&str> = GROUPS
            .iter()
            .flat_map(|(_, names)| names.iter().copied())
            .collect();
        let command = Cli::command();
        let shown = command.get_subcommands().filter(|sub| !sub.is_hide_set());
        let names: BTreeSet<&str> = shown.map(Command::get_name).collect();
        assert_eq!(grouped.iter().copied().collect::<BTreeSet<_>>(), names);
        assert_eq!(grouped.len(), names.len(), "none twice");
    }
}
