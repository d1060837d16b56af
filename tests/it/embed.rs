//! Nodes inside a service, and clients that reach them through no socket.

use std::time::Duration;

use weft::actor::Exit;
use weft::client::{Item, ProducerOptions, Receipt, Start, Subscription, Wanted};
use weft::embed::NodeOptions;
use weft::types::Span;
use weft::types::limits::LOCAL_FRAMES_WAITING;
use weft::{Client, Node, Record};

use crate::blocking::wait;
use crate::interop::rust_example;
use crate::support::{Fabric, Process, wait_until};

/// Starts all of a fabric's nodes in this process.
async fn nodes(fabric: &Fabric) -> Vec<Node> {
    let mut nodes = Vec::new();
    for node in &fabric.topology().nodes {
        let name = node.name.as_str();
        let options = NodeOptions {
            data: Some(fabric.data(name)),
            ..NodeOptions::default()
        };
        let started = Node::start_with(fabric.topology(), name, options).await;
        nodes.push(started.expect("it starts"));
    }
    nodes
}

async fn store(client: &Client, subject: &str, key: &str, body: &str) -> String {
    let record = Record::new(subject, body.to_owned()).with_key(key.to_owned());
    match client.publish(&record).await {
        Ok(Receipt::Stored { id, .. }) => id.to_string(),
        other => panic!("{other:?}"),
    }
}

async fn body(subscription: &mut Subscription) -> String {
    match subscription.next().await {
        Some(Ok(Item::Record(delivered))) => {
            String::from_utf8(delivered.record.body.to_vec()).expect("text")
        }
        other => panic!("{other:?}"),
    }
}

/// What one is told, any other tells: history and what comes, and signals.
async fn serves(nodes: &[Node]) {
    let (first, last) = (&nodes[0], &nodes[nodes.len() - 1]);
    let writer = first.client().await.expect("a client");
    let reader = last.client().await.expect("a client");
    let id = store(&writer, "orders.eu.new", "k", "两件衬衫 👕").await;
    assert!(id.starts_with("orders/"), "{id}");
    let wanted = Wanted::new("orders.#", Start::Start);
    let mut orders = reader.subscribe(wanted).await.expect("subscribed");
    assert_eq!(body(&mut orders).await, "两件衬衫 👕");
    store(&writer, "orders.eu.new", "k", "a hat").await;
    assert_eq!(body(&mut orders).await, "a hat");

    let mut ticks = reader.subscribe("ticks.#").await.expect("subscribed");
    let heard = async {
        loop {
            let tick = Record::new("ticks.x", "tick");
            writer.publish_unconfirmed(&tick).await.expect("taken");
            // Interest reaches another node a moment later.
            let next = tokio::time::timeout(Duration::from_millis(50), ticks.next());
            if let Ok(Some(Ok(Item::Record(_)))) = next.await {
                return;
            }
        }
    };
    heard.await;
    writer.close().await;
    reader.close().await;
}

#[test]
fn nodes_of_one_process_serve_its_clients() {
    let fabric = Fabric::new(&["a", "b", "c"]);
    wait(async {
        let nodes = nodes(&fabric).await;
        serves(&nodes).await;
        for node in nodes {
            assert_eq!(node.stop().await, Exit::Stopped);
        }
    });
}

#[test]
fn nodes_with_keys_serve_their_own_process() {
    let fabric = Fabric::with_keys(&["a", "b", "c"]);
    wait(async {
        let nodes = nodes(&fabric).await;
        serves(&nodes).await;
    });
}

// More than the pipe to the node takes at once waits in the client, and nothing of it is lost.
#[test]
fn promise_5_a_client_that_says_much_at_once_waits_for_its_node() {
    let fabric = Fabric::new(&["a"]);
    wait(async {
        let nodes = nodes(&fabric).await;
        let client = nodes[0].client().await.expect("a client");
        let mut asked = Vec::new();
        for number in 0..4 * LOCAL_FRAMES_WAITING {
            let client = client.clone();
            asked.push(tokio::spawn(async move {
                let subject = format!("audit.{number}");
                store(&client, &subject, "k", "x").await;
                client.inspect().await.expect("a view").len()
            }));
        }
        for answer in asked {
            assert!(answer.await.expect("no panic") > 0);
        }
    });
}

