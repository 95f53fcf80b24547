//! Templates as files: built-in, own, wrong ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::*;

#[derive(Serialize)]
struct Context {
    name: &'static str,
    app: BTreeMap<&'static str, &'static str>,
}

fn context() -> Context {
    Context {
        name: "a; } \"%d$x",
        app: BTreeMap::from([("dir", "/srv/api"), ("user", "api")]),
    }
}

/// An engine over a scratch folder with these files.
fn engine(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Engine) {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let engine = Engine::open(folder.path()).unwrap();
    (folder, engine)
}

fn render(files: &[(&str, &[u8])]) -> Result<String, TemplateError> {
    let (_folder, engine) = engine(files);
    engine.render(&"main".parse().unwrap(), &context())
}

fn error(files: &[(&str, &[u8])]) -> String {
    let error = render(files).unwrap_err();
    format!("{error}\n{}", error.help())
}

#[test]
fn a_file_at_a_built_ins_path_replaces_it_and_the_others_stay() {
    let (_folder, engine) = engine(&[("systemd/service", b"own {{ name }}\n")]);
    let service = engine.render(&TemplateName::service(), &context()).unwrap();
    assert_eq!(service, "own a; } \"%d$x\n");
    let built_in = Engine::built_in();
    for (name, text) in BUILT_IN {
        let name: TemplateName = name.parse().unwrap();
        assert!(built_in.check(&name).is_ok(), "{name}");
        assert_eq!(built_in.source(&name).unwrap(), *text);
        assert_eq!(
            engine.source(&name).unwrap() == *text,
            name != TemplateName::service()
        );
    }
    assert!(Engine::open(Path::new("/nonexistent/templates")).is_ok());
}

#[test]
fn values_are_never_escaped_by_a_templates_name_and_the_last_newline_stays() {
    for name in ["main.html", "main.json", "main.xml", "main.js.j2", "main"] {
        let (_folder, engine) = engine(&[(name, b"{{ name }}\n")]);
        assert_eq!(
            engine.render(&name.parse().unwrap(), &context()).unwrap(),
            "a; } \"%d$x\n",
            "{name}"
        );
    }
}

#[test]
fn a_template_includes_others_of_the_folder_and_nothing_else() {
    assert_eq!(
        render(&[
            ("main", b"<{% include 'parts/a' %}>"),
            ("parts/a", b"{{ app.user }}")
        ])
        .unwrap(),
        "<api>"
    );
    for outside in [
        "../secret",
        "/etc/passwd",
        "parts/../../secret",
        "templates/main",
    ] {
        let text = format!("{{% include '{outside}' %}}");
        let error = error(&[("main", text.as_bytes())]);
        assert!(
            error.contains("non-existing template"),
            "{outside}: {error}"
        );
    }
}

#[test]
fn a_link_that_leads_out_of_the_folder_is_not_followed() {
    let outside = tempfile::NamedTempFile::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.path().join("main")).unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("round")).unwrap();
    let engine = Engine::open(folder.path()).unwrap();
    let error = engine
        .render(&"main".parse().unwrap(), &context())
        .unwrap_err();
    assert!(
        error.to_string().contains("leads out of templates/"),
        "{error}"
    );
}

