//! CURVE keys as text: Z85 (<https://rfc.zeromq.org/spec/32/>), and the file that holds a secret.

use std::fmt;

use super::model::PublicKey;

/// A CURVE key pair as its owner holds it. Never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey {
    public: PublicKey,
    secret: String,
}

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Another length than Z85 of 32 bytes has.
    #[error("a key has 40 characters, this has {0}")]
    Length(usize),
    /// A character that Z85 does not have.
    #[error("a key holds no {0:?}; it is written in Z85")]
    Character(char),
    /// Five characters that stand for more than 32 bits.
    #[error("the key's characters {0} to {1} stand for no number of 32 bits")]
    Overflow(usize, usize),
    /// A key file without one of its two lines.
    #[error("the key file has no line `{0} = \"…\"`")]
    Missing(&'static str),
    /// A key file with a line that says nothing known.
    #[error(
        "line {0} of the key file is neither a comment nor `public = \"…\"` nor `secret = \"…\"`"
    )]
    BadLine(usize),
}

const ALPHABET: &[u8; 85] =
    b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#";

impl PublicKey {
    /// Checks `text`: 40 characters of Z85.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        decode(text)?;
        Ok(Self(text.to_owned()))
    }

    /// The key in Z85.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl SecretKey {
    /// A pair of keys in Z85. That they belong together is for CURVE to find out.
    pub fn new(public: &str, secret: &str) -> Result<Self, KeyError> {
        let public = PublicKey::parse(public)?;
        decode(secret)?;
        Ok(Self {
            public,
            secret: secret.to_owned(),
        })
    }

    /// Reads the text of a key file: the lines `public = "…"` and `secret = "…"`, `#` comments.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (mut public, mut secret) = (None, None);
        for (number, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let bad = KeyError::BadLine(number + 1);
            let Some((name, value)) = line.split_once('=') else {
                return Err(bad);
            };
            let value = value
                .trim()
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'));
            match (name.trim(), value) {
                ("public", Some(value)) => public = Some(value),
                ("secret", Some(value)) => secret = Some(value),
                _ => return Err(bad),
            }
        }
        let public = public.ok_or(KeyError::Missing("public"))?;
        Self::new(public, secret.ok_or(KeyError::Missing("secret"))?)
    }

    /// The text of a key file that [`SecretKey::parse`] reads.
    pub fn to_text(&self) -> String {
        format!(
            "# A CURVE key pair for Weft. The secret half is all it takes to be its owner.\n\
             public = \"{}\"\nsecret = \"{}\"\n",
            self.public, self.secret
        )
    }

    /// The half that everybody may know.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The secret half in Z85.
    pub fn secret_z85(&self) -> &str {
        &self.secret
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey {{ public: {:?}, .. }}", self.public.0)
    }
}

fn decode(text: &str) -> Result<[u8; 32], KeyError> {
    if let Some(bad) = text
        .chars()
        .find(|c| !c.is_ascii() || !ALPHABET.contains(&(*c as u8)))
    {
        return Err(KeyError::Character(bad));
    }
    if text.len() != 40 {
        return Err(KeyError::Length(text.len()));
    }
    let mut bytes = [0; 32];
    for (group, five) in text.as_bytes().chunks(5).enumerate() {
        let number = five.iter().fold(0u64, |sum, c| {
            let digit = ALPHABET.iter().position(|known| known == c).unwrap_or(0);
            sum * 85 + digit as u64
        });
        let number =
            u32::try_from(number).map_err(|_| KeyError::Overflow(group * 5 + 1, group * 5 + 5))?;
        bytes[group * 4..group * 4 + 4].copy_from_slice(&number.to_be_bytes());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test key of `zmq_curve(7)`.
    const PUBLIC: &str = "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID";
    const SECRET: &str = "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs";

    #[test]
    fn z85_is_decoded_as_specified() {
        // RFC 32's test case is 8 bytes; here it stands four times in a row.
        let bytes = decode(&"HelloWorld".repeat(4)).expect("a key");
        let expected = [0x86, 0x4f, 0xd2, 0x6f, 0xb5, 0x59, 0xf7, 0x5b];
        assert!(bytes.chunks(8).all(|chunk| chunk == expected));
        assert!(PublicKey::parse(PUBLIC).is_ok());
        assert_eq!(PublicKey::parse("abc"), Err(KeyError::Length(3)));
        assert_eq!(
            PublicKey::parse(&PUBLIC.replace('Y', "'")),
            Err(KeyError::Character('\''))
        );
        assert_eq!(
            PublicKey::parse(&"é".repeat(20)),
            Err(KeyError::Character('é'))
        );
        assert_eq!(
            PublicKey::parse(&"#".repeat(40)),
            Err(KeyError::Overflow(1, 5))
        );
    }

    #[test]
    fn a_key_file_reads_back_and_debug_keeps_its_secret() {
        let key = SecretKey::new(PUBLIC, SECRET).expect("keys");
        assert_eq!(SecretKey::parse(&key.to_text()), Ok(key.clone()));
        assert!(!format!("{key:?}").contains(SECRET));
    }

    #[test]
    fn a_bad_key_file_is_told_by_its_line() {
        let one = format!("# mine\npublic = \"{PUBLIC}\"\n");
        assert_eq!(SecretKey::parse(&one), Err(KeyError::Missing("secret")));
        assert_eq!(SecretKey::parse(""), Err(KeyError::Missing("public")));
        assert_eq!(
            SecretKey::parse(&format!("{one}{SECRET}")),
            Err(KeyError::BadLine(3))
        );
        let unquoted = format!("{one}secret = {SECRET}");
        assert_eq!(SecretKey::parse(&unquoted), Err(KeyError::BadLine(3)));
    }
}
