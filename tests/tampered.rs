//! What push keeps on a host, cut short, damaged or exchanged by somebody: the journal, the switch,
//! generations, the spool. Each is refused in words that help, or made anew from what can be trusted;
//! nothing is guessed to be committed, and what was in effect serves on.

use std::fs;
use std::time::Duration;

use push::rehearse::RehearsalHost;
use push_tests::lab::{Lab, eventually};
use push_tests::scene::{bulky, goes_on, pushed};
use push_tests::witness::{self, Fate, generation, journal, tag, whole};
use push_wire::journal::State;

/// How long what is waited for may take.
const SOON: Duration = Duration::from_secs(60);

fn sh(host: &RehearsalHost, script: &str) -> String {
    host.succeed(&["sh", "-c", script])
        .unwrap_or_else(|error| panic!("{script}: {error}"))
}

/// A push is refused with these words, begins nothing, and is no longer refused once it was put right.
fn refused(lab: &Lab, (what, spoil, mend): (&str, &str, &str), words: &str) {
    let host = lab.host("web1");
    let (before, records) = (generation(host), journal(host));
    sh(host, "rm -rf /root/aside && mkdir /root/aside");
    sh(host, spoil);
    let spoilt = sh(host, "find /etc/push /var/lib/push/journal -ls");
    let said = lab.push(&["prod", "--yes"]);
    let is_told = said.stderr.contains(words) || said.stdout.contains(words);
    assert!(said.code() > 0 && said.code() != 6, "{what}: {said:?}");
    assert!(is_told, "{what}: {words:?} is not in {said:?}");
    assert_eq!(
        sh(host, "find /etc/push /var/lib/push/journal -ls"),
        spoilt,
        "{what}"
    );
    let status = lab.push(&["status", "prod"]);
    assert_ne!(status.code(), 0, "{what}: {status:?}");
    sh(host, mend);
    assert_eq!(generation(host), before, "{what}");
    assert_eq!(journal(host), records, "{what}");
}

#[test]
fn a_journal_that_is_cut_damaged_or_exchanged_is_not_guessed_to_say_anything() {
    let Some(lab) = pushed() else { return };
    let host = lab.host("web1");
    goes_on(&lab, 2);
    witness::environment(&lab, (3, Fate::Healthy), "");
    let aside = "mv /var/lib/push/journal /root/aside/journal; ";
    let mend = "rm -rf /var/lib/push/journal; mv /root/aside/journal /var/lib/push/journal";
    let flip = "cp -a /var/lib/push/journal /root/aside/; \
                printf X | dd of=/var/lib/push/journal bs=1 seek=60 conv=notrunc 2>/dev/null";
    for (what, spoil, words) in [
        ("a flipped bit", flip.to_owned(), "is damaged at byte"),
        (
            "a pipe",
            format!("{aside}mkfifo /var/lib/push/journal"),
            "journal",
        ),
        (
            "a link",
            format!("{aside}ln -s /etc/hostname /var/lib/push/journal"),
            "is not a journal of push",
        ),
        (
            "a folder",
            format!("{aside}mkdir /var/lib/push/journal"),
            "journal",
        ),
        (
            "a later push's",
            format!("{aside}echo 'push journal 2' > /var/lib/push/journal"),
            "written by a later push",
        ),
    ] {
        refused(&lab, (what, &spoil, mend), words);
        assert_eq!(whole(host), tag(2), "{what}");
    }
    // At boot, too: what is in effect stays, whole, and the failure is loud.
    sh(host, "rm -rf /root/aside; mkdir /root/aside");
    sh(host, flip);
    host.reboot().unwrap();
    assert_eq!(whole(host), tag(2));
    assert_eq!(host.failed_units(), ["push-recover.service"]);
    sh(host, mend);
    // One whose last record was cut does not say COMMITTED, so that nothing was.
    sh(host, "truncate -s -3 /var/lib/push/journal");
    host.reboot().unwrap();
    assert_eq!(whole(host), tag(1));
    let records = journal(host);
    assert!(matches!(witness::last(&records), Some(State::TakenBack(_))));
    lab.push(&["status", "prod"]).exits(0).says("taken back");
    goes_on(&lab, 4);
}

