//! One measured image, and its bytes in a log.

use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

/// Longest path of an image, bytes of UTF-8.
const LONGEST_PATH: usize = u16::MAX as usize;

/// Everything measured on one image except its feature: what most questions after measuring need.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// SHA-256 of the decoded picture, see [`crate::image::Picture::content_hash`].
    pub content_hash: [u8; 32],
    /// Width of the decoded picture, pixels, before any resize; 0 where a file of features was read.
    pub width: u32,
    /// Height of the decoded picture, likewise.
    pub height: u32,
    /// C, radians, in [0, π]; higher for real photos. `None` where a step has no angle.
    pub complexity: Option<f64>,
    /// V, feature units, ≥ 0; lower for real photos.
    pub vulnerability: Option<f64>,
    /// AS-i = V / C, ≥ 0; higher is less natural. `None` where C is undefined or 0.
    pub anomaly_score_i: Option<f64>,
    /// The part of C that is rounding, radians; `None` where the protocol has no rounding to speak of.
    pub noise_floor: Option<f64>,
    /// Spread of V over the seeded starts, feature units; `None` with a single start.
    pub restart_spread: Option<f64>,
    /// What was special about the image.
    pub flags: Flags,
}

/// What was special about an image; a column each in the table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// Transparency was composited over white.
    pub alpha_composited: bool,
    /// The file holds 16 bits a channel, scaled to [0, 1].
    pub sixteen_bit: bool,
    /// The file is greyscale; its one channel was repeated.
    pub greyscale: bool,
    /// The picture was turned or mirrored as its EXIF orientation says.
    pub exif_rotated: bool,
    /// The picture is smaller than the network's input and was enlarged.
    pub enlarged: bool,
    /// Complexity has no value, because a step did not move the feature.
    pub complexity_undefined: bool,
}

/// Everything that depends on an image's content and the settings alone. The cache holds this by content hash.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    /// The numbers and flags.
    pub scores: Scores,
    /// The backbone's feature of the undisturbed image, length D; every entry finite.
    pub feature: Vec<f32>,
}

/// One row of a table: an image of a source and its measurement.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The image's path within its source; unique in a table.
    pub path: String,
    /// What was measured on it.
    pub measurement: Measurement,
}

/// One row of a table without the feature.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredImage {
    /// The image's path within its source; unique in a table.
    pub path: String,
    /// The numbers and flags measured on it.
    pub scores: Scores,
}

/// An image that could not be read and therefore has no row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Skipped {
    /// The image's path within its source.
    pub path: String,
    /// Why, in words.
    pub reason: String,
}

impl Flags {
    /// The columns' names, in the order of [`Flags::to_array`].
    pub(super) const NAMES: [&str; 6] =
        ["alpha_composited", "sixteen_bit", "greyscale", "exif_rotated", "enlarged", "complexity_undefined"];

    pub(super) fn to_array(self) -> [bool; 6] {
        let Flags { alpha_composited, sixteen_bit, greyscale, exif_rotated, enlarged, complexity_undefined } =
            self;
        [alpha_composited, sixteen_bit, greyscale, exif_rotated, enlarged, complexity_undefined]
    }

    pub(super) fn from_array(flags: [bool; 6]) -> Self {
        let [alpha_composited, sixteen_bit, greyscale, exif_rotated, enlarged, complexity_undefined] = flags;
        Flags { alpha_composited, sixteen_bit, greyscale, exif_rotated, enlarged, complexity_undefined }
    }
}

impl Scores {
    /// The columns' names, in the order of [`Scores::numbers`].
    pub(super) const NUMBERS: [&str; 5] =
        ["complexity", "vulnerability", "anomaly_score_i", "noise_floor", "restart_spread"];

    pub(super) fn numbers(&self) -> [Option<f64>; 5] {
        [self.complexity, self.vulnerability, self.anomaly_score_i, self.noise_floor, self.restart_spread]
    }

    pub(super) fn from_parts(
        content_hash: [u8; 32],
        (width, height): (u32, u32),
        numbers: [Option<f64>; 5],
        flags: [bool; 6],
    ) -> Self {
        let [complexity, vulnerability, anomaly_score_i, noise_floor, restart_spread] = numbers;
        Scores {
            content_hash,
            width,
            height,
            complexity,
            vulnerability,
            anomaly_score_i,
            noise_floor,
            restart_spread,
            flags: Flags::from_array(flags),
        }
    }

    /// Refuses a number that is neither finite nor absent: NaN must not pass for a measurement.
    pub(super) fn check(&self, path: &str) -> Result<()> {
        for (name, number) in Self::NUMBERS.iter().zip(self.numbers()) {
            if let Some(value) = number.filter(|v| !v.is_finite()) {
                return Err(Error::new(ErrorKind::Format, path, format!("{name} is not a number"))
                    .expected("a finite value or none", value));
            }
        }
        Ok(())
    }
}

