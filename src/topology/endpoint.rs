//! Addresses as a topology writes them, and what can be said of them without a socket.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::fmt;
use std::path::Path;

/// Bytes of a path that fit a Unix socket address on Linux, its closing zero not counted.
const IPC_BYTES_MAX: usize = 107;

/// A parsed ZeroMQ address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Tcp {
        host: Host,
        port: u16,
    },
    /// The path is absolute, or abstract and starts with `@`.
    Ipc {
        path: String,
    },
}

/// The host part of a tcp address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Host {
    /// Every address of the machine.
    Any,
    Ip(IpAddr),
    Name(String),
}

/// Why a text is no address: what is wrong with it, and what to write.
pub(super) type AddressError = (String, &'static str);

impl Address {
    /// Reads `tcp://HOST:PORT` or `ipc://PATH`; a relative path starts at `folder`.
    pub(super) fn parse(text: &str, folder: &Path) -> Result<Self, AddressError> {
        let shape = "write `tcp://ADDRESS:PORT` or `ipc://PATH`";
        match text.split_once("://") {
            Some(("tcp", rest)) => Self::parse_tcp(rest),
            Some(("ipc", rest)) => Self::parse_ipc(rest, folder),
            Some((scheme, _)) => {
                let scheme: String = scheme.chars().take(20).collect();
                Err((
                    format!("nodes do not speak {scheme:?}, only tcp and ipc"),
                    shape,
                ))
            }
            None => Err(("it has no transport".to_owned(), shape)),
        }
    }

    fn parse_tcp(rest: &str) -> Result<Self, AddressError> {
        let shape = "write `tcp://ADDRESS:PORT`, as in tcp://127.0.0.1:7101";
        let Some((host, port)) = rest.rsplit_once(':') else {
            return Err(("it has no port".to_owned(), shape));
        };
        let port = match port.parse::<u16>() {
            Ok(port) if port > 0 && port.to_string().len() == rest.len() - host.len() - 1 => port,
            _ => {
                let why = "its port is no number from 1 to 65535, so others could not know it";
                return Err((why.to_owned(), shape));
            }
        };
        let bracketed = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let host = if host == "*" {
            Host::Any
        } else if let Some(inner) = bracketed {
            match inner.parse::<Ipv6Addr>() {
                Ok(ip) => Host::Ip(IpAddr::V6(ip)),
                Err(_) => return Err(("it holds no IPv6 address".to_owned(), shape)),
            }
        } else if let Ok(ip) = host.parse::<Ipv4Addr>() {
            Host::Ip(IpAddr::V4(ip))
        } else if is_host_name(host) {
            Host::Name(host.to_owned())
        } else if host.parse::<Ipv6Addr>().is_ok() {
            let remedy = "write the IPv6 address in brackets, as in tcp://[::1]:7101";
            return Err(("an IPv6 address stands in brackets".to_owned(), remedy));
        } else {
            return Err((
                "its host is neither an address nor a name".to_owned(),
                shape,
            ));
        };
        let host = match host {
            Host::Ip(ip) if ip.is_unspecified() => Host::Any,
            host => host,
        };
        Ok(Self::Tcp { host, port })
    }

    fn parse_ipc(path: &str, folder: &Path) -> Result<Self, AddressError> {
        if path.is_empty() || path == "@" || path == "*" {
            return Err(("it names no path".to_owned(), "write `ipc://PATH`"));
        }
        if path.chars().any(char::is_control) {
            return Err((
                "its path holds a control character".to_owned(),
                "write `ipc://PATH`",
            ));
        }
        let path = if path.starts_with('@') {
            path.to_owned()
        } else {
            folder.join(path).display().to_string()
        };
        if path.len() > IPC_BYTES_MAX {
            return Err((
                format!(
                    "its path has {} bytes, of which a socket address holds {IPC_BYTES_MAX}",
                    path.len()
                ),
                "use a shorter path, as in ipc:///run/weft/a.clients",
            ));
        }
        Ok(Self::Ipc { path })
    }

    /// Whether only this machine reaches it.
    pub(super) fn is_local(&self) -> bool {
        match self {
            Self::Ipc { .. } => true,
            Self::Tcp {
                host: Host::Ip(ip), ..
            } => ip.is_loopback(),
            Self::Tcp {
                host: Host::Name(name),
                ..
            } => name == "localhost",
            Self::Tcp {
                host: Host::Any, ..
            } => false,
        }
    }

    /// Whether it stands for every address of its machine.
    pub(super) fn is_wildcard(&self) -> bool {
        matches!(
            self,
            Self::Tcp {
                host: Host::Any,
                ..
            }
        )
    }

    /// The tcp address to bind, unless it is a name.
    pub(super) fn as_socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp {
                host: Host::Ip(ip),
                port,
            } => Some(SocketAddr::new(*ip, *port)),
            Self::Tcp {
                host: Host::Any,
                port,
            } => Some(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), *port)),
            Self::Tcp { .. } | Self::Ipc { .. } => None,
        }
    }

    /// The address of a socket.
    pub(super) fn of(socket: SocketAddr) -> Self {
        let host = match socket.ip() {
            ip if ip.is_unspecified() => Host::Any,
            ip => Host::Ip(ip),
        };
        let port = socket.port();
        Self::Tcp { host, port }
    }

    /// Whether one machine cannot bind both.
    pub(super) fn collides(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Ipc { path: ours }, Self::Ipc { path: theirs }) => ours == theirs,
            (
                Self::Tcp {
                    host: ours,
                    port: our_port,
                },
                Self::Tcp {
                    host: theirs,
                    port: their_port,
                },
            ) => {
                our_port == their_port
                    && (ours == theirs || *ours == Host::Any || *theirs == Host::Any)
            }
            _ => false,
        }
    }
}

