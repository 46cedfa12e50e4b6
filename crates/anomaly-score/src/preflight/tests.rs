//! Every finding where it has to be and where it must not be, on pictures made here.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, PoisonError};

use image::codecs::jpeg::JpegEncoder;
use image::{DynamicImage, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage, imageops};

use super::*;
use crate::evaluate::Preset;
use crate::image::{Limits, Raw, Source, decode};

/// A smooth picture of many waves with the warm cast of photos, no two seeds alike.
fn picture_of(seed: u32, width: u32, height: u32) -> RgbImage {
    let mut state = u64::from(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f64 / (1u64 << 24) as f64
    };
    let waves: Vec<[f64; 4]> = (0..24)
        .map(|k| {
            [random() * 12.0 - 6.0, random() * 12.0 - 6.0, random() * 6.3, 40.0 / (1.0 + f64::from(k) / 4.0)]
        })
        .collect();
    let strength = 0.6 + 0.8 * random();
    let (cast, light) = (10.0 + 16.0 * random(), 90.0 * random() - 50.0);
    RgbImage::from_fn(width, height, |x, y| {
        let (x, y) = (f64::from(x) / f64::from(width), f64::from(y) / f64::from(height));
        let wave = |turn: f64| -> f64 {
            waves
                .iter()
                .map(|[u, v, phase, size]| {
                    strength * size * (std::f64::consts::PI * (u * x + v * y) + phase + turn).sin()
                })
                .sum()
        };
        let (shared, own) = (wave(0.0), wave(1.0));
        // A square root keeps the ends of the range without pressing values against them.
        let level = |v: f64| (127.5 + 127.4 * (v / 70.0) / (1.0 + (v / 70.0).powi(2)).sqrt()).round() as u8;
        Rgb([
            level(shared + cast + light),
            level(shared + 0.3 * own + light),
            level(0.8 * shared + 0.5 * own - cast + light),
        ])
    })
}

fn picture(seed: u32) -> RgbImage {
    // Nearly every test wants the same ones.
    static MADE: Mutex<BTreeMap<u32, RgbImage>> = Mutex::new(BTreeMap::new());
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.entry(seed).or_insert_with(|| picture_of(seed, 64, 48)).clone()
}

fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.into().write_to(&mut file, ImageFormat::Png).unwrap();
    file.into_inner()
}

fn jpeg(image: &RgbImage, quality: u8) -> Vec<u8> {
    let mut file = Vec::new();
    JpegEncoder::new_with_quality(&mut file, quality).encode_image(image).unwrap();
    file
}

fn set(source: &str, role: Role, files: impl IntoIterator<Item = Vec<u8>>) -> SetFacts {
    let images = files.into_iter().enumerate().map(|(i, bytes)| {
        let raw = Raw::Encoded { bytes, claimed: None };
        let picture = decode(&raw, &Limits::default()).unwrap();
        ImageFacts::of(&format!("{i:03}"), &raw, &picture)
    });
    SetFacts {
        source: source.into(),
        role,
        images: images.collect(),
        skipped: Vec::new(),
        basis: Basis::Images,
    }
}

fn reference(files: impl IntoIterator<Item = Vec<u8>>) -> SetFacts {
    set("cats", Role::Reference, files)
}

fn generated(files: impl IntoIterator<Item = Vec<u8>>) -> SetFacts {
    set("dogs", Role::Generated, files)
}

/// Sets of 60 different pictures, saved alike.
fn photos() -> SetFacts {
    reference((0..60).map(|seed| png(picture(seed))))
}

fn images_of_model() -> SetFacts {
    generated((100..160).map(|seed| png(picture(seed))))
}

fn altered(change: impl Fn(&mut RgbImage)) -> SetFacts {
    generated((100..160).map(|seed| {
        let mut image = picture(seed);
        change(&mut image);
        png(image)
    }))
}

fn mapped(change: impl Fn([u8; 3]) -> [u8; 3]) -> SetFacts {
    altered(|image| image.pixels_mut().for_each(|p| p.0 = change(p.0)))
}

