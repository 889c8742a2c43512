//! A connection that could not be made: the symptom, its cause and the way out.

use crate::adapters::postgres::connection::open_files;
use crate::adapters::postgres::connection::trouble::server_error;
use crate::ports::fault::Fault;
use std::io::{Error, ErrorKind};
use std::time::Duration;

/// The end of an attempt to connect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Symptom<'a> {
    /// Nothing answered at the address.
    Nobody,
    /// The name of the host is not known.
    UnknownHost,
    /// The address takes connections, and no answer came within the time.
    Silent(Duration),
    /// The connection was closed before the session began.
    Closed,
    /// The answer is none of PostgreSQL's.
    Foreign,
    /// This process may open no more files and connections.
    NoFiles,
    /// A file that the URL names cannot be read.
    File,
    /// The URL cannot be used.
    Settings,
    /// TLS failed, in the driver's words.
    Tls(&'a str),
    /// The server, or a pooler in front of it, refused: SQLSTATE and message.
    Refused(&'a str, &'a str),
}

/// The symptom of `error`, whose text is `text`. `waited` is the time limit, where it ran out although the address takes
/// connections.
pub(super) fn symptom<'a>(error: &'a sqlx::Error, text: &'a str, waited: Option<Duration>) -> Symptom<'a> {
    if let Some(waited) = waited {
        return Symptom::Silent(waited);
    }
    match error {
        sqlx::Error::Io(error) => of_io(error, text),
        sqlx::Error::Tls(_) => Symptom::Tls(text),
        sqlx::Error::Configuration(_) => Symptom::Settings,
        sqlx::Error::Protocol(_) => Symptom::Foreign,
        _ => server_error(error).map_or(Symptom::Closed, |error| Symptom::Refused(error.code(), error.message())),
    }
}

fn of_io<'a>(error: &Error, text: &'a str) -> Symptom<'a> {
    match error.kind() {
        _ if open_files::is_meant(error) => Symptom::NoFiles,
        _ if text.contains("certificate") => Symptom::Tls(text),
        _ if text.contains("lookup address") => Symptom::UnknownHost,
        ErrorKind::NotFound | ErrorKind::PermissionDenied => Symptom::File,
        ErrorKind::InvalidData => Symptom::Tls(text),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => Symptom::Closed,
        _ => Symptom::Nobody,
    }
}

impl Symptom<'_> {
    /// Whether it is a mistake in the settings when the first connection of all ends so. Later it may be a rotation under
    /// way.
    pub(super) fn is_mistake(self) -> bool {
        match self {
            Self::Settings => true,
            Self::Refused(code, _) => code.starts_with("28") || code.starts_with("3D"),
            _ => false,
        }
    }

    /// The sentence for a person. `place` is the address that was tried, without user and password.
    pub(super) fn sentence(self, place: &str) -> String {
        let cause = match self {
            Self::Nobody => "is PostgreSQL running, and reachable from here?".into(),
            Self::UnknownHost => "the host of database.url is not known here; correct its name".into(),
            Self::Silent(waited) => format!(
                "the address of database.url takes connections and did not answer within {} ms; a pooler whose server \
                 connections are all in use does that (PgBouncer: raise default_pool_size, an instance takes \
                 engine.workers + 2), and so do a server that stands still and another program's port",
                waited.as_millis()
            ),
            Self::Closed => {
                "something answered and closed the connection; its own log says why, if it is PostgreSQL or \
                             a proxy in front of it"
                    .into()
            }
            Self::Foreign => {
                "something answered that does not speak PostgreSQL's protocol; correct host and port of database.url"
                    .into()
            }
            Self::NoFiles => open_files::sentence(),
            Self::File => {
                "a file that database.url names cannot be read: sslrootcert, sslcert, sslkey or the socket".into()
            }
            Self::Settings => "database.url cannot be used as it is".into(),
            Self::Tls(text) => of_tls(text).into(),
            Self::Refused(code, message) => of_refusal(code, message),
        };
        format!("no connection to {place}: {cause}")
    }

    /// The fault of a connection that ended so.
    pub(super) fn fault(self, place: &str, has_connected: bool) -> Fault {
        let make = if self.is_mistake() && !has_connected { Fault::fatal } else { Fault::retry };
        make(self.sentence(place))
    }
}

