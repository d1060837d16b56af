//! What each mistake in a topology file is answered with, and on which line.

use std::path::Path;

use super::*;

#[test]
fn the_quickstart_has_no_problem() {
    let text = include_str!("../../topology/quickstart.toml");
    let parsed = parse(text, Path::new("/etc/weft/quickstart.toml"));
    assert_eq!(parsed.problems, []);
    let topology = parsed.topology.expect("a topology");
    assert_eq!(topology.placement().len(), 5);
}
