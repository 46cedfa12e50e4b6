//! How a picture becomes the input of a network: resampler, size and crop.

use super::picture::Picture;
use super::resize;

/// The arithmetic of resizing, named for what it reproduces. Values are those of the tool: to the bit where it rounds
/// to 8 bits, otherwise up to the last places of f32 (`fixtures/image/preprocessing.*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Resampler {
    /// Pillow's `resize(…, BICUBIC)` on mode `F`: antialiased, in float from the file's integers to the end, so that
    /// nothing is rounded to 8 bits, then clipped to [0, 1]. clean-fid's `clean` mode, and dgm-eval's `--clean_resize`.
    #[default]
    PilBicubicF32,
    /// Pillow's `resize(…, BICUBIC)` of an 8-bit RGB image, rounded to 8 bits after each pass: what torchvision and timm
    /// transforms do to a PIL image, under any Pillow before 13.0 (which takes the passes in another order for some
    /// sizes: 1/255 here and there). 16-bit pictures are rounded to 8 bits first.
    PilBicubicU8,
    /// The same with `BILINEAR`: the transforms of most torchvision weights.
    PilBilinearU8,
    /// `torch.nn.functional.interpolate(…, mode="bilinear", align_corners=False)` of floats: no antialias. pytorch-fid,
    /// and dgm-eval's Inception.
    TorchBilinear,
    /// The same with `antialias=True`: torchmetrics since 1.8, torchvision on float tensors.
    TorchBilinearAntialias,
    /// `torch.nn.functional.interpolate(…, mode="bicubic", antialias=True)` of floats, not clipped, so that values a
    /// little below 0 and above 1 occur: EDM2's default for DINOv2.
    TorchBicubicAntialias,
    /// TensorFlow 1's `resize_bilinear`: output position x lies at x·in/out (no half-pixel centres), no antialias.
    /// torch-fidelity, the original FID code and ADM's evaluator.
    Tf1Bilinear,
}

impl Resampler {
    /// All, by the names kept beside every result.
    pub const NAMES: [(&'static str, Resampler); 7] = [
        ("pil-bicubic-f32", Resampler::PilBicubicF32),
        ("pil-bicubic-u8", Resampler::PilBicubicU8),
        ("pil-bilinear-u8", Resampler::PilBilinearU8),
        ("torch-bilinear", Resampler::TorchBilinear),
        ("torch-bilinear-antialias", Resampler::TorchBilinearAntialias),
        ("torch-bicubic-antialias", Resampler::TorchBicubicAntialias),
        ("tf1-bilinear", Resampler::Tf1Bilinear),
    ];

    /// The name kept beside every result.
    pub fn name(self) -> &'static str {
        Resampler::NAMES.iter().find(|(_, r)| *r == self).map_or("", |(name, _)| name)
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

    /// The same with another arithmetic.
    pub fn with_resampler(self, resampler: Resampler) -> Self {
        Preprocessing { resampler, ..self }
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

    /// The picture as network input: `input_px` × `input_px` × 3 (H W C), f32 in [0, 1] (but for
    /// [`Resampler::TorchBicubicAntialias`], which overshoots); empty if `input_px` is 0.
    pub fn apply(self, picture: &Picture) -> Vec<f32> {
        resize::to_input(picture, self)
    }
}

#[cfg(test)]
#[path = "preprocessing_tests.rs"]
mod tests;
