//! What `push doctor` looks at on the laptop.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cli::environment::Environment;
use crate::cli::project::Project;
use crate::cli::vault::SealedFiles;
use crate::desired::Vault as _;
use crate::embedded;
use crate::event::{ExitCode, Finding};
use crate::inventory::{self, App, split_words};
use crate::name::FileName;
use crate::report::Report;
use crate::transport::ssh::{agent_keys, key_trouble};
use crate::transport::target::{NamedBy, Target};

/// The machines that hosts mostly are.
const MACHINES: [&str; 2] = ["x86_64", "aarch64"];

/// Programs that push itself may want, whatever is declared.
pub fn tools() -> Vec<Finding> {
    let tool = |name: &str, without: &str, cure: &str| match found(name) {
        Some(path) => Finding::fine(format!("{name} is {}", path.display())),
        None => Finding::note(format!("{name} is not installed: {without}"), cure),
    };
    let mut findings = vec![
        tool(
            "ssh",
            "~/.ssh/config is not heeded, and `push ssh` cannot work",
            "install OpenSSH's client: `apt install openssh-client`",
        ),
        tool(
            "git",
            "releases do not say which commit they were built from",
            "install it: `apt install git`",
        ),
    ];
    for machine in MACHINES {
        findings.push(match embedded::program(machine) {
            Some(_) => Finding::fine(format!("this build can push to {machine} hosts")),
            None => Finding::note(
                format!("this build carries no push-host for {machine} hosts"),
                embedded::how_to_build(machine)
                    .map(|how| format!("build push with it: `{how}`"))
                    .unwrap_or_default(),
            ),
        });
    }
    findings
}

/// Whether each inventory of the project can be read.
pub fn inventories(project: &Project) -> Vec<Finding> {
    let read = |name: &crate::name::EnvironmentName| match inventory::load(project.root(), name) {
        Ok(fleet) => Finding::fine(format!(
            "inventory/{name}.toml has no mistakes ({})",
            crate::report::measure::count(fleet.hosts.len(), "host")
        )),
        Err(errors) => Finding::bad(
            ExitCode::Usage,
            format!(
                "inventory/{name}.toml: {}",
                errors
                    .problems()
                    .first()
                    .map_or_else(String::new, |problem| problem.message.clone())
            ),
            format!("`push plan {name}` shows the line"),
        ),
    };
    project.environments().iter().map(read).collect()
}

/// Whether what builds the apps is installed.
pub fn programs(environment: &Environment) -> Vec<Finding> {
    let apps = environment.fleet.apps.values();
    let first_words: BTreeSet<String> = apps
        .filter(|app| app.on.iter().any(|host| environment.hosts.contains(host)))
        .filter_map(|app| first_word(&app.build.as_ref()?.0))
        .collect();
    first_words
        .into_iter()
        .map(|program| {
            let here = environment.project.root().join(&program);
            match found(&program).or_else(|| here.is_file().then_some(here)) {
                Some(path) => {
                    Finding::fine(format!("{program}, which builds, is {}", path.display()))
                }
                None => Finding::bad(
                    ExitCode::NotStarted,
                    format!("{program} is not installed, and an app's `build` starts with it"),
                    format!(
                        "install {program}, or correct `build` in inventory/{}.toml",
                        environment.fleet.environment
                    ),
                ),
            }
        })
        .collect()
}

/// The program that a build command starts with, as far as that can be told without a shell.
fn first_word(build: &str) -> Option<String> {
    let words = split_words(build).ok()?;
    let first = words.first()?.clone();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+".contains(c);
    (first.chars().all(is_plain)
        && !["cd", "set", "test", "if", "for", "export"].contains(&first.as_str()))
    .then_some(first)
}

/// Whether every secret that the hosts read can be opened here. Nothing of it is shown.
pub fn secrets(environment: &Environment, report: &Report) -> Vec<Finding> {
    let apps = environment.fleet.apps.values();
    let read: BTreeSet<&FileName> = apps
        .filter(|app| app.on.iter().any(|host| environment.hosts.contains(host)))
        .flat_map(App::secret_names)
        .collect();
    if read.is_empty() {
        return Vec::new();
    }
    let vault = SealedFiles::of_environment(environment, report);
    let mut findings: Vec<Finding> = Vec::new();
    let mut opened = 0;
    for name in read {
        match vault.open(name) {
            Ok(_) => opened += 1,
            Err(error) => findings.push(Finding::bad(
                ExitCode::Secrets,
                format!("the secret {name} cannot be opened here: {}", error.why),
                error.help,
            )),
        }
    }
    if opened > 0 {
        let count = crate::report::measure::count(opened, "secret");
        findings.push(Finding::fine(format!("{count} can be opened here")));
    }
    findings
}

