//! Decoding against what Pillow and NumPy make of the same files.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::image::fixture::{self, Arrays};

#[derive(Deserialize)]
struct Case {
    file: String,
    expected: String,
    lossy: bool,
    traits: Vec<String>,
}

fn cases() -> Vec<Case> {
    fixture::cases("decode.json")
}

fn file(name: &str) -> Vec<u8> {
    fixture::bytes(&format!("decode/{name}"))
}

fn decode_bytes(bytes: Vec<u8>, name: &str) -> Result<Picture, Unreadable> {
    decode(&Raw::Encoded { bytes, claimed: Kind::of_name(name) }, &Limits::default())
}

/// The largest difference between two pictures, and the mean one, in levels.
fn difference(a: &Picture, b: &Picture) -> (u32, f64) {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    let differences: Vec<u32> = match (a.pixels(), b.pixels()) {
        (Pixels::Rgb8(a), Pixels::Rgb8(b)) => {
            a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).collect()
        }
        (Pixels::Rgb16(a), Pixels::Rgb16(b)) => {
            a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).collect()
        }
        _ => panic!("bit depths differ"),
    };
    let total: u32 = differences.iter().sum();
    (*differences.iter().max().unwrap(), f64::from(total) / differences.len() as f64)
}

#[test]
fn every_type_and_oddity_decodes_as_expected() {
    let mut expected = Arrays::open("decode.npz");
    let cases = cases();
    assert!(cases.len() > 60);
    for case in cases {
        let picture =
            decode_bytes(file(&case.file), &case.file).unwrap_or_else(|e| panic!("{}: {e}", case.file));
        let (most, mean) = difference(&picture, &expected.picture(&case.expected));
        // Lossless files have one right answer, and the lossy WebP happens to be rounded alike. JPEG's inverse
        // transform, chroma interpolation and colour conversion are each rounded differently from libjpeg-turbo's:
        // measured at most 3 levels in one value and 0.37 on average over these files.
        let is_jpeg = case.lossy && Kind::of_name(&case.file) == Some(Kind::Jpeg);
        let (most_allowed, mean_allowed) = if is_jpeg { (3, 0.4) } else { (0, 0.0) };
        assert!(most <= most_allowed && mean <= mean_allowed, "{}: max {most}, mean {mean}", case.file);

        let traits = picture.traits();
        let mut found = Vec::new();
        for (name, set) in [
            ("alpha_composited", traits.alpha_composited),
            ("animated", traits.animated),
            ("cmyk", traits.cmyk),
            ("grey", traits.grey),
            ("reoriented", traits.reoriented),
            ("sixteen_bit", traits.sixteen_bit),
        ] {
            found.extend(set.then_some(name));
        }
        assert_eq!(found, case.traits, "{}", case.file);
        assert_eq!(traits.kind, Kind::of_name(&case.file), "{}", case.file);
    }
}

/// A file cut anywhere is refused, or (what is cut off being no part of the first picture) gives the whole picture.
#[test]
fn a_cut_file_never_gives_half_a_picture() {
    for case in cases() {
        let whole = file(&case.file);
        let picture = decode_bytes(whole.clone(), &case.file).unwrap();
        let last = whole.len().saturating_sub(40);
        // Without the last number's last digits an ASCII file is another whole file.
        let end = whole.len() - if case.file == "rgb_ascii.ppm" { 4 } else { 0 };
        for length in (0..last).step_by(5).chain(last..end) {
            match decode_bytes(whole[..length].to_vec(), &case.file) {
                Err(_) => {}
                Ok(cut) => assert!(
                    cut.pixels() == picture.pixels(),
                    "{} cut to {length} of {} bytes",
                    case.file,
                    whole.len()
                ),
            }
        }
    }
}

