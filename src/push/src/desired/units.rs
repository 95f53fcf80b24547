//! systemd units: services with their timers and sockets, drop-ins, and units that the operator has
//! written out.
//!
//! Values reach a template only in the spelling of their place; the templates print them as they
//! are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use push_wire::encode::{systemd_environment, systemd_exec_word, systemd_text, systemd_word};
use push_wire::manifest::{File, OnChange, OnRelease, Runs, Unit};
use serde::Serialize;

use super::making::{Making, OnHost};
use super::secrets::Deliveries;
use super::{DesiredError, hardening};
use crate::inventory::{
    Calendar, ListenStream, Persistence, Reload, SECRET_VARIABLES as ENVIRONMENT, SecretForm,
    Service, ServiceKind, Socket, Start, Timer, Word,
};
use crate::name::{UnitName, UserName};
use crate::template::{Scope, Templated};

/// What the template of a service can name.
#[derive(Serialize)]
struct ServiceContext<'a> {
    #[serde(flatten)]
    scope: &'a Scope,
    service: ServiceText,
}

/// A service, each value in the spelling of its directive.
#[derive(Serialize)]
struct ServiceText {
    unit: String,
    description: String,
    after: Vec<String>,
    wants: Vec<String>,
    requires: Vec<String>,
    kind: &'static str,
    /// Whether it counts as active after its program has ended.
    remains: bool,
    exec: String,
    exec_before: Vec<String>,
    exec_reload: Option<String>,
    user: String,
    working_dir: Option<String>,
    environment: Vec<String>,
    environment_file: Option<String>,
    credentials: Vec<String>,
    restart: &'static str,
    restart_delay: String,
    start_timeout: String,
    stop_timeout: String,
    limits: Vec<String>,
    hardening: Vec<String>,
    writable: Vec<String>,
    state_dirs: Vec<String>,
}

/// Declares every unit of an app.
pub(super) fn declare(
    making: &mut Making<'_>,
    on_host: &OnHost<'_>,
    secrets: &Deliveries,
) -> Result<(), DesiredError> {
    for service in &on_host.app.services {
        let what = service.unit.to_string();
        let context = ServiceContext {
            scope: &on_host.scope,
            service: text(making, on_host, (service, secrets))?,
        };
        let rendered = making.render(&what, &service.template, &context)?;
        let unit = service_unit(making, on_host, (service, rendered));
        making.slice.units.insert(service.unit.clone(), unit);
        drop_ins(making, service, &context)?;
        if let Some(timer) = &service.timer {
            declare_timer(making, on_host, (service, timer))?;
        }
        if let Some(socket) = &service.socket {
            declare_socket(making, on_host, (service, socket))?;
        }
    }
    own(making, on_host)
}

fn service_unit(
    making: &mut Making<'_>,
    on_host: &OnHost<'_>,
    (service, rendered): (&Service, String),
) -> Unit {
    let job = service.timer.is_some() || service.unit.is_template();
    Unit {
        digest: making.text(rendered),
        app: on_host.app.name.clone(),
        wanted_by: if job {
            BTreeSet::new()
        } else {
            target("multi-user.target")
        },
        runs: if job { Runs::OnDemand } else { Runs::Always },
        on_release: match (job, &service.reload) {
            (true, _) => OnRelease::Nothing,
            (false, Reload::Restart) => OnRelease::Restart,
            (false, Reload::Signal(_) | Reload::Command(_)) => OnRelease::Reload,
        },
    }
}

/// A target that units are wanted by. The names are ours, and are unit names.
fn target(name: &str) -> BTreeSet<UnitName> {
    name.parse().into_iter().collect()
}

