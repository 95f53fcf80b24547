//! Why a host changed nothing, in words: the cause in one line, what belongs to it, what to do next.
//! A new kind of [`Refusal`] does not compile until its words exist here.

use push_wire::manifest::Claim;
use push_wire::message::{Holder, Refusal};
use push_wire::name::GenerationId;
use push_wire::path::HostPath;

use super::{foreign, measure};
use crate::event::Whose;

/// How many generations a message lists.
const GENERATIONS_MAX: usize = 20;

/// What to do about a path that somebody else decides on.
const GIVE_IT_TO_ROOT: &str = "give it to root there (`chown root:root`, `chmod go-w`), or declare another path; then push again";

/// What to do about work that a tool did not do.
const WORK: &str = "put right what it names, then run the same again: it goes on where it stopped";
const PACKAGES: &str = "put right what it names on the host, then run `push upgrade` again";
const CERTIFICATE: &str = "each name must lead to that host in DNS, and port 80 there be open to the authority; then push again";
/// What to do about an nginx that does not read what push puts there.
const INCLUDE_IT: &str = "put `include /etc/nginx/conf.d/*.conf;` into the `http` block of /etc/nginx/nginx.conf there; then push again";

/// A refusal in words.
#[derive(Debug, PartialEq, Eq)]
pub struct Words {
    /// The cause, in one line.
    pub cause: String,
    /// What belongs to it, by label.
    pub found: Vec<(&'static str, Vec<String>)>,
    /// What to do next.
    pub help: String,
}

impl Words {
    fn new(cause: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            cause: cause.into(),
            found: Vec::new(),
            help: help.into(),
        }
    }

    fn with(self, label: &'static str, lines: Vec<String>) -> Self {
        Self {
            found: vec![(label, lines)],
            ..self
        }
    }
}

/// The words for a refusal. `at` is how the operator names the host to push: `prod -l web1`.
pub fn words(refusal: &Refusal, at: &str) -> Words {
    let cause = foreign::line(&refusal.to_string());
    match refusal {
        Refusal::Stale { .. } => {
            Words::new(cause, format!("`push plan {at}` shows what is there now"))
        }
        Refusal::GoesDown { at_unix_s } => goes_down(cause, *at_unix_s),
        Refusal::Locked(holder) => locked(holder, Whose::Others, at),
        Refusal::Claimed(claims) => Words::new(
            cause,
            "give it another name, path or port in one of the two inventories",
        )
        .with("claimed", claimed(claims)),
        Refusal::Occupied(paths) => Words::new(cause, make_way(paths, at)).with(
            "in the way",
            foreign::last(paths.iter().map(HostPath::as_str)),
        ),
        Refusal::Unsafe { .. } => Words::new(cause, GIVE_IT_TO_ROOT),
        Refusal::Room { .. } => Words::new(
            cause,
            "make room there, or lower `keep_releases`; then push again",
        ),
        Refusal::Needs { .. } => Words::new(
            cause,
            "build it for that host, or install there what it needs",
        ),
        Refusal::NoUser { path, .. } => belongs_to_nobody(cause, ("user", "owner"), path),
        Refusal::NoGroup { path, .. } => belongs_to_nobody(cause, ("group", "group"), path),
        Refusal::Tool { .. } => Words::new(cause, "install it on the host; then push again"),
        Refusal::Groundwork { output, .. } => quoted(cause, WORK, output),
        Refusal::Packages { output, .. } => quoted(cause, PACKAGES, output),
        Refusal::Certificate { output, .. } => quoted(cause, CERTIFICATE, output),
        Refusal::Check { output, .. } => quoted(
            cause,
            format!("`push diff {at}` shows what would change there"),
            output,
        ),
        Refusal::NotIncluded { .. } => Words::new(cause, INCLUDE_IT),
        Refusal::Secret { .. } => Words::new(
            cause,
            format!(
                "its host key may have changed: `push trust {}` compares it",
                at.replace(" -l ", " ")
            ),
        ),
        Refusal::Corrupt { .. } => Words::new(
            cause,
            "push again; if it stays so, look at the host's disk and memory",
        ),
        Refusal::NoGeneration { there, .. } => Words::new(
            cause,
            format!("`push history {at}` shows those that there are"),
        )
        .with("there are", vec![numbers(there)]),
        Refusal::Protocol { .. } => Words::new(
            cause,
            "push with the version that was used there last, or a later one",
        ),
        Refusal::Host { .. } => Words::new(
            cause,
            format!("`push status {at}` shows what is in effect; nothing was changed"),
        ),
    }
}

