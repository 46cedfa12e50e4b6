//! Resizing against Pillow and torchvision, and against a naive version.

use proptest::prelude::*;
use serde::Deserialize;

use super::super::preprocessing::Resampler::PilBicubicF32;
use super::*;
use crate::image::fixture::{self, Arrays};

#[derive(Deserialize)]
struct Case {
    picture: String,
    px: usize,
    fit: String,
    expected: String,
}

fn to_input(picture: &Picture, px: usize, fit: Fit) -> Vec<f32> {
    Preprocessing::crop(PilBicubicF32, px).with_fit(fit).apply(picture)
}

fn fit_of(name: &str) -> Fit {
    match name {
        "crop" => Fit::Crop,
        "squash" => Fit::Squash,
        other => panic!("{other}"),
    }
}

#[test]
fn network_input_is_torchvisions_on_pillow_mode_f() {
    let mut arrays = Arrays::open("resize.npz");
    let cases: Vec<Case> = fixture::cases("resize.json");
    assert!(cases.len() >= 18);
    for case in cases {
        let picture = arrays.picture(&case.picture);
        let expected = arrays.floats(&case.expected);
        let found = to_input(&picture, case.px, fit_of(&case.fit));
        assert_eq!(found.len(), expected.len(), "{}", case.expected);
        let most = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        // Pillow sums in f64 and keeps f32 between its passes; here both are f32, and the passes change places.
        // A few roundings of 2⁻²⁴: measured at most 2.4e-7.
        assert!(most <= 5e-7, "{}: {most:e}", case.expected);
        assert!(found.iter().all(|v| (0.0..=1.0).contains(v)), "{}", case.expected);
    }
}

#[test]
fn a_picture_of_the_right_size_is_not_touched() {
    let mut arrays = Arrays::open("resize.npz");
    let square = arrays.picture("square");
    let Pixels::Rgb8(pixels) = square.pixels() else { panic!() };
    let exact: Vec<f32> = pixels.iter().map(|&v| f32::from(v) / 255.0).collect();
    assert_eq!(to_input(&square, 16, Fit::Crop), exact);
    assert_eq!(to_input(&square, 16, Fit::Squash), exact);
    let deep = Picture::new(1, 1, Pixels::Rgb16(vec![0, 257, 65535])).unwrap();
    assert_eq!(to_input(&deep, 1, Fit::Crop), [0.0, 257.0 / 65535.0, 1.0]);
    assert!(to_input(&deep, 0, Fit::Crop).is_empty());
}

/// Python: `[round(n / 2) for n in range(9)]`.
#[test]
fn the_crop_offset_rounds_half_to_even() {
    let offsets: Vec<usize> = (0..9).map(centre_offset).collect();
    assert_eq!(offsets, [0, 0, 1, 2, 2, 2, 3, 4, 4]);
}

/// One enormous side must cost neither memory nor time: only the crop's columns are computed.
#[test]
fn a_line_of_pixels_is_no_trouble() {
    let line = Picture::new(200_000, 1, Pixels::Rgb8(vec![9; 600_000])).unwrap();
    let input = to_input(&line, 224, Fit::Crop);
    assert_eq!(input.len(), 224 * 224 * 3);
    assert!(input.iter().all(|v| (v - 9.0 / 255.0).abs() < 1e-6));
    assert_eq!(to_input(&line, 3, Fit::Squash).len(), 27);
}

#[test]
fn vector_width_does_not_change_the_bits() {
    let mut arrays = Arrays::open("resize.npz");
    let picture = arrays.picture("tall");
    let Pixels::Rgb8(pixels) = picture.pixels() else { panic!() };
    let window = |input, output, first, count| {
        antialiased(&CUBIC, Axis { input, output, first, count }, as_is).into_f32()
    };
    let (columns, rows) = (window(25, 14, 0, 14), window(61, 20, 3, 12));
    let dispatched = resample(pixels, 25, &columns, &rows, 255.0, Range::Clamped);
    let portable = resample_passes(pixels, 25, &columns, &rows, 255.0, Range::Clamped);
    assert!(dispatched.iter().zip(&portable).all(|(a, b)| a.to_bits() == b.to_bits()));
    assert_eq!(dispatched.len(), 14 * 12 * 3);
}

