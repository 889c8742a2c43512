//! The reason for which no connection comes about, and what to do: whether anybody answered decides which question is asked.

use crate::adapters::postgres::connection::trouble::sqlstate;
use std::error::Error as _;
use std::io::ErrorKind;

/// The reason, and whether no repetition helps: a mistake in the settings or on the server.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) sentence: String,
    pub(super) is_mistake: bool,
}

impl Refusal {
    /// Of the server at `place`, `host:port`, whose name the certificate has to bear.
    pub(super) fn of(error: &sqlx::Error, host: &str, place: &str) -> Self {
        let (sentence, is_mistake) = match error {
            sqlx::Error::Configuration(_) => (of_the_url(), true),
            sqlx::Error::Database(_) => of_the_server(sqlstate(error).unwrap_or_default(), &error.to_string()),
            sqlx::Error::Protocol(_) => {
                (format!("{place} answers, but not as PostgreSQL does: the port is another program's"), true)
            }
            sqlx::Error::Tls(_) => (of_tls(&words(error), host), true),
            sqlx::Error::Io(cause) => match cause.kind() {
                ErrorKind::InvalidData => (of_tls(&words(error), host), true),
                kind => (nobody(kind, &words(error), host, place), false),
            },
            _ => (format!("no connection to {place} comes about"), false),
        };
        Self { sentence, is_mistake }
    }
}

/// The words of the error and of all its causes.
fn words(error: &sqlx::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = words + ": " + &error.to_string();
        cause = error.source();
    }
    words
}

fn of_the_url() -> String {
    "database.url cannot be used".into()
}

/// Nobody answered.
fn nobody(kind: ErrorKind, words: &str, host: &str, place: &str) -> String {
    if words.contains("lookup address") {
        return format!("the host {host} of database.url has no address here");
    }
    match kind {
        ErrorKind::NotFound => {
            format!("there is no socket of PostgreSQL at {place}, so it does not run or uses another folder")
        }
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => {
            format!("{place} answered and hung up, as a proxy does whose server is away")
        }
        _ => format!("no connection: is PostgreSQL running at {place}, and reachable from here? Nothing answers"),
    }
}

/// The server answered, with this SQLSTATE.
fn of_the_server(code: &str, words: &str) -> (String, bool) {
    match code {
        "28P01" => ("PostgreSQL refuses user or password of database.url".into(), true),
        "28000" if words.contains("no encryption") || words.contains("SSL off") => {
            ("PostgreSQL refuses connections without TLS: add sslmode=verify-full to database.url".into(), true)
        }
        "28000" if words.contains("client certificate") => {
            ("PostgreSQL wants a client's certificate: add sslcert and sslkey to database.url".into(), true)
        }
        "28000" if words.contains("pg_hba.conf") => {
            ("PostgreSQL has no entry in pg_hba.conf for this user, database and address".into(), true)
        }
        "3D000" => ("PostgreSQL has no such database as database.url names".into(), true),
        "53300" => ("PostgreSQL answers, and has no connection left (max_connections)".into(), false),
        "57P03" => ("PostgreSQL answers, and is starting or ending".into(), false),
        _ if code.starts_with("28") => ("PostgreSQL refuses the connection; check database.url".into(), true),
        _ => ("PostgreSQL answers, and gives no connection".into(), false),
    }
}

