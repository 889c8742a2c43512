//! How far one comes towards the cluster: what is said of it after a question was not answered.
//!
//! A client library says "timed out" whatever the cause: a broker that is down, one that sends its clients on to a name that
//! nobody here knows, a refused login. So each step is looked at by itself, once, when a command has failed.

use super::ffi::{Event, Parting, Queue};
use super::internal::Internal;
use super::settings::KafkaSettings;
use super::{Quiet, descriptors, fault};
use crossbeam_channel::{Receiver, bounded};
use rdkafka::admin::AdminClient;
use rdkafka::config::RDKafkaLogLevel;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

/// The time for one address to be resolved and to take a connection, and for the list of brokers.
const WAIT: Duration = Duration::from_secs(3);
/// The time for the first answer of a broker that takes connections: a busy one is late, and is not to be told as no Kafka.
const ANSWER: Duration = Duration::from_secs(10);
/// Whoever wants no connection closes it within this time.
const SILENCE: Duration = Duration::from_millis(300);
/// The number of addresses that are looked at.
const ADDRESSES: usize = 3;

/// How far one came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// The setting `kafka.bootstrap_servers`.
    servers: String,
    /// Its addresses.
    bootstrap: Vec<Address>,
    /// The addresses of the brokers, as the cluster names them to its clients; `None` when it did not answer.
    brokers: Option<Vec<Address>>,
    /// The library's last words about a login, an encrypted connection, or one that was closed.
    said: Option<String>,
    /// The limit of this process's open files, where it has reached it.
    open_files: Option<u64>,
    /// What is wrong with the logs that the cluster keeps for itself.
    internal: Vec<String>,
}

/// `host:port`, and how far one came towards it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Address {
    name: String,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// A connection was taken.
    Connected,
    /// A connection was taken and closed before anything was asked.
    Closed,
    /// No such name, in the system's words.
    Unresolved(String),
    /// No connection, in the system's words.
    Refused(String),
}

/// Looks at each step towards the cluster; takes some seconds.
#[must_use]
pub fn look(settings: &KafkaSettings) -> Reach {
    let servers = settings.bootstrap_servers.clone();
    let bootstrap = look_at(servers.split(',').map(bare).filter(|name| !name.is_empty()));
    let mut reach = Reach { servers, bootstrap, open_files: descriptors::reached(), ..Reach::default() };
    if !reach.bootstrap.iter().any(|address| address.state == State::Connected) {
        return reach;
    }
    let Some(client) = client(settings) else { return reach };
    let Ok(lines) = Queue::of_logs(client.inner(), Arc::clone(&client)) else { return reach };
    let mut brokers = BTreeSet::new();
    if let Ok(metadata) = client.inner().fetch_metadata(None, WAIT) {
        brokers.extend(metadata.brokers().iter().map(|broker| format!("{}:{}", broker.host(), broker.port())));
        reach.internal = Internal::look(client.inner(), &metadata, WAIT).mistakes();
    }
    let until = fault::deadline(ANSWER);
    let hear = |event: Event<'_>| match event {
        Event::Line(_, _, line) => (named_broker(line), about_connection(line)),
        _ => (None, None),
    };
    // Once there is a first answer, nothing more is waited for.
    loop {
        let wait = match reach.said.as_deref() {
            // A connection may be closed for what is told of the next one.
            Some(CLOSED) if brokers.is_empty() => fault::left(until).min(SILENCE),
            None if brokers.is_empty() => fault::left(until),
            _ => Duration::ZERO,
        };
        let Some((broker, said)) = lines.poll(wait, hear) else { break };
        brokers.extend(broker);
        reach.said = said.filter(|said| said != CLOSED || reach.said.is_none()).or_else(|| reach.said.take());
    }
    reach.brokers = (!brokers.is_empty()).then(|| look_at(brokers.into_iter()));
    reach
}

