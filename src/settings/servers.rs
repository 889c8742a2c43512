//! The list of brokers to begin with: `host:port`, separated by commas.

const SHAPE: &str = "expected host:port, separated by commas";

/// The protocols that a server may be written with, as librdkafka allows it.
const PROTOCOLS: [&str; 4] = ["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"];

/// Why this is no such list, with the way out where it is seen; `None` where it is one, or empty.
pub(super) fn mistake(text: &str) -> Option<String> {
    if text.is_empty() || text.split(',').all(is_server) {
        return None;
    }
    let bare: Vec<&str> =
        text.split([',', ';', ' ', '\n']).map(without_scheme).filter(|part| !part.is_empty()).collect();
    let with_port = |server: &&str| if server.contains(':') { (*server).to_owned() } else { format!("{server}:9092") };
    let meant = bare.iter().map(with_port).collect::<Vec<_>>().join(",");
    let hint = if meant.split(',').all(is_server) { format!("; did you mean {meant}?") } else { String::new() };
    Some(format!("{SHAPE}{hint}"))
}

/// A server that librdkafka would leave out, with all behind it: it is written with another protocol than `protocol`.
pub(super) fn of_another_protocol<'t>(text: &'t str, protocol: &str) -> Option<&'t str> {
    let is_other = |server: &str| server.split_once("://").is_some_and(|(own, _)| !own.eq_ignore_ascii_case(protocol));
    text.split(',').map(str::trim).find(|server| is_other(server))
}

fn is_server(server: &str) -> bool {
    let server = server.trim();
    let is_known = |scheme: &str| PROTOCOLS.contains(&scheme.to_ascii_lowercase().as_str());
    if server.split_once("://").is_some_and(|(scheme, _)| !is_known(scheme)) {
        return false;
    }
    without_scheme(server).rsplit_once(':').is_some_and(|(host, port)| {
        let is_host = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || matches!(c, '/' | ';' | '@'));
        is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

fn without_scheme(server: &str) -> &str {
    server.split_once("://").map_or(server, |(_, place)| place).trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_list_is_told_with_the_one_that_was_meant() {
        let cases = [
            ("localhost", "; did you mean localhost:9092?"),
            ("a;b", "; did you mean a:9092,b:9092?"),
            ("a:1;b:2", "; did you mean a:1,b:2?"),
            ("a:1 b:2", "; did you mean a:1,b:2?"),
            ("kafka://a:9092", "; did you mean a:9092?"),
            ("http://a:9092/", "; did you mean a:9092?"),
            ("a:b", ""),
            ("a:0", ""),
            ("a:70000", ""),
        ];
        for (text, hint) in cases {
            assert_eq!(mistake(text), Some(format!("{SHAPE}{hint}")), "{text}");
        }
        for text in ["", "a:1", "a:1,b:2", " a:1 , b:2", "[::1]:9092", "PLAINTEXT://a:9092", "SASL_SSL://a:9093,b:9093"]
        {
            assert_eq!(mistake(text), None, "{text}");
        }
    }

    #[test]
    fn a_server_of_another_protocol_is_found() {
        assert_eq!(of_another_protocol("a:1,SSL://b:2", "plaintext"), Some("SSL://b:2"));
        assert_eq!(of_another_protocol("ssl://a:1,b:2", "SSL"), None);
        assert_eq!(of_another_protocol("a:1", "SSL"), None);
    }
}
