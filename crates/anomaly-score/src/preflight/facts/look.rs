//! What a picture looks like: a perceptual hash that finds candidates, and a thumbnail that decides.

use super::area::{Area, GRID};

/// Thumbnails have so many pixels a side.
const THUMBNAIL: usize = 16;
/// Highest diagonal u + v of the coefficients in the hash.
const DIAGONALS: usize = 10;
/// Coefficients of what is constant are so far from 0, at most.
const ROUNDING: f64 = 1e-6;
/// Standard deviation of a thumbnail, levels, below which it shows nothing to compare.
const FLAT: f64 = 4.0;

/// Bits of the hash that differ, at most, between copies. Of 189,600 pairs of different photos none had below 11 of 64, mirrored or not;
/// of copies through JPEG 30 or 75, resized by 0.5 or 1.5, squashed, or with noise of 8 levels none had above 7
/// (docs/preflight.md).
pub(in crate::preflight) const HASH_DISTANCE: u32 = 7;
/// Correlation of the thumbnails of copies, at least: of the same pairs none had above .91, of the same copies none
/// below .98.
pub(in crate::preflight) const CORRELATION: f64 = 0.95;

/// What a picture looks like.
///
/// # Source
/// A DCT hash as Zauner 2010 (Implementation and Benchmarking of Perceptual Image Hash Functions) describes it, but with the first
/// 64 coefficients in zigzag order, and each against 0: a mirrored picture then has the same hash with known bits flipped.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// Bit k, from the lowest: whether the k-th coefficient after the constant one is above 0, by diagonal u + v and then by the
    /// vertical frequency u, of the orthonormal DCT-II of 32 × 32 area means of luma.
    pub hash: u64,
    /// Area means of luma, 16 × 16, rounded.
    pub thumbnail: [u8; THUMBNAIL * THUMBNAIL],
    /// Whether the thumbnail shows enough to tell copies by.
    pub distinct: bool,
}

/// The coefficients of the hash as (vertical, horizontal) frequency.
fn zigzag() -> impl Iterator<Item = (usize, usize)> {
    (1..=DIAGONALS).flat_map(|sum| (0..=sum).map(move |u| (u, sum - u))).take(64)
}

/// The bits that a mirrored picture (left for right) has the other way: those of odd horizontal frequency.
pub(in crate::preflight) fn mirror_bits() -> u64 {
    zigzag().enumerate().filter(|(_, (_, v))| v % 2 == 1).fold(0, |mask, (k, _)| mask | 1 << k)
}

impl Look {
    pub(super) fn of(area: &Area) -> Look {
        let mut hash = 0;
        let coefficients = low_frequencies(area);
        for (k, (u, v)) in zigzag().enumerate() {
            hash |= u64::from(coefficients[u][v] > ROUNDING) << k;
        }
        const STEP: usize = GRID / THUMBNAIL;
        let mean = |i: usize| {
            let (y, x) = (i / THUMBNAIL * STEP, i % THUMBNAIL * STEP);
            let cells = (0..STEP * STEP).map(|k| area[(y + k / STEP) * GRID + x + k % STEP]);
            cells.sum::<f64>() / (STEP * STEP) as f64
        };
        let thumbnail: [u8; THUMBNAIL * THUMBNAIL] = std::array::from_fn(|i| mean(i).round() as u8);
        let distinct = centred(&thumbnail).iter().map(|v| v * v).sum::<f64>()
            >= FLAT * FLAT * (THUMBNAIL * THUMBNAIL) as f64;
        Look { hash, thumbnail, distinct }
    }

    /// Correlation of the two thumbnails, the second mirrored left for right if asked for, in [−1, 1]; higher = more alike. `None`
    /// where one is constant.
    pub fn correlation(&self, other: &Look, mirrored: bool) -> Option<f64> {
        let (a, b) = (centred(&self.thumbnail), centred(&other.thumbnail));
        let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
        let place =
            |i: usize| if mirrored { i / THUMBNAIL * THUMBNAIL + THUMBNAIL - 1 - i % THUMBNAIL } else { i };
        let product: f64 = a.iter().enumerate().map(|(i, x)| x * b[place(i)]).sum();
        let scale = norm(&a) * norm(&b);
        (scale > 0.0).then(|| product / scale)
    }
}

fn centred(thumbnail: &[u8; THUMBNAIL * THUMBNAIL]) -> [f64; THUMBNAIL * THUMBNAIL] {
    let mean = thumbnail.iter().map(|&v| f64::from(v)).sum::<f64>() / thumbnail.len() as f64;
    thumbnail.map(|v| f64::from(v) - mean)
}

/// The coefficients with both frequencies up to [`DIAGONALS`] of the DCT-II, up to one factor each above 0.
fn low_frequencies(area: &Area) -> [[f64; DIAGONALS + 1]; DIAGONALS + 1] {
    let wave: [[f64; GRID]; DIAGONALS + 1] = std::array::from_fn(|u| {
        std::array::from_fn(|x| (std::f64::consts::PI * u as f64 * (x as f64 + 0.5) / GRID as f64).cos())
    });
    let along: [[f64; DIAGONALS + 1]; GRID] = std::array::from_fn(|y| {
        std::array::from_fn(|v| wave[v].iter().zip(&area[y * GRID..]).map(|(w, a)| w * a).sum())
    });
    std::array::from_fn(|u| {
        std::array::from_fn(|v| wave[u].iter().zip(&along).map(|(w, row)| w * row[v]).sum())
    })
}
