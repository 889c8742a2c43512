//! Scenarios that once led to a finding, as the generator printed them.

use super::holds;

#[test]
fn a_row_that_is_refused_leaves_the_rows_of_another_table_alone() {
    holds(
        r##"{"pipeline": {"partitions": 1, "is_versioned": true, "has_text_keys": false, "subs": [{"lead": "in-0", "step": {"Update": 0}, "join": "No", "companion": null, "declared": null, "rekeys": false, "has_store": false, "ttl_ms": null, "has_filter": false, "threshold": null, "destination": "out-0"}, {"lead": "in-1", "step": {"Update": 1}, "join": "No", "companion": null, "declared": null, "rekeys": false, "has_store": false, "ttl_ms": null, "has_filter": false, "threshold": null, "destination": "out-1"}]}, "knobs": {"instances": 1, "workers": 1, "batch_rows": 50, "batch_age_ms": 0, "log_age_ms": 100, "log_messages": 50000, "transaction_rows": 10000, "unpublished_rows": 10000, "flush_ms": 5000, "retry_attempts": 4, "missing_row": 1, "verdicts": false, "queued_records": 20000, "message_bytes": 0}, "acts": [{"Send": {"topic": "in-0", "key": "2", "value": "{\"n\": 1, \"does\": \"Refused\", \"amount\": 1.0, \"notices\": 1, \"keys\": [], \"trap\": false}", "after_ms": 0}}, {"Send": {"topic": "in-1", "key": "2", "value": "{\"n\": 2, \"does\": \"Change\", \"amount\": 1.0, \"notices\": 1, \"keys\": [], \"trap\": false}", "after_ms": 0}}]}"##,
    );
}

#[test]
fn a_record_that_asks_for_a_retry_behind_a_refused_row_is_decided_once() {
    holds(
        r##"{"pipeline": {"partitions": 1, "is_versioned": true, "has_text_keys": false, "subs": [{"lead": "in-0", "step": {"Update": 0}, "join": "No", "companion": null, "declared": null, "rekeys": false, "has_store": false, "ttl_ms": null, "has_filter": false, "threshold": null, "destination": "out-0"}]}, "knobs": {"instances": 1, "workers": 1, "batch_rows": 50, "batch_age_ms": 0, "log_age_ms": 100, "log_messages": 50000, "transaction_rows": 10000, "unpublished_rows": 10000, "flush_ms": 5000, "retry_attempts": 4, "missing_row": 1, "verdicts": false, "queued_records": 20000, "message_bytes": 0}, "acts": [{"Send": {"topic": "in-0", "key": "0", "value": "{\"n\": 1, \"does\": \"Refused\", \"amount\": 1.0, \"notices\": 1, \"keys\": [], \"trap\": false}", "after_ms": 0}}, {"Send": {"topic": "in-0", "key": "0", "value": "{\"n\": 2, \"does\": {\"Retry\": 1}, \"amount\": 1.0, \"notices\": 1, \"keys\": [], \"trap\": false}", "after_ms": 0}}, {"Send": {"topic": "in-0", "key": "1", "value": "{\"n\": 3, \"does\": \"Change\", \"amount\": 1.0, \"notices\": 1, \"keys\": [], \"trap\": false}", "after_ms": 0}}]}"##,
    );
}

#[test]
fn two_steps_on_one_table_make_one_chain_of_versions() {
    holds(
        r##"{"pipeline": {"partitions": 1, "is_versioned": true, "has_text_keys": false, "subs": [{"lead": "in-0", "step": {"Update": 0}, "join": "No", "companion": null, "declared": null, "rekeys": false, "has_store": false, "ttl_ms": null, "has_filter": false, "threshold": null, "destination": "out-0"}, {"lead": "in-1", "step": {"Update": 0}, "join": "No", "companion": null, "declared": null, "rekeys": false, "has_store": false, "ttl_ms": null, "has_filter": false, "threshold": null, "destination": "out-1"}]}, "knobs": {"instances": 1, "workers": 1, "batch_rows": 50, "batch_age_ms": 0, "log_age_ms": 100, "log_messages": 50000, "transaction_rows": 10000, "unpublished_rows": 10000, "flush_ms": 5000, "retry_attempts": 4, "missing_row": 1, "verdicts": false, "queued_records": 20000, "message_bytes": 0}, "acts": [{"Send": {"topic": "in-0", "key": "2", "value": "{\"n\": 1, \"does\": \"Change\", \"amount\": 1.0, \"notices\": 1, \"keys\": [], \"trap\": false}", "after_ms": 0}}, {"Send": {"topic": "in-1", "key": "2", "value": "{\"n\": 2, \"does\": \"Change\", \"amount\": 1.0, \"notices\": 1, \"keys\": [], \"trap\": false}", "after_ms": 0}}]}"##,
    );
}

