//! Resize and crop: a picture becomes network input.
//!
//! Every resampler is separable: along each axis an output position is a weighted sum of a few input positions. They
//! differ in the weights ([`Window`]) and in the arithmetic: float from the file's integers to the end (here), or
//! Pillow's 8-bit passes (`pil_u8.rs`). `fixtures/image/resize.*` and `preprocessing.*` hold the tools' own values.

use super::picture::{Picture, Pixels};
use super::pil_u8;
use super::preprocessing::{Fit, Preprocessing, Resampler};

/// The picture as network input, f32; empty if the input has no pixels.
///
/// A side that already has its size is left alone, so a picture of the input's size gives exactly v/255 (v/65535 for
/// 16 bits). Smaller pictures are enlarged. The operations and their order are fixed, so the bits are the same on
/// every machine.
///
/// # Source
/// Target size and crop offset: torchvision `transforms.Resize(px)` (long side `int(px · long / short)`) and
/// `CenterCrop(px)` (offset rounded half to even). Kernels: [`Resampler`].
pub(super) fn to_input(picture: &Picture, to: Preprocessing) -> Vec<f32> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    if to.input_px == 0 {
        return Vec::new();
    }
    let (columns, rows) = (Axis::new(width, height, to), Axis::new(height, width, to));
    let float = |window: fn(Axis) -> Window<f32>, range: Range| {
        let (columns, rows) = (window(columns), window(rows));
        match picture.pixels() {
            Pixels::Rgb8(pixels) => resample(pixels, width, &columns, &rows, 255.0, range),
            Pixels::Rgb16(pixels) => resample(pixels, width, &columns, &rows, 65535.0, range),
        }
    };
    match to.resampler {
        Resampler::PilBicubicF32 => float(|a| antialiased(&CUBIC, a, as_is).into_f32(), Range::Clamped),
        Resampler::PilBicubicU8 => pil_u8::resample(picture, &CUBIC, columns, rows),
        Resampler::PilBilinearU8 => pil_u8::resample(picture, &TRIANGLE, columns, rows),
        Resampler::TorchBicubicAntialias => float(|a| antialiased(&CUBIC, a, to_f32).into_f32(), Range::Free),
        Resampler::TorchBilinearAntialias => {
            float(|a| antialiased(&TRIANGLE, a, to_f32).into_f32(), Range::Free)
        }
        Resampler::TorchBilinear => float(half_pixel_bilinear, Range::Free),
        Resampler::Tf1Bilinear => float(tf1_bilinear, Range::Free),
    }
}

/// Whether values that a kernel carried beyond black and white are brought back.
#[derive(Clone, Copy, PartialEq)]
enum Range {
    Clamped,
    Free,
}

/// One axis on its way: `input` positions become `output`, of which `count` from `first` on are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) first: usize,
    pub(super) count: usize,
}

impl Axis {
    /// The axis of length `length` of a picture whose other side is `other`.
    fn new(length: usize, other: usize, to: Preprocessing) -> Axis {
        let px = to.input_px;
        match to.fit {
            Fit::Crop => {
                let output = to.short_px.max(px) * length / length.min(other);
                Axis { input: length, output, first: centre_offset(output - px), count: px }
            }
            Fit::Squash => Axis { input: length, output: px, first: 0, count: px },
        }
    }

    /// The kept output positions.
    fn kept(self) -> std::ops::Range<usize> {
        self.first..self.first + self.count
    }
}

/// The weights of the output positions that are kept along one axis.
pub(super) struct Window<W> {
    /// For each kept output position: its first input position, and where its weights start.
    taps: Vec<(usize, usize)>,
    /// All weights, position after position.
    weights: Vec<W>,
}

impl<W> Window<W> {
    fn with_capacity(count: usize) -> Self {
        Window { taps: Vec::with_capacity(count), weights: Vec::new() }
    }

    /// The next position: weights of the input positions from `start` on.
    fn push(&mut self, start: usize, weights: impl IntoIterator<Item = W>) {
        self.taps.push((start, self.weights.len()));
        self.weights.extend(weights);
    }

    pub(super) fn len(&self) -> usize {
        self.taps.len()
    }

    /// The first input position and the weights of kept position `i`.
    pub(super) fn at(&self, i: usize) -> (usize, &[W]) {
        let (start, from) = self.taps[i];
        let to = self.taps.get(i + 1).map_or(self.weights.len(), |next| next.1);
        (start, &self.weights[from..to])
    }

