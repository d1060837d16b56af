//! A node played by a test: a real ROUTER that says what it is told to.

use std::time::Duration;

use bytes::Bytes;
use weft::client::Address;
use weft::types::Wall;
use weft::wire::client::{
    Confirmed, DeclaredChannel, Deliver, Message, NodeEndpoints, Publish, Refuse, Reply, Request,
    Run, Stamped, Subscribe, Welcome,
};
use weft::wire::records::{RawRecords, encode_record};
use weft::wire::{Code, decode_request, encode_reply};

use super::record;

/// Longer than anything the client may take, so that only a hang runs into it.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A node played by the test.
pub(super) struct Played {
    pub(super) router: zmq::Socket,
    pub(super) name: &'static str,
    pub(super) endpoint: String,
    pub(super) client: Vec<u8>,
    pub(super) peers: Vec<NodeEndpoints>,
    /// Whether its `welcome` tells of channels.
    pub(super) declares: bool,
}

impl Played {
    pub(super) fn new(context: &zmq::Context, name: &'static str) -> Self {
        let router = context.socket(zmq::ROUTER).expect("a socket");
        router.set_linger(0).expect("linger");
        router
            .set_rcvtimeo(PATIENCE.as_millis() as i32)
            .expect("a timeout");
        router.bind("tcp://127.0.0.1:*").expect("bound");
        let endpoint = router.get_last_endpoint().expect("its endpoint");
        Self {
            router,
            name,
            endpoint: endpoint.expect("is text"),
            client: Vec::new(),
            peers: Vec::new(),
            declares: true,
        }
    }

    pub(super) fn address(&self) -> Address {
        Address::open(self.endpoint.clone())
    }

    /// As another node's `welcome` names it.
    pub(super) fn named(&self) -> NodeEndpoints {
        NodeEndpoints {
            name: self.name.to_owned(),
            endpoints: vec![self.endpoint.clone()],
            public_key: None,
        }
    }

    /// The next request; a `hello` is answered and counts as none.
    pub(super) fn next(&mut self) -> Message<Request> {
        loop {
            let message = self.next_raw();
            match message.header {
                Request::Hello(_) => self.welcome(),
                _ => return message,
            }
        }
    }

    pub(super) fn next_raw(&mut self) -> Message<Request> {
        let mut frames = self.router.recv_multipart(0).expect("a request in time");
        let frame = Bytes::from(frames.pop().expect("a frame"));
        self.client = frames.swap_remove(0);
        decode_request(&frame).expect("the client speaks the protocol")
    }

    pub(super) fn next_publish(&mut self) -> (Publish, usize) {
        let message = self.next();
        match message.header {
            Request::Publish(publish) => (publish, RawRecords::new(&message.records).count()),
            other => panic!("{other:?} instead of a publish"),
        }
    }

    pub(super) fn next_subscribe(&mut self) -> Subscribe {
        match self.next().header {
            Request::Subscribe(subscribe) => subscribe,
            other => panic!("{other:?} instead of a subscribe"),
        }
    }

    fn declared(&self) -> Vec<DeclaredChannel> {
        let channels = [
            ("orders", "stream"),
            ("audit", "stream"),
            ("ticks", "signal"),
        ];
        let declared = channels.into_iter().filter(|_| self.declares);
        declared
            .map(|(name, kind)| DeclaredChannel {
                name: name.to_owned(),
                kind: kind.to_owned(),
                subjects: vec![format!("{name}.#")],
                partitions: 4,
                max_record: Some(1 << 20),
            })
            .collect()
    }

    pub(super) fn welcome(&self) {
        self.welcome_to("test");
    }

    pub(super) fn welcome_to(&self, fabric: &str) {
        self.reply(&Reply::Welcome(Welcome {
            version: 1,
            fabric: fabric.to_owned(),
            node: self.name.to_owned(),
            frame_max: 1 << 20,
            window: 1 << 16,
            nodes: self.peers.clone(),
            channels: self.declared(),
            ..Welcome::default()
        }));
    }

    pub(super) fn confirm(&self, publish: &Publish, runs: &[(u64, u32, u64, u64)]) {
        self.reply(&Reply::Confirm(Confirmed {
            id: publish.id,
            channel: "orders".to_owned(),
            runs: runs
                .iter()
                .map(|&(record, partition, offset, count)| Run {
                    record,
                    partition,
                    offset,
                    count,
                })
                .collect(),
            repeated: false,
        }));
    }

    pub(super) fn refuse(&self, id: Option<u64>, code: Code, retry_after_ms: Option<u64>) {
        self.reply(&Reply::Refuse(Refuse {
            retry_after_ms,
            ..code.refuse(id, "as the test says")
        }));
    }

    pub(super) fn deliver(&self, id: u64, offset: u64, bodies: &[&str]) {
        let mut records = Vec::new();
        for body in bodies {
            encode_record(&record("orders.eu", None, body), &mut records);
        }
        let count = bodies.len() as u64;
        let header = Reply::Deliver(Deliver {
            id,
            channel: "orders".to_owned(),
            partition: Some(3),
            runs: vec![Stamped {
                offset,
                count,
                time: Wall(1),
            }],
            next: Some(offset + count),
            count,
            ..Deliver::default()
        });
        self.send(encode_reply(&header, &records));
    }

    pub(super) fn reply(&self, reply: &Reply) {
        self.send(encode_reply(reply, &[]));
    }

    pub(super) fn send(&self, frame: Bytes) {
        let frames = [self.client.as_slice(), &frame];
        self.router.send_multipart(frames, 0).expect("sent");
    }
}
