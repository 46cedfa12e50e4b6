//! Facts against what SciPy and NumPy make of the same pictures (`reference/preflight.py`).

use serde::Deserialize;

use super::*;
use crate::image::Source;
use crate::image::fixture::{self, Arrays};

#[derive(Deserialize)]
struct Case {
    picture: String,
    hash: String,
    jpeg_traces: Option<f64>,
    mean: [f64; 3],
    std_dev: [f64; 3],
    luma: f64,
    luma_std_dev: f64,
    skewness: Option<f64>,
    lowest: f64,
    highest: f64,
    black: f64,
    white: f64,
    chroma: f64,
}

fn seen(picture: &Picture) -> Seen {
    let raw = Raw::Rgb8 { width: 1, height: 1, pixels: vec![0; 3] };
    ImageFacts::of("a", &raw, picture).seen.unwrap()
}

fn close(name: &str, what: &str, found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{name}: {what} {found}, expected {expected}");
}

#[test]
fn facts_are_those_of_scipy() {
    let mut arrays = Arrays::open("preflight.npz");
    let cases: Vec<Case> = fixture::cases("preflight.json");
    assert_eq!(cases.len(), 10);
    for case in cases {
        let name = &case.picture;
        let found = seen(&arrays.picture(name));
        assert_eq!(format!("{:016x}", found.look.hash), case.hash, "{name}");
        // A mean within f32's last place of a half may round the other way.
        for (found, expected) in found.look.thumbnail.iter().zip(arrays.floats(&format!("{name}_thumbnail")))
        {
            close(name, "thumbnail", f64::from(*found), f64::from(expected), 0.5001);
        }
        // One of the 63 × 117 coefficients, at least, must be allowed to lie within f32's rounding of 1.
        let traces = case.jpeg_traces.map(|expected| (found.jpeg_traces.unwrap(), expected));
        assert_eq!(found.jpeg_traces.is_some(), case.jpeg_traces.is_some(), "{name}");
        if let Some((found, expected)) = traces {
            close(name, "traces", found, expected, 1e-3);
        }
        let colour = found.colour;
        for k in 0..3 {
            close(name, "mean", colour.mean[k], case.mean[k], 1e-9);
            close(name, "std_dev", colour.std_dev[k], case.std_dev[k], 1e-6);
        }
        // Luma is f32 a pixel: 255 · 2⁻²⁴ each.
        close(name, "luma", colour.luma, case.luma, 2e-5);
        close(name, "luma_std_dev", colour.luma_std_dev, case.luma_std_dev, 2e-5);
        assert_eq!(colour.skewness.is_some(), case.skewness.is_some(), "{name}");
        if let (Some(found), Some(expected)) = (colour.skewness, case.skewness) {
            close(name, "skewness", found, expected, 1e-5);
        }
        assert_eq!((colour.lowest, colour.highest), (case.lowest, case.highest), "{name}");
        close(name, "black", colour.black, case.black, 1e-12);
        close(name, "white", colour.white, case.white, 1e-12);
        close(name, "chroma", colour.chroma, case.chroma, 1e-9);
        assert_eq!(found.look.distinct, name != "flat", "{name}");
        assert_eq!(colour.is_featureless(), name == "flat", "{name}");
        assert_eq!(colour.is_grey(), name == "grey", "{name}");
    }
}

#[test]
fn area_means_are_those_of_numpy() {
    let mut arrays = Arrays::open("preflight.npz");
    for name in ["plain", "large", "small", "narrow", "tiny"] {
        let picture = arrays.picture(name);
        let Pixels::Rgb8(pixels) = picture.pixels() else { panic!("{name}") };
        let (_, found, _) = scan(&picture, pixels, 1.0);
        for (found, expected) in found.iter().zip(arrays.floats(&format!("{name}_area"))) {
            close(name, "area mean", *found, f64::from(expected), 5e-5);
        }
    }
}

/// Left for right, every row.
fn mirrored(picture: &Picture) -> Picture {
    let Pixels::Rgb8(pixels) = picture.pixels() else { panic!() };
    let rows = pixels.chunks_exact(3 * picture.width() as usize);
    let turned = rows.flat_map(|row| row.chunks_exact(3).rev().flatten().copied()).collect();
    Picture::new(picture.width(), picture.height(), Pixels::Rgb8(turned)).unwrap()
}

#[test]
fn mirroring_flips_known_bits() {
    let mut arrays = Arrays::open("preflight.npz");
    for name in ["plain", "large", "small", "narrow"] {
        let picture = arrays.picture(name);
        let (look, other) = (seen(&picture).look, seen(&mirrored(&picture)).look);
        assert_eq!(other.hash, look.hash ^ mirror_bits(), "{name}");
        assert!(look.correlation(&other, true).unwrap() > 0.9999, "{name}");
        assert!(look.correlation(&other, false).unwrap() < 0.9, "{name}");
    }
}

#[test]
fn sixteen_bits_look_as_eight() {
    let picture = Arrays::open("preflight.npz").picture("plain");
    let Pixels::Rgb8(pixels) = picture.pixels() else { panic!() };
    let deep = Pixels::Rgb16(pixels.iter().map(|&v| u16::from(v) * 257).collect());
    let deep = seen(&Picture::new(picture.width(), picture.height(), deep).unwrap());
    let plain = seen(&picture);
    assert_eq!((deep.look.hash, deep.look.thumbnail), (plain.look.hash, plain.look.thumbnail));
    close("deep", "traces", deep.jpeg_traces.unwrap(), plain.jpeg_traces.unwrap(), 1e-3);
    close("deep", "highest", deep.colour.highest, plain.colour.highest, 1e-4);
}

#[test]
fn a_file_tells_its_type_and_camera() {
    let folder = fixture::path("preflight");
    let source = Source::open(folder.join("camera.jpg")).unwrap();
    let mut found = Vec::new();
    source
        .read(&[0], &mut |_, raw| {
            let raw = raw.unwrap();
            let picture = crate::image::decode(&raw, &crate::image::Limits::default()).unwrap();
            found.push(ImageFacts::of("camera.jpg", &raw, &picture));
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    let facts = &found[0];
    assert_eq!((facts.width, facts.height, facts.short_side()), (8, 8, 8));
    let seen = facts.seen.as_ref().unwrap();
    assert_eq!(seen.kind, Some(Kind::Jpeg));
    assert_eq!(seen.provenance.camera.as_deref(), Some("Canon EOS 5D"));
    assert_eq!(seen.jpeg_traces, None, "below 16 pixels a side");
}