fn question(metrics: &[&str]) -> Question {
    let layer = |input_px, feature_dim| BackboneSettings {
        name: "efficientnet-lite0".into(),
        weights_sha256: String::new(),
        input_px,
        feature_dim,
        layer: None,
    };
    Question {
        selection: Selection::of(metrics).unwrap(),
        conventions: Conventions::default(),
        layers: vec![layer(32, 40)],
        squash: false,
    }
}

fn found(sets: &[SetFacts]) -> Vec<Finding> {
    Preflight::of(sets, &question(&["as"])).findings
}

fn kinds(findings: &[Finding]) -> Vec<Kind> {
    findings.iter().map(|finding| finding.kind).collect()
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    let findings = found(&[photos(), images_of_model()]);
    assert_eq!(findings, [], "{findings:#?}");
    let as_jpeg = [
        reference((0..60).map(|seed| jpeg(&picture(seed), 90))),
        generated((100..160).map(|seed| jpeg(&picture(seed), 88))),
    ];
    assert_eq!(found(&as_jpeg), []);
}

/// What a kind is found in, with its weight, and that nothing else is found in it but `beside`.
fn expect(name: Kind, severity: Severity, beside: &[Kind], sets: &[SetFacts]) -> Finding {
    expect_asked(name, severity, beside, sets, &question(&["as"]))
}

fn expect_asked(
    name: Kind,
    severity: Severity,
    beside: &[Kind],
    sets: &[SetFacts],
    asked: &Question,
) -> Finding {
    let findings = Preflight::of(sets, asked).findings;
    let one: Vec<&Finding> = findings.iter().filter(|finding| finding.kind == name).collect();
    assert_eq!(one.len(), 1, "{name:?} once in {findings:#?}");
    assert_eq!(one[0].severity, severity, "{findings:#?}");
    let mut others = kinds(&findings);
    others.retain(|kind| *kind != name && !beside.contains(kind));
    assert_eq!(others, [], "{findings:#?}");
    assert!(!one[0].remedy.is_empty() && !one[0].message.ends_with('.'));
    one[0].clone()
}

#[test]
fn copies_are_found_in_any_file() {
    use Kind::{DuplicateImages, NearDuplicateImages, NearSharedImages, SameSet, SharedImages};
    let models = || (100..159).map(|seed| png(picture(seed)));
    let bmp = |image: RgbImage| {
        let mut file = Cursor::new(Vec::new());
        DynamicImage::from(image).write_to(&mut file, ImageFormat::Bmp).unwrap();
        file.into_inner()
    };
    let of = |extra: Vec<u8>| [photos(), generated(models().chain([extra]))];

    let twice = expect(DuplicateImages, Severity::Warning, &[], &of(bmp(picture(120))));
    assert_eq!((twice.images.len(), twice.images[0].path.as_str()), (1, "059"));
    assert_eq!(twice.images[0].copy_of.as_deref(), Some("020"));
    assert_eq!(
        twice.to_string(),
        "1 of 60 images of dogs have the very pixels of another one there (059 = 020)"
    );

    let leak = expect(SharedImages, Severity::Warning, &[], &of(bmp(picture(7))));
    assert_eq!(leak.images[0].to_string(), "059 = 007");
    assert_eq!(leak.sets, ["dogs", "cats"]);

    let small = imageops::resize(&picture(7), 56, 42, imageops::FilterType::Triangle);
    for (name, copy) in [
        ("recompressed", png(image::load_from_memory(&jpeg(&picture(7), 60)).unwrap())),
        ("resized", png(small)),
        ("mirrored", png(imageops::flip_horizontal(&picture(7)))),
    ] {
        let found = expect(NearSharedImages, Severity::Warning, &[], &of(copy));
        let concerned = &found.images[0];
        assert_eq!((concerned.path.as_str(), concerned.copy_of.as_deref()), ("059", Some("007")), "{name}");
        assert_eq!(concerned.mirrored, name == "mirrored");
    }
    let near = expect(
        NearDuplicateImages,
        Severity::Warning,
        &[],
        &of(png(imageops::flip_horizontal(&picture(120)))),
    );
    assert_eq!(near.images.len(), 2, "both of a pair");
    assert_eq!(near.images[0].to_string(), "020 = 059 mirrored");

    // One in 120 is a note, and upside down is no copy.
    let many = generated((100..219).map(|seed| png(picture(seed))).chain([png(picture(7))]));
    expect(SharedImages, Severity::Note, &[], &[photos(), many]);
    assert_eq!(found(&of(png(imageops::flip_vertical(&picture(7))))), []);

    // The order of the files does not matter for being the same set.
    let same = generated((0..60).rev().map(|seed| png(picture(seed))));
    expect(SameSet, Severity::Serious, &[], &[photos(), same]);
    let held_out = set("held", Role::HeldOut, (50..110).map(|seed| png(picture(seed))));
    let leak = expect(SharedImages, Severity::Warning, &[], &[photos(), held_out]);
    assert!(leak.remedy.contains("held out"), "{}", leak.remedy);
}

