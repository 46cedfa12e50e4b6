//! An append-only file of records that can be killed at any byte and opened again.
//!
//! ```text
//! header  magic 8 bytes | FORMAT_VERSION u32 | length u32 | crc32 u32 | settings as JSON
//! record  length u32 | crc32 u32 | payload (row.rs)            … until the end of the file
//! ```
//! Integers are little-endian; `crc32` is that of the bytes it stands before. Only the last record of a file can be
//! incomplete, because each is written whole after the one before it; such a tail is cut off when the file is next
//! opened. A record that was damaged afterwards ends the file in the same way: it and what follows is measured anew.
//! Records are not forced to the disk one by one: nothing is lost when the program is killed, the last seconds may be
//! when the machine loses power.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Section, io_error};
use super::row::{Decoded, Malformed};
use super::settings::{FORMAT_VERSION, Settings};
use crate::{Error, ErrorKind, Result};

/// First bytes of a log. The last four show a transfer that changes line ends or stops at a control character.
pub(super) const MAGIC: &[u8; 8] = b"ASLG\r\n\x1a\n";
const HEADER_FIXED: usize = 20;
const LONGEST_HEADER: u32 = 1 << 20;
const FRAME: usize = 8;
/// Longest payload: features of 16 million entries. A longer length is damage, not a record.
pub(super) const LONGEST_PAYLOAD: u32 = 1 << 26;

/// What the records of a log are kept track of by. Told of each record once, in file order.
pub(super) trait Index {
    /// Forgets every record: the log is read from its start again.
    fn clear(&mut self);
    /// Takes note of the record at byte `at`.
    fn insert(&mut self, at: u64, payload: &[u8]) -> Decoded<()>;
}

/// An open log. Holds no record in memory.
pub(super) struct Log {
    file: Arc<File>,
    /// For error texts.
    name: PathBuf,
    /// Where the records start.
    start: u64,
    /// End of the last record known to be whole.
    end: u64,
}

impl Log {
    /// Takes over `file`, which nobody else may be writing, writes the header if there is none, reads every record
    /// into `index`, and cuts off what is no record. The second value is the number of bytes cut off.
    ///
    /// # Errors
    /// `SettingsMismatch` if it holds records of other deciding settings, `Format` if it is not a log or its header
    /// is damaged, `Unsupported` if it was written by another version, `Io`.
    pub(super) fn open(
        file: File,
        name: &Path,
        settings: &Settings,
        index: &mut impl Index,
    ) -> Result<(Log, u64)> {
        let mut log = Log { file: Arc::new(file), name: name.to_owned(), start: 0, end: 0 };
        let len = log.file_len()?;
        match log.header_len(len, settings)? {
            Some(start) => (log.start, log.end) = (start, start),
            None => log.write_header(settings)?,
        }
        let cut = log.catch_up(index)?;
        Ok((log, cut))
    }

    /// Reads the records that were appended since the last look, cutting off what is no record. Nobody else may be
    /// writing. Returns the number of bytes cut off.
    pub(super) fn catch_up(&mut self, index: &mut impl Index) -> Result<u64> {
        let len = self.file_len()?;
        if len == self.end {
            return Ok(0);
        }
        if len < self.start {
            let problem = "its header has been removed while it was in use";
            return Err(Error::new(ErrorKind::Format, self.name.display().to_string(), problem));
        }
        let known = self.end;
        if len > known {
            self.scan(len, index)?;
        }
        if len < known || (self.end < len && known > self.start) {
            // Another process may have cut the file short of what was known here and written on since.
            index.clear();
            self.end = self.start;
            self.scan(len, index)?;
        }
        if self.end < len {
            self.file.set_len(self.end).map_err(|e| self.io("its incomplete end cannot be cut off", e))?;
        }
        Ok(len - self.end)
    }

