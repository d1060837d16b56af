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

use weft::client::{
    Address, Client, ClientError, ConnectOptions, Item, Start, Subscription, Wanted,
};
use weft::types::{Record, Subject};

/// The quickstart's nodes.
const NODES: [&str; 3] = [
    "tcp://127.0.0.1:7101",
    "tcp://127.0.0.1:7201",
    "tcp://127.0.0.1:7301",
];

fn main() -> ExitCode {
    match chat() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Publishes each line of stdin, until there are no more.
fn chat() -> Result<(), Box<dyn Error>> {
    let mut words = env::args().skip(1);
    let name = words
        .next()
        .ok_or("usage: chat NAME [ROOM [ENDPOINT...]]")?;
    let room = words.next().unwrap_or("lobby".to_owned());
    let subject = Subject::parse(&format!("audit.room.{room}"))?.to_string();
    let mut nodes: Vec<Address> = words.map(Address::open).collect();
    if nodes.is_empty() {
        nodes.extend(NODES.map(Address::open));
    }

    let client = Client::connect(ConnectOptions::new(nodes))?;
    let said = client.subscribe(Wanted::new(&subject, Start::Start))?;
    thread::spawn(move || {
        if let Err(error) = listen(said) {
            eprintln!("{error}");
            std::process::exit(1);
        }
    });
    for line in io::stdin().lines() {
        let record = Record {
            subject: subject.clone(),
            key: None,
            headers: [("from".to_owned(), name.clone())].into(),
            body: line?.into(),
        };
        // Waits for the confirm: what was said is on the disks of two nodes.
        client.publish(&record)??;
    }
    Ok(())
}

/// Prints what was said, and then what is said.
fn listen(mut said: Subscription) -> Result<(), Box<dyn Error>> {
    loop {
        let delivered = match said.next_item() {
            Ok(Item::Record(delivered)) => delivered,
            Ok(Item::Gap { .. }) => continue,
            Err(ClientError::Closed) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let from = delivered.record.headers.get("from");
        let from = from.map_or("somebody", String::as_str);
        let text = String::from_utf8_lossy(&delivered.record.body);
        // Nobody writes to another's terminal more than text.
        let line = format!("{from}: {text}").replace(char::is_control, " ");
        writeln!(io::stdout(), "{line}")?;
    }
}
