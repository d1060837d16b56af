//! Clients as this node knows them: who they proved to be, what they subscribed to, what they hold.

use std::collections::BTreeMap;

use super::Node;
use super::feed::{Subscription, Windows};
use super::io::{ClientId, Droppable, Output};
use super::window::Window;
use crate::types::limits::{PROBE, SESSION_IDLE};
use crate::types::{Partition, Time};
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
    /// What all its subscriptions together may be sent.
    pub(super) window: Window,
    /// The feed whose next record fits its subscription's window and not what the others leave of
    /// the session's: until it does, they ask for nothing.
    pub(super) starving: Option<(u64, Partition)>,
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
                bytes: 0,
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
    /// One of which `window_bytes` may be out.
    pub(super) fn new(now: Time, window_bytes: u64) -> Self {
        Self {
            principal: None,
            delimited: false,
            subscriptions: BTreeMap::new(),
            window: Window::new(window_bytes, window_bytes),
            starving: None,
            inflight_bytes: 0,
            heard: now,
            probed: now,
        }
    }

    /// What bounds one of its subscriptions.
    pub(super) fn windows(&self, id: u64) -> Option<Windows> {
        let own = self.subscriptions.get(&id)?.window;
        let session = self.window;
        Some(Windows { own, session })
    }

    /// Forgets the feed that the others make way for, if it no longer waits for them.
    pub(super) fn look_at_starving(&mut self) {
        if self.starving.is_some() && self.starved_bytes() == 0 {
            self.starving = None;
        }
    }

    /// The bytes of the record that the others make way for; 0 if there is none.
    pub(super) fn starved_bytes(&self) -> u64 {
        let waits = self.starving.as_ref().and_then(|(id, partition)| {
            let feed = self.subscriptions.get(id)?.feeds.get(partition)?;
            let windows = self.windows(*id)?;
            feed.starved
                .filter(|bytes| windows.wait_for_session(*bytes))
        });
        waits.unwrap_or(0)
    }

    /// Signals of a subscription never left for the client.
    pub(super) fn give_back_signals(&mut self, id: u64, bytes: u64) {
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            let returned = subscription.window.give_back(bytes);
            self.window.give_back(returned);
        }
    }

    /// Whether this node keeps something for it.
    pub(super) fn holds(&self) -> bool {
        self.inflight_bytes > 0 || !self.subscriptions.is_empty()
    }
}