// Whoever gives up waiting for a start leaves no node behind, however far it had come.
#[test]
fn a_start_that_is_cancelled_leaves_nothing_behind() {
    let fabric = Fabric::new(&["a"]);
    let options = NodeOptions {
        data: Some(fabric.data("a")),
        ..NodeOptions::default()
    };
    let start = || Node::start_with(fabric.topology(), "a", options.clone());
    wait(async {
        let mut cancelled = Box::pin(start());
        let polled = tokio::time::timeout(Duration::ZERO, &mut cancelled).await;
        assert!(polled.is_err(), "it takes a while");
        // It serves, and nobody has heard of it.
        let client = weft::client::ConnectOptions::from(&*fabric.endpoint("a"));
        Client::connect(client)
            .await
            .expect("it serves")
            .close()
            .await;
        drop(cancelled);
        let node = loop {
            match start().await {
                Ok(node) => break node,
                Err(error) => assert!(error.is_in_use(), "{error}"),
            }
        };
        assert_eq!(node.stop().await, Exit::Stopped);
    });
}

// Any runtime will do, and any number of threads.
#[test]
fn a_client_is_shared_by_the_tasks_of_many_threads() {
    let fabric = Fabric::new(&["a"]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let nodes = nodes(&fabric).await;
        let client = nodes[0].client().await.expect("a client");
        let tasks: Vec<_> = (0..64)
            .map(|number| {
                let client = client.clone();
                let key = number.to_string();
                tokio::spawn(async move { store(&client, "audit.x", &key, "x").await })
            })
            .collect();
        let mut ids = std::collections::BTreeSet::new();
        for task in tasks {
            ids.insert(task.await.expect("no panic"));
        }
        assert_eq!(ids.len(), 64);
    });
}

#[test]
fn a_client_of_a_node_that_has_stopped_is_told() {
    let fabric = Fabric::new(&["a"]);
    wait(async {
        let mut nodes = nodes(&fabric).await;
        let node = nodes.pop().expect("one");
        let client = node.client().await.expect("a client");
        store(&client, "audit.x", "k", "x").await;
        assert_eq!(node.stop().await, Exit::Stopped);
        // It is never answered, and does not wait for ever.
        let producer = client.producer(ProducerOptions {
            timeout: Span::from_millis(300),
            ..ProducerOptions::default()
        });
        let producer = producer.expect("a producer");
        for number in 0..20_000 {
            let late = Record::new(format!("audit.{}", number % 2), "late");
            let confirm = producer.send(&late).await.expect("taken");
            if number % 10_000 == 0 {
                let outcome = confirm.await;
                assert!(outcome.is_err(), "{outcome:?}");
            }
        }
        client.close().await;
        // The folder is free again, and holds what was confirmed.
        let again = self::nodes(&fabric).await;
        let client = again[0].client().await.expect("a client");
        let wanted = Wanted::new("audit.#", Start::Start);
        let mut audit = client.subscribe(wanted).await.expect("subscribed");
        assert_eq!(body(&mut audit).await, "x");
    });
}

// README shows it. Whoever runs it next goes on where it left off.
#[test]
fn the_service_of_readme_bills_every_order_once() {
    let fabric = Fabric::new(&["a", "b", "c"]);
    let _nodes = ["a", "b", "c"].map(|name| fabric.serve(name));
    let endpoints = ["a", "b", "c"].map(|name| fabric.endpoint(name)).join(",");
    let mut billed = 0;
    for number in 1..=3 {
        let log = fabric.folder.path().join(format!("service-{number}.log"));
        let mut command = rust_example("service");
        command.arg(&endpoints);
        let mut service = Process::start(command, &log);
        wait_until("it bills the order that it took", || {
            service.log().contains("bills two shirts")
        });
        // Its ack may not have left; then the next one bills the order again.
        service.kill();
        billed += service.log().matches("bills two shirts").count();
        assert!(billed >= number, "{}", service.log());
    }
    assert!(billed <= 6, "{billed}");
}