/// Flat pictures look alike and are no copies of each other.
#[test]
fn featureless_images_are_no_near_duplicates() {
    let mut files: Vec<Vec<u8>> = (100..158).map(|seed| png(picture(seed))).collect();
    for grey in [40u8, 41] {
        files.push(png(RgbImage::from_pixel(64, 48, Rgb([grey; 3]))));
    }
    let flat = expect(Kind::FeaturelessImages, Severity::Warning, &[], &[photos(), generated(files)]);
    assert_eq!(flat.images.iter().map(|i| i.path.as_str()).collect::<Vec<_>>(), ["058", "059"]);
}

#[test]
fn values_in_the_wrong_range_are_seen() {
    use Severity::{Serious, Warning};
    let scaled =
        |scale: f64, offset: f64| mapped(move |p| p.map(|v| (f64::from(v) * scale + offset).round() as u8));
    let one = |severity, set: SetFacts, beside: &[Kind]| {
        let found = expect(Kind::ValueRange, severity, beside, &[photos(), set]);
        (found.message, found.remedy)
    };
    let colours = [];
    let (message, remedy) = one(Serious, scaled(0.5, 0.0), &colours);
    assert_eq!(message.split(" lie ").next(), Some("all values of dogs"));
    assert!(remedy.contains("127.5"), "{remedy}");
    assert!(one(Serious, scaled(0.5, 127.5), &colours).1.contains("(x + 1)/2"));
    assert!(one(Warning, scaled(219.0 / 255.0, 16.0), &[]).1.contains("video"));
    // Without × 255 all is as good as black; cast from [−1, 1] all is black or white.
    let dark = [
        Kind::ColoursDiffer,
        Kind::FeaturelessImages,
        Kind::ClippedValues,
        Kind::GreyDiffers,
        Kind::NearDuplicateImages,
    ];
    assert!(one(Serious, scaled(1.0 / 255.0, 0.0), &dark).1.contains("multiplied by 255"));
    assert!(one(Serious, mapped(|p| p.map(|v| if v > 127 { 255 } else { 0 })), &dark).1.contains("[−1, 1]"));
    // Nine dark images say nothing of a set.
    let few = (100..109).map(|seed| {
        let mut image = picture(seed);
        image.pixels_mut().for_each(|p| p.0 = p.0.map(|v| v / 2));
        png(image)
    });
    assert_eq!(kinds(&found(&[photos(), generated(few)])), [Kind::SmallN]);
}

#[test]
fn clipped_values_are_seen() {
    let clipped = mapped(|p| p.map(|v| (2 * i32::from(v) - 255).max(0) as u8));
    let found = expect(Kind::ClippedValues, Severity::Warning, &[], &[photos(), clipped]);
    assert!(found.message.contains("% of all values of cats are 0 and"), "{}", found.message);
}

#[test]
fn exchanged_channels_and_negatives_are_told_from_other_colours() {
    let bgr =
        expect(Kind::ChannelsSwapped, Severity::Serious, &[], &[photos(), mapped(|[r, g, b]| [b, g, r])]);
    assert!(bgr.message.contains("red less blue is +"), "{}", bgr.message);
    expect(Kind::ColoursInverted, Severity::Serious, &[], &[photos(), mapped(|p| p.map(|v| 255 - v))]);
    // Dark is neither, nor is green.
    let dim = |p: [u8; 3]| p.map(|v| 20 + (u32::from(v) * 10 / 20) as u8);
    let found = expect(Kind::ColoursDiffer, Severity::Note, &[], &[photos(), mapped(dim)]);
    assert!(found.message.contains("standard deviations of the images"), "{}", found.message);
    let green = mapped(|[r, g, b]| [r, g.saturating_add(60), b]);
    expect(Kind::ColoursDiffer, Severity::Note, &[], &[photos(), green]);
}

