//! Reads `fixtures/image/`, which `reference/image.py` writes.

use std::fs::File;
use std::path::PathBuf;

use npyz::{DType, NpyFile};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use zip::ZipArchive;

use super::picture::{Picture, Pixels};

pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/image").join(name)
}

pub(crate) fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[derive(Deserialize)]
struct Cases<T> {
    cases: Vec<T>,
}

pub(crate) fn cases<T: DeserializeOwned>(name: &str) -> Vec<T> {
    serde_json::from_slice::<Cases<T>>(&bytes(name)).unwrap().cases
}

/// The arrays of an npz.
pub(crate) struct Arrays(ZipArchive<File>);

impl Arrays {
    pub(crate) fn open(name: &str) -> Arrays {
        Arrays(ZipArchive::new(File::open(path(name)).unwrap()).unwrap())
    }

    /// An H×W×3 array of 8 or 16 bits.
    pub(crate) fn picture(&mut self, key: &str) -> Picture {
        let array = NpyFile::new(self.0.by_name(&format!("{key}.npy")).unwrap()).unwrap();
        let &[height, width, 3] = array.shape() else { panic!("{key}: {:?}", array.shape()) };
        let is_byte = matches!(array.dtype(), DType::Plain(kind) if kind.size_field() == 1);
        let pixels = if is_byte {
            Pixels::Rgb8(array.into_vec().unwrap())
        } else {
            Pixels::Rgb16(array.into_vec().unwrap())
        };
        Picture::new(width as u32, height as u32, pixels).unwrap()
    }

    pub(crate) fn floats(&mut self, key: &str) -> Vec<f32> {
        NpyFile::new(self.0.by_name(&format!("{key}.npy")).unwrap()).unwrap().into_vec().unwrap()
    }
}
