//! `[secrets]`: people, groups, and who may open what.

use std::collections::{BTreeMap, BTreeSet};

use super::super::raw::{self, OneOrMany};
use super::super::readers::EVERY;
use super::super::{Problem, PublicKey, PublicKeyError, Readers, Who, nearest};
use super::{At, Resolver};
use crate::name::{FileName, PersonName};

/// The most people, groups or lines each.
const LINES_MAX: usize = 1000;

type Lines = BTreeMap<String, OneOrMany>;

impl<'a> Resolver<'a> {
    pub(super) fn readers(&mut self, at: &At<'a>, raw: Option<&raw::Secrets>) -> Readers {
        let Some(raw) = raw else {
            return Readers::default();
        };
        let mut readers = Readers::default();
        let people = at.key("people");
        for (at, key, texts) in self.lines(&people, raw.people.as_ref()) {
            let Some(name) = self.name::<PersonName>(&at, key) else {
                continue;
            };
            let keys = self.keys(&at, texts);
            readers.people.insert(name, keys);
        }
        let groups = at.key("groups");
        for (at, key, texts) in self.lines(&groups, raw.groups.as_ref()) {
            let Some(name) = self.name::<PersonName>(&at, key) else {
                continue;
            };
            if readers.people.contains_key(&name) {
                self.problem(
                    &at,
                    format!("{name} is a person already; call the group something else"),
                );
            }
            let members = self.members(&at, texts, &readers);
            readers.groups.insert(name, members);
        }
        let lines = at.key("readers");
        for (at, key, texts) in self.lines(&lines, raw.readers.as_ref()) {
            let words = self.words(&at, texts, &readers);
            if key == EVERY {
                readers.every = words;
            } else if let Some(secret) = self.name::<FileName>(&at, key) {
                readers.own.insert(secret, words);
            }
        }
        readers
    }

    /// The lines of a table, each with its place.
    fn lines<'r>(
        &mut self,
        at: &At<'a>,
        raw: Option<&'r Lines>,
    ) -> Vec<(At<'a>, &'r str, &'r [String])> {
        if raw.map_or(0, BTreeMap::len) > LINES_MAX {
            self.problem(at, format!("there are at most {LINES_MAX} lines"));
        }
        raw.into_iter()
            .flatten()
            .take(LINES_MAX)
            .map(|(key, texts)| (at.key(key), key.as_str(), texts.as_slice()))
            .collect()
    }

    fn keys(&mut self, at: &At<'a>, texts: &[String]) -> Vec<PublicKey> {
        if texts.is_empty() {
            self.problem(at, "at least one public key is needed");
        }
        let mut keys = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            match text.parse() {
                Ok(key) => keys.push(key),
                // The line is not drawn: it would show the key to whoever reads the message.
                Err(error @ PublicKeyError::SecretKey) => self.problems.push(
                    Problem::new("inventory::value", format!("{}: {error}", at.path))
                        .help(error.help()),
                ),
                Err(error @ PublicKeyError::Wrong { .. }) => {
                    self.problem_with_help(&at.item(i), (&error, error.help()));
                }
            }
        }
        keys
    }

    fn members(
        &mut self,
        at: &At<'a>,
        texts: &[String],
        readers: &Readers,
    ) -> BTreeSet<PersonName> {
        let mut members = BTreeSet::new();
        for (i, text) in texts.iter().enumerate() {
            let at = at.item(i);
            let Some(name) = self.read::<PersonName>(&at, text) else {
                continue;
            };
            if !readers.people.contains_key(&name) {
                let known: Vec<&str> = readers.people.keys().map(PersonName::as_str).collect();
                self.unknown(&at, text, &known);
            }
            members.insert(name);
        }
        members
    }

    fn words(&mut self, at: &At<'a>, texts: &[String], readers: &Readers) -> BTreeSet<Who> {
        let mut words = BTreeSet::new();
        for (i, text) in texts.iter().enumerate() {
            let at = at.item(i);
            let Some(word) = self.read::<Who>(&at, text) else {
                continue;
            };
            if let Who::Named(name) = &word
                && !readers.people.contains_key(name)
                && !readers.groups.contains_key(name)
            {
                self.unknown(&at, text, &readers.words());
            }
            words.insert(word);
        }
        words
    }

    fn unknown(&mut self, at: &At<'a>, text: &str, known: &[&str]) {
        let help = match nearest::nearest(text, known) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("declare the key: secrets.people.{text} = \"ssh-ed25519 AAAA…\""),
        };
        self.problem_with_help(
            at,
            (format!("nobody is called {text:?} under [secrets]"), &help),
        );
    }
}