fn belongs_to_nobody(cause: String, (what, key): (&str, &str), path: &HostPath) -> Words {
    let help = format!(
        "create the {what} on the host, or change `{key}` of {path} in the inventory; then push again"
    );
    Words::new(cause, help)
}

/// What to do about paths that somebody else has. Those of the system's packages must stay where they are.
fn make_way(paths: &[HostPath], at: &str) -> String {
    let of_packages = ["/usr/lib/", "/lib/"];
    let is_of_a_package =
        |path: &&HostPath| of_packages.iter().any(|it| path.as_str().starts_with(it));
    let Some(path) = paths.iter().find(is_of_a_package) else {
        return format!("compare with `push diff {at}`, move them away on the host, push again");
    };
    let renamed = format!("give the app or unit another name, since {path} is the system's own");
    if paths.iter().all(|path| is_of_a_package(&path)) {
        return format!("{renamed}; then push again");
    }
    format!("{renamed}, and move the others away on the host; then push again")
}

fn goes_down(cause: String, at_unix_s: u64) -> Words {
    let help = "wait for it, or cancel it there with `shutdown -c`; then push again";
    Words::new(cause, help).with("scheduled for", vec![measure::utc(at_unix_s)])
}

/// A refusal that quotes a tool.
fn quoted(cause: String, help: impl Into<String>, output: &str) -> Words {
    Words::new(cause, help).with("it says", foreign::lines(output))
}

/// The words for a host whose lock is held.
pub fn locked(holder: &Holder, whose: Whose, at: &str) -> Words {
    let since = match holder.since_unix_s {
        0 => String::new(),
        since => format!(" since {}", measure::utc(since)),
    };
    let step = foreign::line(&holder.step);
    match whose {
        Whose::Ours => Words::new(
            format!(
                "an earlier connection of this same push, which was lost, still holds the host{since} ({step})"
            ),
            "the host gives it up by itself within two minutes: then push again",
        ),
        Whose::Others => {
            let stays = match holder.transaction {
                Some(_) => ", and what is there now may not stay",
                None => "",
            };
            Words::new(
                format!(
                    "{} is at it{since} ({step}){stays}",
                    foreign::line(&holder.operator)
                ),
                format!(
                    "`push status {at}` shows when that has ended; then ask again, or give a push `--wait=10m`"
                ),
            )
        }
    }
}

fn claimed(claims: &[Claim]) -> Vec<String> {
    let lines: Vec<String> = claims
        .iter()
        .map(|claim| {
            format!(
                "{} is {}'s, and {} wants it too",
                claim.what, claim.holder, claim.claimant
            )
        })
        .collect();
    foreign::last(lines.iter().map(String::as_str))
}

