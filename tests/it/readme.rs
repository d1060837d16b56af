//! README.md says what is: its commands run as they are written and print what it shows, its
//! excerpts are those of the files, its links and the tests that it names exist.

pub(crate) mod page;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use crate::readme::page::{Block, blocks, headings, links, section, shows};
use crate::skips::python;
use crate::support::{free_port, wait_for, weft};

const README: &str = include_str!("../../README.md");

const QUICKSTART: &str = include_str!("../../topology/quickstart.toml");

/// The ports of the quickstart, which others on this machine may use.
const PORTS: [u16; 9] = [7101, 7102, 7103, 7201, 7202, 7203, 7301, 7302, 7303];

/// The longest the second terminal may take, in seconds: only a hang runs into it.
const TIMEOUT: &str = "300";

/// Stands in the page's folder for what cargo would build and run.
const CARGO: &str = "#!/bin/sh\n\
    [ \"$1 $2 $3\" = 'run --release --' ] || { echo \"not known: cargo $*\" >&2; exit 1; }\n\
    shift 3\n\
    exec target/release/weft \"$@\"\n";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A folder that looks like a fresh clone after a build, on ports of its own.
struct Desk {
    folder: TempDir,
    ports: Vec<(String, String)>,
}

impl Desk {
    fn new(python: Option<&Path>) -> Self {
        let port = |port: u16| (format!(":{port}"), format!(":{}", free_port()));
        let desk = Self {
            folder: tempfile::tempdir().expect("a folder"),
            ports: PORTS.map(port).to_vec(),
        };
        for folder in ["bin", "target/release", "target/venv/bin"] {
            fs::create_dir_all(desk.path(folder)).expect("a folder");
        }
        symlink(env!("CARGO_BIN_EXE_weft"), desk.path("target/release/weft")).expect("a link");
        symlink(root().join("examples"), desk.path("examples")).expect("a link");
        desk.script("bin/cargo", CARGO);
        if let Some(python) = python {
            let text = format!("#!/bin/sh\nexec '{}' \"$@\"\n", python.display());
            desk.script("target/venv/bin/python", &text);
        }
        fs::write(desk.path("weft.toml"), desk.told(QUICKSTART)).expect("written");
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    /// A text of the page with the ports of this desk.
    fn told(&self, text: &str) -> String {
        let swap = |text: String, (page, own): &(String, String)| text.replace(page, own);
        self.ports.iter().fold(text.to_owned(), swap)
    }

    /// A text that was printed here, with the ports of the page.
    fn shown(&self, text: &str) -> String {
        let swap = |text: String, (page, own): &(String, String)| text.replace(own, page);
        self.ports.iter().fold(text.to_owned(), swap)
    }

    /// `program` as it runs in a terminal at this desk.
    fn command(&self, program: &str) -> Command {
        let path = std::env::var("PATH").expect("a PATH");
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .env("PATH", format!("{}:{path}", self.path("bin").display()))
            .env("WEFT_TOPOLOGY", self.path("weft.toml"))
            .env("NO_COLOR", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::null());
        command
    }
}

/// The first terminal: a shell whose children end with it.
struct FirstTerminal {
    shell: Child,
    output: PathBuf,
    log: PathBuf,
}

impl FirstTerminal {
    fn start(desk: &Desk, script: &str) -> Self {
        let (output, log) = (desk.path("terminal-1.out"), desk.path("terminal-1.err"));
        let shell = desk
            .command("bash")
            .args(["-c", &desk.told(script)])
            .stdout(File::create(&output).expect("a file"))
            .stderr(File::create(&log).expect("a file"))
            .process_group(0)
            .spawn()
            .expect("bash runs");
        Self { shell, output, log }
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).expect("what was printed")
    }
}

impl Drop for FirstTerminal {
    fn drop(&mut self) {
        // As Ctrl-C does: `weft up` stops its nodes, and they would stop without it.
        let _ = kill_process_group(Pid::from_child(&self.shell), Signal::INT);
        let _ = self.shell.wait();
    }
}

/// Each block of shell, and what the page says that it prints.
fn steps() -> Vec<(Block, Block)> {
    let mut steps = Vec::new();
    let mut blocks = blocks(section(README, "Five minutes")).into_iter();
    while let Some(block) = blocks.next() {
        assert_eq!(
            block.language, "sh",
            "a block of shell comes first: {block:?}"
        );
        if block.tag == "setup" {
            continue;
        }
        let shown = blocks.next().expect("what it prints");
        assert_eq!((&*shown.language, &shown.tag), ("text", &block.tag));
        steps.push((block, shown));
    }
    steps
}

#[test]
fn the_five_minutes_run_as_they_are_written() {
    let python = python("readme::the_five_minutes_run_as_they_are_written (its Python)");
    let desk = Desk::new(python.as_deref());
    let mut steps = steps();
    let (up, shown) = steps.remove(0);
    assert_eq!(up.tag, "terminal-1");
    let first = FirstTerminal::start(&desk, &up.text);
    wait_for("the first terminal shows what the page says", || {
        let output = desk.shown(&FirstTerminal::read(&first.output));
        shows(&shown.text, &output).then_some(())
    });

    steps.retain(|(block, _)| block.tag != "python" || python.is_some());
    assert!(steps.len() > 3, "{steps:?}");
    let mut script = "exec 2>&1\n".to_owned();
    for (block, _) in &steps {
        script += &format!(
            "{{\n{}}} </dev/null\necho \"= $?\"\n",
            desk.told(&block.text)
        );
    }
    let mut command = desk.command("timeout");
    let output = command.args([TIMEOUT, "bash", "-c", &script]).output();
    let output = output.expect("bash runs");
    let printed = desk.shown(&String::from_utf8(output.stdout).expect("UTF-8"));
    let log = FirstTerminal::read(&first.log);
    let mut rest = printed.as_str();
    for (block, shown) in &steps {
        let end = rest.split_once("= 0\n");
        let (own, later) =
            end.unwrap_or_else(|| panic!("failed:\n{}printed:\n{rest}\n{log}", block.text));
        assert!(
            shows(&shown.text, own),
            "{}prints\n{own}and the page says\n{}\n{log}",
            block.text,
            shown.text
        );
        rest = later;
    }
    assert_eq!(rest, "");
}

