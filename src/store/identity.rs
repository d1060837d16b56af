//! The file `identity`: whose folder this is, and which life of it.

use crate::types::{Incarnation, NodeName};

use super::{FORMAT_VERSION, StoreError};

/// Who opens a data folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The fabric's name.
    pub fabric: String,
    /// The node's name.
    pub node: NodeName,
    /// The incarnation to give a folder that is empty. A folder that has one keeps it.
    pub fresh: Incarnation,
}

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FolderIdentity {
    /// The version that founded it.
    format: u32,
    pub(super) fabric: String,
    pub(super) node: String,
    pub(super) incarnation: Incarnation,
}

/// A file longer than this was not written by us.
pub(super) const IDENTITY_BYTES_MAX: u64 = 4096;

const FIRST_LINE: &str = "weft data folder";

impl Identity {
    /// Names that the file could not hold are refused before anything is touched.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        for (what, name) in [("fabric", &*self.fabric), ("node", self.node.as_str())] {
            if name.is_empty() || name.len() > 255 || name.contains(char::is_control) {
                return Err(StoreError::Unusable {
                    what: format!("the {what} name {name:?}"),
                    reason: "it needs 1 to 255 bytes without control characters".into(),
                });
            }
        }
        Ok(())
    }

    /// What the file of a new folder says.
    pub(super) fn founded(&self) -> FolderIdentity {
        FolderIdentity {
            format: FORMAT_VERSION,
            fabric: self.fabric.clone(),
            node: self.node.to_string(),
            incarnation: self.fresh,
        }
    }
}

impl FolderIdentity {
    /// The file's text.
    pub(super) fn encode(&self) -> String {
        let mut text = format!(
            "{FIRST_LINE}\nformat {}\nfabric {}\nnode {}\nincarnation {}\n",
            self.format, self.fabric, self.node, self.incarnation
        );
        text.push_str(&format!("check {:08x}\n", crc32fast::hash(text.as_bytes())));
        text
    }

    /// Reads the text of `file`.
    pub(super) fn decode(file: &str, bytes: &[u8]) -> Result<Self, StoreError> {
        let bad = |reason: &str| StoreError::BadIdentity {
            file: file.to_owned(),
            reason: reason.to_owned(),
        };
        let text = std::str::from_utf8(bytes).map_err(|_| bad("it is not UTF-8"))?;
        let (body, check) = text
            .strip_suffix('\n')
            .and_then(|text| text.rsplit_once("\ncheck "))
            .ok_or_else(|| bad("its last line is not `check` and a checksum"))?;
        let body = &text[..=body.len()];
        if check != format!("{:08x}", crc32fast::hash(body.as_bytes())) {
            return Err(bad("its checksum does not match"));
        }
        let mut lines = body.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err(bad("its first line is not that of a weft data folder"));
        }
        let mut field = |name: &str| {
            lines
                .next()
                .and_then(|line| line.strip_prefix(name)?.strip_prefix(' '))
                .ok_or_else(|| bad(&format!("it has no line `{name}` where one belongs")))
        };
        let version = field("format")?;
        let found: u32 = version
            .parse()
            .map_err(|_| bad("its format version is not a number"))?;
        if !(1..=FORMAT_VERSION).contains(&found) {
            return Err(StoreError::FormatVersion {
                file: file.to_owned(),
                found,
                known: FORMAT_VERSION,
            });
        }
        let fabric = field("fabric")?.to_owned();
        let node = field("node")?.to_owned();
        let incarnation = u64::from_str_radix(field("incarnation")?, 16)
            .map_err(|_| bad("its incarnation is not a hexadecimal number"))?;
        Ok(Self {
            format: found,
            fabric,
            node,
            incarnation: Incarnation(incarnation),
        })
    }

    /// Whether it is the folder of `who`.
    pub(super) fn check(&self, file: &str, who: &Identity) -> Result<(), StoreError> {
        if self.fabric != who.fabric {
            return Err(StoreError::ForeignFabric {
                file: file.to_owned(),
                found: self.fabric.clone(),
                expected: who.fabric.clone(),
            });
        }
        if self.node != who.node.as_str() {
            return Err(StoreError::ForeignNode {
                file: file.to_owned(),
                found: self.node.clone(),
                expected: who.node.to_string(),
            });
        }
        Ok(())
    }

    /// What segments carry of it.
    pub(super) fn crc(&self) -> u32 {
        crc32fast::hash(self.encode().as_bytes())
    }
}
