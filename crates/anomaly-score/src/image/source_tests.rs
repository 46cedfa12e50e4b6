//! Sources: what is listed, in which order, and that every container hands out the same pictures.

use std::collections::BTreeSet;
use std::io::{Seek, SeekFrom, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use npyz::WriterBuilder;
use proptest::prelude::*;
use serde::Deserialize;
use tempfile::TempDir;

use super::*;
use crate::image::fixture;
use crate::image::{Limits, decode};

type Handed = Vec<(usize, std::result::Result<Raw, Unreadable>)>;

fn file(name: &str) -> Vec<u8> {
    fixture::bytes(&format!("decode/{name}"))
}

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let root = TempDir::new().unwrap();
    for (path, bytes) in files {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    root
}

fn zip_of(path: &Path, files: &[(&str, &[u8])], method: ::zip::CompressionMethod) {
    let mut zip = ::zip::ZipWriter::new(File::create(path).unwrap());
    let options = ::zip::write::SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in files {
        zip.start_file(*name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap();
}

fn tar_bytes(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = ::tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Straight into the header: the library refuses names like ../x.png, other writers do not.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        tar.append(&header, *bytes).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An npz of one array.
fn npz_of<T>(
    path: &Path,
    name: &str,
    shape: &[u64],
    order: npyz::Order,
    values: &[T],
    method: ::zip::CompressionMethod,
) where
    T: npyz::AutoSerialize + Copy,
{
    let mut zip = ::zip::ZipWriter::new(File::create(path).unwrap());
    let options = ::zip::write::SimpleFileOptions::default().compression_method(method);
    zip.start_file(format!("{name}.npy"), options).unwrap();
    let mut bytes = Vec::new();
    let options = npyz::WriteOptions::new().default_dtype().shape(shape).order(order);
    let mut writer = options.writer(&mut bytes).begin_nd().unwrap();
    writer.extend(values.iter().copied()).unwrap();
    writer.finish().unwrap();
    zip.write_all(&bytes).unwrap();
    zip.finish().unwrap();
}

fn paths(source: &Source) -> Vec<&str> {
    source.entries().iter().map(Entry::path).collect()
}

fn read_all(source: &Source, indices: &[usize]) -> Handed {
    let mut handed = Vec::new();
    let result = source.read(indices, &mut |index, raw| {
        handed.push((index, raw));
        ControlFlow::Continue(())
    });
    result.unwrap();
    handed
}

fn hashes(source: &Source, indices: &[usize]) -> Vec<[u8; 32]> {
    let mut handed = read_all(source, indices);
    handed.sort_by_key(|(index, _)| *index);
    handed
        .into_iter()
        .map(|(_, raw)| decode(&raw.unwrap(), &Limits::default()).unwrap().content_hash())
        .collect()
}

fn error(path: &Path) -> String {
    let text = Source::open(path).unwrap_err().to_string();
    text.replace(&path.display().to_string(), "PATH")
}

#[test]
fn folders_are_walked_and_sorted_and_hidden_names_left_out() {
    let png = file("rgb8.png");
    let root = folder(&[
        ("b.PNG", &png),
        ("a/z.jpeg", b"x"),
        ("a/Y.JpG", b"x"),
        ("a.gif", b"x"),
        ("a-b.TIFF", b"x"),
        ("c/d/e/f.qoi", b"x"),
        ("x.webp", b""),
        ("x.bmp", b"x"),
        ("x.tif", b"x"),
        ("x.ppm", b"x"),
        ("notes.txt", b"x"),
        ("png", b"x"),
        (".hidden.png", &png),
        (".git/x.png", &png),
        ("__MACOSX/a.png", &png),
        ("c/.DS_Store", b"x"),
        ("._b.png", &png),
    ]);
    let source = Source::open(root.path()).unwrap();
    let expected = [
        "a-b.TIFF",
        "a.gif",
        "a/Y.JpG",
        "a/z.jpeg",
        "b.PNG",
        "c/d/e/f.qoi",
        "x.bmp",
        "x.ppm",
        "x.tif",
        "x.webp",
    ];
    assert_eq!(paths(&source), expected);
    assert!(expected.is_sorted());
    assert_eq!(source.len(), 10);
    let handed = read_all(&source, &[9, 4, 4]);
    let [
        (4, Ok(Raw::Encoded { bytes, claimed: Some(Kind::Png) })),
        (9, Ok(Raw::Encoded { bytes: empty, .. })),
    ] = &handed[..]
    else {
        panic!("{handed:?}")
    };
    assert!(*bytes == png && empty.is_empty());
    // A folder whose own name is hidden is still read.
    let inner = Source::open(root.path().join(".git")).unwrap();
    assert_eq!(paths(&inner), ["x.png"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_but_not_in_circles() {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    let png = file("rgb8.png");
    let other = folder(&[("far.png", &png)]);
    let root = folder(&[("a/near.png", &png)]);
    symlink(root.path(), root.path().join("a/loop")).unwrap();
    symlink(other.path(), root.path().join("linked")).unwrap();
    symlink("/nowhere/at/all", root.path().join("gone.png")).unwrap();
    symlink("/nowhere/at/all", root.path().join("gone.txt")).unwrap();
    let odd = std::ffi::OsStr::from_bytes(b"\xff\xe4.png");
    std::fs::write(root.path().join(odd), &png).unwrap();
    let source = Source::open(root.path()).unwrap();
    assert_eq!(paths(&source), ["\\xff\\xe4.png", "a/near.png", "gone.png", "linked/far.png"]);
    let handed = read_all(&source, &[0, 1, 2, 3]);
    assert!(handed[0].1.is_ok());
    assert_eq!(
        handed[2].1.as_ref().unwrap_err().to_string(),
        "cannot be read: No such file or directory (os error 2)"
    );
    assert!(handed[3].1.is_ok());
}

#[test]
fn nothing_found_says_what_was_looked_for_and_what_was_there() {
    let looked =
        "expected files ending in .png .jpg .jpeg .webp .bmp .gif .tif .tiff .ppm .qoi, upper or lower case";
    let remedy = "Give a folder, .zip, .tar, .tar.gz or .npz that holds images";
    let root = folder(&[("a.txt", b""), ("b/c.MP4", b""), ("d.mp4", b""), ("e", b""), (".x.png", b"")]);
    assert_eq!(
        error(root.path()),
        format!(
            "PATH: no images in this folder and the folders below it; {looked}, \
             found 4 other files (2 .mp4, 1 without extension, 1 .txt). {remedy}"
        )
    );
    assert_eq!(Source::open(root.path()).unwrap_err().kind(), ErrorKind::TooFewImages);
    let empty = TempDir::new().unwrap();
    assert!(error(empty.path()).contains("found no file at all"));
    let archives = folder(&[("images.zip", b"PK")]);
    assert!(
        error(archives.path()).ends_with("found 1 other file (1 .zip). Give the path of the archive itself")
    );
    let zip = root.path().join("t.zip");
    zip_of(&zip, &[("a/readme.md", b"x"), ("__MACOSX/a.png", b"x")], ::zip::CompressionMethod::Stored);
    assert_eq!(
        error(&zip),
        format!("PATH: no images in this archive; {looked}, found 1 other file (1 .md). {remedy}")
    );
}

#[test]
fn what_is_no_source_is_named() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("x.bin");
    assert_eq!(
        error(&path),
        "PATH: there is no such file or folder. Check the spelling; a relative path starts at the current folder"
    );
    let wanted =
        "PATH: not a source of images; expected a folder, .zip, .tar, .tar.gz, .npz or an image file, found";
    let remedy = "Unpack it to a folder, or pack its images as .zip, .tar or .tar.gz";
    for (bytes, found) in [
        (&b""[..], "an empty file (0 bytes)"),
        (b"PAR1....", "a Parquet file"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"plain text", "a file starting with \"plain text\""),
        (b"<html>", "an HTML page"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(error(&path), format!("{wanted} {found}. {remedy}"));
        assert_eq!(Source::open(&path).unwrap_err().kind(), ErrorKind::Unsupported);
    }
    std::fs::write(&path, b"\x93NUMPY\x01\x00").unwrap();
    let remedy = "Save it as numpy.savez(FILE, images), with images of type uint8 and shape N×H×W×3";
    assert_eq!(error(&path), format!("{wanted} a NumPy array. {remedy}"));
}

#[test]
fn one_file_is_a_source_of_one() {
    let root = folder(&[
        ("one.PNG", &file("rgb8.png")),
        ("no_extension", &file("rgb_420.jpg")),
        ("bad.png", b"not a png"),
    ]);
    for (name, decodes) in [("one.PNG", true), ("no_extension", true), ("bad.png", false)] {
        let source = Source::open(root.path().join(name)).unwrap();
        assert_eq!(paths(&source), [name]);
        let (_, raw) = read_all(&source, &[0]).pop().unwrap();
        assert_eq!(decode(&raw.unwrap(), &Limits::default()).is_ok(), decodes, "{name}");
    }
}

/// The same picture from a folder, every archive and an npz has the same hash; so has the same picture as another
/// lossless file.
#[test]
fn every_container_hands_out_the_same_pictures() {
    let (png, tif, jpg) = (file("rgb8.png"), file("rgb_lzw.tif"), file("rgb_420.jpg"));
    let files: [(&str, &[u8]); 4] =
        [("z/b.tif", &tif), ("./a.png", &png), ("z/a.jpg", &jpg), ("z/notes.txt", b"x")];
    let root = folder(&files);
    let archives = TempDir::new().unwrap();
    let at = |name: &str| archives.path().join(name);
    zip_of(&at("stored.zip"), &files, ::zip::CompressionMethod::Stored);
    zip_of(&at("deflated.zip"), &files, ::zip::CompressionMethod::Deflated);
    let tar = tar_bytes(&files);
    std::fs::write(at("plain.tar"), &tar).unwrap();
    std::fs::write(at("packed.tar.gz"), gzip(&tar)).unwrap();
    std::fs::write(at("packed.tgz"), gzip(&tar)).unwrap();
    // Archives are told by content.
    std::fs::write(at("misnamed.zip"), gzip(&tar)).unwrap();
    let source = Source::open(root.path()).unwrap();
    let expected = hashes(&source, &[0, 1, 2]);
    assert_eq!(expected[0], expected[2]);
    assert_ne!(expected[0], expected[1]);
    for name in ["stored.zip", "deflated.zip", "plain.tar", "packed.tar.gz", "packed.tgz", "misnamed.zip"] {
        let source = Source::open(at(name)).unwrap();
        assert_eq!(paths(&source), ["a.png", "z/a.jpg", "z/b.tif"], "{name}");
        assert_eq!(hashes(&source, &[0, 1, 2]), expected, "{name}");
        // Archive order, each once.
        let order: Vec<usize> = read_all(&source, &[2, 0, 1, 0]).iter().map(|(index, _)| *index).collect();
        assert_eq!(order, [2, 0, 1], "{name}");
        assert_eq!(hashes(&source, &[1]), expected[1..2], "{name}");
        // The sink can stop.
        let mut seen = Vec::new();
        let stopping = &mut |index, _| {
            seen.push(index);
            ControlFlow::Break(())
        };
        source.read(&[0, 1, 2], stopping).unwrap();
        assert_eq!(seen, [2], "{name}");
    }

    let picture = decode(&Raw::Encoded { bytes: png, claimed: None }, &Limits::default()).unwrap();
    let crate::image::Pixels::Rgb8(pixels) = picture.pixels() else { panic!() };
    let shape = [11, u64::from(picture.height()), u64::from(picture.width()), 3];
    let mut values = vec![7u8; pixels.len() * 11];
    for index in [3, 10] {
        values[index * pixels.len()..][..pixels.len()].copy_from_slice(pixels);
    }
    for (name, method) in
        [("s.npz", ::zip::CompressionMethod::Stored), ("d.npz", ::zip::CompressionMethod::Deflated)]
    {
        npz_of(&at(name), "arr_0", &shape, npyz::Order::C, &values, method);
        let source = Source::open(at(name)).unwrap();
        assert_eq!((source.len(), source.entries()[3].path()), (11, "arr_0[000003]"));
        assert_eq!(hashes(&source, &[10, 3]), [expected[0], expected[0]], "{name}");
        assert_eq!(hashes(&source, &[0, 9, 2]).iter().collect::<BTreeSet<_>>().len(), 1);
    }
}

#[test]
fn an_archive_path_is_only_a_name() {
    let png = file("rgb8.png");
    let files: [(&str, &[u8]); 3] = [("../../up.png", &png), ("/etc/root.png", &png), ("ok.png", &png)];
    let root = TempDir::new().unwrap();
    let tar = root.path().join("x.tar");
    std::fs::write(&tar, tar_bytes(&files)).unwrap();
    let source = Source::open(&tar).unwrap();
    assert_eq!(paths(&source), ["../../up.png", "/etc/root.png", "ok.png"]);
    assert!(read_all(&source, &[0, 1, 2]).iter().all(|(_, raw)| raw.is_ok()));
    let zip = root.path().join("x.zip");
    zip_of(&zip, &[("a\\b.png", &png), ("../c.png", &png)], ::zip::CompressionMethod::Stored);
    assert_eq!(paths(&Source::open(&zip).unwrap()), ["../c.png", "a/b.png"]);
}

/// Of members of one name the last counts, as when extracting.
#[test]
fn paths_are_unique() {
    let (old, new) = (file("rgb8.png"), file("grey8.png"));
    let root = TempDir::new().unwrap();
    let tar = root.path().join("x.tar");
    std::fs::write(&tar, tar_bytes(&[("a.png", &old), ("b.png", &old), ("./a.png", &new)])).unwrap();
    let source = Source::open(&tar).unwrap();
    assert_eq!(paths(&source), ["a.png", "b.png"]);
    let handed = read_all(&source, &[0, 1]);
    assert_eq!(handed.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 0]);
    assert!(matches!(&handed[1].1, Ok(Raw::Encoded { bytes, .. }) if *bytes == new));
}

#[test]
fn a_bad_member_does_not_stop_the_others() {
    let png = file("rgb8.png");
    let root = TempDir::new().unwrap();
    let zip = root.path().join("x.zip");
    let files: [(&str, &[u8]); 3] = [("a.png", &png), ("b.png", &png), ("c.png", &png)];
    zip_of(&zip, &files, ::zip::CompressionMethod::Stored);
    let mut bytes = std::fs::read(&zip).unwrap();
    // One byte of b's content, so that its checksum fails; c's flag for encryption, in both of its headers.
    let second = bytes.windows(5).position(|w| w == b"b.png").unwrap();
    bytes[second + 40] ^= 1;
    let third = bytes.windows(5).position(|w| w == b"c.png").unwrap();
    bytes[third - 24] |= 1;
    let central = bytes.windows(5).rposition(|w| w == b"c.png").unwrap();
    bytes[central - 38] |= 1;
    std::fs::write(&zip, &bytes).unwrap();
    let source = Source::open(&zip).unwrap();
    let handed = read_all(&source, &[0, 1, 2]);
    assert!(handed[0].1.is_ok());
    assert_eq!(handed[1].1.as_ref().unwrap_err().to_string(), "corrupt archive entry: Invalid checksum");
    assert_eq!(handed[2].1.as_ref().unwrap_err(), &Unreadable::Encrypted);

    let mut builder = ::tar::Builder::new(Vec::new());
    let mut header = ::tar::Header::new_gnu();
    header.set_size(0);
    header.set_entry_type(::tar::EntryType::Link);
    builder.append_link(&mut header, "link.png", "a.png").unwrap();
    let mut tar = builder.into_inner().unwrap();
    tar.truncate(512);
    tar.extend(tar_bytes(&[("real.png", &png)]));
    let path = root.path().join("x.tar");
    std::fs::write(&path, tar).unwrap();
    let source = Source::open(&path).unwrap();
    let handed = read_all(&source, &[0, 1]);
    assert_eq!(handed[0].1.as_ref().unwrap_err().to_string(), "unsupported tar entry: a link, not a file");
    assert!(handed[1].1.is_ok());
}

#[test]
fn a_cut_archive_is_an_error_of_the_source() {
    let png = file("rgb8.png");
    let files: [(&str, &[u8]); 2] = [("a.png", &png), ("b.png", &png)];
    let root = TempDir::new().unwrap();
    let path = root.path().join("x");
    let tar = tar_bytes(&files);
    let zip = root.path().join("y.zip");
    zip_of(&zip, &files, ::zip::CompressionMethod::Stored);
    let packed = gzip(&tar);
    for (bytes, problem) in [
        (&tar[..700], "it cannot be read to the end as a tar archive"),
        (&tar[..1536 + png.len()], "it cannot be read to the end as a tar archive"),
        (&packed[..packed.len() / 2], "its gzipped tar content cannot be read to the end"),
        (&gzip(b"no tar")[..], "its gzipped tar content cannot be read to the end"),
        (&std::fs::read(&zip).unwrap()[..900], "its zip directory cannot be read"),
    ] {
        std::fs::write(&path, bytes).unwrap();
        let error = Source::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
        let text = error.to_string();
        assert!(text.contains(problem) && text.ends_with("copy or download it again"), "{text}");
    }
}

/// An entry that announces, or is, more than the limit is not read into memory.
#[test]
fn a_huge_entry_is_too_large() {
    let root = TempDir::new().unwrap();
    let path = root.path().join("huge.png");
    // A hole: it takes no disk.
    File::create(&path).unwrap().set_len(MAX_ENTRY_BYTES + 1).unwrap();
    let source = Source::open(root.path()).unwrap();
    let (_, raw) = read_all(&source, &[0]).pop().unwrap();
    let text = "too large: the file is larger than 512 MiB, the limit of one image";
    assert_eq!(raw.unwrap_err().to_string(), text);

    let tar = root.path().join("x.tar");
    let mut out = File::create(&tar).unwrap();
    let mut header = ::tar::Header::new_gnu();
    header.set_path("huge.png").unwrap();
    header.set_size(MAX_ENTRY_BYTES + 512);
    header.set_cksum();
    out.write_all(header.as_bytes()).unwrap();
    out.seek(SeekFrom::Current(MAX_ENTRY_BYTES as i64 + 512)).unwrap();
    out.write_all(&tar_bytes(&[("small.png", &file("rgb8.png"))])).unwrap();
    let source = Source::open(&tar).unwrap();
    let handed = read_all(&source, &[0, 1]);
    assert_eq!(handed[0].1.as_ref().unwrap_err().to_string(), text);
    assert!(handed[1].1.is_ok());
}

#[test]
fn an_npz_of_something_else_is_refused_by_what_it_is() {
    use npyz::Order::{C, Fortran};
    let root = TempDir::new().unwrap();
    let path = root.path().join("x.npz");
    let stored = ::zip::CompressionMethod::Stored;
    let remedy = "Save the pixels as numpy.savez(FILE, images) with images of that type and shape";
    let wrong = |found: &str| {
        format!(
            "PATH: arr_0 holds no images; expected uint8 of shape N×H×W×3 in C order, found {found}. {remedy}"
        )
    };
    npz_of(&path, "arr_0", &[2, 3, 4, 4], C, &[0u8; 96], stored);
    assert_eq!(error(&path), wrong("uint8 of shape 2×3×4×4"));
    npz_of(&path, "arr_0", &[2, 2, 3], C, &[0u8; 12], stored);
    assert_eq!(error(&path), wrong("uint8 of shape 2×2×3"));
    npz_of(&path, "arr_0", &[1, 2, 2, 3], Fortran, &[0u8; 12], stored);
    assert_eq!(error(&path), wrong("uint8 of shape 1×2×2×3 in Fortran order"));
    npz_of(&path, "arr_0", &[1, 2, 2, 3], C, &[0f32; 12], stored);
    assert_eq!(error(&path), wrong("float32 of shape 1×2×2×3"));
    npz_of(&path, "mu", &[3], C, &[0f64; 3], stored);
    assert_eq!(
        error(&path),
        "PATH: it holds no images; expected an array named arr_0 (uint8, N×H×W×3), as ADM's sampling script writes \
         it, found mu"
    );
    npz_of(&path, "arr_0", &[0, 2, 2, 3], C, &[0u8; 0], stored);
    assert_eq!(error(&path), "PATH: arr_0 holds no pixels; expected N×H×W×3 with no 0, found 0×2×2×3");
    // A header that promises more than there is.
    npz_of(&path, "arr_0", &[2, 2, 2, 3], C, &[0u8; 24], ::zip::CompressionMethod::Stored);
    let mut bytes = std::fs::read(&path).unwrap();
    let shape = bytes.windows(5).position(|w| w == b"(2, 2").unwrap();
    bytes[shape + 1] = b'9';
    std::fs::write(&path, bytes).unwrap();
    assert!(error(&path).starts_with("PATH: arr_0: "), "{}", error(&path));
}

#[test]
fn an_index_past_the_end_is_an_error() {
    let root = folder(&[("a.png", b"x")]);
    let error =
        Source::open(root.path()).unwrap().read(&[1], &mut |_, _| ControlFlow::Continue(())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOption);
    assert!(error.to_string().ends_with("no such image; expected an index below 1, found 1"));
}

fn numbered(count: usize) -> Source {
    let entries = (0..count).map(|i| Entry { path: format!("{i:06}.png") }).collect();
    Source::new("x".as_ref(), entries, Container::Files(Vec::new()))
}

/// Against an independent ChaCha8 and shuffle, in Python.
#[test]
fn samples_are_those_of_the_documented_draw() {
    #[derive(Deserialize)]
    struct Case {
        count: usize,
        limit: usize,
        seed: String,
        indices: Vec<usize>,
    }
    for case in fixture::cases::<Case>("sample.json") {
        assert_eq!(numbered(case.count).sample(case.limit, case.seed.parse().unwrap()), case.indices);
    }
}

#[test]
fn every_entry_is_drawn_equally_often() {
    let source = numbered(10);
    let mut counts = [0u32; 10];
    for seed in 0..10_000 {
        source.sample(3, seed).iter().for_each(|&i| counts[i] += 1);
    }
    // Each count is binomial, n = 10000, p = 0.3: 3000 ± 46. Five deviations, and the seeds are fixed.
    assert!(counts.iter().all(|c| c.abs_diff(3000) < 230), "{counts:?}");
}

proptest! {
    #[test]
    fn samples_are_distinct_rising_and_repeatable(count in 1..300usize, limit in 0..400usize, seed in any::<u64>()) {
        let source = numbered(count);
        let sample = source.sample(limit, seed);
        prop_assert_eq!(sample.len(), limit.min(count));
        prop_assert!(sample.windows(2).all(|w| w[0] < w[1]));
        prop_assert!(sample.iter().all(|&i| i < count));
        prop_assert_eq!(source.sample(limit, seed), sample);
    }

    /// No damage to an archive makes the source panic.
    #[test]
    fn damaged_archives_do_not_panic(
        kind in 0..5usize,
        writes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let root = TempDir::new().unwrap();
        let path = root.path().join(if kind == 4 { "x.npz" } else { "x" });
        let files: [(&str, &[u8]); 2] = [("a.png", b"aaaaaaaa"), ("b.png", b"bbbb")];
        match kind {
            0 => zip_of(&path, &files, ::zip::CompressionMethod::Stored),
            1 => zip_of(&path, &files, ::zip::CompressionMethod::Deflated),
            2 => std::fs::write(&path, tar_bytes(&files)).unwrap(),
            3 => std::fs::write(&path, gzip(&tar_bytes(&files))).unwrap(),
            _ => npz_of(&path, "arr_0", &[2, 1, 2, 3], npyz::Order::C, &[5u8; 12], ::zip::CompressionMethod::Deflated),
        }
        let mut bytes = std::fs::read(&path).unwrap();
        for (at, value) in writes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        std::fs::write(&path, &bytes).unwrap();
        if let Ok(source) = Source::open(&path) {
            let all: Vec<usize> = (0..source.len().min(10)).collect();
            let _ = source.read(&all, &mut |_, _| ControlFlow::Continue(()));
        }
    }
}
