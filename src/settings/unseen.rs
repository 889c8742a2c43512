//! Characters that nobody sees: what an editor, `echo` or a copied web page leaves around a value.

/// What stands unseen at the beginning or the end of a value, and the way to be rid of it; `None` where nothing does.
/// Spaces are not among it: a password may end in one.
pub(super) fn around(text: &str) -> Option<String> {
    let first = text.chars().next().and_then(name);
    let last = text.chars().next_back().and_then(name);
    let place = match (first, last) {
        (Some(first), _) => format!("begins with {first}"),
        (None, Some(last)) => format!("ends in {last}"),
        (None, None) => return None,
    };
    let remedy = match text.chars().next_back() {
        Some('\n' | '\r') => "; write it by `printf %s`, or `echo -n`, which add none",
        _ => "; remove it",
    };
    Some(format!("{place}, which is not seen and part of the value{remedy}"))
}

/// The same in the middle of a file's text: the line, counted from 1, and the character.
pub(super) fn within(text: &str) -> Option<(usize, String)> {
    text.lines().enumerate().find_map(|(number, line)| {
        let indent = line.trim_start_matches(' ').chars().next().filter(|c| *c != '\t');
        let odd = line.chars().find(|c| *c == '\u{feff}').or(indent).and_then(name)?;
        Some((number + 1, odd))
    })
}

/// A character that is not seen, in words.
fn name(c: char) -> Option<String> {
    let name = match c {
        '\n' => "a newline",
        '\r' => "a carriage return",
        '\t' => "a tab",
        '\u{feff}' => "a byte order mark (U+FEFF)",
        '\u{a0}' => "a no-break space (U+00A0)",
        '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{ad}' => {
            return Some(format!("a character without width (U+{:04X})", u32::from(c)));
        }
        _ if c.is_control() => return Some(format!("a control character (U+{:04X})", u32::from(c))),
        _ => return None,
    };
    Some(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_named_with_the_way_to_be_rid_of_it() {
        let cases = [
            (
                "pw\n",
                "ends in a newline, which is not seen and part of the value; write it by `printf %s`, or `echo -n`, which add none",
            ),
            (
                "pw\r\n",
                "ends in a newline, which is not seen and part of the value; write it by `printf %s`, or `echo -n`, which add none",
            ),
            ("pw\t", "ends in a tab, which is not seen and part of the value; remove it"),
            (
                "\u{feff}pw",
                "begins with a byte order mark (U+FEFF), which is not seen and part of the value; remove it",
            ),
            ("pw\u{a0}", "ends in a no-break space (U+00A0), which is not seen and part of the value; remove it"),
            (
                "pw\u{200b}",
                "ends in a character without width (U+200B), which is not seen and part of the value; remove it",
            ),
            ("pw\0", "ends in a control character (U+0000), which is not seen and part of the value; remove it"),
        ];
        for (text, expected) in cases {
            assert_eq!(around(text).as_deref(), Some(expected), "{text:?}");
        }
        for text in ["", "pw", " p w ", "p\nw"] {
            assert_eq!(around(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_mark_between_two_files_and_a_copied_indentation_are_found_with_their_line() {
        assert_eq!(within("a: 1\n\u{feff}b: 2\n"), Some((2, "a byte order mark (U+FEFF)".into())));
        assert_eq!(within("a:\n \u{a0}b: 2\n"), Some((2, "a no-break space (U+00A0)".into())));
        assert_eq!(within("a:\n  b: \u{a0}x\n\n"), None);
    }
}
