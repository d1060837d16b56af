//! The face of `zeromq-src` 0.2 that `zmq-sys` 0.12 expects, in front of `zeromq-src` 0.3.
//!
//! `zmq-sys` always builds the bundled libzmq without libsodium, so without CURVE. This crate
//! ignores that choice: it builds libzmq 4.3.5 against the libsodium of `libsodium-sys-stable`.

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
        let sodium = upstream::LibLocation::new(env!("DEP_SODIUM_LIB"), env!("DEP_SODIUM_INCLUDE"));
        upstream::Build::new().with_libsodium(Some(sodium)).build();
    }
}
