//! Records: walked as bytes by nodes that pass them on, built and decoded only by those who use
//! them.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::types::Record;
use crate::types::limits::{HEADERS_MAX, KEY_BYTES_MAX, NESTING_MAX};

use super::error::{RecordProblem, WireError};
use super::scan::{Item, Reader, object_len};

/// One record in its encoded form. Every part borrows from the frame; fields this version does not
/// know stay in `bytes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawRecord<'a> {
    /// All of it.
    pub bytes: &'a [u8],
    /// Its own subject, not checked beyond being text.
    pub subject: Option<&'a str>,
    /// Its key, whether sent as `str` or as `bin`.
    pub key: Option<&'a [u8]>,
    /// Its body, whether sent as `str` or as `bin`.
    pub body: &'a [u8],
    /// The pairs of its headers, encoded.
    headers: &'a [u8],
    /// How many fields the map declares, and how long that declaration is.
    fields: u32,
    head: usize,
    /// Where a subject of nil lies in `bytes`.
    nil_subject: Option<usize>,
    /// Where the object of its body starts, if nothing comes after it; else 0.
    body_at: usize,
}

/// Walks encoded records one after the other. After an error it is at its end.
#[derive(Debug, Clone)]
pub struct RawRecords<'a> {
    rest: &'a [u8],
    record: u64,
}

impl<'a> RawRecords<'a> {
    /// All records in `bytes`: what follows the header of a frame.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            record: 0,
        }
    }
}

impl<'a> Iterator for RawRecords<'a> {
    type Item = Result<RawRecord<'a>, WireError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let record = self.record;
        self.record += 1;
        let result = RawRecord::first(self.rest);
        self.rest = match &result {
            Ok(raw) => &self.rest[raw.bytes.len()..],
            Err(_) => &[],
        };
        Some(result.map_err(|problem| WireError::BadRecord { record, problem }))
    }
}

impl<'a> RawRecord<'a> {
    /// Its headers in the order sent.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let mut reader = Reader::new(self.headers);
        std::iter::from_fn(move || match (reader.next(), reader.next()) {
            (Ok(Item::Str(name)), Ok(Item::Str(value))) => Some((name, value)),
            _ => None,
        })
    }

    /// A copy of it as a person or a client library handles it.
    pub fn to_record(&self) -> Record {
        self.record_with(Bytes::copy_from_slice)
    }

    /// The same without a copy of its key and body: they share the memory of `frame`.
    ///
    /// # Panics
    /// If it is not of `frame`.
    #[inline]
    pub fn to_record_of(&self, frame: &Bytes) -> Record {
        self.record_with(|part| frame.slice_ref(part))
    }

    #[inline]
    fn record_with(&self, bytes: impl Fn(&[u8]) -> Bytes) -> Record {
        let headers = match self.headers.is_empty() {
            true => BTreeMap::new(),
            false => self.copied_headers(),
        };
        Record {
            subject: self.subject.unwrap_or_default().into(),
            key: self.key.map(&bytes),
            headers,
            body: bytes(self.body),
        }
    }

    fn copied_headers(&self) -> BTreeMap<String, String> {
        let headers = self.headers();
        headers
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// The one that `bytes` start with.
    ///
    /// # Errors
    /// Why there is none.
    #[inline]
    pub fn first(bytes: &'a [u8]) -> Result<Self, RecordProblem> {
        let mut reader = Reader::new(bytes);
        let Item::Map(fields) = reader.next()? else {
            return Err(RecordProblem::NotAMap);
        };
        let head = reader.at();
        let mut body = None;
        let mut key = None;
        let mut subject = None;
        let mut headers = None;
        let mut nil_subject = None;
        let mut body_at = 0;
        for left in (0..fields).rev() {
            match reader.key()? {
                b"body" => {
                    body_at = if left == 0 { reader.at() } else { 0 };
                    once(&mut body, "body", read_body(&mut reader)?)?;
                }
                b"key" => once(&mut key, "key", read_key(&mut reader)?)?,
                b"subject" => {
                    let at = reader.at();
                    let text = read_subject(&mut reader)?;
                    nil_subject = text.is_none().then_some(at);
                    once(&mut subject, "subject", text)?;
                }
                b"headers" => once(&mut headers, "headers", read_headers(&mut reader, bytes)?)?,
                _ => reader.skip(NESTING_MAX - 1)?,
            }
        }
        Ok(Self {
            bytes: &bytes[..reader.at()],
            subject: subject.flatten(),
            key: key.flatten(),
            body: body.ok_or(RecordProblem::NoBody)?,
            headers: headers.unwrap_or_default(),
            fields,
            head,
            nil_subject,
            body_at,
        })
    }

    /// The one that `bytes` start with, if it differs from this one in nothing but its body, which
    /// records beside each other often do: then nothing else of it has to be read.
    #[inline]
    pub fn next_alike(&self, bytes: &'a [u8]) -> Option<Self> {
        let (body, len) = body_after(bytes, self.before_body()?)?;
        Some(Self {
            bytes: &bytes[..len],
            body,
            ..*self
        })
    }

    /// All of it before its body, if nothing comes after that.
    pub fn before_body(&self) -> Option<&'a [u8]> {
        (self.body_at > 0).then(|| &self.bytes[..self.body_at])
    }
}

