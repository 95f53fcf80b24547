//! `[apps.NAME.service]` and further services, their timers and sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::problem::Problem;
use super::super::raw;
use super::super::{
    Bytes, Calendar, EnvValue, Hardening, Limits, ListenStream, LowPorts, Mode, Percent,
    Persistence, Reload, Restart, SecretForm, Service, ServiceKind, Signal, Socket, Timer, Word,
    address, split_words,
};
use super::{At, Owner, Resolver};
use crate::name::{AppName, FileName, HostPath, ServiceName, TreePath, UnitName, VariableName};
use crate::template::{Template, TemplateError, TemplateName, Templated};

/// The pause before systemd starts a service again.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// How long a service may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a service may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// The most words of a command line.
const WORDS_MAX: usize = 1000;

impl<'a> Resolver<'a> {
    pub(super) fn services(
        &mut self,
        at: &At<'a>,
        (name, raw): (&AppName, &raw::App),
        (owner, secrets): (&Owner, &BTreeMap<FileName, SecretForm>),
    ) -> Vec<Service> {
        let mut services = Vec::new();
        let app = AppFacts {
            raw,
            owner,
            secrets,
        };
        if let Some(service) = &raw.service {
            let parts = Parts {
                service,
                timer: raw.timer.as_ref(),
                socket: raw.socket.as_ref(),
            };
            let at = Places {
                service: at.key("service"),
                beside: at.clone(),
            };
            services.extend(self.service(&at, (UnitName::service(name), &parts), &app));
        } else if raw.timer.is_some() || raw.socket.is_some() {
            let key = if raw.timer.is_some() {
                "timer"
            } else {
                "socket"
            };
            let help = format!("write [apps.{name}.service], or [apps.{name}.services.NAME.{key}]");
            self.problem_with_help(
                &at.key(key),
                ("there is no service that it could start", &help),
            );
        }
        let further = at.key("services");
        for (key, extra) in raw.services.iter().flatten() {
            let at = further.key(key);
            let Some(unit) = self.further_unit(&at, (name, key)) else {
                continue;
            };
            let parts = Parts {
                service: &extra.service,
                timer: extra.timer.as_ref(),
                socket: extra.socket.as_ref(),
            };
            let at = Places {
                service: at.clone(),
                beside: at,
            };
            services.extend(self.service(&at, (unit, &parts), &app));
        }
        services
    }

    /// The unit of a further service. Its name stands behind the app's, so that it is none of the
    /// system's by itself: `backup` of the app `api` is `api-backup.service`.
    fn further_unit(&mut self, at: &At<'a>, (app, key): (&AppName, &str)) -> Option<UnitName> {
        let name: ServiceName = self.name(at, key)?;
        let unit: UnitName = self.name(at, &format!("{app}-{name}.service"))?;
        if unit.is_the_systems() {
            let why = format!("{}: {unit} is a unit of the system's own", at.path);
            let problem = Problem::new("inventory::name", why).at(at.key_place());
            self.problems
                .push(problem.help("give the app or the service another name"));
        }
        Some(unit)
    }

