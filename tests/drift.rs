//! What somebody changed on a host by hand: a push that changes nothing tells of it, and one that applies all
//! of it again puts it right.

use push_tests::lab::{Lab, property};
use push_tests::scene::{amend, pushed};
use push_tests::witness::{self, Fate, generation, tag, whole};

/// By hand: what a text says, and whether it is there for whoever reads it.
const BY_HAND: &str = r"
set -e
sed -i --follow-symlinks s/v000001/v000009/ /etc/systemd/system/api.service
sed -i s/v000001/v000009/ /etc/push/current/nginx/api.conf
systemctl daemon-reload
systemctl reload nginx
systemctl disable --now --quiet api.service push-recover.service
nft delete table inet push
rm /run/push/secrets/api/api-token /etc/variant /srv/api/current /etc/nginx/conf.d/push.conf
rm /srv/api/releases/*/api
";

/// What a push, a plan and the status say of it.
const TOLD: &[&str] = &[
    "api.service does not run: inactive",
    "systemd/api.service",
    "nginx/api.conf",
    "/etc/systemd/system/multi-user.target.wants/api.service is missing",
    "the firewall is not loaded",
    "the secret api-token of api is not opened",
    "/etc/variant is missing",
    "/srv/api/current is missing",
    "/api was changed on this host since it was pushed",
    "push-recover.service is not enabled",
    "nginx does not include push's sites",
];

fn tells_all(lab: &Lab, command: &[&str]) {
    let said = lab.push(command).exits(0);
    let all = format!("{}{}", said.stdout, said.stderr);
    for line in TOLD {
        assert!(all.contains(line), "{command:?}: {line:?} is not in {all}");
    }
    assert!(all.contains("--again"), "{command:?}: {all}");
}

#[test]
fn what_somebody_changed_by_hand_is_told_by_every_push_and_put_right_by_one_that_applies_it_again()
{
    let Some(lab) = pushed() else { return };
    let host = lab.host("web1");
    host.succeed(&["sh", "-c", BY_HAND]).unwrap();
    tells_all(&lab, &["plan", "prod"]);
    tells_all(&lab, &["prod", "--yes"]);
    assert_eq!(generation(host), 1);
    lab.push(&["plan", "prod", "--again", "--exit-code"])
        .exits(3)
        .says("all of it is applied again")
        .says("restart api.service");
    lab.push(&["prod", "--again", "--yes"]).exits(0);
    assert_eq!((generation(host), whole(host)), (2, tag(1)));
    for command in [&["prod", "--yes"][..], &["status", "prod"]] {
        let said = lab.push(command).exits(0);
        let all = format!("{}{}", said.stdout, said.stderr);
        assert!(!all.contains("drift:") && !all.contains("--again"), "{all}");
    }
    host.reboot().unwrap();
    assert_eq!(whole(host), tag(1));
}

#[test]
fn a_host_that_gets_nothing_and_has_no_push_host_is_planned_for() {
    let Some(lab) = Lab::boot_plain(2) else {
        return;
    };
    witness::environment(&lab, (1, Fate::Healthy), "");
    amend(&lab, "on      = \"web\"", "on      = \"web1\"");
    amend(&lab, "[firewall]\n", "[firewall]\non = \"web1\"\n");
    amend(
        &lab,
        "[files.\"/etc/variant\"]\n",
        "[files.\"/etc/variant\"]\non = \"web1\"\n",
    );
    lab.push(&["plan", "prod"]).exits(0);
}

#[test]
fn what_is_in_the_way_is_told_to_be_moved_away_before_it_is_applied_again() {
    let Some(lab) = pushed() else { return };
    let host = lab.host("web1");
    host.succeed(&["sed", "-i", "s/1/9/", "/etc/variant"])
        .unwrap();
    lab.push(&["prod", "--yes"])
        .exits(0)
        .says("/etc/variant does not lead to what is declared")
        .says("move away what is in the place of another thing");
    lab.push(&["prod", "--again", "--yes"])
        .exits(9)
        .says("/etc/variant");
    host.succeed(&["rm", "/etc/variant"]).unwrap();
    lab.push(&["prod", "--again", "--yes"]).exits(0);
    assert_eq!(whole(host), tag(1));
    // A generation that could not be brought back is not left, and that is told before anything begins.
    let unit = "/etc/push/current/systemd/api.service";
    host.succeed(&["chmod", "g+w", unit]).unwrap();
    lab.push(&["status", "prod"])
        .exits(0)
        .says("do what is said above");
    lab.push(&["prod", "--again", "--yes"])
        .exits(1)
        .says("systemd/api.service");
    host.succeed(&["chmod", "g-w", unit]).unwrap();
    lab.push(&["prod", "--again", "--yes"]).exits(0);
    // A release that is gone: as the refusal says, an empty folder is enough.
    let gone = "old=$(readlink -f /srv/api/current) && rm -r $old";
    host.succeed(&["sh", "-c", gone]).unwrap();
    lab.push(&["prod", "--again", "--yes"])
        .exits(1)
        .says("of a release an empty folder");
    let empty = "mkdir $(readlink -f /srv/api/current)";
    host.succeed(&["sh", "-c", empty]).unwrap();
    lab.push(&["prod", "--again", "--yes"]).exits(0);
    assert_eq!(whole(host), tag(1));
}

#[test]
fn what_is_applied_again_and_does_not_become_healthy_is_taken_back_and_a_later_push_is_a_plain_one()
{
    let Some(lab) = pushed() else { return };
    let host = lab.host("web1");
    // A push of something else tells of it, too.
    host.succeed(&["systemctl", "stop", "api.service"]).unwrap();
    witness::environment(&lab, (2, Fate::Broken), "");
    lab.push(&["prod", "--yes"])
        .exits(5)
        .says("api.service does not run")
        .says("puts right only what it changes");
    lab.push(&["prod", "--again", "--yes"]).exits(5);
    assert_eq!((generation(host), whole(host)), (1, tag(1)));
    witness::environment(&lab, (1, Fate::Healthy), "");
    lab.push(&["prod", "--again", "--yes"]).exits(0);
    let since = property(host, "api.service", "ExecMainStartTimestampMonotonic");
    // Neither a push of what is there nor one of another file goes on applying it.
    lab.push(&["prod", "--yes"]).exits(0).says("nothing to do");
    witness::environment(
        &lab,
        (1, Fate::Healthy),
        "\n[files.\"/etc/other\"]\ncontent = \"x\"\n",
    );
    lab.push(&["prod", "--yes"]).exits(0);
    lab.push(&["rollback", "prod", "--yes"]).exits(0);
    assert_eq!(
        property(host, "api.service", "ExecMainStartTimestampMonotonic"),
        since
    );
    // The way back to before it was applied again does not apply anything again either.
    let served = witness::nginx_serves(host);
    lab.push(&["rollback", "prod", "--to", "1", "--yes"])
        .exits(0);
    assert_eq!(whole(host), tag(1));
    assert_eq!(witness::nginx_serves(host), served);
}
