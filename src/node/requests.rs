//! What a client's request is for, and what is answered at once.

use bytes::Bytes;

use super::Node;
use super::io::ClientId;
use crate::wire::Code;
use crate::wire::client::{
    DeclaredChannel, Hello, NodeEndpoints, Reply, Request, VERSION, Welcome,
};

impl Node {
    pub(super) fn handle_request(&mut self, client: &ClientId, request: Request, records: &Bytes) {
        match request {
            Request::Hello(hello) => self.handle_hello(client, hello),
            Request::Publish(publish) => self.handle_publish(client, publish, records),
            Request::Subscribe(subscribe) => self.handle_subscribe(client, subscribe),
            Request::Unsubscribe(unsubscribe) => {
                if !self.has_subscription(client, unsubscribe.id) {
                    self.refuse_no_subscription(client, unsubscribe.id, None);
                    return;
                }
                self.handle_unsubscribe(client, unsubscribe.id);
            }
            Request::Ack(ack) if !self.has_subscription(client, ack.id) => {
                self.refuse_no_subscription(client, ack.id, ack.request);
            }
            Request::Ack(ack) => self.handle_ack(client, ack),
            Request::Credit(credit) if !self.has_subscription(client, credit.id) => {
                self.refuse_no_subscription(client, credit.id, None);
            }
            Request::Credit(credit) => self.handle_credit(client, credit),
            Request::Seek(seek) => self.handle_seek(client, seek),
            Request::Delete(delete) => self.handle_delete(client, delete),
            Request::Inspect(inspect) => self.handle_inspect(client, &inspect),
            Request::Audit(audit) => self.handle_audit(client, &audit),
            Request::Bye(_) => self.end_session(client),
        }
    }

    fn handle_hello(&mut self, client: &ClientId, hello: Hello) {
        let asked = hello.version.unwrap_or(VERSION);
        if asked < VERSION {
            let message = format!("the client speaks version {asked}, this node {VERSION}");
            self.refuse(client, Code::UnsupportedVersion.refuse(None, message));
            return;
        }
        let limits = &self.topology.limits;
        let nodes = self.topology.nodes.iter().map(|node| NodeEndpoints {
            name: node.name.to_string(),
            endpoints: node.clients.iter().map(|e| e.advertise.clone()).collect(),
            public_key: node.public_key.as_ref().map(|key| key.0.clone()),
        });
        let channels = self.topology.channels.iter();
        let channels = channels.map(|(name, channel)| DeclaredChannel {
            name: name.to_string(),
            kind: channel.kind.as_str().to_owned(),
            subjects: channel.subjects.iter().map(ToString::to_string).collect(),
            partitions: channel.partitions,
            max_record: Some(channel.max_record),
        });
        let welcome = Welcome {
            version: VERSION,
            fabric: self.topology.fabric.name.clone(),
            node: self.name.to_string(),
            epoch: self.topology.fabric.epoch,
            principal: self.sessions.get(client).and_then(|s| s.principal.clone()),
            frame_max: limits.frame_max,
            window: limits.subscription_window_bytes,
            producer_window: limits.producer_window,
            next_sequence: None,
            nodes: nodes.collect(),
            channels: channels.collect(),
        };
        if let Some(producer) = hello.producer {
            let producer = Bytes::from(producer.into_vec());
            return self.welcome_producer(client, producer, welcome);
        }
        self.reply(client, &Reply::Welcome(welcome), &[]);
    }

    fn has_subscription(&self, client: &ClientId, id: u64) -> bool {
        self.sessions
            .get(client)
            .is_some_and(|session| session.subscriptions.contains_key(&id))
    }

    fn refuse_no_subscription(&mut self, client: &ClientId, id: u64, request: Option<u64>) {
        let message = format!("this session has no subscription {id}; subscribe again");
        let mut no = Code::NoSubscription.refuse(Some(id), message);
        no.request = request;
        self.refuse(client, no);
    }
}
