//! Hostile texts in every field: taken exactly or refused, and shown without harm.

use std::fs;

use super::{HEAD, Project};
use crate::inventory::load;
use crate::name::AppName;

/// Every text of the corpus of naughty strings, if it is there.
fn naughty() -> Option<Vec<String>> {
    let file = crate::testdata::find("blns.txt")?;
    let text = fs::read_to_string(file).unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty());
    Some(lines.map(str::to_owned).collect())
}

/// Every field that takes free text or a name, with `@` where the text goes: one inventory for the
/// values, which are all read whatever is wrong with the others, and one for each table's keys.
const FIELDS: &[&str] = &[
    VALUES,
    "project = \"p\"\n[hosts.@]\naddress = \"a\"\n",
    "project = \"p\"\n[hosts.a]\nvars = { @ = 1 }\n",
    "project = \"p\"\n[hosts.a]\n[apps.@]\n",
    "project = \"p\"\n[hosts.a]\n[apps.a]\nenv = { @ = \"\" }\n",
    "project = \"p\"\n[hosts.a]\n[apps.a.services.@]\nexec = \"/a\"\n",
    "project = \"p\"\n[hosts.a]\n[apps.a.units.@]\ntemplate = \"systemd/timer\"\n",
    "project = \"p\"\n[hosts.a]\n[apps.a.health]\nhttp = \"http://a/\"\nsend = { @ = \"\" }\n",
    "project = \"p\"\n[hosts.a]\n[files.@]\ncontent = \"x\"\n",
    "extends = @\nproject = \"p\"\n[hosts.a]\n",
    "project = \"p\"\n[hosts.a]\n[apps.a]\nenv = { A = @ }\n[apps.a.service]\nexec = [\"/a\", @]\ndescription = @\n\
     [files.\"/etc/a\"]\ncontent = @\n",
];

const VALUES: &str = r#"
project = @
[ssh]
jump = @
[hosts.a]
address = @
user = @
host_key = @
jump = @
tags = [@]
identity = @
vars = { a = @ }
[apps.a]
on = @
build = @
source = @
user = @
env = { A = @ }
secrets = [@, { name = @, as = "env", variable = @ }]
shared = [@]
[apps.a.service]
exec = @
args = [@]
exec_before = [@]
description = @
template = @
working_dir = @
environment = { A = @ }
stop_timeout = @
reload = @
memory_max = @
cpu_quota = @
writable = @
state_dirs = @
after = @
drop_ins = { "a.conf" = @ }
[apps.a.timer]
on_calendar = @
randomized_delay = @
[apps.a.socket]
listen = @
mode = @
[apps.a.health]
http = @
status = @
body = @
json = { a = @ }
send = { X = @ }
headers = { X = @ }
bearer = @
tcp = @
command = @
[apps.a.site]
server_name = @
http = @
proxy = @
headers = { X = @ }
body_max = @
basic_auth = @
tls = { certificate = @, key = @ }
locations = [{ path = @, respond = 200, respond_body = @ }, { path = "/a", redirect = @ }, { path = "/b", root = @, fallback = @ }]
[firewall]
allow = [@, { port = @, from = @, on = @ }]
[files."/etc/a"]
content = @
owner = @
mode = @
on_change = { restart = @ }
[files."/etc/b"]
template = @
[files."/etc/c"]
source = @
[rollout]
waves = [@]
confirm_timeout = @
"#;

/// Hostile texts of our own, for every field.
const HOSTILE: &[&str] = &[
    "../x",
    "..",
    "/",
    "-x",
    "--",
    "a\nb",
    "a\r\nb",
    "%d",
    "%%",
    "$HOME",
    "$(id)",
    "`id`",
    "a'b",
    "a\"b",
    "a;b",
    "a}b",
    "{{",
    "{%",
    "{{ 7*7 }}",
    "{{ host.vars }}",
    "{% for x in range(1000000000) %}{% endfor %}",
    "\u{1b}[31m",
    "\u{9b}31m",
    "\u{202e}",
    "\0",
    "\u{7f}",
    "\u{2028}",
    "\\",
    "a\\",
    " ",
    "",
    "@",
    "!",
    "*",
    "#",
    "\u{feff}",
    "\u{fffe}",
    "web1 ",
    " web1",
    "/etc/../x",
    "/etc//x",
    "/proc/1/mem",
    "http://a/\n",
    "127.0.0.1:99999",
];

fn in_every_field(texts: &[String]) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("inventory")).unwrap();
    let environment = "prod".parse().unwrap();
    for text in texts {
        let quoted = toml::Value::String(text.clone()).to_string();
        for field in FIELDS {
            // A key cannot be a multi-line text.
            let quoted = if field.contains(".@]") || field.contains("{ @ =") {
                serde_json::to_string(text).unwrap()
            } else {
                quoted.clone()
            };
            fs::write(
                folder.path().join("inventory/prod.toml"),
                field.replace('@', &quoted),
            )
            .unwrap();
            if let Err(errors) = load(folder.path(), &environment) {
                let shown = errors.to_string();
                assert!(
                    shown.chars().all(|c| c == '\n' || !c.is_control()),
                    "{field} {text:?}: {shown:?}"
                );
                assert!(
                    shown.len() < 100_000,
                    "{field} {text:?}: {} bytes",
                    shown.len()
                );
                assert!(
                    errors
                        .problems()
                        .iter()
                        .all(|problem| problem.code.starts_with("inventory::"))
                );
            }
        }
    }
}

#[test]
fn a_hostile_text_in_any_field_is_taken_exactly_or_refused() {
    let mut texts: Vec<String> = HOSTILE.iter().map(|text| (*text).to_owned()).collect();
    texts.push("a".repeat(300));
    texts.push("é".repeat(70_000));
    in_every_field(&texts);
}

#[test]
fn a_naughty_text_in_any_field_is_taken_exactly_or_refused() {
    let Some(texts) = naughty() else { return };
    in_every_field(&texts);
}

#[test]
fn a_text_for_a_service_arrives_as_it_is_written() {
    let texts: Vec<String> = HOSTILE
        .iter()
        .map(|text| (*text).to_owned())
        .chain(naughty().into_iter().flatten())
        .collect();
    for text in texts {
        let quoted = toml::Value::String(text.clone()).to_string();
        let project = Project::of(&format!("{HEAD}[apps.api]\nenv = {{ A = {quoted} }}\n"));
        let Ok(fleet) = project.load() else { continue };
        let app = &fleet.apps[&"api".parse::<AppName>().unwrap()];
        let value = &app.env["A"];
        if value.is_literal() {
            let scope = fleet.app_scope(&fleet.hosts["web1"], app, None);
            assert_eq!(value.resolve(&scope).unwrap().as_str(), text);
        }
    }
}
