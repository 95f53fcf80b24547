//! The real tools look at a staged generation as if it were live, while nothing of it is: each in a
//! mount namespace of its own, in which `/etc` is covered by a layer with the links as they would be,
//! `/etc/push/current` names the staged generation, and its secrets are open in memory that goes with
//! the process.
//!
//! `mod` decides which tools are asked and reads their answers; `inside` makes the namespace's own
//! files and becomes the tool. Validators are no sanitizers: what they let through was encoded by
//! types before. A tool is added as a variant of [`Tool`].

mod inside;

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use push_wire::manifest::{Manifest, Reader};
use push_wire::message::Refusal;
use push_wire::name::{GenerationId, UnitName, UserName};

use crate::layout::Layout;
use crate::machine::ToolError;
use crate::machine::real::process::{Ended, Program};

pub use inside::{InsideError, enter};

/// How long one tool may take. `systemd-analyze verify` loads a few hundred units.
const CHECK_WITHIN: Duration = Duration::from_secs(60);

/// How much of a tool's answer is told, in characters.
const OUTPUT_CHARS_MAX: usize = 4_000;

/// How much of what nginx reads is looked at, in bytes. Of more than that, nothing is concluded.
const NGINX_BYTES_MAX: usize = 8 << 20;

/// How many warnings are told.
const WARNINGS_MAX: usize = 50;

/// The status by which `push-host view` says that this host gives it no view (`EX_UNAVAILABLE` of
/// sysexits.h), so that nothing was checked.
pub const NO_VIEW: u8 = 69;

/// A tool that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `systemd-analyze verify`.
    Units,
    /// `nginx -t`.
    Nginx,
    /// `nft -c`.
    Firewall,
    /// `sshd -t`.
    Sshd,
    /// `visudo -c`.
    Sudoers,
    /// `sudo -l -U`: what the login that push makes may do as root in all.
    Rights,
}

/// How `sudo -l` writes the one thing that a login of push's has to be allowed; see `templates/bootstrap/sudoers`.
const OWN_RIGHT: &str = "(root) NOPASSWD: /usr/local/lib/push/push-host serve";

impl Tool {
    const ALL: [Self; 6] = [
        Self::Units,
        Self::Nginx,
        Self::Firewall,
        Self::Sshd,
        Self::Sudoers,
        Self::Rights,
    ];

    /// Its name as an argument of `push-host view`.
    fn name(self) -> &'static str {
        match self {
            Self::Units => "units",
            Self::Nginx => "nginx",
            Self::Firewall => "firewall",
            Self::Sshd => "sshd",
            Self::Sudoers => "sudoers",
            Self::Rights => "rights",
        }
    }

    /// What it is called in messages.
    fn command(self) -> &'static str {
        match self {
            Self::Units => "systemd-analyze verify",
            Self::Nginx => "nginx -t",
            Self::Firewall => "nft -c",
            Self::Sshd => "sshd -t",
            Self::Sudoers => "visudo -c",
            Self::Rights => "sudo -l",
        }
    }

    /// Its arguments, inside the view.
    fn argv(self, layout: &Layout, (from, to): (&Manifest, &Manifest)) -> Vec<String> {
        let fixed = |argv: &[&str]| argv.iter().map(|part| (*part).to_owned()).collect();
        match self {
            Self::Units => {
                let mut argv: Vec<String> = fixed(&["systemd-analyze", "--man=no", "verify", "--"]);
                let paths = changed_units(from, to)
                    .into_iter()
                    .map(|unit| layout.unit(unit));
                argv.extend(paths.map(|path| path.display().to_string()));
                argv
            }
            // The same check as `-t`, and it says what it has read.
            Self::Nginx => fixed(&["nginx", "-T", "-q"]),
            Self::Firewall => {
                let file = layout.generation(to.generation).firewall();
                fixed(&["nft", "-c", "-f", &file.display().to_string()])
            }
            Self::Sshd => fixed(&["sshd", "-t"]),
            Self::Sudoers => fixed(&["visudo", "-c", "-q"]),
            Self::Rights => {
                let mut argv = fixed(&["sudo", "-n", "-l", "-U"]);
                argv.extend(logins(to).next().map(UserName::to_string));
                argv
            }
        }
    }

    /// Whether the change is one that it has something to say about.
    fn is_concerned(self, from: &Manifest, to: &Manifest) -> bool {
        match self {
            Self::Units => !changed_units(from, to).is_empty(),
            Self::Nginx => {
                let secrets = |manifest: &Manifest| {
                    let all = manifest.secrets().into_iter();
                    all.filter(|(_, secret)| secret.reader == Reader::Nginx)
                        .map(|((app, name), secret)| {
                            (app.clone(), name.clone(), secret.fingerprint)
                        })
                        .collect::<Vec<_>>()
                };
                let serves = !to.sites().is_empty();
                let is_changed = from.sites() != to.sites() || secrets(from) != secrets(to);
                (serves && is_changed) || has_changed_files(from, to, "/etc/nginx")
            }
            Self::Firewall => to.firewall().is_some() && from.nftables() != to.nftables(),
            Self::Sshd => has_changed_files(from, to, "/etc/ssh"),
            Self::Sudoers => has_changed_rights(from, to),
            Self::Rights => logins(to).next().is_some() && has_changed_rights(from, to),
        }
    }
}

