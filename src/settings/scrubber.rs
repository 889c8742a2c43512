//! Takes secrets out of lines: a driver or a server may quote what a text of ours never would.

use crate::settings::database_url;
use crate::settings::layer::{Entry, Layer};
use crate::settings::secret::MASK;
use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;

/// A shorter piece of a secret says nothing, and is part of many words.
const PIECE_MIN: usize = 4;
/// From this length on a secret is looked for within words too.
const LONG: usize = 8;

/// The secrets of a process in every spelling that a line may have: as written, percent-decoded, percent-encoded and escaped,
/// whole and cut at the characters at which a URL is cut.
#[derive(Clone, Default)]
pub struct Scrubber {
    /// Longest first, so that no piece is taken out of a whole.
    secrets: Vec<String>,
}

impl fmt::Debug for Scrubber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scrubber({} spellings)", self.secrets.len())
    }
}

impl Scrubber {
    /// Knows the secrets of all layers, also of those that another layer wins over or that are no legal value.
    pub(super) fn of(layers: &[Layer]) -> Self {
        let entries = || layers.iter().flat_map(|layer| &layer.entries).filter(|entry| entry.is_secret());
        let mut secrets: Vec<String> = entries().flat_map(Entry::secrets).flat_map(spellings).collect();
        let public: Vec<&str> = entries().flat_map(Entry::public).collect();
        secrets.retain(|secret| !public.contains(&secret.as_str()));
        secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        Self { secrets }
    }

    /// The text with `***` for each secret.
    #[must_use]
    pub fn scrub<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for secret in &self.secrets {
            if text.contains(secret.as_str()) {
                text = Cow::Owned(without(&text, secret));
            }
        }
        text
    }
}

impl Entry {
    /// The parts of a secret value that must not print, as they are written.
    fn secrets(&self) -> Vec<&str> {
        let is_url = (self.section.as_str(), self.key.as_str()) == ("database", "url");
        if is_url { database_url::secrets(&self.text) } else { self.text.lines().collect() }
    }

    /// The parts of a secret value that may print. A password that equals one is no secret.
    fn public(&self) -> Vec<&str> {
        if self.section == "database" { database_url::public(&self.text) } else { Vec::new() }
    }
}

/// Every spelling of a secret and of its pieces.
fn spellings(secret: &str) -> Vec<String> {
    let decoded = String::from_utf8_lossy(&database_url::decoded(secret)).into_owned();
    let mut out = Vec::new();
    for whole in [secret, decoded.as_str()] {
        let cut_at = |marks: &'static str| whole.split(move |c: char| marks.contains(c));
        let pieces = cut_at("#/?@ \t").chain(cut_at("#/?@:&=% \t"));
        for text in std::iter::once(whole.trim()).chain(pieces).filter(|text| text.chars().count() >= PIECE_MIN) {
            let quoted = format!("{text:?}");
            out.push(quoted.trim_matches('"').to_owned());
            out.push(serde_json::Value::from(text).to_string().trim_matches('"').to_owned());
            out.push(encoded(text));
            out.push(text.to_owned());
        }
    }
    out
}

/// The text with all but letters and digits as `%XX`.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The text with `***` for `secret`; for a short one only where it stands as a word.
fn without(text: &str, secret: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(secret) {
        out.push_str(before);
        let is_word = ends_a_word(&out) && !after.starts_with(char::is_alphanumeric);
        out.push_str(if is_word || secret.len() >= LONG { MASK } else { secret });
        rest = after;
    }
    out + rest
}

/// Whether a word may begin behind the text. The end of a colour (`ESC [ 0 m`) is no letter.
fn ends_a_word(text: &str) -> bool {
    let colour = |text: &str| {
        let (_, code) = text.strip_suffix('m')?.rsplit_once("\u{1b}[")?;
        code.chars().all(|c| c.is_ascii_digit() || c == ';').then_some(())
    };
    !text.ends_with(char::is_alphanumeric) || colour(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::origin::Origin;

    fn knowing(entries: &[(&str, &str)]) -> Scrubber {
        let entry = |(path, text): &(&str, &str)| Entry::at(path, (*text).into(), Origin::Default);
        Scrubber::of(&[Layer { entries: entries.iter().map(entry).collect() }])
    }

    const PASSWORD: &str = "kafka.properties.sasl.password";

    #[test]
    fn a_secret_is_taken_out_in_every_spelling() {
        let url = "postgres://app:c4n%23ry%2Fse%22cr\\et@h/db?sslpassword=other1";
        let scrubber = knowing(&[("database.url", url), (PASSWORD, "pa\"ss w\u{f6}rd")]);
        for line in [
            "as written c4n%23ry%2Fse%22cr\\et",
            "decoded c4n#ry/se\"cr\\et",
            r#"escaped c4n#ry/se\"cr\\et"#,
            "encoded c4n%23ry%2Fse%22cr%5Cet",
            "key=other1",
            "pa\"ss w\u{f6}rd",
            r#"{"x":"pa\"ss wörd"}"#,
            "pa%22ss%20w%C3%B6rd",
        ] {
            let told = scrubber.scrub(line);
            assert!(told.contains(MASK), "{line} -> {told}");
            assert!(!["c4n", "cr\\", "et", "other", "pa\"", "rd"].iter().any(|piece| told.contains(piece)), "{told}");
        }
    }

    #[test]
    fn pieces_are_taken_out_where_a_url_was_cut() {
        let scrubber = knowing(&[("database.url", "postgres://app:/7M+r?E:dHz@127.0.0.1/db")]);
        assert_eq!(scrubber.scrub("key=E:dHz@127.0.0.1/db"), "key=***@***/db");
        assert_eq!(scrubber.scrub("path /7M+r"), "path /***");
        assert_eq!(scrubber.scrub("\u{1b}[0mE:dHz"), "\u{1b}[0m***");
    }

    #[test]
    fn words_that_only_contain_a_short_secret_stay() {
        let scrubber = knowing(&[(PASSWORD, "gate")]);
        assert_eq!(scrubber.scrub("tidegate, gates, gate=gate"), "tidegate, gates, ***=***");
        assert_eq!(scrubber.scrub("\u{1b}[2mgate\u{1b}[0m"), "\u{1b}[2m***\u{1b}[0m");
    }

    #[test]
    fn a_password_that_is_also_the_name_of_user_or_database_is_no_secret() {
        let scrubber = knowing(&[("database.url", "postgres://tidegate:tidegate@h/tidegate")]);
        assert_eq!(scrubber.scrub("role \"tidegate\" does not exist"), "role \"tidegate\" does not exist");
    }

    #[test]
    fn without_secrets_a_line_is_left_alone() {
        assert!(matches!(Scrubber::default().scrub("a line"), Cow::Borrowed("a line")));
        let settings = knowing(&[("engine.workers", "4"), ("kafka.bootstrap_servers", "broker:9092")]);
        assert_eq!(settings.scrub("broker:9092 4"), "broker:9092 4");
        assert_eq!(format!("{:?}", knowing(&[(PASSWORD, "hunter2")])), "Scrubber(1 spellings)");
    }
}
