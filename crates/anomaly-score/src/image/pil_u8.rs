//! Pillow's resize of 8-bit RGB: fixed-point weights, and 8 bits between its two passes.
//!
//! Source: Pillow 4e5f09f (before 13.0) `src/libImaging/Resample.c`: `PRECISION_BITS`, `normalize_coeffs_8bpc`, `clip8`,
//! the horizontal pass before the vertical one. Pillow 13.0 takes the cheaper order, which moves some values by 1/255;
//! the field's published numbers are older.

use std::borrow::Cow;

use super::picture::{Picture, Pixels};
use super::resize::{Axis, Kernel, Window, antialiased, as_is};

/// Bits behind the point of a weight: 8 of the 32 hold the value and 2 more what a kernel overshoots.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// The picture resized, every value a multiple of 1/255. A 16-bit picture is rounded to 8 bits first: Pillow has no
/// such RGB images.
pub(super) fn resample(picture: &Picture, kernel: &Kernel, columns: Axis, rows: Axis) -> Vec<f32> {
    let pixels: Cow<[u8]> = match picture.pixels() {
        Pixels::Rgb8(pixels) => Cow::Borrowed(pixels),
        Pixels::Rgb16(pixels) => pixels.iter().map(|&v| ((u32::from(v) + 128) / 257) as u8).collect(),
    };
    let window = |axis| antialiased(kernel, axis, as_is).map(fixed_point);
    let (columns, rows) = (window(columns), window(rows));
    let reads = rows.reads();
    let narrow = across(&pixels, picture.width() as usize, reads.clone(), &columns);
    down(&narrow, columns.len() * 3, reads.start, &rows)
}

/// The weight times 2^22, rounded half away from zero.
fn fixed_point(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION_BITS);
    (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

/// A sum of weighted values, begun with a half, brought back to 8 bits.
fn clip8(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// Rows `rows` of a picture of `width` columns, resized along them.
fn across(pixels: &[u8], width: usize, rows: std::ops::Range<usize>, columns: &Window<i32>) -> Vec<u8> {
    let mut out = Vec::with_capacity(rows.len() * columns.len() * 3);
    for row in rows {
        let row = &pixels[row * width * 3..][..width * 3];
        for x in 0..columns.len() {
            let (left, weights) = columns.at(x);
            let mut sum = [HALF; 3];
            for (weight, pixel) in weights.iter().zip(row[left * 3..].as_chunks::<3>().0) {
                for channel in 0..3 {
                    sum[channel] += weight * i32::from(pixel[channel]);
                }
            }
            out.extend(sum.map(clip8));
        }
    }
    out
}

/// Columns of `stride` values, of which the first row is number `top`, resized; in [0, 1].
fn down(pixels: &[u8], stride: usize, top: usize, rows: &Window<i32>) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows.len() * stride);
    let mut sums = vec![0i32; stride];
    for y in 0..rows.len() {
        let (start, weights) = rows.at(y);
        sums.fill(HALF);
        for (weight, row) in weights.iter().zip(pixels[(start - top) * stride..].chunks_exact(stride)) {
            sums.iter_mut().zip(row).for_each(|(sum, &v)| *sum += weight * i32::from(v));
        }
        out.extend(sums.iter().map(|&sum| f32::from(clip8(sum)) / 255.0));
    }
    out
}