fn numbers(generations: &[GenerationId]) -> String {
    let hidden = generations.len().saturating_sub(GENERATIONS_MAX);
    let shown: Vec<String> = generations[hidden..]
        .iter()
        .map(GenerationId::to_string)
        .collect();
    if shown.is_empty() {
        return "none".to_owned();
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evil() -> String {
        "x\x1b[31m".to_owned()
    }

    /// Who else is there, and what they have.
    fn of_others() -> Vec<Refusal> {
        let holder = Holder {
            operator: evil(),
            since_unix_s: 1_795_169_700,
            step: "switching".into(),
            transaction: Some("t9".parse().unwrap()),
            push: String::new(),
        };
        let claim = Claim {
            what: "port 8080".into(),
            holder: "shop".parse().unwrap(),
            claimant: "blog".parse().unwrap(),
        };
        vec![
            Refusal::Stale {
                expected: GenerationId(4),
                found: GenerationId(5),
            },
            Refusal::GoesDown {
                at_unix_s: 1_795_169_700,
            },
            Refusal::Locked(holder),
            Refusal::Claimed(vec![claim]),
            Refusal::Occupied(vec!["/etc/nginx/conf.d/api.conf".parse().unwrap()]),
            Refusal::Occupied(vec![
                "/usr/lib/systemd/system/apt-daily.service".parse().unwrap(),
            ]),
            Refusal::Occupied(vec![
                "/etc/nginx/conf.d/api.conf".parse().unwrap(),
                "/lib/systemd/system/apt-daily.service".parse().unwrap(),
            ]),
        ]
    }

    /// What the host lacks, or its tools say.
    fn of_the_host() -> Vec<Refusal> {
        let app = || "api".parse().unwrap();
        vec![
            Refusal::Unsafe {
                path: "/home/alice/x".into(),
                why: "is a link, and user 1000 made it".into(),
            },
            Refusal::Room {
                folder: "/srv".into(),
                why: "12 MiB needed, 3 MiB free".into(),
            },
            Refusal::Needs {
                app: app(),
                why: "glibc 2.38 is needed, 2.36 is there".into(),
            },
            Refusal::NoUser {
                path: "/etc/x".parse().unwrap(),
                owner: "nobody2".parse().unwrap(),
            },
            Refusal::NoGroup {
                path: "/etc/x".parse().unwrap(),
                group: "nobody3".parse().unwrap(),
            },
            Refusal::Tool {
                tool: "nginx".into(),
                needed_for: "the site of api".into(),
            },
            Refusal::Certificate {
                what: "certificate for api.example.com from acme.example.com".into(),
                output: "Type: dns\nDetail: \x1b[31mno such name".into(),
            },
            Refusal::Groundwork {
                what: evil(),
                output: evil(),
            },
            Refusal::Check {
                tool: "nginx -t".into(),
                output: format!("line 1\nline 2 {}\n", evil()),
            },
            Refusal::NotIncluded {
                file: "/etc/nginx/conf.d/push.conf".into(),
            },
            Refusal::Secret {
                app: app(),
                name: evil(),
                why: "no matching key".into(),
            },
            Refusal::Corrupt {
                what: "a pack".into(),
            },
            Refusal::NoGeneration {
                wanted: GenerationId(9),
                there: vec![GenerationId(1), GenerationId(3)],
            },
            Refusal::Protocol { why: evil() },
            Refusal::Host {
                why: "read-only file system".into(),
            },
        ]
    }

    fn every_refusal() -> Vec<Refusal> {
        [of_others(), of_the_host()].concat()
    }

    #[test]
    fn a_lock_that_this_push_holds_itself_is_not_called_somebody_elses() {
        let holder = Holder {
            operator: "uid:1000".into(),
            since_unix_s: 0,
            step: "staging shop".into(),
            transaction: None,
            push: "p1".into(),
        };
        let ours = locked(&holder, Whose::Ours, "prod -l web1");
        insta::assert_snapshot!(format!("{}\n{}", ours.cause, ours.help), @r#"
        an earlier connection of this same push, which was lost, still holds the host (staging shop)
        the host gives it up by itself within two minutes: then push again
        "#);
        let others = locked(&holder, Whose::Others, "prod -l web1");
        assert_eq!(
            others.cause, "uid:1000 is at it (staging shop)",
            "a time that is not known is not told"
        );
    }

    #[test]
    fn every_refusal_says_what_why_and_what_next_and_lets_no_escape_code_through() {
        let told: Vec<String> = every_refusal()
            .iter()
            .map(|refusal| words(refusal, "prod -l web1"))
            .map(|words| format!("{}\n  {:?}\n  {}", words.cause, words.found, words.help))
            .collect();
        let told = told.join("\n");
        assert!(!told.contains('\x1b'));
        insta::assert_snapshot!(told, @r#"
        it is at generation 5 now, the plan was made at 4: somebody pushed meanwhile
          []
          `push plan prod -l web1` shows what is there now
        a shutdown or reboot of it is scheduled, too soon for a switch
          [("scheduled for", ["2026-11-20 10:15:00Z"])]
          wait for it, or cancel it there with `shutdown -c`; then push again
        x\x1b[31m is at it since 2026-11-20 10:15:00Z (switching), and what is there now may not stay
          []
          `push status prod -l web1` shows when that has ended; then ask again, or give a push `--wait=10m`
        another project on that host has what this one wants
          [("claimed", ["port 8080 is shop's, and blog wants it too"])]
          give it another name, path or port in one of the two inventories
        files are in the way that push did not put there, and they differ
          [("in the way", ["/etc/nginx/conf.d/api.conf"])]
          compare with `push diff prod -l web1`, move them away on the host, push again
        files are in the way that push did not put there, and they differ
          [("in the way", ["/usr/lib/systemd/system/apt-daily.service"])]
          give the app or unit another name, since /usr/lib/systemd/system/apt-daily.service is the system's own; then push again
        files are in the way that push did not put there, and they differ
          [("in the way", ["/etc/nginx/conf.d/api.conf", "/lib/systemd/system/apt-daily.service"])]
          give the app or unit another name, since /lib/systemd/system/apt-daily.service is the system's own, and move the others away on the host; then push again
        push does not write below /home/alice/x: it is a link, and user 1000 made it
          []
          give it to root there (`chown root:root`, `chmod go-w`), or declare another path; then push again
        there is not enough room in /srv: 12 MiB needed, 3 MiB free
          []
          make room there, or lower `keep_releases`; then push again
        api would not start there: glibc 2.38 is needed, 2.36 is there
          []
          build it for that host, or install there what it needs
        /etc/x is to belong to the user nobody2, whom that host does not have
          []
          create the user on the host, or change `owner` of /etc/x in the inventory; then push again
        /etc/x is to belong to the group nobody3, which that host does not have
          []
          create the group on the host, or change `group` of /etc/x in the inventory; then push again
        the site of api needs nginx, which is not installed there
          []
          install it on the host; then push again
        no certificate for api.example.com from acme.example.com
          [("it says", ["Type: dns", "Detail: \\x1b[31mno such name"])]
          each name must lead to that host in DNS, and port 80 there be open to the authority; then push again
        x\x1b[31m could not be made there; what was made before, stays
          [("it says", ["x\\x1b[31m"])]
          put right what it names, then run the same again: it goes on where it stopped
        `nginx -t` refuses the new configuration
          [("it says", ["line 1", "line 2 x\\x1b[31m"])]
          `push diff prod -l web1` shows what would change there
        nginx there reads no /etc/nginx/conf.d/push.conf, by which it would serve the declared sites
          []
          put `include /etc/nginx/conf.d/*.conf;` into the `http` block of /etc/nginx/nginx.conf there; then push again
        the secret x\x1b[31m of api cannot be opened there: no matching key
          []
          its host key may have changed: `push trust prod web1` compares it
        a pack is not what was sent
          []
          push again; if it stays so, look at the host's disk and memory
        there is no committed generation 9 to go back to
          [("there are", ["1, 3"])]
          `push history prod -l web1` shows those that there are
        it does not understand this push: x\x1b[31m
          []
          push with the version that was used there last, or a later one
        the host itself failed: read-only file system
          []
          `push status prod -l web1` shows what is in effect; nothing was changed
        "#);
    }
}
