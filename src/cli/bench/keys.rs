//! The keys of a bench under CURVE: one pair for whoever is connected to, one for whoever connects.
//! They are made for one run and worth nothing after it.

use serde::{Deserialize, Serialize};

use crate::cli::Failure;
use crate::cli::keys::generate;
use crate::client::{Address, ConnectOptions};
use crate::topology::{PublicKey, SecretKey};

/// Both pairs.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) server: SecretKey,
    pub(super) client: SecretKey,
}

/// Where a part connects, and with what keys.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Door {
    pub(super) endpoint: String,
    /// The server's public key, and the text of a file with the part's own, under CURVE.
    keys: Option<(String, String)>,
}

impl Keys {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Self {
            server: generate()?,
            client: generate()?,
        })
    }
}

impl Door {
    pub(super) fn new(endpoint: String, keys: Option<&Keys>) -> Self {
        let texts = |keys: &Keys| (keys.server.public().to_string(), keys.client.to_text());
        Self {
            endpoint,
            keys: keys.map(texts),
        }
    }

    /// As the client takes it.
    pub(super) fn options(&self) -> Result<ConnectOptions, Failure> {
        Ok(match self.keys()? {
            None => ConnectOptions::from(self.endpoint.as_str()),
            Some((server, own)) => ConnectOptions {
                identity: Some(own),
                ..ConnectOptions::new(vec![Address::curve(self.endpoint.as_str(), server)])
            },
        })
    }

    /// Connects a socket of the raw reference.
    pub(super) fn connect(&self, socket: &zmq::Socket) -> Result<(), Failure> {
        if let Some((server, own)) = self.keys()? {
            let set = || -> zmq::Result<()> {
                socket.set_curve_serverkey(&decode(server.as_str())?)?;
                socket.set_curve_publickey(&decode(own.public().as_str())?)?;
                socket.set_curve_secretkey(&decode(own.secret_z85())?)
            };
            set().map_err(Failure::internal)?;
        }
        socket.connect(&self.endpoint).map_err(Failure::internal)
    }

    fn keys(&self) -> Result<Option<(PublicKey, SecretKey)>, Failure> {
        let Some((server, own)) = &self.keys else {
            return Ok(None);
        };
        let server = PublicKey::parse(server).map_err(Failure::internal)?;
        let own = SecretKey::parse(own).map_err(Failure::internal)?;
        Ok(Some((server, own)))
    }
}

/// Makes a socket of the raw reference one that is connected to with the server's key.
pub(super) fn admit(socket: &zmq::Socket, secret: &str) -> Result<(), Failure> {
    let set = || -> zmq::Result<()> {
        socket.set_curve_server(true)?;
        socket.set_curve_secretkey(&decode(secret)?)
    };
    set().map_err(Failure::internal)
}

fn decode(key: &str) -> zmq::Result<Vec<u8>> {
    zmq::z85_decode(key).map_err(|_| zmq::Error::EINVAL)
}
