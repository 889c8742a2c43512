//! The database's URL in its parts: why a text is none, and which parts are secret.
//!
//! A password may hold a character at which a URL ends it, and then any part may be a piece of the password. So no sentence here
//! quotes a value, and a parameter's name only where it cannot be one.

use crate::flow::nearest::nearest;

const SHAPE: &str = "postgres://user:password@host:port/database";

/// Parameters that the driver understands.
const KNOWN: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// libpq's parameters that the driver does not have. Clouds hand out URLs with some of them.
const WITHOUT_EFFECT: [&str; 30] = [
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "service",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslnegotiation",
    "sslpassword",
    "sslsni",
    "target_session_attrs",
];

const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// Characters that a password cannot hold as they are, each as a URL spells it.
const ESCAPES: [(char, &str); 4] = [('#', "%23"), ('/', "%2F"), ('?', "%3F"), ('@', "%40")];

/// A URL behind its scheme, cut where the driver cuts it.
struct Parts<'t> {
    /// `user:password`, in front of the last `@` before the path.
    credentials: Option<&'t str>,
    /// `host:port`, either may be empty.
    place: &'t str,
    path: &'t str,
    query: &'t str,
    has_fragment: bool,
}

impl<'t> Parts<'t> {
    fn cut(rest: &'t str) -> Self {
        let (rest, fragment) = halves(rest, '#');
        let (rest, query) = halves(rest, '?');
        let (authority, path) = halves(rest, '/');
        let (credentials, place) = match authority.rsplit_once('@') {
            Some((credentials, place)) => (Some(credentials), place),
            None => (None, authority),
        };
        let [path, query] = [path, query].map(Option::unwrap_or_default);
        Self { credentials, place, path, query, has_fragment: fragment.is_some() }
    }

    /// Names and values of the query, as they are written.
    fn parameters(&self) -> impl Iterator<Item = (&'t str, &'t str)> {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// Whether the password goes on behind what a URL takes for its end.
    fn is_cut(&self) -> bool {
        self.has_fragment
            || self.path.contains('@')
            || self.query.contains('@') && self.parameters().any(|(name, _)| !is_known(name))
    }
}

/// The text in front of the first `mark`, and behind it.
fn halves(text: &str, mark: char) -> (&str, Option<&str>) {
    text.split_once(mark).map_or((text, None), |(head, tail)| (head, Some(tail)))
}

fn is_known(name: &str) -> bool {
    KNOWN.contains(&name) || WITHOUT_EFFECT.contains(&name) || (name.starts_with("options[") && name.ends_with(']'))
}

fn without_scheme(text: &str) -> Option<&str> {
    text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"))
}

/// Why this is no URL of a database, in one sentence with the way out; `None` where it is one, or empty.
pub(super) fn mistake(text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    let Some(rest) = without_scheme(text) else { return Some(of_another_kind(text)) };
    if rest.is_empty() {
        return Some(format!("expected {SHAPE}"));
    }
    if rest.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Some("holds a space or a line break; in a password write %20 for a space".into());
    }
    let parts = Parts::cut(rest);
    if parts.is_cut() {
        return Some(cut_short(rest));
    }
    let mut mistakes: Vec<String> = place(&parts).into_iter().chain(credentials(&parts)).collect();
    mistakes.extend(parameters(&parts));
    (!mistakes.is_empty()).then(|| mistakes.join("; "))
}

fn of_another_kind(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    if lower.starts_with("jdbc:") {
        return format!("is a JDBC URL: write {SHAPE}, user and password in front of the host");
    }
    if text.starts_with(['"', '\'']) {
        return format!("begins with a quotation mark, which is part of the value here: expected {SHAPE} without any");
    }
    if !text.contains("://") && ["host=", "dbname=", "user="].iter().any(|word| lower.contains(word)) {
        return format!("is a list of keywords: write it as {SHAPE}");
    }
    format!("expected {SHAPE}")
}

/// The sentence about a password that a URL ends too early.
fn cut_short(rest: &str) -> String {
    let Some((head, _)) = rest.rsplit_once('@') else {
        return "holds a #, behind which a URL says nothing to the database: write %23 for # in a password".into();
    };
    let password = head.split_once(':').map_or(head, |(_, password)| password);
    let escapes: Vec<String> = ESCAPES
        .iter()
        .filter(|(plain, _)| password.contains(*plain) || rest.contains('#') && *plain == '#')
        .map(|(plain, escape)| format!("{escape} for {plain}"))
        .collect();
    format!("the password holds a character at which a URL ends it: in the password write {}", escapes.join(", "))
}

