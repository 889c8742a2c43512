//! A plain HTTP/1.1 GET to another instance, and how texts are spelt in its path.

use crate::ports::Clock as _;
use crate::ports::clock::SystemClock;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Names the pipeline that answers, so that nobody takes the answer of another one for its own.
pub const PIPELINE: &str = "x-tidegate-pipeline";

/// Larger answers are refused: a page of a store has its own, lower bound.
const BYTES_MAX: usize = 64 << 20;

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// The pipeline, where Tidegate answered.
    pub pipeline: Option<String>,
    /// The body.
    pub body: String,
}

/// Asks `address` (`host:port`) for `path`, with these headers. Blocks for at most `within`, from the connection to the last byte.
///
/// # Errors
/// What the socket said; `InvalidInput` where a header has a control character; `InvalidData` where the answer is no HTTP; `TimedOut` where it is not whole in time.
pub fn get(address: &str, path: &str, headers: &[(&str, &str)], within: Duration) -> io::Result<Answer> {
    let (clock, mut failure) =
        (SystemClock::default(), io::Error::new(ErrorKind::NotFound, format!("{address} is no address")));
    for place in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&place, left(&clock, within)?) {
            Ok(stream) => return ask(stream, &place.to_string(), path, headers, (&clock, within)),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// What is left of the time.
fn left(clock: &SystemClock, within: Duration) -> io::Result<Duration> {
    let left = within.saturating_sub(clock.elapsed());
    if left.is_zero() { Err(ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn ask(
    mut stream: TcpStream,
    host: &str,
    path: &str,
    headers: &[(&str, &str)],
    (clock, within): (&SystemClock, Duration),
) -> io::Result<Answer> {
    stream.set_write_timeout(Some(left(clock, within)?))?;
    if headers.iter().any(|(_, value)| value.contains(char::is_control)) {
        return Err(io::Error::new(ErrorKind::InvalidInput, "a header has a control character"));
    }
    let headers = headers.iter().fold(String::new(), |text, (name, value)| format!("{text}{name}: {value}\r\n"));
    // The server closes the connection, so that the body ends with it.
    let question = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(question.as_bytes())?;
    let (mut bytes, mut piece) = (Vec::new(), [0; 16 << 10]);
    while bytes.len() < BYTES_MAX {
        stream.set_read_timeout(Some(left(clock, within)?))?;
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(piece.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // So a socket says that its time is over.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Err(ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
    }
    read(bytes).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "the answer is no HTTP of Tidegate's"))
}

/// Takes an answer apart; `None` for what is no HTTP, or no UTF-8.
fn read(bytes: Vec<u8>) -> Option<Answer> {
    let text = String::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    let pipeline = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case(PIPELINE).then(|| value.trim().to_owned())
    });
    Some(Answer { code, pipeline, body: body.to_owned() })
}

/// A text as one segment of a path, or as a value of a query: everything but letters, digits, `-`, `.`, `_` and `~` as
/// `%` and two hexadecimal digits.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let hex = |digit: u8| char::from_digit(digit.into(), 16).unwrap_or('0').to_ascii_uppercase();
            out.extend(['%', hex(byte >> 4), hex(byte & 0xf)]);
        }
    }
    out
}

/// Undoes [`encode`]; a plus sign is a space, as forms send it. `None` for what is no UTF-8 then.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match byte {
            b'%' => {
                let (digits, after) = rest.split_first_chunk::<2>()?;
                out.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
                rest = after;
            }
            b'+' => out.push(b' '),
            byte => out.push(*byte),
        }
    }
    String::from_utf8(out).ok()
}

/// Reads `name=value&…`; no other names than `known` are taken.
pub(super) fn parameters(query: &str, known: &[&str]) -> Result<BTreeMap<String, String>, String> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !known.contains(&name) {
            return Err(format!("{name}: unknown; there are {}", known.join(", ")));
        }
        let value = decode(value).ok_or_else(|| format!("{name}: no UTF-8 text in % notation"))?;
        Ok((name.to_owned(), value))
    };
    query.split('&').filter(|pair| !pair.is_empty()).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_its_pipeline_whatever_the_case_of_the_header_is() {
        let answer = |text: &str| read(text.as_bytes().to_vec());
        let found = answer("HTTP/1.1 404 Not Found\r\nX-Tidegate-Pipeline: usage\r\n\r\n{}").unwrap();
        assert_eq!(found, Answer { code: 404, pipeline: Some("usage".into()), body: "{}".into() });
        assert_eq!(answer("HTTP/1.0 200 OK\r\nServer: another\r\n\r\n").unwrap().pipeline, None);
        assert_eq!([answer(""), answer("SSH-2.0-OpenSSH\r\n\r\n")], [None, None]);
    }

    #[test]
    fn an_answer_that_comes_drop_by_drop_is_waited_for_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let slow = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let error = get(&address, "/", &[], Duration::from_millis(200)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
        slow.join().unwrap();
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        for text in ["ada", "a/b?c=d&e", "späti 100%", "+", ""] {
            assert_eq!(decode(&encode(text)).as_deref(), Some(text));
        }
        assert_eq!(encode("a/ü"), "a%2F%C3%BC");
        assert_eq!(decode("a+b").as_deref(), Some("a b"));
        assert_eq!((decode("%f"), decode("%zz"), decode("%ff")), (None, None, None));
    }
}