fn of_tls(text: &str) -> &'static str {
    let causes = [
        (
            "UnknownIssuer",
            "PostgreSQL answered, and its certificate is not trusted: name the CA that signed it by sslrootcert=FILE in \
             database.url (the system's CAs are not looked at), together with the CAs in between where the server does not \
             send them",
        ),
        (
            "not valid for name",
            "PostgreSQL answered, and its certificate is for another name: use that name as the host of database.url, or \
             sslmode=verify-ca",
        ),
        ("xpired", "PostgreSQL answered, and its certificate has expired: renew it, or correct the clock here"),
        ("NotValidYet", "PostgreSQL answered, and its certificate is not valid yet: correct the clock here"),
        (
            "does not support TLS",
            "the server answered and has TLS off, which sslmode in database.url asks for: set ssl = on there, or \
             sslmode=prefer",
        ),
    ];
    causes.into_iter().find_map(|(part, cause)| text.contains(part).then_some(cause)).unwrap_or(
        "the server answered, and TLS failed; look at sslmode, sslrootcert, sslcert and sslkey in database.url",
    )
}

fn of_refusal(code: &str, message: &str) -> String {
    if let Some((_, parameter)) = message.split_once("unsupported startup parameter") {
        let parameter = parameter.rsplit(':').next().unwrap_or_default().trim();
        return format!(
            "a pooler (PgBouncer) answered and refuses the startup parameter {parameter}: put it into \
             ignore_startup_parameters of its ini, and set pool_mode = session"
        );
    }
    if message.contains("no more connections allowed") {
        return "a pooler (PgBouncer) answered and takes no more clients: raise its max_client_conn".into();
    }
    if let Some(cause) = (code == "53300").then(|| of_own_limit(message)).flatten() {
        return cause;
    }
    let cause = match code {
        "28P01" => "PostgreSQL answered, and user or password of database.url are wrong",
        _ if code.starts_with("28") => {
            "PostgreSQL answered, and lets this user of database.url not in from here: create the role, or admit it in pg_hba.conf"
        }
        _ if code.starts_with("3D") => {
            "PostgreSQL answered, and has no such database: create it, or correct database.url"
        }
        "42501" => "PostgreSQL answered, and the user may not connect: GRANT CONNECT ON DATABASE to it",
        "53300" => {
            "PostgreSQL answered, and all its connections are in use: raise max_connections, or lower engine.workers; an \
             instance takes engine.workers + 2"
        }
        "57P03" => "PostgreSQL answered, and is starting or stopping",
        _ => "PostgreSQL or a pooler in front of it answered, and refuses",
    };
    cause.into()
}

/// The limit of one role or database, as the server words it in English. It quotes the name.
fn of_own_limit(message: &str) -> Option<String> {
    let limits = [
        ("too many connections for role ", "role", "ROLE"),
        ("too many connections for database ", "database", "DATABASE"),
    ];
    limits.into_iter().find_map(|(words, kind, word)| {
        let (_, name) = message.split_once(words)?;
        Some(format!(
            "PostgreSQL answered, and {kind} {name} has as many connections as it may: ALTER {word} {name} CONNECTION LIMIT n (-1 is \
             without limit), or lower engine.workers; an instance takes engine.workers + 2"
        ))
    })
}

#[cfg(test)]
mod tests {
    const PLACE: &str = "db:5432";

    use super::*;

    fn of_kind(kind: ErrorKind, text: &str) -> String {
        let error = sqlx::Error::Io(Error::new(kind, text.to_owned()));
        symptom(&error, text, None).sentence(PLACE)
    }

    #[test]
    fn only_where_nothing_answered_is_it_asked_whether_postgresql_runs() {
        let asks = "is PostgreSQL running, and reachable from here?";
        for (kind, is_asked) in [
            (ErrorKind::ConnectionRefused, true),
            (ErrorKind::HostUnreachable, true),
            (ErrorKind::NetworkUnreachable, true),
            (ErrorKind::TimedOut, true),
            (ErrorKind::ConnectionReset, false),
            (ErrorKind::UnexpectedEof, false),
            (ErrorKind::BrokenPipe, false),
            (ErrorKind::NotFound, false),
            (ErrorKind::InvalidData, false),
        ] {
            assert_eq!(of_kind(kind, "x").contains(asks), is_asked, "{kind:?}");
        }
        let others = [
            Symptom::UnknownHost,
            Symptom::NoFiles,
            Symptom::Silent(Duration::from_secs(5)),
            Symptom::Foreign,
            Symptom::Settings,
            Symptom::Tls("x"),
            Symptom::Refused("08P01", "server login has been failing"),
        ];
        for other in others {
            assert!(!other.sentence(PLACE).contains("is PostgreSQL running"), "{other:?}");
        }
    }

