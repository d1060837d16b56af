//! Clients as this node knows them: who they proved to be, what they subscribed to, what they hold.

use std::collections::BTreeMap;

use super::feed::Subscription;
use super::io::ClientId;
use crate::types::Time;

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
