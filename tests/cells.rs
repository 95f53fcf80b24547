//! The table of faults and stages, and the test that holds each cell. The rows are the faults that a
//! host or its operator can meet in the middle of a push; the stages are those of the push:
//!
//! | stage | from | to |
//! |---|---|---|
//! | `staging` | the connection, the lock, the upload | the generation that is complete and checked |
//! | `switching` | `PREPARED` | the last effect |
//! | `on trial` | `PROBATION` | the verdict |
//! | `taking back` | `TAKING_BACK` | `TAKEN_BACK` |
//! | `afterwards` | the verdict | the last thing pruned; and any later day |
//! | `any` | every stage, one after the other or at random | |
//!
//! To add a cell: write the test, then a line here. To add a fault: a line in `FAULTS` and its cells.
//! What is held by the simulated machine (`src/host/src/proof`) is held at every call of a stage;
//! what is held by a real host, at a moment that a host really comes through.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// What can go wrong.
const FAULTS: &[&str] = &[
    "power cut",
    "reboot in the middle",
    "SIGKILL of push",
    "Ctrl-C",
    "connection reset",
    "silent network, each direction",
    "confirmation crosses the deadline",
    "wrong host key",
    "sshd restarted",
    "sshd broken by the push",
    "firewall that locks the operator out",
    "firewall that locks the operator out, and a reboot",
    "firewall flushed by others",
    "nginx refuses the configuration",
    "nginx does not read it",
    "no view of what is staged",
    "nginx refuses the reload",
    "a unit is bad",
    "a unit hangs",
    "the way back fails too",
    "systemd starts it too late",
    "push-host missing, older or unfit",
    "an app dies after the commit",
    "service that crash-loops",
    "health that flaps",
    "health that never comes",
    "push-host killed",
    "push-host killed for want of memory",
    "something is broken before the push",
    "changed by hand",
    "disk full",
    "inodes used up",
    "disk read-only",
    "fsync fails",
    "corrupted spool",
    "tampering",
    "clock set",
    "two pushes at once",
    "stale lock",
    "no generation before",
    "a host of several fails",
];

/// The stages of a push.
const STAGES: &[&str] = &[
    "staging",
    "switching",
    "on trial",
    "taking back",
    "afterwards",
    "any",
];

