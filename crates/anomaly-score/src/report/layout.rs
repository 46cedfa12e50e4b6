//! Text in columns and lines of at most 100 characters.

/// Columns a line may have.
const WIDTH: usize = 100;

/// How a column is set. A path is cut at its start to fit the line: its end tells files apart.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Align {
    Left,
    Right,
    Path,
}
use Align::{Left, Path, Right};

/// `rows` with two spaces between the columns. Only the last may be a path.
pub(crate) fn aligned(rows: &[Vec<String>], indent: &str, align: &[Align]) -> String {
    let width = |k: usize| rows.iter().map(|row| row[k].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..align.len()).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = indent.to_owned();
        for (k, cell) in row.iter().enumerate() {
            if k > 0 {
                line += "  ";
            }
            match align[k] {
                Left => line += &format!("{cell:<0$}", widths[k]),
                Right => line += &format!("{cell:>0$}", widths[k]),
                Path => line += &end_of(&visible(cell), WIDTH.saturating_sub(line.chars().count())),
            }
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// The last `width` characters of `text`, with `…` for what is left out.
fn end_of(text: &str, width: usize) -> String {
    let n = text.chars().count();
    if n <= width {
        text.to_owned()
    } else {
        format!("…{}", text.chars().skip(n + 1 - width).collect::<String>())
    }
}

/// `text` with its control characters escaped.
pub(crate) fn visible(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        if c.is_control() {
            out.extend(c.escape_default())
        } else {
            out.push(c)
        }
        out
    })
}

/// `text` broken into lines at its spaces, all but the first behind `indent`; spaces at its start stay.
pub(crate) fn wrapped(text: &str, indent: &str) -> String {
    let start = text.len() - text.trim_start_matches(' ').len();
    let (mut out, mut line) = (String::new(), text[..start].to_owned());
    for word in text.split_whitespace().map(visible) {
        if !line.trim().is_empty() {
            if line.chars().count() + 1 + word.chars().count() > WIDTH {
                out += &line;
                out.push('\n');
                line = indent.to_owned();
            } else {
                line.push(' ');
            }
        }
        line += &word;
    }
    out + &line + "\n"
}
