//! The question about a store in a request's path and parameters, and spelt for another instance.

use super::client;
use crate::engine::query::{Keys, Span, Wanted, from_hex, to_hex};

/// Entries of an answer, unless the question says otherwise; and the most that may be asked for.
const LIMIT: usize = 100;
pub(super) const LIMIT_MAX: usize = 10_000;

/// The parameters of a question for many keys, and of one for a key.
pub(super) const MANY: &[&str] = &["prefix", "first", "last", "since", "until", "limit", "from", "size"];
pub(super) const ONE: &[&str] = &["since", "until"];

/// The parameters of a question.
pub(super) struct Asked {
    prefix: Option<String>,
    first: Option<String>,
    last: Option<String>,
    pub(super) span: Span,
    limit: usize,
    from: Option<Vec<u8>>,
    is_size: bool,
}

impl Asked {
    /// Reads `name=value&…`; no other names than `known` are taken.
    pub(super) fn read(query: &str, known: &[&str]) -> Result<Self, String> {
        let (prefix, first, last, from, span) = (None, None, None, None, Span::default());
        let mut asked = Self { prefix, first, last, span, limit: LIMIT, from, is_size: false };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = client::decode(value).ok_or_else(|| format!("{name}: no UTF-8 text in % notation"))?;
            if !known.contains(&name) {
                return Err(format!("{name}: unknown; there are {}", known.join(", ")));
            }
            match name {
                "prefix" => asked.prefix = Some(value),
                "first" => asked.first = Some(value),
                "last" => asked.last = Some(value),
                "since" => asked.span.since_ms = Some(instant(name, &value)?),
                "until" => asked.span.until_ms = Some(instant(name, &value)?),
                "limit" => {
                    let number = value.parse().ok().filter(|n| (1..=LIMIT_MAX).contains(n));
                    asked.limit =
                        number.ok_or_else(|| format!("limit: expected a whole number from 1 to {LIMIT_MAX}"))?;
                }
                "from" => {
                    asked.from = Some(from_hex(&value).ok_or("from: expected what the answer before gave as next")?);
                }
                _ => asked.is_size = value == "true",
            }
        }
        let Span { since_ms, until_ms } = asked.span;
        if since_ms.zip(until_ms).is_some_and(|(since, until)| since >= until) {
            return Err("since is to lie before until, which is not included".into());
        }
        Ok(asked)
    }

    /// The question for many keys, and how many may be told.
    pub(super) fn many(self) -> Result<(Wanted, usize), String> {
        let Self { prefix, first, last, span, limit, from, is_size } = self;
        if is_size {
            return Ok((Wanted::Size, limit));
        }
        let is_range = first.is_some() || last.is_some();
        let keys = match prefix {
            Some(prefix) if is_range && !prefix.is_empty() => {
                return Err(format!("prefix ({prefix}): ask for keys that begin so, or for those from first to last"));
            }
            _ if is_range => Keys::Range { first, last },
            prefix => Keys::Prefix(prefix.unwrap_or_default()),
        };
        Ok((Wanted::Many { keys, span, from, count_max: limit }, limit))
    }
}

/// Milliseconds since 1970, or a date and time as RFC 3339 spells it.
fn instant(name: &str, text: &str) -> Result<i64, String> {
    let of_date = || {
        let date = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
        i64::try_from(date.unix_timestamp_nanos().div_euclid(1_000_000)).ok()
    };
    text.parse().ok().or_else(of_date).ok_or_else(|| {
        format!("{name}: expected milliseconds since 1970, or a time as in 2026-11-30T08:00:00Z, and not {text:?}")
    })
}

/// The question as another instance understands it: `limit` entries at most.
pub(super) fn path(store: &str, wanted: &Wanted, limit: usize) -> String {
    let store = client::encode(store);
    let parameter = |name: &str, value: Option<String>| value.map(|value| format!("{name}={}", client::encode(&value)));
    let of_span = |span: &Span| {
        [("since", span.since_ms), ("until", span.until_ms)]
            .map(|(name, ms)| parameter(name, ms.map(|ms| ms.to_string())))
    };
    let (path, parameters) = match wanted {
        Wanted::Key { key, span } => (format!("/stores/{store}/{}", client::encode(key)), of_span(span).to_vec()),
        Wanted::Many { keys, span, from, .. } => {
            let (prefix, first, last) = match keys {
                Keys::Prefix(prefix) => (Some(prefix.clone()), None, None),
                Keys::Range { first, last } => (None, first.clone(), last.clone()),
            };
            let keys = [("prefix", prefix), ("first", first), ("last", last), ("limit", Some(limit.to_string()))];
            let keys = keys.into_iter().chain([("from", from.as_deref().map(to_hex))]);
            let keys = keys.map(|(name, value)| parameter(name, value));
            (format!("/stores/{store}"), keys.chain(of_span(span)).collect())
        }
        Wanted::Size => (format!("/stores/{store}"), vec![Some("size=true".into())]),
    };
    let parameters: Vec<String> = parameters.into_iter().flatten().collect();
    if parameters.is_empty() { path } else { format!("{path}?{}", parameters.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_keys_windows_limit_or_size() {
        let wanted = |query: &str| Asked::read(query, MANY).and_then(Asked::many);
        let many = |keys, span, from: Option<&[u8]>, count_max| Wanted::Many {
            keys,
            span,
            from: from.map(Into::into),
            count_max,
        };
        let prefix =
            |prefix: &str, from, count_max| many(Keys::Prefix(prefix.into()), Span::default(), from, count_max);
        assert_eq!(wanted(""), Ok((prefix("", None, 100), 100)));
        assert_eq!(wanted("prefix=a%2Fb&limit=5"), Ok((prefix("a/b", None, 5), 5)));
        assert_eq!(wanted("from=61ff").unwrap().0, prefix("", Some(&[0x61, 0xff]), 100));
        assert_eq!(wanted("size=true").unwrap().0, Wanted::Size);
        let range = |first: Option<&str>, last: Option<&str>| Keys::Range {
            first: first.map(Into::into),
            last: last.map(Into::into),
        };
        assert_eq!(wanted("first=-7").unwrap().0, many(range(Some("-7"), None), Span::default(), None, 100));
        let span = Span { since_ms: Some(60_000), until_ms: Some(1_000) };
        let asked = wanted("last=b&since=1970-01-01T01:01:00%2B01:00&until=90000").unwrap().0;
        assert_eq!(asked, many(range(None, Some("b")), Span { until_ms: Some(90_000), ..span }, None, 100));
        for wrong in [
            "limit=0",
            "limit=10001",
            "limit=x",
            "prefix=%ff",
            "prefx=a",
            "from=6",
            "from=0x61",
            "since=now",
            "prefix=a&last=b",
            "since=2&until=2",
        ] {
            assert!(wanted(wrong).is_err(), "{wrong}");
        }
        assert!(Asked::read("prefix=a", ONE).is_err() && Asked::read("since=1", ONE).is_ok());
    }
}
