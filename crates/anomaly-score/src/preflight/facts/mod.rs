//! Facts of one image: what a picture and its file tell before any network sees them.

mod area;
mod blocks;
mod colour;
mod look;

#[cfg(test)]
mod tests;

pub use colour::Colour;
pub use look::Look;
pub(super) use look::{CORRELATION, HASH_DISTANCE, mirror_bits};

use crate::image::{Kind, Picture, Pixels, Provenance, Raw};
use crate::table::ScoredImage;
use area::Area;

/// What pre-flight keeps of an image: about 500 bytes and its path.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageFacts {
    /// The image's path within its source.
    pub path: String,
    /// See [`Picture::content_hash`].
    pub content_hash: [u8; 32],
    /// Width, pixels.
    pub width: u32,
    /// Height, pixels.
    pub height: u32,
    /// Some pixel was not opaque.
    pub alpha: bool,
    /// No colour: by the pixels where they are at hand, otherwise by the file's own mode.
    pub grey: bool,
    /// What only pixels and file tell; `None` for an image known from a table.
    pub seen: Option<Seen>,
}

/// What only the pixels and the file tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// The file's type; `None` for pixels out of an array.
    pub kind: Option<Kind>,
    /// What the file says of its making.
    pub provenance: Provenance,
    /// Values of the pixels.
    pub colour: Colour,
    /// What it looks like, for finding copies.
    pub look: Look,
    /// How far the pixels keep the grid of an earlier JPEG: 0 for none, see [`blocks::jpeg_traces`]. `None` below
    /// 16 pixels a side.
    pub jpeg_traces: Option<f64>,
}

impl ImageFacts {
    /// Of a decoded entry.
    pub fn of(path: &str, raw: &Raw, picture: &Picture) -> ImageFacts {
        let traits = picture.traits();
        let (colour, area, jpeg_traces) = match picture.pixels() {
            Pixels::Rgb8(pixels) => scan(picture, pixels, 1.0),
            Pixels::Rgb16(pixels) => scan(picture, pixels, 1.0 / 257.0),
        };
        ImageFacts {
            path: path.to_owned(),
            content_hash: picture.content_hash(),
            width: picture.width(),
            height: picture.height(),
            alpha: traits.alpha_composited,
            grey: traits.grey || colour.is_grey(),
            seen: Some(Seen {
                kind: traits.kind,
                provenance: Provenance::of(raw),
                look: Look::of(&area),
                colour,
                jpeg_traces,
            }),
        }
    }

    /// Of a row of a table, which knows less.
    pub fn of_row(row: ScoredImage) -> ImageFacts {
        let ScoredImage { path, scores } = row;
        ImageFacts {
            path,
            content_hash: scores.content_hash,
            width: scores.width,
            height: scores.height,
            alpha: scores.flags.alpha_composited,
            grey: scores.flags.greyscale,
            seen: None,
        }
    }

    /// The shorter side, pixels.
    pub fn short_side(&self) -> u32 {
        self.width.min(self.height)
    }
}

/// One pass over the rows: values, area means, and the blocks. `scale` brings a value to 0–255.
fn scan<T: Copy + Into<f32>>(picture: &Picture, pixels: &[T], scale: f32) -> (Colour, Area, Option<f64>) {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let mut sums = colour::Sums::default();
    let mut area = area::Means::new(width, height);
    let mut luma = vec![0.0f32; width];
    for row in pixels.chunks_exact(3 * width) {
        for (luma, pixel) in luma.iter_mut().zip(row.chunks_exact(3)) {
            let rgb = [pixel[0], pixel[1], pixel[2]].map(|v| v.into() * scale);
            *luma = luma_of(rgb);
            sums.add(rgb, *luma);
        }
        area.add(&luma);
    }
    let luma_at = |x: usize, y: usize| {
        let at = 3 * (y * width + x);
        luma_of([pixels[at], pixels[at + 1], pixels[at + 2]].map(|v| v.into() * scale))
    };
    (sums.finish(), area.finish(), blocks::jpeg_traces(width, height, luma_at))
}

/// Luma of ITU-R BT.601, as JPEG has it.
fn luma_of([r, g, b]: [f32; 3]) -> f32 {
    0.299 * r + 0.587 * g + 0.114 * b
}
