//! `weft keys new`: makes a CURVE key pair, keeps it in a file that only its owner reads, and
//! prints the line that the topology needs.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::Failure;
use crate::topology::SecretKey;

/// `weft keys`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write a new key pair to a file and print its line for the topology
    New(New),
}

#[derive(Debug, clap::Args)]
struct New {
    /// Whose key it is: `--for node alpha` or `--for client billing`
    #[arg(long = "for", num_args = 2, value_names = ["node|client", "NAME"])]
    owner: Option<Vec<String>>,
    /// The file to write [default: NAME.secret, or weft.secret]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Node,
    Client,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let Command::New(new) = args.command;
    let owner = new.owner.as_deref().map(parse_owner).transpose()?;
    let path = new.out.unwrap_or_else(|| {
        PathBuf::from(format!(
            "{}.secret",
            owner.as_ref().map_or("weft", |(_, name)| name)
        ))
    });
    let key = generate()?;
    write_new(&path, &key.to_text())?;

    let public = key.public();
    let mut out = io::stdout().lock();
    if new.json {
        let role = owner.as_ref().map(|(role, _)| match role {
            Role::Node => "node",
            Role::Client => "client",
        });
        let name = owner.as_ref().map(|(_, name)| name);
        let answer = json!({
            "for": role,
            "name": name,
            "public_key": public,
            "secret_key_file": path,
        });
        writeln!(out, "{answer:#}")?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("wrote {} (mode 0600): keep it to its owner", path.display());
    match owner {
        Some((Role::Node, name)) => {
            eprintln!("into the [[node]] of {name}:");
            writeln!(out, "public_key = \"{public}\"")?;
            writeln!(out, "secret_key_file = {}", quoted(&path))?;
        }
        Some((Role::Client, name)) => {
            writeln!(out, "[[client]]")?;
            writeln!(out, "name = \"{name}\"")?;
            writeln!(out, "public_key = \"{public}\"")?;
            eprintln!("the client proves it with `--identity {}`", path.display());
        }
        None => writeln!(out, "public_key = \"{public}\"")?,
    }
    Ok(ExitCode::SUCCESS)
}

fn parse_owner(values: &[String]) -> Result<(Role, String), Failure> {
    let help = "write `--for node NAME` or `--for client NAME`";
    let [role, name] = values else {
        return Err(Failure::user("--for takes a role and a name", help));
    };
    let role = match role.as_str() {
        "node" => Role::Node,
        "client" => Role::Client,
        other => return Err(Failure::user(format!("{other:?} is no role"), help)),
    };
    match crate::topology::check_name(name) {
        Ok(()) => Ok((role, name.clone())),
        Err(why) => Err(Failure::user(format!("{name:?} is no name: {why}"), help)),
    }
}

pub(super) fn generate() -> Result<SecretKey, Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        Failure::internal(format!("libzmq could not make a key pair: {error}"))
    };
    let pair = zmq::CurveKeyPair::new().map_err(|error| failed(&error))?;
    let public = zmq::z85_encode(&pair.public_key).map_err(|error| failed(&error))?;
    let secret = zmq::z85_encode(&pair.secret_key).map_err(|error| failed(&error))?;
    SecretKey::new(&public, &secret).map_err(|error| failed(&error))
}

/// Writes a file that did not exist, readable by its owner alone from its first byte on.
pub(super) fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AlreadyExists => Failure::user(
            format!("{} exists, and a key is never overwritten", path.display()),
            "name another file with --out, or move the old key away first",
        ),
        _ => Failure::user(
            format!("{} cannot be written: {error}", path.display()),
            "name a file in a folder that exists and is yours with --out",
        ),
    };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)
}

/// A path as a TOML string.
fn quoted(path: &Path) -> String {
    toml::Value::String(path.display().to_string()).to_string()
}