impl FromStr for Tool {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|tool| tool.name() == text)
            .ok_or(())
    }
}

/// Asks every tool that is concerned, side by side; returns their warnings.
pub fn check(layout: &Layout, from: &Manifest, to: &Manifest) -> Result<Vec<String>, Refusal> {
    let concerned = Tool::ALL
        .into_iter()
        .filter(|tool| tool.is_concerned(from, to));
    let answers: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> = concerned
            .map(|tool| (tool, scope.spawn(move || ask(layout, tool, to.generation))))
            .collect();
        asked
            .into_iter()
            .map(|(tool, answer)| (tool, answer.join()))
            .collect()
    });
    let mut warnings = Vec::new();
    for (tool, answer) in answers {
        let answer = answer.unwrap_or_else(|_| {
            let why = "its thread panicked".to_owned();
            Err(ToolError::Missing {
                tool: tool.command().to_owned(),
                why,
            })
        });
        warnings.extend(judge(tool, answer, (from, to))?);
    }
    warnings.truncate(WARNINGS_MAX);
    Ok(warnings)
}

/// Runs this very program again, in a namespace whose mounts nobody else sees.
fn ask(layout: &Layout, tool: Tool, generation: GenerationId) -> Result<Ended, ToolError> {
    let program = std::env::current_exe()
        .ok()
        .filter(|path| path.exists())
        .unwrap_or_else(|| layout.program());
    let program = program.display().to_string();
    let generation = generation.to_string();
    let argv = [
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "--",
        &program,
        "view",
        &generation,
        tool.name(),
    ];
    let mut program = Program::new(&argv, CHECK_WITHIN);
    if tool == Tool::Nginx {
        program = program.output_bytes_max(NGINX_BYTES_MAX);
    }
    program.run()
}

fn judge(
    tool: Tool,
    answer: Result<Ended, ToolError>,
    (from, to): (&Manifest, &Manifest),
) -> Result<Vec<String>, Refusal> {
    let refused = |output: &str| {
        let output: String = output.trim().chars().take(OUTPUT_CHARS_MAX).collect();
        Refusal::Check {
            tool: tool.command().to_owned(),
            output,
        }
    };
    let ended = answer.map_err(|error| refused(&error.to_string()))?;
    if ended.status.code() == Some(i32::from(NO_VIEW)) {
        // The switch finds out what the check would have: it is tried, and taken back.
        return Ok(vec![format!(
            "{} was not asked: {}",
            tool.command(),
            ended.said().trim()
        )]);
    }
    let said = ended.said();
    match tool {
        Tool::Units => {
            let ours = changed_units(from, to);
            let mut lines = said_of(&said, &ours);
            if !ended.status.success() || lines.any(is_error) {
                return Err(refused(&said));
            }
            Ok(said_of(&said, &ours).map(str::to_owned).collect())
        }
        Tool::Nginx if ended.status.success() => {
            if !to.sites().is_empty() && !reads_sites(&ended.stdout) {
                let file = Layout::new("/").nginx_include().display().to_string();
                return Err(Refusal::NotIncluded { file });
            }
            let warnings = ended.stderr.lines();
            Ok(warnings
                .map(|line| format!("{}: {line}", tool.command()))
                .collect())
        }
        Tool::Firewall | Tool::Sshd | Tool::Sudoers if ended.status.success() => {
            let silent = ended.stdout.trim().is_empty() && ended.stderr.trim().is_empty();
            let lines = said.lines().filter(|_| !silent);
            Ok(lines
                .map(|line| format!("{}: {line}", tool.command()))
                .collect())
        }
        // Whoever has more has it from the administrator: that is told, and theirs to decide.
        Tool::Rights if ended.status.success() => {
            let login = logins(to).next().map_or("", UserName::as_str);
            let told = |right| format!("{login} may also run as root: {right}");
            Ok(further_rights(&ended.stdout).map(told).collect())
        }
        Tool::Rights => Ok(vec![format!("{}: {}", tool.command(), said.trim())]),
        Tool::Nginx | Tool::Firewall | Tool::Sshd | Tool::Sudoers => Err(refused(&said)),
    }
}

