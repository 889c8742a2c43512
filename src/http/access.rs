//! Who may see and write what of a roll-up: whoever has a token, what it says; everybody everything, where the setting `http.login`
//! says so. A token is never kept, only its hash: whoever reads the table has none.
//!
//! | code | meaning |
//! |---|---|
//! | 401 | there is no token, or it is none |
//! | 403 | it is one that only reads |
//! | 404 | there is no such device among those that it is for |

use super::refused::Refused;
use super::view::{View, with_tables};
use crate::flow::rollup::RollUp;
use crate::ports::rollups::{Device, Grant, WantedDevices};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::fmt;

/// The words in front of a token: the second one is InfluxDB's.
const SCHEMES: [&str; 2] = ["Bearer", "Token"];

/// What is kept of a token.
#[must_use]
pub fn hash_of(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

/// What somebody asks with, to be handed on to another instance: the header `Authorization` as it came. It does not print.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Credential(Option<String>);

impl Credential {
    /// That of a request.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        Self(headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned))
    }

    /// As the header of another request.
    pub(super) fn header(&self) -> Option<(&str, &str)> {
        Some((AUTHORIZATION.as_str(), self.0.as_deref()?))
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Credential(…)" } else { "Credential(none)" })
    }
}

/// Somebody who asks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Asker {
    /// Nobody is asked for a token here.
    Anybody,
    /// The holder of a token.
    Holder(Grant, Credential),
}

impl Asker {
    /// Looks at the token of a request.
    pub(super) fn of(view: &dyn View, rollup: &RollUp, headers: &HeaderMap) -> Result<Self, Refused> {
        if !view.wants_tokens() {
            return Ok(Self::Anybody);
        }
        let refused = |error: &str| Refused { code: StatusCode::UNAUTHORIZED, error: error.into() };
        let token = token(headers).ok_or_else(|| {
            refused("a token is needed, as in `Authorization: Bearer tg_…`; `tidegate token create` makes one")
        })?;
        let grant = with_tables(view, |tables| tables.grant(&rollup.name, &hash_of(&token)))?;
        let holder = |grant| Self::Holder(grant, Credential::of(headers));
        grant.map(holder).ok_or_else(|| refused("the token is none, or was taken back"))
    }

    /// Refuses whoever only reads.
    pub(super) fn must_write(&self) -> Result<(), Refused> {
        match self {
            Self::Holder(Grant { may_write: false, name, .. }, _) => {
                Err(Refused { code: StatusCode::FORBIDDEN, error: format!("the token of {name} only reads") })
            }
            _ => Ok(()),
        }
    }

    /// Whether all devices are in sight, those too of which nothing is known.
    pub(super) const fn sees_all(&self) -> bool {
        match self {
            Self::Anybody => true,
            Self::Holder(Grant { home, devices, .. }, _) => home.is_none() && devices.is_none(),
        }
    }

    /// What it asks with, for the instance that has to answer.
    pub(super) fn credential(&self) -> Credential {
        match self {
            Self::Anybody => Credential::default(),
            Self::Holder(_, credential) => credential.clone(),
        }
    }

    /// Asks for those devices alone that are in sight. `None`: there are none.
    pub(super) fn narrow(&self, mut wanted: WantedDevices) -> Option<WantedDevices> {
        let Self::Holder(grant, _) = self else { return Some(wanted) };
        if let Some(home) = &grant.home {
            if wanted.home.as_ref().is_some_and(|wanted| wanted != home) {
                return None;
            }
            wanted.home = Some(home.clone());
        }
        if let Some(devices) = &grant.devices {
            let asked = wanted.only.take();
            let is_asked = |device: &&String| asked.as_ref().is_none_or(|asked| asked.contains(device));
            wanted.only = Some(devices.iter().filter(is_asked).cloned().collect());
        }
        Some(wanted)
    }

    /// The device of that name, as it is described; one that nobody has described is there for whoever may see all.
    pub(super) fn device(&self, view: &dyn View, rollup: &RollUp, device: &str) -> Result<Device, Refused> {
        let of_name = WantedDevices { only: Some(vec![device.into()]), limit: 1, ..WantedDevices::default() };
        let found = match self.narrow(of_name) {
            Some(wanted) => with_tables(view, |tables| tables.devices(&rollup.name, &wanted))?.pop(),
            None => None,
        };
        match found {
            Some(found) => Ok(found),
            None if self.sees_by_name(device) => Ok(Device { device: device.into(), ..Device::default() }),
            None => Err(Refused::not_found(format!("no device {device} is in sight"))),
        }
    }

