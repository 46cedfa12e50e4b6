//! What a file says of how it was made, besides its pixels.

use super::decode::jpeg::Segments;
use super::kind::Kind;
use super::source::Raw;

/// What a file says of its making. Nothing here is checked: a tag can be missing or wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Provenance {
    /// Whether the file's coding loses something: JPEG, lossy WebP, GIF's palette. `None` for pixels out of an array.
    pub lossy: Option<bool>,
    /// Quality of a JPEG, 1–100, as libjpeg counts it; see [`jpeg_quality`].
    pub jpeg_quality: Option<u8>,
    /// The camera that Exif names: make and model.
    pub camera: Option<String>,
    /// The generative program that the file names.
    pub generator: Option<String>,
}

impl Provenance {
    /// Reads the headers of an entry; a file that breaks off tells what it has until there.
    pub fn of(raw: &Raw) -> Provenance {
        let Raw::Encoded { bytes, .. } = raw else { return Provenance::default() };
        let mut found = Provenance { lossy: Some(false), ..Provenance::default() };
        match Kind::of_content(bytes) {
            Some(Kind::Jpeg) => found.jpeg(bytes),
            Some(Kind::Png) => found.png(bytes),
            Some(Kind::WebP) => found.webp(bytes),
            Some(Kind::Tiff) => found.exif(bytes),
            Some(Kind::Gif) => found.lossy = Some(true),
            _ => {}
        }
        found
    }

    fn jpeg(&mut self, bytes: &[u8]) {
        self.lossy = Some(true);
        for segment in Segments::new(bytes) {
            let Ok(segment) = segment else { break };
            match segment.marker {
                0xDB => self.jpeg_quality = self.jpeg_quality.or_else(|| jpeg_quality(segment.body)),
                0xE1..=0xEF => match segment.body.strip_prefix(b"Exif\0\0") {
                    Some(exif) => self.exif(exif),
                    None => self.claim(segment.body),
                },
                0xDA => break,
                _ => {}
            }
        }
    }

    fn png(&mut self, bytes: &[u8]) {
        let mut rest = bytes.get(8..).unwrap_or_default();
        while let Some((head, body)) = rest.split_at_checked(8) {
            let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
            let Some(data) = body.get(..length) else { break };
            match &head[4..8] {
                b"eXIf" => self.exif(data),
                b"tEXt" | b"zTXt" | b"iTXt" => {
                    let keyword = data.split(|&b| b == 0).next().unwrap_or_default();
                    let named = GENERATOR_KEYWORDS.iter().find(|(word, _)| word.as_bytes() == keyword);
                    match named {
                        Some((_, program)) => self.generator = Some((*program).to_owned()),
                        None => self.claim(data),
                    }
                }
                _ => {}
            }
            // The checksum follows.
            rest = body.get(length + 4..).unwrap_or_default();
        }
    }

    fn webp(&mut self, bytes: &[u8]) {
        let mut rest = bytes.get(12..).unwrap_or_default();
        while let Some((head, body)) = rest.split_at_checked(8) {
            let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
            let Some(data) = body.get(..length) else { break };
            match &head[..4] {
                b"VP8 " | b"ANMF" => self.lossy = Some(true),
                b"EXIF" => self.exif(data.strip_prefix(b"Exif\0\0").unwrap_or(data)),
                b"XMP " => self.claim(data),
                _ => {}
            }
            rest = body.get(length + length % 2..).unwrap_or_default();
        }
    }

    /// Make, model and software out of the first directory of an Exif block.
    fn exif(&mut self, tiff: &[u8]) {
        let [make, model, software] = [0x010F, 0x0110, 0x0131].map(|tag| ascii_tag(tiff, tag));
        self.camera = match (make, model) {
            // Makers like to repeat themselves in the model.
            (Some(make), Some(model)) if model.starts_with(&make) => Some(model),
            (Some(make), Some(model)) => Some(format!("{make} {model}")),
            (make, model) => make.or(model),
        }
        .or(self.camera.take());
        if let Some(software) = software {
            self.claim(software.as_bytes());
        }
    }

