//! Who this instance is.

use crate::settings::rule::{Allowed, Rule};
use serde::{Deserialize, Serialize};

/// Settings of one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstanceSettings {
    /// Part of the transactional id. Default: null, and the lowest free slot is leased in the database; a pipeline without
    /// rows has none and takes a random one. Two instances with
    /// one number fence each other.
    #[serde(rename = "instance.slot")]
    pub slot: Option<u32>,
    /// Shown in logs and in the slot's lease. Default: null, and the host's name is taken.
    #[serde(rename = "instance.name")]
    pub name: Option<String>,
}

impl InstanceSettings {
    pub(super) const RULES: &'static [Rule] = &[
        Rule::new("instance", "slot", Allowed::WholeOrNull { min: 0, max: 9_999 }),
        Rule::new(
            "instance",
            "name",
            Allowed::TextOrNull {
                what: "1 to 255 characters without spaces",
                fits: |text| (1..=255).contains(&text.len()) && !text.contains(char::is_whitespace),
            },
        ),
    ];
}
