//! Which node the client talks to, and when it looks for another. Pure.
//!
//! One address is tried at a time. It has [`HELLO_TIMEOUT`] to say `welcome`; a failure moves on to
//! the next address, and a whole round of failures waits a little before the next round. An
//! established connection is left when the transport says that it closed, when the node says that
//! it stops, or when a probe stays without an answer. Where every address has said a no that no
//! further try changes, connecting for the first time ends at once.

use std::collections::BTreeMap;

use crate::types::{Span, Time};

use super::error::{Cause, Failure};
use super::options::Address;

/// How long a node may take to answer `hello`: several round trips around the world, and the time a
/// busy node needs to look at a new client.
const HELLO_TIMEOUT: Span = Span::from_secs(2);

/// How long that question may stay without any frame in answer.
const PROBE_TIMEOUT: Span = Span::from_secs(3);

/// How often every address must have said no for good before that is believed.
const FINAL_ROUNDS: usize = 2;

/// The pause after the first round of failures; it doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Span = Span::from_millis(100);

/// A restarting node is found again within this time.
const PAUSE_MAX: Span = Span::from_secs(1);

/// What the transport says of the socket in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TransportEvent {
    /// Nothing listens: libzmq will try again.
    NobodyThere,
    /// The node does not let this client's key in.
    KeyRefused,
    /// CURVE failed.
    HandshakeFailed(String),
    /// The connection closed.
    Closed,
    /// The socket could not be made, connected or sent to.
    Unusable(String),
}

/// What to do after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Move {
    /// Nothing.
    Stay,
    /// Drop the socket, connect a new one to this address and greet.
    Connect(Address),
    /// Drop the socket; another is tried later.
    Pause,
    /// Send a `hello` to hear whether the node lives.
    Probe,
}

/// The state of the one connection.
#[derive(Debug)]
pub(super) struct Connection {
    addresses: Vec<Address>,
    current: usize,
    state: State,
    /// Failures in a row; a full round of them makes a pause.
    failed: usize,
    pause: Span,
    failures: BTreeMap<String, Cause>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Paused { until: Time },
    Greeting { since: Time },
    Ready { heard: Time, probed: Option<Time> },
}

impl Connection {
    /// Nothing is connected until the first tick.
    pub(super) fn new(addresses: Vec<Address>, now: Time) -> Self {
        Self {
            addresses,
            current: 0,
            state: State::Paused { until: now },
            failed: 0,
            pause: PAUSE_MIN,
            failures: BTreeMap::new(),
        }
    }