    /// Those of some devices that are in sight.
    pub(super) fn in_sight(
        &self,
        view: &dyn View,
        rollup: &RollUp,
        mut devices: BTreeSet<String>,
    ) -> Result<BTreeSet<String>, Refused> {
        let Self::Holder(grant, _) = self else { return Ok(devices) };
        if let Some(own) = &grant.devices {
            devices.retain(|device| own.contains(device));
        }
        if grant.home.is_none() || devices.is_empty() {
            return Ok(devices);
        }
        let limit = u32::try_from(devices.len()).unwrap_or(u32::MAX);
        let only = Some(devices.into_iter().collect());
        let wanted = WantedDevices { home: grant.home.clone(), only, limit, ..WantedDevices::default() };
        let found = with_tables(view, |tables| tables.devices(&rollup.name, &wanted))?;
        Ok(found.into_iter().map(|device| device.device).collect())
    }

    /// Whether a device is in sight of which nothing is known but its name.
    pub(super) fn sees_by_name(&self, device: &str) -> bool {
        match self {
            Self::Anybody => true,
            Self::Holder(Grant { home, devices, .. }, _) => {
                home.is_none() && devices.as_ref().is_none_or(|devices| devices.iter().any(|own| own == device))
            }
        }
    }
}

/// The token of a request.
fn token(headers: &HeaderMap) -> Option<String> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let is_known = SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme));
    is_known.then(|| token.trim().to_owned())
}

/// An answer to whoever has no token says which one is wanted.
pub(super) fn challenge(refused: Refused) -> Response {
    let is_unknown = refused.code == StatusCode::UNAUTHORIZED;
    let mut response = refused.into_response();
    if is_unknown {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(home: Option<&str>, devices: Option<&[&str]>) -> Asker {
        let devices = devices.map(|devices| devices.iter().map(|device| (*device).to_owned()).collect());
        let grant = Grant { name: "ada".into(), home: home.map(str::to_owned), devices, may_write: false };
        Asker::Holder(grant, Credential(Some("Bearer tg_1".into())))
    }

    #[test]
    fn a_token_narrows_what_is_asked_for_and_widens_nothing() {
        let wanted = |home: Option<&str>, only: Option<&[&str]>| WantedDevices {
            home: home.map(str::to_owned),
            only: only.map(|only| only.iter().map(|device| (*device).to_owned()).collect()),
            ..WantedDevices::default()
        };
        assert_eq!(Asker::Anybody.narrow(wanted(None, None)), Some(wanted(None, None)));
        let of_home = holder(Some("h1"), None);
        assert_eq!(of_home.narrow(wanted(None, None)), Some(wanted(Some("h1"), None)));
        assert_eq!(of_home.narrow(wanted(Some("h2"), None)), None);
        let of_two = holder(None, Some(&["a", "b"]));
        assert_eq!(of_two.narrow(wanted(None, None)), Some(wanted(None, Some(&["a", "b"]))));
        assert_eq!(of_two.narrow(wanted(None, Some(&["b", "c"]))), Some(wanted(None, Some(&["b"]))));
        assert!(of_two.sees_by_name("a") && !of_two.sees_by_name("c") && !of_home.sees_by_name("a"));
        assert!(of_two.must_write().is_err_and(|refused| refused.code == StatusCode::FORBIDDEN));
        assert!(Asker::Anybody.must_write().is_ok());
        assert!(Asker::Anybody.sees_all() && holder(None, None).sees_all());
        assert!(!of_home.sees_all() && !of_two.sees_all());
    }

    #[test]
    fn the_token_is_read_behind_the_words_of_http_and_of_influxdb() {
        let of = |text: &'static str| token(&HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(text))]));
        assert_eq!(of("Bearer tg_1"), Some("tg_1".into()));
        assert_eq!(of("token tg_1"), Some("tg_1".into()));
        assert_eq!(of("Basic tg_1"), None);
        assert_eq!(of("tg_1"), None);
        let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer tg_1"))]);
        assert_eq!(Credential::of(&headers).header(), Some(("authorization", "Bearer tg_1")), "handed on as it came");
        assert!(!format!("{:?}", Credential::of(&headers)).contains("tg_"), "and not printed");
        assert_eq!(hash_of("tg_1").len(), 32);
        assert_ne!(hash_of("tg_1"), hash_of("tg_2"));
    }
}
