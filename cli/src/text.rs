//! Text with tones: what the pure functions in `show` give back, painted at the very end.
//!
//! In: lines of cells, tables. Out: one string, coloured and cut to a screen when it goes to one.

/// How a piece of text feels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Tone {
    /// As it is.
    #[default]
    Plain,
    /// All is well.
    Good,
    /// On its way, or not known.
    Busy,
    /// Needs a person.
    Bad,
}

/// A piece of text in one tone. Control characters from outside (commit subjects, messages) never reach a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell in a tone.
    pub(crate) fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        let text = clean(text.as_ref());
        Self { text, tone }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl<S: AsRef<str>> From<S> for Cell {
    fn from(text: S) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// The same text on one line, without control characters.
pub(crate) fn clean(text: &str) -> String {
    let text = text.trim_end();
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Lines of cells.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Text {
    lines: Vec<Vec<Cell>>,
}

/// What text is painted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Paper {
    /// Tones become colours.
    pub(crate) colour: bool,
    /// Columns and rows to cut to; `None`: as long as it gets.
    pub(crate) size: Option<(u16, u16)>,
}

impl Text {
    /// One more line.
    pub(crate) fn line(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.lines.push(cells.into_iter().collect());
    }

    /// Another text below, after an empty line; nothing when it is empty.
    pub(crate) fn paragraph(&mut self, text: Self) {
        if !self.lines.is_empty() && !text.lines.is_empty() {
            self.lines.push(Vec::new());
        }
        self.lines.extend(text.lines);
    }

    /// Another text directly below.
    pub(crate) fn append(&mut self, text: Self) {
        self.lines.extend(text.lines);
    }

    /// `Name:  value` lines, values aligned.
    pub(crate) fn fields(fields: impl IntoIterator<Item = (&'static str, Cell)>) -> Self {
        let rows = fields
            .into_iter()
            .map(|(name, value)| vec![Cell::from(format!("{name}:")), value]);
        Self {
            lines: aligned(rows.collect()),
        }
    }

    /// A table with its header line, unless told otherwise. No rows: nothing at all.
    pub(crate) fn table(headers: bool, columns: &[&str], rows: Vec<Vec<Cell>>) -> Self {
        if rows.is_empty() {
            return Self::default();
        }
        let header = columns.iter().map(Cell::from).collect();
        let all = headers.then_some(header).into_iter().chain(rows);
        Self {
            lines: aligned(all.collect()),
        }
    }

    /// Itself, or a sentence where a table with headers would be empty: people see that something was asked, scripts
    /// that count lines count none.
    pub(crate) fn or_say(mut self, headers: bool, sentence: &str) -> Self {
        if self.lines.is_empty() && headers {
            self.line([sentence.into()]);
        }
        self
    }

    /// One string, each line ended.
    pub(crate) fn paint(&self, paper: Paper) -> String {
        let (columns, rows) = match paper.size {
            Some((columns, rows)) => (usize::from(columns), usize::from(rows)),
            None => (usize::MAX, usize::MAX),
        };
        let mut out = String::new();
        for line in self.lines.iter().take(rows) {
            let mut left = columns;
            for cell in line {
                let text: String = cell.text.chars().take(left).collect();
                left -= text.chars().count();
                match colour(cell.tone).filter(|_| paper.colour) {
                    Some(code) => {
                        let padded = text.len() - text.trim_end().len();
                        let (word, padding) = text.split_at(text.len() - padded);
                        out.push_str(&format!("\x1b[{code}m{word}\x1b[0m{padding}"));
                    }
                    None => out.push_str(&text),
                }
            }
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
        }
        out
    }
}

fn colour(tone: Tone) -> Option<&'static str> {
    match tone {
        Tone::Plain => None,
        Tone::Good => Some("32"),
        Tone::Busy => Some("33"),
        Tone::Bad => Some("31"),
    }
}

/// Pads every cell but the last of its line to the widest of its column, three spaces between columns.
fn aligned(mut rows: Vec<Vec<Cell>>) -> Vec<Vec<Cell>> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    for column in 0..columns.saturating_sub(1) {
        let cells = rows.iter().filter_map(|row| row.get(column));
        let widest = cells.map(Cell::width).max().unwrap_or(0);
        for cell in rows.iter_mut().filter_map(|row| row.get_mut(column)) {
            let padding = widest - cell.width() + 3;
            cell.text.push_str(&" ".repeat(padding));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Text {
        let row = |name: &str, tone| vec![name.into(), Cell::new("Failed", tone), "why".into()];
        Text::table(
            true,
            &["NAME", "SYNC", "MESSAGE"],
            vec![row("a-long-name", Tone::Bad), row("b\u{1b}[2J", Tone::Bad)],
        )
    }

    #[test]
    fn columns_are_aligned_and_control_characters_gone() {
        insta::assert_snapshot!(table().paint(Paper::default()), @r"
        NAME          SYNC     MESSAGE
        a-long-name   Failed   why
        b [2J         Failed   why
        ");
    }

    #[test]
    fn colour_takes_no_width_and_a_small_screen_cuts() {
        let paper = Paper {
            colour: true,
            size: Some((18, 2)),
        };
        assert_eq!(
            table().paint(paper),
            "NAME          SYNC\na-long-name   \u{1b}[31mFail\u{1b}[0m\n"
        );
    }

    #[test]
    fn a_table_without_rows_has_no_header_either() {
        let text = Text::table(true, &["NAME"], Vec::new());
        assert_eq!(text.paint(Paper::default()), "");
    }
}