#[test]
fn modes_of_files_are_compared() {
    let grey = altered(|image| image.pixels_mut().for_each(|p| p.0 = [p.0[1]; 3]));
    let found = expect(Kind::GreyDiffers, Severity::Warning, &[Kind::ColoursDiffer], &[photos(), grey]);
    assert!(
        found.message.starts_with("0 of 60 images of cats have no colour and 60 of 60 of dogs"),
        "{}",
        found.message
    );

    let with_alpha = |alpha: u8| {
        generated((100..160).map(move |seed| {
            let image = picture(seed);
            png(RgbaImage::from_fn(64, 48, |x, y| {
                let [r, g, b] = image.get_pixel(x, y).0;
                Rgba([r, g, b, if x + y == 0 { alpha } else { 255 }])
            }))
        }))
    };
    expect(Kind::AlphaDiffers, Severity::Warning, &[], &[photos(), with_alpha(0)]);
    assert_eq!(self::found(&[photos(), with_alpha(255)]), [], "an alpha that is opaque everywhere");
}

#[test]
fn compression_is_seen_in_files_and_in_pixels() {
    let compressed = |quality| generated((100..160).map(move |seed| jpeg(&picture(seed), quality)));
    let found = expect(Kind::FileTypesDiffer, Severity::Warning, &[], &[photos(), compressed(90)]);
    assert!(found.message.starts_with("cats is 60 PNG, dogs is 60 JPEG"), "{}", found.message);

    let fine = || reference((0..60).map(|seed| jpeg(&picture(seed), 95)));
    let found = expect(Kind::JpegQualityDiffers, Severity::Warning, &[], &[fine(), compressed(75)]);
    assert!(found.message.starts_with("JPEG quality is 95 in cats and 75 in dogs"), "{}", found.message);
    expect(Kind::JpegQualityDiffers, Severity::Note, &[], &[fine(), compressed(89)]);
    assert_eq!(self::found(&[fine(), compressed(92)]), []);

    // The pictures here are smoother than photos, on which reference/preflight_thresholds.py measures the threshold.
    let saved_again = |quality| {
        let again = move |seed| png(image::load_from_memory(&jpeg(&noisy(seed), quality)).unwrap());
        generated((100..160).map(again))
    };
    let noisy_photos = reference((0..60).map(|seed| png(noisy(seed))));
    for quality in [75, 90, 95] {
        let found =
            expect(Kind::JpegTraces, Severity::Warning, &[], &[noisy_photos.clone(), saved_again(quality)]);
        assert!(found.message.starts_with("of 60 lossless files of dogs "), "{}", found.message);
    }
    // Without JPEG, and with its grid moved or resized away.
    let clean = generated((100..160).map(|seed| png(noisy(seed))));
    assert_eq!(self::found(&[noisy_photos.clone(), clean]), []);
    let moved = generated((100..160).map(|seed| {
        let again = image::load_from_memory(&jpeg(&noisy(seed), 75)).unwrap();
        png(again.crop_imm(3, 5, 60, 42))
    }));
    assert_eq!(self::found(&[noisy_photos, moved]), []);
}

/// With the fine detail that photos have and smooth waves have not.
fn noisy(seed: u32) -> RgbImage {
    let mut image = picture(seed);
    let mut state = seed.wrapping_mul(747_796_405) | 1;
    for pixel in image.pixels_mut() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (state >> 28) as i32 - 8;
        pixel.0 = pixel.0.map(|v| (i32::from(v) + noise).clamp(0, 255) as u8);
    }
    image
}