    /// Writes a record at the end, in one call. After an error the file is as it was before.
    /// [`Log::catch_up`] must have come first where another process may have written.
    pub(super) fn append(&mut self, payload: &[u8]) -> Result<u64> {
        let at = self.end;
        let mut record = Vec::with_capacity(FRAME + payload.len());
        record.extend((payload.len() as u32).to_le_bytes());
        record.extend(crc32fast::hash(payload).to_le_bytes());
        record.extend(payload);
        write_or_restore(&mut &*self.file, at, &record).map_err(|e| self.io("cannot be written to", e))?;
        self.end += record.len() as u64;
        Ok(at)
    }

    /// The payload of the record at byte `at`, as told to the index.
    pub(super) fn read(&self, at: u64) -> Result<Vec<u8>> {
        let mut input = Section::new(self.file.clone(), at);
        match read_record(&mut input, u64::MAX) {
            Ok(Some(payload)) => Ok(payload),
            Ok(None) => Err(self.damaged(at, "it has changed since it was written")),
            Err(e) => Err(self.io("cannot be read", e)),
        }
    }

    /// The error for a record whose payload means nothing.
    pub(super) fn damaged(&self, at: u64, why: &str) -> Error {
        Error::new(
            ErrorKind::Format,
            self.name.display().to_string(),
            format!("the record at byte {at} is damaged: {why}"),
        )
        .remedy("Run the same command again; if that does not help, delete this file")
    }

    /// Whether there is no record.
    pub(super) fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// Forces everything appended to the disk.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| self.io("cannot be written to", e))
    }

    /// The file, for locking.
    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// The file's path, or what stands for it in error texts.
    pub(super) fn name(&self) -> &Path {
        &self.name
    }

    pub(super) fn io(&self, problem: &str, e: io::Error) -> Error {
        io_error(&self.name, problem, e)
    }

    fn file_len(&self) -> Result<u64> {
        self.file.metadata().map(|m| m.len()).map_err(|e| self.io("cannot be read", e))
    }

    /// Length of the header; `None` if there is no whole header or no record behind one of other settings, so that
    /// one may be written.
    fn header_len(&self, len: u64, settings: &Settings) -> Result<Option<u64>> {
        let name = self.name.display().to_string();
        let wrong = |kind, problem: &str| Error::new(kind, &name, problem);
        let damaged = || wrong(ErrorKind::Format, "its header is damaged").remedy("Delete this file");

        let mut input = Section::new(self.file.clone(), 0);
        let mut fixed = Vec::new();
        let read = input.by_ref().take(HEADER_FIXED as u64).read_to_end(&mut fixed);
        read.map_err(|e| self.io("cannot be read", e))?;
        let magic = &fixed[..fixed.len().min(MAGIC.len())];
        if !MAGIC.starts_with(magic) {
            return Err(wrong(ErrorKind::Format, "not a log of measurements")
                .expected(format!("{MAGIC:02x?} at its start"), format!("{magic:02x?}"))
                .remedy("It is in the way of one: move it"));
        }
        if fixed.len() < HEADER_FIXED {
            return Ok(None);
        }
        let word = |i: usize| u32::from_le_bytes([fixed[i], fixed[i + 1], fixed[i + 2], fixed[i + 3]]);
        let (version, json_len, crc) = (word(8), word(12), word(16));
        if version != FORMAT_VERSION {
            return Err(wrong(ErrorKind::Unsupported, "written by another version of this program")
                .expected(format!("format {FORMAT_VERSION}"), version)
                .remedy("Go on with that version, or delete this file"));
        }
        if json_len > LONGEST_HEADER {
            return Err(damaged());
        }
        let end = HEADER_FIXED as u64 + u64::from(json_len);
        if len < end {
            return Ok(None);
        }
        let mut json = vec![0; json_len as usize];
        input.read_exact(&mut json).map_err(|e| self.io("cannot be read", e))?;
        if crc32fast::hash(&json) != crc {
            return Err(damaged());
        }
        let theirs: Settings = serde_json::from_slice(&json).map_err(|e| damaged().source(e))?;
        let differences = settings.differences(&theirs);
        if differences.is_empty() {
            return Ok(Some(end));
        }
        if len == end {
            return Ok(None);
        }
        Err(Settings::made_otherwise(&differences, &name))
    }

    fn write_header(&mut self, settings: &Settings) -> Result<()> {
        let json = serde_json::to_vec(settings).map_err(|e| {
            Error::new(ErrorKind::InvalidOption, "settings", "cannot be written as JSON").source(e)
        })?;
        let mut header = MAGIC.to_vec();
        header.extend(FORMAT_VERSION.to_le_bytes());
        header.extend((json.len() as u32).to_le_bytes());
        header.extend(crc32fast::hash(&json).to_le_bytes());
        header.extend(json);
        self.file.set_len(0).map_err(|e| self.io("cannot be written to", e))?;
        write_or_restore(&mut &*self.file, 0, &header).map_err(|e| self.io("cannot be written to", e))?;
        (self.start, self.end) = (header.len() as u64, header.len() as u64);
        Ok(())
    }

    /// Moves `end` over the whole records before byte `len`.
    fn scan(&mut self, len: u64, index: &mut impl Index) -> Result<()> {
        let mut input = BufReader::with_capacity(1 << 18, Section::new(self.file.clone(), self.end));
        while let Some(payload) =
            read_record(&mut input, len - self.end).map_err(|e| self.io("cannot be read", e))?
        {
            index.insert(self.end, &payload).map_err(|Malformed(why)| self.damaged(self.end, why))?;
            self.end += (FRAME + payload.len()) as u64;
        }
        Ok(())
    }
}

