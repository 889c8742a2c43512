//! When a transactional producer must not be used again although its calls answered Ok
//! (docs/protocol.md#the-late-request).
//!
//! librdkafka speaks only the first transaction protocol, in which consecutive transactions share a producer epoch, and it
//! repeats a lost `EndTxn` or `TxnOffsetCommit` in silence. The broker may still hold the first copy. Tried on Kafka 4.3.1:
//! the copy of T1's abort, released in the middle of T2, ended T2 although T2's commit answered Ok, and T2's messages were
//! lost while the group's offset moved past them. A new producer with the same transactional id has a newer epoch, which
//! refuses the copy. So every sign of a repeated request taints the producer; the signs are lines of its debug log.

/// The contexts that librdkafka logs. `eos`: the outcome of each `EndTxn`. `broker`: every lost connection; without it
/// librdkafka keeps silent about a connection that is lost again with the same words within 30 s
/// (`rd_kafka_broker_set_error`), and about one that was idle (`rd_kafka_broker_conn_closed`). Both together are 25 lines a
/// transaction, and 2 a partition.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of librdkafka 2.12.1 (facility, line), caught on Kafka 4.3.1 by restarting, stopping and killing the broker in
    /// the middle of transactions, and whether each taints. An update of the library has to repeat that.
    const LINES: &[(&str, &str, bool)] = &[
        // A transaction as it should be.
        (
            "TXNAPI",
            "[thrd:app]: Transactional API called: begin_transaction (in txn state Ready, idemp state Assigned, API timeout 0)",
            false,
        ),
        ("TXNSTATE", "[thrd:main]: Transaction state change Ready -> InTransaction", false),
        ("WAKEUP", "[thrd:main]: Wake-up sent to 2 broker threads in state >= INIT: begin transaction", false),
        ("ADDPARTS", "[thrd:app]: Marked out-1215-0 [0] as part of transaction: scheduling registration", false),
        ("ADDPARTS", "[thrd:main]: TxnCoordinator/1: Registering partitions with transaction", false),
        (
            "ADDPARTS",
            "[thrd:main]: TxnCoordinator/1: AddPartitionsToTxn response: partition \"out-1215-0\": [0]: Broker: Producer \
             attempted to update a transaction while another concurrent operation on the same transaction was ongoing",
            false,
        ),
        ("TXNCOMMIT", "[thrd:app]: Flushing 0 outstanding message(s) prior to commit", false),
        ("ENDTXN", "[thrd:main]: EndTxn returned NO_ERROR in state CommittingTransaction (may_retry=true)", false),
        ("TXNCOMPLETE", "[thrd:main]: Transaction successfully committed", false),
        // The broker was killed while EndTxn was under way; a second copy was acknowledged, and commit answered Ok.
        ("ENDTXN", "[thrd:main]: EndTxn returned _TRANSPORT in state CommittingTransaction (may_retry=true)", true),
        (
            "FAIL",
            "[thrd:TxnCoordinator]: TxnCoordinator/1: 127.0.0.1:26643: Disconnected: connection reset by peer (after 1269ms \
             in state UP) (_TRANSPORT)",
            true,
        ),
        // The broker was restarted between flush and commit.
        (
            "FAIL",
            "[thrd:127.0.0.1:26643/1]: 127.0.0.1:26643/1: Disconnected: connection closed by peer: receive 0 after POLLIN \
             (after 848ms in state UP) (_TRANSPORT)",
            true,
        ),
        (
            "FAIL",
            "[thrd:127.0.0.1:26643/bootstrap]: 127.0.0.1:26643/bootstrap: Connect to ipv4#127.0.0.1:26643 failed: Connection \
             refused (after 0ms in state CONNECT) (_TRANSPORT): identical to last error: error log suppressed",
            true,
        ),
        ("COORD", "[thrd:main]: TxnCoordinator/1: Transaction coordinator is now down", false),
        ("TXNCOORD", "[thrd:main]: Unable to query for transaction coordinator: Coordinator query timer", false),
        // Any request that is sent again, also one that the broker had answered with "later": not a sign by itself.
        ("RETRY", "[thrd:TxnCoordinator]: TxnCoordinator: Moved 1 retry buffer(s) to output queue", false),
        // The broker was stopped while EndTxn was under way, for longer than socket.timeout.ms; commit answered Ok.
        (
            "REQTMOUT",
            "[thrd:TxnCoordinator]: TxnCoordinator/1: Timed out EndTxnRequest in flight (after 1000ms, timeout #0)",
            true,
        ),
        (
            "REQTMOUT",
            "[thrd:TxnCoordinator]: TxnCoordinator/1: Timed out 1 in-flight, 0 retry-queued, 0 out-queue, 0 partially-sent \
             requests",
            true,
        ),
        (
            "FAIL",
            "[thrd:TxnCoordinator]: TxnCoordinator/1: 127.0.0.1:25476: 1 request(s) timed out: disconnect (average rtt \
             17.738ms) (after 1677ms in state UP) (_TIMED_OUT)",
            true,
        ),
        ("ENDTXN", "[thrd:main]: EndTxn returned _TIMED_OUT in state CommittingTransaction (may_retry=true)", true),
        // Harmless, but not distinguished: a connection that the client itself gives up.
        (
            "FAIL",
            "[thrd:127.0.0.1:26643/bootstrap]: 127.0.0.1:26643/bootstrap: Decommissioning this broker (after 2ms in state UP) \
             (_DESTROY_BROKER)",
            true,
        ),
    ];

    #[test]
    fn the_real_lines_of_the_client_get_their_verdicts() {
        for (facility, line, taints) in LINES {
            assert_eq!(verdict(facility, line).is_some(), *taints, "{facility}: {line}");
            let mut watch = TaintWatch::default();
            watch.line(facility, line);
            assert_eq!(watch.reason(), None, "outside of a transaction: {facility}: {line}");
            watch.begin();
            watch.line(facility, line);
            assert_eq!(watch.reason().is_some(), *taints, "{facility}: {line}");
            watch.end();
            watch.line("TXNSTATE", "[thrd:main]: Transaction state change CommitNotAcked -> Ready");
            assert_eq!(watch.reason().is_some(), *taints, "a taint outlives its transaction: {facility}: {line}");
        }
    }

    #[test]
    fn the_first_reason_is_kept_and_nothing_after_the_end_counts() {
        let mut watch = TaintWatch::default();
        watch.begin();
        watch.end();
        watch.line("FAIL", "idle connection closed");
        assert_eq!(watch.reason(), None);
        watch.taint("first");
        watch.taint("second");
        assert_eq!(watch.reason(), Some("first"));
    }
}
