//! TOML files to one tree: `extends` followed, tables merged, every value with its place.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml_parser::Source;
use toml_parser::lexer::TokenKind;

use super::problem::{Place, Problem, Problems, SourceFile, Sources};

/// The largest inventory file, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// The most files that one environment may take over, itself included.
pub const FILES_MAX: usize = 32;

/// The longest chain of `extends`.
pub const CHAIN_MAX: usize = 8;

/// The deepest nesting of tables and lists. The deepest key that exists is at 7.
const DEPTH_MAX: usize = 64;

/// A value with its place.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Where its key is written; for an element of a list, the element itself.
    pub(super) key: Place,
    /// Where it is written.
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What may be written in TOML. Times and fractions are kept apart: no key takes them.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Boolean(bool),
    Fraction,
    Time,
    List(Vec<Node>),
    Table(BTreeMap<String, Node>),
}

impl Value {
    /// What a message calls it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Integer(_) => "a whole number",
            Self::Boolean(_) => "true or false",
            Self::Fraction => "a number with a fraction",
            Self::Time => "a date or time",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl Node {
    pub(super) fn child(&self, key: &str) -> Option<&Node> {
        let Value::Table(table) = &self.value else {
            return None;
        };
        table.get(key)
    }

    pub(super) fn element(&self, at: usize) -> Option<&Node> {
        let Value::List(list) = &self.value else {
            return None;
        };
        list.get(at)
    }

    /// The same as JSON, for serde. Fractions and times have been refused before.
    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Text(text) => text.as_str().into(),
            Value::Integer(number) => (*number).into(),
            Value::Boolean(yes) => (*yes).into(),
            Value::Fraction | Value::Time => serde_json::Value::Null,
            Value::List(list) => list.iter().map(Self::to_json).collect(),
            Value::Table(table) => table
                .iter()
                .map(|(key, node)| (key.clone(), node.to_json()))
                .collect(),
        }
    }

    /// Lays `over` over this: tables are merged key by key, anything else is replaced.
    fn merge(&mut self, over: Node) {
        match (&mut self.value, over.value) {
            (Value::Table(under), Value::Table(over)) => {
                for (key, node) in over {
                    match under.get_mut(&key) {
                        Some(there) => there.merge(node),
                        None => drop(under.insert(key, node)),
                    }
                }
            }
            (_, value) => self.value = value,
        }
        self.key = over.key;
        self.place = over.place;
    }
}

