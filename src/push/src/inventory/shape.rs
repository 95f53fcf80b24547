//! Holds a tree against the schema: unknown keys, wrong types, numbers out of range. All of them at
//! once, each at its place, where serde would stop at the first and lose the place.

use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::Value as Json;

use super::document::{Node, Value};
use super::nearest::nearest;
use super::problem::{Problem, Problems};
use super::raw;

/// How many known keys a message lists at most.
const LISTED_MAX: usize = 40;

static SCHEMA: LazyLock<Json> = LazyLock::new(|| {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema: Json = generator.into_root_schema_for::<raw::Inventory>().into();
    tidy(&mut schema);
    schema
});

/// The JSON schema of an inventory, for editors.
pub fn schema() -> Json {
    SCHEMA.clone()
}

/// TOML has no null, and a table has no keys but those it is documented with.
fn tidy(schema: &mut Json) {
    let Json::Object(fields) = schema else { return };
    fields.remove("default");
    for choice in ["anyOf", "type", "enum"] {
        if let Some(Json::Array(list)) = fields.get_mut(choice) {
            list.retain(|each| *each != "null" && !each.is_null() && each["type"] != "null");
        }
    }
    if let Some(only) = fields.get("type").and_then(single) {
        fields.insert("type".to_owned(), only);
    }
    if let Some(Json::Object(only)) = fields.get("anyOf").and_then(single) {
        fields.remove("anyOf");
        fields.extend(only.into_iter().filter(|(key, _)| key != "description"));
    }
    if fields.contains_key("properties") {
        fields.insert("additionalProperties".to_owned(), Json::Bool(false));
    }
    for (key, inner) in fields {
        match (key.as_str(), inner) {
            ("properties" | "$defs", Json::Object(named)) => named.values_mut().for_each(tidy),
            ("anyOf" | "oneOf", Json::Array(list)) => list.iter_mut().for_each(tidy),
            ("items" | "additionalProperties", inner) => tidy(inner),
            _ => {}
        }
    }
}

fn single(list: &Json) -> Option<Json> {
    match list.as_array()?.as_slice() {
        [only] => Some(only.clone()),
        _ => None,
    }
}
/// Checks the whole tree.
pub(super) fn check(tree: &Node, problems: &mut Problems) {
    Check { problems }.node(tree, &SCHEMA, "");
}

struct Check<'a> {
    problems: &'a mut Problems,
}

impl Check<'_> {
    fn node(&mut self, node: &Node, schema: &Json, path: &str) {
        let schema = target(schema);
        let alternatives = alternatives(schema);
        let fitting: Vec<&Json> = alternatives
            .iter()
            .copied()
            .filter(|schema| has_type(&node.value, schema))
            .collect();
        let Some(fitting) = fitting.first() else {
            return self.wrong_type(node, &alternatives, path);
        };
        let words = words(schema, &alternatives);
        match &node.value {
            Value::Text(text) if !words.is_empty() && !words.contains(&text.as_str()) => {
                // A text without a list of words among the alternatives takes any.
                if alternatives.iter().all(|each| !takes_any_text(each)) {
                    self.unknown_word(node, &words, path);
                }
            }
            Value::Integer(number) => self.range(node, *number, (fitting, path)),
            Value::List(list) => {
                for (at, node) in list.iter().enumerate() {
                    self.node(node, &fitting["items"], &format!("{path}[{at}]"));
                }
            }
            Value::Table(_) => self.table(node, fitting, path),
            Value::Text(_) | Value::Boolean(_) | Value::Fraction | Value::Time => {}
        }
    }

    fn table(&mut self, node: &Node, schema: &Json, path: &str) {
        let Value::Table(table) = &node.value else {
            return;
        };
        let known = schema["properties"].as_object();
        let required = schema["required"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Json::as_str);
        for key in required.filter(|key| !table.contains_key(*key)) {
            let problem = Problem::new(
                "inventory::missing-key",
                format!("{} needs the key {key}", shown(path)),
            );
            self.problems.push(problem.at(node.key));
        }
        for (key, node) in table {
            let inner = join(path, key);
            match (
                known.and_then(|known| known.get(key)),
                &schema["additionalProperties"],
            ) {
                (Some(schema), _) => self.node(node, schema, &inner),
                (None, free @ Json::Object(_)) => self.node(node, free, &inner),
                (None, _) => {
                    let known: Vec<&str> = known
                        .into_iter()
                        .flat_map(|known| known.keys())
                        .map(String::as_str)
                        .collect();
                    self.problems
                        .push(unknown_key(key, &known, path).at(node.key));
                }
            }
        }
    }

    fn wrong_type(&mut self, node: &Node, alternatives: &[&Json], path: &str) {
        let mut wanted: Vec<&str> = Vec::new();
        for alternative in alternatives {
            let kind = kind(alternative);
            if !wanted.contains(&kind) {
                wanted.push(kind);
            }
        }
        let message = format!(
            "{path} is {}, but must be {}",
            node.value.kind(),
            wanted.join(" or ")
        );
        let problem = Problem::new("inventory::wrong-type", message).at(node.place);
        let written = match (&node.value, wanted.contains(&"a text")) {
            (Value::Integer(_) | Value::Fraction | Value::Boolean(_) | Value::Time, true) => {
                problem.help("put it in quotes")
            }
            (Value::Text(text), false)
                if text.parse::<i64>().is_ok() || text == "true" || text == "false" =>
            {
                problem.help("write it without quotes")
            }
            (Value::Table(_), _) if path.matches('.').count() == 1 && wanted == ["a table"] => {
                problem
            }
            _ => problem,
        };
        self.problems.push(written);
    }

    fn unknown_word(&mut self, node: &Node, words: &[&str], path: &str) {
        let Value::Text(text) = &node.value else {
            return;
        };
        let message = format!("{path} cannot be {:?}", short(text));
        let problem = Problem::new("inventory::unknown-word", message).at(node.place);
        let listed = words
            .iter()
            .map(|word| format!("{word:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        self.problems.push(match nearest(text, words) {
            Some(word) => problem.help(format!("did you mean {word:?}? It can be {listed}")),
            None => problem.help(format!("it can be {listed}")),
        });
    }

    fn range(&mut self, node: &Node, number: i64, (schema, path): (&Json, &str)) {
        let least = schema["minimum"].as_i64().unwrap_or(i64::MIN);
        let most = schema["maximum"].as_i64().unwrap_or(i64::MAX);
        if !(least..=most).contains(&number) {
            let message = if schema["maximum"].is_null() {
                format!("{path} is {number}, but must be at least {least}")
            } else {
                format!("{path} is {number}, but must be from {least} to {most}")
            };
            self.problems
                .push(Problem::new("inventory::out-of-range", message).at(node.place));
        }
    }
}

