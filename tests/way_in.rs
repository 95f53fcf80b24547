//! Pushes that lock their operator out: sshd and firewalls that let nobody in any more, while the
//! session that brought them is still open. The host must let the operator in again by itself.

use push_tests::lab::{Lab, Said};
use push_tests::scene::{confirmed_within, goes_on, pushed};
use push_tests::verdict::Before;
use push_tests::witness::{self, Fate};
use push_wire::journal::{Cause, State};

/// How long a push waits for its operator here, in seconds.
const CONFIRM_WITHIN_S: u32 = 6;

/// What `sshd -t` accepts and nobody gets in by.
const LOCK_OUTS: [&str; 3] = ["AllowUsers nobody", "ListenAddress 127.0.0.1", "Port 2222"];

/// A drop-in of sshd, as a file of the inventory.
fn sshd(words: &str) -> String {
    format!(
        "\n[files.\"/etc/ssh/sshd_config.d/50-lockout.conf\"]\ncontent = \"{words}\\n\"\non_change = {{ reload = \"ssh.service\" }}\n"
    )
}

/// Rules of the host's own firewall, as a file of the inventory: sessions that are there go on, and
/// no new one comes in by SSH.
fn rules(effect: &str) -> String {
    let text = "add rule inet own in ct state established accept\\nadd rule inet own in tcp dport 22 drop\\n";
    format!(
        "\n[files.\"/etc/nftables.d/lockout.nft\"]\ncontent = \"{text}\"\non_change = {{ {effect} = \"nftables.service\" }}\n"
    )
}

/// A host at tag 1 that has a firewall of its own beside push's, as its administrator keeps one: in
/// files, loaded at boot, of which the inventory may declare some.
fn behind_own_firewall() -> Option<Lab> {
    let lab = Lab::boot_plain(1)?;
    let host = lab.host("web1");
    let head = b"#!/usr/sbin/nft -f\nflush ruleset\nadd table inet own\nadd chain inet own in { type filter hook input priority -5; }\ninclude \"/etc/nftables.d/*.nft\"\n";
    host.succeed(&["mkdir", "-p", "/etc/nftables.d"]).unwrap();
    host.write("/etc/nftables.conf", head, 0o755).unwrap();
    host.succeed(&["systemctl", "enable", "--now", "nftables.service"])
        .unwrap();
    goes_on(&lab, 1);
    Some(lab)
}

/// Pushes what locks out, and sees that nobody was.
fn is_let_in_again(lab: &Lab, (number, extra): (u32, &str)) -> Said {
    witness::environment(lab, (number, Fate::Healthy), extra);
    confirmed_within(lab, CONFIRM_WITHIN_S);
    let before = Before::of(lab, (Some(1), Some(number)));
    let said = lab.push(&["prod", "--yes"]).exits(5);
    assert_eq!(before.ends(&said), Some(1), "{extra}");
    assert!(
        matches!(before.state(), Some(State::TakenBack(Cause::Unconfirmed))),
        "{:?}",
        before.state()
    );
    said
}

/// The same with power lost before the deadline.
fn is_let_in_after_a_power_cut(lab: &Lab, (number, extra): (u32, &str)) {
    witness::environment(lab, (number, Fate::Healthy), extra);
    confirmed_within(lab, 60);
    let before = Before::of(lab, (Some(1), Some(number)));
    let running = lab.spawn(&["prod", "--yes"]);
    before.until("the trial", |state| matches!(state, State::Probation(_)));
    before.host().power_cut().unwrap();
    // Up is a host whose sshd answers the laptop.
    before.host().boot_again().unwrap();
    let said = running.end();
    assert_eq!(before.ends(&said), Some(1), "{extra}");
}

#[test]
fn sshd_told_to_let_nobody_in_lets_the_operator_in_again() {
    let Some(lab) = pushed() else { return };
    for (number, words) in (2..).zip(LOCK_OUTS) {
        is_let_in_again(&lab, (number, &sshd(words))).says("new connection");
    }
    is_let_in_after_a_power_cut(&lab, (8, &sshd(LOCK_OUTS[1])));
    goes_on(&lab, 9);
}

#[test]
fn an_sshd_that_dies_of_what_it_was_told_runs_again_and_lets_the_operator_in() {
    let Some(lab) = pushed() else { return };
    // `sshd -t` does not ask whether the address is there; Debian's unit does not start it again for that.
    witness::environment(&lab, (2, Fate::Healthy), &sshd("ListenAddress 192.0.2.77"));
    confirmed_within(&lab, 60);
    let before = Before::of(&lab, (Some(1), Some(2)));
    let said = lab.push(&["prod", "--yes"]).exits(5);
    assert_eq!(before.ends(&said), Some(1));
    let dead = matches!(before.state(), Some(State::TakenBack(Cause::Effect { effect, .. })) if effect == "reload ssh.service");
    assert!(dead, "{:?}", before.state());
    goes_on(&lab, 3);
}

#[test]
fn an_operator_who_has_to_come_in_again_is_not_asked_for_a_password_that_was_never_wanted() {
    let Some(lab) = pushed() else { return };
    witness::environment(&lab, (2, Fate::Healthy), &sshd("AllowUsers nobody"));
    confirmed_within(&lab, CONFIRM_WITHIN_S);
    let before = Before::of(&lab, (Some(1), Some(2)));
    // On a terminal, and with sshd as Debian ships it, which would take a password.
    let asked = lab.ask(&["prod", "--yes"]);
    let said = asked.types("").exits(5).says("nobody came in");
    assert!(!said.stdout.contains("Password"), "{}", said.stdout);
    assert_eq!(before.ends(&said), Some(1));
}

#[test]
fn a_firewall_of_the_hosts_own_that_lets_no_operator_in_is_taken_back_with_everything_else() {
    let Some(lab) = behind_own_firewall() else {
        return;
    };
    is_let_in_again(&lab, (2, &rules("restart")));
    is_let_in_again(&lab, (3, &rules("reload")));
    goes_on(&lab, 4);
}

#[test]
fn a_firewall_that_locks_the_operator_out_is_gone_after_a_reboot_before_the_deadline() {
    let Some(lab) = behind_own_firewall() else {
        return;
    };
    is_let_in_after_a_power_cut(&lab, (2, &rules("restart")));
    goes_on(&lab, 3);
}
