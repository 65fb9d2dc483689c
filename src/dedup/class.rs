//! What a content is, by its first bytes alone, so that equal contents are of one class wherever they stand.

/// How much of a content is looked at.
pub(super) const HEAD: usize = 512;

/// A class of contents.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub(super) enum Class {
    /// What is no content of a file: headers and padding.
    Structure,
    Archive,
    Bytecode,
    Compressed,
    Elf,
    Image,
    Script,
    Text,
    Zeros,
    Other,
}

/// Magic numbers of what is told by its first bytes.
const MAGIC: [(&[u8], Class); 17] = [
    (b"\x7fELF", Class::Elf),
    (b"#!", Class::Script),
    (b"PK\x03\x04", Class::Archive),
    (b"!<arch>\n", Class::Archive),
    (b"\x1f\x8b", Class::Compressed),
    (b"\x28\xb5\x2f\xfd", Class::Compressed),
    (b"\xfd7zXZ\0", Class::Compressed),
    (b"BZh", Class::Compressed),
    (b"\x04\x22\x4d\x18", Class::Compressed),
    (b"\xca\xfe\xba\xbe", Class::Bytecode),
    (b"\0asm", Class::Bytecode),
    (b"\x89PNG\r\n\x1a\n", Class::Image),
    (b"\xff\xd8\xff", Class::Image),
    (b"GIF8", Class::Image),
    (b"RIFF", Class::Image),
    (b"wOFF", Class::Image),
    (b"\0\x01\0\0\0", Class::Image),
];

impl Class {
    /// The class of a content that begins so, and is longer if there are [`HEAD`] bytes.
    pub(super) fn of(head: &[u8], zeros: bool) -> Self {
        let head = head.get(..HEAD).unwrap_or(head);
        if zeros {
            return Self::Zeros;
        }
        if let Some((_, class)) = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)) {
            return *class;
        }
        if super::tar::is_tar(head) {
            return Self::Archive;
        }
        // Compiled Python has two bytes of its version, and then the end of a line.
        if head.get(2..4) == Some(b"\r\n") && head.contains(&0) {
            return Self::Bytecode;
        }
        let cut = match std::str::from_utf8(head) {
            Ok(_) => false,
            // A character that goes on behind what is looked at.
            Err(error) => error.error_len().is_some() || head.len() < HEAD,
        };
        let is_text = !cut && !head.iter().any(|byte| *byte < b' ' && !b"\t\n\x0c\r\x1b".contains(byte));
        if is_text { Self::Text } else { Self::Other }
    }

    /// What a report calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Structure => "tar structure",
            Self::Archive => "archive",
            Self::Bytecode => "bytecode",
            Self::Compressed => "compressed",
            Self::Elf => "elf",
            Self::Image => "image or font",
            Self::Script => "script",
            Self::Text => "text",
            Self::Zeros => "zeros",
            Self::Other => "other",
        }
    }
}
