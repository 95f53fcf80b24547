//! `[apps.NAME]`.

use std::collections::{BTreeMap, BTreeSet};

use push_wire::ground;

use super::super::problem::Problem;
use super::super::raw;
use super::super::{App, Build, EnvValue, OwnUnit, SECRET_VARIABLES, SecretForm, Start};
use super::{At, Owner, Resolver};
use crate::name::{AppName, FileName, TreePath, UnitName, UserName, VariableName};
use crate::template::Templated;

/// The most apps of an environment.
const APPS_MAX: usize = 500;

/// The longest build command, in bytes.
const BUILD_BYTES_MAX: usize = 64 * 1024;

/// The most secrets of one app.
const SECRETS_MAX: usize = 200;

impl<'a> Resolver<'a> {
    pub(super) fn apps(
        &mut self,
        at: &At<'a>,
        raw: Option<&BTreeMap<String, raw::App>>,
    ) -> BTreeMap<AppName, App> {
        let mut apps = BTreeMap::new();
        if raw.map_or(0, BTreeMap::len) > APPS_MAX {
            self.problem(at, format!("there are at most {APPS_MAX} apps"));
        }
        for (key, raw) in raw.into_iter().flatten().take(APPS_MAX) {
            let at = at.key(key);
            if let Some(name) = self.name::<AppName>(&at, key) {
                if name.is_pushs() {
                    let why = format!("{}: names that start with push- are push's own", at.path);
                    let problem = Problem::new("inventory::name", why).at(at.key_place());
                    self.problems
                        .push(problem.help("name the app after what it is"));
                }
                let app = self.app(&at, (name, raw));
                apps.insert(app.name.clone(), app);
            }
        }
        apps
    }

    fn app(&mut self, at: &At<'a>, (name, raw): (AppName, &raw::App)) -> App {
        let owner = Owner::App(name.clone());
        let secrets = self.secrets(&at.key("secrets"), raw.secrets.as_deref());
        let env = self.environment(&at.key("env"), raw.env.as_ref(), &owner);
        self.variables_once(at, (&env, &secrets));
        let ports = at.key("ports");
        if raw.ports.iter().flatten().any(|port| *port == 0) {
            self.problem(&ports, "a port is a number from 1 to 65535");
        }
        let services = self.services(at, (&name, raw), (&owner, &secrets));
        let health = self.health(&at.key("health"), (raw.health.as_ref(), &secrets), &owner);
        let site = raw
            .site
            .as_ref()
            .map(|raw| self.site(&at.key("site"), raw, &owner));
        App {
            on: self.on(&at.key("on"), raw.on.as_ref()),
            build: raw
                .build
                .as_deref()
                .and_then(|text| self.build(&at.key("build"), text)),
            source: raw
                .source
                .as_deref()
                .and_then(|text| self.file(&at.key("source"), text)),
            user: self.read_or(&at.key("user"), raw.user.as_ref(), UserName::from(&name)),
            env,
            secrets,
            shared: self.shared(&at.key("shared"), raw.shared.as_ref()),
            ports: raw.ports.iter().flatten().copied().collect(),
            services,
            units: self.units(&at.key("units"), raw.units.as_ref()),
            health,
            site,
            name,
        }
    }

    fn build(&mut self, at: &At<'a>, text: &str) -> Option<Build> {
        if text.trim().is_empty() || text.len() > BUILD_BYTES_MAX || text.contains('\0') {
            self.problem(
                at,
                "a build command is a text of 1 to 65536 bytes without NUL",
            );
            return None;
        }
        Some(Build(text.to_owned()))
    }

    fn shared(&mut self, at: &At<'a>, raw: Option<&raw::OneOrMany>) -> BTreeSet<TreePath> {
        let shared: BTreeSet<TreePath> = self.list(at, raw).into_iter().collect();
        if shared
            .iter()
            .any(|path| path.as_str().chars().any(char::is_control))
        {
            self.problem(at, "a shared folder's path cannot hold control characters");
        }
        if let Some(path) = ground::nested(&shared) {
            self.problem(at, format!("{path:?} is inside of another shared folder"));
        }
        shared
    }

    pub(super) fn environment(
        &mut self,
        at: &At<'a>,
        raw: Option<&BTreeMap<String, String>>,
        owner: &Owner,
    ) -> BTreeMap<VariableName, Templated<EnvValue>> {
        let mut variables = BTreeMap::new();
        for (key, text) in raw.into_iter().flatten() {
            let at = at.key(key);
            let name = self.name::<VariableName>(&at, key);
            let value = self.templated::<EnvValue>(&at, text, owner);
            variables.extend(name.zip(value));
        }
        variables
    }

    /// A variable has one source.
    fn variables_once(
        &mut self,
        at: &At<'a>,
        (env, secrets): (
            &BTreeMap<VariableName, Templated<EnvValue>>,
            &BTreeMap<FileName, SecretForm>,
        ),
    ) {
        let mut seen: BTreeSet<&VariableName> = env.keys().collect();
        for form in secrets.values() {
            let SecretForm::Variable(name) = form else {
                continue;
            };
            if !seen.insert(name) {
                self.problem(
                    &at.key("secrets"),
                    format!("the variable {name} is given twice: by env or by another secret, too"),
                );
            }
        }
    }

