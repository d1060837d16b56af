//! Walks MessagePack without building anything: a pull reader over bytes that are not trusted. It
//! allocates nothing, nests at most as deep as it is told, and believes no declared length that the
//! bytes at hand cannot hold.

use rmp::Marker;

use crate::types::limits::NESTING_MAX;

/// Why bytes are no object of this protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end inside an object.
    #[error("it ends inside an object, at byte {at}")]
    Truncated {
        /// Where the object that does not fit starts.
        at: usize,
    },
    /// The one byte that MessagePack never uses.
    #[error("byte {at} is 0xc1, which MessagePack never uses")]
    Reserved {
        /// Where it is.
        at: usize,
    },
    /// Deeper than `limits::NESTING_MAX`.
    #[error("objects nest deeper than {NESTING_MAX}, at byte {at}")]
    TooDeep {
        /// Where the object that is too deep starts.
        at: usize,
    },
    /// A `str` that holds no UTF-8, which many languages cannot read.
    #[error("the str at byte {at} is not UTF-8; send other bytes as bin")]
    NotUtf8 {
        /// Where it starts.
        at: usize,
    },
    /// A map key that is no `str`, which some languages cannot read.
    #[error("the map key at byte {at} is not a str")]
    KeyNotStr {
        /// Where it starts.
        at: usize,
    },
}

