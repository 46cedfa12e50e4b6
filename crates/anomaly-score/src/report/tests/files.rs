//! What is written to the disk: texts and features.

use std::fs;
use std::io::{Cursor, Read};

use super::*;

#[test]
fn text_replaces_a_file_whole() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("report.json");
    write_text(&path, "old").unwrap();
    write_text(&path, "new\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
    let e = atomic::replace(&path, |file| {
        std::io::Write::write_all(file, b"half").unwrap();
        Err(Error::new(ErrorKind::Interrupted, "test", "stopped"))
    });
    assert_eq!(e.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(fs::read_to_string(&path).unwrap(), "new\n");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a temporary file was left");

    let missing = dir.path().join("none").join("report.json");
    let e = write_text(&missing, "").unwrap_err();
    assert_eq!(e.kind(), ErrorKind::Io);
    assert!(e.to_string().contains("cannot be written: there is no folder"), "{e}");
}

#[cfg(unix)]
#[test]
fn text_is_written_as_other_programs_write_it() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (usual, ours, link) = (dir.path().join("usual"), dir.path().join("ours"), dir.path().join("link"));
    fs::write(&usual, "").unwrap();
    write_text(&ours, "1").unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&ours), mode(&usual));
    std::os::unix::fs::symlink(&ours, &link).unwrap();
    write_text(&link, "2").unwrap();
    assert_eq!(fs::read_to_string(&ours).unwrap(), "2");
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
}

fn member(archive: &[u8], name: &str) -> Vec<u8> {
    let mut archive = zip::ZipArchive::new(Cursor::new(archive)).unwrap();
    let mut bytes = Vec::new();
    archive.by_name(name).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn features_are_numpy_arrays() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("features.npz");
    let mut images = rows(0, 5);
    images.push(row("ünïcode/𝄞.png", 9, None, None));
    images.reverse();
    write_features(&table(settings("photos"), &images, &[]), &path).unwrap();
    let archive = fs::read(&path).unwrap();

    let bytes = member(&archive, "features.npy");
    let array = npyz::NpyFile::new(&bytes[..]).unwrap();
    assert_eq!(array.shape(), [6, 3]);
    assert_eq!(array.dtype().descr(), "'<f4'");
    let third = 1.0 / 3.0;
    let expected: Vec<f32> = [0.0, 1.0, 2.0, 3.0, 4.0, 9.0].iter().flat_map(|&k| [k, -0.5, third]).collect();
    assert_eq!(array.into_vec::<f32>().unwrap(), expected);

    let bytes = member(&archive, "paths.npy");
    let array = npyz::NpyFile::new(&bytes[..]).unwrap();
    assert_eq!(array.shape(), [6]);
    assert_eq!(array.dtype().descr(), "'<U13'");
    let paths = ["000.png", "001.png", "002.png", "003.png", "004.png", "ünïcode/𝄞.png"];
    assert_eq!(array.into_vec::<String>().unwrap(), paths);

    write_features(&table(settings("photos"), &[], &[]), &path).unwrap();
    let archive = fs::read(&path).unwrap();
    assert_eq!(npyz::NpyFile::new(&member(&archive, "features.npy")[..]).unwrap().shape(), [0, 3]);
    assert_eq!(npyz::NpyFile::new(&member(&archive, "paths.npy")[..]).unwrap().shape(), [0]);
}
