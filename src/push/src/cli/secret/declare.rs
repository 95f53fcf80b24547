//! The lines of an inventory that say who may open what. Comments, order and everything else stay as
//! they are written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

use super::super::Stop;
use super::place::Secrets;
use crate::inventory::{FOLDER, Readers};
use crate::report::Complaint;

/// Another text for the environment's own inventory, and the one that it was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// What stood there.
    pub from: String,
    /// What shall stand there.
    pub to: String,
}

/// The text of the environment's own inventory when it shall declare `after`, where it declares
/// `before` now.
pub fn draft(secrets: &Secrets, before: &Readers, after: &Readers) -> Result<Draft, Stop> {
    let file = format!("{FOLDER}/{}.toml", secrets.environment);
    let unreadable = |why: String| {
        Stop::usage(
            Complaint::new(format!("{file} cannot be changed: {why}"))
                .help("change its [secrets] yourself, then `push secret rekey ENVIRONMENT`"),
        )
    };
    let from = fs::read_to_string(secrets.root().join(&file))
        .map_err(|error| unreadable(error.to_string()))?;
    let to = changed(&from, before, after).map_err(unreadable)?;
    Ok(Draft { from, to })
}

fn changed(old: &str, before: &Readers, after: &Readers) -> Result<String, String> {
    let mut document: DocumentMut = old.parse().map_err(|_| "it is not TOML".to_owned())?;
    let people = |readers: &Readers| lists(&readers.people);
    write(&mut document, "people", (people(before), people(after)))?;
    let groups = |readers: &Readers| lists(&readers.groups);
    write(&mut document, "groups", (groups(before), groups(after)))?;
    let lines = |readers: &Readers| {
        let mut lines = lists(&readers.own);
        // An empty line says something, too: that the one of an inventory which this extends is not meant.
        if !(before.every.is_empty() && after.every.is_empty()) {
            let words = readers.every.iter().map(ToString::to_string);
            lines.insert("*".to_owned(), words.collect());
        }
        lines
    };
    write(&mut document, "readers", (lines(before), lines(after)))?;
    Ok(document.to_string())
}

type Lists = BTreeMap<String, BTreeSet<String>>;

fn lists<'a, K, L, V>(all: &'a BTreeMap<K, L>) -> Lists
where
    K: ToString,
    &'a L: IntoIterator<Item = &'a V>,
    V: ToString + 'a,
{
    let texts = |list: &'a L| list.into_iter().map(ToString::to_string).collect();
    all.iter()
        .map(|(name, list)| (name.to_string(), texts(list)))
        .collect()
}

/// Writes the lines of one table that differ. A line that another file declares is not taken out: an
/// environment can only say something else than what it extends.
fn write(
    document: &mut DocumentMut,
    key: &str,
    (before, after): (Lists, Lists),
) -> Result<(), String> {
    let differs = |name: &&String| before.get(*name) != after.get(*name);
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).filter(differs).collect();
    if names.is_empty() {
        return Ok(());
    }
    let table = table(document, key)?;
    for name in names {
        match after.get(name) {
            None => drop(table.remove(name)),
            Some(list) => set(table, name, list),
        }
    }
    Ok(())
}

/// The table `secrets.KEY`, made if it is missing.
fn table<'a>(document: &'a mut DocumentMut, key: &str) -> Result<&'a mut dyn TableLike, String> {
    let wrong = || format!("secrets.{key} is no table in it");
    let secrets = document
        .entry("secrets")
        .or_insert_with(|| {
            let mut table = Table::new();
            table.set_implicit(true);
            Item::Table(table)
        })
        .as_table_like_mut()
        .ok_or_else(wrong)?;
    secrets
        .entry(key)
        .or_insert_with(|| Item::Table(Table::new()))
        .as_table_like_mut()
        .ok_or_else(wrong)
}