    /// Whether the node said `welcome`.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready { .. })
    }

    /// The address in use.
    pub(super) fn address(&self) -> &Address {
        &self.addresses[self.current]
    }

    /// The last failure of each endpoint that has not answered since; that of the one which is
    /// being greeted is its silence so far.
    pub(super) fn failures(&self) -> Vec<Failure> {
        let mut failures = self.failures.clone();
        if matches!(self.state, State::Greeting { .. }) {
            let curve = self.address().server_key.is_some();
            let endpoint = self.address().endpoint.clone();
            failures.entry(endpoint).or_insert(Cause::Silent { curve });
        }
        failures
            .into_iter()
            .map(|(endpoint, cause)| Failure { endpoint, cause })
            .collect()
    }

    /// Whether every address has said no, and will say it again.
    pub(super) fn is_hopeless(&self) -> bool {
        let refused = |address: &Address| {
            let cause = self.failures.get(&address.endpoint);
            cause.is_some_and(Cause::is_final)
        };
        self.failed >= FINAL_ROUNDS * self.addresses.len() && self.addresses.iter().all(refused)
    }

    /// Adds addresses to fail over to.
    pub(super) fn learn(&mut self, addresses: impl Iterator<Item = Address>) {
        for address in addresses {
            let known = |a: &Address| a.endpoint == address.endpoint;
            if !self.addresses.iter().any(known) {
                self.addresses.push(address);
            }
        }
    }

    /// The node said `welcome`. True if it is the first one on this socket.
    pub(super) fn handle_welcome(&mut self, now: Time) -> bool {
        let first = !self.is_ready();
        self.state = State::Ready {
            heard: now,
            probed: None,
        };
        self.failed = 0;
        self.pause = PAUSE_MIN;
        self.failures.remove(&self.addresses[self.current].endpoint);
        first
    }

    /// Any frame came.
    pub(super) fn handle_heard(&mut self, now: Time) {
        if let State::Ready { heard, probed } = &mut self.state {
            *heard = now;
            *probed = None;
        }
    }

    /// The transport spoke. `Some(cause)` if the connection in use is lost by it.
    pub(super) fn handle_transport(&mut self, event: TransportEvent) -> Option<Cause> {
        let curve = self.address().server_key.is_some();
        let greeting = matches!(self.state, State::Greeting { .. });
        let cause = match event {
            _ if matches!(self.state, State::Paused { .. }) => return None,
            TransportEvent::NobodyThere => Cause::NobodyThere,
            TransportEvent::KeyRefused if curve => Cause::KeyRefused,
            TransportEvent::KeyRefused => Cause::Handshake {
                detail: "refused".to_owned(),
                curve,
            },
            TransportEvent::HandshakeFailed(detail) => Cause::Handshake { detail, curve },
            TransportEvent::Closed if greeting => Cause::ClosedAtOnce { curve },
            TransportEvent::Closed => Cause::Closed,
            TransportEvent::Unusable(reason) => Cause::Unusable(reason),
        };
        Some(cause)
    }

    /// Whether there is another address to go on at.
    pub(super) fn has_others(&self) -> bool {
        self.is_ready() && self.addresses.len() > 1
    }

    /// Gives the connection up and goes on.
    pub(super) fn leave(&mut self, cause: Cause, now: Time) -> Move {
        self.failures.insert(self.address().endpoint.clone(), cause);
        self.failed += 1;
        self.current = (self.current + 1) % self.addresses.len();
        if !self.failed.is_multiple_of(self.addresses.len()) {
            return self.connect(now);
        }
        self.state = State::Paused {
            until: now + self.pause,
        };
        self.pause = Span(self.pause.0 * 2).min(PAUSE_MAX);
        Move::Pause
    }

    /// Time passed. `patience`: how long the node may be silent before it is asked whether it
    /// lives, if anything waits for it.
    pub(super) fn handle_tick(&mut self, patience: Option<Span>, now: Time) -> Result<Move, Cause> {
        match &mut self.state {
            State::Paused { until } if *until <= now => Ok(self.connect(now)),
            State::Greeting { since } if now.since(*since) >= HELLO_TIMEOUT => Err(Cause::Silent {
                curve: self.address().server_key.is_some(),
            }),
            State::Ready {
                probed: Some(at), ..
            } if now.since(*at) >= PROBE_TIMEOUT => Err(Cause::Silent {
                curve: self.address().server_key.is_some(),
            }),
            State::Ready { heard, probed }
                if probed.is_none() && patience.is_some_and(|most| now.since(*heard) >= most) =>
            {
                *probed = Some(now);
                Ok(Move::Probe)
            }
            _ => Ok(Move::Stay),
        }
    }

    fn connect(&mut self, now: Time) -> Move {
        self.state = State::Greeting { since: now };
        Move::Connect(self.address().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Option<Span> = Some(Span::from_secs(1));

    fn at(ms: u64) -> Time {
        Time(ms * 1_000_000)
    }

    fn two() -> Connection {
        let addresses = vec![Address::open("tcp://a"), Address::open("tcp://b")];
        Connection::new(addresses, at(0))
    }

    fn endpoint(result: Move) -> String {
        match result {
            Move::Connect(address) => address.endpoint,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_round_of_failures_pauses_and_the_pause_doubles() {
        let mut connection = two();
        let first = connection.handle_tick(None, at(0)).expect("a move");
        assert_eq!(endpoint(first), "tcp://a");
        assert_eq!(
            endpoint(connection.leave(Cause::NobodyThere, at(1))),
            "tcp://b"
        );
        assert_eq!(connection.leave(Cause::NobodyThere, at(2)), Move::Pause);
        assert_eq!(connection.handle_tick(SECOND, at(101)), Ok(Move::Stay));
        let next = connection.handle_tick(SECOND, at(102)).expect("a move");
        assert_eq!(endpoint(next), "tcp://a");
        connection.leave(Cause::NobodyThere, at(103));
        assert_eq!(connection.leave(Cause::NobodyThere, at(104)), Move::Pause);
        assert_eq!(connection.handle_tick(SECOND, at(300)), Ok(Move::Stay));
        assert_eq!(connection.failures().len(), 2);
    }

    #[test]
    fn a_node_that_stays_silent_is_probed_and_then_left() {
        let mut connection = two();
        connection.handle_tick(None, at(0)).expect("connects");
        assert!(connection.handle_welcome(at(10)));
        assert_eq!(connection.handle_tick(None, at(60_000)), Ok(Move::Stay));
        assert_eq!(connection.handle_tick(SECOND, at(60_000)), Ok(Move::Probe));
        assert_eq!(connection.handle_tick(SECOND, at(62_999)), Ok(Move::Stay));
        assert!(connection.handle_tick(SECOND, at(63_000)).is_err());
        connection.handle_heard(at(63_000));
        assert_eq!(connection.handle_tick(SECOND, at(63_500)), Ok(Move::Stay));
    }

    #[test]
    fn a_no_for_good_from_every_address_is_believed_at_the_second_round() {
        let mut connection = two();
        connection.handle_tick(None, at(0)).expect("connects");
        for (cause, hopeless) in [
            (Cause::KeyRefused, false),
            (Cause::KeyRefused, false),
            (Cause::KeyRefused, false),
            (Cause::NobodyThere, false),
            (Cause::KeyRefused, false),
            (Cause::KeyRefused, true),
        ] {
            connection.leave(cause, at(1));
            assert_eq!(connection.is_hopeless(), hopeless);
        }
    }

    #[test]
    fn a_hello_without_an_answer_names_the_likely_cause() {
        let mut connection = two();
        connection.handle_tick(None, at(0)).expect("connects");
        assert_eq!(connection.handle_tick(SECOND, at(1_999)), Ok(Move::Stay));
        let cause = connection
            .handle_tick(SECOND, at(2_000))
            .expect_err("silent for too long");
        assert!(cause.to_string().contains("CURVE"), "{cause}");
    }
}