/// The body of a record that starts with `before`, all that another had before its body, and has
/// nothing after it; and how long the record is. None where it has to be read to know.
#[inline]
pub fn body_after<'a>(bytes: &'a [u8], before: &[u8]) -> Option<(&'a [u8], usize)> {
    let object = bytes.strip_prefix(before)?;
    let (len, body) = match *object {
        [0xc4, len, ref body @ ..] => (usize::from(len), body),
        [0xc5, high, low, ref body @ ..] => (usize::from(u16::from_be_bytes([high, low])), body),
        _ => return None,
    };
    let head = bytes.len() - body.len();
    Some((body.get(..len)?, head + len))
}

/// Appends the record with `subject` as its own, without decoding the rest of it.
///
/// # Panics
/// If it has a subject already.
pub fn splice_subject(record: &RawRecord<'_>, subject: &str, out: &mut Vec<u8>) {
    assert!(record.subject.is_none(), "a record has one subject");
    if let Some(at) = record.nil_subject {
        out.extend_from_slice(&record.bytes[..at]);
        write_str(out, subject);
        out.extend_from_slice(&record.bytes[at + 1..]);
        return;
    }
    write_map_len(out, record.fields + 1);
    write_str(out, "subject");
    write_str(out, subject);
    out.extend_from_slice(&record.bytes[record.head..]);
}

/// Appends `record` encoded. An empty subject is left out: that of the publish counts then.
pub fn encode_record(record: &Record, out: &mut Vec<u8>) {
    encode_before_body(record, out);
    encode_body(&record.body, out);
}

/// Appends what `record` has before its body, which comes last.
pub fn encode_before_body(record: &Record, out: &mut Vec<u8>) {
    let has_subject = !record.subject.is_empty();
    let has_headers = !record.headers.is_empty();
    let optional = [has_subject, record.key.is_some(), has_headers];
    let fields = 1 + optional.iter().filter(|has| **has).count();
    write_map_len(out, fields as u32);
    if has_subject {
        write_str(out, "subject");
        write_str(out, &record.subject);
    }
    if let Some(key) = &record.key {
        write_str(out, "key");
        write_bin(out, key);
    }
    if has_headers {
        write_str(out, "headers");
        write_headers(out, &record.headers);
    }
    write_str(out, "body");
}

/// Appends the body of a record, after [`encode_before_body`].
#[inline]
pub fn encode_body(body: &[u8], out: &mut Vec<u8>) {
    out.reserve(body.len() + 5);
    match u8::try_from(body.len()) {
        Ok(len) => out.extend_from_slice(&[0xc4, len]),
        Err(_) => rmp::encode::write_bin_len(out, body.len() as u32)
            .map(drop)
            .expect(VEC),
    }
    out.extend_from_slice(body);
}

/// Decodes exactly one record.
pub fn decode_record(bytes: &[u8]) -> Result<Record, WireError> {
    let bad = |problem| WireError::BadRecord { record: 0, problem };
    let raw = RawRecord::first(bytes).map_err(bad)?;
    match bytes.len() - raw.bytes.len() {
        0 => Ok(raw.to_record()),
        more => Err(bad(RecordProblem::Trailing(more))),
    }
}