/// A fault, the stage that it comes in, and the test that holds what is made of it.
#[rustfmt::skip]
const CELLS: &[(&str, &str, &str)] = &[
    // Power.
    ("power cut", "any", "a_host_that_loses_power_at_any_moment_is_wholly_old_or_wholly_new_on_ext4"),
    ("power cut", "any", "a_host_that_loses_power_at_any_moment_is_wholly_old_or_wholly_new_on_xfs"),
    ("power cut", "any", "a_host_that_loses_power_at_any_moment_is_wholly_old_or_wholly_new_on_btrfs"),
    ("power cut", "staging", "staging_cut_at_any_call_leaves_nothing_half_and_comes_to_its_end_the_next_time"),
    ("power cut", "switching", "a_transaction_cut_at_any_call_ends_wholly_old_or_wholly_new"),
    ("power cut", "taking back", "a_transaction_that_is_taken_back_and_cut_at_any_call_ends_wholly_old"),
    ("power cut", "taking back", "a_recovery_cut_at_any_call_and_run_again_ends_wholly_old_or_wholly_new"),
    ("power cut", "afterwards", "a_committed_generation_survives_any_later_power_cut"),
    ("reboot in the middle", "staging", "a_host_that_is_about_to_go_down"),
    ("reboot in the middle", "switching", "a_reboot_in_the_midst_of_the_switch_brings_the_old_generation_back"),
    ("reboot in the middle", "on trial", "a_reboot_on_trial_brings_the_old_generation_back"),
    ("reboot in the middle", "taking back", "a_reboot_in_the_midst_of_the_switch_brings_the_old_generation_back"),
    ("reboot in the middle", "afterwards", "after_a_reboot_everything_is_there_without_a_laptop"),
    // The laptop and the network.
    ("SIGKILL of push", "staging", "a_laptop_that_dies_while_staging_leaves_a_spool_to_resume_and_a_free_lock"),
    ("SIGKILL of push", "staging", "an_operator_who_goes_at_any_byte_leaves_what_can_be_taken_up"),
    ("SIGKILL of push", "switching", "a_laptop_that_dies_during_the_switch_is_not_needed"),
    ("SIGKILL of push", "any", "a_laptop_killed_at_any_frame_leaves_a_host_that_is_whole_and_lets_the_next_one_in"),
    ("Ctrl-C", "any", "an_interrupt_at_any_frame_is_answered_by_what_the_journal_says"),
    ("Ctrl-C", "any", "an_operator_who_leaves_at_any_frame_is_told_nothing_that_is_not_so"),
    ("Ctrl-C", "on trial", "an_interrupt_during_the_switch_takes_it_back_and_waits_for_the_answer"),
    ("connection reset", "staging", "a_connection_reset_while_staging_is_made_again"),
    ("connection reset", "on trial", "sshd_restarted_during_the_switch_changes_nothing"),
    ("connection reset", "any", "a_connection_cut_at_any_frame_is_made_again_and_the_push_ends_as_it_would_have"),
    ("silent network, each direction", "staging", "silence_in_either_direction_while_staging_is_noticed_and_the_push_goes_on_afterwards"),
    ("silent network, each direction", "on trial", "a_silent_network_on_trial_ends_in_the_old_generation_and_the_tool_tells_so_afterwards"),
    ("silent network, each direction", "staging", "a_laptop_that_vanishes_is_noticed_within_15_s_and_the_lock_is_free"),
    ("silent network, each direction", "staging", "a_slow_line_is_not_taken_for_a_dead_one"),
    ("silent network, each direction", "staging", "an_operator_who_thinks_is_waited_for_and_a_laptop_that_slept_comes_back"),
    ("silent network, each direction", "staging", "a_host_that_lost_its_line_while_it_waited_is_staged_again_when_its_turn_comes"),
    ("silent network, each direction", "switching", "silence_in_either_direction_while_switching_is_noticed_and_the_push_watches_again"),
    ("silent network, each direction", "on trial", "a_transaction_goes_on_alone_when_its_laptop_vanishes_and_its_session_ends"),
    ("confirmation crosses the deadline", "on trial", "a_risky_switch_that_nobody_confirms_is_taken_back_at_its_deadline"),
    ("confirmation crosses the deadline", "on trial", "a_confirmation_and_the_deadline_race_and_all_tell_what_the_journal_says"),
    ("confirmation crosses the deadline", "on trial", "a_confirmation_commits_and_asking_again_gives_the_same_answer"),
    ("confirmation crosses the deadline", "on trial", "a_confirmation_counts_only_with_its_nonce_and_over_another_connection"),
    ("wrong host key", "on trial", "a_host_that_proves_another_key_at_the_confirmation_is_not_confirmed"),
    ("wrong host key", "on trial", "a_host_that_proves_another_key_when_it_is_called_again_goes_on_alone_and_that_is_told"),
    ("two pushes at once", "staging", "one_operator_at_a_time_and_an_upload_goes_on_where_it_was_cut"),
    ("two pushes at once", "on trial", "of_two_who_push_at_once_one_is_told_who_is_at_it_and_one_who_waits_has_his_turn"),
    ("two pushes at once", "any", "push_host_is_replaced_only_while_nobody_is_at_it"),
    ("two pushes at once", "switching", "a_switch_planned_against_another_generation_begins_nothing"),
    ("stale lock", "any", "a_laptop_that_dies_while_staging_leaves_a_spool_to_resume_and_a_free_lock"),
    ("wrong host key", "staging", "another_key_than_the_one_that_was_given_is_sent_nothing"),
    // The way in.
    ("sshd restarted", "on trial", "sshd_restarted_during_the_switch_changes_nothing"),
    ("sshd restarted", "any", "a_connection_cut_at_any_frame_is_made_again_and_the_push_ends_as_it_would_have"),
    ("sshd broken by the push", "staging", "what_nginx_sshd_or_systemd_refuse_changes_nothing_anywhere"),
    ("sshd broken by the push", "on trial", "sshd_told_to_let_nobody_in_lets_the_operator_in_again"),
    ("sshd broken by the push", "on trial", "an_sshd_that_dies_of_what_it_was_told_runs_again_and_lets_the_operator_in"),
    ("firewall that locks the operator out", "on trial", "a_firewall_of_the_hosts_own_that_lets_no_operator_in_is_taken_back_with_everything_else"),
    ("firewall that locks the operator out", "on trial", "a_risky_switch_that_nobody_confirms_is_taken_back_at_its_deadline"),
    ("firewall that locks the operator out, and a reboot", "on trial", "a_firewall_that_locks_the_operator_out_is_gone_after_a_reboot_before_the_deadline"),
    ("firewall flushed by others", "afterwards", "the_firewall_outlives_a_boot_at_which_the_system_loads_its_own"),
    ("firewall flushed by others", "afterwards", "the_firewall_outlives_an_administrator_who_restarts_the_systems_own"),
    // What the host runs.
    ("nginx refuses the configuration", "staging", "what_nginx_sshd_or_systemd_refuse_changes_nothing_anywhere"),
    ("nginx does not read it", "staging", "an_nginx_that_does_not_read_what_push_puts_there_is_told_before_the_switch"),
    ("no view of what is staged", "staging", "tools_look_at_what_is_staged_where_no_layer_can_cover_etc"),
    ("nginx refuses the reload", "switching", "an_nginx_that_cannot_have_its_port_is_found_out_and_serves_the_old_site"),
    ("nginx refuses the reload", "switching", "an_nginx_whose_certificate_vanished_after_the_check_is_found_out"),
    ("nginx refuses the reload", "switching", "an_nginx_that_keeps_its_old_configuration_is_found_out"),
    ("a unit is bad", "staging", "what_nginx_sshd_or_systemd_refuse_changes_nothing_anywhere"),
    ("a unit is bad", "switching", "a_unit_that_does_not_start_takes_the_switch_back_and_names_the_effect"),
    ("a unit hangs", "switching", "a_service_that_hangs_while_it_starts_is_taken_back_and_runs_again"),
    ("the way back fails too", "taking back", "a_way_back_that_does_not_hold_is_tried_again_until_it_does"),
    ("the way back fails too", "taking back", "a_way_back_that_does_not_hold_is_no_end_and_a_recovery_after_the_repair_is_one"),
    ("systemd starts it too late", "switching", "a_switch_that_systemd_starts_after_it_was_refused_begins_nothing"),
    ("push-host missing, older or unfit", "staging", "a_push_host_that_is_not_what_was_announced_or_comes_in_the_midst_of_a_switch_is_not_installed"),
    ("push-host missing, older or unfit", "staging", "push_host_is_replaced_only_while_nobody_is_at_it"),
    ("an app dies after the commit", "afterwards", "an_app_that_dies_after_the_commit_is_told_and_one_command_goes_back"),
    ("service that crash-loops", "on trial", "a_crash_looping_app_is_taken_back_and_its_hostile_last_words_are_shown_escaped"),
    ("service that crash-loops", "on trial", "a_service_that_dies_again_and_again_is_taken_back_and_runs_again"),
    ("service that crash-loops", "on trial", "a_service_that_restarts_by_itself_is_taken_back"),
    ("health that flaps", "on trial", "an_app_whose_health_flaps_is_taken_back"),
    ("health that never comes", "on trial", "a_release_that_never_becomes_healthy_is_taken_back_and_said_so"),
    ("push-host killed", "any", "a_transaction_whose_process_dies_at_any_call_is_ended_without_a_boot"),
    ("push-host killed", "staging", "a_push_host_that_dies_while_staging_leaves_everything_as_it_was"),
    ("push-host killed", "switching", "a_push_host_that_dies_in_any_phase_is_taken_up_by_the_host"),
    ("push-host killed", "on trial", "a_push_host_that_dies_in_any_phase_is_taken_up_by_the_host"),
    ("push-host killed", "taking back", "a_push_host_that_dies_in_any_phase_is_taken_up_by_the_host"),
    ("push-host killed", "afterwards", "a_push_host_that_dies_after_the_commit_leaves_a_commit"),
    ("push-host killed", "on trial", "a_transaction_that_nobody_carries_on_is_taken_back_by_whoever_comes_next"),
    ("push-host killed for want of memory", "staging", "a_push_host_that_dies_while_staging_leaves_everything_as_it_was"),
    ("push-host killed for want of memory", "switching", "a_push_host_that_dies_in_any_phase_is_taken_up_by_the_host"),
    ("push-host killed for want of memory", "on trial", "a_push_host_that_dies_in_any_phase_is_taken_up_by_the_host"),
    ("push-host killed for want of memory", "taking back", "a_push_host_that_dies_in_any_phase_is_taken_up_by_the_host"),
    ("push-host killed for want of memory", "afterwards", "a_push_host_that_dies_after_the_commit_leaves_a_commit"),
    // Hands other than push's.
    ("something is broken before the push", "staging", "an_account_that_a_cut_left_half_made_is_completed"),
    ("something is broken before the push", "staging", "a_unit_that_the_host_does_not_know_is_named_and_nothing_is_left"),
    ("something is broken before the push", "taking back", "a_push_that_finds_the_app_dead_is_taken_back_and_the_next_one_puts_it_right"),
    ("something is broken before the push", "taking back", "an_nginx_that_could_never_start_does_not_keep_a_first_push_from_being_taken_back"),
    ("changed by hand", "afterwards", "what_somebody_changed_by_hand_is_told_by_every_push_and_put_right_by_one_that_applies_it_again"),
    ("changed by hand", "on trial", "what_is_applied_again_and_does_not_become_healthy_is_taken_back_and_a_later_push_is_a_plain_one"),
    // The disk and the clock. The clock of a real host cannot be set: a container shares it with the
    // machine that the tests run on. The simulated one's jumps at every call.
    ("disk full", "staging", "a_full_disk_and_full_inodes_refuse_the_push_before_anything_is_live"),
    ("disk full", "staging", "a_spool_that_has_no_room_is_told_and_left_empty"),
    ("disk full", "staging", "a_disk_that_fills_up_is_told_and_what_was_uploaded_in_vain_goes"),
    ("disk full", "any", "a_journal_that_is_written_anew_in_trouble_can_be_gone_on_with"),
    ("disk full", "any", "a_disk_that_fills_up_at_any_call_does_not_keep_a_host_from_going_back"),
    ("disk full", "staging", "a_disk_that_runs_full_at_any_stage_leaves_a_host_that_is_whole_and_boots"),
    ("disk full", "switching", "a_disk_that_runs_full_at_any_stage_leaves_a_host_that_is_whole_and_boots"),
    ("disk full", "on trial", "a_disk_that_runs_full_at_any_stage_leaves_a_host_that_is_whole_and_boots"),
    ("disk full", "taking back", "a_disk_that_runs_full_at_any_stage_leaves_a_host_that_is_whole_and_boots"),
    ("inodes used up", "staging", "a_full_disk_and_full_inodes_refuse_the_push_before_anything_is_live"),
    ("inodes used up", "staging", "inodes_that_run_out_at_any_stage_leave_a_host_that_is_whole_and_boots"),
    ("inodes used up", "switching", "inodes_that_run_out_at_any_stage_leave_a_host_that_is_whole_and_boots"),
    ("inodes used up", "on trial", "inodes_that_run_out_at_any_stage_leave_a_host_that_is_whole_and_boots"),
    ("inodes used up", "taking back", "inodes_that_run_out_at_any_stage_leave_a_host_that_is_whole_and_boots"),
    ("disk read-only", "staging", "a_disk_that_became_read_only_refuses_the_push_and_the_old_generation_serves"),
    ("disk read-only", "switching", "a_disk_that_becomes_read_only_during_the_switch_leaves_a_host_that_is_whole_after_a_boot"),
    ("disk read-only", "on trial", "a_disk_that_becomes_read_only_during_the_switch_leaves_a_host_that_is_whole_after_a_boot"),
    ("disk read-only", "any", "any_fault_at_any_call_leaves_the_host_whole_and_the_verdict_true"),
    ("fsync fails", "any", "any_fault_at_any_call_leaves_the_host_whole_and_the_verdict_true"),
    ("corrupted spool", "staging", "an_upload_that_was_damaged_on_the_disk_is_sent_again"),
    ("corrupted spool", "staging", "an_upload_that_is_damaged_twice_on_the_disk_is_sent_once_more_and_then_named"),
    ("tampering", "staging", "a_generation_with_foreign_content_owner_mode_or_names_is_refused"),
    ("tampering", "staging", "a_journal_that_is_cut_damaged_or_exchanged_is_not_guessed_to_say_anything"),
    ("tampering", "staging", "a_switch_that_was_exchanged_is_refused_and_made_anew_from_the_journal_at_boot"),
    ("tampering", "staging", "a_generation_that_others_could_have_made_is_not_gone_back_to"),
    ("tampering", "staging", "a_release_that_changed_while_it_was_not_in_effect_is_not_gone_back_to_and_is_named"),
    ("tampering", "staging", "root_writes_nothing_where_a_user_leads_it"),
    ("tampering", "any", "no_call_follows_a_link_on_the_way_that_a_user_could_have_made"),
    ("tampering", "taking back", "a_user_who_leads_a_place_elsewhere_keeps_no_host_from_taking_back_or_booting"),
    ("tampering", "afterwards", "a_journal_that_is_cut_damaged_or_exchanged_is_not_guessed_to_say_anything"),
    ("tampering", "afterwards", "somebody_who_edits_a_pushed_file_in_place_does_not_stop_the_next_push"),
    ("clock set", "any", "a_wall_clock_that_jumps_by_years_decides_nothing"),
    // First pushes and fleets.
    ("no generation before", "taking back", "a_failed_first_push_leaves_the_host_as_it_was"),
    ("no generation before", "taking back", "a_first_push_taken_back_leaves_the_host_as_it_was"),
    ("a host of several fails", "staging", "a_dead_host_is_told_and_the_others_truth_is_told_too"),
    ("a host of several fails", "on trial", "a_wave_that_fails_stops_the_next_ones_and_is_undone_as_asked"),
];