#[test]
fn sizes_and_proportions_are_compared() {
    let sized = |width, height| generated((100..160).map(move |seed| png(picture_of(seed, width, height))));
    let found = expect(Kind::SizesDiffer, Severity::Note, &[], &[photos(), sized(96, 72)]);
    assert_eq!(found.message, "the short side is 48 pixels in cats and 72 in dogs (medians)");
    expect(Kind::SizesDiffer, Severity::Warning, &[], &[photos(), sized(128, 96)]);
    // 24 pixels are enlarged to the network's 32, 48 are reduced.
    let beside = [Kind::EnlargedImages];
    let found = expect(Kind::SizesDiffer, Severity::Warning, &beside, &[photos(), sized(36, 27)]);
    assert!(found.message.contains("enlarged"), "{}", found.message);
    let found =
        expect(Kind::EnlargedImages, Severity::Note, &[Kind::SizesDiffer], &[photos(), sized(36, 27)]);
    assert!(
        found.message.starts_with("60 of 60 images of dogs are smaller than the network's 32"),
        "{}",
        found.message
    );
    assert_eq!(self::found(&[photos(), sized(70, 52)]), []);

    let square = || sized(48, 48);
    expect(Kind::AspectsDiffer, Severity::Note, &[], &[photos(), square()]);
    let squashed = Question { squash: true, ..question(&["as"]) };
    expect_asked(Kind::AspectsDiffer, Severity::Warning, &[], &[photos(), square()], &squashed);
    // Without a network nothing is said of its input.
    let unknown = Question { layers: Vec::new(), ..question(&["as"]) };
    assert_eq!(kinds(&Preflight::of(&[photos(), sized(36, 27)], &unknown).findings), [Kind::SizesDiffer]);
}

/// A PNG with an eXIf chunk that names a camera, or a text chunk with a keyword.
fn tagged(seed: u32, chunk: &[u8; 4], body: &[u8]) -> Vec<u8> {
    let plain = png(picture(seed));
    let mut crc = crc32fast::Hasher::new();
    crc.update(chunk);
    crc.update(body);
    let mut file = plain[..33].to_vec(); // Signature and header.
    file.extend((body.len() as u32).to_be_bytes());
    file.extend(chunk);
    file.extend(body);
    file.extend(crc.finalize().to_be_bytes());
    file.extend(&plain[33..]);
    file
}

const CAMERA: &[u8] = b"II*\0\x08\0\0\0\x01\0\x0f\x01\x02\0\x06\0\0\0\x1a\0\0\0\0\0\0\0Leica\0";

#[test]
fn exchanged_sets_are_suspected_by_name_camera_and_program() {
    let plain = || (0..60).map(|seed| png(picture(seed)));
    let models = || (100..160).map(|seed| png(picture(seed)));
    let named = |a: &str, b: &str| [set(a, Role::Reference, plain()), set(b, Role::Generated, models())];
    expect(Kind::SwappedSets, Severity::Serious, &[], &named("out/samples", "out/photos"));
    expect(Kind::SwappedSets, Severity::Note, &[], &named("samples", "out"));
    // Sizes say it too, but not alone.
    let sizes = || (100..160).map(|seed| png(picture_of(seed, 60 + seed % 11, 48)));
    let sized = |a: &str, b: &str| [set(a, Role::Reference, plain()), set(b, Role::Generated, sizes())];
    let swapped = expect(Kind::SwappedSets, Severity::Note, &[], &sized("samples", "out"));
    assert!(
        swapped.message.ends_with("out come in 11 sizes, those of samples in one"),
        "{}",
        swapped.message
    );
    assert_eq!(found(&sized("cats", "dogs")), []);
    assert_eq!(found(&named("photos", "samples")), []);

    let with_camera = |count: u32| {
        (100..160).map(
            move |seed| if seed < 100 + count { tagged(seed, b"eXIf", CAMERA) } else { png(picture(seed)) },
        )
    };
    let swapped = expect(Kind::SwappedSets, Severity::Serious, &[], &[photos(), generated(with_camera(60))]);
    assert!(swapped.message.ends_with("60 images of dogs name a camera"), "{}", swapped.message);
    // Where the reference has cameras too, tags are copied along.
    let both = reference((0..60).map(|seed| tagged(seed, b"eXIf", CAMERA)));
    expect(Kind::CameraInGenerated, Severity::Warning, &[], &[both, generated(with_camera(60))]);
    let some =
        expect(Kind::CameraInGenerated, Severity::Warning, &[], &[photos(), generated(with_camera(2))]);
    assert_eq!(some.to_string(), "2 images of dogs name a camera, the first Leica (000, 001)");
    assert_eq!(found(&[reference((0..60).map(|s| tagged(s, b"eXIf", CAMERA))), images_of_model()]), []);

    let by_program = |count: u32| {
        let text = b"parameters\0a cat";
        (0..60).map(move |seed| if seed < count { tagged(seed, b"tEXt", text) } else { png(picture(seed)) })
    };
    expect(Kind::SwappedSets, Severity::Serious, &[], &[reference(by_program(60)), images_of_model()]);
    let some =
        expect(Kind::GeneratorInReal, Severity::Warning, &[], &[reference(by_program(1)), images_of_model()]);
    assert!(some.message.ends_with("the first Stable Diffusion web UI"), "{}", some.message);
    assert_eq!(
        found(&[photos(), set("dogs", Role::Generated, by_program(60).skip(30).chain(models()))]).len(),
        1,
        "copies only"
    );
}

