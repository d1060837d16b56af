//! A service that depends on Weft and repeats its patch: it gets the libzmq that has CURVE, and the
//! library works there.

use weft::client::{Address, Client, ClientError, ConnectOptions};
use weft::types::Span;

fn main() {
    assert_eq!(zmq::version(), (4, 3, 5));
    assert_eq!(zmq::has("curve"), Some(true));
    // Nobody listens at port 1: the client says so.
    let mut options = ConnectOptions::new(vec![Address::open("tcp://127.0.0.1:1")]);
    options.timeout = Span::from_secs(1);
    match Client::connect(options) {
        Err(ClientError::Unreachable { failures, .. }) => assert_eq!(failures.len(), 1),
        other => panic!("{other:?}"),
    }
    println!("embedded: libzmq 4.3.5 with CURVE");
}
