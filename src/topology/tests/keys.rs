//! Keys: who is asked for them, and who has them in vain.

use super::{KEY, OTHER_KEY, check, with};

#[test]
fn keys_that_nobody_is_asked_for_are_warned_of() {
    let keys = format!("name = \"a\"\npublic_key = \"{KEY}\"\nsecret_key_file = \"a.secret\"");
    let one = "node a has keys, and tcp://127.0.0.1:7101, tcp://127.0.0.1:7102, \
               tcp://127.0.0.1:7103 are open";
    check(&with(4, &keys), &[(7, 'W', one)]);
    // However many nodes have keys in vain, it is said once.
    let other = keys.replace("\"a", "\"b").replace(KEY, OTHER_KEY);
    let both = with(4, &keys).replace("name = \"b\"", &other);
    check(
        &both,
        &[(
            7,
            'W',
            "node a and 1 more have keys, and tcp://127.0.0.1:7101",
        )],
    );
    check(&both, &[(7, 'W', "tcp://127.0.0.1:7203 are open")]);
}

#[test]
fn a_node_declared_twice_connects_to_itself_nowhere() {
    let wild = with(12, "signals = \"tcp://*:7203\"").replace("\"b\"", "\"a\"");
    check(
        &wild,
        &[
            (9, 'E', "node a is declared twice"),
            (12, 'E', "does not say where that is"),
            (12, 'E', "node a binds tcp://*:7203 without `public_key`"),
            (
                13,
                'E',
                "node c connects to `signals` of node a without `public_key`",
            ),
        ],
    );
}

/// Who is let in is told beside other mistakes, unless a client is declared, however badly.
#[test]
fn nobody_is_let_in_is_told_beside_other_mistakes() {
    let open = with(5, "clients = \"tcp://10.0.0.1:7101\"");
    let keys = (
        5,
        'E',
        "node a binds tcp://10.0.0.1:7101 without `public_key`",
    );
    check(
        &open,
        &[keys, (5, 'W', "nobody is let in at tcp://10.0.0.1:7101")],
    );
    let client = (24, 'E', "[[client]] has no `public_key`");
    check(
        &format!("{open}\n[[client]]\nname = \"x\"\n"),
        &[keys, client],
    );
}
