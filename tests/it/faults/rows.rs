//! The rows of the two lists.

use Row::{Partly, Shown, Without};

/// What there is to a row.
pub(super) enum Row {
    /// These tests show it.
    Shown(&'static [&'static str]),
    /// These tests show it, but for what is said.
    Partly(&'static [&'static str], &'static str),
    /// There is no test, for this reason.
    Without(&'static str),
}

const NO_BACKEND: &str = "the backend that it speaks of does not exist yet";
const NO_ADMIN: &str = "there is no dashboard and no admin surface";
const NO_FILES: &str = "the crate reads no files; who reads one parses it with serde, as the gateway example does";

pub(super) const FAULTS: &[(u32, Row)] = &[
    (
        1,
        Shown(&[
            "breaker_cancel::dropped_after_any_number_of_polls_a_probe_gives_its_place_back",
            "stack::cancel::dropped_after_any_number_of_polls_a_call_gives_everything_back",
            "stack::cancel::ten_thousand_calls_dropped_anywhere_leave_nothing_behind",
            "http::server::a_client_that_hangs_up_while_the_handler_runs_gives_the_probe_back",
            "floods::queues::waiters_of_a_bulkhead_that_give_up_leave_nothing",
            "floods::queues::any_number_that_waits_for_a_circuit_leaves_it_without_looking_through_each_other",
        ]),
    ),
    (
        2,
        Shown(&[
            "breaker_cancel::a_probe_that_lost_its_place_cannot_decide",
            "src::breaker::probing::a_place_is_taken_back_after_its_time_and_its_report_comes_too_late",
        ]),
    ),
    (
        3,
        Shown(&[
            "breaker_cancel::late_results_count_for_nothing_and_change_nothing",
            "review_findings::nothing_of_an_older_generation_counts_but_as_stale",
            "observe::observers_hear_of_rejections_and_late_results_and_of_nothing_frequent",
            "breaker_model::a_breaker_does_what_the_model_does",
        ]),
    ),
    (
        4,
        Partly(
            &[
                "breaker_cancel::a_panic_in_the_call_or_in_the_future_counts_once_and_goes_on",
                "stack::a_panic_in_the_service_gives_everything_back_and_is_one_failure",
                "bulkhead::a_panic_gives_the_place_back",
            ],
            "a layer that turns a panic into an answer is the host's (tower-http has one); with panic=abort nothing is \
             left that could be checked",
        ),
    ),
    (
        5,
        Shown(&[
            "faults::hooks::an_observer_that_panics_is_told_nothing_more_with_one_line_and_one_count",
            "faults::hooks::on_two_threads_at_a_time_it_is_still_one_line",
            "faults::hooks::at_two_keys_at_a_time_it_is_still_one_line",
            "faults::hooks::an_observer_of_many_policies_that_panics_is_told_nothing_more_of_any",
            "breaker_cancel::a_classifier_that_panics_counts_a_failure_and_the_caller_gets_the_result",
            "breaker_cancel::a_predicate_or_an_observer_that_panics_leaves_the_circuit_right",
            "retry_cancel::a_classifier_or_a_backoff_that_panics_ends_the_retries_and_the_caller_gets_the_result",
            "keyed::a_key_function_that_panics_makes_a_call_without_a_key",
            "fallback::a_strategy_that_panics_has_nothing_and_the_caller_gets_what_there_is",
            "hedge_cancel::a_classifier_or_an_observer_that_panics_changes_nothing",
            "client::edges::panics_of_every_hook_leave_the_counts_right",
            "concurrency::an_algorithm_of_ones_own_is_kept_in_bounds_and_its_panic_leaves_the_limit_right",
        ]),
    ),
    (
        6,
        Shown(&[
            "review_cost::every_method_may_be_called_from_every_callback",
            "observe::an_observer_may_call_everything_back",
            "retry_cancel::an_observer_may_call_everything_back",
            "isolation::edges::an_observer_may_call_and_switch_the_manager_and_add_another",
            "balance::cancel::a_service_may_change_the_set_from_wherever_it_is",
        ]),
    ),
    (
        7,
        Shown(&[
            "keyed_table::no_code_of_a_key_runs_under_a_lock",
            "registry::contracts_and_policies_are_asked_and_dropped_outside_of_every_lock",
            "isolation::gone::what_is_replaced_is_dropped_outside_of_every_lock",
            "src::waiters::a_waker_that_looks_at_the_waiters_when_it_is_dropped_does_not_wait_for_itself",
            "breaker_service::a_handle_goes_through_a_caught_panic",
        ]),
    ),
    (
        8,
        Shown(&[
            "faults::life::a_stack_its_layer_its_service_and_its_call_may_go_in_every_order",
            "faults::life::a_set_of_instances_its_service_its_circuit_and_its_call_may_go_in_every_order",
            "faults::life::a_manager_its_handle_its_info_and_its_call_may_go_in_every_order",
            "breaker_cancel::everything_may_be_dropped_in_any_order_while_a_call_runs",
            "retry_cancel::everything_may_be_dropped_in_any_order_while_a_call_waits",
            "hedge_cancel::everything_may_be_dropped_in_any_order_while_copies_run",
        ]),
    ),
    (
        9,
        Shown(&[
            "faults::life::one_stack_on_two_runtimes_outlives_the_first",
            "client::life::a_client_outlives_its_runtimes_and_needs_none_to_be_made",
            "discovery::watch::a_watch_outlives_the_runtime_it_waited_on",
            "discovery::health::checks_that_end_with_their_runtime_begin_anew_on_another",
            "discovery::registration::a_runtime_that_goes_takes_the_lease_with_it",
            "review_findings::a_service_that_waits_may_move_to_another_runtime",
        ]),
    ),
    (
        10,
        Shown(&[
            "faults::life::everything_can_be_made_and_answers_a_ready_call_without_a_runtime",
            "breaker_control::without_a_runtime_everything_but_waiting_works",
            "retry_cancel::nothing_needs_a_runtime_until_there_is_a_wait",
            "discovery::backend::it_needs_no_runtime",
            "discovery::health::without_a_runtime_it_says_so",
        ]),
    ),
    (
        11,
        Shown(&[
            "faults::hooks::an_observer_that_blocks_on_the_runtime_it_is_called_from_has_panicked_and_costs_no_call",
        ]),
    ),
    (
        12,
        Partly(
            &[
                "faults::life::no_jump_of_the_clock_wedges_or_overflows_anything",
                "fuzz::sweep::every_odd_value_in_every_field_is_refused_by_name_or_can_be_used",
                "src::window::time::gaps_of_any_length_empty_the_window_and_nothing_comes_back",
                "src::window::time::time_that_runs_backwards_counts_in_the_newest_bucket",
                "src::window::time::counts_beyond_32_bits_and_to_the_last_tick",
                "src::time::arithmetic_saturates",
                "src::load_shed::codel::time_that_runs_backwards_or_far_ahead_does_no_harm",
            ],
            "after 584 years of uptime the clock stands at the last tick that 64 bits can say",
        ),
    ),
    (
        13,
        Shown(&[
            "src::retry::backoff::no_numbers_overflow_and_the_cap_holds",
            "src::rate_limit::gcra::extremes_do_not_overflow",
            "src::budget::no_time_and_no_number_of_calls_overflows",
            "review_cost::whatever_was_saved_can_be_gone_on_with",
            "review_findings::a_saved_row_of_failures_without_end_does_not_overflow",
            "fuzz::every_seed_of_every_target_can_be_read",
        ]),
    ),
    (
        14,
        Partly(
            &[
                "fuzz::bounds::every_limit_is_allowed_and_one_beyond_it_is_not",
                "review_cost::memory_is_what_it_says",
                "keyed_table::the_memory_of_a_key_is_what_it_is_said_to_be",
            ],
            "what memory is taken is told by each handle, not summed up by the registry, which knows no sizes",
        ),
    ),
    (
        15,
        Shown(&[
            "floods::a_flood_of_tenants_with_quotas_takes_the_room_of_a_thousand",
            "floods::tenants_with_circuits_push_out_no_open_one_and_take_the_room_of_a_thousand",
            "floods::tenants_with_places_push_out_none_that_is_in_use_and_take_the_room_of_a_thousand",
            "keyed_table::an_open_circuit_is_not_forgotten_because_strangers_arrive",
            "keyed_table::nobody_fills_his_quota_by_pushing_his_own_key_out",
            "fallback::a_flood_of_keys_takes_no_more_memory_than_was_said",
        ]),
    ),
    (
        16,
        Shown(&[
            "keyed_table::keys_of_one_hash_are_told_apart_and_leave_one_by_one",
            "balance::pickers::a_hot_key_overflows_to_the_neighbours",
            "faults::hooks::no_secret_is_printed",
        ]),
    ),
    (
        17,
        Partly(
            &[
                "faults::storms::three_nested_retries_make_no_more_calls_than_their_budgets_together",
                "floods::calls_without_end_of_a_service_that_is_down_are_a_fifth_more_and_no_more",
                "retry_service::rejections_are_not_tried_again_except_those_that_the_settings_name",
                "retry_service::no_wait_is_begun_that_would_pass_the_deadline",
                "retry_service::retry_after_is_waited_for_and_one_that_is_too_long_ends_the_retries",
                "stack::hedging::retry_and_hedge_draw_on_one_budget",
            ],
            "no header tells a layer further in how often a call was tried: the shared budget is what bounds it",
        ),
    ),
    (
        18,
        Partly(
            &[
                "faults::storms::five_hundred_circuits_that_opened_together_do_not_come_back_together",
                "breaker_control::jitter_spreads_the_open_periods_within_its_bounds",
                "breaker_control::the_open_period_grows_while_probes_fail_and_starts_anew_after_a_success",
            ],
            "jitter is off unless it is asked for, since the design's period is exact (the tenants' preset has 20 %); \
             a circuit closes at once after its probes, slow start and the adaptive limit are the ramp",
        ),
    ),
    (
        19,
        Shown(&[
            "faults::storms::after_an_overload_service_is_whole_again_without_a_restart",
            "load_shed::bh_08_first_come_first_served_while_calm_and_the_newest_first_while_the_queue_stands",
            "load_shed::while_the_queue_stands_nobody_waits_for_long_and_an_empty_one_is_calm_again",
            "timeout::a_call_whose_deadline_has_passed_is_not_made_and_does_not_blame_the_service",
        ]),
    ),
    (
        20,
        Partly(
            &[
                "discovery::an_empty_answer_is_doubted_for_a_while",
                "discovery::sd_01_a_set_that_is_published_is_compared_with_what_is_known",
                "discovery::health::a_backend_that_fails_is_said_to_be_stale_and_what_it_knew_is_checked_on",
                "client::life::a_registry_that_is_down_is_asked_again_at_growing_intervals",
                "client::life::the_last_instances_stay_when_the_registry_is_gone",
            ],
            "servers that are stopped: there is no backend over a network yet",
        ),
    ),
    (21, Without(NO_BACKEND)),
    (22, Without(NO_BACKEND)),
    (23, Without(NO_BACKEND)),
    (
        24,
        Shown(&[
            "discovery::registration::a_lost_lease_is_registered_anew_as_the_instance_is_now",
            "discovery::backend::a_lease_runs_out_at_exactly_its_end",
            "client::life::an_instance_whose_lease_ends_is_called_no_more",
        ]),
    ),
    (25, Without(NO_BACKEND)),
    (
        26,
        Partly(
            &[
                "bad_input::names::addresses_weights_and_metadata",
                "contract::instances_that_cannot_be_are_refused_with_field_value_and_reason",
                "fuzz::every_seed_of_every_target_can_be_read",
                "balance::churn::ten_thousand_instances_come_at_once_and_one_by_one",
            ],
            "loopback and link-local addresses are let in, for side-cars and node-local caches are called there; a \
             policy of networks belongs to the backends that take their data from strangers",
        ),
    ),
    (
        27,
        Partly(
            &[
                "faults::storms::bad_settings_change_nothing_and_good_ones_lose_no_call_in_flight",
                "keyed::a_window_cannot_change_and_then_nothing_does",
                "bulkhead::limits_change_under_traffic_without_losing_a_place",
                "breaker_control::settings_change_under_traffic_and_the_window_is_kept",
            ],
            "reconfigure returns the error to who reloads; the crate itself reloads nothing",
        ),
    ),
    (28, Without(NO_FILES)),
    (
        29,
        Partly(
            &[
                "floods::fleet::method_names_without_end_are_counted_under_a_bounded_number_of_names",
                "floods::fleet::kinds_of_errors_without_end_are_counted_under_a_bounded_number_of_names",
                "floods::fleet::services_that_do_not_exist_push_out_none_that_does",
            ],
            "the crate exports no metrics by itself: snapshots are pulled, and a keyed one tells sums",
        ),
    ),
    (
        30,
        Shown(&[
            "bad_input::names::names_of_policies_and_keys_are_plain",
            "bad_input::names::names_with_control_characters_are_refused_by_every_type_of_name",
            "isolation::register::odd_names_have_policies_with_names_that_are_safe",
            "fuzz::every_seed_of_every_target_can_be_read",
        ]),
    ),
    (
        31,
        Shown(&[
            "faults::hooks::no_secret_is_printed",
            "faults::hooks::nothing_asks_to_print_requests_and_answers",
            "faults::hooks::an_address_with_a_password_is_refused_without_it",
        ]),
    ),
    (32, Without(NO_ADMIN)),
    (33, Without(NO_ADMIN)),
    (34, Without(NO_ADMIN)),
    (35, Without("a process that forks has no tokio runtime in the child; nothing of the crate could run there")),
    (
        36,
        Shown(&[
            "breaker_service::readiness_takes_nothing",
            "bulkhead::bh_09_an_idle_ready_service_holds_no_place",
            "hosts::contract::a_stack_of_everything_does_too",
            "hosts::contract::the_service_here_does_tell_a_layer_that_breaks_the_contract",
        ]),
    ),
    (
        37,
        Shown(&[
            "breaker_service::an_open_circuit_is_ready_at_once_and_does_not_ask_the_service",
            "breaker_service::in_unready_mode_all_who_wait_are_woken_when_the_circuit_closes_or_a_probe_is_free",
            "bulkhead::unready_mode_waits_in_poll_ready_and_still_takes_nothing",
            "load_shed::a_call_for_which_the_service_is_not_ready_is_shed_and_no_clone_is_left_in_its_queue",
        ]),
    ),
    (
        38,
        Shown(&[
            "hedge::only_requests_that_may_be_sent_twice_are",
            "http::client_stack::what_must_not_be_sent_twice_is_sent_once",
            "retry_service::a_request_that_cannot_be_sent_again_is_sent_once",
            "hedge_cancel::the_winner_drops_what_else_runs_at_once_and_what_was_not_sent_is_not_paid_for",
            "hosts::clients::reqwests_client_sends_again_what_has_a_copy",
        ]),
    ),
    (
        39,
        Shown(&[
            "http::stream::a_probe_is_held_until_its_body_has_ended",
            "http::stream::how_a_body_ends_decides_what_the_head_could_not",
            "http::streamed_stack::places_are_held_and_calls_are_judged_until_the_end_of_the_body",
        ]),
    ),
    (40, Without("limits are of one process; there is no Redis")),
    (
        41,
        Partly(
            &["architecture::the_default_dependencies_are_those_of_the_design"],
            "the crates are counted by their list; unsafe code is forbidden by the compiler",
        ),
    ),
];