fn text(
    making: &mut Making<'_>,
    on_host: &OnHost<'_>,
    (service, secrets): (&Service, &Deliveries),
) -> Result<ServiceText, DesiredError> {
    let what = service.unit.to_string();
    let scope = &on_host.scope;
    if service.hardening != crate::inventory::Hardening::Off {
        making.needs_systemd("ProtectProc=", hardening::SINCE);
    }
    let credentials = credentials(making, on_host);
    let making = &*making;
    let working_dir = match &service.working_dir {
        Some(dir) => {
            let dir = making.resolve(&what, dir, scope)?;
            Some(systemd_text(dir.as_str()).map_err(making.encode_error(&what))?)
        }
        None => None,
    };
    let description = making.resolve(&what, &service.description, scope)?;
    Ok(ServiceText {
        unit: what.clone(),
        description: systemd_text(description.as_str().trim())
            .map_err(making.encode_error(&what))?,
        after: ordered(&service.after, service),
        wants: names(&service.wants),
        requires: names(&service.requires)
            .into_iter()
            .chain(own_socket(service))
            .collect(),
        kind: service.kind.as_str(),
        remains: service.kind == ServiceKind::Oneshot && service.timer.is_none(),
        exec: command(making, &what, (&service.exec, scope))?,
        exec_before: service
            .exec_before
            .iter()
            .map(|words| command(making, &what, (words, scope)))
            .collect::<Result<_, _>>()?,
        exec_reload: match &service.reload {
            Reload::Restart => None,
            Reload::Signal(signal) => Some(format!("/bin/kill -s {} $MAINPID", signal.as_str())),
            Reload::Command(words) => Some(command(making, &what, (words, scope))?),
        },
        user: on_host.app.user.to_string(),
        working_dir,
        environment: environment(making, on_host, service)?,
        environment_file: secrets
            .has_environment()
            .then(|| format!("/run/push/secrets/{}/{ENVIRONMENT}", on_host.app.name)),
        credentials,
        restart: service.restart.as_str(),
        restart_delay: time(service.restart_delay),
        start_timeout: service
            .start_timeout
            .map_or_else(|| "infinity".to_owned(), time),
        stop_timeout: time(service.stop_timeout),
        limits: limits(service),
        hardening: hardening::lines(service),
        writable: writable(making, on_host, service)?,
        state_dirs: state_dirs(making, service)?,
    })
}

fn names(units: &BTreeSet<UnitName>) -> Vec<String> {
    units.iter().map(UnitName::to_string).collect()
}

fn ordered(after: &BTreeSet<UnitName>, service: &Service) -> Vec<String> {
    names(after)
        .into_iter()
        .chain(own_socket(service))
        .collect()
}

/// A service that is handed a socket never starts without it.
fn own_socket(service: &Service) -> Option<String> {
    let socket = service.socket.is_some();
    socket.then(|| format!("{}.socket", service.unit.stem()))
}

/// A command line. systemd reads a prefix such as `-` or `+` off the first word even inside quotes,
/// and expands no variables in it, so that word is held to a plain path or name.
fn command(
    making: &Making<'_>,
    what: &str,
    (words, scope): (&[Templated<Word>], &Scope),
) -> Result<String, DesiredError> {
    let mut line = Vec::new();
    for word in words {
        let word = making.resolve(what, word, scope)?;
        if line.is_empty() {
            program(word.as_str()).map_err(|why| making.value_error(what, why))?;
        }
        line.push(systemd_exec_word(word.as_str()).map_err(making.encode_error(what))?);
    }
    Ok(line.join(" "))
}

fn program(word: &str) -> Result<(), String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    let fits = if word.starts_with('/') {
        !word.contains('$') && word.parse::<crate::name::HostPath>().is_ok()
    } else {
        word.starts_with(|c: char| c.is_ascii_alphanumeric()) && word.chars().all(plain)
    };
    if fits {
        Ok(())
    } else {
        Err(format!(
            "the program {word:?} is neither an absolute path nor a plain name; \
             a file of the release is \"{{{{ release.dir }}}}/NAME\""
        ))
    }
}

