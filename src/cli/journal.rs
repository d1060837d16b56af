//! `weft journal`: looks into the data folder of a node that does not run, and changes nothing.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bytesize::ByteSize;
use serde_json::{Value, json};

use super::Failure;
use super::table::Table;
use crate::store::{Examined, ExaminedSegment, RealDisk, StoreError, Torn, examine};
use crate::types::{Checkpoint, EntryKind, JournalItem, Partition};
use crate::wire::entry::EntryContent;

/// `weft journal`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Read all of a journal, count what is there, and name what is damaged; exit 1 if anything is
    Verify(Verify),
    /// Print every item of a journal, a line each
    Dump(Dump),
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// The data folder of a node that does not run
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct Dump {
    /// The data folder of a node that does not run
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Only this partition, as in orders/0
    #[arg(long, value_name = "CHANNEL/NUMBER")]
    partition: Option<String>,
    /// Print JSON, an object a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    match args.command {
        Command::Verify(verify) => run_verify(&verify),
        Command::Dump(dump) => run_dump(&dump),
    }
}

fn run_verify(args: &Verify) -> Result<ExitCode, Failure> {
    let examined = examine(&open(&args.folder)?, &mut |_, _, _| {}).map_err(failure)?;
    let mut out = io::stdout().lock();
    match args.json {
        true => writeln!(out, "{}", as_json(&examined))?,
        false => print(&examined, &mut out)?,
    }
    Ok(ExitCode::from(u8::from(!examined.damage.is_empty())))
}

fn run_dump(args: &Dump) -> Result<ExitCode, Failure> {
    let disk = open(&args.folder)?;
    let mut out = BufWriter::new(io::stdout().lock());
    let mut written = Ok(());
    let mut held = BTreeSet::new();
    let only = args.partition.as_deref();
    let wanted = |partition: &Partition| only.is_none_or(|only| partition.to_string() == only);
    let examined = examine(&disk, &mut |segment, sequence, item| {
        if only.is_some() && !held.contains(item.partition()) {
            held.insert(item.partition().clone());
        }
        if written.is_ok() && wanted(item.partition()) {
            let told = tell(segment, sequence, &item);
            written = match args.json {
                true => writeln!(out, "{told}"),
                false => writeln!(out, "{}", line(&told)),
            };
        }
    })
    .map_err(failure)?;
    written?;
    out.flush()?;
    for damage in &examined.damage {
        eprintln!("{}", told_damage(damage));
    }
    if let Some(only) = only
        && !held.iter().any(wanted)
    {
        return Err(unknown(args, only, &held));
    }
    Ok(ExitCode::from(u8::from(!examined.damage.is_empty())))
}

fn unknown(args: &Dump, only: &str, held: &BTreeSet<Partition>) -> Failure {
    let held: Vec<String> = held.iter().map(Partition::to_string).collect();
    let help = match held.is_empty() {
        true => "it holds none".to_owned(),
        false => format!("it holds {}", held.join(", ")),
    };
    let folder = args.folder.display();
    Failure::user(
        format!("the journal in {folder} holds nothing of a partition {only:?}"),
        help,
    )
}

fn open(folder: &Path) -> Result<RealDisk, Failure> {
    if !folder.join("identity").is_file() {
        return Err(Failure::user(
            format!("{} is no data folder of a node", folder.display()),
            "name the folder that holds the file `identity`, as in weft-data/a",
        ));
    }
    RealDisk::open(folder).map_err(failure)
}

fn failure(error: StoreError) -> Failure {
    let help = match &error {
        StoreError::Locked { .. } => "stop the node first: `weft status` shows what runs",
        _ => "see what the message names",
    };
    Failure::user(error.to_string(), help)
}

fn print(examined: &Examined, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "fabric {}, node {}, incarnation {}",
        examined.fabric, examined.node, examined.incarnation
    )?;
    if let Some(as_of) = examined.base_as_of {
        writeln!(out, "base as of commit {as_of}")?;
    }
    let mut table = Table::new([
        "SEGMENT",
        "COMMITS",
        "FROM",
        "TO",
        "ENTRIES",
        "OTHERS",
        "BYTES",
        "STANDS FOR",
    ]);
    for segment in &examined.segments {
        let name = segment.file.rsplit('/').next().unwrap_or_default();
        table.row([
            name.to_owned(),
            segment.commits.to_string(),
            segment.sequences.0.to_string(),
            segment.sequences.1.to_string(),
            segment.entries.to_string(),
            segment.others.to_string(),
            ByteSize::b(segment.bytes).to_string(),
            match segment.stands_for {
                0 => String::new(),
                1 => "itself, written anew".to_owned(),
                count => format!("{count} segments"),
            },
        ]);
    }
    write!(out, "\n{table}\n")?;
    for damage in &examined.damage {
        writeln!(out, "{}", told_damage(damage))?;
    }
    let damaged = examined.damage.len();
    match &examined.refused {
        Some(error) => writeln!(out, "a start refuses it: {error}")?,
        None if damaged > 0 => writeln!(
            out,
            "a start goes on beside it, and fetches what is lost from another replica"
        )?,
        None => print_end(examined.segments.last(), out)?,
    }
    let torn = examined.segments.last().and_then(|segment| segment.torn);
    match torn {
        _ if damaged == 1 => writeln!(out, "damaged in 1 place"),
        _ if damaged > 1 => writeln!(out, "damaged in {damaged} places"),
        Some(torn) => writeln!(out, "sound up to commit {}", torn.sequence - 1),
        None => writeln!(out, "sound"),
    }
}

