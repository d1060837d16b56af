//! The client for tests that wait on their own thread, and never for ever.

use std::ops::Deref;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use weft::actor::StartError;
use weft::client::{
    self, ClientError, Confirm, ConnectOptions, Delivered, Item, Outcome, Producer,
    ProducerOptions, PublishError, Wanted,
};
use weft::embed::NodeOptions;
use weft::types::Span;
use weft::{Node, Record, Topology};

/// Longer than anything the client may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits on this thread for what must come.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    wait_within(PATIENCE, future).expect("it comes in time")
}

fn wait_within<F: Future>(most: Duration, future: F) -> Option<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(most, future).await.ok() })
}

/// Starts a node in this process.
pub(crate) fn start(topology: Topology, name: &str, data: &Path) -> Result<Node, StartError> {
    let options = NodeOptions {
        data: Some(data.to_owned()),
        seed: Some(1),
        replaces: false,
    };
    wait(Node::start_with(topology, name, options))
}

#[derive(Debug)]
pub(crate) struct Client(client::Client);

impl Client {
    pub(crate) fn connect(options: ConnectOptions) -> Result<Self, ClientError> {
        let in_order = ConnectOptions {
            spread: false,
            ..options
        };
        wait(client::Client::connect(in_order)).map(Self)
    }

    pub(crate) fn publish(&self, record: &Record) -> Outcome {
        wait(self.0.publish(record))
    }

    pub(crate) fn subscribe(&self, wanted: Wanted) -> Result<Subscription, ClientError> {
        wait(self.0.subscribe(wanted)).map(Subscription)
    }

    /// What sends, and what becomes of each record in the order of sending.
    pub(crate) fn publisher(
        &self,
        options: ProducerOptions,
    ) -> Result<(Publisher, Outcomes), ClientError> {
        let producer = self.0.producer(options)?;
        let (sent, confirms) = channel();
        Ok((Publisher { producer, sent }, Outcomes(confirms)))
    }
}

impl Deref for Client {
    type Target = client::Client;

    fn deref(&self) -> &client::Client {
        &self.0
    }
}

#[derive(Debug)]
pub(crate) struct Publisher {
    producer: Producer,
    sent: Sender<Confirm>,
}

impl Publisher {
    pub(crate) fn send(&self, record: &Record) -> Result<(), PublishError> {
        let confirm = wait(self.producer.send(record))?;
        // A test that does not listen does not want to know.
        let _ = self.sent.send(confirm);
        Ok(())
    }
}

pub(crate) struct Outcomes(Receiver<Confirm>);

impl Outcomes {
    pub(crate) fn next_within(&mut self, most: Duration) -> Option<Outcome> {
        let confirm = self.0.recv_timeout(most).expect("something was sent");
        wait_within(most, confirm)
    }
}

impl Iterator for Outcomes {
    type Item = Outcome;

    fn next(&mut self) -> Option<Outcome> {
        self.0.recv().ok().map(wait)
    }
}

#[derive(Debug)]
pub(crate) struct Subscription(client::Subscription);

impl Subscription {
    /// # Errors
    /// [`ClientError::NoAnswer`] if nothing came.
    pub(crate) fn next_within(&mut self, most: Duration) -> Result<Item, ClientError> {
        let item = match self.0.try_next() {
            Some(item) => Some(Some(item)),
            None => wait_within(most, self.0.next()),
        };
        let late = ClientError::NoAnswer(Span::from_millis(most.as_millis() as u64));
        item.ok_or(late)?.unwrap_or(Err(ClientError::Closed))
    }

    pub(crate) fn commit(&self, delivered: &Delivered) -> Result<(), ClientError> {
        wait(self.0.commit(delivered))
    }
}

impl Deref for Subscription {
    type Target = client::Subscription;

    fn deref(&self) -> &client::Subscription {
        &self.0
    }
}
