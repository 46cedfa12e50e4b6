//! Tables people keep their scores in.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::{Error, ErrorKind, Result};

/// What stands for "no value", in any case; as R and pandas read it.
const MISSING: [&str; 4] = ["", "na", "nan", "null"];

/// A CSV file (RFC 4180; tabs instead of commas where it is called `.tsv`) with a line of column names.
#[derive(Clone, Debug)]
pub struct CsvTable {
    name: String,
    columns: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    /// Where it starts in the file, counted from 1.
    line: u64,
    cells: Vec<String>,
}

impl CsvTable {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// `Io`; `Format` for a row of another length than the first, text that is not UTF-8, or a file without a row.
    pub fn read(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let bytes = fs::read(path)
            .map_err(|e| Error::new(ErrorKind::Io, name.clone(), "cannot be read").source(e))?;
        let tabs = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsv"));
        CsvTable::parse(name, &bytes, if tabs { b'\t' } else { b',' })
    }

    fn parse(name: String, bytes: &[u8], delimiter: u8) -> Result<Self> {
        let damaged = |e: csv::Error| {
            Error::new(ErrorKind::Format, name.clone(), "is no table with a line of column names").source(e)
        };
        // What spreadsheets write before UTF-8.
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let mut reader =
            csv::ReaderBuilder::new().delimiter(delimiter).trim(csv::Trim::All).from_reader(bytes);
        let cells = |record: &csv::StringRecord| record.iter().map(str::to_owned).collect::<Vec<_>>();
        let columns = cells(reader.headers().map_err(damaged)?);
        let rows = reader
            .records()
            .map(|record| {
                let record = record.map_err(damaged)?;
                Ok(Row { line: record.position().map_or(0, csv::Position::line), cells: cells(&record) })
            })
            .collect::<Result<Vec<_>>>()?;
        if rows.is_empty() {
            return Err(Error::new(ErrorKind::Format, name, "has no rows").expected(
                "a line of column names and at least one row",
                format!("{} columns", columns.len()),
            ));
        }
        Ok(CsvTable { name, columns, rows })
    }

    /// The file's name as it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Never: a table without rows is refused.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The rows of this table whose path `images` has too, with the columns of both, and the number of rows left out.
    ///
    /// The paths are in column `on`; in `images` in the column of that name, or in `path`, as `compare --images` and
    /// `rank --csv` write it. A leading `./` and the kind of slash make no difference. Several rows may be about one image.
    ///
    /// # Errors
    /// `Format` where a path occurs twice in `images`, or none of this table's is in it; `InvalidOption` for a missing
    /// column.
    pub fn join(&self, images: &CsvTable, on: &str) -> Result<(CsvTable, usize)> {
        let key = self.column(on)?;
        let other_key = if images.columns.iter().any(|c| c == on) {
            images.column(on)?
        } else {
            images.column("path")?
        };
        let mut found: HashMap<String, &Row> = HashMap::new();
        for row in &images.rows {
            if let Some(first) = found.insert(plain(&row.cells[other_key]), row) {
                return Err(Error::new(ErrorKind::Format, images.name.clone(), "names an image twice")
                    .expected(
                        "every path once",
                        format!("{} in lines {} and {}", row.cells[other_key], first.line, row.line),
                    ));
            }
        }
        let rows: Vec<Row> = self
            .rows
            .iter()
            .filter_map(|row| {
                let other = found.get(&plain(&row.cells[key]))?;
                let theirs = other.cells.iter().enumerate().filter(|(i, _)| *i != other_key).map(|(_, c)| c);
                Some(Row { line: row.line, cells: row.cells.iter().chain(theirs).cloned().collect() })
            })
            .collect();
        if rows.is_empty() {
            return Err(Error::new(
                ErrorKind::Format,
                self.name.clone(),
                format!("none of its images is in {}", images.name),
            )
            .expected(format!("paths like {}", images.rows[0].cells[other_key]), &self.rows[0].cells[key])
            .remedy("Both must name images in the same way; --on names the column of paths."));
        }
        let left_out = self.len() - rows.len();
        let theirs = images.columns.iter().enumerate().filter(|(i, _)| *i != other_key).map(|(_, c)| c);
        let columns = self.columns.iter().chain(theirs).cloned().collect();
        Ok((CsvTable { name: format!("{} with {}", self.name, images.name), columns, rows }, left_out))
    }