/// What is to be known of the end of a journal in which no damage shows.
fn print_end(newest: Option<&ExaminedSegment>, out: &mut impl Write) -> io::Result<()> {
    let Some(newest) = newest else {
        return Ok(());
    };
    let grows = newest.prefilled_bytes == 0;
    let Some(torn) = newest.torn else {
        if grows {
            writeln!(
                out,
                "the newest segment grows with its commits: had its file been cut between two of \
                 them, it would not show here; `weft ledger --verify` compares the replicas"
            )?;
        }
        return Ok(());
    };
    writeln!(
        out,
        "commit {} at byte {} is not whole: of {} pages {} are beyond the end of the file, {} \
         are zeros; the next start cuts it",
        torn.sequence, torn.position, torn.pages, torn.missing_pages, torn.zero_pages
    )?;
    let alike = match grows {
        true => "a file that was cut, and may have held more commits, looks the same",
        false => "a newest commit that was damaged later looks the same",
    };
    writeln!(
        out,
        "an interrupted write leaves this, of which nothing was promised; {alike}"
    )
}

fn told_damage(damage: &crate::store::Damage) -> String {
    format!(
        "damaged: {} at {}: {}",
        damage.file, damage.position, damage.reason
    )
}

fn as_json(examined: &Examined) -> Value {
    let segments = examined.segments.iter().map(|segment| {
        json!({
            "file": segment.file,
            "commits": segment.commits,
            "first_sequence": segment.sequences.0,
            "last_sequence": segment.sequences.1,
            "entries": segment.entries,
            "others": segment.others,
            "bytes": segment.bytes,
            "torn": segment.torn.map(of_torn),
            "prefilled_bytes": segment.prefilled_bytes,
            "stands_for": segment.stands_for,
        })
    });
    let damage = examined.damage.iter().map(|damage| {
        json!({
            "file": damage.file,
            "position": damage.position,
            "reason": damage.reason,
        })
    });
    json!({
        "fabric": examined.fabric,
        "node": examined.node,
        "incarnation": examined.incarnation.to_string(),
        "base_as_of": examined.base_as_of,
        "segments": segments.collect::<Vec<_>>(),
        "damage": damage.collect::<Vec<_>>(),
        "refused": examined.refused,
        "sound": examined.damage.is_empty(),
    })
}

fn of_torn(torn: Torn) -> Value {
    json!({
        "position": torn.position,
        "sequence": torn.sequence,
        "pages": torn.pages,
        "zero_pages": torn.zero_pages,
        "missing_pages": torn.missing_pages,
    })
}

/// An item as an object. Segment 0 is the base.
fn tell(segment: u64, sequence: u64, item: &JournalItem) -> Value {
    let mut told = json!({
        "segment": segment,
        "commit": sequence,
        "partition": item.partition().to_string(),
    });
    let more = match item {
        JournalItem::Founding { record, .. } => json!({
            "item": "founding",
            "bytes": record.len(),
        }),
        JournalItem::HardState {
            term, vote, commit, ..
        } => json!({
            "item": "hard state",
            "term": term,
            "vote": format!("{vote:016x}"),
            "committed": commit,
        }),
        JournalItem::Checkpoint { checkpoint, .. } => of_checkpoint("checkpoint", checkpoint),
        JournalItem::Snapshot { checkpoint, .. } => of_checkpoint("snapshot", checkpoint),
        JournalItem::Entry { entry, .. } => {
            let does = match EntryContent::decode(&entry.data) {
                Ok(EntryContent::Command(head)) => Some(format!("{:?}", head.does)),
                Ok(EntryContent::Blank | EntryContent::Records(_)) => None,
                Err(error) => Some(format!("unreadable: {error}")),
            };
            json!({
                "item": match entry.kind {
                    EntryKind::Blank => "blank",
                    EntryKind::Records => "records",
                    EntryKind::Command => "command",
                },
                "term": entry.term,
                "index": entry.index,
                "offset": entry.first_offset,
                "count": entry.count,
                "time": entry.time,
                "bytes": entry.data.len(),
                "does": does,
            })
        }
    };
    if let (Value::Object(told), Value::Object(more)) = (&mut told, more) {
        told.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
    }
    told
}

/// The same for people: the fields in one line.
fn line(told: &Value) -> String {
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let names = ["segment", "commit", "partition", "item"];
    let first = names.map(|name| text(&told[name]));
    let [segment, commit, partition, item] = first;
    let mut line = format!("{segment}  {commit}  {partition}  {item}");
    let fields = told.as_object().into_iter().flatten();
    for (name, value) in fields.filter(|(name, _)| !names.contains(&name.as_str())) {
        line.push_str(&format!("  {name} {}", text(value)));
    }
    line
}

fn of_checkpoint(item: &str, checkpoint: &Checkpoint) -> Value {
    json!({
        "item": item,
        "term": checkpoint.term,
        "index": checkpoint.index,
        "next_offset": checkpoint.next_offset,
        "keep_from": checkpoint.keep_from,
        "bytes": checkpoint.state.len(),
    })
}
