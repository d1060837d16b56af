//! The raw reference: libzmq with nothing above it, in as many processes as Weft takes. Frames are
//! numbered in their first eight bytes, so that they are accounted for like records.

use std::time::{Duration, Instant};

use zmq::{Context, DEALER, ROUTER, Socket};

use super::{LOOK_MS, Latency, Made, Order, Orders, Ready, Received, STALLED, Work, say};
use crate::cli::Failure;
use crate::cli::bench::account::Seen;
use crate::cli::bench::keys::{Door, admit};
use crate::wire::client::{Hello, Request};
use crate::wire::encode_request;

/// Sockets of one context: libzmq's own bound is 1,023.
const SOCKETS_PER_CONTEXT: usize = 1_000;

/// Clients that connect at the same time. What waits to be accepted has a bound, in libzmq 100 if
/// nothing else is said, and the system comes back to those beyond it after seconds only.
const AT_A_TIME: usize = 100;

/// Where ROUTERs listen.
const ANYWHERE: &str = "tcp://127.0.0.1:*";

fn failed(why: zmq::Error) -> Failure {
    Failure::internal(format!("libzmq: {why}"))
}

/// A socket that gives the caller a look at its orders now and then.
fn socket(context: &Context, kind: zmq::SocketType) -> zmq::Result<Socket> {
    let socket = context.socket(kind)?;
    socket.set_rcvtimeo(LOOK_MS as i32)?;
    Ok(socket)
}

fn listen(context: &Context, secret: Option<&str>) -> Result<(Socket, String), Failure> {
    let router = socket(context, ROUTER).map_err(failed)?;
    if let Some(secret) = secret {
        admit(&router, secret)?;
    }
    // Whoever cannot be reached is waited for, as a DEALER would.
    router.set_router_mandatory(true).map_err(failed)?;
    router.bind(ANYWHERE).map_err(failed)?;
    let endpoint = router.get_last_endpoint().map_err(failed)?;
    let endpoint = endpoint.map_err(|_| Failure::internal("libzmq's endpoint is no text"))?;
    Ok((router, endpoint))
}

/// The number in a frame.
fn number(frame: &[u8]) -> u64 {
    let bytes = frame.first_chunk::<8>();
    bytes.map_or(u64::MAX >> 1, |bytes| u64::from_be_bytes(*bytes))
}

pub(super) fn send(
    orders: &Orders,
    door: &Door,
    frame_bytes: usize,
    work: Work,
) -> Result<(), Failure> {
    let context = Context::new();
    let dealer = socket(&context, DEALER).map_err(failed)?;
    door.connect(&dealer)?;
    let mut frame = vec![0x5a; frame_bytes.max(8)];
    say(&Ready::default())?;
    orders.wait();
    let began = Instant::now();
    let mut count = 0_u64;
    while !work.is_over(count, began) {
        frame[..8].copy_from_slice(&count.to_be_bytes());
        dealer.send(&frame[..], 0).map_err(failed)?;
        count += 1;
    }
    say(&Made {
        count,
        frames: count,
        seconds: began.elapsed().as_secs_f64(),
        ..Made::default()
    })?;
    orders.wait();
    Ok(())
}

pub(super) fn forward(
    orders: &Orders,
    receivers: usize,
    secret: Option<&str>,
) -> Result<(), Failure> {
    let context = Context::new();
    let (router, endpoint) = listen(&context, secret)?;
    say(&Ready {
        endpoint: Some(endpoint),
    })?;
    let mut ids: Vec<Vec<u8>> = Vec::new();
    loop {
        let from = match router.recv_bytes(0) {
            Ok(from) => from,
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => match orders.now() {
                Some(Order::Stop) => return Ok(()),
                _ => continue,
            },
            Err(why) => return Err(failed(why)),
        };
        let frame = router.recv_msg(0).map_err(failed)?;
        // The first word of a receiver, answered once it can be sent to.
        if ids.len() < receivers {
            router.send(&from[..], zmq::SNDMORE).map_err(failed)?;
            router.send(frame, 0).map_err(failed)?;
            ids.push(from);
            continue;
        }
        let to = if receivers == 0 {
            &[from][..]
        } else {
            &ids[..]
        };
        if let [only] = to {
            router.send(&only[..], zmq::SNDMORE).map_err(failed)?;
            router.send(frame, 0).map_err(failed)?;
            continue;
        }
        for id in to {
            router.send(&id[..], zmq::SNDMORE).map_err(failed)?;
            router.send(&frame[..], 0).map_err(failed)?;
        }
    }
}

pub(super) fn receive(orders: &Orders, door: &Door, sockets: usize) -> Result<(), Failure> {
    let context = Context::new();
    let mut dealers = Vec::new();
    for _ in 0..sockets {
        let dealer = socket(&context, DEALER).map_err(failed)?;
        door.connect(&dealer)?;
        dealer.send(&b"receiver"[..], 0).map_err(failed)?;
        answer(&dealer)?;
        dealers.push(dealer);
    }
    say(&Ready::default())?;
    let mut seen = vec![Seen::default(); sockets];
    let (mut first, mut last) = (None, Instant::now());
    let (mut frames, mut until) = (0, u64::MAX);
    loop {
        let mut waiting: Vec<_> = dealers
            .iter()
            .map(|d| d.as_poll_item(zmq::POLLIN))
            .collect();
        // One socket waits by itself; of several, those that have something are asked.
        if sockets > 1 {
            zmq::poll(&mut waiting, LOOK_MS as i64).map_err(failed)?;
        }
        let mut heard = false;
        for ((dealer, item), seen) in dealers.iter().zip(&waiting).zip(&mut seen) {
            if sockets > 1 && !item.is_readable() {
                continue;
            }
            let flags = if sockets > 1 { zmq::DONTWAIT } else { 0 };
            while let Ok(frame) = dealer.recv_msg(flags) {
                first.get_or_insert_with(Instant::now);
                seen.take(number(&frame));
                frames += 1;
                heard = true;
            }
        }
        if heard {
            last = Instant::now();
            continue;
        }
        match orders.now() {
            Some(Order::Until(end)) => until = end,
            Some(Order::Stop) => return Ok(()),
            _ => {}
        }
        let done = seen.iter().all(|seen| seen.next >= until);
        if done || (until < u64::MAX && last.elapsed() > STALLED) {
            break;
        }
    }
    say(&Received {
        readers: seen,
        frames,
        seconds: first.map_or(0.0, |first| (last - first).as_secs_f64()),
    })?;
    orders.wait();
    Ok(())
}

