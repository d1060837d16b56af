//! `weft subscribe`: prints the records that a pattern selects, history first if asked for.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::Failure;
use super::connect::{CONNECT_WITHIN, connect, failure};
use super::options::Target;
use super::wait::wait;
use crate::client::{ClientError, Delivered, Item, Start, Subscription, Wanted};
use crate::types::{ChannelName, Partition, Pattern, RecordId, Wall};

/// `weft subscribe`
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The subjects: `*` is one word, `#` any number of last words
    #[arg(value_name = "PATTERN")]
    pattern: String,
    /// Where to start: start, end, an offset, a record's id (orders/2/17), or a time as in
    /// 2026-01-31T12:00:00Z
    #[arg(long, value_name = "POSITION", default_value = "end")]
    from: String,
    /// End after this many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Only this channel
    #[arg(long, value_name = "NAME")]
    channel: Option<String>,
    /// Only this partition of it
    #[arg(long, value_name = "NUMBER")]
    partition: Option<u32>,
    /// Go on at this cursor, and ack what was printed; --from counts the first time only
    #[arg(long, value_name = "NAME")]
    cursor: Option<String>,
    /// Print JSON, one object per record, with everything it has
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub(crate) fn run(args: Args) -> Result<ExitCode, Failure> {
    let wanted = wanted(&args)?;
    if args.count == Some(0) {
        return Ok(ExitCode::SUCCESS);
    }
    let client = connect(&args.target, CONNECT_WITHIN)?;
    let mut subscription = wait(client.subscribe(wanted)).map_err(failure)?;
    eprintln!(
        "subscribed to {} at node {}",
        args.pattern,
        client.welcome().node
    );
    let mut out = BufWriter::new(io::stdout().lock());
    let mut left = args.count;
    let mut printed = Printed::default();
    while left != Some(0) {
        if printed.count >= ACK_AFTER {
            printed.ack(&subscription, &mut out)?;
        }
        match next(&mut subscription, &mut printed, &mut out)? {
            Item::Record(delivered) => {
                print(&mut out, &delivered, args.json)?;
                left = left.map(|left| left - 1);
                printed.note(delivered);
            }
            Item::Gap { channel, missed } => {
                let channel = channel
                    .as_ref()
                    .map_or("any signal channel", |c| c.as_str());
                let missed = missed.map_or("some".to_owned(), |missed| missed.to_string());
                eprintln!("gap: {missed} records of {channel} are missing here");
            }
        }
    }
    out.flush()?;
    printed.commit(&subscription).map_err(failure)?;
    wait(client.close());
    Ok(ExitCode::SUCCESS)
}

/// Acks go after so many records at the latest.
const ACK_AFTER: u64 = 1_000;

/// What was printed of a cursor's records and is not acked: the last of each partition.
#[derive(Default)]
struct Printed {
    last: BTreeMap<Partition, Delivered>,
    count: u64,
}

impl Printed {
    fn note(&mut self, delivered: Delivered) {
        if let (Some(id), Some(_)) = (&delivered.id, delivered.token) {
            self.count += 1;
            self.last.insert(id.partition.clone(), delivered);
        }
    }

    /// Lets go what was printed and acks it. What is not known to be acked comes again, and is
    /// printed again.
    fn ack(&mut self, subscription: &Subscription, out: &mut impl Write) -> Result<(), Failure> {
        out.flush()?;
        match self.commit(subscription) {
            Err(ClientError::Unanswered | ClientError::NoAnswer(_)) => Ok(()),
            // The subscription is told how it ends.
            Err(ClientError::Refused(_)) => Ok(()),
            done => done.map_err(failure),
        }
    }

    fn commit(&mut self, subscription: &Subscription) -> Result<(), ClientError> {
        self.count = 0;
        for delivered in std::mem::take(&mut self.last).into_values() {
            wait(subscription.commit(&delivered))?;
        }
        Ok(())
    }
}

/// The next item; before it waits for one, it lets go what was printed.
fn next(
    subscription: &mut Subscription,
    printed: &mut Printed,
    out: &mut impl Write,
) -> Result<Item, Failure> {
    let item = match subscription.try_next() {
        Some(item) => Some(item),
        None => {
            printed.ack(subscription, out)?;
            wait(subscription.next())
        }
    };
    item.unwrap_or(Err(ClientError::Closed)).map_err(failure)
}

