//! A plain HTTP/1.1 GET to another instance, and how texts are spelt in its path.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Larger answers are refused: a page of a store has its own, lower bound.
const BYTES_MAX: u64 = 64 << 20;

/// Asks `address` (`host:port`) for `path`; answers the status code and the body. Blocks, at most `wait` for each step.
///
/// # Errors
/// What the socket said; `InvalidData` where the answer is no HTTP.
pub fn get(address: &str, path: &str, header: Option<(&str, &str)>, wait: Duration) -> io::Result<(u16, String)> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, format!("{address} is no address"));
    for place in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&place, wait) {
            Ok(stream) => return ask(stream, address, path, header, wait),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn ask(
    mut stream: TcpStream,
    host: &str,
    path: &str,
    header: Option<(&str, &str)>,
    wait: Duration,
) -> io::Result<(u16, String)> {
    stream.set_read_timeout(Some(wait))?;
    stream.set_write_timeout(Some(wait))?;
    let header = header.map_or_else(String::new, |(name, value)| format!("{name}: {value}\r\n"));
    // The server closes the connection, so that the body ends with it.
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{header}\r\n")?;
    let mut answer = String::new();
    stream.take(BYTES_MAX).read_to_string(&mut answer)?;
    let invalid = || io::Error::new(io::ErrorKind::InvalidData, "the answer is no HTTP of Tidegate's");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(invalid)?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(invalid)?;
    Ok((code, body.to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;

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
