//! Inventories as files: what is wrong with them, drawn; what they mean.

mod hostile;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::*;
use crate::name::HostName;

/// The folder of the repository's own inventories.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A project in a scratch folder: files by their path.
struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("inventory")).unwrap();
        Self(folder)
    }

    fn with(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    /// An environment `prod`; further files follow lines `## FILE`.
    fn of(text: &str) -> Self {
        let mut project = Self::new();
        let mut name = "inventory/prod.toml".to_owned();
        let mut content = String::new();
        for line in text.split_inclusive('\n') {
            if let Some(next) = line.strip_prefix("## ") {
                project = project.with(&name, &content);
                next.trim().clone_into(&mut name);
                content.clear();
            } else {
                content.push_str(line);
            }
        }
        project.with(&name, &content)
    }

    fn load(&self) -> Result<Fleet, InventoryErrors> {
        load(self.0.path(), &"prod".parse().unwrap())
    }
}

/// The smallest inventory, before what a test adds.
const HEAD: &str = "project = \"shop\"\n[hosts.web1]\naddress = \"203.0.113.10\"\n";

fn fleet(text: &str) -> Fleet {
    Project::of(&format!("{HEAD}{text}"))
        .load()
        .unwrap_or_else(|errors| panic!("{errors}"))
}

fn errors(text: &str) -> String {
    match Project::of(text).load() {
        Ok(_) => "nothing is wrong".to_owned(),
        Err(errors) => errors.to_string(),
    }
}

#[test]
fn every_mistake_is_told_with_its_place_its_cause_and_what_to_do() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/inventory/cases");
    let mut files: Vec<PathBuf> = fs::read_dir(&cases)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "toml")
        })
        .collect();
    files.sort();
    assert!(
        files.len() > 20,
        "the cases are gone from {}",
        cases.display()
    );
    insta::with_settings!({snapshot_path => "../cases", prepend_module_to_snapshot => false, omit_expression => true}, {
        for file in files {
            let text = fs::read_to_string(&file).unwrap();
            let name = file.file_stem().unwrap().to_str().unwrap();
            insta::assert_snapshot!(name, errors(&text));
        }
    });
}

/// The pairs of a definition and a key in the schema.
fn keys(schema: &serde_json::Value) -> BTreeSet<(String, String)> {
    let defined = schema["$defs"].as_object().unwrap().iter();
    let root = ("Inventory".to_owned(), schema);
    let all = defined
        .map(|(name, definition)| (name.clone(), definition))
        .chain([root]);
    all.flat_map(|(name, definition)| {
        let keys = definition["properties"]
            .as_object()
            .into_iter()
            .flat_map(|keys| keys.keys().cloned());
        keys.map(move |key| (name.clone(), key)).collect::<Vec<_>>()
    })
    .collect()
}

/// Takes every key that a tree uses off the list, as the schema leads to it.
fn cross_off(
    value: &toml::Value,
    schema: &serde_json::Value,
    left: &mut BTreeSet<(String, String)>,
) {
    let all = schema_of();
    let mut queue = vec![("Inventory".to_owned(), schema)];
    while let Some((name, schema)) = queue.pop() {
        if let Some(target) = schema["$ref"].as_str() {
            let name = target.rsplit('/').next().unwrap();
            queue.push((name.to_owned(), &all["$defs"][name]));
        }
        queue.extend(
            schema["anyOf"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|each| (name.clone(), each)),
        );
        if let (Some(table), Some(known)) = (value.as_table(), schema["properties"].as_object()) {
            for (key, value) in table.iter().filter(|(key, _)| known.contains_key(*key)) {
                left.remove(&(name.clone(), key.clone()));
                cross_off(value, &known[key], left);
            }
        }
        if let (Some(table), true) = (value.as_table(), schema["additionalProperties"].is_object())
        {
            table
                .values()
                .for_each(|value| cross_off(value, &schema["additionalProperties"], left));
        }
        if let (Some(list), true) = (value.as_array(), schema["items"].is_object()) {
            for value in list {
                cross_off(value, &schema["items"], left);
            }
        }
    }
}

fn schema_of() -> serde_json::Value {
    schema()
}

