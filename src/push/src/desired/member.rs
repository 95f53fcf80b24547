//! The host's own slice: what `push bootstrap` declares. It is made of what every push carries already
//! (files, a firewall) and of groundwork, so that it goes through the same plan, transaction and report.
//!
//! Must not know which project is pushed later; the slice is the host's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use push_wire::certificate::{AUTHORITY, CHALLENGES, WEBROOT};
use push_wire::digest::Digest;
use push_wire::firewall::{Firewall, Logins, Ping, Ports, Protocol, Rule};
use push_wire::groundwork::{Groundwork, PackageName, WelcomePage};
use push_wire::manifest::{File, HOST_SLICE, OnChange, Slice};
use push_wire::message::Bytes;
use serde::Serialize;

use super::{Desired, DesiredError};
use crate::inventory::{Bootstrap, CHALLENGE_PORT, Fleet, Host, Listen, LoginKey};
use crate::name::{HostPath, UserName};
use crate::template::{Engine, TemplateName};

/// Packages that every member has: what push itself and its defaults need.
const PACKAGES: &[&str] = &["ca-certificates", "sudo", "tzdata"];

/// Answers challenges for names that no site has. Read before every site: see its template.
const CHALLENGE_SERVER: &str = "/etc/nginx/conf.d/00-push-acme.conf";

/// What certbot's timer needs besides what its package brings.
const CERTBOT_DROP_IN: &str = "/etc/systemd/system/certbot.service.d/60-push.conf";

/// Everything that decides what a host is made into.
pub struct MemberInput<'a> {
    /// The environment.
    pub fleet: &'a Fleet,
    /// What it is made into.
    pub bootstrap: &'a Bootstrap,
    /// The host.
    pub host: &'a Host,
    /// The templates.
    pub engine: &'a Engine,
    /// The files of the project that are carried byte for byte: see [`crate::release::verbatim`].
    pub verbatim: &'a BTreeMap<PathBuf, Vec<u8>>,
}

/// What the templates of the host's own files can name.
#[derive(Serialize)]
struct Context<'a> {
    member: MemberText<'a>,
}

/// Each value is of a checked type, whose grammar leaves nothing to escape where it stands.
#[derive(Serialize)]
struct MemberText<'a> {
    host: &'a str,
    login: &'a str,
    keys: Vec<&'a str>,
    hardened: bool,
    root_login: &'static str,
    journal_max: u64,
    sysctl: BTreeMap<&'a str, &'a str>,
    webroot: &'static str,
    challenges: &'static str,
    vouchers: &'static str,
}

/// A file of the host's own slice.
struct Own {
    path: String,
    template: TemplateName,
    mode: u32,
    on_change: OnChange,
}

/// What `input`'s host is made into.
pub fn member(input: &MemberInput<'_>) -> Result<Desired, DesiredError> {
    let login = login(input)?;
    let context = Context {
        member: text(input, &login),
    };
    let mut texts = BTreeMap::new();
    let mut slice = Slice {
        groundwork: groundwork(input, &login)?,
        firewall: input.bootstrap.firewall.is_taken().then(|| firewall(input)),
        ..Slice::default()
    };
    let mut all = files(input, &login);
    if certifies(input)? {
        all.extend(challenge_files(input));
        slice.files.extend(vouchers(input, &mut texts)?);
    }
    for own in all {
        let rendered = input
            .engine
            .render(&own.template, &context)
            .map_err(|error| DesiredError::Template {
                host: input.host.name.clone(),
                what: own.path.clone(),
                error: Box::new(error),
            })?;
        let digest = Digest::of(&rendered);
        texts.insert(digest, Bytes(rendered.into_bytes()));
        let path: HostPath = checked(input, &own.path)?;
        let file = File {
            digest,
            owner: UserName::root(),
            group: UserName::root(),
            mode: own.mode,
            on_change: own.on_change,
        };
        slice.files.insert(path, file);
    }
    Ok(Desired {
        host: input.host.name.clone(),
        project: checked(input, HOST_SLICE)?,
        slice,
        texts,
        trees: BTreeMap::new(),
        needs: BTreeMap::new(),
        directives: BTreeMap::new(),
    })
}