/// What is wrong with host and port.
fn place(parts: &Parts<'_>) -> Option<String> {
    if parts.place.contains(',') {
        return Some("names several hosts; one is allowed".into());
    }
    let after_brackets = parts.place.rfind(']').map_or(parts.place, |at| parts.place.get(at..).unwrap_or_default());
    let (host, port) = match after_brackets.rsplit_once(':') {
        Some((_, port)) => (parts.place.get(..parts.place.len() - port.len() - 1).unwrap_or_default(), port),
        None => (parts.place, ""),
    };
    if host.is_empty() && (parts.credentials.is_some() || !port.is_empty()) {
        return Some(format!("names no host; expected {SHAPE}"));
    }
    if !port.is_empty() && !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Some("the port is no number from 1 to 65535".into());
    }
    let name = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match name {
        Some(name) => name.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.contains(['<', '>', '[', ']', '^', '|', '\\', ':', '"', '{', '}', '`']),
    };
    (!is_host).then(|| "the host is no name and no address".into())
}

/// What is wrong with user and password.
fn credentials(parts: &Parts<'_>) -> Option<String> {
    let is_text = |part: &str| String::from_utf8(decoded(part)).is_ok();
    let (user, password) = parts.credentials?.split_once(':').unwrap_or((parts.credentials?, ""));
    if !is_text(user) || !is_text(password) {
        return Some("user or password decode to no text: write %25 for %".into());
    }
    let is_placeholder = [("${", '}'), ("$(", ')'), ("<", '>')]
        .iter()
        .any(|(open, close)| password.starts_with(open) && password.ends_with(*close));
    is_placeholder.then(|| "the password is a placeholder that nothing has filled in".into())
}

/// What is wrong with the parameters.
fn parameters(parts: &Parts<'_>) -> Vec<String> {
    let mut mistakes = Vec::new();
    let (mut has_certificate, mut has_key) = (false, false);
    for (number, (name, value)) in parts.parameters().enumerate() {
        match name {
            "sslmode" | "ssl-mode" if !MODES.contains(&value) => {
                mistakes.push(format!("{name}: expected one of {}", MODES.join(", ")));
            }
            "port" if value.parse::<u16>().is_err() => mistakes.push("port: expected a number from 1 to 65535".into()),
            "statement-cache-capacity" if value.parse::<usize>().is_err() => {
                mistakes.push(format!("{name}: expected a whole number"));
            }
            "hostaddr" if value.parse::<std::net::IpAddr>().is_err() => {
                mistakes.push("hostaddr: expected an address".into());
            }
            "sslcert" | "ssl-cert" => has_certificate = true,
            "sslkey" | "ssl-key" => has_key = true,
            _ if is_known(name) => {}
            // Another name might be a piece of a password.
            _ => mistakes.push(match nearest(name, KNOWN) {
                Some(known) => format!("unknown parameter {name}; did you mean {known}?"),
                None => format!("parameter {} behind the ? is unknown; known are {}", number + 1, KNOWN.join(", ")),
            }),
        }
    }
    if has_certificate != has_key {
        mistakes.push("sslcert and sslkey: give both or none".into());
    }
    mistakes
}

/// The parameters that have no effect, by name.
pub(super) fn without_effect(text: &str) -> Vec<&str> {
    let Some(rest) = without_scheme(text) else { return Vec::new() };
    let names = Parts::cut(rest).parameters().map(|(name, _)| name).collect::<Vec<_>>();
    names.into_iter().filter(|name| WITHOUT_EFFECT.contains(name)).collect()
}

/// A sentence about a CA that is named and never asked; `None` where the server's certificate is checked, or no CA is named.
pub(super) fn unchecked(text: &str) -> Option<String> {
    let parts = Parts::cut(without_scheme(text)?);
    let value = |names: [&str; 3]| parts.parameters().find(|(name, _)| names.contains(name)).map(|(_, value)| value);
    value(["sslrootcert", "ssl-root-cert", "ssl-ca"])?;
    let mode = value(["sslmode", "ssl-mode", "sslmode"]).unwrap_or("prefer");
    let is_unchecked = !mode.starts_with("verify-");
    is_unchecked.then(|| format!("sslrootcert has no effect under sslmode={mode}: verify-full checks the certificate"))
}

