//! When a transactional producer must not be used again although its calls answered Ok (protocol 7).
//!
//! librdkafka speaks only the first transaction protocol, in which consecutive transactions share a producer epoch, and it
//! repeats a lost `EndTxn` or `TxnOffsetCommit` in silence. The broker may still hold the first copy. Tried on Kafka 4.3.1:
//! the copy of T1's abort, released in the middle of T2, ended T2 although T2's commit answered Ok, and T2's messages were
//! lost while the group's offset moved past them. A new producer with the same transactional id has a newer epoch, which
//! refuses the copy. So every sign of a repeated request taints the producer; the signs are lines of its debug log.

/// What librdkafka is to log. `eos`: the outcome of each `EndTxn`. `broker`: every lost connection; without it librdkafka
/// keeps silent about a connection that is lost again with the same words within 30 s (`rd_kafka_broker_set_error`).
pub(super) const DEBUG_CONTEXTS: &str = "eos,broker";

/// Why a line of the log taints a producer with an open transaction; `None` when it does not.
#[must_use]
pub fn verdict(facility: &str, line: &str) -> Option<String> {
    let taints = match facility {
        "ENDTXN" => !line.contains("EndTxn returned NO_ERROR"),
        "FAIL" | "REQTMOUT" => true,
        _ => false,
    };
    taints.then(|| format!("{facility}: {line}"))
}

/// Follows the log of one producer.
#[derive(Debug, Default)]
pub struct TaintWatch {
    is_open: bool,
    reason: Option<String>,
}

impl TaintWatch {
    /// A transaction begins. Lines from before have been read.
    pub fn begin(&mut self) {
        self.is_open = true;
    }

    /// The transaction's end was acknowledged. Lines from before have been read.
    pub fn end(&mut self) {
        self.is_open = false;
    }

    /// Whether a transaction is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// Reads one line of the log.
    pub fn line(&mut self, facility: &str, line: &str) {
        if self.is_open && self.reason.is_none() {
            self.reason = verdict(facility, line);
        }
    }

    /// Something else than a line went wrong.
    pub fn taint(&mut self, reason: impl Into<String>) {
        self.reason.get_or_insert_with(|| reason.into());
    }

    /// Why the producer must be re-created, if it must.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}