/// The logins that push makes.
fn logins(manifest: &Manifest) -> impl Iterator<Item = &UserName> {
    manifest
        .all()
        .flat_map(|(_, slice)| &slice.groundwork.logins)
}

fn has_changed_rights(from: &Manifest, to: &Manifest) -> bool {
    has_changed_files(from, to, "/etc/sudoers.d") || has_changed_files(from, to, "/etc/sudoers")
}

/// What `sudo -l` lists besides push's own, a line each.
fn further_rights(said: &str) -> impl Iterator<Item = &str> {
    let listed = said
        .lines()
        .skip_while(|line| !line.contains("may run the following commands"));
    listed
        .skip(1)
        .map(str::trim)
        .filter(|line| !line.is_empty() && *line != OWN_RIGHT)
}

/// Whether nginx has read the file by which it tells which generation it serves, going by what it says
/// of each file that it reads.
fn reads_sites(said: &str) -> bool {
    let marker = Layout::new("/").live().marker();
    let begins = format!("# configuration file {}:", marker.display());
    said.len() >= NGINX_BYTES_MAX || said.lines().any(|line| line == begins)
}

/// What systemd says of our own units; it may grumble about any other unit of the host.
fn said_of<'a>(said: &'a str, ours: &'a [&UnitName]) -> impl Iterator<Item = &'a str> {
    said.lines().filter(|line| {
        // `/etc/systemd/system/api.service:5: …` or `api.service: …`
        let subject = line.split(": ").next().unwrap_or_default();
        let file = subject.split(':').next().unwrap_or_default();
        let name = file.rsplit('/').next().unwrap_or_default();
        ours.iter().any(|unit| unit.as_str() == name)
    })
}

/// A value that systemd would ignore is an error: what was declared would not hold. A directive that
/// this systemd does not know yet is only worth a warning, for units are written for several hosts.
fn is_error(line: &str) -> bool {
    let is_unknown = line.contains("Unknown key") || line.contains("Unknown section");
    !is_unknown && line.contains("ignoring")
}

fn changed_units<'a>(from: &'a Manifest, to: &'a Manifest) -> Vec<&'a UnitName> {
    let before = from.units();
    let apps = (from.apps(), to.apps());
    to.units()
        .into_iter()
        .filter(|(name, unit)| {
            let release = |apps: &std::collections::BTreeMap<_, &push_wire::manifest::App>| {
                apps.get(&unit.app).map(|app| app.release.clone())
            };
            // Whether its program is there depends on the release.
            before.get(name) != Some(unit) || release(&apps.0) != release(&apps.1)
        })
        .map(|(name, _)| name)
        .collect()
}

