//! A proxy that knows Kafka's frames: a rule of the test's decides what becomes of each request.
//!
//! Each broker sends the clients of its second listener here (`kafka.sh`, `KAFKA_PROXIED`), so no answer is rewritten. A
//! connection has two threads, one for each direction. A broker answers a connection's requests in their order, so a queue
//! says what becomes of each answer.

use super::frame::{Request, framed, read};
use bytes::Bytes;
use kafka_protocol::protocol::Decodable;
use std::collections::VecDeque;
use std::io::{Result, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What becomes of a request.
pub enum Deed {
    /// It goes on, as it is or changed.
    Forward(Request),
    /// The broker never sees it, and the client waits.
    Drop,
    /// The broker never sees it, unless the test holds it; the client loses its connection, the broker keeps it.
    Cut,
}

/// Sees every request before the broker does, one at a time.
type Rule = Box<dyn FnMut(Request, &Line) -> Deed + Send>;

/// What becomes of an answer.
enum Sequel {
    Pass,
    Tell(Sender<Bytes>),
}

/// A connection of a client, and the one to the broker that belongs to it.
struct Connection {
    client: TcpStream,
    broker: TcpStream,
    sequels: Mutex<VecDeque<Sequel>>,
}

/// Where a request came in.
pub struct Line(Arc<Connection>);

impl Line {
    /// Keeps `request` for later. The rule answers [`Deed::Cut`] then, or [`Deed::Drop`].
    pub fn hold(&self, request: Request) -> Held {
        Held { connection: Arc::clone(&self.0), request }
    }
}

/// A request that the broker has not seen yet, though the connection on which it came is open there.
pub struct Held {
    connection: Arc<Connection>,
    pub request: Request,
}

impl Held {
    /// Lets the broker have it; its answer, of which the client never hears.
    pub fn release<T: Decodable>(self) -> T {
        let (tell, told) = channel();
        self.connection.ask(&self.request, Sequel::Tell(tell)).unwrap();
        let answer = told.recv_timeout(Duration::from_secs(10)).expect("the broker answers what was held");
        self.request.answer(answer)
    }

    /// Lets the broker have it, and the client the answer; whether the broker's connection is still there.
    pub fn deliver(self) -> bool {
        self.connection.ask(&self.request, Sequel::Pass).is_ok()
    }
}

impl Connection {
    fn ask(&self, request: &Request, sequel: Sequel) -> Result<()> {
        self.sequels.lock().unwrap_or_else(PoisonError::into_inner).push_back(sequel);
        (&self.broker).write_all(&framed(&request.frame()))
    }

    fn requests(self: &Arc<Self>, rule: &Mutex<Rule>) -> Result<()> {
        let line = Line(Arc::clone(self));
        loop {
            let request = Request::parse(&read(&mut &self.client)?);
            // A rule that panicked is the test's failure; the connections go on.
            let deed = rule.lock().unwrap_or_else(PoisonError::into_inner)(request, &line);
            match deed {
                Deed::Forward(request) => self.ask(&request, Sequel::Pass)?,
                Deed::Drop => {}
                Deed::Cut => return self.client.shutdown(Shutdown::Both),
            }
        }
    }

    fn answers(&self) -> Result<()> {
        loop {
            let frame = read(&mut &self.broker)?;
            let sequel = self.sequels.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            match sequel.expect("no answer without a request") {
                // A client that is gone misses its answers; what is held still needs this thread.
                Sequel::Pass => drop((&self.client).write_all(&framed(&frame))),
                Sequel::Tell(tell) => drop(tell.send(frame)),
            }
        }
    }
}

/// The listeners of all brokers.
pub struct Proxy {
    pub bootstrap: String,
    rule: Arc<Mutex<Rule>>,
    is_over: Arc<AtomicBool>,
}

impl Proxy {
    /// Listens at the first address of each pair and leads to the second.
    pub fn start(brokers: &[(String, String)]) -> Self {
        let addresses: Vec<&str> = brokers.iter().map(|(at, _)| at.as_str()).collect();
        let all: Rule = Box::new(|request, _| Deed::Forward(request));
        let proxy = Self {
            bootstrap: addresses.join(","),
            rule: Arc::new(Mutex::new(all)),
            is_over: Arc::new(AtomicBool::new(false)),
        };
        for (at, to) in brokers {
            let listener = TcpListener::bind(at).unwrap();
            let (to, rule, is_over) = (to.clone(), Arc::clone(&proxy.rule), Arc::clone(&proxy.is_over));
            std::thread::spawn(move || {
                for client in listener.incoming() {
                    if is_over.load(Ordering::Acquire) {
                        return;
                    }
                    // A broker that is away refuses, and so does its proxy.
                    let _ = client.and_then(|client| serve(client, &to, &rule));
                }
            });
        }
        proxy
    }

    /// From now on each request is `rule`'s.
    pub fn rule(&self, rule: impl FnMut(Request, &Line) -> Deed + Send + 'static) {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(rule);
    }

    /// From now on each request goes on.
    pub fn open(&self) {
        self.rule(|request, _| Deed::Forward(request));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        for address in self.bootstrap.split(',') {
            let _ = TcpStream::connect(address); // the listener looks up
        }
    }
}

fn serve(client: TcpStream, to: &str, rule: &Arc<Mutex<Rule>>) -> Result<()> {
    let broker = TcpStream::connect(to)?;
    client.set_nodelay(true)?;
    broker.set_nodelay(true)?;
    let connection = Arc::new(Connection { client, broker, sequels: Mutex::default() });
    let (there, rule) = (Arc::clone(&connection), Arc::clone(rule));
    std::thread::spawn(move || match there.requests(&rule) {
        Ok(()) => {} // cut by the rule: the broker keeps its end
        Err(_) => drop(there.broker.shutdown(Shutdown::Both)),
    });
    std::thread::spawn(move || {
        let _ = connection.answers();
        let _ = connection.client.shutdown(Shutdown::Both);
    });
    Ok(())
}
