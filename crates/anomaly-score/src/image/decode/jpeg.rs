//! JPEG by zune-jpeg, asked to be strict, after a look at the file of our own.
//!
//! The `image` crate runs the same decoder in its lenient mode, which paints grey over what is missing. Even the
//! strict mode lets a file pass that ends in its last row of blocks, or whose end-of-image marker stands too early;
//! so the segments are walked first ([`Frame::read`]), and of sequential files the blocks are counted
//! ([`super::entropy`]). Of a progressive file only the segments are walked: cut between two scans and closed with
//! an end-of-image marker it is a valid, coarser JPEG, and within a scan the decoder's own checks have to do.

use std::borrow::Cow;

use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Limits, entropy, finish};
use crate::image::kind::Kind;
use crate::image::picture::{Picture, Pixels, Traits};
use crate::image::unreadable::Unreadable;

/// Decodes a JPEG file.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Picture, Unreadable> {
    let frame = Frame::read(bytes)?;
    // A progressive file's coefficients, 2 bytes each, stand beside the pixels until its last scan.
    let bytes_per_pixel = frame.components.len().max(3) as u64 * if frame.progressive { 3 } else { 1 };
    limits.check(frame.width, frame.height, bytes_per_pixel)?;
    if !frame.progressive {
        entropy::check_blocks(bytes, &frame)?;
    }

    // zune-jpeg takes an Adobe marker without transform for CMYK whatever the number of components. With three it is
    // RGB; said to be YCbCr and asked for as YCbCr, the values come out untouched.
    let stored_rgb = frame.adobe.is_some_and(|(_, transform)| transform == 0)
        && frame.components.len() == 3
        && !frame.jfif;
    let mut bytes = Cow::Borrowed(bytes);
    if let Some((position, 0)) = frame.adobe
        && frame.components.len() == 3
    {
        bytes.to_mut()[position] = 1;
    }
    if frame.untidy {
        bytes = Cow::Owned(tidied(&bytes));
    }
    let options = DecoderOptions::default()
        .set_strict_mode(true)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(&bytes[..]), options);
    decoder.decode_headers().map_err(reason)?;
    let stored = decoder.input_colorspace().unwrap_or(ColorSpace::RGB);
    let wanted = match stored {
        ColorSpace::Luma => ColorSpace::Luma,
        ColorSpace::YCbCr if stored_rgb => ColorSpace::YCbCr,
        _ => ColorSpace::RGB,
    };
    decoder.set_options(options.jpeg_set_out_colorspace(wanted));
    let orientation = super::orientation_of(decoder.exif().map(Vec::as_slice));
    let mut pixels = decoder.decode().map_err(reason)?;

    let mut traits = Traits { kind: Some(Kind::Jpeg), ..Traits::default() };
    traits.cmyk = matches!(stored, ColorSpace::CMYK | ColorSpace::YCCK);
    traits.grey = wanted == ColorSpace::Luma;
    if traits.grey {
        pixels = super::spread(&pixels);
    }
    finish(Kind::Jpeg, (frame.width, frame.height), Pixels::Rgb8(pixels), orientation, traits)
}

fn reason(error: DecodeErrors) -> Unreadable {
    match error {
        DecodeErrors::Unsupported(what) => Unreadable::unsupported(Kind::Jpeg, format_args!("{what:?}")),
        DecodeErrors::ExhaustedData => Unreadable::truncated(Kind::Jpeg, "the picture data ends early"),
        other => Unreadable::corrupt(Kind::Jpeg, format!("{other:?}").trim_matches('"')),
    }
}

/// One colour component of a frame.
pub(super) struct Component {
    pub(super) id: u8,
    /// Blocks a unit, across and down.
    pub(super) sampling: (usize, usize),
}

/// What a walk over a file's segments finds.
pub(super) struct Frame {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) components: Vec<Component>,
    pub(super) progressive: bool,
    jfif: bool,
    /// The headers have bytes between them, or an Adobe marker too short to mean anything: harmless, yet the strict
    /// decoder refuses them.
    untidy: bool,
    /// Where Adobe's colour transform is written, and which it is.
    adobe: Option<(usize, u8)>,
}

impl Frame {
    /// Walks the segments from start to end-of-image marker.
    fn read(bytes: &[u8]) -> Result<Frame, Unreadable> {
        let mut frame = Frame {
            width: 0,
            height: 0,
            components: Vec::new(),
            progressive: false,
            jfif: false,
            untidy: false,
            adobe: None,
        };
        let mut scans = 0;
        for segment in Segments::new(bytes) {
            let Segment { marker, start, body, gap } = segment?;
            frame.untidy |= scans == 0 && (gap > 0 || is_short_adobe(marker, body));
            match marker {
                0xC0..=0xC2 if frame.components.is_empty() => frame.read_header(marker, body)?,
                0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF => {
                    let detail = match marker {
                        0xC3 => "lossless coding",
                        0xC9..=0xCF => "arithmetic coding",
                        _ => "hierarchical coding",
                    };
                    return Err(Unreadable::unsupported(Kind::Jpeg, detail));
                }
                0xE0 => frame.jfif |= body.starts_with(b"JFIF\0"),
                0xEE if body.starts_with(b"Adobe") && body.len() >= 12 => {
                    frame.adobe = Some((start + 11, body[11]))
                }
                0xDA => scans += 1,
                _ => {}
            }
        }
        if frame.components.is_empty() || scans == 0 {
            return Err(Unreadable::corrupt(Kind::Jpeg, "no picture before the end-of-image marker"));
        }
        Ok(frame)
    }