/// The app's variables, and the service's own over them.
fn environment(
    making: &Making<'_>,
    on_host: &OnHost<'_>,
    service: &Service,
) -> Result<Vec<String>, DesiredError> {
    let what = format!("the environment of {}", service.unit);
    let all: BTreeMap<_, _> = on_host.app.env.iter().chain(&service.environment).collect();
    all.into_iter()
        .map(|(name, value)| {
            let value = making.resolve(&what, value, &on_host.scope)?;
            systemd_environment(name.as_str(), value.as_str()).map_err(making.encode_error(&what))
        })
        .collect()
}

fn credentials(making: &mut Making<'_>, on_host: &OnHost<'_>) -> Vec<String> {
    let app = on_host.app;
    let all: Vec<String> = app
        .secrets
        .iter()
        .filter(|(_, form)| **form == SecretForm::Credential)
        .map(|(name, _)| format!("{name}:{}", app.secret_path(name)))
        .collect();
    if !all.is_empty() {
        making.needs_systemd("LoadCredential=", 247);
    }
    all
}

/// A time as systemd writes it.
fn time(time: Duration) -> String {
    let ms = time.as_millis();
    if ms.is_multiple_of(1000) {
        format!("{}s", ms / 1000)
    } else {
        format!("{ms}ms")
    }
}

fn limits(service: &Service) -> Vec<String> {
    let limits = &service.limits;
    let shown = [
        (
            "MemoryMax",
            limits.memory_max.map(|value| value.to_string()),
        ),
        (
            "MemoryHigh",
            limits.memory_high.map(|value| value.to_string()),
        ),
        ("CPUQuota", limits.cpu_quota.map(|value| value.to_string())),
        ("TasksMax", limits.tasks_max.map(|value| value.to_string())),
        (
            "LimitNOFILE",
            limits.open_files.map(|value| value.to_string()),
        ),
    ];
    shown
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", value?)))
        .collect()
}

fn writable(
    making: &Making<'_>,
    on_host: &OnHost<'_>,
    service: &Service,
) -> Result<Vec<String>, DesiredError> {
    let app = on_host.app;
    let shared = app
        .shared
        .iter()
        .map(|folder| format!("{}/shared/{folder}", app.dir()));
    shared
        .chain(service.writable.iter().map(ToString::to_string))
        .map(|path| systemd_word(&path).map_err(making.encode_error(service.unit.as_str())))
        .collect()
}

/// systemd reads `a:b` as a folder and a link to it.
fn state_dirs(making: &Making<'_>, service: &Service) -> Result<Vec<String>, DesiredError> {
    let what = service.unit.as_str();
    service
        .state_dirs
        .iter()
        .map(|folder| {
            if folder.as_str().contains(':') {
                return Err(making.value_error(what, format!("{folder:?} holds a ':'")));
            }
            systemd_word(folder.as_str()).map_err(making.encode_error(what))
        })
        .collect()
}

/// Drop-ins are files beside the unit.
fn drop_ins(
    making: &mut Making<'_>,
    service: &Service,
    context: &ServiceContext<'_>,
) -> Result<(), DesiredError> {
    for (name, template) in &service.drop_ins {
        let what = format!("/etc/systemd/system/{}.d/{name}", service.unit);
        let rendered = making.render(&what, template, context)?;
        let path = what
            .parse()
            .map_err(|error| making.value_error(&what, format!("{error}")))?;
        let file = File {
            digest: making.text(rendered),
            owner: UserName::root(),
            group: UserName::root(),
            mode: 0o644,
            on_change: if service.timer.is_some() {
                OnChange::DaemonReload
            } else {
                OnChange::Restart(service.unit.clone())
            },
        };
        making.slice.files.insert(path, file);
    }
    Ok(())
}

/// What the template of a timer can name.
#[derive(Serialize)]
struct TimerContext<'a> {
    #[serde(flatten)]
    scope: &'a Scope,
    timer: TimerText<'a>,
}

#[derive(Serialize)]
struct TimerText<'a> {
    service: &'a str,
    on_calendar: Vec<&'a str>,
    persistent: &'static str,
    randomized_delay: String,
}

