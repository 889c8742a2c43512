//! TLS to a real server: each way in which it fails has its cause and its fix, and with the right CA it works.

use crate::server::{Server, is_wanted};
use std::path::Path;
use std::process::Command;
use tidegate::adapters::postgres::{PostgresRows, PostgresSettings};
use tidegate::ports::Fault;
use tidegate::ports::rows::Rows;

/// Runs a shell script in a folder.
fn shell(folder: &Path, script: &str) {
    let output = Command::new("sh").args(["-euc", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A CA, a certificate of it for `pg.example`, one in between without its chain, and an expired one.
const CERTIFICATES: &str = r#"
new() { openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -subj "/CN=$1" -out "$1.csr" 2>/dev/null; }
sign() { openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -extfile "$3" -out "$1.crt" -days "$4" 2>/dev/null; }
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -subj /CN=ca -days 3650 -out ca.crt 2>/dev/null
printf 'basicConstraints=CA:TRUE\n' >authority
printf 'basicConstraints=CA:FALSE\nsubjectAltName=DNS:pg.example\n' >named
printf 'basicConstraints=CA:FALSE\nsubjectAltName=IP:127.0.0.1\n' >local
new between; sign between ca authority 3650
new named; sign named ca named 3650
new local; sign local ca local 3650
new lonely; sign lonely between local 3650
new old; sign old ca local -1
"#;

/// The server with the certificate `name`.
fn show(server: &Server, folder: &Path, name: &str) {
    let data = format!("{}/data", server.folder());
    shell(
        folder,
        &format!(
            "cp {name}.crt {data}/server.crt; cp {name}.key {data}/server.key; chmod 600 {data}/server.key
             chown --reference={data}/postgresql.conf {data}/server.crt {data}/server.key
             grep -q '^ssl = on' {data}/postgresql.conf || echo 'ssl = on' >>{data}/postgresql.conf"
        ),
    );
    server.restart();
}

fn begin(url: &str) -> Result<(), Fault> {
    PostgresRows::new(&PostgresSettings::new(url), "p", "p")?.begin()
}

#[test]
fn each_failure_of_tls_is_told_at_once_with_its_cause_and_its_fix() {
    if !is_wanted() {
        return;
    }
    let server = Server::start("tls");
    let refused = |query: &str| begin(&format!("{}?{query}", server.url)).unwrap_err();
    let fault = refused("sslmode=require");
    assert!(matches!(fault, Fault::Fatal(_)), "{fault}");
    assert!(fault.to_string().starts_with("PostgreSQL answers without TLS (ssl = off), and sslmode"), "{fault}");

    let folder = std::env::temp_dir().join(format!("tidegate-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    shell(&folder, CERTIFICATES);
    let trusting = format!("sslmode=verify-full&sslrootcert={}/ca.crt", folder.display());
    let cases = [
        ("named", "sslmode=verify-full", "name the file of its CA as sslrootcert in database.url"),
        ("named", trusting.as_str(), "is not made out to 127.0.0.1, but to DnsName(\"pg.example\")"),
        ("lonely", trusting.as_str(), "the server leaves out the certificates in between"),
        ("old", trusting.as_str(), "the server's certificate has expired: renew it"),
        ("ca", trusting.as_str(), "is that of an authority (CA:TRUE)"),
    ];
    for (certificate, query, expected) in cases {
        show(&server, &folder, certificate);
        let fault = refused(query);
        assert!(matches!(fault, Fault::Fatal(_)), "{certificate}: {fault}");
        assert!(fault.to_string().contains(expected), "{certificate}: {fault}");
        assert!(!fault.to_string().contains("running"), "{certificate}: {fault}");
    }
    show(&server, &folder, "local");
    begin(&format!("{}?{trusting}", server.url)).unwrap();
    show(&server, &folder, "named");
    begin(&format!("{}?{}", server.url, trusting.replace("verify-full", "verify-ca"))).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn only_where_nothing_answers_is_it_asked_whether_it_runs() {
    if !is_wanted() {
        return;
    }
    let fault = begin("postgres://tidegate@127.0.0.1:1/x").unwrap_err();
    let expected = "no connection: is PostgreSQL running at 127.0.0.1:1, and reachable from here? Nothing answers: ";
    assert!(fault.is_retry() && fault.to_string().starts_with(expected), "{fault}");
    let fault = begin("postgres://tidegate@nowhere.invalid/x").unwrap_err();
    let expected = "the host nowhere.invalid of database.url has no address here: ";
    assert!(fault.is_retry() && fault.to_string().starts_with(expected), "{fault}");
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    let answer = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = other.accept().unwrap();
        let _ = stream.read(&mut [0; 64]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let fault = begin(&format!("postgres://tidegate@127.0.0.1:{port}/x?sslmode=require")).unwrap_err();
    answer.join().unwrap();
    let expected = format!("127.0.0.1:{port} answers, but not as PostgreSQL does: the port is another program's");
    assert!(matches!(fault, Fault::Fatal(_)) && fault.to_string().starts_with(&expected), "{fault}");
}
