//! A service that takes an order and bills all orders, its own and others'.
//!
//! With `weft up` running, `cargo run --example service`. It takes other nodes' endpoints as its
//! argument, with commas between.

#![expect(clippy::print_stdout, reason = "it tells what it does")]

use std::error::Error;

use weft::client::{Item, Start, Wanted};
use weft::{Client, Record};

/// The quickstart's nodes.
const NODES: &str = "tcp://127.0.0.1:7101,tcp://127.0.0.1:7201,tcp://127.0.0.1:7301";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let nodes = std::env::args().nth(1).unwrap_or(NODES.to_owned());
    let client = Client::connect(nodes.as_str()).await?;

    let order = Record::new("orders.eu.new", "two shirts").with_key("customer-42");
    // Waits until a majority of the replicas has it on disk.
    println!("{:?}", client.publish(&order).await?);

    // A cursor remembers where billing stands, whoever bills next and through whichever node.
    let billing = Wanted {
        cursor: Some("billing".to_owned()),
        ..Wanted::new("orders.#", Start::Start)
    };
    let mut orders = client.subscribe(billing).await?;
    while let Some(item) = orders.next().await {
        let Item::Record(order) = item? else { continue };
        println!("bills {}", String::from_utf8_lossy(&order.record.body));
        orders.ack(&order)?;
    }
    Ok(())
}