#[test]
fn too_few_images_are_said_for_each_metric() {
    let some = |n: u32| generated((100..100 + n).map(|seed| png(picture(seed))));
    let asked = |words: &[&str], n: u32| Preflight::of(&[photos(), some(n)], &question(words)).findings;
    let one = |kind, severity, words: &[&str], n| {
        expect_asked(kind, severity, &[Kind::SmallN], &[photos(), some(n)], &question(words)).message
    };

    assert_eq!(kinds(&asked(&["as"], 49)), [Kind::SmallN]);
    assert_eq!(kinds(&asked(&["as"], 50)), []);
    assert_eq!(kinds(&asked(&["kd"], 49)), [], "kd is unbiased");

    let message = one(Kind::RankDeficient, Severity::Warning, &["fd"], 40);
    assert!(message.contains("a covariance of 40 features from 40 images has rank 39 at most"), "{message}");
    assert_eq!(kinds(&asked(&["fd"], 41)), []);
    assert_eq!(kinds(&asked(&["kd", "prdc"], 40)), []);

    let message = one(Kind::TooFewForMetric, Severity::Serious, &["recall"], 5);
    assert!(
        message.contains("the 5-th nearest neighbour of an image, so at least 6 reference and 6 generated"),
        "{message}"
    );
    assert_eq!(kinds(&asked(&["recall"], 6)), []);
    let two = [photos(), some(2)];
    expect_asked(
        Kind::TooFewForMetric,
        Severity::Serious,
        &[Kind::RankDeficient],
        &two,
        &question(&["fd-infinity"]),
    );

    let subsets =
        Question { conventions: Preset::find("torch-fidelity").unwrap().conventions, ..question(&["kd"]) };
    let found = expect_asked(Kind::TooFewForMetric, Severity::Serious, &[], &[photos(), some(50)], &subsets);
    assert!(
        found.message.contains("subsets of 1000 images") && found.remedy.contains("--preset"),
        "{found:#?}"
    );

    assert!(one(Kind::DependsOnN, Severity::Note, &["vendi"], 60).starts_with("Vendi score grows with"));
    let two = [photos(), some(60), set("birds", Role::Generated, (300..350).map(|seed| png(picture(seed))))];
    let found = expect_asked(Kind::UnequalN, Severity::Warning, &[], &two, &question(&["as", "kd"]));
    assert!(
        found.message.starts_with("the models have from 50 (birds) to 60 images (dogs)"),
        "{}",
        found.message
    );
    assert!(found.remedy.contains("--limit 50"));
    assert_eq!(kinds(&Preflight::of(&two, &question(&["kd"])).findings), []);
}

