//! Every resampler against the tool it is named for; `reference/preprocessing.py` ran the tools.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;
use crate::image::Pixels;
use crate::image::fixture::{self, Arrays};

const ALL: [Resampler; 7] = {
    let [a, b, c, d, e, f, g] = Resampler::NAMES;
    [a.1, b.1, c.1, d.1, e.1, f.1, g.1]
};

#[derive(Deserialize)]
struct Case {
    picture: String,
    resampler: String,
    /// Absent: squashed.
    short_px: Option<usize>,
    px: usize,
    expected: String,
}

impl Case {
    fn preprocessing(&self) -> Preprocessing {
        let resampler = *ALL.iter().find(|r| r.name() == self.resampler).unwrap();
        match self.short_px {
            Some(short_px) => Preprocessing::crop_from(resampler, short_px, self.px),
            None => Preprocessing::squash(resampler, self.px),
        }
    }
}

#[test]
fn every_resampler_gives_its_tools_values() {
    let mut arrays = Arrays::open("preprocessing.npz");
    let cases: Vec<Case> = fixture::cases("preprocessing.json");
    let mut worst: BTreeMap<String, f32> = BTreeMap::new();
    for case in &cases {
        let found = case.preprocessing().apply(&arrays.picture(&case.picture));
        let rounds = case.resampler.ends_with("u8");
        let expected: Vec<f32> = if rounds {
            let picture = arrays.picture(&case.expected);
            let Pixels::Rgb8(pixels) = picture.pixels() else { panic!("{}", case.expected) };
            pixels.iter().map(|&v| f32::from(v) / 255.0).collect()
        } else {
            arrays.floats(&case.expected)
        };
        assert_eq!(found.len(), expected.len(), "{}", case.expected);
        let most = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
        let worst = worst.entry(case.resampler.clone()).or_default();
        *worst = worst.max(most);
        // What is rounded to 8 bits comes out the same. The others round a few f32 weights, products and sums of up
        // to 1.3 in another order: 2⁻²⁴ each.
        let bound = if rounds { 0.0 } else { 1e-6 };
        assert!(most <= bound, "{}: off by {most:e}", case.expected);
    }
    println!("{worst:?}");
    assert_eq!(worst.len(), ALL.len());
    assert!(cases.len() >= 90);
}

/// The tools differ on the same picture by far more than the tolerance, so a mix-up cannot pass.
#[test]
fn the_resamplers_are_told_apart() {
    let mut arrays = Arrays::open("preprocessing.npz");
    let wide = arrays.picture("wide");
    let inputs: Vec<Vec<f32>> = ALL.iter().map(|&r| Preprocessing::squash(r, 12).apply(&wide)).collect();
    for (i, a) in inputs.iter().enumerate() {
        for (j, b) in inputs[..i].iter().enumerate() {
            let most = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            // The float bicubics of Pillow and torch are one function as long as nothing needs clipping.
            let same = ALL[i] == Resampler::TorchBicubicAntialias && ALL[j] == Resampler::PilBicubicF32;
            assert!(same || most > 1e-3, "{} and {}: {most:e}", ALL[i].name(), ALL[j].name());
        }
    }
}

#[test]
fn a_picture_of_the_right_size_is_not_touched_and_a_flat_one_stays_flat() {
    let pixels: Vec<u8> = (0..9 * 9 * 3).map(|i| (i * 89 % 256) as u8).collect();
    let square = Picture::new(9, 9, Pixels::Rgb8(pixels.clone())).unwrap();
    let exact: Vec<f32> = pixels.iter().map(|&v| f32::from(v) / 255.0).collect();
    for resampler in ALL {
        for to in [Preprocessing::crop(resampler, 9), Preprocessing::squash(resampler, 9)] {
            assert_eq!(to.apply(&square), exact, "{}", to.name());
        }
        for (width, height) in [(1, 1), (2, 50), (31, 7)] {
            let count = (width * height * 3) as usize;
            let flat = Picture::new(width, height, Pixels::Rgb8(vec![77; count])).unwrap();
            for to in [Preprocessing::crop_from(resampler, 9, 6), Preprocessing::squash(resampler, 6)] {
                let input = to.apply(&flat);
                assert_eq!(input.len(), 108);
                assert!(input.iter().all(|v| (v - 77.0 / 255.0).abs() < 1e-6), "{}", to.name());
            }
        }
    }
}

/// Closed form: doubling a row of two pixels. Half-pixel centres give 0, ¼, ¾, 1; TensorFlow 1 gives 0, ½, 1, 1.
#[test]
fn doubling_shows_where_pixels_lie() {
    let row = Picture::new(2, 1, Pixels::Rgb8(vec![0, 0, 0, 200, 200, 200])).unwrap();
    let firsts = |resampler| {
        let input = Preprocessing::squash(resampler, 4).apply(&row);
        input.chunks_exact(3).take(4).map(|p| p[0] * 255.0 / 200.0).collect::<Vec<f32>>()
    };
    let close = |found: Vec<f32>, expected: [f32; 4]| {
        found.iter().zip(expected).for_each(|(f, e)| assert!((f - e).abs() < 1e-6, "{found:?}"));
    };
    close(firsts(Resampler::TorchBilinear), [0.0, 0.25, 0.75, 1.0]);
    close(firsts(Resampler::Tf1Bilinear), [0.0, 0.5, 1.0, 1.0]);
}

/// Pillow has no 16-bit RGB: its resamplers see v/257 rounded.
#[test]
fn eight_bit_resamplers_round_sixteen_bits() {
    let deep =
        Picture::new(3, 1, Pixels::Rgb16(vec![0, 128, 129, 257, 385, 386, 65535, 65406, 65407])).unwrap();
    let input = Preprocessing::squash(Resampler::PilBicubicU8, 1).apply(&deep);
    let shallow = Picture::new(3, 1, Pixels::Rgb8(vec![0, 0, 1, 1, 1, 2, 255, 254, 255])).unwrap();
    assert_eq!(input, Preprocessing::squash(Resampler::PilBicubicU8, 1).apply(&shallow));
}

#[test]
fn names_say_what_is_done() {
    let name = |p: Preprocessing| p.name();
    assert_eq!(name(Preprocessing::crop(Resampler::PilBicubicF32, 224)), "pil-bicubic-f32/crop");
    let to = Preprocessing::crop_from(Resampler::PilBilinearU8, 256, 224);
    assert_eq!(name(to), "pil-bilinear-u8/256/crop");
    assert_eq!(name(to.with_fit(Fit::Squash)), "pil-bilinear-u8/squash");
    assert_eq!(name(to.with_resampler(Resampler::TorchBilinear)), "torch-bilinear/256/crop");
    assert_eq!(name(Preprocessing::squash(Resampler::Tf1Bilinear, 299)), "tf1-bilinear/squash");
    assert!(ALL.iter().all(|r| !r.name().is_empty()));
}