/// A client that writes down what its calls do not tell: the brokers that a first answer named, when none of them can be asked
/// for a second one, and the words about a login.
fn client(settings: &KafkaSettings) -> Option<Arc<Parting<AdminClient<Quiet>>>> {
    let mut config = settings.admin().ok()?;
    config.set("debug", "metadata").set_log_level(RDKafkaLogLevel::Debug);
    config.create_with_context(Quiet).ok().map(Parting::new).map(Arc::new)
}

/// `… Broker #0/1: kafka:9092 NodeId 1` of the library's debug log.
fn named_broker(line: &str) -> Option<String> {
    let (_, broker) = line.split_once("Broker #")?;
    let (address, _) = broker.split_once(": ")?.1.split_once(" NodeId ")?;
    Some(address.to_owned())
}

/// What is said of a connection that the other side closed.
const CLOSED: &str = "Disconnected";

/// The words about a login, an encrypted connection or a closed one, without the place and the time that they stand between.
fn about_connection(line: &str) -> Option<String> {
    // `Disconnected while requesting ApiVersion: might be … (connecting to a SSL listener?)` is a guess of the library's.
    let is_guess = line.contains("might be caused by");
    let at = ["SASL ", "SSL "].iter().filter_map(|word| line.find(word)).min().filter(|_| !is_guess);
    let Some(at) = at else {
        let is_closed = is_guess || line.contains(CLOSED) || line.contains("Connection reset by peer");
        return is_closed.then(|| CLOSED.to_owned());
    };
    let said = line.get(at..)?;
    Some(said.split(" (after ").next().unwrap_or(said).trim_end_matches([':', ' ']).to_owned())
}

/// `SASL_SSL://host:9093` as `host:9093`, and `host` as `host:9092`.
pub(super) fn bare(server: &str) -> String {
    let server = server.trim();
    let address = server.split_once("://").map_or(server, |(_, address)| address);
    let has_port = address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if has_port || address.is_empty() { address.into() } else { format!("{address}:9092") }
}

/// Looks at the first few addresses, all at once.
fn look_at(names: impl Iterator<Item = String>) -> Vec<Address> {
    let begun: Vec<_> = names.take(ADDRESSES).map(|name| (name.clone(), begin(name))).collect();
    let ended = begun.into_iter().map(|(name, answers)| {
        let state = answers.map_or_else(|| slow("a thread"), |answers| last_within(2 * WAIT, &answers));
        Address { name, state }
    });
    ended.collect()
}

/// On a thread of its own: the system may take its time to resolve a name. Once that is done, it says so, and tells the end later.
fn begin(name: String) -> Option<Receiver<State>> {
    let (answer, answers) = bounded(2);
    let look = move || {
        let state = match name.to_socket_addrs() {
            Err(error) => State::Unresolved(error.to_string()),
            Ok(found) => {
                let _ = answer.send(slow("a connection"));
                connect(found)
            }
        };
        let _ = answer.send(state);
    };
    std::thread::Builder::new().name("reach".into()).spawn(look).ok().map(|_| answers)
}

/// The last that was told until `wait` is over.
fn last_within(wait: Duration, answers: &Receiver<State>) -> State {
    let until = fault::deadline(wait);
    let mut last = State::Unresolved(format!("no answer of the resolver within {} s", wait.as_secs()));
    while let Ok(state) = answers.recv_timeout(fault::left(until)) {
        last = state;
    }
    last
}

fn slow(what: &str) -> State {
    State::Refused(format!("not {what} within {} s", WAIT.as_secs()))
}

fn connect(found: impl Iterator<Item = std::net::SocketAddr>) -> State {
    let mut state = State::Unresolved("no address".into());
    for address in found {
        match TcpStream::connect_timeout(&address, WAIT) {
            Ok(stream) => return if is_closed(stream) { State::Closed } else { State::Connected },
            Err(error) => state = State::Refused(error.to_string()),
        }
    }
    state
}

/// Whether the other side ends a connection by itself. A broker waits to be asked.
fn is_closed(mut stream: TcpStream) -> bool {
    let read = stream.set_read_timeout(Some(SILENCE)).and_then(|()| stream.read(&mut [0]));
    matches!(read, Ok(0)) || read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
}

