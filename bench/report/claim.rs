//! One job: numbers that were promised, those that are missed first.

use serde::Serialize;
use std::fmt::Write;

/// A number that was promised.
#[derive(Clone, Debug, Serialize)]
pub struct Claim {
    pub what: String,
    pub found: f64,
    pub bound: f64,
    /// Whether `found` must reach the bound rather than stay below it.
    pub is_floor: bool,
}

impl Claim {
    pub fn holds(&self) -> bool {
        if self.is_floor { self.found >= self.bound } else { self.found <= self.bound }
    }
}

/// The table of claims.
pub fn write(claims: &[Claim], text: &mut String) {
    let mut claims = claims.to_vec();
    claims.sort_by_key(Claim::holds);
    if !claims.is_empty() {
        let _ = writeln!(text, "\n| claim | found | bound | |\n|---|---|---|---|");
    }
    for claim in &claims {
        let Claim { what, found, bound, is_floor } = claim;
        let sign = if *is_floor { '≥' } else { '≤' };
        let verdict = if claim.holds() { "holds" } else { "**missed**" };
        let _ = writeln!(text, "| {what} | {found:.2} | {sign} {bound} | {verdict} |");
    }
}
