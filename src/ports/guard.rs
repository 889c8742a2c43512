//! The guards of hazards.md section 8 that a test can switch off, so that it is seen what they guard against.
//!
//! As with the crash points ([`failpoint`](crate::ports::failpoint)), that is possible with the feature `failpoints` only:
//! without it a guard is never off, and the compiler leaves nothing of the question. A process is told by its
//! environment: `GUARD_OFF=taint`; several are separated by commas.
//!
//! | guard | what it does where it is not switched off |
//! |---|---|
//! | `taint` | `adapters::kafka::producer`: a producer is not used again after an abort, and not after a request of a transaction may have been repeated in silence (guards 7 and 8) |

/// What can be switched off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Guard {
    /// Producers are replaced after any doubt.
    Taint,
}

/// Whether a test wants the process to go without `guard`.
#[cfg(not(feature = "failpoints"))]
pub(crate) const fn is_off(_: Guard) -> bool {
    false
}

#[cfg(feature = "failpoints")]
pub(crate) use switches::is_off;

#[cfg(feature = "failpoints")]
mod switches {
    use super::Guard;
    use std::sync::OnceLock;

    /// Where a test tells what to do without.
    const VARIABLE: &str = "GUARD_OFF";

    fn parse(text: &str) -> Result<Vec<Guard>, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let guard = |name| match name {
            "taint" => Ok(Guard::Taint),
            other => Err(format!("{VARIABLE}: {other:?} is no guard that can be switched off; taint is")),
        };
        names.map(guard).collect()
    }

    /// Whether a test wants the process to go without `guard`.
    pub(crate) fn is_off(guard: Guard) -> bool {
        static OFF: OnceLock<Vec<Guard>> = OnceLock::new();
        let off = OFF.get_or_init(|| {
            parse(&std::env::var(VARIABLE).unwrap_or_default()).unwrap_or_else(|error| {
                eprintln!("{error}");
                std::process::exit(64)
            })
        });
        off.contains(&guard)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_failpoint_build_knows_its_guards_by_name_and_no_others() {
            assert_eq!(parse(""), Ok(vec![]));
            assert_eq!(parse(" taint,"), Ok(vec![Guard::Taint]));
            assert!(parse("taint,stain").unwrap_err().contains("\"stain\""));
        }
    }
}