/// What is to be there before the switch.
pub fn groundwork_of(input: &MemberInput<'_>) -> Result<Groundwork, DesiredError> {
    groundwork(input, &login(input)?)
}

fn groundwork(input: &MemberInput<'_>, login: &UserName) -> Result<Groundwork, DesiredError> {
    let bootstrap = input.bootstrap;
    let mut packages: BTreeSet<PackageName> = bootstrap.packages.clone();
    let mut needed: Vec<&str> = PACKAGES.to_vec();
    needed.extend(bootstrap.firewall.is_taken().then_some("nftables"));
    needed.extend(
        bootstrap
            .upgrades
            .is_taken()
            .then_some("unattended-upgrades"),
    );
    needed.extend((!bootstrap.locale.is_built_in()).then_some("locales"));
    let own = Groundwork {
        packages: packages.clone(),
        ..Groundwork::default()
    };
    let serves = input
        .fleet
        .apps_on(&input.host.name)
        .any(|app| app.site.is_some());
    // Whoever names another flavour of nginx gets that one.
    needed.extend((serves && !own.brings("nginx")).then_some("nginx"));
    needed.extend(certifies(input)?.then_some("certbot"));
    for name in needed {
        packages.insert(checked(input, name)?);
    }
    Ok(Groundwork {
        packages,
        logins: [login.clone()]
            .into_iter()
            .filter(|login| *login != UserName::root())
            .collect(),
        hostname: if bootstrap.hostname.is_taken() {
            Some(checked(input, input.host.name.as_str())?)
        } else {
            None
        },
        time_zone: Some(bootstrap.time_zone.clone()),
        locale: Some(bootstrap.locale.clone()),
        swap_bytes: bootstrap.swap.map(|bytes| bytes.0),
        welcome_page: if serves {
            WelcomePage::Removed
        } else {
            WelcomePage::Left
        },
        certificates: BTreeSet::new(),
    })
}

/// Whether an authority gives certificates to sites of the host.
fn certifies(input: &MemberInput<'_>) -> Result<bool, DesiredError> {
    let found = input.fleet.certificates(input.host);
    let found = found.map_err(|error| wrong(input, &error.to_string()))?;
    Ok(!found.is_empty())
}

fn login(input: &MemberInput<'_>) -> Result<UserName, DesiredError> {
    match &input.host.login.user {
        Some(user) => checked(input, user.as_str()),
        None => Err(wrong(input, "the inventory does not say whom to log in as")),
    }
}

/// What was checked when the inventory was read is checked by another type once more.
fn checked<T>(input: &MemberInput<'_>, text: &str) -> Result<T, DesiredError>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    text.parse()
        .map_err(|error: T::Err| wrong(input, &format!("{text:?}: {error}")))
}

fn wrong(input: &MemberInput<'_>, why: &str) -> DesiredError {
    DesiredError::Value {
        host: input.host.name.clone(),
        what: "[bootstrap]".to_owned(),
        why: why.to_owned(),
    }
}

fn text<'a>(input: &MemberInput<'a>, login: &'a UserName) -> MemberText<'a> {
    let bootstrap = input.bootstrap;
    MemberText {
        host: input.host.name.as_str(),
        login: login.as_str(),
        keys: bootstrap.keys.iter().map(LoginKey::as_str).collect(),
        hardened: bootstrap.sshd.is_taken(),
        root_login: if *login == UserName::root() {
            "prohibit-password"
        } else {
            "no"
        },
        journal_max: bootstrap.journal_max.0,
        sysctl: bootstrap
            .sysctl
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect(),
        webroot: WEBROOT,
        challenges: CHALLENGES,
        vouchers: AUTHORITY,
    }
}