/// The names of all functions in the tests and in the sources that carry `#[test]`.
fn tests() -> BTreeSet<String> {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![home.to_owned(), home.join("../src")];
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.extend(tests_in(&fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found
}

/// The functions of a source that are tests: those after the attribute, and those in `proptest!`.
fn tests_in(source: &str) -> Vec<String> {
    let after_attribute = source.split("#[test]").skip(1);
    after_attribute
        .filter_map(|rest| {
            let name = rest.split("fn ").nth(1)?.split('(').next()?;
            Some(name.trim().to_owned())
        })
        .collect()
}

/// As `tests/run` prints it at its end.
#[test]
fn every_cell_is_told() {
    for (fault, stage, test) in CELLS {
        println!("{fault} | {stage} | {test}");
    }
    println!("{} cells of {} faults", CELLS.len(), FAULTS.len());
    assert!(CELLS.len() > FAULTS.len());
}

#[test]
fn every_cell_names_a_test_that_there_is() {
    let there = tests();
    let missing: Vec<_> = CELLS
        .iter()
        .filter(|(_, _, test)| !there.contains(*test))
        .collect();
    assert!(missing.is_empty(), "no such test: {missing:#?}");
}

#[test]
fn every_fault_has_a_cell_and_every_cell_a_fault_and_a_stage() {
    for fault in FAULTS {
        assert!(
            CELLS.iter().any(|(of, _, _)| of == fault),
            "nothing holds: {fault}"
        );
    }
    for (fault, stage, test) in CELLS {
        assert!(FAULTS.contains(fault), "{test}: no such fault: {fault}");
        assert!(STAGES.contains(stage), "{test}: no such stage: {stage}");
    }
    let all: BTreeSet<_> = CELLS.iter().collect();
    assert_eq!(all.len(), CELLS.len(), "a cell stands there twice");
}
