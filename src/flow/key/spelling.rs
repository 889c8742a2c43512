//! The one spelling of an id as text.

use uuid::Uuid;

/// Whether the text of a UUID is the one that we would write.
pub(super) fn is_canonical_uuid(text: &str, id: Uuid) -> bool {
    *id.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == *text
}

/// The UUID of a text, where that is its one spelling.
pub(super) fn canonical_uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|id| is_canonical_uuid(text, *id))
}

/// Whether the decimal text of a number is the one that we would write: without a plus, without zeros in front.
pub(super) fn is_canonical_integer(text: &str) -> bool {
    match text.strip_prefix('-').unwrap_or(text).as_bytes() {
        [b'0'] => text == "0",
        [b'1'..=b'9', ..] => true,
        _ => false,
    }
}