    fn service(
        &mut self,
        places: &Places<'a>,
        (unit, parts): (UnitName, &Parts<'_>),
        app: &AppFacts<'_>,
    ) -> Option<Service> {
        let (at, raw, owner) = (&places.service, parts.service, app.owner);
        let timer = parts
            .timer
            .map(|raw| self.timer(&places.beside.key("timer"), raw));
        let socket = parts
            .socket
            .map(|raw| self.socket(&places.beside.key("socket"), raw));
        let template = self.own_template(
            &at.key("template"),
            raw.template.as_ref(),
            "systemd/service",
        );
        let kind = kind(raw.kind, parts.timer);
        let restart = restart(raw.restart, (kind, parts.timer));
        if kind == ServiceKind::Oneshot && restart == Restart::Always {
            self.problem(
                &at.key("restart"),
                "systemd does not start a oneshot service always again",
            );
        }
        let described = raw
            .description
            .clone()
            .unwrap_or_else(|| unit.stem().to_owned());
        let description = self.templated::<Word>(&at.key("description"), &described, owner);
        Some(Service {
            exec: self.exec(at, (raw, parts), owner),
            exec_before: self.exec_before(
                &at.key("exec_before"),
                raw.exec_before.as_deref(),
                owner,
            ),
            description: description?,
            template: template?,
            kind,
            working_dir: self.working_dir(&at.key("working_dir"), raw.working_dir.as_deref(), app),
            environment: self.own_environment(
                &at.key("environment"),
                raw.environment.as_ref(),
                app,
            ),
            restart,
            restart_delay: self.duration(
                &at.key("restart_delay"),
                raw.restart_delay.as_ref(),
                RESTART_DELAY,
            ),
            start_timeout: self.start_timeout(at, raw, kind),
            stop_timeout: self.some_duration(
                &at.key("stop_timeout"),
                raw.stop_timeout.as_ref(),
                STOP_TIMEOUT,
            ),
            reload: self.reload(&at.key("reload"), raw.reload.as_ref(), owner),
            limits: self.limits(at, raw),
            hardening: hardening(raw.hardening),
            low_ports: match raw.low_ports {
                Some(true) => LowPorts::Allowed,
                Some(false) | None => LowPorts::Refused,
            },
            writable: self.set(&at.key("writable"), raw.writable.as_ref()),
            state_dirs: self.state_dirs(&at.key("state_dirs"), raw.state_dirs.as_ref()),
            after: self.units_named(&at.key("after"), raw.after.as_ref()),
            wants: self.units_named(&at.key("wants"), raw.wants.as_ref()),
            requires: self.units_named(&at.key("requires"), raw.requires.as_ref()),
            drop_ins: self.drop_ins(&at.key("drop_ins"), raw.drop_ins.as_ref()),
            unit,
            timer,
            socket,
        })
    }

    /// systemd lets the file with the secrets win over what a unit says itself, so that a value which
    /// a secret gives as well would never arrive.
    fn own_environment(
        &mut self,
        at: &At<'a>,
        raw: Option<&BTreeMap<String, String>>,
        app: &AppFacts<'_>,
    ) -> BTreeMap<VariableName, Templated<EnvValue>> {
        let variables = self.environment(at, raw, app.owner);
        for (secret, form) in app.secrets {
            let SecretForm::Variable(name) = form else {
                continue;
            };
            if variables.contains_key(name) {
                let why = format!("the secret {secret} is this variable already, and wins");
                let help = "leave it out here, or give the secret another `variable`";
                self.problem_with_help(&at.key(name.as_str()), (why, help));
            }
        }
        variables
    }

    /// A oneshot service has started once its program has ended, so that a bound on the start would
    /// end a long run half way.
    fn start_timeout(
        &mut self,
        at: &At<'a>,
        raw: &raw::Service,
        kind: ServiceKind,
    ) -> Option<Duration> {
        let text = raw.start_timeout.as_ref();
        let bounded = kind != ServiceKind::Oneshot || text.is_some();
        bounded.then(|| self.some_duration(&at.key("start_timeout"), text, START_TIMEOUT))
    }

    fn exec(
        &mut self,
        at: &At<'a>,
        (raw, parts): (&raw::Service, &Parts<'_>),
        owner: &Owner,
    ) -> Vec<Templated<Word>> {
        let (exec_at, args_at) = (at.key("exec"), at.key("args"));
        let Some(exec) = &raw.exec else {
            if parts.service.template.is_none() {
                let help = "name the program: exec = \"{{ release.dir }}/NAME\"";
                self.problem_with_help(
                    &exec_at,
                    ("a service needs exec, or an own template that has it", help),
                );
            }
            if raw.args.is_some() {
                let why = "it means nothing without exec: an own template has its words already";
                self.problem(&args_at, why);
            }
            return Vec::new();
        };
        let mut words = self.command(&exec_at, exec, owner);
        for (i, text) in raw.args.iter().flatten().enumerate().take(WORDS_MAX) {
            words.extend(self.templated(&args_at.item(i), text, owner));
        }
        words
    }

    /// Reads a command: a text is split into words, a list is words already. The program is an
    /// absolute path, since systemd's search path is not the operator's.
    pub(super) fn command(
        &mut self,
        at: &At<'a>,
        raw: &raw::OneOrMany,
        owner: &Owner,
    ) -> Vec<Templated<Word>> {
        let words = match raw {
            raw::OneOrMany::Many(words) => words.clone(),
            raw::OneOrMany::One(line) => match split_words(line) {
                Ok(words) => words,
                Err(error) => {
                    let help =
                        "write a list of words instead: [\"/usr/bin/program\", \"an argument\"]";
                    self.problem_with_help(at, (error, help));
                    return Vec::new();
                }
            },
        };
        let Some(program) = words.first().filter(|_| words.len() <= WORDS_MAX) else {
            self.problem(at, format!("a command has 1 to {WORDS_MAX} words"));
            return Vec::new();
        };
        self.program(at, program, owner);
        words
            .iter()
            .filter_map(|text| self.templated(at, text, owner))
            .collect()
    }

    fn program(&mut self, at: &At<'a>, text: &str, owner: &Owner) {
        let why = "the program must be an absolute path";
        match Template::parse(text) {
            Ok(template) if template.is_literal() => {
                if !text.starts_with('/') {
                    let name = text.trim_start_matches("./");
                    let help =
                        format!("write \"{{{{ release.dir }}}}/{name}\", or \"/usr/bin/{name}\"");
                    self.problem_with_help(at, (format!("{:?}: {why}", super::short(text)), &help));
                } else if !is_program(text) {
                    let why = format!("{:?}: {NO_PROGRAM}", super::short(text));
                    self.problem_with_help(at, (why, "give the file a plain name"));
                }
            }
            Ok(template) => self.check_later(at, owner, move |scope| {
                let rendered = template.render(scope)?;
                let why = match rendered.starts_with('/') {
                    true if is_program(&rendered) => return Ok(()),
                    true => NO_PROGRAM.to_owned(),
                    false => why.to_owned(),
                };
                Err(TemplateError::Value { rendered, why })
            }),
            Err(_) => {} // Told where the word itself is read.
        }
    }

    fn exec_before(
        &mut self,
        at: &At<'a>,
        raw: Option<&[String]>,
        owner: &Owner,
    ) -> Vec<Vec<Templated<Word>>> {
        let lines = raw.unwrap_or_default().iter().enumerate();
        lines
            .map(|(i, line)| self.command(&at.item(i), &raw::OneOrMany::One(line.clone()), owner))
            .collect()
    }

    fn working_dir(
        &mut self,
        at: &At<'a>,
        raw: Option<&str>,
        app: &AppFacts<'_>,
    ) -> Option<Templated<HostPath>> {
        match raw {
            Some("/") => None,
            Some(text) => self.templated(at, text, app.owner),
            None if app.raw.source.is_some() => {
                self.templated(at, "{{ release.current }}", app.owner)
            }
            None => None,
        }
    }

    fn reload(&mut self, at: &At<'a>, raw: Option<&raw::OneOrMany>, owner: &Owner) -> Reload {
        match raw {
            None => Reload::Restart,
            Some(words @ raw::OneOrMany::Many(_)) => {
                Reload::Command(self.command(at, words, owner))
            }
            Some(raw::OneOrMany::One(signal)) => match signal.strip_prefix("SIG").unwrap_or(signal)
            {
                "HUP" => Reload::Signal(Signal::Hup),
                "USR1" => Reload::Signal(Signal::Usr1),
                "USR2" => Reload::Signal(Signal::Usr2),
                _ => {
                    let help =
                        "write \"HUP\", \"USR1\" or \"USR2\", or a command as a list of words";
                    self.problem_with_help(
                        at,
                        (
                            format!("{:?} is not such a signal", super::short(signal)),
                            help,
                        ),
                    );
                    Reload::Restart
                }
            },
        }
    }

    /// systemd reads `a:b` as a folder and a link to it.
    fn state_dirs(&mut self, at: &At<'a>, raw: Option<&raw::OneOrMany>) -> BTreeSet<TreePath> {
        let folders: BTreeSet<TreePath> = self.set(at, raw);
        if let Some(folder) = folders.iter().find(|it| it.as_str().contains(':')) {
            let why = format!("{:?} holds a ':'", super::short(folder.as_str()));
            self.problem_with_help(at, (why, "give the folder a name without it"));
        }
        folders
    }

    fn limits(&mut self, at: &At<'a>, raw: &raw::Service) -> Limits {
        let mut bytes = |key: &str, text: Option<&String>| {
            text.and_then(|text| self.read::<Bytes>(&at.key(key), text))
        };
        let memory_max = bytes("memory_max", raw.memory_max.as_ref());
        let memory_high = bytes("memory_high", raw.memory_high.as_ref());
        let cpu_quota = raw
            .cpu_quota
            .as_ref()
            .and_then(|text| self.read::<Percent>(&at.key("cpu_quota"), text));
        Limits {
            memory_max,
            memory_high,
            cpu_quota,
            tasks_max: raw.tasks_max,
            open_files: raw.open_files,
        }
    }

    fn units_named(&mut self, at: &At<'a>, raw: Option<&raw::OneOrMany>) -> BTreeSet<UnitName> {
        let texts = raw.map(raw::OneOrMany::as_slice).unwrap_or_default();
        texts
            .iter()
            .enumerate()
            .filter_map(|(i, text)| self.unit(&at.item(i), text))
            .collect()
    }

    fn drop_ins(
        &mut self,
        at: &At<'a>,
        raw: Option<&BTreeMap<String, String>>,
    ) -> BTreeMap<FileName, TemplateName> {
        let mut drop_ins = BTreeMap::new();
        for (key, text) in raw.into_iter().flatten() {
            let at = at.key(key);
            let name = self.name::<FileName>(&at, key);
            if name
                .as_ref()
                .is_some_and(|name| name.as_str().strip_suffix(".conf").is_none())
            {
                self.problem(&at, "systemd reads only drop-ins that end in .conf");
            }
            drop_ins.extend(name.zip(self.template(&at, text)));
        }
        drop_ins
    }

    /// An own template, or the built-in one.
    pub(super) fn own_template(
        &mut self,
        at: &At<'a>,
        raw: Option<&String>,
        built_in: &str,
    ) -> Option<TemplateName> {
        self.template(at, raw.map_or(built_in, String::as_str))
    }

    fn timer(&mut self, at: &At<'a>, raw: &raw::Timer) -> Timer {
        let template =
            self.own_template(&at.key("template"), raw.template.as_ref(), "systemd/timer");
        let on_calendar = self.list::<Calendar>(&at.key("on_calendar"), raw.on_calendar.as_ref());
        if on_calendar.is_empty() && raw.template.is_none() {
            let help = "for example: on_calendar = \"daily\", or \"*-*-* 03:00:00\"";
            self.problem_with_help(&at.key("on_calendar"), ("a timer needs a time", help));
        }
        Timer {
            template: template.unwrap_or_else(TemplateName::timer),
            on_calendar,
            persistence: match raw.persistent {
                Some(false) => Persistence::Skip,
                Some(true) | None => Persistence::MakeUp,
            },
            randomized_delay: self.duration(
                &at.key("randomized_delay"),
                raw.randomized_delay.as_ref(),
                Duration::ZERO,
            ),
        }
    }

    fn socket(&mut self, at: &At<'a>, raw: &raw::Socket) -> Socket {
        let template =
            self.own_template(&at.key("template"), raw.template.as_ref(), "systemd/socket");
        let listen_at = at.key("listen");
        let places = raw
            .listen
            .as_ref()
            .map(raw::Listens::as_slice)
            .unwrap_or_default();
        let mut listen = Vec::new();
        for (i, place) in places.iter().enumerate() {
            let at = listen_at.item(i);
            listen.extend(match place {
                raw::Listen::Port(0) => {
                    self.problem(&at, "a port is a number from 1 to 65535");
                    None
                }
                raw::Listen::Port(port) => Some(ListenStream::Port(*port)),
                raw::Listen::Text(text) if text.starts_with('/') => {
                    self.read(&at, text).map(ListenStream::Path)
                }
                raw::Listen::Text(text) => self.listen_address(&at, text),
            });
        }
        if listen.is_empty() && raw.template.is_none() {
            self.problem_with_help(
                &listen_at,
                ("a socket needs a place", "for example: listen = 8080"),
            );
        }
        Socket {
            template: template.unwrap_or_else(TemplateName::socket),
            listen,
            mode: self.read_or(&at.key("mode"), raw.mode.as_ref(), Mode(0o660)),
        }
    }

    fn listen_address(&mut self, at: &At<'a>, text: &str) -> Option<ListenStream> {
        match (address::port_number(text), address::socket_address(text)) {
            (Ok(port), _) => Some(ListenStream::Port(port)),
            (Err(_), Ok(address)) => Some(ListenStream::Address(address)),
            (Err(_), Err(_)) => {
                let help = "write 8080, \"127.0.0.1:8080\", \"[::1]:8080\" or \"/run/api.sock\"";
                self.problem_with_help(
                    at,
                    (
                        format!("{:?} is no place to listen", super::short(text)),
                        help,
                    ),
                );
                None
            }
        }
    }
}

/// What a service needs to know of its app.
struct AppFacts<'r> {
    raw: &'r raw::App,
    owner: &'r Owner,
    secrets: &'r BTreeMap<FileName, SecretForm>,
}

/// A service with what starts it, wherever they are written.
struct Parts<'r> {
    service: &'r raw::Service,
    timer: Option<&'r raw::Timer>,
    socket: Option<&'r raw::Socket>,
}