/// The URL without the parameters that have no effect: the driver would log them with their values.
#[cfg(any(test, feature = "postgres"))]
pub(super) fn for_driver(text: &str) -> String {
    let Some((head, query)) = text.split_once('?') else { return text.into() };
    let name_of = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    let kept: Vec<_> = query.split('&').filter(|pair| !WITHOUT_EFFECT.contains(&name_of(pair).as_str())).collect();
    if kept.is_empty() { head.into() } else { format!("{head}?{}", kept.join("&")) }
}

/// The files that the URL names, each with its parameter.
pub(super) fn files(text: &str) -> Vec<(&str, String)> {
    let Some(rest) = without_scheme(text) else { return Vec::new() };
    let is_file = |name: &str| name.contains("cert") || name.contains("key") || name == "ssl-ca";
    let pairs: Vec<_> = Parts::cut(rest).parameters().collect();
    let path = |value: &str| String::from_utf8_lossy(&decoded(&value.replace('+', " "))).into_owned();
    pairs
        .into_iter()
        .filter(|(name, _)| is_known(name) && is_file(name))
        .map(|(name, value)| (name, path(value)))
        .collect()
}

/// Everything in the text that must not print, as it is written. Where the text is no URL, any of it may be the password.
pub(super) fn secrets(text: &str) -> Vec<&str> {
    let Some(rest) = without_scheme(text).filter(|_| mistake(text).is_none()) else { return vec![text] };
    let parts = Parts::cut(rest);
    let password = parts.credentials.and_then(|credentials| credentials.split_once(':')).map(|(_, password)| password);
    let is_public = |name: &str| KNOWN.contains(&name) && name != "password";
    let values = parts.parameters().filter(|(name, _)| !is_public(name)).map(|(_, value)| value);
    password.into_iter().chain(values).filter(|part| !part.is_empty()).collect()
}

/// The parts of a sound URL that may print: user, host and database.
pub(super) fn public(text: &str) -> Vec<&str> {
    let Some(rest) = without_scheme(text).filter(|_| mistake(text).is_none()) else { return Vec::new() };
    let parts = Parts::cut(rest);
    let user = parts.credentials.and_then(|credentials| credentials.split(':').next());
    let host = parts.place.rsplit_once(':').map_or(parts.place, |(host, _)| host);
    user.into_iter().chain([host, parts.path]).filter(|part| !part.is_empty()).collect()
}