fn has_changed_files(from: &Manifest, to: &Manifest, folder: &str) -> bool {
    let (old, new) = (from.files(), to.files());
    old.keys()
        .chain(new.keys())
        .any(|path| path.as_path().starts_with(Path::new(folder)) && old.get(path) != new.get(path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;
    use crate::stage::tests::{app, file, manifest, unit};
    use push_wire::digest::Digest;
    use push_wire::manifest::{Slice, Text};
    use push_wire::tree::Tree;

    fn slice() -> Slice {
        let mut slice = Slice::default();
        slice
            .apps
            .insert("api".parse().unwrap(), app("r1", &Tree::default()));
        slice
            .units
            .insert("api.service".parse().unwrap(), unit("x"));
        slice
    }

    fn concerned(from: &Slice, to: &Slice) -> Vec<&'static str> {
        let (from, to) = (manifest(from.clone()), manifest(to.clone()));
        let tools = Tool::ALL
            .into_iter()
            .filter(|tool| tool.is_concerned(&from, &to));
        tools.map(Tool::name).collect()
    }

    #[test]
    fn what_a_login_may_do_as_root_besides_push_host_is_told_line_by_line() {
        let ours = "Matching Defaults entries for deploy on web1:\n    env_reset, mail_badpass\n\n\
                    User deploy may run the following commands on web1:\n    \
                    (root) NOPASSWD: /usr/local/lib/push/push-host serve\n";
        assert_eq!(further_rights(ours).count(), 0);
        let more = format!("{ours}    (ALL : ALL) ALL\n");
        assert_eq!(
            further_rights(&more).collect::<Vec<_>>(),
            ["(ALL : ALL) ALL"]
        );
        let none = "User deploy is not allowed to run sudo on web1.\n";
        assert_eq!(further_rights(none).count(), 0);
    }

    fn answer(status: i32, stderr: &str) -> Ended {
        let status = ExitStatus::from_raw(status << 8);
        Ended {
            status,
            stdout: String::new(),
            stderr: stderr.to_owned(),
        }
    }

    #[test]
    fn only_the_tools_that_a_change_concerns_are_asked() {
        let none = Slice::default();
        assert_eq!(concerned(&slice(), &slice()), [""; 0]);
        assert_eq!(concerned(&none, &slice()), ["units"]);
        let mut released = slice();
        released.apps.values_mut().next().unwrap().release = "r2".parse().unwrap();
        assert_eq!(concerned(&slice(), &released), ["units"]);
        let mut site = slice();
        site.sites.insert(
            "api".parse().unwrap(),
            Text {
                digest: Digest::of("site"),
            },
        );
        assert_eq!(concerned(&slice(), &site), ["nginx"]);
        for (path, tool) in [
            ("/etc/ssh/sshd_config.d/push.conf", "sshd"),
            ("/etc/sudoers.d/deploy", "sudoers"),
            ("/etc/nginx/conf.d/gzip.conf", "nginx"),
        ] {
            let mut other = slice();
            other.files.insert(path.parse().unwrap(), file("x"));
            assert_eq!(concerned(&slice(), &other), [tool], "{path}");
            assert_eq!(concerned(&other, &slice()), [tool], "{path} goes");
        }
    }

    #[test]
    fn systemd_is_heard_about_our_units_only() {
        let (from, to) = (Manifest::empty(), manifest(slice()));
        let judged =
            |status, said: &str| judge(Tool::Units, Ok(answer(status, said)), (&from, &to));
        let foreign = "/lib/systemd/system/other.service:3: Failed to parse Foo, ignoring: x\n";
        assert_eq!(judged(0, foreign), Ok(vec![]));
        let unknown = "/etc/systemd/system/api.service:9: Unknown key name 'MemoryZSwapMax' in section 'Service', ignoring.\n";
        assert_eq!(judged(0, unknown).unwrap().len(), 1);
        let ignored = "/etc/systemd/system/api.service:9: Failed to parse MemoryMax=x, ignoring.\n";
        assert!(matches!(judged(0, ignored), Err(Refusal::Check { .. })));
        let missing =
            "api.service: Command /srv/api/x is not executable: No such file or directory\n";
        let Err(Refusal::Check { tool, output }) = judged(1, missing) else {
            panic!()
        };
        assert_eq!(
            (tool.as_str(), output.as_str()),
            ("systemd-analyze verify", missing.trim())
        );
    }

    #[test]
    fn an_nginx_that_would_not_read_the_sites_is_refused_before_anything_is_switched() {
        let mut slice = slice();
        let site = Text {
            digest: Digest::of("site"),
        };
        slice.sites.insert("api".parse().unwrap(), site);
        let (from, to) = (Manifest::empty(), manifest(slice));
        let none = Manifest::empty();
        let judged = |read: &str, to| {
            let ended = Ended {
                stdout: format!("# configuration file /etc/nginx/nginx.conf:\nhttp {{}}\n{read}"),
                ..answer(0, "")
            };
            judge(Tool::Nginx, Ok(ended), (&from, to))
        };
        let marker = "# configuration file /etc/push/current/nginx/00-generation.conf:\n";
        assert_eq!(judged(marker, &to), Ok(vec![]));
        let file = "/etc/nginx/conf.d/push.conf".to_owned();
        assert_eq!(judged("", &to), Err(Refusal::NotIncluded { file }));
        assert_eq!(judged("", &none), Ok(vec![]));
        // More than was kept proves nothing.
        assert_eq!(judged(&"x".repeat(NGINX_BYTES_MAX), &to), Ok(vec![]));
    }

    #[test]
    fn a_host_that_gives_no_view_is_warned_of_and_any_other_failure_refused() {
        let (from, to) = (Manifest::empty(), manifest(slice()));
        let judged = |tool, answer| judge(tool, answer, (&from, &to));
        let none = judged(Tool::Nginx, Ok(answer(i32::from(NO_VIEW), "no overlay"))).unwrap();
        assert_eq!(none, ["nginx -t was not asked: no overlay"]);
        assert_eq!(judged(Tool::Nginx, Ok(answer(0, ""))), Ok(vec![]));
        assert_eq!(
            judged(Tool::Nginx, Ok(answer(0, "nginx: [warn] x")))
                .unwrap()
                .len(),
            1
        );
        let refused = judged(Tool::Firewall, Ok(answer(1, &"x".repeat(99_999))));
        assert!(
            matches!(refused, Err(Refusal::Check { output, .. }) if output.len() == OUTPUT_CHARS_MAX)
        );
        let late = ToolError::Late {
            tool: "nginx".into(),
            seconds: 60,
        };
        assert!(judged(Tool::Nginx, Err(late)).is_err());
    }
}