/// The next record's payload, or `None` if no whole record stands within the next `room` bytes.
fn read_record(input: &mut impl Read, room: u64) -> io::Result<Option<Vec<u8>>> {
    let mut frame = [0; FRAME];
    if room < FRAME as u64 || !fill(input, &mut frame)? {
        return Ok(None);
    }
    let [l0, l1, l2, l3, c0, c1, c2, c3] = frame;
    let (len, crc) = (u32::from_le_bytes([l0, l1, l2, l3]), u32::from_le_bytes([c0, c1, c2, c3]));
    // A power failure can leave zeros behind, and the crc32 of nothing is zero.
    if len == 0 || len > LONGEST_PAYLOAD || u64::from(len) > room - FRAME as u64 {
        return Ok(None);
    }
    let mut payload = vec![0; len as usize];
    let whole = fill(input, &mut payload)? && crc32fast::hash(&payload) == crc;
    Ok(whole.then_some(payload))
}

/// Fills `buf`; `false` if the input ends before.
fn fill(input: &mut impl Read, buf: &mut [u8]) -> io::Result<bool> {
    match input.read_exact(buf) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(e) => Err(e),
    }
}

/// What appending needs of a file; tests put a full disk in its place.
trait Storage {
    fn write_all_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    fn cut(&mut self, len: u64) -> io::Result<()>;
}

impl Storage for &File {
    fn write_all_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(at))?;
        self.write_all(bytes)
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}

