//! Image file types: by name and by content.

use std::fmt;

/// The file-name extensions a source lists, in lower case; any case is accepted.
pub const EXTENSIONS: [&str; 10] = ["png", "jpg", "jpeg", "webp", "bmp", "gif", "tif", "tiff", "ppm", "qoi"];

/// A type of image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Portable Network Graphics.
    Png,
    /// JPEG (JFIF, Exif or bare), baseline or progressive.
    Jpeg,
    /// WebP, lossy or lossless.
    WebP,
    /// Windows bitmap.
    Bmp,
    /// Graphics Interchange Format.
    Gif,
    /// Tagged Image File Format.
    Tiff,
    /// The netpbm family: PBM, PGM, PPM and PAM, ASCII or binary.
    Pnm,
    /// Quite OK Image.
    Qoi,
}

impl Kind {
    /// The type a file's name claims; `None` for an extension outside [`EXTENSIONS`].
    pub fn of_name(name: &str) -> Option<Kind> {
        let file = name.rsplit('/').next().unwrap_or(name);
        let (_, extension) = file.rsplit_once('.')?;
        Some(match extension.to_ascii_lowercase().as_str() {
            "png" => Kind::Png,
            "jpg" | "jpeg" => Kind::Jpeg,
            "webp" => Kind::WebP,
            "bmp" => Kind::Bmp,
            "gif" => Kind::Gif,
            "tif" | "tiff" => Kind::Tiff,
            "ppm" => Kind::Pnm,
            "qoi" => Kind::Qoi,
            _ => return None,
        })
    }

    /// The type the first bytes show; `None` if they are those of none of these types.
    pub fn of_content(bytes: &[u8]) -> Option<Kind> {
        match bytes {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some(Kind::Png),
            [0xff, 0xd8, 0xff, ..] => Some(Kind::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some(Kind::WebP),
            [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some(Kind::Gif),
            [b'I', b'I', b'*' | b'+', 0, ..] | [b'M', b'M', 0, b'*' | b'+', ..] => Some(Kind::Tiff),
            [b'q', b'o', b'i', b'f', ..] => Some(Kind::Qoi),
            // A bitmap's magic is two letters any text could open with, so its header's length is asked for too.
            [b'B', b'M', rest @ ..] if rest.get(12..16).is_some_and(is_bmp_header) => Some(Kind::Bmp),
            [b'P', b'1'..=b'7', space, ..] if space.is_ascii_whitespace() || *space == b'#' => {
                Some(Kind::Pnm)
            }
            _ => None,
        }
    }

    /// The name for messages, such as `PNG`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Png => "PNG",
            Kind::Jpeg => "JPEG",
            Kind::WebP => "WebP",
            Kind::Bmp => "BMP",
            Kind::Gif => "GIF",
            Kind::Tiff => "TIFF",
            Kind::Pnm => "PPM",
            Kind::Qoi => "QOI",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn is_bmp_header(length: &[u8]) -> bool {
    matches!(length, [12 | 40 | 52 | 56 | 64 | 108 | 124, 0, 0, 0])
}

/// Names a file type that is no supported image but that people take for one, by its first bytes.
pub(super) fn foreign_name(bytes: &[u8]) -> Option<&'static str> {
    let brand = |names: &[&[u8]]| {
        bytes.get(4..8) == Some(b"ftyp") && names.iter().any(|n| bytes.get(8..12) == Some(n))
    };
    let text = bytes.iter().position(|b| !b.is_ascii_whitespace()).map_or(&[][..], |start| &bytes[start..]);
    let opens = |what: &[u8]| text.len() >= what.len() && text[..what.len()].eq_ignore_ascii_case(what);
    Some(match bytes {
        _ if brand(&[b"avif", b"avis"]) => "AVIF",
        _ if brand(&[b"heic", b"heix", b"heif", b"mif1", b"msf1"]) => "HEIC",
        _ if bytes.get(4..8) == Some(b"ftyp") => "an MP4-family file",
        _ if bytes.starts_with(b"\xff\x0a") || bytes.starts_with(b"\0\0\0\x0cJXL ") => "JPEG XL",
        _ if bytes.starts_with(b"\0\0\0\x0cjP  ") => "JPEG 2000",
        _ if bytes.starts_with(b"8BPS") => "a Photoshop document",
        _ if bytes.starts_with(b"\x76\x2f\x31\x01") => "OpenEXR",
        _ if bytes.starts_with(b"\0\0\x01\0") => "a Windows icon",
        _ if bytes.starts_with(b"%PDF") => "PDF",
        _ if bytes.starts_with(b"PK\x03\x04") => "a zip archive",
        _ if bytes.starts_with(b"\x1f\x8b") => "gzip data",
        _ if bytes.starts_with(b"\x93NUMPY") => "a NumPy array",
        _ if opens(b"version https://git-lfs") => "a Git LFS pointer, not the file itself",
        _ if opens(b"<!doctype html") || opens(b"<html") => "an HTML page",
        _ if opens(b"<svg") || opens(b"<?xml") => "SVG or XML",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_extension_names_a_kind_in_any_case() {
        for extension in EXTENSIONS {
            let upper = extension.to_ascii_uppercase();
            assert!(Kind::of_name(&format!("a/b.{extension}")).is_some(), "{extension}");
            assert_eq!(Kind::of_name(&format!("x.{upper}")), Kind::of_name(&format!("x.{extension}")));
        }
        for name in ["png", "a.png/readme", "a.txt", "a.", "", ".gitignore"] {
            assert_eq!(Kind::of_name(name), None, "{name}");
        }
    }

    #[test]
    fn text_that_opens_like_an_image_is_none() {
        assert_eq!(Kind::of_content(b"BMW cars are listed in this file."), None);
        assert_eq!(Kind::of_content(b"P3"), None);
        assert_eq!(Kind::of_content(b"PNG"), None);
        assert_eq!(Kind::of_content(b""), None);
        assert_eq!(foreign_name(b"  <!DOCTYPE html><html>"), Some("an HTML page"));
        assert_eq!(foreign_name(b"\0\0\0\x1cftypavif\0\0\0\0"), Some("AVIF"));
        assert_eq!(foreign_name(b"hello"), None);
    }
}