/// How many objects `records` holds, whatever they are. [`RawRecords`] looks into them.
pub fn count(records: &[u8]) -> Result<u64, WireError> {
    let mut rest = records;
    let mut record = 0;
    while !rest.is_empty() {
        let len = object_len(rest).map_err(|problem| WireError::BadRecord {
            record,
            problem: problem.into(),
        })?;
        rest = &rest[len..];
        record += 1;
    }
    Ok(record)
}

/// The checksum of a batch: zlib's CRC-32.
pub fn crc(records: &[u8]) -> u32 {
    crc32fast::hash(records)
}

/// The same of records that lie in several places.
pub fn crc_of(records: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    records.iter().for_each(|records| hasher.update(records));
    hasher.finalize()
}

/// Holds `records` to the checksum that its header names, if it names one.
pub fn check_crc(records: &[u8], declared: Option<u32>) -> Result<(), WireError> {
    let Some(declared) = declared else {
        return Ok(());
    };
    match crc(records) {
        found if found == declared => Ok(()),
        found => Err(WireError::CrcMismatch { declared, found }),
    }
}

/// Holds the number of records `found` to the one that the header names, if it names one.
pub fn check_count(found: u64, declared: Option<u64>) -> Result<(), WireError> {
    match declared {
        Some(declared) if declared != found => Err(WireError::CountMismatch { declared, found }),
        _ => Ok(()),
    }
}

#[inline]
fn once<T>(slot: &mut Option<T>, field: &'static str, value: T) -> Result<(), RecordProblem> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(RecordProblem::Twice(field)),
    }
}

#[inline]
fn read_body<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], RecordProblem> {
    match reader.next()? {
        Item::Bin(bytes) => Ok(bytes),
        Item::Str(text) => Ok(text.as_bytes()),
        _ => Err(RecordProblem::WrongType {
            field: "body",
            wanted: "bin or str",
        }),
    }
}

fn read_key<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, RecordProblem> {
    let key = match reader.next()? {
        Item::Nil => return Ok(None),
        Item::Bin(bytes) => bytes,
        Item::Str(text) => text.as_bytes(),
        _ => {
            return Err(RecordProblem::WrongType {
                field: "key",
                wanted: "bin or str",
            });
        }
    };
    if key.len() > KEY_BYTES_MAX {
        return Err(RecordProblem::KeyTooLong(key.len()));
    }
    Ok(Some(key))
}

#[inline]
fn read_subject<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a str>, RecordProblem> {
    match reader.next()? {
        Item::Nil => Ok(None),
        Item::Str(text) => Ok(Some(text)),
        _ => Err(RecordProblem::WrongType {
            field: "subject",
            wanted: "a str",
        }),
    }
}

/// The encoded pairs of a map from `str` to `str`, each name once.
fn read_headers<'a>(reader: &mut Reader<'a>, bytes: &'a [u8]) -> Result<&'a [u8], RecordProblem> {
    let wrong = || RecordProblem::WrongType {
        field: "headers",
        wanted: "a map from str to str",
    };
    let count = match reader.next()? {
        Item::Nil => 0,
        Item::Map(count) => count,
        _ => return Err(wrong()),
    };
    if count as usize > HEADERS_MAX {
        return Err(RecordProblem::TooManyHeaders(count));
    }
    let start = reader.at();
    // A table of names is not worth its allocation: most records have a handful, none has more than
    // the limit.
    let mut names = [""; HEADERS_MAX];
    for position in 0..count as usize {
        let (Item::Str(name), Item::Str(_)) = (reader.next()?, reader.next()?) else {
            return Err(wrong());
        };
        if names[..position].contains(&name) {
            return Err(RecordProblem::HeaderTwice(super::error::shorten(name)));
        }
        names[position] = name;
    }
    Ok(&bytes[start..reader.at()])
}

fn write_headers(out: &mut Vec<u8>, headers: &BTreeMap<String, String>) {
    write_map_len(out, headers.len() as u32);
    for (name, value) in headers {
        write_str(out, name);
        write_str(out, value);
    }
}

const VEC: &str = "a Vec takes every byte";

fn write_map_len(out: &mut Vec<u8>, len: u32) {
    rmp::encode::write_map_len(out, len).expect(VEC);
}

fn write_str(out: &mut Vec<u8>, text: &str) {
    rmp::encode::write_str(out, text).expect(VEC);
}

fn write_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    rmp::encode::write_bin(out, bytes).expect(VEC);
}
