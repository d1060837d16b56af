//! `weft cursor`: lists cursors, shows where one stands, moves one, deletes one.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::Failure;
use super::connect::{CONNECT_WITHIN, connect, failure};
use super::health::Health;
use super::options::Target;
use super::subscribe::parse_start;
use super::table::Table;
use super::wait::wait;
use crate::client::{ClientError, Start};
use crate::node::CursorView;
use crate::types::{ChannelName, RecordId};
use crate::wire::Code;

/// `weft cursor`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Every cursor, in every partition
    List(List),
    /// Where one cursor stands
    Show(Show),
    /// Let a cursor go on elsewhere; who holds it is told
    Seek(Seek),
    /// Delete a cursor; who holds it is told
    Delete(Delete),
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only those of this channel
    #[arg(value_name = "CHANNEL")]
    channel: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

#[derive(Debug, clap::Args)]
struct Show {
    /// The cursor
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
struct Seek {
    /// The cursor
    #[arg(value_name = "NAME")]
    name: String,
    /// Where to: start, end, an offset, a record's id (orders/2/17), or a time as in
    /// 2026-01-31T12:00:00Z
    #[arg(value_name = "POSITION")]
    position: String,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, clap::Args)]
struct Delete {
    /// The cursor
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    place: Place,
}

/// Where a cursor is meant, and how to tell.
#[derive(Debug, clap::Args)]
struct Place {
    /// Only in this channel
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// Only in this partition of it
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// A cursor in one partition.
#[derive(Debug, Clone, Serialize)]
struct Row {
    channel: String,
    partition: u32,
    #[serde(flatten)]
    cursor: CursorView,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        Command::List(list) => {
            let health = gather(&list.target)?;
            check_place(&health, list.channel.as_deref(), None)?;
            let wanted = |row: &Row| list.channel.as_ref().is_none_or(|c| *c == row.channel);
            print(
                rows(&health).into_iter().filter(wanted).collect(),
                list.json,
            )
        }
        Command::Show(show) => print(found(&show.name, &show.place)?, show.place.json),
        Command::Seek(seek) => run_seek(seek),
        Command::Delete(delete) => run_delete(&delete),
    }
}

fn run_seek(mut seek: Seek) -> Result<ExitCode, Failure> {
    let to = match seek.position.parse::<RecordId>() {
        Ok(id) => {
            seek.place.channel = Some(id.partition.channel.to_string());
            seek.place.partition = Some(id.partition.number);
            Start::Offset(id.offset)
        }
        Err(_) => parse_start("POSITION", &seek.position)?,
    };
    let rows = found(&seek.name, &seek.place)?;
    if matches!(to, Start::Offset(_)) && rows.len() > 1 {
        return Err(Failure::user(
            format!(
                "an offset is of one partition, and {} stands in {}",
                seek.name,
                rows.len()
            ),
            "name it with --partition, or write a record's id as in orders/2/17",
        ));
    }
    let client = connect(&seek.place.target, CONNECT_WITHIN)?;
    let mut moved = Vec::new();
    for mut row in one_channel(&seek.name, rows)? {
        let channel = ChannelName::from(row.channel.as_str());
        let reply = wait(client.seek_cursor(&channel, row.partition, &seek.name, to));
        let reply = reply.map_err(|error| match &error {
            ClientError::Refused(refusal) if refusal.code == Code::BadPosition.number() => {
                let help = "seek start or end, or an offset from where `weft cursor show` says \
                            that it stands up to the end";
                Failure::user(refusal, help)
            }
            _ => failure(error),
        })?;
        let position = reply.positions.first();
        row.cursor.floor = position.map_or(row.cursor.floor, |position| position.floor);
        moved.push(row);
    }
    wait(client.close());
    tell("moved", &seek.name, &moved, seek.place.json)
}

fn run_delete(delete: &Delete) -> Result<ExitCode, Failure> {
    let rows = one_channel(&delete.name, found(&delete.name, &delete.place)?)?;
    let client = connect(&delete.place.target, CONNECT_WITHIN)?;
    for row in &rows {
        let channel = ChannelName::from(row.channel.as_str());
        let reply = wait(client.delete_cursor(&channel, row.partition, &delete.name));
        reply.map_err(failure)?;
    }
    wait(client.close());
    tell("deleted", &delete.name, &rows, delete.place.json)
}

/// What the nodes say.
fn gather(target: &Target) -> Result<Health, Failure> {
    let health = Health::gather(&target.resolve()?);
    if health.views().next().is_none() {
        return Err(Failure::user(
            health.problems.join("; "),
            "start the fabric, or name its nodes with --topology or --connect",
        ));
    }
    Ok(health)
}