    #[test]
    fn every_symptom_has_the_setting_or_the_command_that_ends_it() {
        let told = [
            (
                of_kind(ErrorKind::Other, "failed to lookup address information: Name or service not known"),
                "correct its name",
            ),
            (of_kind(ErrorKind::NotFound, "No such file or directory"), "sslrootcert"),
            (of_kind(ErrorKind::InvalidData, "invalid peer certificate: UnknownIssuer"), "sslrootcert=FILE"),
            (
                of_kind(
                    ErrorKind::InvalidData,
                    "invalid peer certificate: certificate not valid for name \"127.0.0.1\"",
                ),
                "sslmode=verify-ca",
            ),
            (of_kind(ErrorKind::InvalidData, "invalid peer certificate: certificate expired"), "renew it"),
            (Symptom::Tls("server does not support TLS").sentence(PLACE), "ssl = on"),
            (Symptom::Silent(Duration::from_secs(5)).sentence(PLACE), "within 5000 ms"),
            (Symptom::Foreign.sentence(PLACE), "correct host and port"),
            (
                Symptom::Refused("08P01", "unsupported startup parameter: extra_float_digits").sentence(PLACE),
                "refuses the startup parameter extra_float_digits: put it into ignore_startup_parameters of its ini, and set pool_mode = session",
            ),
            (
                Symptom::Refused("08P01", "unsupported startup parameter in options: search_path").sentence(PLACE),
                "parameter search_path:",
            ),
            (
                Symptom::Refused("08P01", "no more connections allowed (max_client_conn)").sentence(PLACE),
                "raise its max_client_conn",
            ),
            (Symptom::Refused("28P01", "").sentence(PLACE), "user or password"),
            (Symptom::Refused("28000", "").sentence(PLACE), "not in from here"),
            (Symptom::Refused("3D000", "").sentence(PLACE), "create it"),
            (Symptom::Refused("42501", "").sentence(PLACE), "GRANT CONNECT"),
            (Symptom::Refused("53300", "").sentence(PLACE), "max_connections"),
            (Symptom::Refused("53300", "sorry, too many clients already").sentence(PLACE), "raise max_connections"),
            (
                Symptom::Refused("53300", "too many connections for role \"teller\"").sentence(PLACE),
                "role \"teller\" has as many connections as it may: ALTER ROLE \"teller\" CONNECTION LIMIT",
            ),
            (
                Symptom::Refused("53300", "too many connections for database \"bank\"").sentence(PLACE),
                "ALTER DATABASE \"bank\" CONNECTION LIMIT",
            ),
            (
                symptom(&sqlx::Error::Io(Error::from_raw_os_error(24)), "Too many open files", None).sentence(PLACE),
                "raise it with `ulimit -n`",
            ),
            (Symptom::Refused("57P03", "").sentence(PLACE), "starting or stopping"),
        ];
        for (sentence, way_out) in told {
            assert!(
                sentence.starts_with("no connection to db:5432: ") && sentence.contains(way_out),
                "{way_out}: {sentence}"
            );
        }
    }

    #[test]
    fn only_wrong_settings_of_the_first_connection_end_the_process() {
        for (symptom, is_mistake) in [
            (Symptom::Refused("28P01", ""), true),
            (Symptom::Refused("3D000", ""), true),
            (Symptom::Settings, true),
            (Symptom::Refused("53300", ""), false),
            (Symptom::Nobody, false),
            (Symptom::Tls(""), false),
        ] {
            assert_eq!(!symptom.fault(PLACE, false).is_retry(), is_mistake, "{symptom:?}");
            assert!(symptom.fault(PLACE, true).is_retry(), "{symptom:?}");
        }
    }
}