/// The files, under names that no package brings, read before or after those as their readers need it.
fn files(input: &MemberInput<'_>, login: &UserName) -> Vec<Own> {
    let unit = |name: &str, act: fn(crate::name::UnitName) -> OnChange| match name.parse() {
        Ok(unit) => act(unit),
        Err(_) => OnChange::Nothing,
    };
    let own = |path: &str, template, on_change| Own {
        path: path.to_owned(),
        template,
        mode: 0o644,
        on_change,
    };
    let mut files = vec![
        own(
            &format!("/etc/ssh/authorized_keys.d/{login}"),
            TemplateName::authorized_keys(),
            OnChange::Nothing,
        ),
        own(
            "/etc/ssh/sshd_config.d/00-push.conf",
            TemplateName::sshd(),
            unit("ssh.service", OnChange::Reload),
        ),
        own(
            "/etc/systemd/journald.conf.d/60-push.conf",
            TemplateName::journald(),
            unit("systemd-journald.service", OnChange::Restart),
        ),
        own(
            "/etc/sysctl.d/60-push.conf",
            TemplateName::sysctl(),
            OnChange::Sysctl,
        ),
    ];
    if *login != UserName::root() {
        files.push(Own {
            mode: 0o440,
            ..own(
                "/etc/sudoers.d/push",
                TemplateName::sudoers(),
                OnChange::Nothing,
            )
        });
    }
    if input.bootstrap.upgrades.is_taken() {
        files.push(own(
            "/etc/apt/apt.conf.d/60push-upgrades",
            TemplateName::upgrades(),
            OnChange::Nothing,
        ));
    }
    if input.bootstrap.hostname.is_taken() {
        files.push(own(
            "/etc/cloud/cloud.cfg.d/60-push.cfg",
            TemplateName::cloud(),
            OnChange::Nothing,
        ));
    }
    files
}

/// What answers an authority's challenges, and lets certbot's timer believe an authority of one's own.
fn challenge_files(input: &MemberInput<'_>) -> Vec<Own> {
    let own = |path: &str, template, on_change| Own {
        path: path.to_owned(),
        template,
        mode: 0o644,
        on_change,
    };
    let nginx = || match "nginx.service".parse() {
        Ok(unit) => OnChange::Reload(unit),
        Err(_) => OnChange::Nothing,
    };
    let mut files = vec![
        own(CHALLENGES, TemplateName::acme_location(), nginx()),
        own(CHALLENGE_SERVER, TemplateName::acme_server(), nginx()),
    ];
    if input
        .bootstrap
        .tls
        .as_ref()
        .is_some_and(|tls| tls.vouchers.is_some())
    {
        files.push(own(
            CERTBOT_DROP_IN,
            TemplateName::certbot(),
            OnChange::DaemonReload,
        ));
    }
    files
}

/// The file by which the host believes an authority of one's own.
fn vouchers(
    input: &MemberInput<'_>,
    texts: &mut BTreeMap<Digest, Bytes>,
) -> Result<Option<(HostPath, File)>, DesiredError> {
    let source = input
        .bootstrap
        .tls
        .as_ref()
        .and_then(|tls| tls.vouchers.as_ref());
    let Some(source) = source else {
        return Ok(None);
    };
    let content = input.verbatim.get(source);
    let content =
        content.ok_or_else(|| wrong(input, &format!("{} was not read", source.display())))?;
    let digest = Digest::of(content);
    texts.insert(digest, Bytes(content.clone()));
    let file = File {
        digest,
        owner: UserName::root(),
        group: UserName::root(),
        mode: 0o644,
        on_change: OnChange::Nothing,
    };
    Ok(Some((checked(input, AUTHORITY)?, file)))
}