/// Every cursor, as the leaders know them.
fn rows(health: &Health) -> Vec<Row> {
    let mut rows = Vec::new();
    for ((channel, partition), held) in health.partitions() {
        if held.leader.is_none() || held.view.role != "leader" {
            eprintln!("{channel}/{partition}: its leader does not answer; a replica tells");
        }
        rows.extend(held.view.cursors.iter().map(|cursor| Row {
            channel: channel.to_owned(),
            partition,
            cursor: cursor.clone(),
        }));
    }
    rows
}

/// Whether there is such a channel, and such a partition of it, to have cursors.
fn check_place(
    health: &Health,
    channel: Option<&str>,
    partition: Option<u32>,
) -> Result<(), Failure> {
    let all = health.partitions();
    let of_channel = |(name, _): &&(&str, u32)| channel.is_none_or(|channel| channel == *name);
    let there: Vec<String> = all
        .keys()
        .filter(of_channel)
        .map(|(name, number)| format!("{name}/{number}"))
        .collect();
    let wanted = |(_, number): &(&str, u32)| partition.is_none_or(|wanted| wanted == *number);
    if all.keys().filter(of_channel).any(wanted) {
        return Ok(());
    }
    let streams: BTreeSet<&str> = all.keys().map(|(name, _)| *name).collect();
    let streams: Vec<&str> = streams.into_iter().collect();
    Err(match (channel, partition) {
        (Some(channel), _) if there.is_empty() => Failure::user(
            format!("there is no stream {channel}, and only streams have cursors"),
            format!("the fabric's streams are {}", streams.join(", ")),
        ),
        (_, Some(partition)) => Failure::user(
            format!("there is no partition {partition} there"),
            format!("these are there: {}", there.join(" ")),
        ),
        _ => Failure::user("the fabric has no stream", "only streams have cursors"),
    })
}

/// Where a cursor of this name stands.
fn found(name: &str, place: &Place) -> Result<Vec<Row>, Failure> {
    let health = gather(&place.target)?;
    check_place(&health, place.channel.as_deref(), place.partition)?;
    let mut rows = rows(&health);
    rows.retain(|row| {
        let channel = place.channel.as_ref().is_none_or(|c| *c == row.channel);
        channel && place.partition.is_none_or(|p| p == row.partition) && row.cursor.name == name
    });
    match rows.is_empty() {
        true => Err(Failure::user(
            format!("there is no cursor {name} there"),
            "`weft cursor list` shows all of them; subscribing with its name makes one",
        )),
        false => Ok(rows),
    }
}

/// What is moved is meant: a name that stands in several channels is several cursors.
fn one_channel(name: &str, rows: Vec<Row>) -> Result<Vec<Row>, Failure> {
    let channels: BTreeSet<&str> = rows.iter().map(|row| row.channel.as_str()).collect();
    if channels.len() > 1 {
        let channels: Vec<&str> = channels.into_iter().collect();
        return Err(Failure::user(
            format!("there are cursors {name} of {}", channels.join(" and ")),
            "say which with --channel",
        ));
    }
    Ok(rows)
}

fn tell(done: &str, name: &str, rows: &[Row], json: bool) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    for row in rows {
        let (channel, partition, floor) = (&row.channel, row.partition, row.cursor.floor);
        match json {
            true => writeln!(
                out,
                "{}",
                serde_json::json!({ "cursor": name, done: true, "channel": channel,
                    "partition": partition, "floor": floor })
            )?,
            false => writeln!(out, "{done} {name} at {channel}/{partition}/{floor}")?,
        }
    }
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}

fn print(rows: Vec<Row>, json: bool) -> Result<ExitCode, Failure> {
    let mut out = io::stdout().lock();
    if json {
        let json = serde_json::to_string_pretty(&rows).map_err(Failure::internal)?;
        writeln!(out, "{json}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new([
        "CURSOR",
        "STANDS AT",
        "OFFERED",
        "ACKED",
        "WAITING",
        "MISSED",
        "TOKEN",
    ]);
    for Row {
        channel,
        partition,
        cursor,
    } in rows
    {
        table.row([
            cursor.name,
            format!("{channel}/{partition}/{}", cursor.floor),
            cursor.offered.to_string(),
            cursor.acked.to_string(),
            cursor.waiting.to_string(),
            cursor.missed.to_string(),
            cursor.token.to_string(),
        ]);
    }
    write!(out, "{table}")?;
    out.flush()?;
    Ok(ExitCode::SUCCESS)
}