/// The bytes that a text with percent signs stands for. A `%` without two digits behind it stands for itself.
pub(super) fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().iter();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        let digits = bytes.as_slice().get(..2).filter(|_| *byte == b'%');
        let value =
            digits.and_then(|digits| std::str::from_utf8(digits).ok()).filter(|digits| !digits.starts_with('+'));
        match value.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) => {
                out.push(value);
                bytes.nth(1);
            }
            None => out.push(*byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const CUT: &str = "the password holds a character at which a URL ends it: in the password write ";

    #[test]
    fn each_wrong_url_has_its_sentence() {
        let cases = [
            ("postgres://app:p#w@127.0.0.1/db", format!("{CUT}%23 for #")),
            ("postgres://app:/7M+r?E:dHz@127.0.0.1/db", format!("{CUT}%2F for /, %3F for ?")),
            ("postgres://app:p@ss/w@h/db", format!("{CUT}%2F for /, %40 for @")),
            ("postgres://app:p@ss?w@h/db", format!("{CUT}%3F for ?, %40 for @")),
            ("postgres://app@h/db?password=pa#ss", format!("{CUT}%23 for #")),
            ("postgres://app:p w@h/db", "holds a space or a line break; in a password write %20 for a space".into()),
            ("postgres://", format!("expected {SHAPE}")),
            ("mysql://h/db", format!("expected {SHAPE}")),
            ("jdbc:postgresql://h/db?user=u", format!("is a JDBC URL: write {SHAPE}, user and password in front of the host")),
            ("\"postgres://h/db\"", format!("begins with a quotation mark, which is part of the value here: expected {SHAPE} without any")),
            ("host=h user=u dbname=d", format!("is a list of keywords: write it as {SHAPE}")),
            ("postgres://u:p@h1:5432,h2:5432/db", "names several hosts; one is allowed".into()),
            ("postgres://u:p@/db", format!("names no host; expected {SHAPE}")),
            ("postgres://u:p@h:port/db", "the port is no number from 1 to 65535".into()),
            ("postgres://u:p@h:0/db", "the port is no number from 1 to 65535".into()),
            ("postgres://u:p@[::zz]/db", "the host is no name and no address".into()),
            ("postgres://u:p%FF@h/db", "user or password decode to no text: write %25 for %".into()),
            ("postgres://u:${DB_PASSWORD}@h/db", "the password is a placeholder that nothing has filled in".into()),
            ("postgres://u:$(DB_PASSWORD)@h/db", "the password is a placeholder that nothing has filled in".into()),
            ("postgres://h/db?sslmod=require", "unknown parameter sslmod; did you mean sslmode?".into()),
            ("postgres://h/db?sslmode=require&a%41b=1", format!("parameter 2 behind the ? is unknown; known are {}", KNOWN.join(", "))),
            ("postgres://h/db#x", "holds a #, behind which a URL says nothing to the database: write %23 for # in a password".into()),

            ("postgres://h/db?sslmode=full", "sslmode: expected one of disable, allow, prefer, require, verify-ca, verify-full".into()),
            ("postgres://h/db?sslcert=a", "sslcert and sslkey: give both or none".into()),
            ("postgres://h:x/db?sslmode=yes&port=y", "the port is no number from 1 to 65535; sslmode: expected one of disable, allow, prefer, require, verify-ca, verify-full; port: expected a number from 1 to 65535".into()),
        ];
        for (url, expected) in cases {
            assert_eq!(mistake(url).as_deref(), Some(expected.as_str()), "{url}");
        }
    }

    #[test]
    fn urls_in_use_are_none_of_them_wrong() {
        for url in [
            "",
            "postgres://h/db",
            "postgresql://u@h",
            "postgres://u:p@h:5432/db",
            "postgres://u:p@ss@h/db",
            "postgres://u:p%23%2F%3f@h/db",
            "postgres://u:100%@h/db",
            "postgres://u:p@[::1]:5432/db?sslmode=verify-full&sslrootcert=/etc/ca.pem",
            "postgres:///db?host=/var/run/postgresql",
            "postgres://u:p@%2Fvar%2Frun/db",
            "postgres://h/db?user=a@b&password=c@d",
            "postgres://h/db?options=-c%20search_path%3Dx&options[a]=b",
            "postgres://u:p@h/db?sslmode=require&channel_binding=require",
        ] {
            assert_eq!(mistake(url), None, "{url}");
        }
    }

    #[test]
    fn the_driver_gets_no_parameter_that_it_would_log() {
        let url = "postgres://u:p@h/db?sslpassword=canary&sslmode=require&connect_timeout=5";
        assert_eq!(without_effect(url), ["sslpassword", "connect_timeout"]);
        assert_eq!(for_driver(url), "postgres://u:p@h/db?sslmode=require");
        assert_eq!(for_driver("postgres://h/db?sslpassword=canary"), "postgres://h/db");
        assert_eq!(for_driver("postgres://h/db"), "postgres://h/db");
    }

    #[test]
    fn a_ca_that_is_never_asked_is_told() {
        let told =
            |mode: &str| format!("sslrootcert has no effect under sslmode={mode}: verify-full checks the certificate");
        assert_eq!(unchecked("postgres://h/db?sslrootcert=a"), Some(told("prefer")));
        assert_eq!(unchecked("postgres://h/db?sslmode=require&sslrootcert=a"), Some(told("require")));
        assert_eq!(unchecked("postgres://h/db?sslmode=verify-ca&sslrootcert=a"), None);
        assert_eq!(unchecked("postgres://h/db?sslmode=require"), None);
    }

    #[test]
    fn the_secret_parts_are_told_from_the_public_ones() {
        let url = "postgres://app:p%23w@h:5432/db?password=a&sslpassword=b&sslmode=require";
        assert_eq!(secrets(url), ["p%23w", "a", "b"]);
        assert_eq!(public(url), ["app", "h", "db"]);
        let broken = "postgres://app:p#w@h/db";
        assert_eq!(secrets(broken), [broken]);
        assert_eq!(public(broken), Vec::<&str>::new());
        assert_eq!(secrets("postgres://app@h/db"), Vec::<&str>::new());
    }

    #[test]
    fn a_percent_sign_stands_for_itself_unless_two_digits_follow() {
        assert_eq!(decoded("a%41%4%zz%+1%"), b"aA%4%zz%+1%");
    }

    #[test]
    fn files_of_the_url_are_known_by_their_parameters() {
        let url = "postgres://h/db?sslrootcert=%2Fa+b.pem&sslcert=c&sslkey=k&sslmode=require";
        let expected = [("sslrootcert", "/a b.pem"), ("sslcert", "c"), ("sslkey", "k")];
        assert_eq!(files(url), expected.map(|(name, path)| (name, path.to_owned())));
    }
}
