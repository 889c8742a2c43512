//! A secret never prints: a canary is looked for in everything that can be printed.

use super::{Scratch, load, origin};

const CANARY: &str = "c4n4ry-5ecret";

fn assert_silent(what: &str, text: &str) {
    assert!(!text.contains(CANARY), "{what} tells the secret: {text}");
}

#[test]
fn no_print_of_loaded_settings_tells_a_secret() {
    let url = format!("postgres://u:{CANARY}@h/db");
    let environment = [("TIDEGATE_DATABASE__URL", url.as_str()), ("TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD", CANARY)];
    let file = format!("kafka: {{properties: {{ssl.key.password: {CANARY}, client.rack: a}}}}");
    let settings = load(&file, &environment, &[]).unwrap();
    assert_eq!(settings.database.url.expose(), url);
    assert_eq!(settings.kafka.properties.value("sasl.password"), Some(CANARY));
    assert_eq!(settings.kafka.properties.value("ssl.key.password"), Some(CANARY));
    assert_silent("Debug of the sections", &format!("{:?} {:?}", settings.database, settings.kafka));
    assert_silent("Serialize", &serde_json::to_string(&settings).unwrap());
    assert_silent("Display", &settings.database.url.to_string());
    assert_silent("the values in force", &serde_json::to_string(settings.effective()).unwrap());
    assert!(serde_json::to_string(&settings).unwrap().contains("***"));
    assert_silent("Debug", &format!("{settings:?}"));
}

#[test]
fn no_mistake_tells_a_secret() {
    let wrong = format!("mysql://u:{CANARY}@h/db");
    let file = format!("databse: {{url: \"{CANARY}\"}}\n{CANARY}\n");
    for (yaml, variable) in [("", wrong.as_str()), (file.as_str(), "")] {
        let problems = load(yaml, &[("TIDEGATE_DATABASE__URL", variable)], &[]).unwrap_err();
        assert_silent("a mistake", &problems.to_string());
        assert_silent("Debug of mistakes", &format!("{problems:?}"));
    }
    let problems = load("", &[("TIDEGATE_DATABASE__URI", wrong.as_str())], &[]).unwrap_err().to_string();
    assert!(problems.contains("did you mean database.url?"), "{problems}");
    assert_silent("an unknown key", &problems);
}

#[test]
fn a_url_with_a_password_in_the_wrong_place_is_not_told() {
    let url = format!("postgres://u:{CANARY}@h/db");
    let broker = format!("kafka://u:{CANARY}@h:9092");
    let flag = format!("database={url}?sslmode=require");
    let cases: [(&str, &[(&str, &str)], &[&str]); 6] = [
        ("", &[("TIDEGATE_DATABASE__SCHEMA", &url)], &[]),
        ("", &[("TIDEGATE_HTTP__ADDRESS", &url)], &[]),
        ("", &[("TIDEGATE_KAFKA__BOOTSTRAP_SERVERS", &broker)], &[]),
        ("", &[], &[&url]),
        ("", &[], &[&flag]),
        ("", &[("TIDEGATE_DATABASE", &url)], &[]),
    ];
    for (yaml, environment, flags) in cases {
        let problems = load(yaml, environment, flags).unwrap_err();
        assert_silent("a mistake", &format!("{problems} {problems:?}"));
    }
    let whole = format!("{url}?sslmode=require");
    let told = load("", &[], &[&whole]).unwrap_err().to_string();
    assert_silent("a flag", &told);
    assert!(told.contains("--set: expected path=value, and a secret belongs into a variable (flag --set)"), "{told}");
}

#[test]
fn a_secret_may_come_from_a_file() {
    let secret = Scratch::new("postgres://u:p@h/db\n");
    let path = secret.0.display().to_string();
    let settings = load("", &[("TIDEGATE_DATABASE__URL_FILE", &path)], &[]).unwrap();
    assert_eq!(settings.database.url.expose(), "postgres://u:p@h/db");
    assert_eq!(origin(&settings, "database.url"), format!("environment TIDEGATE_DATABASE__URL_FILE, file {path}"));

    let password = Scratch::new("pass word\r\n");
    let path = password.0.display().to_string();
    let settings = load("", &[("TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD_FILE", &path)], &[]).unwrap();
    assert_eq!(settings.kafka.properties.value("sasl.password"), Some("pass word"));

    let marked = Scratch::new("\u{feff}p\r\n");
    let path = marked.0.display().to_string();
    let settings = load("", &[("TIDEGATE_KAFKA__PROPERTIES__SASL_PASSWORD_FILE", &path)], &[]).unwrap();
    assert_eq!(settings.kafka.properties.value("sasl.password"), Some("p"));

    let empty = Scratch::new("\n");
    let path = empty.0.display().to_string();
    let told = load("", &[("TIDEGATE_DATABASE__URL_FILE", &path)], &[]).unwrap_err().to_string();
    let expected = format!(
        "database.url: the file is empty: write the secret into it (environment TIDEGATE_DATABASE__URL_FILE, file {path})"
    );
    assert!(told.contains(&expected), "{told}");
}

#[test]
fn the_newline_at_the_end_of_a_pem_text_is_its_own() {
    let pem = "-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n";
    let settings = load("", &[("TIDEGATE_KAFKA__PROPERTIES__SSL_KEY_PEM", pem)], &[]).unwrap();
    assert_eq!(settings.kafka.properties.value("ssl.key.pem"), Some(pem));
}
