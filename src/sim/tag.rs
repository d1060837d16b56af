//! How the workload's records name themselves, so that an oracle that meets one anywhere knows what
//! it is and what it must look like.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::dice::Dice;
use crate::types::Record;

/// The number of a publish, in the order they began.
pub(super) type PublishNo = usize;

/// Bodies that a careless codec would trip over.
const FILLERS: [&str; 8] = [
    "",
    "订单已确认，请尽快发货",
    "🚀🌊🧵 three emoji and a flag 🇨🇳",
    "plain words, nothing else",
    "你好，世界 — mixed 文字 and naïve café",
    "{\"json\": [1, 2, 3], \"键\": \"值\"}",
    "line\nbreaks\tand \u{0} a zero",
    "👨‍👩‍👧‍👦 joined by zero width",
];

/// A body that names its record: the kind of workload, the publish, the position in it; then
/// something for the codec to chew on.
pub(super) fn body(kind: char, publish: PublishNo, position: usize, dice: &mut Dice) -> Bytes {
    let mut bytes = format!("{kind}{publish}.{position} ").into_bytes();
    bytes.extend_from_slice(dice.pick(&FILLERS).as_bytes());
    if dice.chance(100) {
        let count = dice.below(1_500);
        bytes.extend(dice.bytes(count));
    }
    bytes.into()
}

/// The publish and the position that a body names.
pub(super) fn parse(kind: char, body: &[u8]) -> Option<(PublishNo, usize)> {
    let end = body.iter().position(|byte| *byte == b' ')?;
    let text = std::str::from_utf8(&body[..end]).ok()?;
    let (publish, position) = text.strip_prefix(kind)?.split_once('.')?;
    Some((publish.parse().ok()?, position.parse().ok()?))
}

/// Headers for some of the records.
pub(super) fn headers(dice: &mut Dice) -> BTreeMap<String, String> {
    let mut headers = BTreeMap::new();
    if dice.chance(200) {
        headers.insert("来源".to_owned(), "模拟 🎲".to_owned());
    }
    if dice.chance(200) {
        headers.insert("trace".to_owned(), format!("{:x}", dice.number()));
    }
    headers
}

/// A record in words, for a story.
pub(super) fn describe(record: &Record) -> String {
    let text = String::from_utf8_lossy(&record.body);
    let text: String = text.chars().take(24).collect();
    format!("{text:?} on {}", record.subject)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_names_its_record() {
        let mut dice = Dice::new(3, 0);
        for position in 0..50 {
            let body = body('p', 17, position, &mut dice);
            assert_eq!(parse('p', &body), Some((17, position)));
            assert_eq!(parse('s', &body), None);
        }
        for stranger in [&b""[..], b"p", b"p1 ", b"px.y z", b"\xff\xff.1 "] {
            assert_eq!(parse('p', stranger), None);
        }
    }
}
