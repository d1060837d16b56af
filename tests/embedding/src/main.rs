//! A service that depends on Weft and repeats its patch: it gets the libzmq that has CURVE, runs a
//! node, and reaches it through no socket and through one with keys.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use weft::client::{Address, Client, ClientError, ConnectOptions, Item, Receipt, Start, Wanted};
use weft::topology::{PublicKey, SecretKey};
use weft::types::Span;
use weft::{Node, Record, Topology};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    assert_eq!(zmq::version(), (4, 3, 5));
    assert_eq!(zmq::has("curve"), Some(true));
    let folder = std::env::temp_dir().join(format!("weft-embedding-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let served = serve(&folder).await;
    fs::remove_dir_all(&folder)?;
    served?;
    println!("embedded: libzmq 4.3.5 with CURVE, a node, and clients with and without a socket");
    Ok(())
}

async fn serve(folder: &Path) -> Result<(), Box<dyn Error>> {
    let node_keys = keys()?;
    let client_keys = keys()?;
    let secret_file = folder.join("a.secret");
    let pair = format!(
        "public = \"{}\"\nsecret = \"{}\"\n",
        node_keys.public(),
        node_keys.secret_z85()
    );
    fs::write(&secret_file, pair)?;
    fs::set_permissions(&secret_file, fs::Permissions::from_mode(0o600))?;
    let endpoint = format!("tcp://127.0.0.1:{}", free_port()?);
    let topology: Topology = topology(folder, &endpoint, &node_keys, &client_keys)?.parse()?;

    let node = Node::start(topology, "a").await?;
    let inside = node.client().await?;
    let record = Record::new("orders.eu.new", "两件衬衫").with_key("customer-42");
    let stored = inside.publish(&record).await?;
    assert!(matches!(stored, Receipt::Stored { .. }), "{stored:?}");

    let key = PublicKey::parse(node_keys.public().as_str())?;
    let address = Address::curve(&endpoint, key);
    let stranger = ConnectOptions {
        timeout: Span::from_secs(1),
        ..ConnectOptions::new(vec![address.clone()])
    };
    match Client::connect(stranger).await {
        Err(ClientError::Unreachable { failures, .. }) => assert_eq!(failures.len(), 1),
        other => panic!("{other:?}"),
    }
    let outside = Client::connect(ConnectOptions {
        identity: Some(client_keys),
        ..ConnectOptions::new(vec![address])
    });
    let outside = outside.await?;
    let mut orders = outside
        .subscribe(Wanted::new("orders.#", Start::Start))
        .await?;
    match orders.next().await {
        Some(Ok(Item::Record(delivered))) => assert_eq!(delivered.record, record),
        other => panic!("{other:?}"),
    }
    inside.close().await;
    outside.close().await;
    node.stop().await;
    Ok(())
}

/// A port that is free now.
fn free_port() -> std::io::Result<u16> {
    let free = std::net::TcpListener::bind("127.0.0.1:0")?;
    Ok(free.local_addr()?.port())
}

fn keys() -> Result<SecretKey, Box<dyn Error>> {
    let pair = zmq::CurveKeyPair::new()?;
    let public = zmq::z85_encode(&pair.public_key)?;
    let secret = zmq::z85_encode(&pair.secret_key)?;
    Ok(SecretKey::new(&public, &secret)?)
}

fn topology(
    folder: &Path,
    endpoint: &str,
    node: &SecretKey,
    client: &SecretKey,
) -> Result<String, Box<dyn Error>> {
    let folder = folder.display();
    let port = endpoint.rsplit(':').next().ok_or("a port")?;
    let (node, client) = (node.public(), client.public());
    Ok(format!(
        r##"
        [fabric]
        name = "embedding"
        epoch = 1

        [[node]]
        name = "a"
        clients = "tcp://0.0.0.0:{port}"
        peers = "ipc://{folder}/peers"
        signals = "ipc://{folder}/signals"
        advertise = {{ clients = "{endpoint}" }}
        public_key = "{node}"
        secret_key_file = "{folder}/a.secret"
        data = "{folder}/data"

        [[client]]
        name = "billing"
        public_key = "{client}"

        [channel.orders]
        kind = "stream"
        subjects = ["orders.#"]
        partitions = 4
        replicas = 1
        confirm = "quorum"
        "##
    ))
}
