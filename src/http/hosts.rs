//! The names under which the page and the stores may be asked for. A page elsewhere may let its own name lead to this machine once
//! its script runs in a browser here (DNS rebinding): to the browser that is one and the same site, and the script reads what
//! only this machine should. An address or `localhost` cannot be such a name.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::IpAddr;
use std::sync::Arc;

/// Paths that tell nothing and are asked by whatever name.
const OPEN: [&str; 5] = ["/livez", "/ping", "/readyz", "/ready", "/startupz"];

/// Refuses a question that is put to a name which is none of ours.
pub(super) async fn check(hosts: Arc<[String]>, request: Request, next: Next) -> Response {
    let asked = request.headers().get(HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    match asked.filter(|host| !is_ours(host, &hosts)) {
        Some(host) if !OPEN.contains(&request.uri().path()) => {
            let text = format!(
                "asked for by the name {host}, which is none of this instance's: use an IP address or localhost, or name it in \
                 the setting http.hosts\n"
            );
            (StatusCode::MISDIRECTED_REQUEST, text).into_response()
        }
        _ => next.run(request).await,
    }
}

/// Whether a header `Host` names an address, this machine, or one of `hosts`.
fn is_ours(header: &str, hosts: &[String]) -> bool {
    let host = host_of(header);
    let is_address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    let is_local = |host: &str| host == "localhost" || host.ends_with(".localhost");
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    is_address || is_local(&host) || hosts.iter().any(|known| known.eq_ignore_ascii_case(&host))
}

/// A host without its port.
pub(super) fn host_of(place: &str) -> &str {
    match place.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.ends_with(':') => host,
        _ => place,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_this_machine_and_known_names_are_ours_and_no_other_name_is() {
        let hosts = ["pod-3.tidegate".to_owned(), "scoring.example".to_owned()];
        for ours in [
            "127.0.0.1:8230",
            "10.1.2.3",
            "[::1]:8230",
            "[fd00::7]",
            "localhost",
            "LocalHost:8230",
            "a.localhost",
            "pod-3.tidegate:8230",
            "Scoring.Example",
            "scoring.example.",
        ] {
            assert!(is_ours(ours, &hosts), "{ours}");
        }
        for other in
            ["evil.example", "evil.example:8230", "127.0.0.1.evil.example", "localhost.evil.example", "", "tidegate"]
        {
            assert!(!is_ours(other, &hosts), "{other}");
        }
    }
}