#[test]
fn the_example_shows_every_key_and_says_what_each_does() {
    let text = fs::read_to_string(root().join("inventory/example.toml")).unwrap();
    let mut left = keys(&schema());
    assert!(left.len() > 100, "the schema has lost its keys");
    cross_off(&toml::from_str(&text).unwrap(), &schema(), &mut left);
    // A further service has the keys of a service; showing them once is enough.
    let service: Vec<String> = keys(&schema())
        .into_iter()
        .filter(|(name, _)| name == "Service")
        .map(|(_, key)| key)
        .collect();
    left.retain(|(name, key)| !(name == "ExtraService" && service.contains(key)));
    // What a site serves is shown at the site or at its locations.
    let serves = [
        "redirect",
        "redirect_status",
        "keep_path",
        "respond",
        "respond_body",
        "root",
        "fallback",
        "proxy",
        "websockets",
        "strip_prefix",
    ];
    left.retain(|(name, key)| {
        !(matches!(name.as_str(), "Site" | "Location") && serves.contains(&key.as_str()))
    });
    left.retain(|(name, key)| (name.as_str(), key.as_str()) != ("App", "timer"));
    assert!(
        left.is_empty(),
        "inventory/example.toml does not show {left:?}"
    );
    for key in serves.iter().chain(&["timer"]) {
        assert!(
            text.contains(&format!("{key} =")) || text.contains(&format!(".{key}]")),
            "{key}"
        );
    }
}

#[test]
fn the_example_is_an_inventory_that_loads() {
    let read = |path: &str| fs::read(root().join(path)).unwrap();
    let mut project = Project::new()
        .with("inventory/prod.toml", read("inventory/example.toml"))
        .with(
            "inventory/shared/common.toml",
            read("inventory/shared/common.toml"),
        );
    for template in ["logrotate", "systemd/own-drop-in", "systemd/api-watch"] {
        project = project.with(&format!("templates/{template}"), "x\n");
    }
    project = project.with(
        "templates/api.conf",
        "password = {{ secret_value('smtp-password') }}\n",
    );
    for secret in [
        "smtp-password",
        "database-url",
        "tls-key",
        "api-token",
        "tls-cert",
        "htpasswd",
        "htpasswd-assets",
    ] {
        project = project.with(&format!("inventory/secrets/{secret}.age"), "x");
    }
    let fleet = project.load().unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(fleet.rollout.parallel, 16, "the extending file wins");
    assert_eq!(fleet.identities, [Path::new("keys/age.txt")]);
    let api = &fleet.apps["api"];
    assert_eq!(api.services.len(), 4);
    assert_eq!(api.on.len(), 1);
    assert_eq!(
        fleet.ports(&fleet.hosts["web1"], api),
        BTreeSet::from([8080, 8081])
    );
    assert_eq!(api.secret_names().len(), 7);
}

#[test]
fn the_schema_has_a_description_for_every_key_and_knows_no_null() {
    let schema = schema();
    let text = schema.to_string();
    assert!(!text.contains("\"null\"") && !text.contains(":null"));
    for (name, key) in keys(&schema) {
        let of = if name == "Inventory" {
            &schema
        } else {
            &schema["$defs"][&name]
        };
        let key_schema = &of["properties"][&key];
        assert!(
            key_schema["description"].is_string(),
            "{name}.{key} has no description"
        );
        assert_eq!(of["additionalProperties"], false, "{name}");
    }
}

#[test]
fn tables_of_several_files_are_merged_key_by_key_and_the_extending_file_wins() {
    let project = Project::of(
        "extends = [\"a.toml\", \"sub/b.toml\"]\nproject = \"shop\"\n[hosts.web1]\ntags = [\"own\"]\n[rollout]\nmax_failures = 3\n\
         ## inventory/a.toml\n[hosts.web1]\naddress = \"a\"\ntags = [\"a\", \"b\"]\nuser = \"a\"\n[rollout]\nparallel = 3\n\
         ## inventory/sub/b.toml\nextends = \"../c.toml\"\n[hosts.web1]\naddress = \"b\"\n\
         ## inventory/c.toml\n[hosts.web2]\n",
    );
    let fleet = project.load().unwrap_or_else(|errors| panic!("{errors}"));
    let web1 = &fleet.hosts["web1"];
    assert_eq!(web1.address.as_str(), "b");
    assert_eq!(
        web1.login.user.as_ref().map(crate::name::LoginName::as_str),
        Some("a")
    );
    assert_eq!(
        web1.tags
            .iter()
            .map(crate::name::TagName::as_str)
            .collect::<Vec<_>>(),
        ["own"]
    );
    assert_eq!((fleet.rollout.parallel, fleet.rollout.failures_max), (3, 3));
    assert!(fleet.hosts.contains_key("web2"));
}