#[test]
fn each_record_has_its_own_bound_of_retries() {
    holds(
        r##"{"pipeline": {"partitions": 1, "is_versioned": true, "has_text_keys": false, "subs": [{"lead": "in-0", "step": {"Update": 0}, "join": "No", "companion": null, "declared": null, "rekeys": false, "has_store": false, "ttl_ms": null, "has_filter": false, "threshold": null, "destination": "out-0"}]}, "knobs": {"instances": 1, "workers": 1, "batch_rows": 50, "batch_age_ms": 0, "log_age_ms": 100, "log_messages": 50000, "transaction_rows": 10000, "unpublished_rows": 10000, "flush_ms": 5000, "retry_attempts": 4, "missing_row": 1, "verdicts": false, "queued_records": 20000, "message_bytes": 0}, "acts": [{"Send": {"topic": "in-0", "key": "0", "value": "{\"n\": 1, \"does\": \"RetryForEver\", \"amount\": 1.0, \"notices\": 1, \"keys\": [], \"trap\": false}", "after_ms": 0}}, {"Send": {"topic": "in-0", "key": "1", "value": "{\"n\": 2, \"does\": {\"Retry\": 3}, \"amount\": 1.0, \"notices\": 1, \"keys\": [], \"trap\": false}", "after_ms": 0}}, {"Send": {"topic": "in-0", "key": "2", "value": "{\"n\": 3, \"does\": {\"Retry\": 3}, \"amount\": 1.0, \"notices\": 1, \"keys\": [], \"trap\": false}", "after_ms": 0}}]}"##,
    );
}

#[test]
fn a_lost_offset_of_one_input_sets_no_store_back_to_what_an_earlier_batch_wrote() {
    holds(
        r##"{"pipeline":{"partitions":1,"is_versioned":true,"has_text_keys":true,"subs":[{"lead":"in-3","step":{"Update":0},"join":"No","companion":false,"declared":null,"rekeys":false,"has_store":true,"ttl_ms":null,"has_filter":false,"threshold":null,"destination":null}]},"knobs":{"instances":1,"workers":1,"batch_rows":3,"batch_age_ms":5,"log_age_ms":100,"log_messages":50000,"transaction_rows":10000,"unpublished_rows":10000,"flush_ms":5000,"retry_attempts":1,"missing_row":0,"verdicts":false,"queued_records":20000,"message_bytes":0,"record_bytes":0},"acts":[{"Send":{"topic":"in-3","key":"1","value":"{\"n\":8,\"does\":\"Change\",\"amount\":1e-7,\"notices\":1,\"keys\":[\"2\"],\"trap\":false}","after_ms":0}},{"Turns":2},{"Send":{"topic":"in-3-more","key":"1","value":"{\"n\":9,\"does\":\"Change\",\"amount\":9007199.25474099,\"notices\":1,\"keys\":[],\"trap\":false}","after_ms":0}},{"Send":{"topic":"in-3","key":"1","value":"{\"n\":10,\"does\":\"Change\",\"amount\":-0.3,\"notices\":1,\"keys\":[\"1\",\"2\"],\"trap\":false}","after_ms":0}},{"Crash":["CommitKafka",2]},{"Send":{"topic":"in-3","key":"1","value":"{\"n\":14,\"does\":\"Change\",\"amount\":1.0,\"notices\":1,\"keys\":[\"0\"],\"trap\":false}","after_ms":0}},{"Turns":6},{"Pass":400},{"Turns":5},{"Disaster":{"OffsetLost":["in-3-more",0]}}]}"##,
    );
}

#[test]
fn what_was_decided_before_a_wrongly_keyed_record_is_announced_although_the_partition_stands_still() {
    holds(
        r##"{"pipeline":{"partitions":4,"is_versioned":true,"has_text_keys":false,"subs":[{"lead":"in-0","step":{"Update":1},"join":"No","companion":null,"declared":"Stop","rekeys":false,"has_store":true,"ttl_ms":null,"has_filter":false,"threshold":null,"destination":"out"}]},"knobs":{"instances":1,"workers":1,"batch_rows":50,"batch_age_ms":5,"log_age_ms":100,"log_messages":50000,"transaction_rows":10000,"unpublished_rows":10000,"flush_ms":5000,"retry_attempts":4,"missing_row":1,"verdicts":false,"queued_records":20000,"message_bytes":0,"record_bytes":2000},"acts":[{"Send":{"topic":"in-0","key":"1","value":"{\"n\":15,\"does\":\"Change\",\"amount\":0.1,\"notices\":3,\"keys\":[\"4\"],\"trap\":false}","after_ms":0}},{"Send":{"topic":"in-0","key":"1","value":"{\"n\":16,\"does\":\"Change\",\"amount\":130.65331632653061,\"notices\":1,\"keys\":[\"0\"],\"trap\":false}","after_ms":0}},{"Send":{"topic":"in-0","partition":3,"key":"2","value":"{\"n\":19,\"does\":\"Change\",\"amount\":0.1,\"notices\":0,\"keys\":[\"4\"],\"trap\":false}","after_ms":0}},{"Turns":4},{"Fail":"Commit"},{"Fail":"Offsets"}]}"##,
    );
}