#[test]
fn the_first_screen_has_the_two_commands() {
    let (first, _) = README.split_once("\n## ").expect("sections");
    let commands = &blocks(first)[0].text;
    assert_eq!(commands, "cargo run --release -- up\ncargo test\n");
    assert!(first.lines().count() < 50, "a screen");
}

#[test]
fn excerpts_are_those_of_the_files() {
    let excerpts = blocks(section(README, "The topology file"));
    assert_eq!(excerpts.len(), 2);
    for excerpt in excerpts {
        let text = &excerpt.text;
        assert!(
            QUICKSTART.contains(&**text),
            "not in quickstart.toml:\n{text}"
        );
    }
    let mut service = blocks(section(README, "In your own service"));
    let shown = &service[0].text;
    let example = include_str!("../../examples/service.rs");
    assert!(example.contains(&**shown), "not in service.rs:\n{shown}");
    let embedding = service.remove(1).text;
    let manifest = include_str!("../../Cargo.toml");
    let patch = |text: &str| {
        let file: toml::Table = toml::from_str(text).expect("TOML");
        let patch = &file["patch"]["crates-io"];
        let names = patch.as_table().expect("crates").keys().cloned();
        names.collect::<Vec<_>>()
    };
    assert_eq!(patch(&embedding), patch(manifest));
}

/// Links are to files of the repository and to headings, and those are there.
#[test]
fn links_lead_somewhere() {
    let anchors: BTreeSet<String> = headings(README).collect();
    let links = links(README);
    assert!(links.len() > 10);
    for link in links {
        if let Some(anchor) = link.strip_prefix('#') {
            assert!(anchors.contains(anchor), "no heading for {link}");
        } else if !link.starts_with("https://") {
            assert!(root().join(link).exists(), "{link} does not exist");
        }
    }
}

/// Each promise names its oracle, if it has one, its tests and a command, and all of them are
/// there; and there is no oracle that guards none.
#[test]
fn every_promise_names_what_checks_it() {
    let tests = sources(&["src", "tests"]);
    let rows: Vec<&str> = section(README, "Promises, and what checks them")
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1)
        .collect();
    assert!(rows.len() >= 10);
    let mut named = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches([' ', '|']).split(" | ").collect();
        let [_, oracles, checks, command] = cells[..] else {
            panic!("four cells: {row}");
        };
        let oracles: Vec<&str> = links(oracles);
        assert!(!oracles.is_empty() || cells[1] == "-", "{row}");
        for oracle in &oracles {
            assert!(oracle.starts_with("src/sim/oracle"), "{oracle}");
            named.insert((*oracle).to_owned());
        }
        let found: Vec<&str> = quoted(checks).collect();
        assert!(!found.is_empty(), "{row}");
        for name in found {
            let known = tests.contains(&format!("#[test]\nfn {name}("));
            assert!(known || name == "kill -9", "{name} is no test of ours");
        }
        let command = command.trim_matches('`').strip_prefix("weft ");
        let command = command.unwrap_or_else(|| panic!("a command of ours: {row}"));
        assert!(is_command(command), "weft has no {command}");
    }
    let folder = fs::read_dir(root().join("src/sim/oracle")).expect("a readable folder");
    for file in folder.map(|entry| entry.expect("an entry").path()) {
        let name = file
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        if name.ends_with(".rs") && !matches!(&*name, "mod.rs" | "tests.rs") {
            let path = format!("src/sim/oracle/{name}");
            assert!(
                named.contains(&path),
                "{path} guards no promise of the table"
            );
        }
    }
}

/// Every command of the page's table is one of the binary's, and the other way round.
#[test]
fn the_commands_of_the_table_are_there() {
    let table = section(README, "Five minutes").lines();
    let cells = table.filter(|line| line.starts_with("| `weft"));
    let names = cells.flat_map(|line| quoted(line.split('|').nth(1).unwrap_or_default()));
    let names: Vec<&str> = names
        .filter_map(|name| name.strip_prefix("weft "))
        .collect();
    assert!(names.len() >= 8, "{names:?}");
    for name in &names {
        assert!(is_command(name), "weft has no {name}");
    }
    let help = weft().arg("--help").output().expect("weft runs");
    let help = String::from_utf8(help.stdout).expect("UTF-8");
    let (commands, _) = help.split_once("Options:").expect("options come last");
    let listed = commands.lines().filter_map(|line| line.strip_prefix("  "));
    for line in listed {
        let name = line.split([' ', ',']).next().unwrap_or_default();
        assert!(names.contains(&name), "the table has no weft {name}");
    }
}

fn is_command(name: &str) -> bool {
    let output = weft()
        .args(name.split(' '))
        .arg("--help")
        .output()
        .expect("weft runs");
    output.status.success()
}

/// What stands in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// All Rust text below these folders, without its indents.
fn sources(folders: &[&str]) -> String {
    let mut waiting: Vec<PathBuf> = folders.iter().map(|folder| root().join(folder)).collect();
    let mut text = String::new();
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).expect("a readable folder");
            waiting.extend(entries.map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let file = fs::read_to_string(&path).expect("a readable file");
            for line in file.lines() {
                text += line.trim_start();
                text.push('\n');
            }
        }
    }
    text
}