#[test]
fn a_half_jpeg_with_an_end_marker_put_behind_it_is_truncated() {
    let jpegs = ["rgb_444.jpg", "rgb_422.jpg", "rgb_420.jpg", "restart.jpg", "grey.jpg", "cmyk.jpg"];
    for name in jpegs {
        let whole = file(name);
        let scan = whole.windows(2).rposition(|w| w == [0xff, 0xda]).unwrap() + 14;
        for cut in [(scan + whole.len()) / 2, whole.len() - 8] {
            // Not behind a lone 0xff, which would make the end marker a stuffed byte.
            let cut = if whole[cut - 1] == 0xff { cut - 1 } else { cut };
            let mut bytes = whole[..cut].to_vec();
            bytes.extend([0xff, 0xd9]);
            let error = decode_bytes(bytes, name).unwrap_err();
            assert_eq!(error.code(), "truncated", "{name}: {error}");
        }
        // Bytes between the picture and the end marker, or behind it, do no harm.
        let picture = decode_bytes(whole.clone(), name).unwrap();
        let mut bytes = whole[..whole.len() - 2].to_vec();
        bytes.extend([0; 5]);
        bytes.extend([0xff, 0xd9, 1, 2, 3]);
        assert!(decode_bytes(bytes, name).unwrap() == picture, "{name}");
    }
}

#[test]
fn files_that_are_no_image_say_what_they_are() {
    let text = |bytes: &[u8], name| decode_bytes(bytes.to_vec(), name).unwrap_err().to_string();
    assert_eq!(text(b"", "a.png"), "the file is empty (0 bytes)");
    assert_eq!(
        text(b"hello \x00 world, this", "a.png"),
        "not a supported image: starts with \"hello \\x00 worl\""
    );
    assert_eq!(text(b"<!DOCTYPE html><p>404", "a.png"), "named as PNG but the content is an HTML page");
    assert_eq!(text(b"\0\0\0\x20ftypavif\0\0\0\0", "a.jpg"), "named as JPEG but the content is AVIF");
    assert_eq!(text(&file("rgb_420.jpg"), "a.PNG"), "named as PNG but the content is JPEG");
    assert_eq!(text(&file("rgb8.png"), "dir/a.jpeg"), "named as JPEG but the content is PNG");
    for (name, what) in [
        ("refused_float.tif", "floating-point samples, for which no value is defined to be white"),
        ("refused_fill_order.tif", "bits stored in reversed order"),
        ("refused_planar_tiles.tif", "tiles of separate colour planes"),
    ] {
        assert_eq!(text(&file(name), name), format!("unsupported TIFF: {what}"));
    }
    let mut bmp = file("palette.bmp");
    bmp[10..14].copy_from_slice(&54u32.to_le_bytes());
    let end = 54 + 4 * u32::from_le_bytes(bmp[46..50].try_into().unwrap());
    assert_eq!(
        text(&bmp, "a.bmp"),
        format!("corrupt BMP: the pixels start at byte 54, the headers end at {end}")
    );
    let cut = |name, keep: fn(usize) -> usize| {
        let bytes = file(name);
        text(&bytes[..keep(bytes.len())], name)
    };
    assert_eq!(cut("rgb_420.jpg", |n| n / 2), "truncated JPEG: the file ends inside a header segment");
    assert_eq!(cut("rgb_420.jpg", |n| n * 99 / 100), "truncated JPEG: there is no end-of-image marker");
    assert_eq!(
        cut("rgb8.png", |n| n - 20),
        "truncated PNG: the file ends inside its IDAT chunk, 8 bytes short"
    );
    assert_eq!(cut("rgb8.png", |n| n - 12), "truncated PNG: the file ends before the IEND chunk");
    assert_eq!(cut("rgb.bmp", |n| n / 2), "truncated BMP: the file ends inside the picture");
    assert_eq!(cut("palette.gif", |n| n / 2), "truncated GIF: the file ends before its first frame does");
}

