//! What a node, client, channel or fabric may be called.

use crate::types::limits::NAME_BYTES_MAX;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing at all.
    #[error("a name cannot be empty")]
    Empty,
    /// Names stand in every frame.
    #[error("a name has at most {NAME_BYTES_MAX} bytes, this has {0}")]
    TooLong(usize),
    /// A path, a subject or a log line would read it otherwise.
    #[error("a name holds letters, digits, '-', '_' and '.', but no {0:?}")]
    Character(char),
    /// A folder would be hidden, a command would take it for an option.
    #[error("a name starts with a letter, a digit or '_', not with {0:?}")]
    Start(char),
}

/// Checks the name of a node, client, channel or fabric. It may be a folder's name as it stands.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let Some(first) = name.chars().next() else {
        return Err(NameError::Empty);
    };
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong(name.len()));
    }
    if let Some(bad) = name
        .chars()
        .find(|c| !c.is_alphanumeric() && !"-_.".contains(*c))
    {
        return Err(NameError::Character(bad));
    }
    if matches!(first, '-' | '.') {
        return Err(NameError::Start(first));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_can_be_a_folder() {
        for name in ["a", "alpha-1", "node_2.eu", "订单", "_x"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for (name, expected) in [
            ("", NameError::Empty),
            ("a/b", NameError::Character('/')),
            ("a b", NameError::Character(' ')),
            ("..", NameError::Start('.')),
            ("-rf", NameError::Start('-')),
        ] {
            assert_eq!(check_name(name), Err(expected), "{name}");
        }
        assert_eq!(check_name(&"a".repeat(64)), Err(NameError::TooLong(64)));
    }
}