    /// The input positions that any kept position reads.
    pub(super) fn reads(&self) -> std::ops::Range<usize> {
        let start = (0..self.len()).map(|i| self.at(i).0).min().unwrap_or(0);
        let end = (0..self.len()).map(|i| self.at(i).0 + self.at(i).1.len()).max().unwrap_or(0);
        start..end
    }

    pub(super) fn map<V>(self, weight: impl Fn(W) -> V) -> Window<V> {
        Window { taps: self.taps, weights: self.weights.into_iter().map(weight).collect() }
    }
}

impl Window<f64> {
    fn into_f32(self) -> Window<f32> {
        self.map(|w| w as f32)
    }
}

/// A resampling kernel: how far it reaches at scale 1, and its value.
pub(super) struct Kernel {
    support: f64,
    value: fn(f64) -> f64,
}

/// Cubic convolution with a = −0.5 (Catmull–Rom), the one of Pillow and of torch's antialiased bicubic.
pub(super) const CUBIC: Kernel = Kernel { support: 2.0, value: cubic };
/// Linear interpolation.
pub(super) const TRIANGLE: Kernel = Kernel { support: 1.0, value: |x| (1.0 - x.abs()).max(0.0) };

/// Places along an axis as Pillow has them: f64.
pub(super) fn as_is(place: f64) -> f64 {
    place
}

/// Places along an axis as PyTorch has them for f32 images.
fn to_f32(place: f64) -> f64 {
    f64::from(place as f32)
}

/// A kernel whose support grows when shrinking. `rounded` is done to every place: it decides weights in the sixth digit.
///
/// # Source
/// Support, window rounding and normalisation: Pillow `src/libImaging/Resample.c`; PyTorch's
/// `aten/src/ATen/native/cpu/UpSampleKernel.cpp` (`antialias=True`) has the same.
pub(super) fn antialiased(kernel: &Kernel, axis: Axis, rounded: fn(f64) -> f64) -> Window<f64> {
    let Axis { input, output, count, .. } = axis;
    let mut all = Window::with_capacity(count);
    if input == output {
        axis.kept().for_each(|x| all.push(x, [1.0]));
        return all;
    }
    let scale = rounded(input as f64 / output as f64);
    let filter_scale = scale.max(1.0);
    let support = kernel.support * filter_scale;
    let mut window = Vec::new();
    for x in axis.kept() {
        let centre = rounded((x as f64 + 0.5) * scale);
        // The C casts drop the fraction, towards zero.
        let start = ((centre - support + 0.5) as i64).max(0) as usize;
        let end = ((centre + support + 0.5) as i64).min(input as i64) as usize;
        let place = |i: usize| rounded(rounded(i as f64 - centre) + 0.5);
        window.clear();
        window.extend((start..end).map(|i| (kernel.value)(rounded(place(i) / filter_scale))));
        let total: f64 = window.iter().sum();
        all.push(start, window.iter().map(|w| w / total));
    }
    all
}

/// Between the two nearest pixel centres, without antialias, in f32 as PyTorch computes it.
fn half_pixel_bilinear(axis: Axis) -> Window<f32> {
    let scale = axis.input as f32 / axis.output as f32;
    two_taps(axis, |x| (scale * (x as f32 + 0.5) - 0.5).max(0.0))
}

/// As TensorFlow 1 resizes: output position x lies at x·input/output, pixels counted from their corners.
fn tf1_bilinear(axis: Axis) -> Window<f32> {
    let scale = axis.input as f32 / axis.output as f32;
    two_taps(axis, |x| x as f32 * scale)
}

/// Linear interpolation at `place`; the last pixel stands for what lies beyond it.
fn two_taps(axis: Axis, place: impl Fn(usize) -> f32) -> Window<f32> {
    let mut all = Window::with_capacity(axis.count);
    for x in axis.kept() {
        let at = place(x);
        let low = (at as usize).min(axis.input - 1);
        let part = at - low as f32;
        if low + 1 < axis.input {
            all.push(low, [1.0 - part, part]);
        } else {
            all.push(low, [1.0]);
        }
    }
    all
}

/// Half of `surplus`, a half rounded to the even neighbour as Python's `round` does.
fn centre_offset(surplus: usize) -> usize {
    let half = surplus / 2;
    if surplus % 2 == 1 && half % 2 == 1 { half + 1 } else { half }
}

/// The cubic convolution kernel with a = −0.5 (Catmull–Rom).
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// A channel value of a file.
trait Sample: Copy {
    fn value(self) -> f32;
}