/// Faults that say nothing about the pixels are overlooked, as libjpeg and Pillow do.
#[test]
fn harmless_oddities_are_read_over() {
    for name in ["rgb_420.jpg", "progressive.jpg", "grey_adobe.jpg"] {
        let whole = file(name);
        let picture = decode_bytes(whole.clone(), name).unwrap();
        let first = 4 + usize::from(whole[4]) * 256 + usize::from(whole[5]) - 2 + 2;
        let with = |extra: &[u8]| [&whole[..first], extra, &whole[first..]].concat();
        // Stray bytes between two headers, and an Adobe marker one byte short of its colour transform.
        for extra in [&[1, 2, 3, 4, 5, 6, 7, 8][..], b"\xff\xee\x00\x0dAdobe\x00\x64\x00\x00\x00\x00"] {
            assert!(decode_bytes(with(extra), name).unwrap() == picture, "{name}");
        }
    }
    // Exif in WebP with JPEG's introduction before it.
    let mut webp = file("orientation6.webp");
    let picture = decode_bytes(webp.clone(), "a.webp").unwrap();
    let chunk = webp.windows(4).position(|w| w == b"EXIF").unwrap();
    for (at, add) in [(4, 6), (chunk + 4, 6)] {
        let size = u32::from_le_bytes(webp[at..at + 4].try_into().unwrap());
        webp[at..at + 4].copy_from_slice(&(size + add).to_le_bytes());
    }
    webp.splice(chunk + 8..chunk + 8, *b"Exif\0\0");
    let prefixed = decode_bytes(webp, "a.webp").unwrap();
    assert!(prefixed == picture && prefixed.traits().reoriented);
}

#[test]
fn a_type_has_more_than_one_extension() {
    for (name, alias) in [("rgb_420.jpg", "x.JPEG"), ("rgb_lzw.tif", "x.Tiff"), ("grey.ppm", "x.PPM")] {
        decode_bytes(file(name), alias).unwrap();
    }
    // Without a claim there is no lie.
    let bytes = file("rgb8.png");
    decode(&Raw::Encoded { bytes, claimed: None }, &Limits::default()).unwrap();
}