impl Reach {
    /// The cause in one sentence, and what helps; `None` where everything that can be looked at from here is well.
    #[must_use]
    pub fn cause(&self) -> Option<String> {
        let servers = &self.servers;
        if let Some(limit) = self.open_files {
            return Some(format!(
                "this process has had no file descriptor left for a connection: its limit is {limit} (RLIMIT_NOFILE): raise it \
                 (`ulimit -n`, LimitNOFILE of systemd), or lower engine.workers"
            ));
        }
        let is_any = |wanted: fn(&State) -> bool| self.bootstrap.iter().any(|address| wanted(&address.state));
        if !is_any(|state| *state == State::Connected) {
            if is_any(|state| *state == State::Closed) {
                return Some(format!(
                    "{servers} closes every connection at once: the brokers' limit of connections (max.connections.per.ip, \
                     max.connections) is reached, or it is no Kafka: end clients that nobody needs, or raise the limit"
                ));
            }
            let unresolved = self.bootstrap.iter().find_map(Address::unresolved);
            let refused = is_any(|state| matches!(state, State::Refused(_)));
            return Some(match unresolved.filter(|_| !refused) {
                Some((name, why)) => {
                    format!("{name} does not resolve ({why}): correct the name, or make it known here")
                }
                None => format!("no answer from {servers}: is it running, and reachable from here?"),
            });
        }
        let Some(brokers) = &self.brokers else { return Some(self.silent()) };
        if let Some((name, why)) = brokers.iter().find_map(Address::unresolved) {
            return Some(format!(
                "{servers} answered, and sends its clients on to {name}, which does not resolve here ({why}): correct \
                 advertised.listeners of that broker, or make the name known here"
            ));
        }
        if let Some((name, why)) = brokers.iter().find_map(Address::refused) {
            return Some(format!(
                "{servers} answered, and sends its clients on to {name}, where nobody takes connections ({why}): start that \
                 broker, or correct its advertised.listeners"
            ));
        }
        if self.internal.is_empty() { None } else { Some(self.internal.join("; ")) }
    }

    /// Connections are taken, and no question is answered.
    fn silent(&self) -> String {
        let servers = &self.servers;
        let said = self.said.as_deref().unwrap_or_default();
        let lower = said.to_ascii_lowercase();
        if said == CLOSED {
            return format!(
                "{servers} closes the connection at the first question: it expects another security.protocol than \
                 kafka.properties has, or it is no Kafka"
            );
        }
        // 42 is a bad certificate, which a missing one is under TLS 1.2; 116 a missing one under TLS 1.3.
        let wants_certificate = ["certificate required", "bad certificate", "alert number 116", "alert number 42"];
        if wants_certificate.iter().any(|words| lower.contains(words)) {
            return format!(
                "{servers} wants a client certificate that it trusts: {said}: set ssl.certificate.location and \
                 ssl.key.location in kafka.properties"
            );
        }
        if lower.contains("sasl") || lower.contains("authentication") {
            return format!(
                "{servers} refuses the login: {said}: check sasl.mechanism, sasl.username and sasl.password in \
                 kafka.properties"
            );
        }
        if lower.contains("ssl") {
            return format!(
                "no encrypted connection with {servers}: {said}: check security.protocol and ssl.ca.location in \
                 kafka.properties"
            );
        }
        format!(
            "{servers} takes connections and answers no question of Kafka's: it hangs, it is no Kafka, or it \
             expects another security.protocol than kafka.properties has"
        )
    }
}

impl Address {
    fn unresolved(&self) -> Option<(&str, &str)> {
        if let State::Unresolved(why) = &self.state { Some((&self.name, why)) } else { None }
    }

