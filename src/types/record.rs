//! One application payload, and the partition its key names.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

/// One application payload as a person or a client library handles it. Nodes that only pass records
/// on never build one; they carry the encoded bytes.
///
/// ```
/// use weft::Record;
///
/// let record = Record::new("orders.eu.new", "two shirts")
///     .with_key("customer-42")
///     .with_header("content-type", "text/plain");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// Dot-separated words; which channel captures it is the topology's say.
    pub subject: Arc<str>,
    /// Records of one key keep their order, in one partition.
    pub key: Option<Bytes>,
    /// What the application wants to say beside the body.
    pub headers: BTreeMap<String, String>,
    /// The payload, any bytes.
    pub body: Bytes,
}

impl Record {
    /// A record without key and headers.
    pub fn new(subject: impl AsRef<str>, body: impl Into<Bytes>) -> Self {
        Self {
            subject: subject.as_ref().into(),
            key: None,
            headers: BTreeMap::new(),
            body: body.into(),
        }
    }

    /// The same with this key.
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same with this header, instead of one of the same name.
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name.into(), value.into());
        self
    }
}

/// The partition of `key` in a channel of `count` partitions: CRC-32 (zlib's, reflected 0xEDB88320)
/// of the key's bytes modulo `count`. A key sent as `str` and one sent as `bin` with the same bytes
/// are the same key.
///
/// # Panics
/// If `count` is zero, which no checked topology holds.
pub fn key_partition(key: &[u8], count: u32) -> u32 {
    crc32fast::hash(key) % count
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_zlibs_crc_32() {
        // `python3 -c 'import zlib; print(zlib.crc32(b"customer-42"))'`
        assert_eq!(crc32fast::hash(b"123456789"), 0xcbf4_3926);
        assert_eq!(key_partition(b"123456789", 4), 0xcbf4_3926 % 4);
        assert_eq!(key_partition(b"", 7), 0);
    }
}
