//! Where a node may show itself to monitoring.

use super::{check, read, with};

#[test]
fn promise_6_http_beyond_loopback_is_asked_for_by_name() {
    let node = |lines: &str| with(7, &format!("signals = \"tcp://127.0.0.1:7103\"\n{lines}"));
    check(&node("http = \"http://127.0.0.1:7104\""), &[]);
    check(&node("http = \"http://[::1]:7104\""), &[]);
    for open in ["http://*:7104", "http://10.1.2.3:7104"] {
        let told = [(8, 'E', "to everybody at http://")];
        check(&node(&format!("http = \"{open}\"")), &told);
        check(&node(&format!("http = \"{open}\"\nhttp_open = true")), &[]);
        check(
            &node(&format!("http = \"{open}\"\nhttp_open = false")),
            &told,
        );
    }
    for (text, part) in [
        ("\"tcp://127.0.0.1:7104\"", "does not begin with http://"),
        ("\"http://localhost:7104\"", "not a name"),
        ("\"http://127.0.0.1\"", "no port"),
        ("7104", "`http` is a string"),
    ] {
        check(&node(&format!("http = {text}")), &[(8, 'E', part)]);
    }
    let taken = [(8, 'E', "it is `peers` of node b already")];
    check(&node("http = \"http://127.0.0.1:7202\""), &taken);
    let topology = read(&node("http = \"http://127.0.0.1:7104\"")).topology;
    let http = topology.expect("sound").nodes[0].http.expect("declared");
    assert_eq!(
        (http.to_string().as_str(), http.open),
        ("http://127.0.0.1:7104", false)
    );
}
