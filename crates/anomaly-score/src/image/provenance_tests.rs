//! Headers that Pillow wrote, and damaged ones.

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::image::fixture;

#[derive(Deserialize)]
struct Case {
    file: String,
    lossy: Option<bool>,
    jpeg_quality: Option<u8>,
    camera: Option<String>,
    generator: Option<String>,
}

fn of(bytes: Vec<u8>) -> Provenance {
    Provenance::of(&Raw::Encoded { bytes, claimed: None })
}

#[test]
fn headers_say_what_pillow_wrote_into_them() {
    let cases: Vec<Case> = fixture::cases("preflight_files.json");
    assert!(cases.len() > 20);
    for Case { file, lossy, jpeg_quality, camera, generator } in cases {
        let found = of(fixture::bytes(&format!("preflight/{file}")));
        assert_eq!(found, Provenance { lossy, jpeg_quality, camera, generator }, "{file}");
    }
}

#[test]
fn every_quality_is_told_by_its_own_table() {
    for quality in 1..=100u8 {
        let table = LUMINANCE.map(|v| scaled(v, quality) as u8);
        let found = jpeg_quality(&[&[0], table.as_slice()].concat()).unwrap();
        // Below, several qualities have one table: all its entries are at their largest.
        let same = LUMINANCE.map(|v| scaled(v, found) as u8) == table;
        assert!(same && found >= quality && (quality < 4 || found == quality), "{quality}: {found}");
    }
    assert_eq!(jpeg_quality(&[0; 64]), None, "one entry is missing");
    assert_eq!(jpeg_quality(&[]), None);
    let wide: Vec<u8> = std::iter::once(16).chain(LUMINANCE.iter().flat_map(|v| v.to_be_bytes())).collect();
    assert_eq!(jpeg_quality(&wide), Some(50));
}

#[test]
fn pixels_of_an_array_say_nothing() {
    let raw = Raw::Rgb8 { width: 1, height: 1, pixels: vec![0; 3] };
    assert_eq!(Provenance::of(&raw), Provenance::default());
}

/// A make of `count` bytes at `offset`, or in the entry itself where it is short.
fn exif(count: u32, offset: u32) -> Vec<u8> {
    let mut tiff = b"II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0".to_vec();
    tiff.extend(count.to_le_bytes());
    tiff.extend(offset.to_le_bytes());
    tiff.extend(b"\0\0\0\0Leica\0");
    tiff
}

#[test]
fn a_tag_that_points_outside_is_no_tag() {
    assert_eq!(ascii_tag(&exif(6, 26), 0x010F).as_deref(), Some("Leica"));
    assert_eq!(ascii_tag(&exif(4, u32::from_le_bytes(*b"Abc\0")), 0x010F).as_deref(), Some("Abc"));
    for (count, offset) in [(7, 26), (6, 27), (u32::MAX, 26), (6, u32::MAX), (0, 26)] {
        assert_eq!(ascii_tag(&exif(count, offset), 0x010F), None, "{count} {offset}");
    }
}

proptest! {
    #[test]
    fn no_header_makes_it_panic(which in 0usize..8, at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        const FILES: [&str; 8] =
            ["camera.jpg", "camera.png", "camera.webp", "camera.tif", "iptc.jpg", "workflow.png", "q1.jpg", "plain.gif"];
        let mut bytes = fixture::bytes(&format!("preflight/{}", FILES[which]));
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes.truncate(cut.index(bytes.len() + 1));
        of(bytes);
    }
}
