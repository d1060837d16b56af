//! Free ports of loopback, for commands that start nodes of their own.

use std::net::TcpListener;

use super::Failure;

/// Ports are taken from here on. Below the range of outgoing connections (from 32768 on Linux), so
/// that none of those takes the port of a node that is down.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// Ports that nobody listens on, three for each node.
pub(crate) fn free_ports(nodes: usize) -> Result<Vec<[u16; 3]>, Failure> {
    // Commands that run beside each other begin apart.
    let span = u32::from(PORTS.end - PORTS.start);
    let begin = std::process::id().wrapping_mul(977) % span;
    let mut free = (0..span).filter_map(|step| {
        let port = PORTS.start + u16::try_from((begin + step) % span).ok()?;
        TcpListener::bind(("127.0.0.1", port)).ok().map(|_| port)
    });
    let mut three = || Some([free.next()?, free.next()?, free.next()?]);
    let ports: Vec<[u16; 3]> = std::iter::from_fn(&mut three).take(nodes).collect();
    match ports.len() == nodes {
        true => Ok(ports),
        false => Err(Failure::user(
            format!("fewer than {} ports of loopback are free", 3 * nodes),
            format!(
                "stop what listens between {} and {}",
                PORTS.start, PORTS.end
            ),
        )),
    }
}
