//! Clients as this node knows them: who they proved to be, what they subscribed to, what they hold.

use std::collections::BTreeMap;

use super::Node;
use super::feed::Subscription;
use super::io::{ClientId, Droppable, Output};
use crate::types::Time;
use crate::types::limits::{PROBE, SESSION_IDLE};
use crate::wire::client::{Ping, Reply};
use crate::wire::{encode_reply, frames};

/// Every client that sent something and is not known to be gone.
pub(super) type Sessions = BTreeMap<ClientId, Session>;

/// One client.
#[derive(Debug)]
pub(super) struct Session {
    /// The name of its proven key.
    pub(super) principal: Option<String>,
    /// Whether its last message came after an empty delimiter, which answers then echo.
    pub(super) delimited: bool,
    pub(super) subscriptions: BTreeMap<u64, Subscription>,
    /// Bytes of its publishes not yet answered.
    pub(super) inflight_bytes: u64,
    pub(super) heard: Time,
    pub(super) probed: Time,
}

impl Node {
    /// Asks the transport about silent clients that this node keeps something for, and forgets
    /// those it keeps nothing for.
    pub(super) fn probe_sessions(&mut self) {
        let now = self.now.mono;
        self.sessions.retain(|_, session| {
            session.holds() || now.since(session.heard.max(session.probed)) < SESSION_IDLE
        });
        let silent = self.sessions.iter_mut().filter(|(_, session)| {
            session.holds() && now.since(session.heard.max(session.probed)) >= PROBE
        });
        let mut clients = Vec::new();
        for (client, session) in silent {
            session.probed = now;
            clients.push(client.clone());
        }
        for client in clients {
            let delimited = self.sessions[&client].delimited;
            // A full pipe is that of a slow client, which is still there.
            let what = Droppable {
                subscription: 0,
                channel: "".into(),
                count: 0,
            };
            self.out.push(Output::ToClient {
                client,
                frames: frames(delimited, encode_reply(&Reply::Ping(Ping {}), &[])),
                droppable: Some(what),
            });
        }
    }
}

impl Session {
    pub(super) fn new(now: Time) -> Self {
        Self {
            principal: None,
            delimited: false,
            subscriptions: BTreeMap::new(),
            inflight_bytes: 0,
            heard: now,
            probed: now,
        }
    }

    /// Whether this node keeps something for it.
    pub(super) fn holds(&self) -> bool {
        self.inflight_bytes > 0 || !self.subscriptions.is_empty()
    }
}
