//! Two terminals talk in a room; whoever comes later reads first what was said before.
//!
//! With `weft up` running, `cargo run --example chat -- ann` in one terminal and the same with
//! another name in a second one. A room is a subject of the quickstart's channel `audit`: a stream
//! with one partition, so that all see one order.

use std::env;
use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use tokio::sync::mpsc;
use weft::client::{Item, Start, Subscription, Wanted};
use weft::types::Subject;
use weft::{Client, Record};

/// The quickstart's nodes.
const NODES: &str = "tcp://127.0.0.1:7101,tcp://127.0.0.1:7201,tcp://127.0.0.1:7301";

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match chat().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Publishes each line of stdin, until there are no more.
async fn chat() -> Result<(), Box<dyn Error>> {
    let mut words = env::args().skip(1);
    let name = words
        .next()
        .ok_or("usage: chat NAME [ROOM [ENDPOINT...]]")?;
    let room = words.next().unwrap_or("lobby".to_owned());
    let subject = Subject::parse(&format!("audit.room.{room}"))?.to_string();
    let nodes: Vec<String> = words.collect();
    let nodes = if nodes.is_empty() {
        NODES.to_owned()
    } else {
        nodes.join(",")
    };

    let client = Client::connect(nodes.as_str()).await?;
    let said = client
        .subscribe(Wanted::new(&subject, Start::Start))
        .await?;
    tokio::spawn(async {
        if let Err(error) = listen(said).await {
            eprintln!("{error}");
            std::process::exit(1);
        }
    });
    let mut lines = typed();
    while let Some(line) = lines.recv().await {
        let record = Record::new(&subject, line?).with_header("from", &name);
        // Waits for the confirm: what was said is on the disks of two nodes.
        client.publish(&record).await?;
    }
    client.close().await;
    Ok(())
}

/// The lines of stdin, read by a thread that may wait.
fn typed() -> mpsc::Receiver<io::Result<String>> {
    let (typed, lines) = mpsc::channel(1);
    thread::spawn(move || {
        for line in io::stdin().lines() {
            if typed.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Prints what was said, and then what is said.
async fn listen(mut said: Subscription) -> Result<(), Box<dyn Error + Send + Sync>> {
    while let Some(item) = said.next().await {
        let Item::Record(delivered) = item? else {
            continue;
        };
        let from = delivered.record.headers.get("from");
        let from = from.map_or("somebody", String::as_str);
        let text = String::from_utf8_lossy(&delivered.record.body);
        // Nobody writes to another's terminal more than text.
        let line = format!("{from}: {text}").replace(char::is_control, " ");
        writeln!(io::stdout(), "{line}")?;
    }
    Ok(())
}
