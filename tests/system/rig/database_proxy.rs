//! A proxy that knows PostgreSQL's messages: a rule of the test's decides the fate of each exchange.
//!
//! A connection has two threads, one for each direction. The server answers a connection's exchanges in their order,
//! each answer ending with `ReadyForQuery`, so a queue holds the fate of each.

use super::message::{Exchange, Exchanges, Message};
use std::collections::VecDeque;
use std::io::{Read as _, Result, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// An error that the server never sent.
#[derive(Clone, Debug)]
pub struct Forged {
    pub severity: &'static str,
    pub sqlstate: String,
}

/// The fate of an exchange.
pub enum Action {
    Forward,
    /// The server never sees it; both lose their connection.
    Cut,
    /// The server carries it out; then both lose their connection, and the client has no answer.
    Withhold,
    /// The server does not see it for so long; then the client loses its connection, and the server keeps its end.
    Hold(Duration),
    /// The client loses its connection; so much later the server sees it on the connection that it has kept.
    Late(Duration),
    /// It is lost, and so is whatever follows in both directions: nobody's connection ends.
    Silence,
    /// The server never sees it; the client gets this answer.
    Refuse(Forged),
    /// The server carries it out; the client gets this answer.
    Replace(Forged),
}

/// Sees every exchange before the server does, one at a time.
type Rule = Box<dyn FnMut(&Exchange) -> Action + Send>;

/// The fate of an answer.
enum Sequel {
    Pass,
    Withhold,
    Replace(Forged),
}

/// A connection of a client, and the one to the server that belongs to it.
struct Connection {
    client: TcpStream,
    server: TcpStream,
    sequels: Mutex<VecDeque<Sequel>>,
    is_silent: AtomicBool,
}

/// The remains of a connection whose client is gone.
enum End {
    /// The server's end goes too.
    Both,
    /// The server keeps its end until its own limits say otherwise.
    ClientOnly,
}

impl Connection {
    fn ask(&self, exchange: &Exchange, sequel: Sequel) -> Result<()> {
        self.sequels.lock().unwrap_or_else(PoisonError::into_inner).push_back(sequel);
        (&self.server).write_all(&exchange.bytes)
    }

    /// Until the client is gone, or is not to be heard any more.
    fn requests(&self, number: usize, rule: &Mutex<Rule>) -> Result<End> {
        let mut exchanges = Exchanges::new(number);
        loop {
            let exchange = exchanges.next(&self.client)?;
            // A rule that panicked is the test's failure; the connections go on.
            let action = rule.lock().unwrap_or_else(PoisonError::into_inner)(&exchange);
            match action {
                Action::Forward => self.ask(&exchange, Sequel::Pass)?,
                Action::Cut => return Ok(End::Both),
                Action::Withhold => self.ask(&exchange, Sequel::Withhold)?,
                Action::Hold(during) => {
                    std::thread::sleep(during);
                    return Ok(End::ClientOnly);
                }
                Action::Late(by) => {
                    self.client.shutdown(Shutdown::Both)?;
                    std::thread::sleep(by);
                    self.ask(&exchange, Sequel::Pass)?;
                    return Ok(End::ClientOnly);
                }
                Action::Silence => {
                    self.is_silent.store(true, Ordering::Release);
                    let _ = (&self.client).read_to_end(&mut Vec::new()); // until it has given up
                    return Ok(End::ClientOnly);
                }
                Action::Refuse(forged) => self.answer(&forged)?,
                Action::Replace(forged) => self.ask(&exchange, Sequel::Replace(forged))?,
            }
        }
    }

    fn answer(&self, forged: &Forged) -> Result<()> {
        let [error, ready] = Message::error(forged.severity, &forged.sqlstate).map(|message| message.bytes());
        (&self.client).write_all(&error)?;
        if forged.severity == "ERROR" { (&self.client).write_all(&ready) } else { self.client.shutdown(Shutdown::Both) }
    }

    fn answers(&self) -> Result<()> {
        loop {
            let message = Message::read(&mut &self.server)?;
            if self.is_silent.load(Ordering::Acquire) {
                continue;
            }
            let mut sequels = self.sequels.lock().unwrap_or_else(PoisonError::into_inner);
            let is_last = message.kind == b'Z';
            match sequels.front() {
                // Also what the server says by itself. A client that is gone misses it.
                None | Some(Sequel::Pass) => drop((&self.client).write_all(&message.bytes())),
                Some(Sequel::Withhold) if is_last => return Ok(()),
                Some(Sequel::Replace(forged)) if is_last => self.answer(forged)?,
                Some(Sequel::Withhold | Sequel::Replace(_)) => {}
            }
            if is_last {
                sequels.pop_front();
            }
        }
    }
}

/// The connections whose server's end is still open though the client is gone.
type Orphans = Mutex<Vec<Arc<Connection>>>;

/// In front of one server.
pub struct DatabaseProxy {
    pub url: String,
    address: String,
    rule: Arc<Mutex<Rule>>,
    orphans: Arc<Orphans>,
    is_over: Arc<AtomicBool>,
}

impl DatabaseProxy {
    /// Listens at a free port and leads to the server of `url`.
    pub fn start(url: &str) -> Self {
        let at = url.find('@').unwrap() + 1;
        let to = url[at..].split('/').next().unwrap().to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let all: Rule = Box::new(|_| Action::Forward);
        let proxy = Self {
            url: url.replace(&to, &address),
            address,
            rule: Arc::new(Mutex::new(all)),
            orphans: Arc::default(),
            is_over: Arc::default(),
        };
        let (rule, orphans, is_over) =
            (Arc::clone(&proxy.rule), Arc::clone(&proxy.orphans), Arc::clone(&proxy.is_over));
        std::thread::spawn(move || {
            for (number, client) in listener.incoming().enumerate() {
                if is_over.load(Ordering::Acquire) {
                    return;
                }
                // A server that is away refuses, and so does its proxy.
                let _ = client.and_then(|client| serve(client, &to, number, &rule, &orphans));
            }
        });
        proxy
    }

    /// From now on each exchange is `rule`'s.
    pub fn rule(&self, rule: impl FnMut(&Exchange) -> Action + Send + 'static) {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(rule);
    }

    /// From now on each exchange goes on, and sessions that the server has kept of earlier connections end.
    pub fn open(&self) {
        self.rule(|_| Action::Forward);
        for orphan in self.orphans.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = orphan.server.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for DatabaseProxy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        let _ = TcpStream::connect(&self.address); // the listener looks up
    }
}

fn serve(client: TcpStream, to: &str, number: usize, rule: &Arc<Mutex<Rule>>, orphans: &Arc<Orphans>) -> Result<()> {
    let server = TcpStream::connect(to)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let connection =
        Arc::new(Connection { client, server, sequels: Mutex::default(), is_silent: AtomicBool::new(false) });
    let (there, rule, orphans) = (Arc::clone(&connection), Arc::clone(rule), Arc::clone(orphans));
    std::thread::spawn(move || {
        let end = there.requests(number, &rule).unwrap_or(End::Both);
        let _ = there.client.shutdown(Shutdown::Both);
        match end {
            End::Both => drop(there.server.shutdown(Shutdown::Both)),
            End::ClientOnly => orphans.lock().unwrap_or_else(PoisonError::into_inner).push(there),
        }
    });
    std::thread::spawn(move || {
        let _ = connection.answers();
        if !connection.is_silent.load(Ordering::Acquire) {
            let _ = connection.client.shutdown(Shutdown::Both);
        }
        let _ = connection.server.shutdown(Shutdown::Both);
    });
    Ok(())
}