/// One object, or the head of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item<'a> {
    Nil,
    Str(&'a str),
    Bin(&'a [u8]),
    /// So many objects follow.
    Array(u32),
    /// So many pairs of objects follow.
    Map(u32),
    /// A number, a boolean or an extension.
    Other,
}

/// Reads objects off the front of `bytes`.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The length of the object at the start of `bytes`.
pub(super) fn object_len(bytes: &[u8]) -> Result<usize, Malformed> {
    let mut reader = Reader::new(bytes);
    reader.skip(NESTING_MAX)?;
    Ok(reader.at)
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// How many bytes were read.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The next object, or the head of the next container.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Item<'a>, Malformed> {
        let start = self.at;
        let [marker] = self.array(start)?;
        // What records are made of, before all else.
        match marker {
            0xa0..=0xbf => self.text(start, u64::from(marker & 0x1f)),
            0x80..=0x8f => Ok(Item::Map(u32::from(marker & 0x0f))),
            0xc4 => {
                let [len] = self.array(start)?;
                self.binary(start, u64::from(len))
            }
            _ => self.rarer(start, Marker::from_u8(marker)),
        }
    }

    fn rarer(&mut self, start: usize, marker: Marker) -> Result<Item<'a>, Malformed> {
        Ok(match marker {
            Marker::Null => Item::Nil,
            Marker::Reserved => return Err(Malformed::Reserved { at: start }),
            Marker::FixStr(len) => self.text(start, u64::from(len))?,
            Marker::Str8 => self.sized(start, 1, Self::text)?,
            Marker::Str16 => self.sized(start, 2, Self::text)?,
            Marker::Str32 => self.sized(start, 4, Self::text)?,
            Marker::Bin8 => self.sized(start, 1, Self::binary)?,
            Marker::Bin16 => self.sized(start, 2, Self::binary)?,
            Marker::Bin32 => self.sized(start, 4, Self::binary)?,
            Marker::FixArray(len) => Item::Array(u32::from(len)),
            Marker::Array16 => Item::Array(self.number(start, 2)? as u32),
            Marker::Array32 => Item::Array(self.number(start, 4)? as u32),
            Marker::FixMap(len) => Item::Map(u32::from(len)),
            Marker::Map16 => Item::Map(self.number(start, 2)? as u32),
            Marker::Map32 => Item::Map(self.number(start, 4)? as u32),
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::True | Marker::False => Item::Other,
            Marker::U8 | Marker::I8 => self.other(start, 1)?,
            Marker::U16 | Marker::I16 | Marker::FixExt1 => self.other(start, 2)?,
            Marker::U32 | Marker::I32 | Marker::F32 => self.other(start, 4)?,
            Marker::U64 | Marker::I64 | Marker::F64 => self.other(start, 8)?,
            Marker::FixExt2 => self.other(start, 3)?,
            Marker::FixExt4 => self.other(start, 5)?,
            Marker::FixExt8 => self.other(start, 9)?,
            Marker::FixExt16 => self.other(start, 17)?,
            // The type of an extension is one byte more than its length says.
            Marker::Ext8 => self.sized(start, 1, |this, at, len| this.other(at, len + 1))?,
            Marker::Ext16 => self.sized(start, 2, |this, at, len| this.other(at, len + 1))?,
            Marker::Ext32 => self.sized(start, 4, |this, at, len| this.other(at, len + 1))?,
        })
    }

    /// Passes over one whole object with at most `nesting` containers inside one another, which
    /// bounds the stack below.
    pub(super) fn skip(&mut self, nesting: usize) -> Result<(), Malformed> {
        let start = self.at;
        let (children, is_map) = match self.next()? {
            Item::Array(len) => (u64::from(len), false),
            Item::Map(len) => (2 * u64::from(len), true),
            Item::Nil | Item::Str(_) | Item::Bin(_) | Item::Other => return Ok(()),
        };
        if children == 0 {
            return Ok(());
        }
        let Some(inside) = nesting.checked_sub(1) else {
            return Err(Malformed::TooDeep { at: start });
        };
        // Every object takes a byte or more.
        if children > (self.bytes.len() - self.at) as u64 {
            return Err(Malformed::Truncated { at: start });
        }
        for child in 0..children {
            if is_map && child % 2 == 0 {
                self.key()?;
            } else {
                self.skip(inside)?;
            }
        }
        Ok(())
    }

    /// The key of a map's next pair, which is UTF-8.
    #[inline]
    pub(super) fn key(&mut self) -> Result<&'a [u8], Malformed> {
        let at = self.at;
        // Most are short and plain, and compared with names that are.
        if let Some(marker @ 0xa0..=0xbf) = self.bytes.get(at) {
            self.at += 1;
            let name = self.take(at, u64::from(marker & 0x1f))?;
            if name.is_ascii() {
                return Ok(name);
            }
            self.at = at;
        }
        match self.next()? {
            Item::Str(name) => Ok(name.as_bytes()),
            _ => Err(Malformed::KeyNotStr { at }),
        }
    }

    fn sized(
        &mut self,
        start: usize,
        width: usize,
        read: impl FnOnce(&mut Self, usize, u64) -> Result<Item<'a>, Malformed>,
    ) -> Result<Item<'a>, Malformed> {
        let len = self.number(start, width)?;
        read(self, start, len)
    }

    #[inline]
    fn text(&mut self, start: usize, len: u64) -> Result<Item<'a>, Malformed> {
        let bytes = self.take(start, len)?;
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed::NotUtf8 { at: start })?;
        Ok(Item::Str(text))
    }

    #[inline]
    fn binary(&mut self, start: usize, len: u64) -> Result<Item<'a>, Malformed> {
        Ok(Item::Bin(self.take(start, len)?))
    }

    fn other(&mut self, start: usize, len: u64) -> Result<Item<'a>, Malformed> {
        self.take(start, len)?;
        Ok(Item::Other)
    }

    /// A big-endian number of `width` bytes.
    fn number(&mut self, start: usize, width: usize) -> Result<u64, Malformed> {
        let bytes = self.take(start, width as u64)?;
        Ok(bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    #[inline]
    fn array<const N: usize>(&mut self, start: usize) -> Result<[u8; N], Malformed> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let array = rest
            .first_chunk()
            .ok_or(Malformed::Truncated { at: start })?;
        self.at += N;
        Ok(*array)
    }

    #[inline]
    fn take(&mut self, start: usize, len: u64) -> Result<&'a [u8], Malformed> {
        let rest = &self.bytes[self.at..];
        if len > rest.len() as u64 {
            return Err(Malformed::Truncated { at: start });
        }
        let taken = &rest[..len as usize];
        self.at += taken.len();
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_object_has_its_length() {
        for (bytes, expected) in [
            (&b"\x00"[..], 1),
            (b"\xff", 1),
            (b"\xc0", 1),
            (b"\xcc\xff", 2),
            (b"\xcb\0\0\0\0\0\0\0\0", 9),
            (b"\xa3abc", 4),
            (b"\xd9\x01a", 3),
            (b"\xda\0\x01a", 4),
            (b"\xdb\0\0\0\x01a", 6),
            (b"\xc4\x02ab", 4),
            (b"\xc5\0\x02ab", 5),
            (b"\xc6\0\0\0\x02ab", 7),
            (b"\x90", 1),
            (b"\x92\x01\x91\x02", 4),
            (b"\xdc\0\x01\x05", 4),
            (b"\xdd\0\0\0\x01\x05", 6),
            (b"\x81\xa1a\x01", 4),
            (b"\xde\0\x01\xa1a\x01", 6),
            (b"\xdf\0\0\0\x01\xa1a\x01", 8),
            (b"\xd4\x01x", 3),
            (b"\xd5\x01xx", 4),
            (b"\xd6\x01xxxx", 6),
            (b"\xd7\x01xxxxxxxx", 10),
            (b"\xd8\x01xxxxxxxxxxxxxxxx", 18),
            (b"\xc7\x01\x05x", 4),
            (b"\xc8\0\x01\x05x", 5),
            (b"\xc9\0\0\0\x01\x05x", 7),
        ] {
            assert_eq!(object_len(bytes), Ok(expected), "{bytes:?}");
            let followed = [bytes, b"\x01\x02"].concat();
            assert_eq!(object_len(&followed), Ok(expected), "{bytes:?}");
            for end in 0..bytes.len() {
                let cut = object_len(&bytes[..end]);
                assert!(
                    matches!(cut, Err(Malformed::Truncated { .. })),
                    "{bytes:?} up to {end}"
                );
            }
        }
    }

    #[test]
    fn hostile_objects_are_told_apart() {
        for (bytes, expected) in [
            (&b"\xc1"[..], Malformed::Reserved { at: 0 }),
            (b"\x91\xc1", Malformed::Reserved { at: 1 }),
            (b"\xa1\xff", Malformed::NotUtf8 { at: 0 }),
            (b"\x81\x01\x01", Malformed::KeyNotStr { at: 1 }),
            (b"\x81\xc4\x01a\x01", Malformed::KeyNotStr { at: 1 }),
            (b"\x81\x90\x01", Malformed::KeyNotStr { at: 1 }),
            (b"\x82\xa1a\x01\x02\x03", Malformed::KeyNotStr { at: 4 }),
            (b"\xdd\xff\xff\xff\xff\x01", Malformed::Truncated { at: 0 }),
            (b"\xdf\xff\xff\xff\xff\x01", Malformed::Truncated { at: 0 }),
            (b"\xc6\xff\xff\xff\xff\x01", Malformed::Truncated { at: 0 }),
            (b"\xc9\xff\xff\xff\xff\x01", Malformed::Truncated { at: 0 }),
        ] {
            assert_eq!(object_len(bytes), Err(expected), "{bytes:?}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth: usize| [vec![0x91; depth], vec![0x01]].concat();
        assert_eq!(object_len(&nested(NESTING_MAX)), Ok(NESTING_MAX + 1));
        let too_deep = Err(Malformed::TooDeep { at: NESTING_MAX });
        assert_eq!(object_len(&nested(NESTING_MAX + 1)), too_deep);
        assert_eq!(object_len(&nested(1 << 20)), too_deep);
    }
}