    /// Looks for a generator's name or the press's own word for generated pictures in a block of text.
    fn claim(&mut self, text: &[u8]) {
        let holds = |word: &str| text.windows(word.len()).any(|w| w.eq_ignore_ascii_case(word.as_bytes()));
        if self.generator.is_none()
            && let Some((_, program)) = GENERATOR_WORDS.iter().find(|(word, _)| holds(word))
        {
            self.generator = Some((*program).to_owned());
        }
    }
}

/// Keywords of PNG texts that only programs which generate images write.
const GENERATOR_KEYWORDS: [(&str, &str); 6] = [
    ("parameters", "Stable Diffusion web UI"),
    ("prompt", "ComfyUI"),
    ("workflow", "ComfyUI"),
    ("invokeai_metadata", "InvokeAI"),
    ("sd-metadata", "InvokeAI"),
    ("Dream", "InvokeAI"),
];

/// Words inside metadata; the first is IPTC's digital source type of pictures made by a trained model.
const GENERATOR_WORDS: [(&str, &str); 6] = [
    ("trainedAlgorithmicMedia", "a generative model (IPTC digital source type)"),
    ("Midjourney", "Midjourney"),
    ("Stable Diffusion", "Stable Diffusion"),
    ("NovelAI", "NovelAI"),
    ("DALL·E", "DALL·E"),
    ("Adobe Firefly", "Adobe Firefly"),
];

/// The value of a text tag of the first directory of a TIFF block, without the blanks and zeros at its end.
fn ascii_tag(tiff: &[u8], wanted: u16) -> Option<String> {
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| -> Option<u16> {
        let bytes = [*tiff.get(at)?, *tiff.get(at.checked_add(1)?)?];
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let long = |at: usize| -> Option<usize> {
        let bytes: [u8; 4] = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) } as usize)
    };
    let directory = long(4)?;
    for i in 0..usize::from(short(directory)?) {
        let at = directory + 2 + 12 * i;
        if short(at)? != wanted || short(at + 2)? != 2 {
            continue;
        }
        let length = long(at + 4)?;
        let start = if length <= 4 { at + 8 } else { long(at + 8)? };
        let text = String::from_utf8_lossy(tiff.get(start..start.checked_add(length)?)?).into_owned();
        let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        return (!text.is_empty()).then(|| text.to_owned());
    }
    None
}

/// The luminance table of ITU-T T.81 annex K.1, in the zigzag order of a file.
const LUMINANCE: [u16; 64] = [
    16, 11, 12, 14, 12, 10, 16, 14, 13, 14, 18, 17, 16, 19, 24, 40, 26, 24, 22, 22, 24, 49, 35, 37, 29, 40,
    58, 51, 61, 60, 57, 51, 56, 55, 64, 72, 92, 78, 64, 68, 87, 69, 55, 56, 80, 109, 81, 87, 95, 98, 103,
    104, 103, 62, 77, 113, 121, 112, 100, 120, 92, 101, 103, 99,
];

/// The quality, 1–100, at which libjpeg's scaling of the standard table comes nearest (least squares) to the first table of a
/// DQT segment: exact for files by libjpeg and what is built on it, an equivalent for others.
fn jpeg_quality(dqt: &[u8]) -> Option<u8> {
    let (&precision, rest) = dqt.split_first()?;
    let table: Vec<i64> = match precision >> 4 {
        0 => rest.get(..64)?.iter().map(|&v| i64::from(v)).collect(),
        1 => rest.get(..128)?.chunks_exact(2).map(|v| i64::from(u16::from_be_bytes([v[0], v[1]]))).collect(),
        _ => return None,
    };
    let distance = |quality: u8| -> i64 {
        table.iter().zip(LUMINANCE).map(|(found, standard)| (found - scaled(standard, quality)).pow(2)).sum()
    };
    // Of equally near ones the highest.
    (1..=100u8).rev().min_by_key(|&quality| distance(quality))
}

/// An entry of the standard table at a quality, as libjpeg's `jpeg_quality_scaling` and `jpeg_add_quant_table` have it.
fn scaled(standard: u16, quality: u8) -> i64 {
    let quality = i64::from(quality);
    let percent = if quality < 50 { 5000 / quality } else { 200 - 2 * quality };
    ((i64::from(standard) * percent + 50) / 100).clamp(1, 255)
}

#[cfg(test)]
#[path = "provenance_tests.rs"]
mod tests;
