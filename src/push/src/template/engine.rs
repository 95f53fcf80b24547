//! Template files: the built-in set, and the operator's own in their place.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error as _;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior};
use serde::Serialize;

use super::error::Place;
use super::name::TemplateName;
use super::{Fragment, TemplateError};

/// The built-in templates. A file of the same name under `templates/` replaces one.
pub const BUILT_IN: &[(&str, &str)] = &[
    (
        "systemd/service",
        include_str!("../../../../templates/systemd/service"),
    ),
    (
        "systemd/timer",
        include_str!("../../../../templates/systemd/timer"),
    ),
    (
        "systemd/socket",
        include_str!("../../../../templates/systemd/socket"),
    ),
    (
        "nginx/site",
        include_str!("../../../../templates/nginx/site"),
    ),
    (
        "bootstrap/authorized_keys",
        include_str!("../../../../templates/bootstrap/authorized_keys"),
    ),
    (
        "bootstrap/sshd",
        include_str!("../../../../templates/bootstrap/sshd"),
    ),
    (
        "bootstrap/sudoers",
        include_str!("../../../../templates/bootstrap/sudoers"),
    ),
    (
        "bootstrap/upgrades",
        include_str!("../../../../templates/bootstrap/upgrades"),
    ),
    (
        "bootstrap/journald",
        include_str!("../../../../templates/bootstrap/journald"),
    ),
    (
        "bootstrap/sysctl",
        include_str!("../../../../templates/bootstrap/sysctl"),
    ),
    (
        "bootstrap/cloud",
        include_str!("../../../../templates/bootstrap/cloud"),
    ),
    (
        "bootstrap/acme_location",
        include_str!("../../../../templates/bootstrap/acme_location"),
    ),
    (
        "bootstrap/acme_server",
        include_str!("../../../../templates/bootstrap/acme_server"),
    ),
    (
        "bootstrap/certbot",
        include_str!("../../../../templates/bootstrap/certbot"),
    ),
];

/// The largest template file, in bytes.
pub const TEMPLATE_BYTES_MAX: u64 = 1 << 20;

/// The most text that one rendering may produce, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 4 << 20;

/// The most instructions that one rendering may take. Filling in a thousand values takes about ten
/// thousand.
const FUEL: u64 = 2_000_000;

/// The most files that `templates/` may hold.
const FILES_MAX: usize = 2000;

/// The deepest folder inside `templates/`.
const DEPTH_MAX: usize = 8;

/// Renders template files.
pub struct Engine {
    environment: Environment<'static>,
    files: Arc<Files>,
}

/// Every template by name: its text, or why it cannot be read. An unreadable file is an error only
/// for the one that uses it.
type Files = BTreeMap<String, Result<String, TemplateError>>;

impl Engine {
    /// The built-in templates alone.
    pub fn built_in() -> Self {
        Self::over(BTreeMap::new())
    }