/// What TLS stumbled over, by the words of the driver.
fn of_tls(words: &str, host: &str) -> String {
    let has = |word: &str| words.contains(word);
    if has("UnknownIssuer") {
        return "the server's certificate is signed by nobody that is trusted here: name the file of its CA as sslrootcert in \
                database.url (the system's own are not asked); if it is named, the server leaves out the certificates \
                in between, which belong behind its own in ssl_cert_file"
            .into();
    }
    if has("not valid for name") {
        let names = words.rsplit_once("is only valid for ").map_or("another name", |(_, names)| names);
        return format!(
            "the server's certificate is not made out to {host}, but to {names}: write such a name in database.url, or \
             sslmode=verify-ca, which asks for no name"
        );
    }
    if has("xpired") {
        return "the server's certificate has expired: renew it".into();
    }
    if has("not valid yet") || has("NotValidYet") {
        return "the server's certificate is not valid yet by the clock of this machine".into();
    }
    if has("CaUsedAsEndEntity") {
        return "the server's certificate is that of an authority (CA:TRUE), which no server may show: sign one with CA:FALSE \
                by it"
            .into();
    }
    if has("UnsupportedCertVersion") {
        return "the server's certificate is of version 1: sign one with subjectAltName, which makes it version 3"
            .into();
    }
    if has("does not support TLS") {
        return "PostgreSQL answers without TLS (ssl = off), and sslmode in database.url demands it: switch it on there".into();
    }
    if has("BadEncoding") || has("Invalid certificate") {
        return "a certificate cannot be read: the server's, or the file of sslrootcert".into();
    }
    if has("fatal alert") {
        return "the server ends the TLS handshake, as where it wants a client's certificate (sslcert, sslkey) or another version \
                of TLS"
            .into();
    }
    "no TLS comes about with the server".into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    const NOBODY: &str = "no connection: is PostgreSQL running at db:5432, and reachable from here? Nothing answers";

    fn io(kind: ErrorKind, words: &str) -> sqlx::Error {
        sqlx::Error::Io(io::Error::new(kind, words.to_owned()))
    }

    fn told(error: &sqlx::Error) -> (String, bool) {
        let Refusal { sentence, is_mistake } = Refusal::of(error, "db", "db:5432");
        (sentence, is_mistake)
    }

    #[test]
    fn whether_it_is_running_is_asked_only_where_nothing_answered() {
        let cases = [
            (ErrorKind::ConnectionRefused, "Connection refused", NOBODY),
            (ErrorKind::TimedOut, "timed out", NOBODY),
            (ErrorKind::HostUnreachable, "no route", NOBODY),
            (
                ErrorKind::NotFound,
                "No such file or directory",
                "there is no socket of PostgreSQL at db:5432, so it does not run or uses another folder",
            ),
            (
                ErrorKind::Other,
                "failed to lookup address information: Name or service not known",
                "the host db of database.url has no address here",
            ),
            (ErrorKind::UnexpectedEof, "eof", "db:5432 answered and hung up, as a proxy does whose server is away"),
        ];
        for (kind, words, expected) in cases {
            assert_eq!(told(&io(kind, words)), (expected.to_owned(), false), "{words}");
        }
        for (code, is_mistake) in
            [("28P01", true), ("28000", true), ("3D000", true), ("53300", false), ("57P03", false), ("08P01", false)]
        {
            let (sentence, is_hopeless) = of_the_server(code, "");
            assert!(!sentence.contains("running") && is_hopeless == is_mistake, "{code}: {sentence}");
        }
        assert!(
            of_the_server("28000", "no pg_hba.conf entry for host \"h\", no encryption")
                .0
                .contains("sslmode=verify-full")
        );
        assert!(of_the_server("28000", "connection requires a valid client certificate").0.contains("sslcert"));
        let other = sqlx::Error::Protocol("unexpected response from SSLRequest: 0x48".into());
        assert_eq!(
            told(&other),
            ("db:5432 answers, but not as PostgreSQL does: the port is another program's".into(), true)
        );
    }

    #[test]
    fn each_stumble_of_tls_has_its_cause_and_its_fix() {
        let cases = [
            ("invalid peer certificate: UnknownIssuer", "name the file of its CA as sslrootcert"),
            (
                "invalid peer certificate: certificate not valid for name \"db\"; certificate is only valid for DnsName(\"pg.example\")",
                "not made out to db, but to DnsName(\"pg.example\"): write such a name in database.url, or sslmode=verify-ca",
            ),
            (
                "invalid peer certificate: certificate expired: verification time 2 (UNIX), but certificate is not valid after 1",
                "has expired: renew it",
            ),
            ("invalid peer certificate: Expired", "has expired: renew it"),
            (
                "invalid peer certificate: certificate not valid yet: verification time 1 (UNIX)",
                "by the clock of this machine",
            ),
            ("invalid peer certificate: Other(OtherError(CaUsedAsEndEntity))", "sign one with CA:FALSE"),
            ("invalid peer certificate: Other(OtherError(UnsupportedCertVersion))", "sign one with subjectAltName"),
            ("received fatal alert: HandshakeFailure", "sslcert, sslkey"),
            ("something new", "no TLS comes about"),
        ];
        for (words, expected) in cases {
            let (sentence, is_mistake) = told(&io(ErrorKind::InvalidData, words));
            assert!(sentence.contains(expected) && is_mistake, "{words}: {sentence}");
            assert!(!sentence.contains("running"), "{sentence}");
        }
        let (sentence, is_mistake) = told(&sqlx::Error::Tls("server does not support TLS".into()));
        assert!(sentence.contains("(ssl = off)") && is_mistake, "{sentence}");
    }
}
