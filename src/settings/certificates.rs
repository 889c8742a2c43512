//! The files of certificates and keys that the database's URL names.

use crate::settings::database_url;
use std::path::Path;

/// What is wrong with the files, a sentence each: the driver names neither the file nor the parameter.
pub(super) fn mistakes(url: &str) -> Vec<String> {
    let files = database_url::files(url).into_iter().filter(|(_, path)| !path.trim().starts_with("-----BEGIN"));
    files.filter_map(|(parameter, path)| Some(format!("{parameter}: {path} {}", mistake(parameter, &path)?))).collect()
}

fn mistake(parameter: &str, path: &str) -> Option<String> {
    match std::fs::read(Path::new(path)) {
        Err(error) => Some(format!("cannot be read: {error}")),
        Ok(bytes) => content(parameter, &String::from_utf8_lossy(&bytes)).map(Into::into),
    }
}

/// What is wrong with the file's content; `None` where it holds what its parameter names.
fn content(parameter: &str, text: &str) -> Option<&'static str> {
    let is_key = parameter.contains("key");
    if is_key && (text.contains("ENCRYPTED")) {
        return Some(
            "is encrypted, and the driver takes keys without a password: `openssl pkey -in FILE -out OTHER` writes one",
        );
    }
    if is_key {
        let is_missing = !text.contains("PRIVATE KEY-----");
        return is_missing.then_some("holds no private key in PEM (-----BEGIN PRIVATE KEY-----)");
    }
    let is_missing = !text.contains("-----BEGIN CERTIFICATE-----");
    is_missing.then_some("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_told_by_its_parameter_its_path_and_what_it_lacks() {
        let told = mistakes("postgres://h/db?sslrootcert=/nonexistent/ca.pem&sslcert=/dev/null&sslkey=/dev/null");
        let expected = [
            "sslrootcert: /nonexistent/ca.pem cannot be read: No such file or directory (os error 2)",
            "sslcert: /dev/null holds no certificate in PEM (-----BEGIN CERTIFICATE-----)",
            "sslkey: /dev/null holds no private key in PEM (-----BEGIN PRIVATE KEY-----)",
        ];
        assert_eq!(told, expected);
        assert_eq!(mistakes("postgres://h/db?sslrootcert=-----BEGIN CERTIFICATE-----"), Vec::<String>::new());
        assert_eq!(content("sslkey", "-----BEGIN RSA PRIVATE KEY-----"), None);
        assert!(content("sslkey", "-----BEGIN ENCRYPTED PRIVATE KEY-----").unwrap().starts_with("is encrypted"));
        assert_eq!(content("sslrootcert", "-----BEGIN CERTIFICATE-----"), None);
    }
}