#[test]
fn what_a_table_does_not_know_is_said() {
    let mut table = images_of_model();
    table.images.iter_mut().for_each(|image| image.seen = None);
    table.basis = Basis::Table;
    let unknown = expect(Kind::UnknownFacts, Severity::Note, &[], &[photos(), table.clone()]);
    assert!(unknown.message.contains("near-duplicates, file types"), "{}", unknown.message);
    // Content and size it has.
    table.images[3].content_hash = photos().images[5].content_hash;
    table.images.iter_mut().for_each(|image| (image.width, image.height) = (128, 96));
    let mut findings = kinds(&found(&[photos(), table]));
    findings.sort_unstable();
    assert_eq!(findings, [Kind::SharedImages, Kind::SizesDiffer, Kind::UnknownFacts]);

    // Features know how many they are, statistics not even that.
    let numbers = |n| SetFacts::of_numbers("mu-sigma.npz", Role::Reference, n);
    assert_eq!(kinds(&found(&[numbers(Some(20)), images_of_model()])), [Kind::SmallN, Kind::UnknownFacts]);
    let of_statistics = found(&[numbers(None), images_of_model()]);
    assert_eq!(kinds(&of_statistics), [Kind::UnknownFacts]);
    assert!(of_statistics[0].message.contains("of images it does not count"), "{of_statistics:#?}");
}

#[test]
fn a_folder_is_looked_through_with_all_threads_to_one_result() {
    let folder = tempfile::TempDir::new().unwrap();
    for seed in 0..30 {
        std::fs::write(folder.path().join(format!("{seed:02}.png")), png(picture(seed))).unwrap();
    }
    std::fs::write(folder.path().join("broken.png"), &png(picture(31))[..200]).unwrap();
    let source = Source::open(folder.path()).unwrap().named("folder");
    let stop = AtomicBool::new(false);
    let counted = std::sync::Mutex::new(0);
    let of = |threads, limit| {
        let progress = |_| *counted.lock().unwrap() += 1;
        SetFacts::of_source(
            &source,
            Role::Reference,
            &Options { limit, seed: 0, threads, stop: &stop, progress: &progress },
        )
    };
    let found = of(1, None).unwrap();
    assert_eq!(*counted.lock().unwrap(), 32, "the start and every file");
    assert_eq!((found.n(), found.skipped.len(), found.source.as_str()), (30, 1, "folder"));
    assert_eq!(found.images[7].path, "07.png");
    assert_eq!(of(4, None).unwrap(), found);
    assert_eq!(of(2, Some(5)).unwrap().images.len() + of(2, Some(5)).unwrap().skipped.len(), 5);

    let skipped = expect(Kind::SkippedImages, Severity::Warning, &[], &[found]);
    assert!(skipped.message.starts_with("1 of 31 files of folder cannot be read"), "{}", skipped.message);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let error = of(2, None).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Interrupted);
}

#[test]
fn findings_of_one_kind_share_their_remedy_in_text() {
    let sets = [
        photos(),
        generated((100..160).map(|seed| jpeg(&picture(seed), 90))),
        set("birds", Role::Generated, (200..260).map(|seed| jpeg(&picture(seed), 90))),
    ];
    let all = Preflight::of(&sets, &question(&["as"]));
    insta::assert_snapshot!(all.text(), @r"
    warning: file_types_differ: cats is 60 PNG, dogs is 60 JPEG
      also: cats is 60 PNG, birds is 60 JPEG
      → Save both sets in the same way, best as PNG from the originals: what JPEG does to pixels is a
        difference that features see
    ");
    assert_eq!(all.worst(), Some(Severity::Warning));
    let one = all.only(&["cats", "birds"]);
    assert_eq!((one.sets.len(), one.findings.len()), (2, 1));
    assert_eq!(one.findings[0].sets, ["birds", "cats"]);
    assert_eq!(kinds(&all.only(&["birds"]).findings), []);
}

#[test]
fn names_of_kinds_are_snake_case_and_unique() {
    let mut names: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    assert!(names.iter().all(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')));
    names.sort_unstable();
    let n = names.len();
    names.dedup();
    assert_eq!(names.len(), n);
    let documented = include_str!("../../../../docs/preflight.md");
    for name in &names {
        assert!(documented.contains(&format!("| `{name}` |")), "{name} is not documented");
    }
    assert_eq!(serde_json::to_string(&Kind::SharedImages).unwrap(), "\"shared_images\"");
}
