//! The SSH matrix: what push must do better than its library's defaults, each case against a real
//! sshd. A case without a test that is there fails the test below.
//!
//! | case | how sshd is set up | result | test |
//! |---|---|---|---|
//! | every usual key file: OpenSSH, PEM, PKCS#8 | authorized keys | in | ssh_login::every_usual_kind_of_key_file_gets_in |
//! | agent, every kind of key | authorized keys, ssh-agent | in | ssh_login::the_agent_signs_with_every_kind_of_key |
//! | agent that lists a key type nobody knows | an ssh-ed448 in the list | in with the next key | ssh_login::an_agent_that_also_holds_a_key_of_an_unknown_type_signs_with_the_others |
//! | agent gone or silent | a dead socket, a mute one | in with the key file | ssh_login::an_agent_that_is_gone_or_silent_does_not_keep_a_key_file_out |
//! | several identities | eight keys | five offered, the named first | ssh_login::at_most_five_keys_are_offered_and_the_named_ones_first |
//! | IdentitiesOnly | seven keys in the agent | the named one, nothing else | ssh_login::identities_only_offers_from_the_agent_what_is_named_and_nothing_else |
//! | MaxAuthTries reached | MaxAuthTries 2 | told apart from a refusal | ssh_login::a_server_that_hangs_up_during_the_login_is_told_apart_from_a_refusal |
//! | encrypted key | three hosts at once | asked for once | ssh_login::a_passphrase_is_asked_for_once_however_many_hosts_need_the_key |
//! | encrypted key, no terminal | authorized keys | fails at once, says ssh-add | ssh_login::without_a_terminal_a_locked_key_fails_at_once_and_says_what_to_do |
//! | user certificates, file and agent | TrustedUserCAKeys | in | ssh_login::a_user_certificate_gets_in_from_a_file_and_from_the_agent |
//! | certificate on file, key in the agent | TrustedUserCAKeys | in | ssh_login::a_certificate_on_file_is_used_with_a_key_that_only_the_agent_holds |
//! | two keys | AuthenticationMethods publickey,publickey | in | ssh_login::two_keys_are_given_where_two_are_asked_for |
//! | wrong password | AuthenticationMethods password | corrected once, then refused | ssh_login::a_wrong_password_may_be_corrected_once_and_not_without_a_terminal |
//! | root by password, two hosts | PAM, PermitRootLogin yes | asked for once; from a file without a terminal | ssh_passwords::root_by_password_is_asked_for_once_for_all_hosts_and_never_without_a_terminal |
//! | key and password, key and keyboard-interactive, password and key | PAM, AuthenticationMethods | in | ssh_passwords::a_key_and_then_a_password_or_the_other_way_round |
//! | sudo with a password | sudoers without NOPASSWD | asked for once, on stdin | ssh_passwords::a_sudo_that_wants_a_password_gets_it_on_stdin_for_the_installation_and_every_push |
//! | pinned host key | two host keys | in; any other key stops before the login | ssh_host_keys::a_pinned_key_lets_in_and_any_other_key_stops_before_the_login |
//! | unknown host key | known_hosts without it | stops before the login, says push trust | ssh_host_keys::an_unknown_key_stops_before_the_login_and_says_what_to_pin |
//! | pinned key that known_hosts revokes | @revoked line | stops before the login, names file and line | ssh_host_keys::a_pinned_key_is_believed_whatever_known_hosts_says_unless_that_revokes_it |
//! | the same by push status and push ssh | @revoked line | refused by both | identity::a_pinned_key_that_known_hosts_revokes_is_used_by_no_command |
//! | changed, revoked, other type, several of one type | known_hosts lines | each its own reason; any of several is right | ssh_host_keys::a_changed_a_revoked_and_an_untyped_key_each_stop_with_their_own_reason |
//! | key order by what is known, non-default port | two host keys, one known | the known one is asked for | ssh_host_keys::the_key_that_is_known_is_the_one_that_is_asked_for |
//! | hashed names, patterns, HostKeyAlias | ssh-keygen -H, globs, negation | found | ssh_host_keys::hashed_names_patterns_and_an_alias_lead_to_the_key |
//! | host certificates, revoked authority | HostCertificate | believed for its names only | ssh_host_keys::a_certificate_of_a_known_authority_is_believed_for_its_names_only |
//! | expired or user certificate of a host | HostCertificate | proves nothing | ssh_host_keys::an_expired_certificate_and_a_person_s_certificate_prove_nothing |
//! | reconnects, confirming connections | another server on the port, authority gone | checked again, refused | ssh_host_keys::keys_and_certificates_are_checked_again_at_every_connection_of_one_dialer |
//! | confirming connection of a push | a host that proves another key | not confirmed, taken back | faults::a_host_that_proves_another_key_at_the_confirmation_is_not_confirmed |
//! | algorithms of OpenSSH 8.4 | each kind restricted | in | ssh_host_keys::a_host_with_the_algorithms_of_openssh_8_4_is_talked_to |
//! | weak key exchange and ciphers | group1, CBC | refused with the reason | ssh_host_keys::algorithms_that_are_too_weak_are_refused_with_the_reason |
//! | host signatures with SHA-1 | HostKeyAlgorithms ssh-rsa | refused with the reason | ssh_host_keys::a_host_that_only_signs_with_sha1_is_refused_with_the_reason |
//! | RSA host key of 1024 bits | such a key, pinned | refused with the reason | ssh_host_keys::a_host_key_that_is_too_short_is_refused_even_when_it_is_pinned |
//! | ProxyJump through two hosts | three servers | in, hops shared | ssh_ways::two_jump_hosts_lead_to_a_host_and_are_shared_by_the_hosts_behind_them |
//! | ProxyCommand | nc, and one that fails | in; its complaint is told | ssh_ways::a_proxy_command_carries_the_connection_and_its_complaint_is_told |
//! | ssh_config and inventory together | Host, Match, Include | in | ssh_ways::ssh_config_and_inventory_together_lead_to_the_host |
//! | MaxStartups, PerSourcePenalties | a storm; a penalty | gets through; told and not fought | ssh_ways::a_storm_of_connections_gets_through_a_server_that_drops_most_of_them |
//! | push trust: new, scripted, changed, known, revoked | loopback | pinned, or refused | identity::a_new_key_is_pinned_by_a_yes_and_nothing_else_in_the_file_changes |
//! | push trust in a script | loopback | only a fingerprint given beforehand | identity::a_script_pins_only_a_key_whose_fingerprint_it_brings |
//! | push trust, changed key | loopback | the host's name is wanted | identity::a_changed_key_wants_more_than_a_yes_and_stops_everything_until_then |
//! | first contact of push bootstrap | a fresh host, root by password | asked, given or certified; then pinned | first_contact::an_unknown_key_is_asked_about_and_then_pinned_before_anything_is_sent |
//! | first contact, unattended | --host-key, root by password | pinned, a member after one bootstrap and one push | first_contact::root_by_password_with_an_unknown_key_is_a_member_after_one_bootstrap_and_one_push |
//! | first contact, another key than the given one | --host-key SHA256:… | refused with both, nothing sent | first_contact::another_key_than_the_one_that_was_given_is_sent_nothing |
//! | first contact, host authority | HostCertificate, @cert-authority | pinned without a question; other names prove nothing | first_contact::a_key_that_a_known_authority_certifies_is_pinned_without_a_question |
//! | a cloud's user, one password for login and sudo | two hosts, a terminal | typed once | bootstrap::one_password_for_login_and_sudo_is_typed_once_for_all_hosts |
//! | push ssh through a pinned jump host | two servers | in; a wrong pin of the hop stops it | identity::push_ssh_goes_through_the_inventory_s_jump_hosts_with_their_own_pins |

use std::path::Path;

#[test]
fn every_case_of_the_matrix_has_a_test_that_is_there() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| std::fs::read_to_string(folder.join(format!("{file}.rs"))).unwrap();
    let matrix = read("ssh_matrix");
    let cases = matrix
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "))
        .filter_map(|row| {
            row.trim_end_matches(" |")
                .rsplit(" | ")
                .next()?
                .split_once("::")
        });
    let mut count = 0;
    for (file, test) in cases {
        let text = read(file);
        let head = text.split(&format!("fn {test}()")).next().unwrap();
        let is_test = head.len() < text.len()
            && [
                "#[test]\n",
                "#[tokio::test(flavor = \"multi_thread\")]\nasync ",
            ]
            .iter()
            .any(|attribute| head.ends_with(attribute));
        assert!(is_test, "{file}.rs has no test {test}");
        count += 1;
    }
    assert!(count >= 30, "{count} cases are left");
}