impl Sample for u8 {
    #[inline(always)]
    fn value(self) -> f32 {
        f32::from(self)
    }
}

impl Sample for u16 {
    #[inline(always)]
    fn value(self) -> f32 {
        f32::from(self)
    }
}

/// Both passes, dispatched to the widest vectors at hand; lanes never mix, so the width does not change the bits.
fn resample<T: Sample>(
    pixels: &[T],
    width: usize,
    columns: &Window<f32>,
    rows: &Window<f32>,
    full_scale: f32,
    range: Range,
) -> Vec<f32> {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn with_avx2<T: Sample>(
            pixels: &[T],
            width: usize,
            columns: &Window<f32>,
            rows: &Window<f32>,
            full: f32,
            range: Range,
        ) -> Vec<f32> {
            resample_passes(pixels, width, columns, rows, full, range)
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, asked for in the line above.
            return unsafe { with_avx2(pixels, width, columns, rows, full_scale, range) };
        }
    }
    resample_passes(pixels, width, columns, rows, full_scale, range)
}

/// Output rows computed together, so that one weight serves several pixels.
const BATCH: usize = 4;

/// Rows first: that pass runs along memory, and leaves fewer rows to the other one. (Pillow goes the other way;
/// nothing is rounded or clipped in between, so only the last float bits can tell.)
#[inline(always)]
fn resample_passes<T: Sample>(
    pixels: &[T],
    width: usize,
    columns: &Window<f32>,
    rows: &Window<f32>,
    full_scale: f32,
    range: Range,
) -> Vec<f32> {
    let reads = columns.reads();
    let mut row = vec![0f32; reads.len() * 3];
    // Pixels of `BATCH` rows side by side, four values each (the last one idle) as vectors like it.
    let mut strip = vec![[[0f32; 4]; BATCH]; reads.len()];
    let stride = columns.len() * 3;
    let mut out = vec![0f32; rows.len() * stride];
    for (batch, out) in out.chunks_mut(BATCH * stride).enumerate() {
        for (i, y) in (batch * BATCH..rows.len()).take(BATCH).enumerate() {
            let (top, weights) = rows.at(y);
            blend_rows(pixels, width * 3, top, reads.start * 3, weights, &mut row);
            for (slot, pixel) in strip.iter_mut().zip(row.as_chunks::<3>().0) {
                slot[i] = [pixel[0], pixel[1], pixel[2], 0.0];
            }
        }
        for x in 0..columns.len() {
            let (left, weights) = columns.at(x);
            let taps = &strip[left - reads.start..][..weights.len()];
            let mut sum = [[0f32; 4]; BATCH];
            for (weight, tap) in weights.iter().zip(taps) {
                for i in 0..BATCH {
                    for lane in 0..4 {
                        sum[i][lane] += weight * tap[i][lane];
                    }
                }
            }
            for (line, sum) in out.chunks_exact_mut(stride).zip(sum) {
                line[x * 3..x * 3 + 3].copy_from_slice(&sum[..3]);
            }
        }
    }
    if range == Range::Clamped {
        out.iter_mut().for_each(|v| *v = v.clamp(0.0, full_scale));
    }
    out.iter_mut().for_each(|v| *v /= full_scale);
    out
}

/// `out` = Σ w · row over `weights` and the rows from `top` on, from value `left` of each row on.
#[inline(always)]
fn blend_rows<T: Sample>(
    pixels: &[T],
    stride: usize,
    top: usize,
    left: usize,
    weights: &[f32],
    out: &mut [f32],
) {
    const LANES: usize = 32;
    let at = |k: usize, i: usize, n: usize| {
        let start = (top + k) * stride + left + i;
        &pixels[start..start + n]
    };
    let whole = out.len() / LANES * LANES;
    for i in (0..whole).step_by(LANES) {
        let mut sum = [0f32; LANES];
        for (k, weight) in weights.iter().enumerate() {
            let source = at(k, i, LANES);
            for lane in 0..LANES {
                sum[lane] += weight * source[lane].value();
            }
        }
        out[i..i + LANES].copy_from_slice(&sum);
    }
    for i in whole..out.len() {
        out[i] = 0.0;
        for (k, weight) in weights.iter().enumerate() {
            out[i] += weight * at(k, i, 1)[0].value();
        }
    }
}

#[cfg(test)]
#[path = "resize_tests.rs"]
mod tests;
