//! The connections of the server: bounded in number and in how long they may keep it waiting, so that no reader takes the
//! descriptors that Kafka, the database and the probes need.
//!
//! Once there are as many as there may be, a new one takes the place of the one that has kept us waiting longest. So a probe
//! is answered however many readers there are.

use axum::serve::Listener;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};

/// What connections may take of us.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    /// So many at a time.
    count_max: usize,
    /// A request's head must have come so long after the connection was made, or after the answer before.
    head: Duration,
    /// A reader must take some of its answer within this time.
    stalled: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { count_max: 200, head: Duration::from_secs(10), stalled: Duration::from_secs(30) }
    }
}

/// Listens, and gives each connection a place.
pub(super) struct Limited {
    listener: TcpListener,
    bounds: Bounds,
    places: Places,
}

impl Limited {
    pub(super) fn new(listener: TcpListener, bounds: Bounds) -> Self {
        Self { listener, bounds, places: Places::default() }
    }
}

impl Listener for Limited {
    type Io = Held;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Held, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Held::new(stream, self.bounds, &self.places), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Who holds a place, by its number.
#[derive(Clone, Default)]
struct Places(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    by_number: BTreeMap<u64, Place>,
    last: u64,
    turn: u64,
}

struct Place {
    /// When it began to wait, by a count of such moments; `None` while we are at work for it.
    waits_since: Option<u64>,
    _is_held: oneshot::Sender<()>,
}

impl Places {
    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place's number, and what ends when the place is given to another connection.
    fn take(&self, count_max: usize) -> (u64, oneshot::Receiver<()>) {
        let mut taken = self.lock();
        if taken.by_number.len() >= count_max {
            // Those we are at work for come last, the oldest first.
            let longest = taken.by_number.iter().min_by_key(|(_, place)| place.waits_since.unwrap_or(u64::MAX));
            if let Some(number) = longest.map(|(number, _)| *number) {
                taken.by_number.remove(&number);
            }
        }
        let (is_held, end) = oneshot::channel();
        taken.last += 1;
        taken.turn += 1;
        let (number, turn) = (taken.last, taken.turn);
        taken.by_number.insert(number, Place { waits_since: Some(turn), _is_held: is_held });
        (number, end)
    }

    fn note(&self, number: u64, is_waiting: bool) {
        let mut taken = self.lock();
        taken.turn += 1;
        let turn = taken.turn;
        if let Some(place) = taken.by_number.get_mut(&number) {
            place.waits_since = is_waiting.then_some(turn);
        }
    }

    fn leave(&self, number: u64) {
        self.lock().by_number.remove(&number);
    }
}

/// A connection in its place.
pub(super) struct Held {
    stream: TcpStream,
    bounds: Bounds,
    places: Places,
    number: u64,
    /// Ends when the place is given to another; `None` afterwards.
    end: Option<oneshot::Receiver<()>>,
    /// How much of the empty line at the end of a request's head has come; `None` once all of it has.
    head: Option<usize>,
    /// When the head must be there.
    head_due: Pin<Box<Sleep>>,
    /// When a reader must have taken something, while it takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Held {
    fn new(stream: TcpStream, bounds: Bounds, places: &Places) -> Self {
        let (number, end) = places.take(bounds.count_max);
        let (places, head_due) = (places.clone(), Box::pin(sleep(bounds.head)));
        Self { stream, bounds, places, number, end: Some(end), head: Some(0), head_due, stalled: None }
    }

    /// An error once the place has been given to another.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let is_held = self.end.as_mut().is_some_and(|end| Pin::new(end).poll(cx).is_pending());
        if !is_held {
            self.end = None;
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "too many connections"));
        }
        Ok(())
    }

    /// Looks for the end of a request's head.
    fn read(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let Some(matched) = self.head else { return };
            self.head = match (matched, byte) {
                (3, b'\n') => None,
                (0 | 2, b'\r') | (1, b'\n') => Some(matched + 1),
                (_, b'\r') => Some(1),
                _ => Some(0),
            };
        }
        if self.head.is_none() {
            self.places.note(self.number, false);
        }
    }

    /// Something of an answer went out: the next request may come.
    fn wrote(&mut self, cx: &mut Context<'_>) {
        self.stalled = None;
        self.head_due.as_mut().reset(Instant::now() + self.bounds.head);
        let _ = self.head_due.as_mut().poll(cx); // wakes us, also where nobody reads until then
        if self.head.is_none() {
            self.head = Some(0);
            self.places.note(self.number, true);
        }
    }

    /// What a write came to, with an end to waiting for the reader.
    fn written(&mut self, cx: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if result.is_pending() {
            let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.bounds.stalled)));
            ready!(stalled.as_mut().poll(cx));
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the reader takes nothing")));
        }
        self.wrote(cx);
        result
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.places.leave(self.number);
    }
}

