//! A TCP proxy whose links can be cut: what one node says to another over it stays on its way until
//! the link is healed, as on a network that loses everything for a while.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Bytes carried at a time.
const CHUNK: usize = 64 << 10;

/// One way from a node to an endpoint of another.
#[derive(Debug)]
pub(super) struct Link {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    cut: bool,
    /// Both ends of every connection, to reset them.
    streams: Vec<TcpStream>,
}

impl Link {
    /// Listens on a port of loopback and carries what comes to `target`. Threads end with the
    /// process.
    pub(super) fn open(target: u16) -> io::Result<(Arc<Self>, u16)> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let link = Arc::new(Self {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let own = Arc::clone(&link);
        thread::Builder::new()
            .name("link".to_owned())
            .spawn(move || own.accept(&listener, target))?;
        Ok((link, port))
    }

    /// From now on nothing arrives, either way, and nobody is told.
    pub(super) fn cut(&self) {
        self.lock().cut = true;
    }

    /// What was held arrives, or with `reset` its connections break and it never does.
    pub(super) fn heal(&self, reset: bool) {
        let mut state = self.lock();
        state.cut = false;
        if reset {
            for stream in state.streams.drain(..) {
                // It may be closed already.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        self.changed.notify_all();
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener, target: u16) {
        for near in listener.incoming().flatten() {
            // Nobody listens while the node is down: its peers see their connection close.
            let Ok(far) = TcpStream::connect(("127.0.0.1", target)) else {
                continue;
            };
            // A connection that cannot be carried is closed, and made anew by the node.
            let _ = self.carry(near, far);
        }
    }

    fn carry(self: &Arc<Self>, near: TcpStream, far: TcpStream) -> io::Result<()> {
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        {
            let mut state = self.lock();
            state.streams.retain(|stream| stream.peer_addr().is_ok());
            state.streams.push(near.try_clone()?);
            state.streams.push(far.try_clone()?);
        }
        let ways = [(near.try_clone()?, far.try_clone()?), (far, near)];
        for (from, to) in ways {
            let link = Arc::clone(self);
            thread::Builder::new()
                .name("link".to_owned())
                .spawn(move || link.pump(&from, &to))?;
        }
        Ok(())
    }

    fn pump(&self, mut from: &TcpStream, mut to: &TcpStream) {
        let mut chunk = vec![0; CHUNK];
        loop {
            let count = match from.read(&mut chunk) {
                Ok(count) if count > 0 => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                _ => break,
            };
            self.wait_until_whole();
            if to.write_all(&chunk[..count]).is_err() {
                break;
            }
        }
        // An end travels like data does: while the link is cut, nobody learns of it.
        self.wait_until_whole();
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    fn wait_until_whole(&self) {
        let state = self.changed.wait_while(self.lock(), |state| state.cut);
        drop(state.unwrap_or_else(PoisonError::into_inner));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn pair() -> (Arc<Link>, TcpStream, TcpStream) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let target = listener.local_addr().expect("an address").port();
        let (link, port) = Link::open(target).expect("a link");
        let near = TcpStream::connect(("127.0.0.1", port)).expect("accepted");
        let (far, _) = listener.accept().expect("carried");
        (link, near, far)
    }

    fn arrives(far: &mut TcpStream, wait: Duration) -> bool {
        far.set_read_timeout(Some(wait)).expect("a timeout");
        far.read_exact(&mut [0]).is_ok()
    }

    #[test]
    fn what_is_said_over_a_cut_link_arrives_once_it_is_healed() {
        let (link, mut near, mut far) = pair();
        near.write_all(b"1").expect("sent");
        assert!(arrives(&mut far, Duration::from_secs(20)));
        link.cut();
        near.write_all(b"2").expect("sent");
        assert!(!arrives(&mut far, Duration::from_millis(50)));
        link.heal(false);
        assert!(arrives(&mut far, Duration::from_secs(20)));
    }

    #[test]
    fn a_reset_link_loses_what_it_held() {
        let (link, mut near, mut far) = pair();
        near.write_all(b"1").expect("sent");
        assert!(arrives(&mut far, Duration::from_secs(20)));
        link.cut();
        near.write_all(b"2").expect("sent");
        link.heal(true);
        for end in [&mut near, &mut far] {
            end.set_read_timeout(Some(Duration::from_secs(20)))
                .expect("a timeout");
            let mut rest = Vec::new();
            // Closed or reset, whichever the system calls it; but over.
            if let Err(error) = end.read_to_end(&mut rest) {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
            }
            assert!(rest.is_empty(), "it never arrives");
        }
    }
}