#[test]
fn an_environment_is_a_file_that_no_other_extends() {
    let project = Project::of(
        "extends = \"common.toml\"\n## inventory/common.toml\n## inventory/dev.toml\n## inventory/plan.toml\n## inventory/readme.txt\n",
    );
    let names: Vec<String> = environments(project.0.path())
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        names,
        ["dev", "prod"],
        "common.toml is shared, plan is a command"
    );
    assert!(environments(Path::new("/nonexistent")).is_empty());
}

#[test]
fn an_environment_that_does_not_exist_is_told_with_those_that_do() {
    let project = Project::of("").with("inventory/dev.toml", "");
    let error = load(project.0.path(), &"prdo".parse().unwrap())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("inventory/prdo.toml does not exist"),
        "{error}"
    );
    assert!(error.contains("did you mean prod?"), "{error}");
}

#[test]
fn defaults_are_filled_in_once() {
    let fleet = fleet(
        "[apps.api]\nsource = \"api\"\n[apps.api.service]\nexec = \"{{ release.dir }}/api\"\n",
    );
    assert_eq!(fleet.keep_releases, 5);
    assert_eq!(fleet.rollout.confirm_timeout, Duration::from_secs(30));
    assert_eq!(fleet.rollout.waves, [Wave::Percent(100)]);
    assert_eq!(fleet.ssh.connect_timeout, Duration::from_secs(10));
    let api = &fleet.apps["api"];
    assert_eq!(api.user.as_str(), "api");
    let service = &api.services[0];
    assert_eq!(service.unit.as_str(), "api.service");
    assert_eq!(service.hardening, Hardening::Strict);
    assert_eq!(
        (service.kind, service.restart),
        (ServiceKind::Exec, Restart::Always)
    );
    assert_eq!(service.stop_timeout, Duration::from_secs(30));
    assert_eq!(
        service
            .working_dir
            .as_ref()
            .map(crate::template::Templated::source),
        Some("{{ release.current }}")
    );
    assert!(api.health.probes.is_empty());
}

#[test]
fn a_service_with_a_timer_is_a_job() {
    let fleet = fleet(
        "[apps.tidy]\n[apps.tidy.service]\nexec = [\"/usr/bin/find\", \"/var/tmp\"]\n[apps.tidy.timer]\non_calendar = \"daily\"\n",
    );
    let service = &fleet.apps["tidy"].services[0];
    assert_eq!(
        (service.kind, service.restart),
        (ServiceKind::Oneshot, Restart::No)
    );
    assert!(service.timer.is_some());
}

#[test]
fn a_job_is_not_started_again_whatever_its_type_unless_the_inventory_says_so() {
    for (kind, said, restart) in [
        ("exec", "", Restart::No),
        ("simple", "", Restart::No),
        ("notify", "", Restart::No),
        ("exec", "restart = \"on-failure\"\n", Restart::OnFailure),
    ] {
        let fleet = fleet(&format!(
            "[apps.tidy]\n[apps.tidy.service]\nexec = \"/usr/bin/tidy\"\ntype = \"{kind}\"\n{said}\
             [apps.tidy.timer]\non_calendar = \"daily\"\n",
        ));
        assert_eq!(fleet.apps["tidy"].services[0].restart, restart, "{kind}");
    }
}

#[test]
fn a_host_on_the_common_way_is_reached_through_those_before_it() {
    let fleet = fleet("[hosts.gate]\n[hosts.inner]\n[ssh]\njump = [\"gate\", \"inner\"]\n");
    let way = |host: &str| -> Vec<String> {
        let jumps = fleet.hosts[host].login.jump.iter();
        jumps
            .map(|jump| match jump {
                Jump::Host(name) => name.to_string(),
                Jump::Address { address, .. } => address.to_string(),
            })
            .collect()
    };
    assert_eq!(way("web1"), ["gate", "inner"]);
    assert_eq!(way("inner"), ["gate"]);
    assert!(way("gate").is_empty());
}

