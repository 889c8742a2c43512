//! Who may read which store. The stores of a roll-up know what its tables know, so whoever wants to read them needs a token where
//! `http.login` asks for one: one for all devices, or, for the minutes of a device, one that has the device in sight. Other stores of such
//! a pipeline may keep the same readings in another way, so they are for those who may see all devices.
//!
//! An instance that asks another one hands on what it was asked with, and the other one looks at it once more: no instance is trusted.

use super::access::{Asker, challenge};
use super::refused::Refused;
use super::view::View;
use crate::engine::query::{Keys, Wanted};
use crate::flow::rollup::RollUp;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

/// Answers for whoever may not read what is wanted of a store, or how much there is in all of them.
pub(super) fn refuse(view: &dyn View, headers: &HeaderMap, wanted: Option<(&str, &Wanted)>) -> Option<Response> {
    admit(view, headers, wanted).err().map(challenge)
}

fn admit(view: &dyn View, headers: &HeaderMap, wanted: Option<(&str, &Wanted)>) -> Result<(), Refused> {
    if view.roll_ups().is_empty() || !view.wants_tokens() {
        return Ok(());
    }
    if let Some((store, wanted)) = wanted
        && let Some(rollup) = view.roll_ups().iter().find(|rollup| rollup.has_store(store))
    {
        let asker = Asker::of(view, rollup, headers)?;
        return match device_of(rollup, store, wanted) {
            Some(device) => asker.device(view, rollup, device).map(drop),
            None => must_see_all(&asker),
        };
    }
    // A token of any roll-up will do.
    let mut refused = Refused { code: StatusCode::UNAUTHORIZED, error: String::new() };
    for rollup in view.roll_ups() {
        match Asker::of(view, rollup, headers).and_then(|asker| must_see_all(&asker)) {
            Ok(()) => return Ok(()),
            // That one is none here says less than that it is one of another roll-up, and does not suffice.
            Err(other) if refused.code == StatusCode::UNAUTHORIZED => refused = other,
            Err(_) => {}
        }
    }
    Err(refused)
}

/// The device whose minutes alone are wanted.
fn device_of<'w>(rollup: &RollUp, store: &str, wanted: &'w Wanted) -> Option<&'w str> {
    match wanted {
        Wanted::Many { keys: Keys::Prefix(prefix), .. } => rollup.device_of(store, prefix),
        _ => None,
    }
}

fn must_see_all(asker: &Asker) -> Result<(), Refused> {
    if asker.sees_all() {
        return Ok(());
    }
    let error = "the token is for some devices, and this knows others, too; of the store of minutes ask for a device by \
                 prefix=<device>%00";
    Err(Refused { code: StatusCode::FORBIDDEN, error: error.into() })
}