/// The operator's own ports are open whatever stands here; the sites of the environment are let in, since a
/// project that has no firewall of its own would otherwise be cut off by this one.
fn firewall(input: &MemberInput<'_>) -> Firewall {
    let sites = input
        .fleet
        .apps_on(&input.host.name)
        .filter_map(|app| app.site.as_ref());
    let listens = sites.flat_map(|site| site.http.iter().chain(&site.https));
    let is_public = |listen: &&Listen| match listen {
        Listen::Port(_) => true,
        Listen::Address(address) => !address.ip().is_loopback(),
    };
    let rule = |listen: &Listen| Rule {
        protocol: Protocol::Tcp,
        ports: Ports::one(listen.port()),
        from: BTreeSet::new(),
    };
    let mut allow: BTreeSet<Rule> = listens.filter(is_public).map(rule).collect();
    if certifies(input).unwrap_or_default() {
        allow.insert(rule(&Listen::Port(CHALLENGE_PORT)));
    }
    Firewall {
        allow,
        ping: Ping::Answered,
        logins: Logins::Limited,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::sample::Sample;
    use crate::release::verbatim;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJLGgqmjsM0vvbVIgRVNDYHYEqFnVVqL2Ju46oDtJJ2f ada";

    const AUTHORITY_OF_ONES_OWN: &str = "[bootstrap.tls]\nemail = \"ops@example.com\"\nterms = \"agreed\"\n\
                                         endpoint = \"https://acme.example.com/dir\"\nendpoint_ca = \"app\"";

    fn made(user: &str, keys: &str) -> Desired {
        made_with(user, keys, "")
    }

    fn made_with(user: &str, keys: &str, site: &str) -> Desired {
        let sample = Sample::new(&format!(
            "[ssh]\nuser = \"{user}\"\n[bootstrap]\nkeys = [\"{KEY}\"]\n{keys}\n\
             [apps.site.site]\nserver_name = [\"x.example.com\"]\nrespond = 200\n{site}\n"
        ));
        let fleet = sample.fleet();
        let host = fleet.hosts.values().next().unwrap();
        let input = MemberInput {
            bootstrap: fleet.bootstrap.as_ref().unwrap(),
            engine: &Engine::built_in(),
            fleet: &fleet,
            host,
            verbatim: &verbatim(&fleet, sample.folder.path()).unwrap(),
        };
        member(&input).unwrap()
    }

    fn text_of(desired: &Desired, path: &str) -> String {
        let file = &desired.slice.files[path];
        String::from_utf8(desired.texts[&file.digest].0.clone()).unwrap()
    }

    #[test]
    fn a_member_is_hardened_by_default_and_its_login_has_one_right() {
        let desired = made("deploy", "");
        assert_eq!(desired.project.as_str(), "host");
        assert_eq!(
            text_of(&desired, "/etc/sudoers.d/push").lines().last(),
            Some("deploy ALL=(root) NOPASSWD: /usr/local/lib/push/push-host serve")
        );
        assert_eq!(desired.slice.files["/etc/sudoers.d/push"].mode, 0o440);
        let keys = text_of(&desired, "/etc/ssh/authorized_keys.d/deploy");
        assert_eq!(keys.lines().last(), Some(KEY));
        let sshd = text_of(&desired, "/etc/ssh/sshd_config.d/00-push.conf");
        for line in [
            "AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/authorized_keys.d/%u",
            "PasswordAuthentication no",
            "PermitRootLogin no",
        ] {
            assert!(sshd.lines().any(|found| found == line), "{line}: {sshd}");
        }
        assert!(
            !sshd.lines().any(|line| line.starts_with("Match")),
            "{sshd}"
        );
        let firewall = desired.slice.firewall.as_ref().unwrap();
        assert_eq!(firewall.logins, Logins::Limited);
        let allowed: Vec<String> = firewall.allow.iter().map(ToString::to_string).collect();
        assert_eq!(allowed, ["80/tcp"], "the site's port");
        let ground = &desired.slice.groundwork;
        let packages: Vec<&str> = ground.packages.iter().map(PackageName::as_str).collect();
        assert_eq!(
            packages,
            [
                "ca-certificates",
                "nftables",
                "nginx",
                "sudo",
                "tzdata",
                "unattended-upgrades"
            ]
        );
        assert_eq!(ground.hostname.as_ref().unwrap().as_str(), "web1");
        let journal = text_of(&desired, "/etc/systemd/journald.conf.d/60-push.conf");
        assert!(journal.contains("SystemMaxUse=1073741824\n"), "{journal}");
        let sysctl = text_of(&desired, "/etc/sysctl.d/60-push.conf");
        assert!(sysctl.contains("\nkernel.dmesg_restrict = 1\n"), "{sysctl}");
    }

    #[test]
    fn what_push_is_told_to_leave_alone_it_does_not_declare() {
        let desired = made(
            "deploy",
            "hostname = false\nupgrades = false\nharden_ssh = false\nfirewall = false\npackages = [\"nginx-light\"]\n\
             sysctl = { \"kernel.dmesg_restrict\" = 0 }",
        );
        let slice = &desired.slice;
        assert_eq!(
            (&slice.firewall, &slice.groundwork.hostname),
            (&None, &None)
        );
        let sshd = text_of(&desired, "/etc/ssh/sshd_config.d/00-push.conf");
        assert!(
            sshd.contains("authorized_keys.d") && !sshd.contains("Password"),
            "{sshd}"
        );
        let sysctl = text_of(&desired, "/etc/sysctl.d/60-push.conf");
        assert!(sysctl.contains("kernel.dmesg_restrict = 0\n"), "{sysctl}");
        let packages: Vec<&str> = slice
            .groundwork
            .packages
            .iter()
            .map(PackageName::as_str)
            .collect();
        assert_eq!(
            packages,
            ["ca-certificates", "nginx-light", "sudo", "tzdata"]
        );
        let paths: Vec<&str> = slice.files.keys().map(HostPath::as_str).collect();
        assert_eq!(
            paths,
            [
                "/etc/ssh/authorized_keys.d/deploy",
                "/etc/ssh/sshd_config.d/00-push.conf",
                "/etc/sudoers.d/push",
                "/etc/sysctl.d/60-push.conf",
                "/etc/systemd/journald.conf.d/60-push.conf",
            ]
        );
    }

    #[test]
    fn where_root_is_the_login_it_needs_no_account_and_keeps_its_keys() {
        let desired = made("root", "");
        assert!(desired.slice.groundwork.logins.is_empty());
        assert!(!desired.slice.files.contains_key("/etc/sudoers.d/push"));
        let sshd = text_of(&desired, "/etc/ssh/sshd_config.d/00-push.conf");
        assert!(
            sshd.contains("PermitRootLogin prohibit-password\n"),
            "{sshd}"
        );
        assert!(
            desired
                .slice
                .files
                .contains_key("/etc/ssh/authorized_keys.d/root")
        );
    }

    #[test]
    fn a_host_whose_sites_are_given_certificates_answers_challenges_before_any_site_is_there() {
        let desired = made_with(
            "deploy",
            AUTHORITY_OF_ONES_OWN,
            "tls = \"auto\"\nhttp = 8080",
        );
        let packages = &desired.slice.groundwork.packages;
        assert!(packages.iter().any(|name| name.as_str() == "certbot"));
        let server = text_of(&desired, CHALLENGE_SERVER);
        assert!(
            server.contains(&format!("include {CHALLENGES};")),
            "{server}"
        );
        let location = text_of(&desired, CHALLENGES);
        assert!(location.contains(&format!("root {WEBROOT};")), "{location}");
        for path in [CHALLENGES, CHALLENGE_SERVER] {
            let reload = OnChange::Reload("nginx.service".parse().unwrap());
            assert_eq!(desired.slice.files[path].on_change, reload);
        }
        let allowed = &desired.slice.firewall.as_ref().unwrap().allow;
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        assert_eq!(allowed, ["80/tcp", "443/tcp", "8080/tcp"]);
        assert_eq!(text_of(&desired, AUTHORITY), "#!/bin/sh\n");
        let timer = text_of(&desired, CERTBOT_DROP_IN);
        assert!(
            timer.contains(&format!("REQUESTS_CA_BUNDLE={AUTHORITY}\n")),
            "{timer}"
        );
        assert!(
            desired.slice.groundwork.certificates.is_empty(),
            "a site's push asks for it"
        );
        // Let's Encrypt needs no voucher, and a host without such a site nothing at all.
        let public = "[bootstrap.tls]\nemail = \"ops@example.com\"\nterms = \"agreed\"";
        let desired = made_with("deploy", public, "tls = \"auto\"");
        let has = |desired: &Desired, path: &str| desired.slice.files.contains_key(path);
        assert!(
            has(&desired, CHALLENGES)
                && !has(&desired, AUTHORITY)
                && !has(&desired, CERTBOT_DROP_IN)
        );
        let desired = made_with("deploy", public, "");
        assert!(!has(&desired, CHALLENGES) && !has(&desired, CHALLENGE_SERVER));
    }
}
