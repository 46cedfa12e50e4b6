//! How a picture becomes the input of a network: resampler, size and crop.

use super::picture::Picture;
use super::resize;

/// The arithmetic of resizing, named for what it reproduces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Resampler {
    /// Pillow's `resize(…, BICUBIC)` on mode `F`: antialiased, in float from the file's integers to the end, so that
    /// nothing is rounded to 8 bits.
    #[default]
    PilBicubicF32,
}

impl Resampler {
    /// The name kept beside every result.
    pub fn name(self) -> &'static str {
        match self {
            Resampler::PilBicubicF32 => "pil-bicubic-f32",
        }
    }
}

/// How a picture that is not square becomes square.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Fit {
    /// Short side to a size, then the centre square, as torchvision's `Resize` and `CenterCrop`.
    #[default]
    Crop,
    /// Both sides to the input size; the proportions are lost.
    Squash,
}

/// How a picture becomes network input: `input_px` × `input_px` × 3 (H W C) in [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Preprocessing {
    /// The arithmetic.
    pub resampler: Resampler,
    /// The geometry.
    pub fit: Fit,
    /// Length of the short side before the crop, pixels; at least `input_px`. Without meaning where `fit` squashes.
    pub short_px: usize,
    /// Side of the input, pixels.
    pub input_px: usize,
}

impl Preprocessing {
    /// Short side to `input_px`, then the centre square.
    pub const fn crop(resampler: Resampler, input_px: usize) -> Self {
        Preprocessing { resampler, fit: Fit::Crop, short_px: input_px, input_px }
    }

    /// Short side to `short_px`, then the centre square of `input_px`.
    pub const fn crop_from(resampler: Resampler, short_px: usize, input_px: usize) -> Self {
        Preprocessing { resampler, fit: Fit::Crop, short_px, input_px }
    }

    /// Both sides to `input_px`.
    pub const fn squash(resampler: Resampler, input_px: usize) -> Self {
        Preprocessing { resampler, fit: Fit::Squash, short_px: input_px, input_px }
    }

    /// The same with another geometry.
    pub fn with_fit(self, fit: Fit) -> Self {
        Preprocessing { fit, ..self }
    }

    /// The name kept beside every result: `pil-bicubic-f32/crop`, `pil-bicubic-f32/248/crop`, `pil-bicubic-f32/squash`.
    pub fn name(self) -> String {
        let resampler = self.resampler.name();
        match self.fit {
            Fit::Squash => format!("{resampler}/squash"),
            Fit::Crop if self.short_px == self.input_px => format!("{resampler}/crop"),
            Fit::Crop => format!("{resampler}/{}/crop", self.short_px),
        }
    }

    /// The picture as network input: `input_px` × `input_px` × 3 (H W C), f32 in [0, 1]; empty if `input_px` is 0.
    pub fn apply(self, picture: &Picture) -> Vec<f32> {
        match self.resampler {
            Resampler::PilBicubicF32 => resize::pil_bicubic_f32(picture, self),
        }
    }
}
