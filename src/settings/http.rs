//! The page and the probes.

use crate::settings::origin::Origin;
use crate::settings::problem::Problems;
use crate::settings::rule::{Allowed, Rule};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};

/// Settings of the HTTP listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpSettings {
    /// Address and port of page and probes. Default: `127.0.0.1:8230`, this machine only, because the page has no login.
    #[serde(rename = "http.address")]
    pub address: SocketAddr,
    /// Where other instances reach this listener, to read what its stores hold, as `host:port`. Default: null, and `address`
    /// is told them; where that is 0.0.0.0, the address by which this machine reaches Kafka. One of a loopback device is
    /// made use of on this machine alone.
    #[serde(rename = "http.advertised_address")]
    pub advertised_address: Option<String>,
    /// Names under which browsers and programs may ask for the page and the stores, separated by commas, beside IP addresses,
    /// `localhost`, the host of `advertised_address` and the machine's own name. Default: null. For names of a proxy or of a
    /// Kubernetes Service; any other is refused, or a page elsewhere could read the stores by a name of its own that leads here.
    #[serde(rename = "http.hosts")]
    pub hosts: Option<String>,
    /// Who may see roll-ups and the stores of their pipeline, and write readings. Default: whoever has a token.
    #[serde(rename = "http.login")]
    pub login: Login,
}

/// Who may see roll-ups and write readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Login {
    /// Whoever has a token.
    #[default]
    Token,
    /// Everybody on this machine.
    None,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8230)),
            advertised_address: None,
            hosts: None,
            login: Login::Token,
        }
    }
}

impl HttpSettings {
    pub(super) const RULES: &'static [Rule] = &[
        Rule::new(
            "http",
            "address",
            Allowed::Text {
                what: "address:port, for instance 0.0.0.0:8230",
                fits: |t| t.parse::<SocketAddr>().is_ok(),
            },
        ),
        Rule::new(
            "http",
            "advertised_address",
            Allowed::TextOrNull { what: "host:port, for instance 10.0.0.7:8230", fits: is_place },
        ),
        Rule::new(
            "http",
            "hosts",
            Allowed::TextOrNull { what: "names without ports, for instance scoring.example,scoring", fits: are_names },
        ),
        Rule::new("http", "login", Allowed::Choice(&["token", "none"])),
    ];

    pub(super) fn cross_check(&self, origin: &dyn Fn(&str) -> Origin, problems: &mut Problems) {
        if self.login == Login::None && !self.address.ip().is_loopback() {
            let path = "http.login";
            let message = format!(
                "would let everybody who reaches http.address ({}) see and write everything; use token, or 127.0.0.1",
                self.address
            );
            problems.add(path, Some("none".into()), message, origin(path));
        }
    }
}

fn are_names(text: &str) -> bool {
    let is_name = |name: &str| !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == ':' || c == '/');
    text.split(',').map(str::trim).all(is_name)
}

fn is_place(text: &str) -> bool {
    let is_host = |host: &str| !host.is_empty() && !host.contains(char::is_whitespace);
    text.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0))
}