    fn secrets(
        &mut self,
        at: &At<'a>,
        raw: Option<&[raw::SecretUse]>,
    ) -> BTreeMap<FileName, SecretForm> {
        let mut secrets = BTreeMap::new();
        if raw.map_or(0, <[_]>::len) > SECRETS_MAX {
            self.problem(at, format!("an app has at most {SECRETS_MAX} secrets"));
        }
        for (i, raw) in raw.into_iter().flatten().enumerate().take(SECRETS_MAX) {
            let at = at.item(i);
            let Some((name, form)) = self.secret(&at, raw) else {
                continue;
            };
            if secrets.insert(name.clone(), form).is_some() {
                self.problem(&at, format!("the secret {name} is in this list twice"));
            }
        }
        self.environment_file(at, &secrets);
        secrets
    }

    /// Secrets that become variables stand together in a file, which no other secret can be.
    fn environment_file(&mut self, at: &At<'a>, secrets: &BTreeMap<FileName, SecretForm>) {
        let is_variable = |form: &SecretForm| matches!(form, SecretForm::Variable(_));
        let own = secrets.get(SECRET_VARIABLES);
        if own.is_some_and(|form| !is_variable(form)) && secrets.values().any(is_variable) {
            let why = format!(
                "the app's secret variables need a file called {SECRET_VARIABLES} themselves"
            );
            self.problem_with_help(at, (why, "rename the secret"));
        }
    }

    fn secret(&mut self, at: &At<'a>, raw: &raw::SecretUse) -> Option<(FileName, SecretForm)> {
        let table = match raw {
            raw::SecretUse::Name(text) => {
                return Some((self.secret_name(at, text)?, SecretForm::Credential));
            }
            raw::SecretUse::Form(table) => table,
        };
        if let Some(template) = &table.template {
            return self.rendered(at, (table, template));
        }
        let name = self.secret_name(&at.key("name"), &table.name)?;
        let form = match table.form {
            None | Some(raw::SecretForm::Credential) => SecretForm::Credential,
            Some(raw::SecretForm::File) => SecretForm::File,
            Some(raw::SecretForm::Env) => {
                let capitals = name.as_str().to_ascii_uppercase().replace(['-', '.'], "_");
                let text = table.variable.as_ref().unwrap_or(&capitals);
                return Some((
                    name,
                    SecretForm::Variable(self.read(&at.key("variable"), text)?),
                ));
            }
        };
        if table.variable.is_some() {
            self.problem(
                &at.key("variable"),
                "only a secret with as = \"env\" becomes a variable",
            );
        }
        Some((name, form))
    }

    /// A file that a template makes around secrets, each of which must exist.
    fn rendered(
        &mut self,
        at: &At<'a>,
        (table, template): (&raw::SecretFormTable, &str),
    ) -> Option<(FileName, SecretForm)> {
        let name: FileName = self.read(&at.key("name"), &table.name)?;
        let at_template = at.key("template");
        if table.form != Some(raw::SecretForm::File) || table.variable.is_some() {
            self.problem(
                &at_template,
                "only a secret with as = \"file\" has a template",
            );
        }
        let template = self.template(&at_template, template)?;
        let named = match self.templates.secrets_named(&template) {
            Ok(named) => named,
            Err(error) => {
                self.problem_with_help(&at_template, (&error, &error.help()));
                return None;
            }
        };
        if named.is_empty() {
            let help = "write {{ secret_value(\"NAME\") }} where one is to stand, or declare the file under [files]";
            self.problem_with_help(
                &at_template,
                (format!("templates/{template} names no secret"), help),
            );
        }
        let names = named
            .iter()
            .filter_map(|name| self.secret_name(&at_template, name))
            .collect();
        Some((name, SecretForm::Rendered { template, names }))
    }

    fn units(
        &mut self,
        at: &At<'a>,
        raw: Option<&BTreeMap<String, raw::OwnUnit>>,
    ) -> BTreeMap<UnitName, OwnUnit> {
        let mut units = BTreeMap::new();
        for (key, raw) in raw.into_iter().flatten() {
            let at = at.key(key);
            let name = self.name::<UnitName>(&at, key);
            let template = self.template(&at.key("template"), &raw.template);
            if name.as_ref().is_some_and(UnitName::is_the_systems) {
                let help =
                    "write a drop-in for it: [files.\"/etc/systemd/system/UNIT.d/50-own.conf\"]";
                self.problem_with_help(&at, ("this unit is the system's own, or push's", help));
            }
            let start = match raw.start {
                Some(false) => Start::OnDemand,
                Some(true) | None => Start::Enabled,
            };
            units.extend(name.zip(template.map(|template| OwnUnit { template, start })));
        }
        units
    }

    /// Whether `secret` is one that the app's services are given.
    pub(super) fn own_secret(
        &mut self,
        at: &At<'a>,
        text: &str,
        secrets: &BTreeMap<FileName, SecretForm>,
    ) -> Option<FileName> {
        let name: FileName = self.read(at, text)?;
        if !secrets.contains_key(&name) {
            let help = format!("add it to the app's secrets: secrets = [\"{name}\"]");
            self.problem_with_help(at, (format!("the app has no secret {name}"), &help));
        }
        Some(name)
    }
}
