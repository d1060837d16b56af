//! The face of `zeromq-src` 0.2 that `zmq-sys` 0.12 expects, in front of `zeromq-src` 0.3.
//!
//! `zmq-sys` always builds the bundled libzmq without libsodium, so without CURVE. This crate
//! ignores that choice: it builds libzmq 4.3.5 against the libsodium of `libsodium-sys-stable`, and
//! tells it what Linux has.

use std::env;

/// What libzmq's own build finds on Linux and `zeromq-src` does not look for. Without it libzmq
/// times its heartbeats and reconnects by the wall clock, so that they stand still when that is set
/// back; wakes its threads over a pair of sockets; hands descriptors down to child processes; and
/// leaves its threads without a name.
const LINUX_HAS: [&str; 8] = [
    "HAVE_CLOCK_GETTIME",
    "ZMQ_HAVE_EVENTFD",
    "ZMQ_HAVE_EVENTFD_CLOEXEC",
    "ZMQ_IOTHREAD_POLLER_USE_EPOLL_CLOEXEC",
    "ZMQ_HAVE_SOCK_CLOEXEC",
    "ZMQ_HAVE_O_CLOEXEC",
    "HAVE_ACCEPT4",
    "ZMQ_HAVE_PTHREAD_SETNAME_2",
];

/// Builds libzmq, as `zmq-sys` asks for it.
#[derive(Debug, Clone, Default)]
pub struct Build;

/// What `zmq-sys` may name as the place of libsodium; it names none.
#[derive(Debug, Clone)]
pub enum LibLocation {}

impl Build {
    /// A build with the settings of this crate.
    pub fn new() -> Self {
        Self
    }

    /// Accepts what `zmq-sys` says about libsodium (nothing), and keeps CURVE on.
    pub fn with_libsodium(&mut self, _location: Option<LibLocation>) -> &mut Self {
        self
    }

    /// Compiles libzmq 4.3.5 with CURVE and tells Cargo to link it and libsodium.
    pub fn build(&mut self) {
        if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
            define(&LINUX_HAS);
        }
        let sodium = upstream::LibLocation::new(env!("DEP_SODIUM_LIB"), env!("DEP_SODIUM_INCLUDE"));
        upstream::Build::new().with_libsodium(Some(sodium)).build();
    }
}

/// Hands definitions to the C++ compiler. The crate `cc` adds what stands in `CXXFLAGS` to the more
/// particular variables, so those of whoever builds stay as they are.
fn define(names: &[&str]) {
    let wished = env::var("CXXFLAGS").unwrap_or_default();
    let defined: Vec<String> = names.iter().map(|name| format!("-D{name}=1")).collect();
    // A build script has one thread, so nobody reads the environment meanwhile.
    env::set_var("CXXFLAGS", format!("{wished} {}", defined.join(" ")));
}
