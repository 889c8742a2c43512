//! TLS that fails: the server has answered, so it is told what is wrong with the certificate, and which part of the URL
//! ends it.

use crate::server::{Server, is_wanted, sql};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tidegate::adapters::postgres::{PostgresRows, PostgresSettings};
use tidegate::ports::rows::Rows;

/// A certificate for `db.example`, by a CA of its own, where the server looks for it.
fn certify(folder: &Path) {
    let script = "set -e; cd \"$1\"; \
         openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -subj /CN=ca -days 30; \
         openssl req -newkey rsa:2048 -nodes -keyout server.key -out server.csr -subj /CN=db.example; \
         echo subjectAltName=DNS:db.example >names; \
         openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out server.crt -days 30 -extfile names; \
         chmod 600 server.key; chown --reference=. server.key server.crt";
    let done = Command::new("sh").args(["-c", script, "sh"]).arg(folder).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn tls_that_fails_names_its_cause_and_the_part_of_the_url_that_ends_it() {
    if !is_wanted() {
        return;
    }
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: needs openssl, to make a certificate");
        return;
    }
    let server = Server::start("tls");
    let connect = |parameters: &str| {
        let settings = PostgresSettings::new(&format!("{}?{parameters}", server.url));
        PostgresRows::new(&settings, "p", "p").unwrap().begin().map_err(|fault| fault.to_string())
    };
    let expect = |parameters: &str, words: &str| {
        let told = connect(parameters).unwrap_err();
        assert!(told.starts_with("no connection to ") && told.contains(words), "{parameters}: {told}");
        assert!(!told.contains("is PostgreSQL running"), "{parameters}: {told}");
    };
    expect("sslmode=require", "has TLS off, which sslmode in database.url asks for");

    let data = server.folder().join("data");
    certify(&data);
    sql(&server.url, "ALTER SYSTEM SET ssl = on");
    sql(&server.url, "SELECT pg_reload_conf()");
    let began = Instant::now();
    while let Err(told) = connect("sslmode=require") {
        assert!(began.elapsed() < Duration::from_secs(10), "{told}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let ca = data.join("ca.pem").display().to_string();
    expect("sslmode=verify-full", "its certificate is not trusted: name the CA that signed it by sslrootcert=FILE");
    expect(&format!("sslmode=verify-full&sslrootcert={ca}"), "its certificate is for another name");
    expect(
        "sslmode=verify-ca&sslrootcert=/nowhere/ca.pem",
        "a file that database.url names cannot be read: sslrootcert",
    );
    connect(&format!("sslmode=verify-ca&sslrootcert={ca}")).unwrap();
}
