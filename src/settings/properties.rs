//! Client properties that are passed through, of which some are secret by their name.

use crate::settings::owned;
use crate::settings::secret::MASK;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;

/// Properties for librdkafka as they were written. Values of secret names do not print.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Names with their values, secrets in clear: for the client.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The value of one property.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Sets one property.
    pub fn insert(&mut self, name: String, value: String) {
        self.0.insert(name, value);
    }

    /// Each that belongs to the engine or has a key of its own, with the reason.
    pub fn owned(&self) -> impl Iterator<Item = (&str, String)> {
        self.0.keys().filter_map(|name| Some((name.as_str(), owned::check(name).err()?)))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn masked(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().map(|(name, value)| (name, if is_secret(name) { MASK } else { value }))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.masked()).finish()
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.masked())
    }
}

/// Whether a property's value must not print. Rather one too many.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // Where a secret lies is none, and a message about it has to say so.
    if [".location", ".url", ".client.id", ".file"].iter().any(|ending| name.ends_with(ending)) {
        return false;
    }
    ["password", "secret", "token", "credential", "jaas", "ssl.key", "oauthbearer.config", "private"]
        .iter()
        .any(|word| name.contains(word))
}

#[cfg(test)]
mod tests {
    use super::is_secret;

    #[test]
    fn a_property_is_secret_by_its_name() {
        for name in ["sasl.password", "sasl.oauthbearer.client.secret", "ssl.key.pem", "SSL.Keystore.Password"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["client.id", "sasl.mechanism", "sasl.username", "ssl.ca.location", "ssl.key.location"] {
            assert!(!is_secret(name), "{name}");
        }
    }
}