impl AsyncRead for Held {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(cx)?;
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buffer) {
            Poll::Pending if this.head.is_some() => {
                ready!(this.head_due.as_mut().poll(cx));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no request has come")))
            }
            Poll::Ready(Ok(())) => {
                this.read(buffer.filled().get(before..).unwrap_or_default());
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

impl AsyncWrite for Held {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(cx)?;
        let result = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.written(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(cx)?;
        let result = Pin::new(&mut this.stream).poll_write_vectored(cx, bytes);
        this.written(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use std::io::{Read, Write};
    use std::net::TcpStream as Client;

    /// A server whose `/slow` takes 300 ms and whose `/large` never ends, on a thread of its own.
    fn serve(bounds: Bounds) -> (tokio::runtime::Runtime, SocketAddr) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let slow = async || {
            sleep(Duration::from_millis(300)).await;
            "slow"
        };
        let router = Router::new()
            .route("/", get(async || "quick"))
            .route("/slow", get(slow))
            .route("/large", get(async || "x".repeat(64 << 20)));
        runtime.spawn(async move { axum::serve(Limited::new(listener, bounds), router).await });
        (runtime, address)
    }

    fn connect(address: SocketAddr) -> Client {
        let client = Client::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client
    }

    fn ask(client: &mut Client, path: &str) {
        write!(client, "GET {path} HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
    }

    /// Reads until `text` has come, or the end.
    fn comes(client: &mut Client, text: &str) -> bool {
        let (mut all, mut some) = (Vec::new(), [0; 4096]);
        loop {
            match client.read(&mut some) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => panic!("it is kept waiting"),
                Ok(0) | Err(_) => return false,
                Ok(count) => all.extend_from_slice(&some[..count]),
            }
            if String::from_utf8_lossy(&all).contains(text) {
                return true;
            }
        }
    }

    const LONG: Duration = Duration::from_mins(1);

    #[test]
    fn a_new_connection_takes_the_place_of_the_one_that_asked_for_nothing_longest() {
        let (_runtime, address) = serve(Bounds { count_max: 3, head: LONG, stalled: LONG });
        let mut busy = connect(address);
        ask(&mut busy, "/slow");
        std::thread::sleep(Duration::from_millis(50));
        let mut idle: Vec<Client> = (0..20).map(|_| connect(address)).collect();
        let mut last = connect(address);
        ask(&mut last, "/");
        assert!(comes(&mut last, "quick"), "a probe is answered");
        assert!(comes(&mut busy, "slow"), "what we are at work for is kept");
        assert!(!comes(&mut idle[0], "?"), "an idle one is closed");
    }

    #[test]
    fn a_request_that_does_not_come_is_not_waited_for_and_one_that_takes_long_to_answer_is() {
        let (_runtime, address) = serve(Bounds { count_max: 10, head: Duration::from_millis(100), stalled: LONG });
        let (mut silent, mut slow) = (connect(address), connect(address));
        let mut dripping = connect(address);
        ask(&mut slow, "/slow");
        write!(dripping, "GET / HTTP/1.1\r\n").unwrap();
        assert!(!comes(&mut silent, "?"));
        assert!(!comes(&mut dripping, "quick"));
        assert!(comes(&mut slow, "slow"));
        ask(&mut slow, "/");
        assert!(comes(&mut slow, "quick"), "the connection goes on");
        assert!(!comes(&mut slow, "?"), "and ends when nothing more is asked");
    }

    #[test]
    fn a_reader_that_takes_nothing_is_given_up() {
        let (_runtime, address) = serve(Bounds { count_max: 10, head: LONG, stalled: Duration::from_millis(100) });
        let mut reader = connect(address);
        ask(&mut reader, "/large");
        std::thread::sleep(Duration::from_millis(600));
        let mut all = Vec::new();
        let _ = reader.read_to_end(&mut all); // what lay in the buffers, then the end or a reset
        assert!(all.len() < 64 << 20, "{}", all.len());
    }
}
