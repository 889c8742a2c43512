//! A proxy that knows Kafka's frames: a rule of the test's decides the fate of each request.
//!
//! Each broker sends the clients of its second listener here (`kafka.sh`, `KAFKA_PROXIED`), so no answer is rewritten.
//! A connection has two threads, one for each direction. A broker answers a connection's requests in their order, so a
//! queue holds the fate of each answer.

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

/// The fate of a request.
pub enum Action {
    /// It goes on, as it is or changed.
    Forward(Request),
    /// It goes on, and its answer meets this fate; the test gets the answer.
    Ask(Request, Fate, Sender<Bytes>),
    /// The broker never sees it, and the client is answered in its place.
    Answer(Bytes),
    /// The broker never sees it, and the client waits.
    Drop,
    /// The broker never sees it and the client loses its connection. Where the test holds it, the broker keeps its end.
    Cut,
}

/// The fate of an answer.
#[derive(Clone, Copy)]
pub enum Fate {
    Pass,
    /// The client never gets it.
    Lose,
    /// The client loses its connection in its place.
    Cut,
    /// The client loses its connection when it has read a half.
    Halve,
}

/// Sees every request before the broker does, one at a time.
type Rule = Box<dyn FnMut(Request, &Line) -> Action + Send>;

/// An answer's fate, and the receiver of the answer.
type Sequel = (Fate, Option<Sender<Bytes>>);

/// A connection of a client, and the one to the broker that belongs to it.
struct Connection {
    client: TcpStream,
    /// Answers come from both threads.
    telling: Mutex<()>,
    broker: TcpStream,
    sequels: Mutex<VecDeque<Sequel>>,
    has_client_left: AtomicBool,
    is_held: AtomicBool,
}

/// The connection on which a request came in.
#[derive(Clone)]
pub struct Line(Arc<Connection>);

impl Line {
    /// Keeps `request` for later. The rule answers [`Action::Cut`] then, or [`Action::Drop`].
    pub fn hold(&self, request: Request) -> Held {
        self.0.is_held.store(true, Ordering::SeqCst);
        Held { connection: Arc::clone(&self.0), request }
    }

    /// Whether the client has given the connection up, or lost it.
    pub fn has_client_left(&self) -> bool {
        self.0.has_client_left.load(Ordering::SeqCst)
    }

    /// The client loses its connection.
    pub fn cut(&self) {
        let _ = self.0.client.shutdown(Shutdown::Both);
    }
}

/// A request that the broker has not seen yet. The connection on which it came stays open there, also when the client has
/// left.
pub struct Held {
    connection: Arc<Connection>,
    pub request: Request,
}

impl Held {
    /// Lets the broker have it; its answer, of which the client never hears.
    pub fn release<T: Decodable>(self) -> T {
        let answer = self.ask(Fate::Lose).expect("the broker answers what was held");
        self.request.answer(answer)
    }

    /// Lets the broker have it, and the client the answer if it is still there; whether there was one within 10 s.
    pub fn deliver(self) -> bool {
        self.ask(Fate::Pass).is_some()
    }

    fn ask(&self, fate: Fate) -> Option<Bytes> {
        let (tell, told) = channel();
        self.connection.ask(&self.request, (fate, Some(tell))).unwrap();
        told.recv_timeout(Duration::from_secs(10)).ok()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.connection.is_held.store(false, Ordering::SeqCst);
        self.connection.let_broker_go();
    }
}

impl Connection {
    fn ask(&self, request: &Request, sequel: Sequel) -> Result<()> {
        self.sequels.lock().unwrap_or_else(PoisonError::into_inner).push_back(sequel);
        (&self.broker).write_all(&framed(&request.frame()))
    }

    fn tell(&self, bytes: &[u8]) -> Result<()> {
        let _whole = self.telling.lock().unwrap_or_else(PoisonError::into_inner);
        (&self.client).write_all(bytes)
    }

    fn requests(self: &Arc<Self>, rule: &Mutex<Rule>) -> Result<()> {
        let line = Line(Arc::clone(self));
        loop {
            let request = Request::parse(&read(&mut &self.client)?);
            // A rule that panicked is the test's failure; the connections go on.
            let action = rule.lock().unwrap_or_else(PoisonError::into_inner)(request, &line);
            match action {
                Action::Forward(request) => self.ask(&request, (Fate::Pass, None))?,
                Action::Ask(request, fate, tell) => self.ask(&request, (fate, Some(tell)))?,
                Action::Answer(frame) => self.tell(&framed(&frame))?,
                Action::Drop => {}
                Action::Cut => return self.client.shutdown(Shutdown::Both),
            }
        }
    }

    fn answers(&self) -> Result<()> {
        loop {
            let frame = read(&mut &self.broker)?;
            let sequel = self.sequels.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let (fate, tell) = sequel.expect("no answer without a request");
            let whole = framed(&frame);
            // A client that is gone misses its answers; what is held still needs this thread.
            let _ = match fate {
                Fate::Pass => self.tell(&whole),
                Fate::Lose => Ok(()),
                Fate::Cut => self.client.shutdown(Shutdown::Both),
                Fate::Halve => {
                    let half = self.tell(&whole[..whole.len() / 2]);
                    half.and_then(|()| self.client.shutdown(Shutdown::Both))
                }
            };
            let _ = tell.map(|tell| tell.send(frame)); // the test may have failed
        }
    }

    /// Ends the broker's side when the client has left and nothing is held.
    fn let_broker_go(&self) {
        if self.has_client_left.load(Ordering::SeqCst) && !self.is_held.load(Ordering::SeqCst) {
            let _ = self.broker.shutdown(Shutdown::Both);
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
        let all: Rule = Box::new(|request, _| Action::Forward(request));
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
    pub fn rule(&self, rule: impl FnMut(Request, &Line) -> Action + Send + 'static) {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(rule);
    }

    /// From now on each request goes on.
    pub fn open(&self) {
        self.rule(|request, _| Action::Forward(request));
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
    let connection = Arc::new(Connection {
        client,
        telling: Mutex::default(),
        broker,
        sequels: Mutex::default(),
        has_client_left: AtomicBool::new(false),
        is_held: AtomicBool::new(false),
    });
    let (there, rule) = (Arc::clone(&connection), Arc::clone(rule));
    std::thread::spawn(move || {
        let _ = there.requests(&rule);
        there.has_client_left.store(true, Ordering::SeqCst);
        there.let_broker_go();
    });
    std::thread::spawn(move || {
        let _ = connection.answers();
        let _ = connection.client.shutdown(Shutdown::Both);
    });
    Ok(())
}