#[test]
fn a_text_with_expressions_is_another_one_on_each_host() {
    let project = Project::of(
        "project = \"shop\"\n[hosts.a]\nvars = { port = 8080 }\n[hosts.b]\nvars = { port = 9090 }\n\
         [apps.api]\nsource = \"api\"\nenv = { WHERE = \"{{ host.name }} {{ app.dir }} {{ environment.name }} {{ project }}\" }\n\
         [apps.api.service]\nexec = \"{{ release.dir }}/api\"\n\
         [apps.api.health]\nhttp = \"http://127.0.0.1:{{ host.vars.port }}/\"\n",
    );
    let fleet = project.load().unwrap_or_else(|errors| panic!("{errors}"));
    let api = &fleet.apps["api"];
    let release = "20261120T101500Z-abcdef0".parse().unwrap();
    let value = |host: &str| {
        let scope = fleet.app_scope(&fleet.hosts[host], api, Some(&release));
        api.env["WHERE"]
            .resolve(&scope)
            .unwrap()
            .as_str()
            .to_owned()
    };
    assert_eq!(value("a"), "a /srv/api prod shop");
    assert_eq!(value("b"), "b /srv/api prod shop");
    assert_eq!(fleet.ports(&fleet.hosts["a"], api), BTreeSet::from([8080]));
    assert_eq!(fleet.ports(&fleet.hosts["b"], api), BTreeSet::from([9090]));
    let scope = fleet.app_scope(&fleet.hosts["a"], api, Some(&release));
    let exec = api.services[0].exec[0].resolve(&scope).unwrap();
    assert_eq!(
        exec.as_str(),
        "/srv/api/releases/20261120T101500Z-abcdef0/api"
    );
}

#[test]
fn a_selector_of_the_command_line_selects_as_an_inventory_does() {
    let fleet = fleet("tags = [\"web\"]\n[hosts.db1]\n");
    let names = |text: &str| -> Vec<HostName> {
        fleet
            .select(&text.parse().unwrap())
            .unwrap()
            .into_iter()
            .collect()
    };
    assert_eq!(names("web"), ["web1".parse::<HostName>().unwrap()]);
    assert_eq!(names("!web"), ["db1".parse::<HostName>().unwrap()]);
    assert!(fleet.select(&"mail".parse().unwrap()).is_err());
}

