//! What can go wrong between a client and its fabric.

use std::fmt;

use crate::types::Span;
use crate::wire::client::Refuse;

/// Why a call of the client failed.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (_folder, _node, client) = client().await;
/// use weft::client::ClientError;
///
/// match client.subscribe("invoices.#").await {
///     Err(ClientError::Refused(refusal)) => assert_eq!(refusal.name, "no_channel"),
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// `ConnectOptions` holds no endpoint. Nothing was done.
    #[error("there is no endpoint to connect to")]
    NoEndpoint,
    /// libzmq does not take the endpoint or one of the keys. Nothing was done.
    #[error("cannot use {endpoint}: {reason}")]
    BadEndpoint {
        /// As given.
        endpoint: String,
        /// What libzmq says.
        reason: String,
    },
    /// No node answered in time, or each said no for good. Nothing was sent but greetings.
    #[error("{}:{}", headline(.within, .failures), list(.failures))]
    Unreachable {
        /// How long was to be tried.
        within: Span,
        /// The last failure of each endpoint.
        failures: Vec<Failure>,
    },
    /// The node said no; what was asked for was not done.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An answer did not come in time. Asking changes nothing, so it may be asked again.
    #[error("no answer within {0}")]
    NoAnswer(Span),
    /// A node sent something that is not of the protocol.
    #[error("the node sent something unreadable: {0}")]
    Protocol(String),
    /// The node was lost before it answered what was asked of a cursor. It may be done or not.
    #[error("the node was lost before it answered")]
    Unanswered,
    /// A record that came by no cursor is not acked. Nothing was done.
    #[error("the record came by no cursor; name one in `Wanted`")]
    NoCursor,
    /// The subscription is over: its cursor has another holder, or is no more.
    #[error("the subscription is over: its cursor was {}", .0.replace('_', " "))]
    CursorLost(String),
    /// The client was closed, or its thread ended.
    #[error("the client is closed")]
    Closed,
}

/// Why one record has no confirm.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (_folder, _node, client) = client().await;
/// use weft::Record;
/// use weft::client::{PublishError, Retry};
///
/// let error = client.publish(&Record::new("invoices.new", "x")).await.unwrap_err();
/// assert_eq!(error.retry(), Retry::Never);
/// assert!(matches!(error, PublishError::Refused(_)));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Refused for good, or until the time for it was over. It is not stored.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// It was sent, and whether it is stored is not known.
    #[error("it is not known whether the record is stored: {0}")]
    Unknown(String),
    /// It never left this process. It is not stored.
    #[error("the record was not sent: {0}")]
    NotSent(String),
}

/// Whether to do the same again.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (_folder, _node, client) = client().await;
/// use weft::Record;
/// use weft::client::Retry;
///
/// let record = Record::new("orders.eu.new", "a hat");
/// match client.publish(&record).await {
///     Ok(receipt) => println!("{receipt:?}"),
///     Err(error) => match error.retry() {
///         Retry::Never => println!("put aside: {error}"),
///         Retry::Later => println!("to be published again: {error}"),
///         Retry::MayRepeat => println!("stored, or not: {error}"),
///     },
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It fails again.
    Never,
    /// It may succeed later, and does no harm.
    Later,
    /// It may succeed later; if the first attempt did all the same, a record is stored twice.
    MayRepeat,
}

impl ClientError {
    /// Whether to do the same again. The client itself has tried for as long as it was allowed to.
    ///
    /// ```
    /// use weft::client::{ClientError, Retry};
    /// use weft::types::Span;
    ///
    /// assert_eq!(ClientError::NoAnswer(Span::from_secs(5)).retry(), Retry::Later);
    /// assert_eq!(ClientError::NoEndpoint.retry(), Retry::Never);
    /// ```
    pub fn retry(&self) -> Retry {
        match self {
            Self::Refused(refusal) => refusal.advice(),
            Self::Unreachable { failures, .. } if are_final(failures) => Retry::Never,
            Self::Unreachable { .. } | Self::NoAnswer(_) | Self::Unanswered => Retry::Later,
            Self::NoEndpoint
            | Self::BadEndpoint { .. }
            | Self::Protocol(_)
            | Self::NoCursor
            | Self::CursorLost(_)
            | Self::Closed => Retry::Never,
        }
    }
}

impl From<Refusal> for PublishError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl PublishError {
    /// Whether to publish the same record again. The client itself has tried for as long as it was
    /// allowed to.
    ///
    /// ```
    /// use weft::client::{PublishError, Retry};
    ///
    /// // It was sent, and nobody can tell.
    /// let lost = PublishError::Unknown("the node was lost".to_owned());
    /// assert_eq!(lost.retry(), Retry::MayRepeat);
    /// ```
    pub fn retry(&self) -> Retry {
        match self {
            Self::Refused(refusal) => refusal.advice(),
            Self::Unknown(_) => Retry::MayRepeat,
            Self::NotSent(_) => Retry::Later,
        }
    }
}

impl Refusal {
    fn advice(&self) -> Retry {
        match self.retry {
            true => Retry::Later,
            false => Retry::Never,
        }
    }
}

/// A `refuse` as its receiver sees it.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/shown.inc"));
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (_folder, _node, client) = client().await;
/// use weft::Record;
/// use weft::client::PublishError;
///
/// let refused = client.publish(&Record::new("invoices.new", "x")).await;
/// if let Err(PublishError::Refused(refusal)) = refused {
///     assert_eq!((refusal.code, refusal.retry), (202, false));
///     println!("{}", refusal.message);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} ({code}): {message}")]
pub struct Refusal {
    /// The stable number.
    pub code: u16,
    /// The stable name.
    pub name: String,
    /// What was wrong and what to do.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retry: bool,
}