/// Reads files below one folder.
pub(super) struct Reader<'a> {
    /// The folder that nothing may lead out of.
    folder: &'a Path,
    pub(super) sources: Sources,
    pub(super) problems: Problems,
    chain: Vec<PathBuf>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(folder: &'a Path) -> Self {
        Self {
            folder,
            sources: Sources::default(),
            problems: Problems::default(),
            chain: Vec::new(),
        }
    }

    /// The tree of a file with everything that it extends. `asked` is where its name is written.
    pub(super) fn read(&mut self, file: &Path, asked: Option<Place>) -> Option<Node> {
        if let Err(problem) = self.admit(file) {
            self.problems.push(place_at(problem, asked));
            return None;
        }
        let shown = self.shown(file);
        let text = match text(file) {
            Ok(text) => text,
            Err(refusal) => {
                let Refusal { problem, valid, at } = *refusal;
                let index = self.keep(shown, valid);
                let own = at.map(|at| Place {
                    file: index,
                    from: at,
                    to: at,
                });
                self.problems.push(place_at(problem, own.or(asked)));
                return None;
            }
        };
        let index = self.keep(shown, text);
        let tree = self.parse(index)?;
        self.chain.push(file.to_owned());
        let tree = self.extend(tree, file);
        self.chain.pop();
        tree
    }

    /// The files that `file` itself extends; none if it cannot be read.
    pub(super) fn extends(mut self, file: &Path) -> Vec<PathBuf> {
        let Ok(text) = text(file) else {
            return Vec::new();
        };
        let index = self.keep(self.shown(file), text);
        let tree = self.parse(index);
        let files = tree
            .map(|tree| self.extended(&tree, file))
            .unwrap_or_default();
        files.into_iter().map(|(path, _)| path).collect()
    }

    /// What the key `extends` names, in order.
    fn extended(&mut self, tree: &Node, file: &Path) -> Vec<(PathBuf, Place)> {
        let Some(extends) = tree.child("extends") else {
            return Vec::new();
        };
        let names: Vec<&Node> = if let Value::List(list) = &extends.value {
            list.iter().collect()
        } else {
            vec![extends]
        };
        let mut files = Vec::new();
        for node in names {
            let Value::Text(name) = &node.value else {
                let message = format!(
                    "extends: a file is named by a text, not by {}",
                    node.value.kind()
                );
                self.problems
                    .push(Problem::new("inventory::wrong-type", message).at(node.place));
                continue;
            };
            match self.inside(file, name) {
                Ok(path) => files.push((path, node.place)),
                Err(problem) => self.problems.push(problem.at(node.place)),
            }
        }
        files
    }

    fn extend(&mut self, tree: Node, file: &Path) -> Option<Node> {
        let mut merged: Option<Node> = None;
        for (path, place) in self.extended(&tree, file) {
            let under = self.read(&path, Some(place))?;
            match &mut merged {
                Some(merged) => merged.merge(under),
                None => merged = Some(under),
            }
        }
        match merged {
            Some(mut merged) => {
                merged.merge(tree);
                Some(merged)
            }
            None => Some(tree),
        }
    }

    /// Refuses cycles, chains that are too long, and too many files.
    fn admit(&self, file: &Path) -> Result<(), Problem> {
        if self.chain.iter().any(|open| open == file) {
            let chain: Vec<String> = self
                .chain
                .iter()
                .map(PathBuf::as_path)
                .chain([file])
                .map(|path| self.shown(path))
                .collect();
            let message = format!("extends goes in a circle: {}", chain.join(" -> "));
            return Err(Problem::new("inventory::extends-circle", message)
                .help("take one of these lines out; what they share goes into a file that extends none of them"));
        }
        if self.chain.len() >= CHAIN_MAX || self.sources.files.len() >= FILES_MAX {
            let message = format!(
                "extends leads through more than {CHAIN_MAX} files in a row, or {FILES_MAX} in all"
            );
            return Err(
                Problem::new("inventory::extends-too-far", message).help("extend fewer files")
            );
        }
        Ok(())
    }

    /// The file that `name`, written in `file`, means.
    fn inside(&self, file: &Path, name: &str) -> Result<PathBuf, Problem> {
        let outside = || {
            Problem::new(
                "inventory::extends-outside",
                format!("extends: {name:?} leads out of the folder inventory"),
            )
            .help("name a file inside inventory/, relative to this one, such as \"common.toml\"")
        };
        let mut path = file.parent().unwrap_or(self.folder).to_owned();
        for component in Path::new(name).components() {
            match component {
                Component::Normal(part) => path.push(part),
                Component::CurDir => {}
                Component::ParentDir if path != self.folder => drop(path.pop()),
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                    return Err(outside());
                }
            }
        }
        if name.chars().any(char::is_control) || path == self.folder {
            return Err(outside());
        }
        // A link may lead out where the name does not.
        match (fs::canonicalize(&path), fs::canonicalize(self.folder)) {
            (Ok(real), Ok(folder)) if !real.starts_with(&folder) => Err(outside()),
            _ => Ok(path),
        }
    }

    fn shown(&self, file: &Path) -> String {
        let inside = file.strip_prefix(self.folder).unwrap_or(file);
        format!("inventory/{}", inside.display())
    }

    fn keep(&mut self, shown: String, text: String) -> usize {
        self.sources.files.push(SourceFile { shown, text });
        self.sources.files.len() - 1
    }

    fn parse(&mut self, index: usize) -> Option<Node> {
        let text = self.sources.files[index].text.clone();
        if let Some(at) = too_deep(&text) {
            let problem = Problem::new(
                "inventory::too-deep",
                format!("this is nested more than {DEPTH_MAX} deep"),
            );
            self.problems.push(problem.at(Place {
                file: index,
                from: at,
                to: at + 1,
            }));
            return None;
        }
        let (table, errors) = DeTable::parse_recoverable(&text);
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            let place = Place {
                file: index,
                from: span.start,
                to: span.end,
            };
            let problem = Problem::new(
                "inventory::syntax",
                format!("this is not TOML: {}", error.message()),
            );
            self.problems.push(problem.at(place));
        }
        if !errors.is_empty() {
            return None;
        }
        let whole = Place {
            file: index,
            from: 0,
            to: 0,
        };
        let value = self.table(index, table.get_ref())?;
        Some(Node {
            key: whole,
            place: whole,
            value,
        })
    }

    fn table(&mut self, index: usize, table: &DeTable<'_>) -> Option<Value> {
        let mut nodes = BTreeMap::new();
        for (key, value) in table {
            let key_place = place(index, key.span());
            let node = self.node(index, value)?;
            nodes.insert(
                key.get_ref().to_string(),
                Node {
                    key: key_place,
                    ..node
                },
            );
        }
        Some(Value::Table(nodes))
    }

    fn node(&mut self, index: usize, value: &Spanned<DeValue<'_>>) -> Option<Node> {
        let place = place(index, value.span());
        let value = match value.get_ref() {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Boolean(yes) => Value::Boolean(*yes),
            DeValue::Float(_) => Value::Fraction,
            DeValue::Datetime(_) => Value::Time,
            DeValue::Integer(number) => {
                let digits = number.as_str().replace('_', "");
                if let Ok(number) = i64::from_str_radix(&digits, number.radix()) {
                    Value::Integer(number)
                } else {
                    let message = "this number is too large: it has more than 64 bits";
                    self.problems
                        .push(Problem::new("inventory::number", message).at(place));
                    return None;
                }
            }
            DeValue::Array(list) => {
                let nodes = list.iter().map(|value| self.node(index, value));
                Value::List(nodes.collect::<Option<_>>()?)
            }
            DeValue::Table(table) => self.table(index, table)?,
        };
        Some(Node {
            key: place,
            place,
            value,
        })
    }
}