#[test]
fn a_clock_that_stands_at_the_start_may_come_of_offsets_without_records() {
    holds(
        r##"{"pipeline":{"partitions":4,"tables":"Check","is_versioned":false,"has_text_keys":false,"spelling":"Plain","subs":[{"lead":"in-0","step":{"Update":0},"join":"No","companion":null,"declared":null,"rekeys":false,"has_store":false,"ttl_ms":null,"has_filter":false,"threshold":null,"destination":"out-0","rekeys_twice":false,"is_slim":false,"has_version":false,"has_last":false,"is_typed":false,"hash":"Murmur2","has_second_table":false,"table_declared":null,"table_ttl_ms":null,"table_of":null,"companion_of":null},{"lead":"in-0-dlt","step":{"Update":0},"join":"No","companion":null,"declared":"Stop","rekeys":false,"has_store":true,"ttl_ms":50,"has_filter":false,"threshold":null,"destination":null,"rekeys_twice":false,"is_slim":false,"has_version":false,"has_last":false,"is_typed":false,"hash":"Murmur2","has_second_table":false,"table_declared":null,"table_ttl_ms":null,"table_of":null,"companion_of":null}]},"knobs":{"instances":1,"workers":1,"batch_rows":50,"batch_age_ms":100,"log_age_ms":100,"log_messages":50000,"transaction_rows":10000,"unpublished_rows":10000,"flush_ms":5000,"retry_attempts":4,"missing_row":2,"verdicts":false,"queued_records":20000,"message_bytes":0,"record_bytes":0,"letter_bytes":0,"statement_rows":0,"unpublished_bytes":0,"transaction_bytes":0,"cache_bytes":0,"recommit_ms":0,"rebuild_ms":0,"starts_at_end":false,"skips_gaps":false,"deaths":2,"lag":2},"acts":[{"Turns":3},{"Send":{"topic":"in-0","partition":1,"key":"2","value":"{\"n\":2,\"does\":{\"Panic\":\"EncodeNotice\"},\"amount\":1.0,\"notices\":1,\"keys\":[\"2\"],\"trap\":false}","after_ms":0}},{"Fail":"Flush"}],"rows":5}"##,
    );
}

#[test]
fn a_changelog_that_was_cut_is_seen_although_the_rest_in_the_outbox_would_make_it_as_long_again() {
    holds(
        r##"{"pipeline":{"partitions":1,"tables":"Check","is_versioned":true,"has_text_keys":true,"spelling":"Plain","subs":[{"lead":"in-0","step":{"Update":1},"join":"No","companion":null,"declared":null,"rekeys":false,"has_store":true,"ttl_ms":null,"has_filter":false,"threshold":null,"destination":null,"rekeys_twice":false,"is_slim":false,"has_version":false,"has_last":false,"is_typed":false,"hash":"Murmur2","has_second_table":false,"table_declared":null,"table_ttl_ms":null,"table_of":null,"companion_of":null}]},"knobs":{"instances":1,"workers":1,"batch_rows":3,"batch_age_ms":5,"log_age_ms":100,"log_messages":50000,"transaction_rows":10000,"unpublished_rows":10000,"flush_ms":0,"retry_attempts":1,"missing_row":0,"verdicts":false,"queued_records":20000,"message_bytes":0,"record_bytes":0,"letter_bytes":0,"statement_rows":0,"unpublished_bytes":0,"transaction_bytes":0,"cache_bytes":0,"recommit_ms":0,"rebuild_ms":0,"starts_at_end":false,"skips_gaps":false,"deaths":1,"lag":1},"acts":[{"Send":{"topic":"in-0","partition":0,"key":"3","value":"{\"n\":1,\"does\":\"Change\",\"amount\":0.1,\"notices\":2,\"keys\":[\"0\",\"2\"],\"trap\":false}","after_ms":0}},{"Send":{"topic":"in-0","partition":0,"key":"1","value":"{\"n\":4,\"does\":\"Delete\",\"amount\":1e-7,\"notices\":3,\"keys\":[\"4\"],\"trap\":false}","after_ms":2000}},{"Send":{"topic":"in-0","partition":0,"key":"0","value":"{\"n\":5,\"does\":\"Change\",\"amount\":1e-7,\"notices\":0,\"keys\":[\"4\"],\"trap\":false}","after_ms":0}},{"Turns":6},{"Send":{"topic":"in-0","partition":0,"key":"2","value":"{\"n\":9,\"does\":\"Change\",\"amount\":9007199.25474099,\"notices\":3,\"keys\":[],\"trap\":false}","after_ms":0}},{"Send":{"topic":"in-0","partition":0,"key":"3","value":"{\"n\":11,\"does\":\"Change\",\"amount\":0.1,\"notices\":2,\"keys\":[],\"trap\":false}","after_ms":0}},{"Send":{"topic":"in-0","partition":0,"key":"3","value":"{\"n\":12,\"does\":\"Change\",\"amount\":130.65331632653061,\"notices\":0,\"keys\":[],\"trap\":false}","after_ms":0}},{"Crash":["CommitDatabase",1]},{"Turns":2},{"Disaster":{"ChangelogCut":[0,2,3]}}],"rows":5}"##,
    );
}
