//! `[files."/path"]`.

use std::collections::BTreeMap;

use push_wire::ground::{self, Taken};

use super::super::raw;
use super::super::{FileContent, Files, ManagedFile, Mode, OnChange, nearest};
use super::{At, Owner, Resolver};
use crate::name::{HostPath, UnitName, UserName};
use crate::template::Template;

/// The most files.
const FILES_MAX: usize = 1000;

/// The longest content that stands in the inventory itself, in bytes.
const CONTENT_BYTES_MAX: usize = 256 * 1024;

impl<'a> Resolver<'a> {
    pub(super) fn files(
        &mut self,
        at: &At<'a>,
        raw: Option<&BTreeMap<String, raw::File>>,
    ) -> Files {
        let mut files = Files::new();
        if raw.map_or(0, BTreeMap::len) > FILES_MAX {
            self.problem(
                at,
                format!("there are at most {FILES_MAX} files; ship a directory as an app"),
            );
        }
        for (key, raw) in raw.into_iter().flatten().take(FILES_MAX) {
            let at = at.key(key);
            let Some(path) = self.name::<HostPath>(&at, key) else {
                continue;
            };
            match ground::taken(&path) {
                Some(Taken::Folder(folder, why)) => {
                    self.problem(&at, format!("files below {folder} are not declared: {why}"));
                }
                Some(Taken::File(_, why)) => {
                    self.problem(&at, format!("this file is not declared: {why}"));
                }
                None => {}
            }
            if let Some(file) = self.managed(&at, raw) {
                files.insert(path, file);
            }
        }
        files
    }

    fn managed(&mut self, at: &At<'a>, raw: &raw::File) -> Option<ManagedFile> {
        let on = self.on(&at.key("on"), raw.on.as_ref());
        let owner = self.read_or(&at.key("owner"), raw.owner.as_ref(), UserName::root());
        let group = self.read_or(&at.key("group"), raw.group.as_ref(), owner.clone());
        let mode = self.read_or(&at.key("mode"), raw.mode.as_ref(), Mode(0o644));
        let on_change = self.on_change(&at.key("on_change"), raw.on_change.as_ref());
        let hosts = Owner::Hosts(on.clone());
        let content = match (&raw.template, &raw.source, &raw.content) {
            (Some(name), None, None) => {
                FileContent::Template(self.template(&at.key("template"), name)?)
            }
            (None, Some(path), None) => FileContent::Source(self.file(&at.key("source"), path)?),
            (None, None, Some(text)) => {
                FileContent::Text(self.text(&at.key("content"), text, &hosts)?)
            }
            _ => {
                self.problem(at, "exactly one of template, source and content is needed");
                return None;
            }
        };
        Some(ManagedFile {
            on,
            content,
            owner,
            group,
            mode,
            on_change,
        })
    }

    fn text(&mut self, at: &At<'a>, text: &str, owner: &Owner) -> Option<Template> {
        if text.len() > CONTENT_BYTES_MAX {
            self.problem(at, "it is longer than 256 KiB; use source");
            return None;
        }
        match Template::parse(text) {
            Ok(template) => {
                let check = template.clone();
                if !template.is_literal() {
                    self.check_later(at, owner, move |scope| check.render(scope).map(drop));
                }
                Some(template)
            }
            Err(error) => {
                self.problem_with_help(at, (&error, &error.help()));
                None
            }
        }
    }

    fn on_change(&mut self, at: &At<'a>, raw: Option<&raw::OnChange>) -> OnChange {
        match raw {
            None | Some(raw::OnChange::Word(raw::OnChangeWord::None)) => OnChange::Nothing,
            Some(raw::OnChange::Word(raw::OnChangeWord::Sysctl)) => OnChange::Sysctl,
            Some(raw::OnChange::Word(raw::OnChangeWord::DaemonReload)) => OnChange::DaemonReload,
            Some(raw::OnChange::Unit(unit)) => match (&unit.restart, &unit.reload) {
                (Some(unit), None) => self
                    .unit(&at.key("restart"), unit)
                    .map_or(OnChange::Nothing, OnChange::Restart),
                (None, Some(unit)) => self
                    .unit(&at.key("reload"), unit)
                    .map_or(OnChange::Nothing, OnChange::Reload),
                _ => {
                    self.problem(at, "exactly one of restart and reload is needed");
                    OnChange::Nothing
                }
            },
        }
    }

    /// Reads the name of any unit, the system's own included. A word without a type gets a guess.
    pub(super) fn unit(&mut self, at: &At<'a>, text: &str) -> Option<UnitName> {
        let types = ["service", "socket", "timer", "target", "path", "mount"];
        let suffix = text.rsplit_once('.').map_or("", |(_, suffix)| suffix);
        if !types.contains(&suffix) && format!("{text}.service").parse::<UnitName>().is_ok() {
            let guess = nearest::nearest(suffix, &types).unwrap_or("service");
            let stem = text.strip_suffix(&format!(".{suffix}")).unwrap_or(text);
            let help = format!("did you mean \"{stem}.{guess}\"?");
            self.problem_with_help(at, (format!("{text:?} names no type of unit"), &help));
            return None;
        }
        self.read(at, text)
    }
}
