//! A decoded picture: oriented, opaque RGB.

use sha2::{Digest, Sha256};

use super::kind::Kind;
use crate::{Error, ErrorKind, Result};

/// The pixels of a [`Picture`], row by row, R G B interleaved (H×W×3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pixels {
    /// 8 bits a channel, 0–255.
    Rgb8(Vec<u8>),
    /// 16 bits a channel, 0–65535.
    Rgb16(Vec<u16>),
}

/// What decoding had to do, so that a run can count it and warn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traits {
    /// The file's type; `None` for pixels that came from an array.
    pub kind: Option<Kind>,
    /// Some pixel was not opaque, and white was laid under it.
    pub alpha_composited: bool,
    /// The file was grey; R = G = B.
    pub grey: bool,
    /// The file was CMYK or YCCK, converted by the naive formula (no colour profile).
    pub cmyk: bool,
    /// The file had more than 8 bits a channel, kept as 16.
    pub sixteen_bit: bool,
    /// The file's orientation tag turned or mirrored the picture.
    pub reoriented: bool,
    /// The file is animated; this is its first frame.
    pub animated: bool,
}

/// A decoded picture: RGB, orientation applied, no alpha left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    pixels: Pixels,
    traits: Traits,
}

impl Picture {
    /// A picture of pixels already at hand, H×W×3.
    ///
    /// # Errors
    /// `InvalidOption` if a side is 0 or the pixels are not width × height × 3 values.
    pub fn new(width: u32, height: u32, pixels: Pixels) -> Result<Picture> {
        let found = match &pixels {
            Pixels::Rgb8(v) => v.len() as u64,
            Pixels::Rgb16(v) => v.len() as u64,
        };
        let expected = (u64::from(width) * u64::from(height)).checked_mul(3);
        if expected != Some(found) || found == 0 {
            return Err(Error::new(ErrorKind::InvalidOption, "picture", "the pixels do not fit its size")
                .expected(format_args!("{width} × {height} × 3 values, not 0"), found));
        }
        Ok(Picture { width, height, pixels, traits: Traits::default() })
    }

    pub(super) fn with_traits(mut self, traits: Traits) -> Picture {
        self.traits = traits;
        self
    }

    /// Width, pixels; at least 1.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height, pixels; at least 1.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The pixels, H×W×3.
    pub fn pixels(&self) -> &Pixels {
        &self.pixels
    }

    /// What decoding had to do.
    pub fn traits(&self) -> Traits {
        self.traits
    }

    /// SHA-256 of what the picture shows, whatever file it came in: the same pixels as PNG, in a zip or in an npz
    /// give the same hash.
    ///
    /// The digest is over the bytes `anomaly-score picture 1`, NUL, the bit depth (one byte, 8 or 16), width and
    /// height (u32, little-endian) and the RGB values row by row (16-bit ones little-endian). So 8-bit pixels and the
    /// same pixels stretched to 16 bits differ, and so does a lossy file decoded by another decoder.
    pub fn content_hash(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(b"anomaly-score picture 1\0");
        hasher.update([match self.pixels {
            Pixels::Rgb8(_) => 8u8,
            Pixels::Rgb16(_) => 16,
        }]);
        hasher.update(self.width.to_le_bytes());
        hasher.update(self.height.to_le_bytes());
        match &self.pixels {
            Pixels::Rgb8(v) => hasher.update(v),
            Pixels::Rgb16(v) => {
                let mut bytes = [0u8; 8192];
                for chunk in v.chunks(bytes.len() / 2) {
                    for (out, value) in bytes.chunks_exact_mut(2).zip(chunk) {
                        out.copy_from_slice(&value.to_le_bytes());
                    }
                    hasher.update(&bytes[..chunk.len() * 2]);
                }
            }
        }
        hasher.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_of(width: u32, height: u32, pixels: Pixels) -> [u8; 32] {
        Picture::new(width, height, pixels).unwrap().content_hash()
    }

    #[test]
    fn hash_is_that_of_the_documented_bytes() {
        let mut bytes = b"anomaly-score picture 1\0\x08".to_vec();
        bytes.extend([2, 0, 0, 0, 1, 0, 0, 0]);
        bytes.extend([1, 2, 3, 4, 5, 6]);
        let expected: [u8; 32] = Sha256::digest(&bytes).into();
        assert_eq!(hash_of(2, 1, Pixels::Rgb8(vec![1, 2, 3, 4, 5, 6])), expected);

        let values: Vec<u16> = (0..3 * 5000u32).map(|i| (i * 37 % 65536) as u16).collect();
        let mut bytes = b"anomaly-score picture 1\0\x10".to_vec();
        bytes.extend([100, 0, 0, 0, 50, 0, 0, 0]);
        bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        let expected: [u8; 32] = Sha256::digest(&bytes).into();
        assert_eq!(hash_of(100, 50, Pixels::Rgb16(values)), expected);
    }

    #[test]
    fn shape_and_depth_enter_the_hash() {
        let values = vec![7u8; 12];
        let wide = hash_of(4, 1, Pixels::Rgb8(values.clone()));
        assert_ne!(wide, hash_of(1, 4, Pixels::Rgb8(values.clone())));
        assert_ne!(wide, hash_of(2, 2, Pixels::Rgb8(values)));
        assert_ne!(wide, hash_of(4, 1, Pixels::Rgb16(vec![7; 12])));
    }

    #[test]
    fn pixels_must_fit_the_size() {
        let error = Picture::new(2, 2, Pixels::Rgb8(vec![0; 11])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption);
        assert_eq!(
            error.to_string(),
            "picture: the pixels do not fit its size; expected 2 × 2 × 3 values, not 0, found 11"
        );
        assert!(Picture::new(0, 4, Pixels::Rgb8(vec![])).is_err());
        assert!(Picture::new(u32::MAX, u32::MAX, Pixels::Rgb8(vec![1])).is_err());
    }
}
