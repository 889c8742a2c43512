//! The page and the probes.

use crate::settings::rule::{Allowed, Rule};
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};

/// Settings of the HTTP listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpSettings {
    /// Address and port of page and probes. Default: `127.0.0.1:8230`, this machine only, because the page has no login.
    pub address: SocketAddr,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 8230)) }
    }
}

impl HttpSettings {
    pub(super) const RULES: &'static [Rule] = &[Rule::new(
        "http",
        "address",
        Allowed::Text { what: "address:port, for instance 0.0.0.0:8230", fits: |t| t.parse::<SocketAddr>().is_ok() },
    )];
}