    fn read_header(&mut self, marker: u8, body: &[u8]) -> Result<(), Unreadable> {
        let short = || Unreadable::corrupt(Kind::Jpeg, "the frame header is too short");
        let head = body.get(..6).ok_or_else(short)?;
        if head[0] != 8 {
            let detail = format!("{} bits a sample", head[0]);
            return Err(Unreadable::unsupported(Kind::Jpeg, detail));
        }
        self.progressive = marker == 0xC2;
        self.height = u32::from(u16::from_be_bytes([head[1], head[2]]));
        self.width = u32::from(u16::from_be_bytes([head[3], head[4]]));
        let rest = body[6..].get(..usize::from(head[5]) * 3).ok_or_else(short)?;
        for part in rest.chunks_exact(3) {
            let sampling = (usize::from(part[1] >> 4), usize::from(part[1] & 15));
            if !(1..=4).contains(&sampling.0) || !(1..=4).contains(&sampling.1) {
                return Err(Unreadable::corrupt(Kind::Jpeg, "a sampling factor outside 1–4"));
            }
            self.components.push(Component { id: part[0], sampling });
        }
        if self.width == 0 || self.height == 0 || self.components.is_empty() {
            return Err(Unreadable::corrupt(Kind::Jpeg, "the frame header announces no pixels"));
        }
        Ok(())
    }
}

fn is_short_adobe(marker: u8, body: &[u8]) -> bool {
    marker == 0xEE && body.starts_with(b"Adobe") && body.len() < 12
}

/// The file with nothing but segments before its first scan.
fn tidied(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0xff, 0xd8];
    for segment in Segments::new(bytes) {
        let Ok(Segment { marker, start, body, .. }) = segment else { break };
        if !is_short_adobe(marker, body) {
            out.extend([0xff, marker]);
            out.extend((body.len() as u16 + 2).to_be_bytes());
            out.extend(body);
        }
        if marker == 0xDA {
            out.extend(&bytes[start + body.len()..]);
            break;
        }
    }
    out
}

/// One marker segment; for a start of scan, without the coded data after it.
pub(in crate::image) struct Segment<'a> {
    pub(in crate::image) marker: u8,
    /// Where `body` starts in the file.
    pub(super) start: usize,
    pub(in crate::image) body: &'a [u8],
    /// Bytes between the segment before and this one's marker: after a scan its coded data, elsewhere stray ones.
    gap: usize,
}

/// The segments of a file, up to the end-of-image marker. A file without one is truncated.
pub(in crate::image) struct Segments<'a> {
    bytes: &'a [u8],
    at: usize,
    ended: bool,
}

impl<'a> Segments<'a> {
    pub(in crate::image) fn new(bytes: &'a [u8]) -> Self {
        Segments { bytes, at: 2, ended: false }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Result<Segment<'a>, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let mut truncated = |detail: &str| {
            self.ended = true;
            Some(Err(Unreadable::truncated(Kind::Jpeg, detail)))
        };
        // Anything but a marker is coded data (or, as libjpeg has it, extraneous bytes).
        let (marker, length_at) = match next_marker(self.bytes, self.at) {
            Some(found) => found,
            None => return truncated("there is no end-of-image marker"),
        };
        if marker == 0xD9 {
            self.ended = true;
            return None;
        }
        let Some(length) = self.bytes.get(length_at..length_at + 2) else {
            return truncated("the file ends inside a header segment");
        };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]])).max(2);
        let Some(body) = self.bytes.get(length_at + 2..length_at + length) else {
            return truncated("the file ends inside a header segment");
        };
        let gap = (length_at - 2).saturating_sub(self.at);
        self.at = length_at + length;
        Some(Ok(Segment { marker, start: length_at + 2, body, gap }))
    }
}

/// The next marker that is neither a restart nor a stuffed byte, from `at` on, and the position after it.
fn next_marker(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    loop {
        at += bytes.get(at..)?.iter().position(|&b| b == 0xff)? + 1;
        match *bytes.get(at)? {
            // Stuffing, the temporary private marker, restarts; 0xff is a fill byte before a marker.
            0x00 | 0x01 | 0xD0..=0xD8 => at += 1,
            0xff => {}
            marker => return Some((marker, at + 1)),
        }
    }
}
