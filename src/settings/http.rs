//! The page and the probes.

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
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8230)), advertised_address: None }
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
    ];
}

fn is_place(text: &str) -> bool {
    let is_host = |host: &str| !host.is_empty() && !host.contains(char::is_whitespace);
    text.rsplit_once(':').is_some_and(|(host, port)| is_host(host) && port.parse::<u16>().is_ok_and(|port| port > 0))
}