const ROOMS: &str = "bad_input::rooms::those_that_run_again_or_elsewhere";
const BREAKER: &str = "bad_input::every_impossible_setting_is_refused_by_name_value_and_reason";
const FILES: &str = "bad_input::bad_files_say_which_field_and_why";
const PLACES: &str = "bad_input::rooms::places_and_limits";
const SWEEP: &str = "fuzz::sweep::every_odd_value_in_every_field_is_refused_by_name_or_can_be_used";
const KINDS: &str = "bad_input::files::the_wrong_kind_of_value_is_told_with_its_place";
const TEXTS: &str = "bad_input::files::texts_that_are_no_document_are_told_by_their_parser";
const NAMES: &str = "bad_input::names::names_of_policies_and_keys_are_plain";
const ADDRESSES: &str = "bad_input::names::addresses_weights_and_metadata";

pub(super) const BAD_INPUT: &[(u32, Row)] = &[
    (1, Shown(&[BREAKER])),
    (2, Shown(&[BREAKER])),
    (3, Shown(&[BREAKER])),
    (4, Shown(&[BREAKER, FILES])),
    (6, Shown(&[FILES, TEXTS])),
    (7, Shown(&[FILES, TEXTS])),
    (8, Shown(&[FILES])),
    (9, Shown(&[BREAKER])),
    (10, Shown(&[BREAKER])),
    (11, Shown(&[BREAKER, FILES])),
    (12, Shown(&[PLACES])),
    (14, Shown(&[PLACES, "bulkhead::a_full_queue_turns_away_at_once"])),
    (15, Shown(&[ROOMS, "timeout::impossible_limits_are_refused"])),
    (16, Shown(&[ROOMS, "fuzz::bounds::every_limit_is_allowed_and_one_beyond_it_is_not"])),
    (18, Shown(&[FILES, "src::settings::duration::what_is_no_duration_says_why"])),
    (19, Shown(&[FILES, "src::settings::duration::what_is_no_duration_says_why"])),
    (20, Shown(&[FILES, "src::settings::duration::what_is_no_duration_says_why"])),
    (21, Shown(&[FILES, SWEEP])),
    (22, Shown(&[FILES, SWEEP])),
    (23, Shown(&[ROOMS])),
    (24, Shown(&[ROOMS])),
    (26, Shown(&[ROOMS])),
    (27, Shown(&[ROOMS, "retry_budget::a_budget_of_a_file_is_checked_where_it_is_read"])),
    (28, Shown(&[PLACES])),
    (29, Shown(&["src::retry::backoff::each_jitter_stays_where_it_says", SWEEP])),
    (30, Shown(&["fuzz::every_seed_of_every_target_can_be_read", SWEEP])),
    (31, Shown(&[NAMES, "bad_input::odd_names_are_refused_wherever_they_come_from"])),
    (32, Shown(&[NAMES, "bad_input::names::names_with_control_characters_are_refused_by_every_type_of_name"])),
    (34, Shown(&[FILES, TEXTS])),
    (
        36,
        Partly(
            &["bad_input::files::names_that_nobody_knows_are_told_with_those_that_there_are"],
            "the error lists all fields that there are instead of guessing at one",
        ),
    ),
    (37, Shown(&["bad_input::settings_read_as_written_and_come_back"])),
    (38, Shown(&[KINDS, SWEEP])),
    (39, Shown(&[FILES, SWEEP])),
    (40, Partly(&[TEXTS], NO_FILES)),
    (42, Shown(&[TEXTS])),
    (43, Without(NO_FILES)),
    (45, Shown(&[ADDRESSES, "http::transport::odd_requests_reach_the_instance_or_say_why_not"])),
    (46, Shown(&["faults::hooks::an_address_with_a_password_is_refused_without_it"])),
    (47, Partly(&[ADDRESSES], "loopback and link-local addresses are let in: see row 26 of the faults")),
    (48, Partly(&[ADDRESSES], "1.2.3 is a name, and names are the resolver's")),
    (49, Without(NO_BACKEND)),
    (50, Without(NO_BACKEND)),
    (51, Shown(&[ADDRESSES, "contract::instances_that_cannot_be_are_refused_with_field_value_and_reason"])),
    (52, Without(NO_BACKEND)),
    (53, Without("limits are of one process; there is no Redis")),
    (
        54,
        Shown(&[
            "bad_input::names::what_is_no_wait_is_not_waited_for_and_what_is_too_long_is_a_year",
            "http::classify::retry_after_is_read_or_left",
            "retry_service::retry_after_is_waited_for_and_one_that_is_too_long_ends_the_retries",
        ]),
    ),
    (56, Without(NO_ADMIN)),
    (57, Without(NO_ADMIN)),
    (
        58,
        Partly(
            &[
                "registry::duplicates_and_unknown_names_are_errors_that_name_the_service",
                "isolation::register::a_second_service_of_one_name_is_refused_and_the_first_stays",
                "bad_input::rooms::what_is_put_together_says_in_which_section",
            ],
            "two policies that are made by hand may bear one name: a name is what they are called in errors, and the \
             registry and the manager are where it must be one",
        ),
    ),
];