fn wanted(args: &Args) -> Result<Wanted, Failure> {
    Pattern::parse(&args.pattern).map_err(|error| {
        Failure::user(
            error,
            "write a pattern as in orders.#, orders.*.new or orders.eu.new",
        )
    })?;
    let mut wanted = Wanted {
        channel: args.channel.as_deref().map(ChannelName::from),
        partition: args.partition,
        cursor: args.cursor.clone(),
        ..Wanted::new(&args.pattern, Start::End)
    };
    if let Ok(id) = args.from.parse::<RecordId>() {
        let other_channel = wanted
            .channel
            .as_ref()
            .is_some_and(|c| *c != id.partition.channel);
        if other_channel || wanted.partition.is_some_and(|n| n != id.partition.number) {
            return Err(Failure::user(
                format!("--from {id} is in another partition than --channel and --partition name"),
                "leave these two out; the record's id names both",
            ));
        }
        wanted.channel = Some(id.partition.channel);
        wanted.partition = Some(id.partition.number);
        wanted.start = Start::Offset(id.offset);
        return Ok(wanted);
    }
    wanted.start = parse_start("--from", &args.from)?;
    Ok(wanted)
}

/// A position as a person writes it; `name` is where it was written.
pub(super) fn parse_start(name: &str, text: &str) -> Result<Start, Failure> {
    match text {
        "start" => return Ok(Start::Start),
        "end" => return Ok(Start::End),
        _ => {}
    }
    if let Ok(offset) = text.parse() {
        return Ok(Start::Offset(offset));
    }
    let time = humantime::parse_rfc3339_weak(text).ok();
    let since_1970 = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let ms = since_1970.and_then(|since| u64::try_from(since.as_millis()).ok());
    ms.map(|ms| Start::Time(Wall(ms))).ok_or_else(|| {
        Failure::user(
            format!("{name} {text:?} is no position"),
            "write start, end, an offset as in 17, a record's id as in orders/2/17, or a time in \
             UTC as in 2026-01-31T12:00:00Z",
        )
    })
}

fn print(out: &mut impl Write, delivered: &Delivered, json: bool) -> io::Result<()> {
    if json {
        return writeln!(out, "{}", to_json(delivered));
    }
    out.write_all(&delivered.record.body)?;
    out.write_all(b"\n")
}

fn to_json(delivered: &Delivered) -> Value {
    let record = &delivered.record;
    let time = delivered.time.map(|wall| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(wall.0);
        humantime::format_rfc3339_millis(time).to_string()
    });
    let mut object = json!({
        "id": delivered.id.as_ref().map(RecordId::to_string),
        "channel": delivered.channel.as_str(),
        "subject": record.subject,
        "headers": record.headers,
        "time": time,
    });
    let mut put = |name: &str, bytes: &[u8]| match std::str::from_utf8(bytes) {
        Ok(text) => object[name] = text.into(),
        Err(_) => object[format!("{name}_base64")] = base64(bytes).into(),
    };
    if let Some(key) = &record.key {
        put("key", key);
    }
    put("body", &record.body);
    object
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            match digit <= chunk.len() {
                true => text.push(char::from(
                    ALPHABET[(bits >> (18 - 6 * digit) & 63) as usize],
                )),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_gives_the_test_vectors_of_its_rfc() {
        let vectors = ["", "f", "fo", "foo", "foob", "fooba", "foobar"];
        let expected = [
            "", "Zg==", "Zm8=", "Zm9v", "Zm9vYg==", "Zm9vYmE=", "Zm9vYmFy",
        ];
        assert_eq!(vectors.map(|text| base64(text.as_bytes())), expected);
    }

    #[test]
    fn a_position_is_a_word_an_offset_or_a_time() {
        let parse = |text| parse_start("--from", text).ok();
        assert_eq!(parse("start"), Some(Start::Start));
        assert_eq!(parse("end"), Some(Start::End));
        assert_eq!(parse("17"), Some(Start::Offset(17)));
        assert_eq!(
            parse("1970-01-01T00:00:01Z"),
            Some(Start::Time(Wall(1_000)))
        );
        assert_eq!(
            parse("1970-01-01 00:00:01.5"),
            Some(Start::Time(Wall(1_500)))
        );
        assert_eq!(parse("yesterday"), None);
        assert_eq!(parse("-1"), None);
    }
}