impl Measurement {
    /// Refuses a feature of another length or with an entry that is not finite, and numbers as [`Scores::check`].
    pub(super) fn check(&self, path: &str, feature_dim: u32) -> Result<()> {
        self.scores.check(path)?;
        if self.feature.len() != feature_dim as usize {
            return Err(Error::new(ErrorKind::Format, path, "the feature has the wrong length")
                .expected(feature_dim, self.feature.len()));
        }
        if let Some(at) = self.feature.iter().position(|v| !v.is_finite()) {
            return Err(Error::new(
                ErrorKind::Format,
                path,
                format!("entry {at} of the feature is not a number"),
            )
            .expected("a finite value", self.feature[at]));
        }
        Ok(())
    }
}

impl Row {
    /// As [`Measurement::check`], and a path that a log and a table can hold.
    pub(super) fn check(&self, feature_dim: u32) -> Result<()> {
        if self.path.len() > LONGEST_PATH {
            let start: String = self.path.chars().take(80).collect();
            return Err(Error::new(ErrorKind::Unsupported, format!("{start}…"), "the path is too long")
                .expected(format!("at most {LONGEST_PATH} bytes"), self.path.len()));
        }
        self.measurement.check(&self.path, feature_dim)
    }
}

// The bytes of a record, all integers and floats little-endian:
//   kind u8: 1 a measurement, 2 a row
//   a row only: length of the path u32, path in UTF-8
//   content_hash 32 bytes, width u32, height u32
//   which numbers are present u8 (bit i: NUMBERS[i]), flags u8 (bit i: NAMES[i]), the present numbers f64 each
//   D u32, feature f32 × D
// `FORMAT_VERSION` stands in the log's header and must be raised when any of this changes.
const KIND_MEASUREMENT: u8 = 1;
const KIND_ROW: u8 = 2;

/// Why the bytes of a record cannot be understood.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

pub(super) type Decoded<T> = std::result::Result<T, Malformed>;

pub(super) fn encode_measurement(measurement: &Measurement) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + 4 * measurement.feature.len());
    out.push(KIND_MEASUREMENT);
    put_measurement(&mut out, measurement);
    out
}

/// `path` and `measurement` must have passed [`Row::check`]: the lengths are written as u32.
pub(super) fn encode_row(path: &str, measurement: &Measurement) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + path.len() + 4 * measurement.feature.len());
    out.push(KIND_ROW);
    out.extend((path.len() as u32).to_le_bytes());
    out.extend(path.as_bytes());
    put_measurement(&mut out, measurement);
    out
}

fn put_measurement(out: &mut Vec<u8>, measurement: &Measurement) {
    let scores = &measurement.scores;
    let numbers = scores.numbers();
    out.extend(scores.content_hash);
    out.extend(scores.width.to_le_bytes());
    out.extend(scores.height.to_le_bytes());
    out.push(bits(numbers.map(|n| n.is_some())));
    out.push(bits(scores.flags.to_array()));
    for number in numbers.into_iter().flatten() {
        out.extend(number.to_le_bytes());
    }
    out.extend((measurement.feature.len() as u32).to_le_bytes());
    for value in &measurement.feature {
        out.extend(value.to_le_bytes());
    }
}

pub(super) fn decode_measurement(payload: &[u8]) -> Decoded<Measurement> {
    let mut input = Input(payload);
    input.kind(KIND_MEASUREMENT)?;
    let measurement = input.measurement()?;
    input.end(measurement)
}

/// The content hash of a record that [`encode_measurement`] made, without reading the rest.
pub(super) fn decode_content_hash(payload: &[u8]) -> Decoded<[u8; 32]> {
    let mut input = Input(payload);
    input.kind(KIND_MEASUREMENT)?;
    input.array()
}

pub(super) fn decode_row(payload: &[u8]) -> Decoded<Row> {
    let mut input = Input(payload);
    input.kind(KIND_ROW)?;
    let path = input.path()?.to_owned();
    let measurement = input.measurement()?;
    input.end(Row { path, measurement })
}

/// Path and content hash of a record that [`encode_row`] made, without reading the rest.
pub(super) fn decode_row_key(payload: &[u8]) -> Decoded<(&str, [u8; 32])> {
    let mut input = Input(payload);
    input.kind(KIND_ROW)?;
    Ok((input.path()?, input.array()?))
}

fn bits<const N: usize>(set: [bool; N]) -> u8 {
    set.iter().enumerate().fold(0, |byte, (i, &on)| byte | (u8::from(on) << i))
}

