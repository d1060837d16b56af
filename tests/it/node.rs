//! Nodes talking to each other and to clients in one thread, without sockets or disks. Each test
//! names the promise or the clause of the protocol that it guards.

mod acks;
mod audit;
mod bounds;
mod cursors;
mod diff;
mod hostile;
mod order;
mod publish;
mod repair;
mod replacing;
mod replication;
mod retention;
mod returning;
mod signals;
mod subscribe;
mod transfer;

use weft::wire::Code;
use weft::wire::client::{Confirmed, Deliver, Message, Refuse, Reply};

/// The confirms among the messages.
pub(crate) fn confirms(messages: &[Message<Reply>]) -> Vec<Confirmed> {
    let confirm = |message: &Message<Reply>| match &message.header {
        Reply::Confirm(confirmed) => Some(confirmed.clone()),
        _ => None,
    };
    messages.iter().filter_map(confirm).collect()
}

/// The refusals among the messages.
fn refusals(messages: &[Message<Reply>]) -> Vec<Refuse> {
    let refuse = |message: &Message<Reply>| match &message.header {
        Reply::Refuse(refuse) => Some(refuse.clone()),
        _ => None,
    };
    messages.iter().filter_map(refuse).collect()
}

/// The delivers among the messages, with the bodies of their records.
fn delivers(messages: &[Message<Reply>]) -> Vec<(Deliver, Vec<String>)> {
    let deliver = |message: &Message<Reply>| match &message.header {
        Reply::Deliver(deliver) => {
            let records = weft::wire::RawRecords::new(&message.records);
            let text = |record: weft::wire::RawRecord<'_>| {
                String::from_utf8(record.body.to_vec()).expect("text")
            };
            let bodies = records
                .map(|record| text(record.expect("a record")))
                .collect();
            Some((deliver.clone(), bodies))
        }
        _ => None,
    };
    messages.iter().filter_map(deliver).collect()
}

/// Asserts that the messages are one refusal with this code.
fn assert_refused(messages: &[Message<Reply>], code: Code) -> Refuse {
    let refusals = refusals(messages);
    assert_eq!(messages.len(), 1, "one answer: {messages:?}");
    let name = refusals.first().map(|refuse| refuse.name.as_str());
    assert_eq!(name, Some(code.name()), "{messages:?}");
    refusals[0].clone()
}