/// Small files whose headers announce far more pixels than the default limit.
#[test]
fn a_decompression_bomb_is_refused_by_its_header() {
    let patched = |name: &str, patches: &[(usize, &[u8])]| {
        let mut bytes = file(name);
        for (at, value) in patches {
            bytes[*at..at + value.len()].copy_from_slice(value);
        }
        bytes
    };
    let jpeg_size = |name: &str| {
        file(name).windows(2).position(|w| w[0] == 0xff && matches!(w[1], 0xc0 | 0xc2)).unwrap() + 5
    };
    let mut png = patched("rgb8.png", &[(16, &[0, 0, 0xff, 0xff, 0, 0, 0xff, 0xff])]);
    let crc = crc32fast::hash(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    let files = [
        ("a.png", png),
        ("a.jpg", patched("rgb_420.jpg", &[(jpeg_size("rgb_420.jpg"), &[0xff, 0, 0xff, 0])])),
        ("b.jpg", patched("progressive.jpg", &[(jpeg_size("progressive.jpg"), &[0xff, 0, 0xff, 0])])),
        ("a.bmp", patched("rgb.bmp", &[(18, &[0, 0x7f, 0, 0]), (22, &[0, 0x7f, 0, 0])])),
        ("a.gif", patched("palette.gif", &[(6, &[0xff; 4])])),
        ("a.qoi", patched("rgb.qoi", &[(4, &[0, 0, 0x3a, 0x98, 0, 0, 0x3a, 0x98])])),
        ("a.ppm", b"P6 60000 60000 255 \0\0\0".to_vec()),
    ];
    for (name, bytes) in files {
        let error = decode_bytes(bytes, name).unwrap_err();
        assert_eq!(error.code(), "too-large", "{name}: {error}");
        assert!(error.to_string().contains("the limit is 178956970"), "{name}: {error}");
    }

    let limits = |max_pixels, max_bytes| Limits { max_pixels, max_bytes };
    let with = |name: &str, limits| {
        decode(&Raw::Encoded { bytes: file(name), claimed: Kind::of_name(name) }, &limits)
            .map_err(|e| e.to_string())
    };
    for case in cases() {
        // 19 × 23 pixels, at most 8 bytes each while decoding, plus the decoders' own buffers.
        assert!(with(&case.file, limits(437, 1 << 20)).is_ok(), "{}", case.file);
        assert!(with(&case.file, limits(436, 1 << 20)).is_err(), "{}", case.file);
    }
    assert_eq!(
        with("rgb16.png", limits(437, 437 * 6 - 1)).unwrap_err(),
        "too large: 23 × 19 takes 2622 bytes to decode, the limit is 2621"
    );
}

#[test]
fn array_pixels_are_taken_as_they_are() {
    let raw = |width, pixels| Raw::Rgb8 { width, height: 1, pixels };
    let picture = decode(&raw(2, vec![1, 2, 3, 4, 5, 6]), &Limits::default()).unwrap();
    assert_eq!(picture.pixels(), &Pixels::Rgb8(vec![1, 2, 3, 4, 5, 6]));
    assert_eq!(picture.traits(), Traits::default());
    assert_eq!(decode(&raw(3, vec![0; 6]), &Limits::default()).unwrap_err().code(), "corrupt");
}

/// The formula in exact arithmetic, for every 8-bit pair.
#[test]
fn white_under_alpha_is_rounded_to_nearest() {
    for colour in 0..=255u8 {
        for alpha in 0..=255u8 {
            let mut touched = false;
            let out = over_white::<u8, 2, 1>(&[colour, alpha], &mut touched);
            let exact = f64::from(colour) * f64::from(alpha) / 255.0 + 255.0 - f64::from(alpha);
            assert!((f64::from(out[0]) - exact).abs() < 0.5, "{colour} {alpha}");
            assert_eq!(touched, alpha != 255);
        }
    }
    let mut touched = false;
    assert_eq!(
        over_white::<u16, 2, 1>(&[65535, 65535, 65535, 0, 0, 0, 0, 65535], &mut touched),
        [65535, 65535, 65535, 0]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    /// Whatever is done to a file, decoding returns, and what it returns keeps to the limits.
    #[test]
    fn damaged_files_neither_panic_nor_break_the_limits(
        which in any::<prop::sample::Index>(),
        writes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
        moved in prop::option::weighted(0.2, (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1..40usize)),
    ) {
        let cases = cases();
        let name = &which.get(&cases).file;
        let mut bytes = file(name);
        if let Some((from, to, length)) = moved {
            let from = from.index(bytes.len());
            let piece = bytes[from..(from + length).min(bytes.len())].to_vec();
            let to = to.index(bytes.len());
            bytes.splice(to..to, piece);
        }
        for (at, value) in writes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let limits = Limits { max_pixels: 1 << 18, max_bytes: 1 << 22 };
        let raw = Raw::Encoded { bytes, claimed: Kind::of_name(name) };
        // `decode` would turn a panic into an error; here it shows.
        let Raw::Encoded { bytes, claimed } = &raw else { unreachable!() };
        if let Ok(picture) = decode_file(bytes, *claimed, &limits) {
            let pixels = u64::from(picture.width()) * u64::from(picture.height());
            prop_assert!(pixels <= limits.max_pixels);
        }
        let _ = decode(&raw, &limits).map_err(|e| e.to_string());
    }

    /// Random bytes behind each magic number.
    #[test]
    fn noise_behind_a_magic_number_does_not_panic(
        magic in prop::sample::select(vec![
            &b"\x89PNG\r\n\x1a\n"[..], b"\xff\xd8\xff", b"RIFF\x40\0\0\0WEBP", b"GIF89a", b"II*\0", b"MM\0*", b"qoif", b"P6 ", b"P7\n",
        ]),
        noise in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = [magic, &noise].concat();
        let limits = Limits { max_pixels: 1 << 18, max_bytes: 1 << 22 };
        let _ = decode_file(&bytes, None, &limits);
    }
}
