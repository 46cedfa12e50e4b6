//! Files that are cut off, damaged, or something else: an error that says so, never a panic.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use arrow_array::{Float64Array, RecordBatch};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{Error, ErrorKind};

struct File {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

impl File {
    fn new(bytes: &[u8]) -> File {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.parquet");
        fs::write(&path, bytes).unwrap();
        File { _dir: dir, path }
    }

    fn refused(&self) -> (ErrorKind, String) {
        let e = Table::open(&self.path).unwrap_err();
        (e.kind(), e.to_string().replace(&self.path.display().to_string(), "T"))
    }
}

fn table_bytes(n: u32) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("t.parquet");
    let mut writer = Writer::create(Some(&output), settings(), None).unwrap();
    for i in 0..n {
        writer.append(&row(i)).unwrap();
    }
    writer.finish().unwrap();
    fs::read(output).unwrap()
}

/// Opens and reads all there is; the first error ends it.
fn read_all(path: &std::path::Path) -> crate::Result<Vec<Row>> {
    let table = Table::open(path)?;
    for scored in table.scores()? {
        scored?;
    }
    table.rows()?.collect()
}

#[test]
fn a_table_cut_at_any_byte_is_refused() {
    let bytes = table_bytes(3);
    let file = File::new(&bytes);
    assert_eq!(read_all(&file.path).unwrap(), (0..3).map(row).collect::<Vec<_>>());
    for len in 0..bytes.len() {
        fs::write(&file.path, &bytes[..len]).unwrap();
        let (kind, text) = file.refused();
        assert_eq!(kind, ErrorKind::Format, "cut to {len} bytes: {text}");
        if len >= 8 {
            assert_eq!(
                text,
                format!(
                    "T: a Parquet file that is cut off; expected PAR1 as its last bytes, \
                     found {len} bytes that end otherwise"
                )
            );
        }
    }
}

#[test]
fn damage_anywhere_is_an_error_or_harmless_never_a_panic() {
    let bytes = table_bytes(3);
    let file = File::new(&bytes);
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let try_one = |damaged: &[u8]| {
        fs::write(&file.path, damaged).unwrap();
        if let Err(e) = read_all(&file.path) {
            assert!(matches!(e.kind(), ErrorKind::Format | ErrorKind::Unsupported | ErrorKind::Io), "{e}");
            assert_eq!(e.subject(), file.path.display().to_string());
        }
    };
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= random.random_range(1..=255u8);
        try_one(&damaged);
    }
    for _ in 0..2000 {
        let mut damaged = bytes.clone();
        for _ in 0..random.random_range(2..40) {
            let at = random.random_range(0..bytes.len());
            damaged[at] = random.random();
        }
        try_one(&damaged);
    }
}

#[test]
fn other_files_are_called_what_they_are() {
    let not = |found: &str| {
        let text = "T: not a table of measurements; expected a Parquet file written by anomaly-score, found ";
        (ErrorKind::Format, format!("{text}{found}"))
    };
    assert_eq!(File::new(b"").refused(), not("an empty file"));
    assert_eq!(File::new(b"path,complexity\n").refused(), not("a file that begins with \"path,com\""));
    assert_eq!(File::new(b"PK\x03\x04..............").refused(), not("a zip or npz archive"));
    assert_eq!(File::new(b"\x89PNG\r\n\x1a\n....").refused(), not("a PNG image"));

    let dir = tempfile::tempdir().unwrap();
    let text = |e: Error| e.to_string().replace(&dir.path().display().to_string(), "T");
    assert_eq!((ErrorKind::Format, text(Table::open(dir.path()).unwrap_err())), not("a folder"));
    let e = Table::open(&dir.path().join("none.parquet")).unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);
    assert!(text(e).starts_with("T/none.parquet: cannot be read ("));

    let mut writer = Writer::create(Some(&dir.path().join("u")), settings(), None).unwrap();
    writer.append(&row(1)).unwrap();
    let journal = writer.suspend().unwrap().unwrap();
    assert_eq!(
        text(Table::open(&journal).unwrap_err()).replace("T/u.partial", "T"),
        not("a log of measurements, as an unfinished table or the cache has").1
            + ". Finish it by running the command that was interrupted again"
    );
}

#[test]
fn parquet_of_other_programs_is_refused() {
    let column =
        |name: &str| (name.to_owned(), Arc::new(Float64Array::from(vec![1.0])) as arrow_array::ArrayRef);
    let write = |columns: Vec<(String, arrow_array::ArrayRef)>, pairs: &[(&str, String)]| {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        for (key, value) in pairs {
            let pair = ::parquet::file::metadata::KeyValue::new((*key).to_owned(), value.clone());
            writer.append_key_value_metadata(pair);
        }
        File::new(&writer.into_inner().unwrap())
    };
    let (kind, text) = write(vec![column("complexity")], &[]).refused();
    assert_eq!(kind, ErrorKind::Format);
    let start = "T: not a table of measurements; expected a Parquet file written by anomaly-score, \
                 found a Parquet file without anomaly_score.settings, written by parquet-rs version ";
    assert!(text.starts_with(start), "{text}");

    let json = serde_json::to_string(&settings()).unwrap();
    let refused = |json: String| {
        let pairs = [("anomaly_score.settings", json), ("anomaly_score.version", "3.1.4".to_owned())];
        write(vec![column("path")], &pairs).refused()
    };
    assert_eq!(
        refused(json.clone()),
        (
            ErrorKind::Format,
            "T: the column path is not as it was written; expected Utf8, found Float64".to_owned()
        )
    );
    assert_eq!(
        refused(json.replace("\"format_version\":1", "\"format_version\":2")),
        (
            ErrorKind::Unsupported,
            "T: written by anomaly-score 3.1.4 in another form; expected format 1, found 2. \
             Use that version, or measure again"
                .to_owned()
        )
    );
    let (kind, text) = refused(json.replace("\"restarts\"", "\"starts\""));
    assert_eq!(kind, ErrorKind::Format);
    assert!(text.starts_with("T: its settings cannot be read (unknown field `starts`"), "{text}");
}
