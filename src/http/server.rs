//! The thread that answers http requests: few connections at a time, one request each, and each
//! for a short time only.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, oneshot};

use super::{Board, metrics};
use crate::node::NodeView;
use crate::types::Span;
use crate::types::limits::{HTTP_CONNECTIONS_MAX, HTTP_HEADER_MAX, HTTP_STALE, HTTP_TIMEOUT};

/// After a failure to accept a connection: descriptors may be short for a while.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The running server. To drop it ends every connection and waits for the thread.
#[derive(Debug)]
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What `/health` answers.
#[derive(Debug, Serialize)]
struct Health<'a> {
    healthy: bool,
    /// Empty until the node has said who it is.
    node: &'a str,
    fabric: &'a str,
    /// Each a sentence.
    problems: Vec<String>,
}

/// Binds the address; nobody is served before [`Server::start`].
///
/// # Errors
/// What the system says.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

impl Server {
    /// Serves what is written on the board.
    ///
    /// # Errors
    /// If the system gives no thread, or nothing to wait for sockets with.
    pub fn start(listener: TcpListener, board: Board) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let body = move || {
            runtime.block_on(async {
                tokio::spawn(accept(listener, board));
                // To drop the sender means to stop, too.
                let _ = stopped.await;
            });
        };
        let thread = thread::Builder::new()
            .name("weft-http".to_owned())
            .spawn(body)?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic has ended the process already.
            let _ = thread.join();
        }
    }
}

async fn accept(listener: TcpListener, board: Board) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(why) => return tracing::error!("http is not served: {why}"),
    };
    let seats = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    loop {
        // Who finds no seat waits in the system's queue; each is free again soon.
        let Ok(seat) = Arc::clone(&seats).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let board = board.clone();
                tokio::spawn(async move {
                    // Who is too slow is cut off, and told nothing.
                    let _ =
                        tokio::time::timeout(duration(HTTP_TIMEOUT), answer(stream, board)).await;
                    drop(seat);
                });
            }
            Err(why) => {
                tracing::warn!("an http connection was not accepted: {why}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Takes one request. What is malformed is answered by the library, or not at all.
async fn answer(stream: TcpStream, board: Board) {
    let service = service_fn(|request: Request<Incoming>| {
        let answer = respond(request.method(), request.uri().path(), &board);
        async { Ok::<_, Infallible>(answer) }
    });
    // An error here is the client's: it left, or spoke no http.
    let _ = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HTTP_HEADER_MAX)
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn respond(method: &Method, path: &str, board: &Board) -> Response<Full<Bytes>> {
    if !matches!(path, "/metrics" | "/health") {
        let text = "there is /metrics for Prometheus, and /health\n".to_owned();
        return plain(StatusCode::NOT_FOUND, text);
    }
    if method != Method::GET && method != Method::HEAD {
        let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned());
        let allowed = hyper::header::HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        return refused;
    }
    let written = board.read();
    let silent = match &written {
        None => Some("the node has not begun".to_owned()),
        Some((when, _)) if when.elapsed() > duration(HTTP_STALE) => {
            let seconds = when.elapsed().as_secs();
            Some(format!(
                "the node has said nothing for {seconds} s: it hangs"
            ))
        }
        Some(_) => None,
    };
    match (path, written.map(|(_, view)| view), silent) {
        ("/metrics", Some(view), None) => {
            let text = metrics::render(&view);
            with_type(StatusCode::OK, "text/plain; version=0.0.4", text)
        }
        ("/metrics", _, silent) => {
            let why = silent.unwrap_or_default();
            plain(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
        }
        (_, view, silent) => health(view.as_deref(), silent),
    }
}

fn health(view: Option<&NodeView>, silent: Option<String>) -> Response<Full<Bytes>> {
    let mut problems: Vec<String> = silent.into_iter().collect();
    if let Some(view) = view {
        problems.extend(view.problems.iter().cloned());
        if view.stopping {
            problems.push("the node is about to stop".to_owned());
        }
    }
    let health = Health {
        healthy: problems.is_empty(),
        node: view.map_or("", |view| &view.node),
        fabric: view.map_or("", |view| &view.fabric),
        problems,
    };
    let status = match health.healthy {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    // A struct of strings always encodes.
    let text = serde_json::to_string(&health).expect("health always encodes");
    with_type(status, "application/json", text + "\n")
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    with_type(status, "text/plain", text)
}

fn with_type(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let value = hyper::header::HeaderValue::from_static;
    headers.insert(CONTENT_TYPE, value(kind));
    headers.insert(CACHE_CONTROL, value("no-store"));
    response
}

fn duration(span: Span) -> Duration {
    Duration::from_nanos(span.0)
}