    fn refused(&self) -> Option<(&str, &str)> {
        if let State::Refused(why) = &self.state { Some((&self.name, why)) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(name: &str, state: State) -> Vec<Address> {
        vec![Address { name: name.into(), state }]
    }

    #[test]
    fn the_first_step_that_fails_is_the_cause() {
        let unresolved = || State::Unresolved("Name or service not known".into());
        let refused = || State::Refused("Connection refused".into());
        let reach = |bootstrap, brokers, said: Option<&str>| Reach {
            servers: "kafka:9092".into(),
            bootstrap: at("kafka:9092", bootstrap),
            brokers,
            said: said.map(str::to_owned),
            open_files: None,
            internal: Vec::new(),
        };
        let table: &[(Reach, &str)] = &[
            (
                reach(unresolved(), None, None),
                "kafka:9092 does not resolve (Name or service not known): correct the name, or make it known here",
            ),
            (reach(refused(), None, None), "no answer from kafka:9092: is it running, and reachable from here?"),
            (
                reach(State::Connected, None, None),
                "kafka:9092 takes connections and answers no question of Kafka's: it hangs, it is no Kafka, or it \
                 expects another security.protocol than kafka.properties has",
            ),
            (
                reach(State::Connected, None, Some("SASL authentication error: Invalid username or password")),
                "kafka:9092 refuses the login: SASL authentication error: Invalid username or password: check \
                 sasl.mechanism, sasl.username and sasl.password in kafka.properties",
            ),
            (
                reach(State::Connected, None, Some("SSL handshake failed: certificate verify failed")),
                "no encrypted connection with kafka:9092: SSL handshake failed: certificate verify failed: check \
                 security.protocol and ssl.ca.location in kafka.properties",
            ),
            (
                reach(State::Connected, None, Some(CLOSED)),
                "kafka:9092 closes the connection at the first question: it expects another security.protocol than \
                 kafka.properties has, or it is no Kafka",
            ),
            (
                reach(State::Closed, None, None),
                "kafka:9092 closes every connection at once: the brokers' limit of connections (max.connections.per.ip, \
                 max.connections) is reached, or it is no Kafka: end clients that nobody needs, or raise the limit",
            ),
            (
                reach(
                    State::Connected,
                    None,
                    Some("SSL routines::tlsv13 alert certificate required: SSL alert number 116"),
                ),
                "kafka:9092 wants a client certificate that it trusts: SSL routines::tlsv13 alert certificate required: SSL \
                 alert number 116: set ssl.certificate.location and ssl.key.location in kafka.properties",
            ),
            (
                reach(State::Connected, Some(at("nowhere:9092", unresolved())), None),
                "kafka:9092 answered, and sends its clients on to nowhere:9092, which does not resolve here (Name or \
                 service not known): correct advertised.listeners of that broker, or make the name known here",
            ),
            (
                reach(State::Connected, Some(at("inside:9092", refused())), None),
                "kafka:9092 answered, and sends its clients on to inside:9092, where nobody takes connections (Connection \
                 refused): start that broker, or correct its advertised.listeners",
            ),
        ];
        for (reach, cause) in table {
            assert_eq!(reach.cause().as_deref(), Some(*cause));
        }
        let mut well = reach(State::Connected, Some(at("kafka:9092", State::Connected)), None);
        assert_eq!(well.cause(), None);
        well.open_files = Some(256);
        assert!(well.cause().unwrap().contains("its limit is 256 (RLIMIT_NOFILE)"));
        well.open_files = None;
        well.internal = vec!["the transaction log wants 3 copies".into()];
        assert_eq!(well.cause().as_deref(), Some("the transaction log wants 3 copies"));
    }

    #[test]
    fn a_resolver_that_is_silent_is_no_broker_that_is_down() {
        let (answer, answers) = bounded(2);
        let silent = last_within(Duration::from_millis(20), &answers);
        assert!(matches!(&silent, State::Unresolved(why) if why.contains("no answer of the resolver")), "{silent:?}");
        answer.send(slow("a connection")).unwrap();
        let resolved = last_within(Duration::from_millis(20), &answers);
        assert_eq!(resolved, State::Refused("not a connection within 3 s".into()));
        answer.send(slow("a connection")).unwrap();
        answer.send(State::Connected).unwrap();
        drop(answer);
        assert_eq!(last_within(Duration::from_secs(10), &answers), State::Connected);
    }

    #[test]
    fn what_the_library_tells_in_its_log_only_is_heard() {
        let line = "[thrd:main]: 127.0.0.1:1/bootstrap:   Broker #0/1: kafka-nowhere:19092 NodeId 1";
        assert_eq!(named_broker(line).as_deref(), Some("kafka-nowhere:19092"));
        assert_eq!(named_broker("[thrd:main]: 127.0.0.1:1/bootstrap: ClusterId: x, ControllerId: 1"), None);
        let line = "[thrd:a]: a/bootstrap: SASL authentication error: Invalid username or password (after 3ms in state AUTH_REQ)";
        let said = about_connection(line);
        assert_eq!(said.as_deref(), Some("SASL authentication error: Invalid username or password"));
        assert_eq!(about_connection("[thrd:a]: a/bootstrap: Connect to ipv4#127.0.0.1:1 failed: refused"), None);
        for closed in [
            "[thrd:a]: a/bootstrap: Disconnected (after 0ms in state APIVERSION_QUERY)",
            "[thrd:a]: a/bootstrap: Disconnected while requesting ApiVersion: might be caused by incorrect security.protocol \
             configuration (connecting to a SSL listener?) or broker version is < 0.10 (see api.version.request) (after 1ms in \
             state APIVERSION_QUERY)",
            "[thrd:a]: a/bootstrap: Receive failed: Connection reset by peer (after 2ms in state APIVERSION_QUERY)",
        ] {
            assert_eq!(about_connection(closed).as_deref(), Some(CLOSED), "{closed}");
        }
        let line = "[thrd:a]: ssl://a/bootstrap: Disconnected: ssl/record/rec_layer_s3.c:1605:error:0A00045C:SSL \
                    routines::tlsv13 alert certificate required: SSL alert number 116 (after 3ms in state APIVERSION_QUERY)";
        let said = about_connection(line);
        assert_eq!(said.as_deref(), Some("SSL routines::tlsv13 alert certificate required: SSL alert number 116"));
    }

    #[test]
    fn who_closes_connections_at_once_or_when_asked_or_late_is_told_as_such() {
        let cause = |serve: fn(TcpStream)| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let server = listener.local_addr().unwrap().to_string();
            std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
            let settings = KafkaSettings { bootstrap_servers: server.clone(), ..KafkaSettings::default() };
            look(&settings).cause().unwrap().replace(&server, "it")
        };
        let at_once = cause(drop);
        assert!(at_once.starts_with("it closes every connection at once"), "{at_once}");
        let when_asked = cause(|mut stream| {
            std::thread::spawn(move || stream.read(&mut [0; 1_000]).map(drop));
        });
        assert!(when_asked.starts_with("it closes the connection at the first question"), "{when_asked}");
        let late = cause(|mut stream| {
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 1_000]);
                std::thread::sleep(2 * WAIT + Duration::from_secs(1));
            });
        });
        assert!(late.starts_with("it closes the connection at the first question"), "{late}");
    }

    #[test]
    fn an_address_is_what_stands_behind_the_protocol() {
        assert_eq!(bare(" SASL_SSL://kafka:9093 "), "kafka:9093");
        assert_eq!(bare("kafka"), "kafka:9092");
        assert_eq!(bare("[::1]:9094"), "[::1]:9094");
    }

    #[test]
    fn nobody_at_an_address_is_refused_and_no_such_name_is_unresolved() {
        let settings = |servers: &str| KafkaSettings { bootstrap_servers: servers.into(), ..KafkaSettings::default() };
        let nobody = look(&settings("127.0.0.1:1"));
        assert!(nobody.cause().unwrap().contains("no answer from 127.0.0.1:1: is it running"), "{nobody:?}");
        let nowhere = look(&settings("no-such-host.invalid:9092"));
        assert!(nowhere.cause().unwrap().contains("no-such-host.invalid:9092 does not resolve"), "{nowhere:?}");
    }
}
