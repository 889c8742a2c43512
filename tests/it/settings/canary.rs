//! A canary in every place of a secret, and every command: it is in no line, whatever is wrong.

use crate::cli::tidegate;
use proptest::prelude::*;
use sqlx::postgres::PgConnectOptions;
use std::str::FromStr;

const KAFKA: (&str, &str) = ("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1");

/// Everything that a command writes, at the most talkative level.
fn told(arguments: &[&str], url: &str) -> (Option<i32>, String) {
    let environment = [
        KAFKA,
        ("TIDEGATE_DATABASE__URL", url),
        ("TIDEGATE_KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("TIDEGATE_KAFKA__PROPERTIES__SASL_MECHANISM", "PLAIN"),
        ("TIDEGATE_KAFKA__PROPERTIES__SASL_USERNAME", "app"),
        ("TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD", "C4n4ry#5asl/pw"),
        ("TIDEGATE_LOG", "trace"),
    ];
    let output = tidegate(arguments, &environment);
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

#[test]
fn no_command_writes_a_piece_of_a_secret() {
    let urls = [
        "postgres://app:E4r1y#C4n4ry@127.0.0.1:1/db",
        "postgres://app:/E4r1y+r?C4n4:L4te@127.0.0.1:1/db",
        "postgres://app:p@127.0.0.1:1/db?sslmode=disable&sslpassword=C4n4ryL4te",
        "postgres://app:E4r1y%23C4n4ry%3FL4te@127.0.0.1:1/db?sslmode=disable",
        "postgres://app:E4r1yC4n4ry@127.0.0.1:1/db?E4r1y=C4n4ry",
        "E4r1y C4n4ry",
        "postgres://app:E4r1y@C4n4ry:L4te/db",
    ];
    let commands: [&[&str]; 7] = [
        &["config", "show"],
        &["config", "show", "-o", "json"],
        &["config", "validate"],
        &["run"],
        &["migrate"],
        &["audit"],
        &["skip", "readings-0", "--to", "3", "--yes"],
    ];
    for url in urls {
        for command in commands {
            let (code, text) = told(command, url);
            for piece in ["E4r1y", "C4n4", "L4te", "5asl"] {
                assert!(!text.contains(piece), "{command:?} with {url} tells {piece}: {text}");
            }
            assert!(code.is_some(), "{command:?} was killed");
        }
    }
}

#[test]
fn a_password_that_no_url_can_hold_is_told_with_its_spelling_before_anything_is_asked() {
    for (password, spelling) in [("E4r1y#x", "%23 for #"), ("/7M+r?E:dHz", "%2F for /, %3F for ?")] {
        for command in ["run", "migrate"].map(|name| vec![name]).into_iter().chain([vec!["config", "validate"]]) {
            let (code, text) = told(&command, &format!("postgres://app:{password}@127.0.0.1/db"));
            assert_eq!(code, Some(78), "{text}");
            let expected = format!(
                "database.url: \"***\": the password holds a character at which a URL ends it: in the password write \
                 {spelling} (environment TIDEGATE_DATABASE__URL)"
            );
            assert!(text.contains(&expected), "{text}");
        }
    }
}

#[test]
fn a_parameter_without_effect_is_named_once_and_its_value_is_not() {
    let (code, text) = told(&["config", "validate"], "postgres://h/db?sslpassword=C4n4ry");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("note: database.url: sslpassword has no effect: the driver does not have it\n"), "{text}");
    let (_, text) = told(&["run"], "postgres://127.0.0.1:1/db?sslpassword=C4n4ry");
    assert_eq!(text.matches("sslpassword").count(), 1, "{text}");
}

proptest! {
    #[test]
    fn a_url_is_refused_or_means_to_the_driver_what_it_says(password in "[a-z#/?@:&=%+\\\\\\[\\] \"'<>{}|^`!$(),;*~.-]{0,12}") {
        let url = format!("postgres://app:{password}@127.0.0.1:5432/db?sslmode=disable");
        let loaded = super::load("", &[("TIDEGATE_DATABASE__URL", &url)], &[]);
        match loaded {
            Ok(_) => {
                let options = PgConnectOptions::from_str(&url).expect(&url);
                let read = (options.get_host(), options.get_port(), options.get_username(), options.get_database());
                prop_assert_eq!(read, ("127.0.0.1", 5432, "app", Some("db")), "{}", url);
            }
            Err(problems) => {
                let told = problems.to_string();
                prop_assert!(told.contains("database.url"), "{told}");
                prop_assert!(
                    password.contains(['#', '/', '?', ' ', '%', '$', '<']),
                    "refused without need: {url}: {told}"
                );
            }
        }
    }
}
