//! What the client commands share: a connection, a log for people, an ear for Ctrl-C.

use std::future::poll_fn;
use std::io::{self, IsTerminal};
use std::task::Poll;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::Failure;
use super::options::{Resolved, Server, Target};
use super::wait::wait;
use crate::client::{Address, Cause, Client, ClientError, ConnectOptions, Refusal};
use crate::types::Span;
use crate::wire::Code;

/// How long a command looks for a node that answers, if nobody says for how long.
pub(crate) const CONNECT_WITHIN: Span = Span::from_secs(10);

/// Connects to the first node of the target that answers. What becomes of the connection later is
/// told on stderr.
pub(crate) fn connect(target: &Target, within: Span) -> Result<Client, Failure> {
    log_to_stderr();
    let resolved = target.resolve()?;
    let servers = resolved.servers.iter();
    let options = ConnectOptions {
        identity: resolved.identity.clone(),
        fabric: resolved.meant.as_ref().map(|meant| meant.fabric.clone()),
        name: format!("weft {}", env!("CARGO_PKG_VERSION")),
        // As the topology orders them, so that a person knows which node answers.
        spread: false,
        timeout: within,
        ..ConnectOptions::new(servers.map(address).collect())
    };
    wait(Client::connect(options)).map_err(|error| match remedy_of_connecting(&error, &resolved) {
        Some(help) => Failure::user(error, help),
        None => unreachable(error),
    })
}

/// What a person can do about nodes that do not take this client.
fn remedy_of_connecting(error: &ClientError, resolved: &Resolved) -> Option<String> {
    let ClientError::Unreachable { failures, .. } = error else {
        return None;
    };
    let told = |wanted: fn(&Cause) -> bool| failures.iter().any(|failure| wanted(&failure.cause));
    if told(|cause| matches!(cause, Cause::OtherFabric { .. })) {
        let help = "name the topology file of the fabric that runs there with --topology, or leave \
                    it out; WEFT_TOPOLOGY counts as if it were named";
        return Some(help.to_owned());
    }
    let own = resolved.identity.as_ref()?.public();
    if !told(|cause| matches!(cause, Cause::KeyRefused)) {
        return None;
    }
    let meant = resolved.meant.as_ref();
    Some(
        match meant.and_then(|meant| meant.node_of_identity.as_ref()) {
            Some(node) => format!(
                "--identity is the key of node {node}, not of a client; make one with \
             `weft keys new --for client NAME`"
            ),
            None => format!(
                "let a [[client]] of the topology that the nodes run have this public_key: {own}"
            ),
        },
    )
}

/// Connects to exactly this node, or says soon why not.
pub(crate) fn connect_to(server: &Server, resolved: &Resolved) -> Result<Client, ClientError> {
    wait(Client::connect(ConnectOptions {
        identity: resolved.identity.clone(),
        fabric: resolved.meant.as_ref().map(|meant| meant.fabric.clone()),
        follow: false,
        timeout: Span::from_millis(2_500),
        name: format!("weft {}", env!("CARGO_PKG_VERSION")),
        ..ConnectOptions::new(vec![address(server)])
    }))
}

/// Sends the log to stderr: warnings, or what `WEFT_LOG` asks for.
pub(crate) fn log_to_stderr() {
    let filter = EnvFilter::try_from_env("WEFT_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let color = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // Set already: then it goes to stderr already.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        // It would be told to the stderr that just failed, and that panics.
        .log_internal_errors(false)
        .with_ansi(color)
        .with_target(false)
        .without_time()
        .try_init();
}

/// Runs `action` on a thread of its own when the process is interrupted or asked to end.
pub(crate) fn on_interrupt(action: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::internal(format!("cannot wait for signals: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let (mut interrupt, mut terminate) = {
        let _guard = runtime.enter();
        let interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        (interrupt, signal(SignalKind::terminate()).map_err(failed)?)
    };
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            runtime.block_on(poll_fn(|context| {
                let interrupted = interrupt.poll_recv(context);
                match interrupted.is_ready() || terminate.poll_recv(context).is_ready() {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                }
            }));
            action();
        })
        .map_err(failed)?;
    Ok(())
}

/// What a person can do about a refusal.
pub(crate) fn remedy(refusal: &Refusal) -> &'static str {
    match Code::from_number(refusal.code) {
        Some(Code::NoChannelForSubject | Code::NoChannel) => {
            "use a subject of a declared channel, or declare one in the topology; `weft plan` \
             shows \
             what is declared"
        }
        Some(Code::TooLarge) => "send less, or raise `max_record` of the channel in the topology",
        Some(Code::ConfirmNotOffered) => "signals are not stored: use --confirm none",
        Some(Code::BadPosition) => {
            "--from start and --from end always fit; an offset is of one partition: name that with \
             --channel and --partition, or write a record's id as in --from orders/2/17"
        }
        Some(Code::NoLeader | Code::NoQuorum | Code::OutcomeUnknown) => {
            "a majority of the partition's replicas must run; `weft status` shows who is missing"
        }
        Some(Code::DiskFull) => "free space on the disk of the partition's leader",
        Some(Code::NoPartition) => {
            "name a partition that is there, or leave --partition out; `weft plan` shows all"
        }
        Some(Code::BadCursor) => {
            "a cursor is of streams: name one with --channel NAME, or a pattern that selects \
             nothing else"
        }
        Some(Code::NotGranted) => "let the topology grant it, or use another --identity",
        _ if refusal.retry => "try again later; `weft status` shows what is wrong",
        _ => "mend what the message names and try again",
    }
}

/// A failure of the client as the command's own.
pub(crate) fn failure(error: ClientError) -> Failure {
    match &error {
        ClientError::Refused(refusal) => Failure::user(refusal, remedy(refusal)),
        ClientError::Unreachable { .. } => unreachable(error),
        ClientError::NoAnswer(_) | ClientError::Unanswered => {
            Failure::user(&error, "`weft status` shows what is wrong")
        }
        ClientError::CursorLost(_) => Failure::user(
            &error,
            "one reader holds a cursor at a time; `weft cursor list` shows where each stands",
        ),
        _ => Failure::internal(error),
    }
}

fn unreachable(error: ClientError) -> Failure {
    Failure::user(
        error,
        "start the fabric with `weft up`, or name another one with --topology or --connect",
    )
}

fn address(server: &Server) -> Address {
    match &server.key {
        Some(key) => Address::curve(&server.endpoint, key.clone()),
        None => Address::open(&server.endpoint),
    }
}