/// What became of one attempt to reach a node.
///
/// ```
/// use weft::client::{Cause, Failure};
///
/// let failure = Failure {
///     endpoint: "tcp://10.0.0.1:7101".to_owned(),
///     cause: Cause::NobodyThere,
/// };
/// println!("{failure}");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The endpoint tried.
    pub endpoint: String,
    /// What happened.
    pub cause: Cause,
}

/// Why a node is not reached, or no longer.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use weft::client::{Cause, Client, ClientError, ConnectOptions};
/// use weft::types::Span;
///
/// let options = ConnectOptions {
///     timeout: Span::from_millis(300),
///     ..ConnectOptions::from("ipc:///no/such/folder/clients")
/// };
/// match Client::connect(options).await {
///     Err(ClientError::Unreachable { failures, .. }) => {
///         assert_eq!(failures[0].cause, Cause::NobodyThere);
///     }
///     other => panic!("{other:?}"),
/// }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Nothing listens at the endpoint.
    NobodyThere,
    /// The node does not let this client's key in.
    KeyRefused,
    /// The node is not of the fabric that `ConnectOptions` names.
    OtherFabric {
        /// Its fabric.
        found: String,
        /// The fabric that is meant.
        wanted: String,
    },
    /// The handshake failed.
    Handshake {
        /// What libzmq says.
        detail: String,
        /// Whether a server key was used.
        curve: bool,
    },
    /// The other side closed the connection before it said `welcome`.
    ClosedAtOnce {
        /// Whether a server key was used.
        curve: bool,
    },
    /// The connection stands or hangs, and no answer comes.
    Silent {
        /// Whether a server key was used.
        curve: bool,
    },
    /// An established connection closed.
    Closed,
    /// The node ended a subscription, in its own words.
    Ended(String),
    /// The node cannot have a publish stored, in its own words; another one may.
    CutOff(String),
    /// The node says no to any session.
    Refused(Refusal),
    /// The endpoint cannot be used at all.
    Unusable(String),
}

impl Cause {
    /// Whether trying again gives the same, until somebody changes the topology or the options.
    ///
    /// ```
    /// use weft::client::Cause;
    ///
    /// assert!(Cause::KeyRefused.is_final());
    /// assert!(!Cause::NobodyThere.is_final());
    /// ```
    pub fn is_final(&self) -> bool {
        match self {
            Self::KeyRefused | Self::OtherFabric { .. } => true,
            Self::Refused(refusal) => !refusal.retry,
            _ => false,
        }
    }
}

impl From<&Refuse> for Refusal {
    fn from(refuse: &Refuse) -> Self {
        Self {
            code: refuse.code,
            name: refuse.name.clone(),
            message: refuse.message.clone(),
            retry: refuse.retry,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.endpoint, self.cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NobodyThere => f.write_str("nothing listens there; is the node running?"),
            Self::KeyRefused => {
                f.write_str("the node's topology does not list this client's public key")
            }
            Self::OtherFabric { found, wanted } => {
                write!(f, "the node is of the fabric {found}, not of {wanted}")
            }
            Self::Handshake {
                detail,
                curve: true,
            } => write!(
                f,
                "the CURVE handshake failed ({detail}); is the server key this node's public key?"
            ),
            Self::Handshake {
                detail,
                curve: false,
            } => write!(
                f,
                "the handshake failed ({detail}); an endpoint that demands CURVE? then name the \
                 node's public key with --server-key and this client's key with --identity"
            ),
            Self::ClosedAtOnce { curve: true } => f.write_str(
                "the connection was closed during the CURVE handshake; is the server key this \
                 node's public key, and does the endpoint speak CURVE at all?",
            ),
            Self::ClosedAtOnce { curve: false } => f.write_str(
                "the connection was closed before a word was said; a node that hangs, or an \
                 endpoint that demands CURVE (then name the node's public key with --server-key \
                 and this client's key with --identity)",
            ),
            Self::Silent { curve: true } => f.write_str(
                "no answer to hello; a wrong server key, a host that drops packets, or no Weft \
                 client endpoint there (but a node's `peers` or `signals`, perhaps)",
            ),
            Self::Silent { curve: false } => f.write_str(
                "no answer to hello; an endpoint that demands CURVE (then name the node's public \
                 key with --server-key and this client's key with --identity), a node that hangs, \
                 a host that drops packets, or no Weft client endpoint there (but a node's `peers` \
                 or `signals`, perhaps)",
            ),
            Self::Closed => f.write_str("the connection closed"),
            Self::CutOff(reason) => write!(f, "it can store nothing for long: {reason}"),
            Self::Ended(reason) => f.write_str(reason),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Unusable(reason) => f.write_str(reason),
        }
    }
}

fn headline(within: &Span, failures: &[Failure]) -> String {
    match are_final(failures) {
        true => "no node takes this client".to_owned(),
        false => format!("no node answered within {within}"),
    }
}

fn are_final(failures: &[Failure]) -> bool {
    !failures.is_empty() && failures.iter().all(|failure| failure.cause.is_final())
}

/// A line for each cause, with the endpoints that it is told of.
fn list(failures: &[Failure]) -> String {
    let mut lines: Vec<(String, &Cause)> = Vec::new();
    for Failure { endpoint, cause } in failures {
        match lines.iter_mut().find(|(_, known)| *known == cause) {
            Some((endpoints, _)) => *endpoints += &format!(", {endpoint}"),
            None => lines.push((endpoint.clone(), cause)),
        }
    }
    let lines = lines.iter();
    lines
        .map(|(endpoints, cause)| format!("\n  {endpoints}: {cause}"))
        .collect()
}