fn unknown_key(key: &str, known: &[&str], path: &str) -> Problem {
    let message = match path {
        "" => format!(
            "there is no key {:?} at the top of an inventory",
            short(key)
        ),
        _ => format!("there is no key {:?} in {path}", short(key)),
    };
    let problem = Problem::new("inventory::unknown-key", message);
    if let Some(near) = nearest(key, known) {
        return problem.help(format!("did you mean {near:?}?"));
    }
    let listed = &known[..known.len().min(LISTED_MAX)];
    problem.help(format!("these exist here: {}", listed.join(", ")))
}

/// How much of a key or a value a message repeats, in characters.
pub(super) const SHOWN_MAX: usize = 60;

/// The beginning of a text, for messages.
pub(super) fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A key as a path in messages spells it: quoted when TOML would need it.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || b"_-".contains(&c));
    let key = if bare {
        short(key)
    } else {
        format!("{:?}", short(key))
    };
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

fn shown(path: &str) -> &str {
    if path.is_empty() {
        "the inventory"
    } else {
        path
    }
}

/// Follows a reference.
fn target(schema: &Json) -> &Json {
    let name = schema["$ref"]
        .as_str()
        .and_then(|reference| reference.strip_prefix("#/$defs/"));
    name.map_or(schema, |name| &SCHEMA["$defs"][name])
}

fn alternatives(schema: &Json) -> Vec<&Json> {
    match schema["anyOf"].as_array() {
        Some(list) => list
            .iter()
            .flat_map(|each| alternatives(target(each)))
            .collect(),
        None => vec![schema],
    }
}

/// The words of a choice, whether the schema lists them or describes each.
fn words<'a>(schema: &'a Json, alternatives: &[&'a Json]) -> Vec<&'a str> {
    let of = |schema: &'a Json| {
        let listed = schema["enum"].as_array().into_iter().flatten();
        let described = schema["oneOf"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|each| &each["const"]);
        listed
            .chain(described)
            .filter_map(Json::as_str)
            .collect::<Vec<_>>()
    };
    match alternatives {
        [] => of(schema),
        some => some.iter().flat_map(|each| of(each)).collect(),
    }
}

fn takes_any_text(schema: &Json) -> bool {
    schema["type"] == "string" && schema["enum"].is_null()
}

fn kind(schema: &Json) -> &'static str {
    match schema["type"].as_str() {
        Some("integer") => "a whole number",
        Some("boolean") => "true or false",
        Some("array") => "a list",
        Some("object") => "a table",
        _ => "a text",
    }
}

fn has_type(value: &Value, schema: &Json) -> bool {
    let kind = kind(schema);
    match value {
        Value::Fraction | Value::Time => false,
        Value::Text(_)
        | Value::Integer(_)
        | Value::Boolean(_)
        | Value::List(_)
        | Value::Table(_) => value.kind() == kind,
    }
}