/// Writes `bytes` at the end `at`. If that fails halfway the part written is removed again.
fn write_or_restore(storage: &mut impl Storage, at: u64, bytes: &[u8]) -> io::Result<()> {
    storage.write_all_at(at, bytes).inspect_err(|_| {
        // Should this fail too, the part is an incomplete tail like any other and is cut off at the next opening.
        let _ = storage.cut(at);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::settings;
    use std::fs;

    /// Every record's place and payload.
    #[derive(Default)]
    struct All(Vec<(u64, Vec<u8>)>);

    impl Index for All {
        fn clear(&mut self) {
            self.0.clear();
        }

        fn insert(&mut self, at: u64, payload: &[u8]) -> Decoded<()> {
            self.0.push((at, payload.to_vec()));
            Ok(())
        }
    }

    fn open_with(path: &Path, settings: &Settings) -> Result<(Log, Vec<Vec<u8>>, u64)> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path).unwrap();
        let mut all = All::default();
        let (log, cut) = Log::open(file, path, settings, &mut all)?;
        for (at, payload) in &all.0 {
            assert_eq!(&log.read(*at)?, payload);
        }
        Ok((log, all.0.into_iter().map(|(_, payload)| payload).collect(), cut))
    }

    fn open(path: &Path) -> Result<(Log, Vec<Vec<u8>>, u64)> {
        open_with(path, &settings())
    }

    /// A log of three records; its bytes and where each record ends.
    fn small(path: &Path) -> (Vec<u8>, Vec<usize>, Vec<Vec<u8>>) {
        let payloads: Vec<Vec<u8>> = vec![vec![1, 2, 3], vec![0; 40], b"the last".to_vec()];
        let (mut log, _, _) = open(path).unwrap();
        let mut ends = vec![log.end as usize];
        for payload in &payloads {
            log.append(payload).unwrap();
            ends.push(log.end as usize);
        }
        (fs::read(path).unwrap(), ends, payloads)
    }

    #[test]
    fn a_log_cut_at_any_byte_keeps_every_whole_record_and_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (bytes, ends, payloads) = small(&path);
        for len in 0..=bytes.len() {
            fs::write(&path, &bytes[..len]).unwrap();
            let whole = ends.iter().filter(|&&end| end <= len).count().saturating_sub(1);
            let (mut log, found, cut) = open(&path).unwrap();
            assert_eq!(found, payloads[..whole], "cut to {len} bytes");
            let torn = if len < ends[0] { 0 } else { len - ends[whole] };
            assert_eq!(cut, torn as u64);
            log.append(b"more").unwrap();
            let (_, found, cut) = open(&path).unwrap();
            assert_eq!((found.len(), cut), (whole + 1, 0), "cut to {len} bytes");
        }
    }

    #[test]
    fn zeros_after_a_power_failure_are_no_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut bytes, _, payloads) = small(&path);
        bytes.extend([0; 64]);
        fs::write(&path, &bytes).unwrap();
        let (_, found, cut) = open(&path).unwrap();
        assert_eq!((found, cut), (payloads, 64));
    }

    #[test]
    fn a_changed_byte_never_changes_a_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (bytes, ends, payloads) = small(&path);
        for at in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= change;
                fs::write(&path, &damaged).unwrap();
                match open(&path) {
                    Ok((_, found, _)) => {
                        let before = ends.iter().filter(|&&end| end <= at).count().saturating_sub(1);
                        assert_eq!(found, payloads[..before], "byte {at} changed");
                        // A length of the header that points past the end reads as a header cut short.
                        assert!(at >= ends[0] || (12..16).contains(&at), "byte {at} of the header");
                    }
                    Err(e) => {
                        assert!(at < ends[0], "byte {at}: {e}");
                        assert_eq!(fs::read(&path).unwrap(), damaged, "a refused file was changed");
                    }
                }
            }
        }
    }

    #[test]
    fn other_files_and_other_settings_are_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let said = |result: Result<(Log, Vec<Vec<u8>>, u64)>| {
            let e = result.err().unwrap();
            (e.kind(), e.to_string().replace(&path.display().to_string(), "LOG"))
        };
        fs::write(&path, b"a letter").unwrap();
        let (kind, text) = said(open(&path));
        assert_eq!(kind, ErrorKind::Format);
        assert!(text.starts_with("LOG: not a log of measurements; expected [41, 53,"), "{text}");
        fs::remove_file(&path).unwrap();

        let (bytes, ends, _) = small(&path);
        let mut other = settings();
        other.protocol.steps = 20;
        other.limit = None;
        assert_eq!(
            said(open_with(&path, &other)),
            (
                ErrorKind::SettingsMismatch,
                "LOG: holds measurements made with other settings; expected protocol.steps = 20, \
                 found protocol.steps = 10. Go on with those settings, choose another output, \
                 or delete this file to start anew"
                    .into()
            )
        );
        assert_eq!(fs::read(&path).unwrap(), bytes);

        // Another machine, or one and the same by other instructions.
        let of =
            |arithmetic: Option<&str>| Settings { arithmetic: arithmetic.map(str::to_owned), ..settings() };
        assert_eq!(
            said(open_with(&path, &of(Some("bfloat16x3")))),
            (
                ErrorKind::SettingsMismatch,
                "LOG: holds measurements made with other settings; expected arithmetic = bfloat16x3, \
                 found arithmetic = fused. Go on with those settings (arithmetic fused is that of --arithmetic fused on an \
                 x86-64 machine with AVX2), choose another output, or delete this file to start anew"
                    .into()
            )
        );
        assert_eq!(fs::read(&path).unwrap(), bytes);
        let unknown = dir.path().join("of an older program");
        open_with(&unknown, &of(None)).unwrap().0.append(b"x").unwrap();
        let (_, text) = said(open(&unknown));
        assert!(
            text.ends_with(
                "expected arithmetic = fused, found arithmetic = unknown. Choose another output, or delete this file to \
                 start anew"
            ),
            "{text}"
        );

        let mut newer = bytes.clone();
        newer[8] += 1;
        fs::write(&path, newer).unwrap();
        assert_eq!(
            said(open(&path)),
            (
                ErrorKind::Unsupported,
                "LOG: written by another version of this program; expected format 1, found 2. \
                 Go on with that version, or delete this file"
                    .into()
            )
        );

        // Without a record there is nothing to lose.
        fs::write(&path, &bytes[..ends[0]]).unwrap();
        open_with(&path, &other).unwrap().0.append(b"x").unwrap();
        assert!(open_with(&path, &other).is_ok() && open(&path).is_err());
    }

    #[test]
    fn a_log_cut_and_written_on_by_another_process_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (bytes, ends, payloads) = small(&path);
        let mut known = All::default();
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let (mut log, _) = Log::open(file, &path, &settings(), &mut known).unwrap();
        // Shorter than known, then longer with records at other places.
        for new in [vec![], vec![vec![9; 500], vec![8; 3]]] {
            fs::write(&path, &bytes[..ends[1]]).unwrap();
            let (mut other, _, _) = open(&path).unwrap();
            for payload in &new {
                other.append(payload).unwrap();
            }
            assert_eq!(log.catch_up(&mut known).unwrap(), 0);
            let found: Vec<_> = known.0.iter().map(|(_, payload)| payload.clone()).collect();
            assert_eq!(found, [&payloads[..1], &new[..]].concat());
        }
        log.append(b"end").unwrap();
        assert_eq!(open(&path).unwrap().1.last().unwrap(), b"end");
        fs::write(&path, b"").unwrap();
        let e = log.catch_up(&mut known).unwrap_err();
        assert!(e.to_string().ends_with("its header has been removed while it was in use"), "{e}");
    }

    /// A disk with room for so many more bytes.
    struct Cramped(File, usize);

    impl Storage for Cramped {
        fn write_all_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
            let fits = bytes.len().min(self.1);
            (&self.0).write_all_at(at, &bytes[..fits])?;
            if fits < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        }

        fn cut(&mut self, len: u64) -> io::Result<()> {
            (&self.0).cut(len)
        }
    }

    #[test]
    fn a_record_that_does_not_fit_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (bytes, ..) = small(&path);
        let file = File::options().read(true).write(true).open(&path).unwrap();
        for room in 0..30 {
            let mut disk = Cramped(file.try_clone().unwrap(), room);
            let e = write_or_restore(&mut disk, bytes.len() as u64, &[7; 30]).unwrap_err();
            assert_eq!(e.kind(), io::ErrorKind::StorageFull);
            assert_eq!(fs::read(&path).unwrap(), bytes, "room for {room} bytes");
        }
        write_or_restore(&mut Cramped(file, 30), bytes.len() as u64, &[7; 30]).unwrap();
        assert_eq!(fs::read(&path).unwrap().len(), bytes.len() + 30);
    }
}