#[test]
fn a_firewall_is_rules_of_ports_and_networks() {
    let fleet = fleet(
        "tags = \"web\"\n[hosts.db1]\n[firewall]\nallow = [\"https\", \"53/udp\", \"8000-8100\", { port = 5432, from = \"10.0.0.0/8\", on = \"db1\" }]\n",
    );
    let firewall = fleet.firewall.as_ref().unwrap();
    let shown = |host: &str| {
        let firewall = firewall.of(&host.parse().unwrap()).unwrap();
        firewall
            .allow
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert_eq!(shown("web1"), "443/tcp; 8000-8100/tcp; 53/udp");
    assert_eq!(
        shown("db1"),
        "443/tcp; 5432/tcp from 10.0.0.0/8; 8000-8100/tcp; 53/udp"
    );
}

#[test]
fn a_site_may_have_one_port_on_several_addresses_and_leave_others_to_an_app() {
    let fleet = fleet(
        "[apps.api]\nports = [8080]\n[apps.api.site]\nserver_name = \"a.example.com\"\nrespond = 200\ndefault = true\n\
         http = [80, \"[::1]:80\", \"10.0.0.5:8080\", \"10.0.0.6:8080\"]\n",
    );
    let site = fleet.apps["api"].site.as_ref().unwrap();
    assert_eq!(site.ports(), BTreeSet::from([80, 8080]));
}

#[test]
fn a_file_that_is_too_large_is_refused_without_being_read() {
    let project = Project::new();
    let file = fs::File::create(project.0.path().join("inventory/prod.toml")).unwrap();
    file.set_len(100 << 20).unwrap();
    let before = bytes_read();
    let error = project.load().unwrap_err().to_string();
    assert!(error.contains("larger than 1 MiB"), "{error}");
    let read = bytes_read() - before;
    assert!(read < 2 << 20, "{read} bytes were read");
}

/// What this thread has read so far, as `proc_pid_io(5)` counts it.
fn bytes_read() -> u64 {
    let counts = fs::read_to_string("/proc/thread-self/io").unwrap();
    let read = counts.lines().find_map(|line| line.strip_prefix("rchar: "));
    read.unwrap().parse().unwrap()
}

#[test]
fn what_is_no_text_file_is_refused() {
    for (content, said) in [
        (&b"\xef\xbb\xbfproject = \"x\""[..], "byte order mark"),
        (b"project = \"\xff\"", "not UTF-8"),
        (b"project = \"a\0b\"", "not TOML"),
        (b"project = \"shop\"\rprotected = true\n", "not TOML"),
        (b"\0\0\0\0", "not TOML"),
    ] {
        let error = Project::new()
            .with("inventory/prod.toml", content)
            .load()
            .unwrap_err()
            .to_string();
        assert!(error.contains(said), "{content:?}: {error}");
        assert!(
            error.chars().all(|c| c == '\n' || !c.is_control()),
            "{error:?}"
        );
    }
    let project = Project::new();
    fs::create_dir(project.0.path().join("inventory/prod.toml")).unwrap();
    assert!(
        project
            .load()
            .unwrap_err()
            .to_string()
            .contains("not a regular file")
    );
}

#[test]
fn nesting_of_any_depth_is_refused_and_never_overflows() {
    let deep = 100_000;
    for text in [
        format!("a = {}1{}", "[".repeat(deep), "]".repeat(deep)),
        format!("a = {}", "{ a = ".repeat(deep)),
        format!("{}a = 1", "a.".repeat(deep)),
        format!("[{}a]\n", "a . ".repeat(deep)),
        format!("x = {{ {}a = 1 }}", "\"a\".".repeat(deep)),
    ] {
        let started = Instant::now();
        let error = errors(&text);
        assert!(error.contains("error"), "{error}");
        assert!(error.len() < 10_000, "{} bytes of message", error.len());
        assert!(started.elapsed() < Duration::from_secs(20));
    }
}

#[test]
fn dots_in_comments_and_texts_nest_nothing() {
    let rule = ".".repeat(100);
    let text = format!(
        "# {rule}\n{HEAD}vars = {{ line = \"{rule}\", \"{rule}\" = 1, more = \"\"\"\n{rule}\"\"\" }} # a.b{rule}\n"
    );
    let found = errors(&text);
    assert!(!found.contains("nested more than"), "{found}");
    // A quote within a word opens no text, so that nothing hides behind it.
    let found = errors(&format!("x'{} = 1", ".a".repeat(100)));
    assert!(found.contains("nested more than"), "{found}");
}

#[test]
fn several_problems_are_told_at_once_but_not_without_end() {
    let keys: Vec<String> = (0..100).map(|i| format!("unknown{i} = 1")).collect();
    let error = errors(&keys.join("\n"));
    assert_eq!(error.matches("there is no key").count(), PROBLEMS_MAX);
    assert!(error.contains("and 80 more problems"), "{error}");
}

#[test]
fn an_environments_own_secret_wins_over_the_shared_one() {
    let project = Project::new()
        .with("inventory/secrets/token.age", "")
        .with("inventory/secrets/other.age", "")
        .with("inventory/secrets/prod/token.age", "")
        .with("inventory/secrets/..age", "")
        .with("inventory/secrets/notes.txt", "");
    let (folder, prod) = (project.0.path(), "prod".parse().unwrap());
    let file = |name: &str| secret_file(folder, &prod, &name.parse().unwrap());
    let secrets = folder.join("inventory/secrets");
    assert_eq!(file("token"), Some(secrets.join("prod/token.age")));
    assert_eq!(file("other"), Some(secrets.join("other.age")));
    assert_eq!(file("notes"), None);
    assert_eq!(secret_files(folder, &prod).len(), 2);
}