    /// The built-in templates, and over them the files of the folder `templates`, if it exists.
    pub fn open(templates: &Path) -> Result<Self, TemplateError> {
        let mut own = Files::new();
        match fs::canonicalize(templates) {
            Ok(root) => collect(
                &Folder {
                    root: &root,
                    depth: 0,
                },
                &root,
                &mut own,
            )?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unreadable(templates, &error)),
        }
        Ok(Self::over(own))
    }

    fn over(own: Files) -> Self {
        let mut files: Files = BUILT_IN
            .iter()
            .map(|(name, text)| ((*name).to_owned(), Ok((*text).to_owned())))
            .collect();
        files.extend(own);
        let files = Arc::new(files);
        let mut environment = strict();
        super::filter::register(&mut environment);
        super::sealed::register(&mut environment);
        let loaded = Arc::clone(&files);
        environment.set_loader(move |name| Ok(loaded.get(name).and_then(|file| file.clone().ok())));
        Self { environment, files }
    }

    /// The text of a template, before rendering.
    pub fn source(&self, name: &TemplateName) -> Result<&str, TemplateError> {
        match self.files.get(name.as_str()) {
            Some(Ok(text)) => Ok(text),
            Some(Err(error)) => Err(error.clone()),
            None => Err(TemplateError::Missing {
                name: name.to_string(),
                known: self.names().map(str::to_owned).collect(),
            }),
        }
    }

    /// The name of every template there is.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Checks that a template exists and is Jinja, without rendering it.
    pub fn check(&self, name: &TemplateName) -> Result<(), TemplateError> {
        self.source(name)?;
        match self.environment.get_template(name.as_str()) {
            Ok(_) => Ok(()),
            Err(error) => Err(self.explained(&error, &[])),
        }
    }

    /// The template `name` with the values of `context`, which is serialised as it is: its fields
    /// are the variables.
    pub fn render(
        &self,
        name: &TemplateName,
        context: &impl Serialize,
    ) -> Result<String, TemplateError> {
        self.source(name)?;
        let template = self
            .environment
            .get_template(name.as_str())
            .map_err(|error| self.explained(&error, &[]))?;
        render_bounded(&template, context, OUTPUT_BYTES_MAX).map_err(|stop| match stop {
            Stop::TooLong => TemplateError::TooLong {
                place: Source::File(name.as_str(), "").place(None),
                max: OUTPUT_BYTES_MAX,
            },
            Stop::Error(error) => self.explained(&error, &variables(context)),
        })
    }

    /// The secrets that a template names by [`Fragment::Secret`]s.
    pub fn secrets_named(&self, name: &TemplateName) -> Result<BTreeSet<String>, TemplateError> {
        self.source(name).map(super::sealed::named)
    }

    /// The same as [`Engine::render`] for a template that names secrets: its text, cut where they stand.
    pub fn render_fragments(
        &self,
        name: &TemplateName,
        context: &impl Serialize,
        allowed: &BTreeSet<String>,
    ) -> Result<Vec<Fragment>, TemplateError> {
        let context = super::sealed::WithSecrets { context, allowed };
        let text = self.render(name, &context)?;
        super::sealed::cut(&text, Source::File(name.as_str(), "").place(None))
    }

    fn explained(&self, error: &minijinja::Error, known: &[String]) -> TemplateError {
        let innermost = innermost(error);
        let name = innermost.name().unwrap_or_default();
        if let Some(Err(unreadable)) = missing_name(innermost).and_then(|name| self.files.get(name))
        {
            return unreadable.clone();
        }
        let text = match self.files.get(name) {
            Some(Ok(text)) => text,
            _ => "",
        };
        explain(innermost, Source::File(name, text), known)
    }
}

/// The name in quotes of either kind, when the error says that a template does not exist.
fn missing_name(error: &minijinja::Error) -> Option<&str> {
    match error.kind() {
        ErrorKind::TemplateNotFound => error.detail()?.split(['"', '\'']).nth(1),
        _ => None,
    }
}

/// An environment that refuses what plain Jinja lets pass.
pub(super) fn strict() -> Environment<'static> {
    let mut environment = Environment::new();
    // A name that ends in .json or .html would otherwise change how values are written.
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    // Without this the last newline of a file is dropped.
    if let Ok(syntax) = SyntaxConfig::builder().keep_trailing_newline(true).build() {
        environment.set_syntax(syntax);
    }
    environment
}

/// Why a rendering stopped.
pub(super) enum Stop {
    TooLong,
    Error(minijinja::Error),
}

/// Renders, and stops at `max` bytes.
pub(super) fn render_bounded(
    template: &minijinja::Template<'_, '_>,
    context: &impl Serialize,
    max: usize,
) -> Result<String, Stop> {
    let mut output = Bounded {
        text: Vec::new(),
        max,
        full: false,
    };
    let rendered = template
        .render_captured_to(Serde(context), &mut output)
        .map(drop);
    match rendered {
        _ if output.full => Err(Stop::TooLong),
        Err(error) => Err(Stop::Error(error)),
        Ok(()) => String::from_utf8(output.text).map_err(|_| {
            Stop::Error(minijinja::Error::new(
                ErrorKind::WriteFailure,
                "it renders invalid UTF-8",
            ))
        }),
    }
}

struct Bounded {
    text: Vec<u8>,
    max: usize,
    full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.text.len() + piece.len() > self.max {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.text.extend_from_slice(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a message about a template points at.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// A value of the inventory.
    Value(&'a str),
    /// A file: its name below `templates/`, and its text.
    File(&'a str, &'a str),
}

impl Source<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Value(text) | Self::File(_, text) => text,
        }
    }