fn from_bits<const N: usize>(byte: u8) -> Decoded<[bool; N]> {
    if byte >> N != 0 {
        return Err(Malformed("a flag that this version does not know"));
    }
    Ok(std::array::from_fn(|i| byte & (1 << i) != 0))
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, n: usize) -> Decoded<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or(Malformed("it ends too early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Decoded<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Decoded<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn kind(&mut self, expected: u8) -> Decoded<()> {
        if self.array()? != [expected] { Err(Malformed("it is of another kind")) } else { Ok(()) }
    }

    fn path(&mut self) -> Decoded<&'a str> {
        let len = self.u32()?;
        std::str::from_utf8(self.take(len as usize)?).map_err(|_| Malformed("its path is not UTF-8"))
    }

    fn measurement(&mut self) -> Decoded<Measurement> {
        let content_hash = self.array()?;
        let size = (self.u32()?, self.u32()?);
        let [present, flags] = self.array()?;
        let mut numbers = [None; 5];
        for (number, present) in numbers.iter_mut().zip(from_bits::<5>(present)?) {
            if present {
                *number = Some(f64::from_le_bytes(self.array()?));
            }
        }
        let flags = from_bits(flags)?;
        let len = self.u32()? as usize;
        let bytes = self.take(len.checked_mul(4).ok_or(Malformed("its feature is too long"))?)?;
        let feature = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        Ok(Measurement { scores: Scores::from_parts(content_hash, size, numbers, flags), feature })
    }

    fn end<T>(self, value: T) -> Decoded<T> {
        if self.0.is_empty() { Ok(value) } else { Err(Malformed("it goes on after its end")) }
    }
}

/// Lower-case hexadecimal of a hash.
pub(super) fn hex(hash: &[u8; 32]) -> String {
    hash.iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|d| char::from(b"0123456789abcdef"[d as usize]))
        .collect()
}

/// The hash that [`hex`] wrote; `None` for anything else.
pub(super) fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits: [u8; 64] = text.as_bytes().try_into().ok()?;
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
        for &digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            *byte = *byte << 4 | value;
        }
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::tests::{any_row, row};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_gives_back_the_row(row in any_row(4)) {
            let bytes = encode_row(&row.path, &row.measurement);
            prop_assert_eq!(decode_row(&bytes).unwrap(), row.clone());
            let (path, hash) = decode_row_key(&bytes).unwrap();
            prop_assert_eq!((path, hash), (row.path.as_str(), row.measurement.scores.content_hash));
            let bytes = encode_measurement(&row.measurement);
            prop_assert_eq!(decode_content_hash(&bytes).unwrap(), row.measurement.scores.content_hash);
            prop_assert_eq!(decode_measurement(&bytes).unwrap(), row.measurement);
        }

        #[test]
        fn any_bytes_decode_or_are_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..3) {
            if let Some(first) = bytes.first_mut() {
                *first = kind;
            }
            // A record that decodes must be the one its value encodes to (NaNs included, so compare bytes).
            if let Ok(row) = decode_row(&bytes) {
                prop_assert_eq!(encode_row(&row.path, &row.measurement), bytes);
            } else if let Ok(measurement) = decode_measurement(&bytes) {
                prop_assert_eq!(encode_measurement(&measurement), bytes);
            }
        }
    }

    #[test]
    fn a_record_cut_anywhere_is_refused() {
        let row = row(3);
        let bytes = encode_row(&row.path, &row.measurement);
        for len in 0..bytes.len() {
            assert!(decode_row(&bytes[..len]).is_err(), "{len} bytes");
        }
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(decode_row(&longer), Err(Malformed("it goes on after its end")));
    }

    #[test]
    fn nan_never_passes_for_a_measurement() {
        let mut bad = row(1);
        bad.measurement.scores.vulnerability = Some(f64::NAN);
        assert_eq!(
            bad.check(4).unwrap_err().to_string(),
            "photos/0001.png: vulnerability is not a number; expected a finite value or none, found NaN"
        );
        let mut bad = row(1);
        bad.measurement.feature[2] = f32::INFINITY;
        assert_eq!(
            bad.check(4).unwrap_err().to_string(),
            "photos/0001.png: entry 2 of the feature is not a number; expected a finite value, found inf"
        );
        assert_eq!(
            row(1).check(5).unwrap_err().to_string(),
            "photos/0001.png: the feature has the wrong length; expected 5, found 4"
        );
        assert!(row(1).check(4).is_ok());
    }

    #[test]
    fn hexadecimal_is_the_usual_one() {
        let hash: [u8; 32] = std::array::from_fn(|i| (i * 8) as u8);
        let text: String = hash.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex(&hash), text);
        assert_eq!(unhex(&text), Some(hash));
        assert_eq!(unhex(&text.to_uppercase()), None);
        assert_eq!(unhex(&text[2..]), None);
        assert_eq!(unhex(&format!("{}é", &text[2..])), None);
    }
}