/// Where a service is written, and where its timer and socket are.
struct Places<'a> {
    service: At<'a>,
    beside: At<'a>,
}

const NO_PROGRAM: &str = "systemd expands nothing in a program, so it is a plain path without '$'";

fn is_program(text: &str) -> bool {
    !text.contains('$') && text.parse::<HostPath>().is_ok()
}

fn kind(raw: Option<raw::ServiceKind>, timer: Option<&raw::Timer>) -> ServiceKind {
    let absent = timer.map_or(raw::ServiceKind::Exec, |_| raw::ServiceKind::Oneshot);
    match raw.unwrap_or(absent) {
        raw::ServiceKind::Notify => ServiceKind::Notify,
        raw::ServiceKind::Simple => ServiceKind::Simple,
        raw::ServiceKind::Oneshot => ServiceKind::Oneshot,
        raw::ServiceKind::Forking => ServiceKind::Forking,
        raw::ServiceKind::Exec => ServiceKind::Exec,
    }
}

/// What a timer runs is meant to end, however systemd knows that it has started.
fn restart(
    raw: Option<raw::Restart>,
    (kind, timer): (ServiceKind, Option<&raw::Timer>),
) -> Restart {
    let absent = if kind == ServiceKind::Oneshot || timer.is_some() {
        raw::Restart::No
    } else {
        raw::Restart::Always
    };
    match raw.unwrap_or(absent) {
        raw::Restart::Always => Restart::Always,
        raw::Restart::OnFailure => Restart::OnFailure,
        raw::Restart::No => Restart::No,
    }
}

fn hardening(raw: Option<raw::Hardening>) -> Hardening {
    match raw {
        Some(raw::Hardening::Node) => Hardening::Node,
        Some(raw::Hardening::Jvm) => Hardening::Jvm,
        Some(raw::Hardening::Browser) => Hardening::Browser,
        Some(raw::Hardening::Off) => Hardening::Off,
        Some(raw::Hardening::Strict) | None => Hardening::Strict,
    }
}