fn place(file: usize, span: std::ops::Range<usize>) -> Place {
    Place {
        file,
        from: span.start,
        to: span.end,
    }
}

fn place_at(problem: Problem, place: Option<Place>) -> Problem {
    match place {
        Some(place) => problem.at(place),
        None => problem,
    }
}

/// Why a file was not taken, with as much of it as can be drawn.
struct Refusal {
    problem: Problem,
    valid: String,
    at: Option<usize>,
}

impl From<Problem> for Box<Refusal> {
    fn from(problem: Problem) -> Self {
        Self::new(Refusal {
            problem,
            valid: String::new(),
            at: None,
        })
    }
}

/// The text of a file. Never reads more than the limit, and never from anything but a file.
fn text(file: &Path) -> Result<String, Box<Refusal>> {
    let name = file
        .file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let unreadable = |error: &io::Error| {
        Problem::new(
            "inventory::unreadable",
            format!("{name:?} cannot be read: {error}"),
        )
        .help("check that the file exists and that you may read it")
    };
    let too_large = || {
        Problem::new(
            "inventory::too-large",
            format!("{name:?} is larger than 1 MiB, which no inventory is"),
        )
        .help("check that it is the right file")
    };
    let metadata = fs::metadata(file).map_err(|error| unreadable(&error))?;
    if !metadata.is_file() {
        let problem = Problem::new(
            "inventory::unreadable",
            format!("{name:?} is not a regular file"),
        );
        return Err(problem.help("an environment is a TOML file").into());
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(too_large().into());
    }
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| unreadable(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(too_large().into());
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let valid = String::from_utf8_lossy(&error.as_bytes()[..at]).into_owned();
        let problem = Problem::new("inventory::encoding", "from here on this is not UTF-8 text");
        Box::new(Refusal {
            problem: problem.help("save the file as UTF-8"),
            valid,
            at: Some(at),
        })
    })?;
    if text.starts_with('\u{feff}') {
        let problem = Problem::new(
            "inventory::encoding",
            "the file starts with a byte order mark",
        );
        let problem = problem.help("save the file as UTF-8 without a byte order mark (BOM)");
        return Err(Box::new(Refusal {
            problem,
            valid: text,
            at: Some(0),
        }));
    }
    Ok(text)
}

/// Where a key has more than [`DEPTH_MAX`] dots. The parser bounds brackets and braces by itself,
/// but builds, and later drops, a table within a table for each dot. What is a dot, and what is in a text or
/// a comment, is for the parser's own lexer to say.
fn too_deep(text: &str) -> Option<usize> {
    let mut dots = 0;
    for token in Source::new(text).lex() {
        match token.kind() {
            TokenKind::Dot => dots += 1,
            TokenKind::Atom
            | TokenKind::Whitespace
            | TokenKind::LiteralString
            | TokenKind::BasicString
            | TokenKind::MlLiteralString
            | TokenKind::MlBasicString => {}
            _ => dots = 0,
        }
        if dots > DEPTH_MAX {
            return Some(token.span().start());
        }
    }
    None
}
