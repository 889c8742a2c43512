//! A file that a person or an editor wrote, as text.

use std::path::Path;

/// The file's text without the byte order mark that some editors put in front.
///
/// # Errors
/// Why it cannot be read, in words that complete "the file …".
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    text(&bytes)
}

fn text(bytes: &[u8]) -> Result<String, String> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err("is UTF-16, by the byte order mark in front: save it as UTF-8".into());
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text).into()),
        Err(error) => Err(format!("is not UTF-8 from byte {} on: save it as UTF-8", error.valid_up_to())),
    }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn a_byte_order_mark_in_front_is_not_part_of_the_text_and_utf_16_is_named() {
        assert_eq!(text(b"\xef\xbb\xbfengine:").as_deref(), Ok("engine:"));
        assert_eq!(text(b"engine:").as_deref(), Ok("engine:"));
        let utf_16 = "is UTF-16, by the byte order mark in front: save it as UTF-8";
        assert_eq!(text(b"\xff\xfee\0").as_ref().map_err(String::as_str), Err(utf_16));
        assert_eq!(text(b"\xfe\xff\0e").as_ref().map_err(String::as_str), Err(utf_16));
        let not_utf_8 = "is not UTF-8 from byte 2 on: save it as UTF-8";
        assert_eq!(text(b"ab\xe4c").as_ref().map_err(String::as_str), Err(not_utf_8));
    }
}
