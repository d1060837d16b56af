//! The protocol against its specification: golden bytes, round trips, and bytes nobody meant well.

use weft::wire::client::{From, Request, Subscribe};
use weft::wire::{decode_request, encode_request};

#[test]
fn a_subscribe_reads_as_it_was_written() {
    let header = Request::Subscribe(Subscribe {
        id: 1,
        pattern: "orders.#".into(),
        from: Some(From::Start),
        ..Default::default()
    });
    let frame = encode_request(&header, b"");
    assert_eq!(decode_request(&frame).expect("decodes").header, header);
}