/// Sets one list. A list that is there keeps its shape and its comments, and a text the comments around it.
fn set(table: &mut dyn TableLike, name: &str, list: &BTreeSet<String>) {
    if list.len() > 1 {
        widen(table, name, list);
    }
    if let Some(array) = table.get_mut(name).and_then(Item::as_array_mut) {
        array.retain(|item| item.as_str().is_some_and(|text| same(list, text)));
        let there: BTreeSet<String> = array.iter().filter_map(Value::as_str).map(key_of).collect();
        let before = array.iter().last().and_then(|last| last.decor().prefix());
        let before = before.and_then(|prefix| prefix.as_str()).map(str::to_owned);
        for text in list.iter().filter(|text| !there.contains(*text)) {
            let mut value = Value::from(text.as_str());
            // One line each, where it was so.
            if let Some(prefix) = before.as_deref().filter(|prefix| prefix.contains('\n')) {
                value.decor_mut().set_prefix(format!(
                    "\n{}",
                    prefix.rsplit('\n').next().unwrap_or_default()
                ));
                array.push_formatted(value);
            } else {
                array.push(value);
            }
        }
        return;
    }
    let value = match list.iter().collect::<Vec<_>>().as_slice() {
        [one] if !name.contains('*') && one.contains(' ') || one.starts_with("age1") => {
            Value::from(one.as_str())
        }
        texts => Value::from(texts.iter().map(|text| text.as_str()).collect::<Array>()),
    };
    match table.get_mut(name) {
        Some(Item::Value(old)) => replace(old, value),
        _ => drop(table.insert(name, Item::Value(value))),
    }
}

/// Makes a text that stays the first of a list, as it is written.
fn widen(table: &mut dyn TableLike, name: &str, list: &BTreeSet<String>) {
    if let Some(Item::Value(old)) = table.get_mut(name)
        && let Some(text) = old.as_str().filter(|text| same(list, text))
    {
        let alone = Value::from(Array::from_iter([text]));
        replace(old, alone);
    }
}

/// Replaces a value and keeps what is written around it.
fn replace(old: &mut Value, new: Value) {
    let decor = old.decor().clone();
    *old = new;
    *old.decor_mut() = decor;
}

/// Whether a list holds a text, which may be a key with a comment behind it.
fn same(list: &BTreeSet<String>, text: &str) -> bool {
    list.contains(&key_of(text))
}

/// A key without its comment; any other text as it is.
fn key_of(text: &str) -> String {
    text.parse::<crate::inventory::PublicKey>()
        .map_or_else(|_| text.to_owned(), |key| key.to_string())
}

#[cfg(test)]
mod tests {
    use age::secrecy::ExposeSecret as _;

    use super::*;
    use crate::cli::secret::place::Purpose;
    use crate::cli::secret::rekey;
    use crate::inventory::Who;
    use crate::report::{Form, Report, screen::Motion};

    const ANN: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";
    const BOB: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJLGgqmjsM0vvbVIgRVNDYHYEqFnVVqL2Ju46oDtJJ2f";

    fn readers(people: &[(&str, &str)], every: &[&str]) -> Readers {
        let mut readers = Readers::default();
        for (name, key) in people {
            let keys = vec![key.parse().unwrap()];
            readers.people.insert(name.parse().unwrap(), keys);
        }
        readers.every = every
            .iter()
            .map(|word| word.parse::<Who>().unwrap())
            .collect();
        readers
    }

    #[test]
    fn comments_order_and_shape_stay_when_somebody_is_added() {
        let old = format!(
            "# the shop\nproject = \"shop\"   # its name\n\n[secrets]\nidentities = [\"key\"]\n\n[secrets.people] # who\nann = \"{ANN}\" # on call\n\n[secrets.readers]\n\"*\" = [\n    \"ann\", # first\n]\n\n[hosts.web1]\n"
        );
        let before = readers(&[("ann", ANN)], &["ann"]);
        let after = readers(&[("ann", ANN), ("bob", BOB)], &["ann", "bob", "hosts"]);
        let new = changed(&old, &before, &after).unwrap();
        let wanted = old
            .replace("# on call\n", &format!("# on call\nbob = \"{BOB}\"\n"))
            .replace(
                "    \"ann\", # first\n]",
                "    \"ann\",\n    \"bob\",\n    \"hosts\", # first\n]",
            );
        assert_eq!(new, wanted, "{new}");
        // And taken out again, the list holds what it held.
        let back = changed(&new, &after, &before).unwrap();
        assert!(back.contains("\"ann\"") && !back.contains("bob") && !back.contains("\"hosts\""));
    }

