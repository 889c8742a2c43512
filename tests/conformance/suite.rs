//! Turns the sentences into tests, once an adapter.

/// `log_suite!(name, open)`: a module of tests over the bench that `open` gives; `None` means skipped.
macro_rules! log_suite {
    ($module:ident, $open:expr) => {
        $crate::suite::tests! { $module, $open, $crate::log:
            a_record_comes_back_as_it_was_sent
            random_records_come_back_byte_for_byte
            keyed_messages_lie_where_murmur2_says
            a_message_lies_in_the_partition_it_names
            a_message_keeps_the_time_it_is_given_and_0_as_1
            records_come_in_offset_order
            aborted_records_are_hidden
            open_transaction_stops_committed_readers
            transactions_leave_gaps_in_the_offsets
            successor_fences_predecessor_and_ends_its_transaction
            renew_ends_what_was_open
            offsets_and_messages_are_committed_together
            stable_committed_offset_waits_for_pending_transaction
            offsets_of_an_aborted_transaction_change_nothing
            an_offsets_only_transaction_moves_k
            an_empty_transaction_is_no_error
            a_message_for_no_topic_fails_at_the_flush_at_the_latest
            a_message_too_large_fails_at_the_flush_at_the_latest
            the_later_write_of_an_offset_wins
            a_deleted_topic_takes_its_offsets_with_it
            stale_generation_cannot_commit_offsets
            strangers_cannot_commit_offsets
            nobody_commits_before_joining_or_after_leaving
            a_member_may_commit_what_it_does_not_own
            commit_outside_a_transaction_keeps_the_metadata
            companions_move_with_their_lead
            every_sub_topology_has_its_tasks
            revoked_before_moved
            all_members_share_the_latest_generation
            a_member_that_leaves_hands_its_tasks_on
            nothing_is_delivered_before_start
            held_partitions_are_silent_until_released
            what_is_not_ours_cannot_be_started
            start_outside_the_log_is_out_of_range
            bounds_tell_what_a_committed_reader_sees
            topics_have_ids_and_counts
            history_reads_what_is_committed
        }
    };
}

/// `rows_suite!(name, open)`: as `log_suite!`, over rows.
macro_rules! rows_suite {
    ($module:ident, $open:expr) => {
        $crate::suite::tests! { $module, $open, $crate::rows:
            rows_round_trip_every_type
            nulls_and_extremes_round_trip
            random_values_of_every_type_come_back_bit_for_bit
            random_outbox_rows_come_back_byte_for_byte
            every_key_type_finds_its_row
            a_key_of_several_columns_finds_its_row
            rows_with_a_key_of_several_columns_are_locked_by_it
            random_keys_of_every_type_find_their_rows
            differences_come_in_one_message
            a_missing_table_is_a_difference
            the_first_claim_finds_nothing_and_creates_once
            claim_raises_the_epoch
            stale_generation_cannot_claim
            a_later_generation_is_claimed_over_only_as_it_was_found
            zombie_compare_and_set_changes_nothing
            compare_and_set_demands_the_offset
            compare_and_set_answers_for_each_move
            a_position_moves_on_from_where_the_transaction_put_it
            a_step_is_committed_as_a_whole
            rollback_leaves_nothing
            a_lost_connection_leaves_nothing_and_no_lock
            reads_answer_what_is_there
            a_transaction_reads_its_own_writes
            a_refused_value_blames_the_row
            a_row_with_another_version_is_not_written
            an_outbox_row_is_not_kept_twice
            a_verdict_may_be_decided_again
            savepoint_keeps_earlier_writes
            the_savepoint_moves
            a_failed_transaction_cannot_be_committed
            rows_are_locked_until_the_end
            a_claim_waits_for_the_zombie_in_flight
            unknown_commit_is_settled
            outbox_comes_back_in_order_and_never_splits_an_offset
            outbox_is_seen_by_its_own_pipeline_and_partition
            outbox_rows_are_redirected_once
            outbox_rows_round_trip
            outbox_rows_of_another_incarnation_are_kept_and_not_announced
            counters_add_up
            version_sum_is_counted_from_the_baseline
            migrate_is_done_once
            slots_are_leased_to_one_owner
            maintenance_keeps_what_is_not_published
            nothing_to_write_is_no_error
            a_missing_row_is_inserted_with_its_version_and_values
            a_row_is_deleted_and_may_be_inserted_again
            deletes_updates_and_inserts_go_together
            what_was_inserted_and_deleted_is_undone
            a_row_that_somebody_else_has_inserted_is_decided_again
            of_two_that_insert_a_row_one_waits_and_decides_again
            a_refused_value_blames_the_row_that_is_inserted
            a_row_without_a_value_for_every_column_is_no_row_to_insert
        }
    };
}

/// `store_suite!(name, open)`: as `log_suite!`, over stores.
macro_rules! store_suite {
    ($module:ident, $open:expr) => {
        $crate::suite::tests! { $module, $open, $crate::store:
            a_value_is_what_was_written_last
            a_batch_names_many_keys
            random_keys_and_values_come_back_byte_for_byte
            a_scan_shows_keys_in_order_between_its_bounds
            a_scan_ends_when_told
            stores_and_partitions_do_not_see_each_other
            a_store_that_was_never_written_has_no_checkpoint
            the_checkpoint_comes_with_the_data
            clear_empties_its_own_store_and_no_other
            a_cleared_store_takes_writes
            a_store_is_open_once_at_a_time
            stores_are_written_from_many_threads
            what_was_written_is_there_after_a_restart
            size_follows_what_is_written
        }
    };
}

/// `rollups_suite!(name, open)`: as `log_suite!`, over the tables of roll-ups.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
macro_rules! rollups_suite {
    ($module:ident, $open:expr) => {
        $crate::suite::tests! { $module, $open, $crate::rollups:
            rows_of_one_metric_come_in_the_order_of_time
            devices_are_those_with_readings_and_those_that_are_described
            a_token_is_found_by_its_hash_until_it_is_taken_back_or_another_takes_its_place
            rows_are_kept_as_long_as_it_is_said_and_days_for_good
        }
    };
}

macro_rules! tests {
    ($module:ident, $open:expr, $suite:path: $($sentence:ident)*) => {
        mod $module {
            $(
                #[test]
                fn $sentence() {
                    use $suite as suite;
                    if let Some(bench) = $open {
                        suite::$sentence(&bench);
                    }
                }
            )*
        }
    };
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use rollups_suite;
pub(crate) use {log_suite, rows_suite, store_suite, tests};