    /// Whether some column is called `name`.
    pub(crate) fn has_column(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column == name)
    }

    /// Where the column called `name` is.
    pub(crate) fn column(&self, name: &str) -> Result<usize> {
        let mut places = self.columns.iter().enumerate().filter(|(_, c)| *c == name).map(|(i, _)| i);
        match (places.next(), places.next()) {
            (Some(place), None) => Ok(place),
            (Some(_), Some(_)) => Err(Error::new(
                ErrorKind::InvalidOption,
                self.name.clone(),
                format!("two columns are called {name:?}"),
            )
            .remedy("Rename one of them.")),
            (None, _) => Err(Error::new(ErrorKind::InvalidOption, self.name.clone(), "has no such column")
                .expected(format!("{name:?}"), self.columns.join(", "))),
        }
    }

    /// The numbers of a column; `None` = missing.
    pub(super) fn numbers(&self, column: usize) -> Result<Vec<Option<f64>>> {
        let number = |row: &Row| {
            let text = row.cells[column].as_str();
            if MISSING.iter().any(|m| text.eq_ignore_ascii_case(m)) {
                return Ok(None);
            }
            match text.parse::<f64>() {
                Ok(number) if number.is_finite() => Ok(Some(number)),
                _ => Err(Error::new(
                    ErrorKind::Format,
                    self.name.clone(),
                    format!("line {}, column {:?}: not a number", row.line, self.columns[column]),
                )
                .expected("a finite number, or an empty cell for a missing one", format!("{text:?}"))),
            }
        };
        self.rows.iter().map(number).collect()
    }

    /// The texts of a column.
    pub(crate) fn texts(&self, column: usize) -> impl Iterator<Item = &str> {
        self.rows.iter().map(move |row| row.cells[column].as_str())
    }

    /// Where row `i` is in its file.
    pub(crate) fn line(&self, i: usize) -> u64 {
        self.rows[i].line
    }
}

fn plain(path: &str) -> String {
    let path = path.replace('\\', "/");
    path.strip_prefix("./").map(str::to_owned).unwrap_or(path)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::agreement) fn table(name: &str, text: &str) -> CsvTable {
        CsvTable::parse(name.to_owned(), text.as_bytes(), b',').unwrap()
    }

    #[test]
    fn cells_are_numbers_missing_or_refused() {
        let t = table("t.csv", "\u{feff}id,x\na, 1.5\nb,\nc,NaN\n\"d\nd\",NA\ne,-2e3\n");
        assert_eq!((t.len(), t.column("id").unwrap()), (5, 0));
        let expected = [Some(1.5), None, None, None, Some(-2000.0)];
        assert_eq!(t.numbers(1).unwrap(), expected);
        let t = table("t.csv", "id,x\na,1\n\"b\nb\",2\nc,1.2.3\n");
        assert_eq!(
            t.numbers(1).unwrap_err().to_string(),
            "t.csv: line 5, column \"x\": not a number; expected a finite number, or an empty cell for a missing one, \
             found \"1.2.3\""
        );
        let error = table("t.csv", "x\ninf\n").numbers(0).unwrap_err();
        assert!(error.to_string().contains("found \"inf\""), "{error}");
    }

    #[test]
    fn columns_are_found_or_listed() {
        let t = table("t.csv", "a,b,b\n1,2,3\n");
        assert_eq!(
            t.column("mos").unwrap_err().to_string(),
            "t.csv: has no such column; expected \"mos\", found a, b, b"
        );
        assert_eq!(
            t.column("b").unwrap_err().to_string(),
            "t.csv: two columns are called \"b\". Rename one of them."
        );
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let parse = |text: &[u8]| CsvTable::parse("t.csv".into(), text, b',').unwrap_err().to_string();
        assert!(parse(b"a,b\n1,2\n3\n").contains("line: 3"), "{}", parse(b"a,b\n1,2\n3\n"));
        assert!(parse(b"a,b\n").contains("has no rows"));
        assert!(parse(b"a\n\xff\xfe\n").starts_with("t.csv: is no table"));
        let error = CsvTable::read(Path::new("no/such.csv")).unwrap_err();
        assert!(error.to_string().starts_with("no/such.csv: cannot be read"), "{error}");
    }

    #[test]
    fn tables_join_by_path() {
        let people = table("mos.csv", "image,mos\na/1.png,3\n./a/2.png,4\na\\1.png,5\na/9.png,1\n");
        let images = table("images.csv", "path,complexity\na/1.png,0.1\na/2.png,0.2\na/3.png,0.3\n");
        let (joined, left_out) = people.join(&images, "image").unwrap();
        assert_eq!((joined.len(), left_out, joined.columns.join(" ")), (3, 1, "image mos complexity".into()));
        assert_eq!(joined.numbers(2).unwrap(), [Some(0.1), Some(0.2), Some(0.1)]);
        assert_eq!(joined.line(2), 4);

        let error = people.join(&images, "path").unwrap_err();
        assert!(error.to_string().contains("expected \"path\", found image, mos"), "{error}");
        let strange = table("images.csv", "image,c\nx.png,1\n");
        assert_eq!(
            people.join(&strange, "image").unwrap_err().to_string(),
            "mos.csv: none of its images is in images.csv; expected paths like x.png, found a/1.png. Both must name \
             images in the same way; --on names the column of paths."
        );
        let twice = table("images.csv", "path,c\na/1.png,1\n./a/1.png,2\n");
        let error = people.join(&twice, "image").unwrap_err();
        assert!(error.to_string().contains("found ./a/1.png in lines 2 and 3"), "{error}");
    }
}
