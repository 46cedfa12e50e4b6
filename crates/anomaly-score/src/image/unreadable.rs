//! Why one image could not be read. The others go on.

use std::fmt;

use super::kind::Kind;

/// Why one entry of a source gives no picture. Its text needs the entry's path before it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreadable {
    /// The file has zero bytes.
    Empty,
    /// The content is that of no supported image type.
    NotAnImage {
        /// What the content is, or its first bytes, printable.
        content: String,
    },
    /// The name claims one type, the content is of another.
    Misnamed {
        /// The type the extension stands for.
        claimed: Kind,
        /// The type the content is of.
        actual: &'static str,
    },
    /// The file ends before its picture does.
    Truncated {
        /// The type of the file.
        kind: Kind,
        /// What is missing.
        detail: String,
    },
    /// The content breaks the rules of its type.
    Corrupt {
        /// What was found.
        detail: String,
    },
    /// A sound file that uses something no decoder here supports.
    Unsupported {
        /// The feature.
        detail: String,
    },
    /// More pixels or bytes than the limits allow; nothing was decoded.
    TooLarge {
        /// What is too large, with the limit.
        detail: String,
    },
    /// The archive's entry needs a password.
    Encrypted,
    /// The operating system or the archive did not hand over the bytes.
    Io {
        /// The system's message.
        detail: String,
    },
}

impl Unreadable {
    /// A short constant name of the reason, for tables and counts.
    pub fn code(&self) -> &'static str {
        match self {
            Unreadable::Empty => "empty",
            Unreadable::NotAnImage { .. } => "not-an-image",
            Unreadable::Misnamed { .. } => "misnamed",
            Unreadable::Truncated { .. } => "truncated",
            Unreadable::Corrupt { .. } => "corrupt",
            Unreadable::Unsupported { .. } => "unsupported",
            Unreadable::TooLarge { .. } => "too-large",
            Unreadable::Encrypted => "encrypted",
            Unreadable::Io { .. } => "io",
        }
    }

    pub(super) fn corrupt(kind: Kind, detail: impl fmt::Display) -> Self {
        Unreadable::Corrupt { detail: format!("{kind}: {detail}") }
    }

    pub(super) fn truncated(kind: Kind, detail: impl Into<String>) -> Self {
        Unreadable::Truncated { kind, detail: detail.into() }
    }

    pub(super) fn unsupported(kind: Kind, detail: impl fmt::Display) -> Self {
        Unreadable::Unsupported { detail: format!("{kind}: {detail}") }
    }

    pub(super) fn not_an_image(bytes: &[u8]) -> Self {
        let content = match super::kind::foreign_name(bytes) {
            Some(name) => name.to_owned(),
            None => format!("starts with \"{}\"", bytes[..bytes.len().min(12)].escape_ascii()),
        };
        Unreadable::NotAnImage { content }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::Empty => f.write_str("the file is empty (0 bytes)"),
            Unreadable::NotAnImage { content } => write!(f, "not a supported image: {content}"),
            Unreadable::Misnamed { claimed, actual } => {
                write!(f, "named as {claimed} but the content is {actual}")
            }
            Unreadable::Truncated { kind, detail } => write!(f, "truncated {kind}: {detail}"),
            Unreadable::Corrupt { detail } => write!(f, "corrupt {detail}"),
            Unreadable::Unsupported { detail } => write!(f, "unsupported {detail}"),
            Unreadable::TooLarge { detail } => write!(f, "too large: {detail}"),
            Unreadable::Encrypted => f.write_str("encrypted: the archive wants a password"),
            Unreadable::Io { detail } => write!(f, "cannot be read: {detail}"),
        }
    }
}

impl std::error::Error for Unreadable {}