/// The definition, in f64: every output value as one double sum over the kernel's whole window.
fn naive(
    pixels: &[u8],
    width: usize,
    height: usize,
    out: (usize, usize),
    at: (usize, usize),
    channel: usize,
) -> f64 {
    let axis = |input: usize, output: usize, x: usize| -> Vec<(usize, f64)> {
        let scale = input as f64 / output as f64;
        let stretch = scale.max(1.0);
        let centre = (x as f64 + 0.5) * scale;
        let all = (0..input).map(|i| (i, cubic((i as f64 + 0.5 - centre) / stretch)));
        let weights: Vec<_> = all.filter(|(_, w)| *w != 0.0).collect();
        let total: f64 = weights.iter().map(|(_, w)| w).sum();
        weights.into_iter().map(|(i, w)| (i, w / total)).collect()
    };
    let mut sum = 0.0;
    for (y, wy) in axis(height, out.1, at.1) {
        for (x, wx) in axis(width, out.0, at.0) {
            sum += wy * wx * f64::from(pixels[(y * width + x) * 3 + channel]);
        }
    }
    sum.clamp(0.0, 255.0) / 255.0
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn squashing_is_the_double_sum(
        width in 1..50usize, height in 1..50usize, px in 1..40usize, seed in any::<u64>(),
    ) {
        let mut state = seed;
        let pixels: Vec<u8> = (0..width * height * 3)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .collect();
        let picture = Picture::new(width as u32, height as u32, Pixels::Rgb8(pixels.clone())).unwrap();
        let found = to_input(&picture, px, Fit::Squash);
        for y in (0..px).step_by(3) {
            for x in (0..px).step_by(3) {
                for channel in 0..3 {
                    let expected = naive(&pixels, width, height, (px, px), (x, y), channel);
                    let value = f64::from(found[(y * px + x) * 3 + channel]);
                    // f32 sums of up to 200 products of values up to 255, on noise.
                    prop_assert!((value - expected).abs() < 2e-6, "{} {} {}: {} {}", x, y, channel, value, expected);
                }
            }
        }
    }

    /// A flat picture stays flat, and a mirrored one gives the mirrored input, up to rounding.
    #[test]
    fn flat_stays_flat_and_mirrors_mirror(width in 1..60u32, height in 1..60u32, px in 1..50usize, value in any::<u8>()) {
        let count = (width * height * 3) as usize;
        let flat = Picture::new(width, height, Pixels::Rgb8(vec![value; count])).unwrap();
        for fit in [Fit::Crop, Fit::Squash] {
            let input = to_input(&flat, px, fit);
            prop_assert!(input.iter().all(|v| (v - f32::from(value) / 255.0).abs() < 1e-6));
        }
        let pixels: Vec<u8> = (0..count).map(|i| (i * 97 % 251) as u8).collect();
        let mirrored: Vec<u8> = pixels
            .chunks_exact(width as usize * 3)
            .flat_map(|row| row.chunks_exact(3).rev().flatten().copied().collect::<Vec<_>>())
            .collect();
        let a = to_input(&Picture::new(width, height, Pixels::Rgb8(pixels)).unwrap(), px, Fit::Squash);
        let b = to_input(&Picture::new(width, height, Pixels::Rgb8(mirrored)).unwrap(), px, Fit::Squash);
        for (i, value) in a.iter().enumerate() {
            let (row, x, c) = (i / 3 / px, i / 3 % px, i % 3);
            let other = b[(row * px + px - 1 - x) * 3 + c];
            prop_assert!((value - other).abs() < 2e-6);
        }
    }
}