#[test]
fn a_mistake_is_told_with_its_file_and_line() {
    insta::assert_snapshot!(error(&[("main", b"one\ntwo {{ app.dri }}\n")]), @r"
    templates/main:2: app.dri is not a variable that exists here
    these exist: app.dir, app.user, name
    ");
    insta::assert_snapshot!(error(&[("main", b"one\n\n{% if name %}\n")]), @r"
    templates/main:3: unexpected end of input, expected end of block
    expressions are Jinja: {{ host.vars.region }}; a literal {{ is written {{ '{{' }}
    ");
    insta::assert_snapshot!(error(&[("main", b"\n{% include 'part' %}"), ("part", b"\n\n{{ nothing }}")]), @r"
    templates/part:3: nothing is not a variable that exists here
    these exist: app.dir, app.user, name
    ");
    insta::assert_snapshot!(error(&[("main", b"\n{{ name | nginx_word }}")]), @r"
    templates/main:2: '$' cannot be written in an nginx parameter: nginx would read a variable and has no escape for it
    correct the template, then run `push plan` again
    ");
    insta::assert_snapshot!(error(&[("main", b"{{ name | shout }}")]), @r"
    templates/main:1: filter shout is unknown
    correct the template, then run `push plan` again
    ");
    insta::assert_snapshot!(error(&[("mian", b"")]), @r#"
    there is no template "main"
    these exist: bootstrap/acme_location, bootstrap/acme_server, bootstrap/authorized_keys, bootstrap/certbot, bootstrap/cloud, bootstrap/journald, bootstrap/sshd, bootstrap/sudoers, bootstrap/sysctl, bootstrap/upgrades, mian, nginx/site, systemd/service, systemd/socket, systemd/timer
    "#);
}

#[test]
fn a_template_that_does_not_end_is_stopped() {
    let started = Instant::now();
    for text in [
        "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
        "{% include 'main' %}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% for i in range(9999) %}{% for j in range(9999) %}xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx{% endfor %}{% endfor %}",
    ] {
        assert!(render(&[("main", text.as_bytes())]).is_err(), "{text}");
    }
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn what_cannot_be_a_template_is_told_when_it_is_used() {
    assert!(error(&[("main", b"\xff")]).contains("not UTF-8"));
    assert!(error(&[("main", b"{% include 'bad' %}"), ("bad", b"\xff")]).contains("not UTF-8"));
    let large = vec![b'x'; usize::try_from(TEMPLATE_BYTES_MAX).unwrap() + 1];
    assert!(error(&[("main", &large)]).contains("larger than 1 MiB"));
    assert!(
        render(&[("main", b"fine"), ("logo.png", b"\xff\xfe")]).is_ok(),
        "nobody uses the other"
    );
    for name in [
        "../main",
        "/etc/passwd",
        "",
        "a//b",
        "a\nb",
        "templates/../x",
    ] {
        assert!(name.parse::<TemplateName>().is_err(), "{name:?}");
    }
    assert_eq!(
        "templates/main".parse::<TemplateName>().unwrap().as_str(),
        "main"
    );
}

#[test]
fn a_filter_makes_any_value_one_word() {
    let main = b"A={{ name | systemd_word }}\nB={{ name | systemd_exec_word }}\nC={{ name | systemd_text }}\nD={{ name | systemd_environment('X') }}\n{{ name | environment_file_line('Y') }}E={{ app.dir | nginx_word }}\n";
    insta::assert_snapshot!(render(&[("main", main)]).unwrap(), @r#"
    A="a; } \"%%d$x"
    B="a; } \"%%d$$x"
    C=a; } "%%d$x
    D="X=a; } \"%%d$x"
    Y="a; } \"%d\$x"
    E="/srv/api"
    "#);
    assert!(render(&[("main", b"{{ name | systemd_environment('A B') }}")]).is_err());
}

#[test]
fn a_value_of_the_inventory_includes_no_files() {
    let scope = Scope {
        host: HostScope {
            name: "web1".to_owned(),
            address: "a".to_owned(),
            tags: Vec::new(),
            vars: BTreeMap::new(),
        },
        environment: EnvironmentScope {
            name: "prod".to_owned(),
        },
        project: "shop".to_owned(),
        app: None,
        release: None,
        secret: None,
    };
    let render = |text: &str| Template::parse(text)?.render(&scope);
    assert_eq!(
        render("{{ host.name }}.{{ environment.name }}").as_deref(),
        Ok("web1.prod")
    );
    assert_eq!(render("{{ '{{' }} literal").as_deref(), Ok("{{ literal"));
    assert!(render("{% include '/etc/passwd' %}").is_err());
    assert!(render("{{ app.name }}").is_err());
    assert!(render("{{ host.vars.none }}").is_err());
    assert!(render("{% for i in range(9999) %}{{ project * 999 }}{% endfor %}").is_err());
}
