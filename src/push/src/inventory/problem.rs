//! What is wrong with an inventory: several problems at once, each at its line.

use std::fmt;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{
    AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str,
};

/// The most problems that are kept; the rest are counted.
pub const PROBLEMS_MAX: usize = 20;

/// The longest line of a message, in columns.
const COLUMNS_MAX: usize = 120;

/// The longest source line that is drawn, in bytes; the place of a problem in a longer one is only
/// named.
const DRAWN_BYTES_MAX: usize = 2000;

/// Everything that is wrong with an inventory; at least one problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InventoryErrors {
    sources: Sources,
    problems: Vec<Problem>,
    more: usize,
}

/// Whether a drawing has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colours {
    /// Escape sequences for a terminal.
    Terminal,
    /// Plain text.
    None,
}

impl InventoryErrors {
    pub(super) fn new(sources: Sources, mut problems: Problems) -> Self {
        problems
            .found
            .sort_by_key(|problem| problem.place.map(|place| (place.file, place.from)));
        Self {
            sources,
            problems: problems.found,
            more: problems.more,
        }
    }

    /// The problems, in the order of their files and lines.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// The problems, each drawn under its line.
    pub fn render(&self, colours: Colours) -> String {
        let renderer = match colours {
            Colours::Terminal => Renderer::styled(),
            Colours::None => Renderer::plain(),
        };
        let renderer = renderer
            .decor_style(DecorStyle::Ascii)
            .term_width(COLUMNS_MAX);
        let mut drawn: Vec<String> = self
            .problems
            .iter()
            .map(|problem| self.draw(problem, &renderer))
            .collect();
        if self.more > 0 {
            drawn.push(format!("and {} more problems", self.more));
        }
        drawn.join("\n\n")
    }

    fn draw(&self, problem: &Problem, renderer: &Renderer) -> String {
        let mut group = Group::with_title(
            Level::ERROR
                .primary_title(normalize_untrusted_str(&problem.message))
                .id(problem.code),
        );
        for (index, file) in self.sources.files.iter().enumerate() {
            group = group.elements(file.draw(index, problem));
        }
        if let Some(help) = &problem.help {
            group = group.element(Level::HELP.message(normalize_untrusted_str(help)));
        }
        // The renderer escapes what C0 and bidirectional controls could do, but lets C1 pass.
        let drawn = renderer.render(&[group]);
        drawn.replace(|c: char| matches!(c, '\u{80}'..='\u{9f}'), "\u{fffd}")
    }
}

impl fmt::Display for InventoryErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Colours::None))
    }
}

impl std::error::Error for InventoryErrors {}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A stable word for programs, such as `inventory::unknown-key`.
    pub code: &'static str,
    /// What is wrong and why.
    pub message: String,
    /// What to do next.
    pub help: Option<String>,
    pub(super) place: Option<Place>,
    pub(super) others: Vec<(Place, String)>,
}

impl Problem {
    pub(super) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: bounded(message.into()),
            help: None,
            place: None,
            others: Vec::new(),
        }
    }

    pub(super) fn at(self, place: Place) -> Self {
        Self {
            place: Some(place),
            ..self
        }
    }

    pub(super) fn help(self, help: impl Into<String>) -> Self {
        Self {
            help: Some(bounded(help.into())),
            ..self
        }
    }

    /// Points at a second place.
    pub(super) fn also(mut self, place: Place, label: impl Into<String>) -> Self {
        self.others.push((place, label.into()));
        self
    }
}

/// The longest message, in characters: what it repeats may come from anyone.
const MESSAGE_CHARS_MAX: usize = 500;

fn bounded(text: String) -> String {
    match text.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    found: Vec<Problem>,
    more: usize,
}

impl Problems {
    /// Keeps a problem, or counts it when there are too many. One that is there already is dropped.
    pub(super) fn push(&mut self, problem: Problem) {
        if self.found.contains(&problem) {
            return;
        }
        if self.found.len() < PROBLEMS_MAX {
            self.found.push(problem);
        } else {
            self.more += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }
}

/// A place in one of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The file's index in [`Sources`].
    pub(super) file: usize,
    /// The first byte.
    pub(super) from: usize,
    /// The byte after the last.
    pub(super) to: usize,
}

/// The files that were read, kept for drawing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sources {
    pub(super) files: Vec<SourceFile>,
}

/// One file that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceFile {
    /// Its path as the operator knows it.
    pub(super) shown: String,
    /// Its text.
    pub(super) text: String,
}

impl SourceFile {
    /// The last boundary between characters up to `at`.
    fn boundary(&self, at: usize) -> usize {
        let at = at.min(self.text.len());
        (0..=at)
            .rev()
            .find(|at| self.text.is_char_boundary(*at))
            .unwrap_or(0)
    }

    /// What there is to see of a problem in this file, the `index`th.
    fn draw<'a>(&'a self, index: usize, problem: &'a Problem) -> Option<Element<'a>> {
        let primary = problem
            .place
            .iter()
            .map(|place| (*place, AnnotationKind::Primary, ""));
        let others = problem.others.iter();
        let others = others.map(|(place, label)| (*place, AnnotationKind::Context, label.as_str()));
        let here = |(place, _, _): &(Place, _, _)| place.file == index;
        let places: Vec<_> = primary.chain(others).filter(here).collect();
        let (first, _, _) = places.first()?;
        if places
            .iter()
            .any(|(place, _, _)| self.line_of(place.from).len() > DRAWN_BYTES_MAX)
        {
            let (line, column) = self.position(first.from);
            return Some(
                Origin::path(self.shown.as_str())
                    .line(line)
                    .char_column(column)
                    .into(),
            );
        }
        let annotations = places.iter().map(|(place, kind, label)| {
            let label = (!label.is_empty()).then(|| normalize_untrusted_str(label));
            kind.span(place.from..place.to).label(label)
        });
        let snippet = Snippet::source(self.text.as_str()).path(self.shown.as_str());
        Some(snippet.annotations(annotations).into())
    }

    fn line_of(&self, at: usize) -> &str {
        let at = self.boundary(at);
        let start = self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let end = self.text[at..]
            .find('\n')
            .map_or(self.text.len(), |newline| at + newline);
        &self.text[start..end]
    }

    fn position(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..self.boundary(at)];
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (
            before.matches('\n').count() + 1,
            before[start..].chars().count() + 1,
        )
    }
}
