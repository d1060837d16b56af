//! The `weft` command.
fn main() {
    println!("{:?} {:?}", zmq::version(), zmq::has("curve"));
}