#[test]
fn a_switch_that_was_exchanged_is_refused_and_made_anew_from_the_journal_at_boot() {
    let Some(lab) = pushed() else { return };
    let host = lab.host("web1");
    goes_on(&lab, 2);
    witness::environment(&lab, (3, Fate::Healthy), "");
    let gone = "mv /etc/push/current /root/aside/current; ";
    let mend = "rm -rf /etc/push/current; mv /root/aside/current /etc/push/current";
    for (what, put) in [
        ("a file", "echo generations/2 > /etc/push/current"),
        ("a pipe", "mkfifo /etc/push/current"),
        ("a folder", "mkdir /etc/push/current"),
        ("a link out", "ln -s /etc /etc/push/current"),
        ("a link up", "ln -s generations/../../2 /etc/push/current"),
    ] {
        let spoil = format!("{gone}{put}");
        refused(&lab, (what, &spoil, mend), "is not a link to a generation");
        assert_eq!(whole(host), tag(2), "{what}");
        sh(host, "rm -rf /root/aside; mkdir /root/aside");
        sh(host, &spoil);
        host.reboot().unwrap();
        assert_eq!(whole(host), tag(2), "{what}");
        assert_eq!(generation(host), 2, "{what}");
    }
    goes_on(&lab, 3);
}

#[test]
fn a_generation_that_others_could_have_made_is_not_gone_back_to() {
    let Some(lab) = pushed() else { return };
    let host = lab.host("web1");
    goes_on(&lab, 2);
    let folder = "/etc/push/generations/1";
    let save =
        "rm -rf /root/aside; mkdir /root/aside; cp -a /etc/push/generations/1 /root/aside/; ";
    for (what, spoil) in [
        ("a foreign owner", format!("chown 1000 {folder}")),
        (
            "another text",
            format!("echo >> {folder}/nftables/push.nft; echo >> {folder}/systemd/api.service"),
        ),
        (
            "a pipe in a text's place",
            format!("rm {folder}/systemd/api.service; mkfifo {folder}/systemd/api.service"),
        ),
        (
            "a pipe in the manifest's place",
            format!("rm {folder}/manifest.json; mkfifo {folder}/manifest.json"),
        ),
        (
            "a link in its own place",
            format!("rm -r {folder}; ln -s /root/aside/1 {folder}"),
        ),
    ] {
        sh(host, &format!("{save}{spoil}"));
        let records = journal(host);
        let said = lab.push(&["rollback", "prod", "--yes"]);
        assert!([1, 9].contains(&said.code()), "{what}: {said:?}");
        let names_it = [folder, "api.service", "no committed generation"]
            .iter()
            .any(|it| said.stderr.contains(it));
        assert!(names_it, "{what}: {said:?}");
        assert_eq!(whole(host), tag(2), "{what}");
        assert_eq!(journal(host), records, "{what}");
        sh(
            host,
            &format!("rm -rf {folder}; cp -a /root/aside/1 {folder}"),
        );
    }
    lab.push(&["rollback", "prod", "--yes"]).exits(0);
    assert_eq!(whole(host), tag(1));
}

#[test]
fn an_upload_that_is_damaged_twice_on_the_disk_is_sent_once_more_and_then_named() {
    let Some(lab) = pushed() else { return };
    let host = lab.host("web1");
    bulky(&lab, 2);
    // A disk that spoils whatever is written to it. It makes no file of its own, which would be taken for a
    // part that is there already, and one process looks often enough to miss no upload.
    let rot = "for (;;) { for (glob '/var/lib/push/spool/packs/*') { \
               next if -s $_ < 65536 or not open my $f, '+<', $_; seek $f, 40960, 0; \
               print $f \"\\0\" x 64; close $f } select undef, undef, undef, 0.002 }";
    let begin = ["systemd-run", "-q", "--unit=rot", "perl", "-e", rot];
    host.succeed(&begin).unwrap();
    let said = lab.push(&["prod", "--yes", "-vv"]).exits(1);
    sh(host, "systemctl stop rot");
    let sent = said.stderr.matches("0 of them are there already").count();
    assert_eq!(sent, 2, "{said:?}");
    assert!(said.stderr.contains("is not what was sent"), "{said:?}");
    assert_eq!(whole(host), tag(1));
    lab.push(&["prod", "--yes"]).exits(0);
    assert_eq!(whole(host), tag(2));
    let sent = fs::read(lab.path("bulk/noise")).unwrap();
    eventually("what arrived is what was sent", SOON, || {
        host.read("/srv/bulk/current/noise").unwrap() == sent
    });
}
