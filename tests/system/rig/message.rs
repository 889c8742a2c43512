//! Messages of PostgreSQL's protocol as they stand on the wire, and the messages that a client sends before it waits
//! for an answer.

use std::collections::HashMap;
use std::io::{Error, Read, Result, Write as _};

/// `SSLRequest` and `GSSENCRequest`, which stand where the version of the protocol stands in a startup message.
const ENCRYPTION: [i32; 2] = [80_877_103, 80_877_104];

/// A type, a length that counts itself, a body.
pub(super) struct Message {
    pub(super) kind: u8,
    body: Vec<u8>,
}

impl Message {
    /// Reads one; an error at the end of the stream too.
    pub(super) fn read(from: &mut impl Read) -> Result<Self> {
        let mut kind = [0];
        from.read_exact(&mut kind)?;
        Ok(Self { kind: kind[0], body: body(from)? })
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        framed(&[self.kind], &self.body)
    }

    /// The server's messages when a statement has failed in an open transaction. Without the second message a session
    /// ends there.
    pub(super) fn error(severity: &str, sqlstate: &str) -> [Self; 2] {
        let fields = [("S", severity), ("V", severity), ("C", sqlstate), ("M", "a test says so")]
            .map(|(name, value)| format!("{name}{value}\0"));
        let error = Self { kind: b'E', body: (fields.concat() + "\0").into_bytes() };
        [error, Self { kind: b'Z', body: b"E".to_vec() }]
    }

    /// The text at the start of the body, and the bytes behind it.
    fn text(&self) -> (String, &[u8]) {
        text(&self.body)
    }
}

fn text(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap();
    (String::from_utf8(bytes[..end].to_vec()).unwrap(), &bytes[end + 1..])
}

fn body(from: &mut impl Read) -> Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length)).map_err(Error::other)?;
    let mut body = vec![0; length.checked_sub(4).ok_or_else(|| Error::other("a length that does not count itself"))?];
    from.read_exact(&mut body)?;
    Ok(body)
}

fn framed(kind: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = kind.to_vec();
    out.extend_from_slice(&i32::try_from(body.len() + 4).unwrap().to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// The purpose of an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// The first message of a connection.
    Connect,
    /// A statement is parsed, and kept under a name or not.
    Prepare,
    /// A statement is run: in a message of its own, or one that was prepared.
    Run,
    /// Passwords, farewells.
    Other,
}

/// All that a client sends before it waits for the server.
pub struct Exchange {
    /// Which connection of the proxy's, counted from 0.
    pub connection: usize,
    pub purpose: Purpose,
    /// The statement that is prepared or run.
    pub sql: String,
    /// The statements that this transaction has run before.
    pub earlier: Vec<String>,
    pub(super) bytes: Vec<u8>,
}

impl Exchange {
    /// Whether these bytes, for instance a parameter's, are in it.
    pub fn contains(&self, part: &[u8]) -> bool {
        self.bytes.windows(part.len()).any(|bytes| bytes == part)
    }
}

/// Takes a client's bytes apart.
pub(super) struct Exchanges {
    connection: usize,
    has_begun: bool,
    /// By name.
    prepared: HashMap<String, String>,
    transaction: Vec<String>,
}

impl Exchanges {
    pub(super) fn new(connection: usize) -> Self {
        Self { connection, has_begun: false, prepared: HashMap::new(), transaction: Vec::new() }
    }

    /// The next one; a wish for encryption is declined on `client`.
    pub(super) fn next(&mut self, mut client: &std::net::TcpStream) -> Result<Exchange> {
        while !self.has_begun {
            let body = body(&mut client)?;
            let version = body.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
            if version.is_some_and(|version| ENCRYPTION.contains(&version)) {
                client.write_all(b"N")?;
                continue;
            }
            self.has_begun = true;
            return Ok(self.exchange(Purpose::Connect, String::new(), framed(&[], &body)));
        }
        let (mut purpose, mut sql, mut bytes) = (Purpose::Other, String::new(), Vec::new());
        loop {
            let message = Message::read(&mut client)?;
            bytes.extend(message.bytes());
            match message.kind {
                b'P' => {
                    let (name, rest) = message.text();
                    (purpose, sql) = (Purpose::Prepare, text(rest).0);
                    self.prepared.insert(name, sql.clone());
                }
                b'B' => {
                    let name = text(message.text().1).0;
                    (purpose, sql) = (Purpose::Run, self.prepared[&name].clone());
                }
                b'Q' => return Ok(self.exchange(Purpose::Run, message.text().0, bytes)),
                b'S' | b'X' | b'p' => return Ok(self.exchange(purpose, sql, bytes)),
                _ => {}
            }
        }
    }

    fn exchange(&mut self, purpose: Purpose, sql: String, bytes: Vec<u8>) -> Exchange {
        if sql.starts_with("BEGIN") {
            self.transaction.clear();
        }
        let earlier = self.transaction.clone();
        if purpose == Purpose::Run {
            self.transaction.push(sql.clone());
        }
        Exchange { connection: self.connection, purpose, sql, earlier, bytes }
    }
}
