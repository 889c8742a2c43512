//! Where an instance can be asked, as its group is told.
//!
//! The address of a loopback device means another place on each host, and in each pod. So it is told together with what
//! names the network that it belongs to, and who stands in another network makes no use of it.

use std::fs;
use std::net::{IpAddr, SocketAddr};

/// What the group is told of `address`, `host:port`; `None` for one that is of no use to anybody else.
#[must_use]
pub fn told(address: &str) -> Option<String> {
    if is_loopback(address) { Some(format!("{address}#{}", network()?)) } else { Some(address.into()) }
}

/// The address that was told, where it can be reached from here.
#[must_use]
pub fn reachable(told: &str) -> Option<&str> {
    let Some((address, owners)) = told.split_once('#') else {
        return Some(told).filter(|address| !is_loopback(address));
    };
    (network().as_deref() == Some(owners)).then_some(address)
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let ip = address.parse().map(|address: SocketAddr| address.ip()).or_else(|_| host.parse::<IpAddr>());
    ip.map_or_else(|_| host.eq_ignore_ascii_case("localhost"), |ip| ip.to_canonical().is_loopback())
}

/// Names this network namespace of this boot of this machine; `None` where the system does not tell.
fn network() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/net").ok()?;
    let number: String = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    Some(format!("{}-{number}", boot.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_of_a_loopback_device_is_of_use_in_its_own_network_alone() {
        for address in ["10.0.0.7:8230", "pod-1.pods:8230", "[fd00::7]:8230"] {
            assert_eq!(told(address).as_deref(), Some(address));
            assert_eq!(reachable(address), Some(address));
        }
        for address in ["127.0.0.1:8230", "localhost:8230", "[::1]:8230", "127.8.8.8:1", "[::ffff:127.0.0.1]:8230"] {
            let told = told(address);
            assert_ne!(told.as_deref(), Some(address));
            if let Some(told) = told {
                assert_eq!(reachable(&told), Some(address), "from the same network");
            }
            assert_eq!(reachable(&format!("{address}#another-1")), None, "from another one");
            assert_eq!(reachable(address), None, "told by an earlier release: whose it is cannot be known");
        }
    }
}