/// The agent, and the key files that were named.
pub async fn identities<'a>(targets: impl Iterator<Item = &'a Target>) -> Vec<Finding> {
    let (mut agents, mut files) = (BTreeSet::new(), BTreeSet::new());
    for target in targets.flat_map(|target| target.jumps.iter().chain([target])) {
        agents.extend(target.agent.clone());
        let named = target.identities.iter();
        let named = named.filter(|identity| identity.named_by == NamedBy::Operator);
        files.extend(named.map(|identity| identity.path.clone()));
    }
    let mut findings = Vec::new();
    for socket in agents {
        findings.push(agent(&socket).await);
    }
    for file in files {
        findings.push(match key_trouble(&file).await {
            None => Finding::fine(format!("the key {} can be used", file.display())),
            Some(why) => Finding::bad(
                ExitCode::NotStarted,
                format!("the key {} cannot be used: {why}", file.display()),
                "correct the file, or `identity` in the inventory or IdentityFile in ~/.ssh/config",
            ),
        });
    }
    findings
}

async fn agent(socket: &Path) -> Finding {
    let shown = socket.display();
    match agent_keys(socket).await {
        Ok(0) => Finding::note(
            format!("the agent at {shown} holds no key"),
            "load one: `ssh-add`",
        ),
        Ok(keys) => Finding::fine(format!(
            "the agent at {shown} holds {}",
            crate::report::measure::count(keys, "key")
        )),
        Err(why) => Finding::note(
            format!("the agent at {shown} does not answer: {why}"),
            "start one: `eval $(ssh-agent)`, or `unset SSH_AUTH_SOCK`",
        ),
    }
}

/// Where a program is, as the shell finds it.
fn found(program: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let runs = |path: &PathBuf| {
        path.metadata()
            .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(runs);
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(runs)
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret as _;

    use super::*;
    use crate::cli::arguments::{Pace, Target as Words};
    use crate::report::{Form, screen::Motion};

    #[test]
    fn the_secrets_that_are_looked_at_are_those_that_a_push_opens() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let identity = age::x25519::Identity::generate();
        let me = identity.to_public().to_string().parse().unwrap();
        let write = |path: &str, content: &[u8]| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        write("key", identity.to_string().expose_secret().as_bytes());
        write(
            "templates/api.conf",
            b"password {{ secret_value(\"smtp-password\") }}\n",
        );
        for name in ["smtp-password", "htpasswd"] {
            let sealed = crate::secret::seal(b"value", std::slice::from_ref(&me)).unwrap();
            write(&format!("inventory/secrets/{name}.age"), &sealed);
        }
        let text = "project = \"shop\"\nhosts.web1.address = \"192.0.2.1\"\nsecrets.identities = [\"key\"]\n\
            [apps.api]\non = \"*\"\n\
            secrets = [{ name = \"api.conf\", as = \"file\", template = \"api.conf\" }]\n\
            site.server_name = [\"api.example.com\"]\nsite.proxy = \"http://127.0.0.1:8080\"\n\
            site.basic_auth = \"htpasswd\"\nservice.exec = \"/usr/bin/api\"\n";
        write("inventory/prod.toml", text.as_bytes());
        let words = Words {
            environment: Some("prod".into()),
            limit: Vec::new(),
            password_from: None,
        };
        let environment = Environment::read(&words, Pace { parallel: None }, root).unwrap();
        let (report, _, _) = Report::for_test(Form::Text, Motion::Silent);
        let found = secrets(&environment, &report);
        let fine = Finding::fine("2 secrets can be opened here".to_owned());
        assert_eq!(found, [fine]);
    }

    #[test]
    fn the_program_of_a_build_is_its_first_word_unless_a_shell_would_say_otherwise() {
        assert_eq!(
            first_word("cargo build --release").as_deref(),
            Some("cargo")
        );
        assert_eq!(first_word("./build.sh").as_deref(), Some("./build.sh"));
        for shell in ["cd web && npm ci", "(make)", "$MAKE all", ""] {
            assert_eq!(first_word(shell), None, "{shell}");
        }
    }
}