    pub(super) fn place(&self, line: Option<usize>) -> Place {
        match self {
            Self::Value(_) => Place { file: None, line },
            Self::File(name, _) => Place {
                file: Some(format!("templates/{name}")),
                line,
            },
        }
    }
}

/// The deepest error of an include within an include.
fn innermost(error: &minijinja::Error) -> &minijinja::Error {
    let mut found = error;
    let mut next = error.source();
    while let Some(source) = next {
        if let Some(inner) = source.downcast_ref::<minijinja::Error>() {
            found = inner;
        }
        next = source.source();
    }
    found
}

/// The error of the template engine in our words.
pub(super) fn explain(
    error: &minijinja::Error,
    source: Source<'_>,
    known: &[String],
) -> TemplateError {
    let place = source.place(error.line());
    let spelled = error
        .range()
        .and_then(|range| expression(source.text(), range));
    let why = match error.detail() {
        Some(detail) => detail.to_owned(),
        None => error.kind().to_string(),
    };
    match error.kind() {
        ErrorKind::SyntaxError | ErrorKind::BadEscape | ErrorKind::InvalidDelimiter => {
            TemplateError::Syntax { place, why }
        }
        ErrorKind::UndefinedError => TemplateError::Unknown {
            place,
            name: spelled.unwrap_or(why),
            known: known.to_vec(),
        },
        ErrorKind::OutOfFuel => TemplateError::Endless { place },
        _ => TemplateError::Render { place, why },
    }
}

/// The longest expression that a message repeats, in bytes.
const EXPRESSION_BYTES_MAX: usize = 120;

/// The whole name around `range`, which may cover only its last part.
fn expression(text: &str, range: std::ops::Range<usize>) -> Option<String> {
    let before = text.get(..range.start)?;
    let name = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
    let start = before.trim_end_matches(name).len();
    let found = text.get(start..range.end)?.trim();
    (!found.is_empty() && found.len() <= EXPRESSION_BYTES_MAX).then(|| found.to_owned())
}

/// The variables of a context, for messages.
fn variables(context: &impl Serialize) -> Vec<String> {
    serde_json::to_value(context)
        .map(|value| super::scope::names(&value))
        .unwrap_or_default()
}

struct Folder<'a> {
    root: &'a Path,
    depth: usize,
}

/// Reads the templates below `path`. A link that leads out of the folder is not followed.
fn collect(folder: &Folder<'_>, path: &Path, files: &mut Files) -> Result<(), TemplateError> {
    for entry in fs::read_dir(path).map_err(|error| unreadable(path, &error))? {
        let path = entry.map_err(|error| unreadable(path, &error))?.path();
        let inside = path.strip_prefix(folder.root).unwrap_or(&path);
        let Some(name) = inside.to_str().map(str::to_owned) else {
            continue; // No inventory can name it: names there are UTF-8.
        };
        if files.len() >= FILES_MAX {
            return Err(unreadable(folder.root, &"it holds more than 2000 files"));
        }
        match fs::canonicalize(&path) {
            Err(error) => drop(files.insert(name, Err(unreadable(&path, &error)))),
            Ok(real) if !real.starts_with(folder.root) => {
                let error = unreadable(&path, &"it is a link that leads out of templates/");
                files.insert(name, Err(error));
            }
            Ok(real) if real.is_dir() && folder.depth < DEPTH_MAX => {
                let deeper = Folder {
                    root: folder.root,
                    depth: folder.depth + 1,
                };
                collect(&deeper, &path, files)?;
            }
            Ok(real) => drop(files.insert(name, read(&real))),
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, TemplateError> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        return Err(unreadable(path, &"it is not a regular file"));
    }
    if metadata.len() > TEMPLATE_BYTES_MAX {
        return Err(unreadable(path, &"it is larger than 1 MiB"));
    }
    let bytes = fs::read(path).map_err(|error| unreadable(path, &error))?;
    String::from_utf8(bytes).map_err(|_| unreadable(path, &"it is not UTF-8 text"))
}

fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> TemplateError {
    TemplateError::Unreadable {
        file: path.display().to_string(),
        why: why.to_string(),
    }
}