/// Waits for one frame.
fn answer(dealer: &Socket) -> Result<(), Failure> {
    let deadline = Instant::now() + STALLED;
    loop {
        match dealer.recv_msg(0) {
            Ok(_) => return Ok(()),
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) if Instant::now() < deadline => {}
            Err(zmq::Error::EAGAIN) => {
                let seconds = STALLED.as_secs();
                let text = format!("a client had no answer within {seconds} s");
                return Err(Failure::internal(text));
            }
            Err(why) => return Err(failed(why)),
        }
    }
}

pub(super) fn ping(
    orders: &Orders,
    endpoint: &str,
    frame_bytes: usize,
    work: Work,
) -> Result<(), Failure> {
    let context = Context::new();
    let dealer = socket(&context, DEALER).map_err(failed)?;
    dealer.connect(endpoint).map_err(failed)?;
    let frame = vec![0x5a; frame_bytes];
    dealer.send(&frame[..], 0).map_err(failed)?;
    answer(&dealer)?;
    say(&Ready::default())?;
    orders.wait();
    let began = Instant::now();
    let mut took: Vec<Duration> = Vec::new();
    while !work.is_over(took.len() as u64, began) {
        let sent = Instant::now();
        dealer.send(&frame[..], 0).map_err(failed)?;
        answer(&dealer)?;
        took.push(sent.elapsed());
    }
    let count = took.len() as u64;
    say(&Made {
        count,
        confirmed: count,
        frames: count,
        seconds: began.elapsed().as_secs_f64(),
        latency: Latency::of(took),
        ..Made::default()
    })?;
    orders.wait();
    Ok(())
}

pub(super) fn hold(
    orders: &Orders,
    endpoint: &str,
    count: usize,
    hello: bool,
) -> Result<(), Failure> {
    let word = match hello {
        true => encode_request(&Request::Hello(Hello::default()), &[]),
        false => b"receiver"[..].into(),
    };
    let mut held = Vec::with_capacity(count);
    let mut context = Context::new();
    for number in 0..count {
        if number % SOCKETS_PER_CONTEXT == SOCKETS_PER_CONTEXT - 1 {
            context = Context::new();
        }
        let dealer = socket(&context, DEALER).map_err(failed)?;
        dealer.set_linger(0).map_err(failed)?;
        dealer.connect(endpoint).map_err(failed)?;
        dealer.send(&word[..], 0).map_err(failed)?;
        held.push(dealer);
        if held.len().is_multiple_of(AT_A_TIME) {
            for dealer in &held[held.len() - AT_A_TIME..] {
                answer(dealer)?;
            }
        }
    }
    for dealer in &held[count - count % AT_A_TIME..] {
        answer(dealer)?;
    }
    let mut answered = Made {
        count: held.len() as u64,
        ..Made::default()
    };
    say(&answered)?;
    while orders.wait() == Order::Tell {
        answered.count = 0;
        for dealer in &held {
            dealer.send(&word[..], 0).map_err(failed)?;
        }
        for dealer in &held {
            answer(dealer)?;
            answered.count += 1;
        }
        say(&answered)?;
    }
    Ok(())
}

/// Sends numbered frames to the first who asks, each filled by `fill`, which says how much it is;
/// none at all ends it.
pub(super) fn serve(
    orders: &Orders,
    frame_bytes: usize,
    mut fill: impl FnMut(&mut [u8]) -> std::io::Result<usize>,
) -> Result<(), Failure> {
    let context = Context::new();
    let (router, endpoint) = listen(&context, None)?;
    say(&Ready {
        endpoint: Some(endpoint),
    })?;
    let reader = loop {
        match router.recv_bytes(0) {
            Ok(reader) => break reader,
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => {}
            Err(why) => return Err(failed(why)),
        }
    };
    router.recv_msg(0).map_err(failed)?;
    router.send(&reader[..], zmq::SNDMORE).map_err(failed)?;
    router.send(&b"here"[..], 0).map_err(failed)?;
    orders.wait();
    let (began, mut count) = (Instant::now(), 0_u64);
    loop {
        let mut frame = vec![0; frame_bytes];
        let bytes = fill(&mut frame[8..]).map_err(Failure::internal)?;
        if bytes == 0 {
            break;
        }
        frame.truncate(8 + bytes);
        frame[..8].copy_from_slice(&count.to_be_bytes());
        router.send(&reader[..], zmq::SNDMORE).map_err(failed)?;
        router.send(frame, 0).map_err(failed)?;
        count += 1;
    }
    say(&Made {
        count,
        frames: count,
        seconds: began.elapsed().as_secs_f64(),
        ..Made::default()
    })?;
    orders.wait();
    Ok(())
}