/// As libzmq wants it.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipc { path } => write!(f, "ipc://{path}"),
            Self::Tcp {
                host: Host::Any,
                port,
            } => write!(f, "tcp://*:{port}"),
            Self::Tcp {
                host: Host::Ip(IpAddr::V6(ip)),
                port,
            } => write!(f, "tcp://[{ip}]:{port}"),
            Self::Tcp {
                host: Host::Ip(ip),
                port,
            } => write!(f, "tcp://{ip}:{port}"),
            Self::Tcp {
                host: Host::Name(name),
                port,
            } => write!(f, "tcp://{name}:{port}"),
        }
    }
}

fn is_host_name(text: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty()
            && word.len() <= 63
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
    };
    // All digits and dots would be a mistyped address, not a name.
    text.len() <= 253
        && text.split('.').all(word)
        && text
            .split('.')
            .next_back()
            .is_some_and(|last| last.parse::<u32>().is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Address, AddressError> {
        Address::parse(text, Path::new("/etc/weft"))
    }

    #[test]
    fn addresses_are_read_as_libzmq_wants_them() {
        for (text, expected, local) in [
            ("tcp://127.0.0.1:7101", "tcp://127.0.0.1:7101", true),
            ("tcp://127.3.2.1:7101", "tcp://127.3.2.1:7101", true),
            ("tcp://[::1]:7101", "tcp://[::1]:7101", true),
            ("tcp://*:7101", "tcp://*:7101", false),
            ("tcp://0.0.0.0:7101", "tcp://*:7101", false),
            ("tcp://[::]:7101", "tcp://*:7101", false),
            ("tcp://10.1.2.3:65535", "tcp://10.1.2.3:65535", false),
            ("tcp://alpha.example:1", "tcp://alpha.example:1", false),
            ("ipc://run/a", "ipc:///etc/weft/run/a", true),
            ("ipc:///run/a", "ipc:///run/a", true),
            ("ipc://@a", "ipc://@a", true),
        ] {
            let address = parse(text).expect(text);
            assert_eq!(address.to_string(), expected, "{text}");
            assert_eq!(address.is_local(), local, "{text}");
        }
    }

    #[test]
    fn a_bad_address_is_told_why() {
        for (text, expected) in [
            ("7101", "no transport"),
            ("http://a:1", "do not speak \"http\""),
            ("tcp://127.0.0.1", "no port"),
            ("tcp://127.0.0.1:0", "no number from 1 to 65535"),
            ("tcp://127.0.0.1:+80", "no number from 1 to 65535"),
            ("tcp://127.0.0.1:99999", "no number from 1 to 65535"),
            ("tcp://127.0.0.256:80", "neither an address nor a name"),
            ("tcp://::1:80", "in brackets"),
            ("tcp://[::x]:80", "no IPv6 address"),
            ("tcp://a b:80", "neither an address nor a name"),
            ("tcp://:80", "neither an address nor a name"),
            ("ipc://", "no path"),
            ("ipc://\u{0}", "control character"),
        ] {
            let (why, _) = parse(text).expect_err(text);
            assert!(why.contains(expected), "{text}: {why}");
        }
        let (why, _) = parse(&format!("ipc:///{}", "a".repeat(200))).expect_err("long");
        assert!(why.contains("201 bytes"), "{why}");
    }

    #[test]
    fn one_machine_binds_an_address_once() {
        for (a, b, expected) in [
            ("tcp://127.0.0.1:1", "tcp://127.0.0.1:1", true),
            ("tcp://127.0.0.1:1", "tcp://127.0.0.1:2", false),
            ("tcp://127.0.0.1:1", "tcp://127.0.0.2:1", false),
            ("tcp://*:1", "tcp://127.0.0.1:1", true),
            ("tcp://10.0.0.1:1", "tcp://0.0.0.0:1", true),
            ("ipc://a", "ipc:///etc/weft/a", true),
            ("ipc://a", "ipc://b", false),
            ("ipc://a", "tcp://127.0.0.1:1", false),
        ] {
            let (a, b) = (parse(a).expect(a), parse(b).expect(b));
            assert_eq!(a.collides(&b), expected, "{a} and {b}");
            assert_eq!(b.collides(&a), expected, "{b} and {a}");
        }
    }
}
