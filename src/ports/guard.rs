//! The guards (docs/guards.md) that a test can switch off, to show which harm they prevent.
//!
//! Like the crash points ([`failpoint`](crate::ports::failpoint)), this is possible with the feature `failpoints` only:
//! without it a guard is never off, and the compiler removes the check. A process reads the names from its environment:
//! `GUARD_OFF=epoch`; several are separated by commas.
//!
//! | number | name | where it is switched off, and the effect | covered by |
//! |---|---|---|---|
//! | 1 | `epoch` | `adapters::postgres::rows`: the compare-and-set of the position does not look at the epoch | 2 |
//! | 2 | `offset` | likewise at the offset | |
//! | 3 | `stable-k` | `adapters::kafka::settings`: K is read past a transaction that is not ended | |
//! | 4 | `claim-first` | `engine::worker::takeover`: K is read before the claim | 5 |
//! | 5 | `captured-metadata` | `engine::protocol::ownership`: a batch of a past assignment is committed as the member that we are now | |
//! | 6 | `revoke-waits` | `engine::member`: a partition is given up while the relay still publishes its messages | 5 |
//! | 7 | `taint-on-abort` | `adapters::kafka::producer`: the producer of an aborted transaction is used again | |
//! | 8 | `taint-on-timeout` | likewise one of whose requests may have been repeated in silence | |
//! | 9 | `verified-k` | `adapters::postgres::partitions`: age alone decides which parts of the outbox are dropped | |
//! | 10 | `settle-lock` | `adapters::postgres::rows`: the position is read without a lock after a COMMIT without an answer | 2 |
//! | 11 | `row-lock` | `adapters::postgres::statements`: rows are read without a lock | |
//! | 12 | `sorted-locks` | likewise: rows are locked in any order | |
//! | 13 | `metadata-tag` | `engine::protocol::metadata`: every committed offset passes for one of ours | |
//! | 14 | `generation` | `adapters::postgres::rows`: a claim does not look at the generation of the claim before | `reclaim` |
//! | – | `reclaim` | `engine::worker::takeover`: a fenced owner does not prove itself and claim again | |
//!
//! "Covered by": the harm is seen only where both are switched off. `tests/system/guards.rs` and `late.rs` show all of it,
//! `docs/guards.md` reports the results.

/// A guard that can be switched off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(
    not(all(feature = "kafka", feature = "postgres")),
    expect(dead_code, reason = "the guards of an adapter that is not compiled")
)]
pub(crate) enum Guard {
    Epoch,
    Offset,
    StableK,
    ClaimFirst,
    CapturedMetadata,
    RevokeWaits,
    TaintOnAbort,
    TaintOnTimeout,
    VerifiedK,
    SettleLock,
    RowLock,
    SortedLocks,
    MetadataTag,
    Generation,
    Reclaim,
}

/// Whether a test wants the process to go without `guard`.
#[cfg(not(feature = "failpoints"))]
pub(crate) const fn is_off(_: Guard) -> bool {
    false
}

#[cfg(feature = "failpoints")]
pub(crate) use switches::is_off;

/// A statement's text; less `part`, which is the guard, where a test wants the process to go without it.
#[cfg(feature = "postgres")]
pub(crate) fn guarded<'t>(
    text: impl Into<std::borrow::Cow<'t, str>>,
    guard: Guard,
    part: &str,
) -> std::borrow::Cow<'t, str> {
    let text = text.into();
    debug_assert!(text.contains(part), "{part:?} is no part of {text:?}");
    if is_off(guard) { text.replace(part, "").into() } else { text }
}

#[cfg(feature = "failpoints")]
mod switches {
    use super::Guard;
    use std::sync::OnceLock;

    /// The environment variable in which a test names the guards to switch off.
    const VARIABLE: &str = "GUARD_OFF";

    const GUARDS: [(&str, Guard); 15] = [
        ("epoch", Guard::Epoch),
        ("offset", Guard::Offset),
        ("stable-k", Guard::StableK),
        ("claim-first", Guard::ClaimFirst),
        ("captured-metadata", Guard::CapturedMetadata),
        ("revoke-waits", Guard::RevokeWaits),
        ("taint-on-abort", Guard::TaintOnAbort),
        ("taint-on-timeout", Guard::TaintOnTimeout),
        ("verified-k", Guard::VerifiedK),
        ("settle-lock", Guard::SettleLock),
        ("row-lock", Guard::RowLock),
        ("sorted-locks", Guard::SortedLocks),
        ("metadata-tag", Guard::MetadataTag),
        ("generation", Guard::Generation),
        ("reclaim", Guard::Reclaim),
    ];

    fn parse(text: &str) -> Result<Vec<Guard>, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        let guard = |wanted| {
            let found = GUARDS.iter().find(|(name, _)| *name == wanted).map(|(_, guard)| *guard);
            found.ok_or_else(|| {
                let all = GUARDS.map(|(name, _)| name).join(", ");
                format!("{VARIABLE}: {wanted:?} is no guard that can be switched off; these are: {all}")
            })
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
            assert_eq!(parse(" epoch,offset,"), Ok(vec![Guard::Epoch, Guard::Offset]));
            assert!(parse("epoch,epoque").unwrap_err().contains("\"epoque\""));
            let all = GUARDS.map(|(name, _)| name).join(",");
            assert_eq!(parse(&all).unwrap(), GUARDS.map(|(_, guard)| guard));
        }
    }
}