fn declare_timer(
    making: &mut Making<'_>,
    on_host: &OnHost<'_>,
    (service, timer): (&Service, &Timer),
) -> Result<(), DesiredError> {
    let context = TimerContext {
        scope: &on_host.scope,
        timer: TimerText {
            service: service.unit.as_str(),
            on_calendar: timer.on_calendar.iter().map(Calendar::as_str).collect(),
            persistent: match timer.persistence {
                Persistence::MakeUp => "yes",
                Persistence::Skip => "no",
            },
            randomized_delay: time(timer.randomized_delay),
        },
    };
    let name = beside(making, service, "timer")?;
    let rendered = making.render(name.as_str(), &timer.template, &context)?;
    let unit = Unit {
        digest: making.text(rendered),
        app: on_host.app.name.clone(),
        wanted_by: target("timers.target"),
        runs: Runs::Always,
        on_release: OnRelease::Nothing,
    };
    making.slice.units.insert(name, unit);
    Ok(())
}

/// What the template of a socket can name.
#[derive(Serialize)]
struct SocketContext<'a> {
    #[serde(flatten)]
    scope: &'a Scope,
    socket: SocketText,
}

#[derive(Serialize)]
struct SocketText {
    service: String,
    listen: Vec<String>,
    mode: String,
    user: String,
    group: String,
}

fn declare_socket(
    making: &mut Making<'_>,
    on_host: &OnHost<'_>,
    (service, socket): (&Service, &Socket),
) -> Result<(), DesiredError> {
    let name = beside(making, service, "socket")?;
    let what = name.to_string();
    let app = on_host.app;
    let context = SocketContext {
        scope: &on_host.scope,
        socket: SocketText {
            service: service.unit.to_string(),
            listen: socket
                .listen
                .iter()
                .map(|listen| match listen {
                    ListenStream::Port(port) => Ok(port.to_string()),
                    ListenStream::Address(address) => Ok(address.to_string()),
                    ListenStream::Path(path) => {
                        systemd_text(path.as_str()).map_err(making.encode_error(&what))
                    }
                })
                .collect::<Result<_, _>>()?,
            mode: socket.mode.to_string(),
            user: app.user.to_string(),
            // nginx must be able to connect to what it is a proxy for.
            group: match app.site {
                Some(_) => UserName::nginx().to_string(),
                None => app.user.to_string(),
            },
        },
    };
    let rendered = making.render(&what, &socket.template, &context)?;
    let unit = Unit {
        digest: making.text(rendered),
        app: app.name.clone(),
        wanted_by: target("sockets.target"),
        runs: Runs::Always,
        // The socket stays open across releases: no connection is refused while a service restarts.
        on_release: OnRelease::Nothing,
    };
    making.slice.units.insert(name, unit);
    Ok(())
}

fn beside(making: &Making<'_>, service: &Service, suffix: &str) -> Result<UnitName, DesiredError> {
    let name = format!("{}.{suffix}", service.unit.stem());
    name.parse()
        .map_err(|error| making.value_error(&name, format!("{error}")))
}

/// Units that the operator has written out.
fn own(making: &mut Making<'_>, on_host: &OnHost<'_>) -> Result<(), DesiredError> {
    for (name, own) in &on_host.app.units {
        let rendered = making.render(name.as_str(), &own.template, &on_host.scope)?;
        let starts = own.start == Start::Enabled && !name.is_template();
        let service = name.suffix() == "service";
        let unit = Unit {
            digest: making.text(rendered),
            app: on_host.app.name.clone(),
            wanted_by: match name.suffix() {
                _ if !starts => BTreeSet::new(),
                "timer" => target("timers.target"),
                "socket" => target("sockets.target"),
                _ => target("multi-user.target"),
            },
            runs: if starts { Runs::Always } else { Runs::OnDemand },
            on_release: if starts && service {
                OnRelease::Restart
            } else {
                OnRelease::Nothing
            },
        };
        making.slice.units.insert(name.clone(), unit);
    }
    Ok(())
}
