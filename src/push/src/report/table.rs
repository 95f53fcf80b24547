//! Columns that line up, whatever colour the cells have. Knows nothing of what stands in them.

use dialoguer::console::measure_text_width;

use super::text::Text;

/// The gap between two columns, in characters.
const GAP: usize = 2;

/// Rows of cells; the last cell of a row may be as long as it likes.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
enum Row {
    Cells(Vec<String>),
    Note(String),
}

impl Table {
    /// No rows yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(Row::Cells(cells.into_iter().collect()));
    }

    /// Adds a line that does not take part in the columns.
    pub fn note(&mut self, line: impl Into<String>) {
        self.rows.push(Row::Note(line.into()));
    }

    /// The rows, each behind `indent` and ended by a newline, without blanks at line ends.
    pub fn render(&self, indent: &str) -> String {
        let widths = self.widths();
        let mut text = Text::new();
        for row in &self.rows {
            match row {
                Row::Note(note) => text.line(format_args!("{indent}{note}")),
                Row::Cells(cells) => text.line(line(cells, &widths, indent).trim_end()),
            }
        }
        text.finish()
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths = Vec::new();
        for row in &self.rows {
            let Row::Cells(cells) = row else { continue };
            widths.resize(widths.len().max(cells.len()), 0);
            let inner = cells.len().saturating_sub(1);
            for (width, cell) in widths.iter_mut().zip(cells).take(inner) {
                *width = (*width).max(measure_text_width(cell));
            }
        }
        widths
    }
}

fn line(cells: &[String], widths: &[usize], indent: &str) -> String {
    let mut line = indent.to_owned();
    for (cell, width) in cells.iter().zip(widths) {
        let padding = (width + GAP).saturating_sub(measure_text_width(cell));
        line.push_str(cell);
        line.extend(std::iter::repeat_n(' ', padding));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::style::{BAD, paint};

    #[test]
    fn colour_does_not_move_a_column() {
        let mut table = Table::new();
        table.row(["a".into(), paint(BAD, "red"), "end".into()]);
        table.row(["long".into(), "x".into(), "end".into()]);
        table.note("between");
        let plain = anstream::adapter::strip_str(&table.render(" ")).to_string();
        assert_eq!(plain, " a     red  end\n long  x    end\n between\n");
    }
}