    #[test]
    fn comments_around_a_text_stay_when_it_becomes_a_list_or_another_text() {
        let old = format!(
            "[secrets.people]\n# The one who is on call.\nann = \"{BOB} ann@laptop\" # laptop\n\n\
             [secrets.readers]\n# For now.\n\"*\" = \"ann\" # all\n"
        );
        let before = readers(&[("ann", BOB)], &["ann"]);
        let mut after = readers(&[("ann", BOB)], &["ann", "hosts"]);
        let keys = [BOB, ANN].map(|key| key.parse().unwrap());
        after.people.insert("ann".parse().unwrap(), keys.into());
        let new = changed(&old, &before, &after).unwrap();
        let wanted = old
            .replace(
                &format!("\"{BOB} ann@laptop\""),
                &format!("[\"{BOB} ann@laptop\", \"{ANN}\"]"),
            )
            .replace("\"*\" = \"ann\"", "\"*\" = [\"ann\", \"hosts\"]");
        assert_eq!(new, wanted, "{new}");

        let other = readers(&[("ann", ANN)], &["hosts"]);
        let new = changed(&old, &before, &other).unwrap();
        let wanted = old
            .replace(&format!("{BOB} ann@laptop"), ANN)
            .replace("\"*\" = \"ann\"", "\"*\" = [\"hosts\"]");
        assert_eq!(new, wanted, "{new}");
    }

    #[test]
    fn an_inventory_that_declares_nobody_gets_the_tables() {
        let new = changed(
            "project = \"shop\"\n",
            &Readers::default(),
            &readers(&[("ann", ANN)], &["ann", "hosts"]),
        )
        .unwrap();
        assert_eq!(
            new,
            format!(
                "project = \"shop\"\n\n[secrets.people]\nann = \"{ANN}\"\n\n[secrets.readers]\n\"*\" = [\"ann\", \"hosts\"]\n"
            )
        );
    }

    #[test]
    fn what_somebody_saved_while_a_passphrase_was_typed_stays_and_nothing_is_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let inventory = root.join("inventory/prod.toml");
        let identity = age::x25519::Identity::generate();
        let me = identity.to_public().to_string();
        fs::create_dir_all(root.join("inventory/secrets/prod")).unwrap();
        fs::write(root.join("key"), identity.to_string().expose_secret()).unwrap();
        let old = format!(
            "project = \"shop\"\nhosts.web1.address = \"192.0.2.1\"\n[secrets]\nidentities = [\"key\"]\n\
             people.me = \"{me}\"\nreaders.\"*\" = \"me\"\n"
        );
        fs::write(&inventory, &old).unwrap();
        let sealed = crate::secret::seal(b"value", &[me.parse().unwrap()]).unwrap();
        let file = root.join("inventory/secrets/prod/url.age");
        fs::write(&file, &sealed).unwrap();

        let (report, _, _) = Report::for_test(Form::Text, Motion::Silent);
        let place = (Some("prod"), root);
        let mut secrets = Secrets::open(place, Purpose::Change, &report).unwrap();
        let before = secrets.fleet().readers.clone();
        let mut after = before.clone();
        after.every.insert("hosts".parse().unwrap());
        let draft = draft(&secrets, &before, &after).unwrap();
        let contents = rekey::opened(&secrets, &["url".parse().unwrap()]).unwrap();
        let theirs = format!("{old}# saved meanwhile\n");
        fs::write(&inventory, &theirs).unwrap();
        let refused = secrets.write(&contents, Some(&draft)).unwrap_err();
        assert!(
            format!("{refused:?}").contains("changed by somebody else"),
            "{refused:?}"
        );
        assert_eq!(fs::read_to_string(&inventory).unwrap(), theirs);
        assert_eq!(fs::read(&file).unwrap(), sealed);
        assert!(!root.join("inventory/secrets/secrets.lock").exists());

        fs::write(&inventory, &old).unwrap();
        secrets.write(&contents, Some(&draft)).unwrap();
        assert_eq!(fs::read_to_string(&inventory).unwrap(), draft.to);
    }
}
