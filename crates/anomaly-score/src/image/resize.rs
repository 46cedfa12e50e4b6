//! Resize and crop: a picture becomes network input.
//!
//! The resampler gives the values of Pillow's `resize(…, BICUBIC)` on mode `F`, channel by channel: a cubic kernel
//! with a = −0.5 whose support grows when shrinking, in float from the file's integers to the end, no rounding
//! in between. `fixtures/image/resize.*` hold Pillow's own values.

use super::picture::{Picture, Pixels};
use super::preprocessing::{Fit, Preprocessing};

/// The picture as network input, f32 in [0, 1]; empty if the input has no pixels.
///
/// A side that already has its size is left alone, so a picture of the input's size gives exactly v/255 (v/65535 for
/// 16 bits). Smaller pictures are enlarged by the same kernel. The operations and their order are fixed, so the bits
/// are the same on every machine.
///
/// # Source
/// Kernel, support and window rounding: Pillow `src/libImaging/Resample.c`. Target size and crop offset: torchvision
/// `transforms.Resize(px)` (long side `int(px · long / short)`) and `CenterCrop(px)` (offset rounded half to even).
pub(super) fn pil_bicubic_f32(picture: &Picture, to: Preprocessing) -> Vec<f32> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let px = to.input_px;
    if px == 0 {
        return Vec::new();
    }
    let (columns, rows) = match to.fit {
        Fit::Crop => {
            let short = width.min(height);
            let axis = |length| Window::crop(length, short, to.short_px.max(px), px);
            (axis(width), axis(height))
        }
        Fit::Squash => (Window::new(width, px, 0, px), Window::new(height, px, 0, px)),
    };
    match picture.pixels() {
        Pixels::Rgb8(pixels) => resample(pixels, width, &columns, &rows, 255.0),
        Pixels::Rgb16(pixels) => resample(pixels, width, &columns, &rows, 65535.0),
    }
}

/// The weights of the output positions that are kept along one axis.
struct Window {
    /// For each kept output position: its first input position, and where its weights start.
    taps: Vec<(usize, usize)>,
    /// All weights, position after position.
    weights: Vec<f32>,
}

impl Window {
    /// The axis of length `length` of a picture whose short side is `short`, resized to `short_px` and cropped to `px`.
    fn crop(length: usize, short: usize, short_px: usize, px: usize) -> Window {
        let resized = short_px * length / short;
        Window::new(length, resized, centre_offset(resized - px), px)
    }

    /// `count` positions from `first` on, of an axis of `input` positions resized to `output`.
    fn new(input: usize, output: usize, first: usize, count: usize) -> Window {
        if input == output {
            return Window {
                taps: (first..first + count).map(|x| (x, x - first)).collect(),
                weights: vec![1.0; count],
            };
        }
        let scale = input as f64 / output as f64;
        let filter_scale = scale.max(1.0);
        let support = 2.0 * filter_scale;
        let mut taps = Vec::with_capacity(count);
        let mut weights = Vec::new();
        let mut window = Vec::new();
        for x in first..first + count {
            let centre = (x as f64 + 0.5) * scale;
            // Pillow's C casts drop the fraction, towards zero.
            let start = ((centre - support + 0.5) as i64).max(0) as usize;
            let end = ((centre + support + 0.5) as i64).min(input as i64) as usize;
            window.clear();
            window.extend((start..end).map(|i| cubic((i as f64 - centre + 0.5) / filter_scale)));
            let total: f64 = window.iter().sum();
            taps.push((start, weights.len()));
            weights.extend(window.iter().map(|w| (w / total) as f32));
        }
        Window { taps, weights }
    }

    fn len(&self) -> usize {
        self.taps.len()
    }

    /// The first input position and the weights of kept position `i`.
    fn at(&self, i: usize) -> (usize, &[f32]) {
        let (start, from) = self.taps[i];
        let to = self.taps.get(i + 1).map_or(self.weights.len(), |next| next.1);
        (start, &self.weights[from..to])
    }

    /// The input positions that any kept position reads.
    fn reads(&self) -> std::ops::Range<usize> {
        let start = (0..self.len()).map(|i| self.at(i).0).min().unwrap_or(0);
        let end = (0..self.len()).map(|i| self.at(i).0 + self.at(i).1.len()).max().unwrap_or(0);
        start..end
    }
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
    columns: &Window,
    rows: &Window,
    full_scale: f32,
) -> Vec<f32> {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn with_avx2<T: Sample>(
            pixels: &[T],
            width: usize,
            columns: &Window,
            rows: &Window,
            full: f32,
        ) -> Vec<f32> {
            resample_passes(pixels, width, columns, rows, full)
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, asked for in the line above.
            return unsafe { with_avx2(pixels, width, columns, rows, full_scale) };
        }
    }
    resample_passes(pixels, width, columns, rows, full_scale)
}

/// Output rows computed together, so that one weight serves several pixels.
const BATCH: usize = 4;

/// Rows first: that pass runs along memory, and leaves fewer rows to the other one. (Pillow goes the other way;
/// nothing is rounded or clipped in between, so only the last float bits can tell.)
#[inline(always)]
fn resample_passes<T: Sample>(
    pixels: &[T],
    width: usize,
    columns: &Window,
    rows: &Window,
    full_scale: f32,
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
    out.iter_mut().for_each(|v| *v = v.clamp(0.0, full_scale) / full_scale);
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
