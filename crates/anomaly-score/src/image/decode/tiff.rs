//! TIFF by the `image` crate's decoder, with what that does not do: palettes, and associated alpha.
//!
//! The first directory's tags are read here. A palette file is handed on as a grey one, a CMYK file as one of four
//! plain channels, and the samples that come back are converted here.

use std::borrow::Cow;
use std::io::Cursor;

use image::codecs::tiff::TiffDecoder;
use image::{DynamicImage, ImageDecoder};

use super::{Depth, Limits, finish, library_limits, opaque_rgb, reason};
use crate::image::kind::Kind;
use crate::image::picture::{Picture, Pixels, Traits};
use crate::image::unreadable::Unreadable;

const BITS_PER_SAMPLE: u16 = 258;
const PHOTOMETRIC: u16 = 262;
const COLOR_MAP: u16 = 320;
const EXTRA_SAMPLES: u16 = 338;
const BLACK_IS_ZERO: u8 = 1;
const RGB: u8 = 2;
const FILL_ORDER: u16 = 266;
const PLANAR_CONFIGURATION: u16 = 284;
const TILE_WIDTH: u16 = 322;
const PALETTE: u32 = 3;
const CMYK: u32 = 5;
const SAMPLE_FORMAT: u16 = 339;
const ASSOCIATED_ALPHA: u32 = 1;
const FLOAT: u32 = 3;

/// Decodes the first picture of a TIFF file.
pub(super) fn decode(bytes: &[u8], limits: &Limits) -> Result<Picture, Unreadable> {
    let fail = |e| reason(Kind::Tiff, e);
    let tags = Tags::read(bytes);
    if let Some(what) = tags.as_ref().and_then(Tags::refused) {
        return Err(Unreadable::unsupported(Kind::Tiff, what));
    }
    let palette = tags.as_ref().and_then(Tags::palette);
    let extra = tags.as_ref().and_then(|tags| tags.values(EXTRA_SAMPLES));
    let cmyk = extra.is_none()
        && tags.as_ref().and_then(|tags| tags.values(PHOTOMETRIC)).is_some_and(|value| value == [CMYK]);
    let bytes = match &tags {
        Some(tags) if palette.is_some() => Cow::Owned(tags.with_photometric(BLACK_IS_ZERO)),
        // The decoder's own conversion cuts the fraction off, half a level on average.
        Some(tags) if cmyk => Cow::Owned(tags.with_photometric(RGB)),
        _ => Cow::Borrowed(bytes),
    };
    let mut decoder = TiffDecoder::new(Cursor::new(&bytes[..])).map_err(fail)?;
    let (width, height) = decoder.dimensions();
    limits.check(width, height, u64::from(decoder.original_color_type().bits_per_pixel().div_ceil(8)))?;
    if width == 0 || height == 0 {
        return Err(Unreadable::corrupt(Kind::Tiff, format_args!("the picture is {width} × {height}")));
    }
    decoder.set_limits(library_limits(limits)).map_err(fail)?;
    let orientation = decoder.orientation().map_err(fail)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(fail)?;

    let mut traits = Traits { kind: Some(Kind::Tiff), cmyk, ..Traits::default() };
    let (size, pixels) = match (palette, image) {
        (Some(palette), DynamicImage::ImageLuma8(indices)) => {
            let colours = indices.as_raw().iter().flat_map(|&i| palette[usize::from(i)]).collect();
            ((width, height), Pixels::Rgb8(colours))
        }
        (None, DynamicImage::ImageRgba8(image)) if cmyk => {
            ((width, height), Pixels::Rgb8(cmyk_to_rgb(image.as_raw())))
        }
        (None, DynamicImage::ImageRgba16(image)) if cmyk => {
            ((width, height), Pixels::Rgb16(cmyk_to_rgb(image.as_raw())))
        }
        (_, other) => {
            image = other;
            if extra.is_some_and(|kinds| kinds.first() == Some(&ASSOCIATED_ALPHA)) {
                unassociate(&mut image);
            }
            opaque_rgb(Kind::Tiff, image, &mut traits)?
        }
    };
    finish(Kind::Tiff, size, pixels, orientation, traits)
}

/// The naive formula, rounded to nearest, as Pillow's.
fn cmyk_to_rgb<T: Depth>(pixels: &[T]) -> Vec<T> {
    let mut out = Vec::with_capacity(pixels.len() / 4 * 3);
    for pixel in pixels.chunks_exact(4) {
        let light = T::FULL - pixel[3].wide();
        out.extend(
            pixel[..3].iter().map(|c| T::narrow(((T::FULL - c.wide()) * light + T::FULL / 2) / T::FULL)),
        );
    }
    out
}

/// Divides colours that were stored multiplied by their alpha.
fn unassociate(image: &mut DynamicImage) {
    fn divide(colour: u32, alpha: u32, full: u32) -> u32 {
        (colour * full + alpha / 2).checked_div(alpha).map_or(full, |colour| colour.min(full))
    }
    match image {
        DynamicImage::ImageRgba8(image) => image.pixels_mut().for_each(|p| {
            let [colours @ .., alpha] = &mut p.0;
            colours.iter_mut().for_each(|c| *c = divide(u32::from(*c), u32::from(*alpha), 255) as u8);
        }),
        DynamicImage::ImageRgba16(image) => image.pixels_mut().for_each(|p| {
            let [colours @ .., alpha] = &mut p.0;
            colours.iter_mut().for_each(|c| *c = divide(u32::from(*c), u32::from(*alpha), 65535) as u16);
        }),
        _ => {}
    }
}

/// The first directory of a classic (32-bit) TIFF.
struct Tags<'a> {
    bytes: &'a [u8],
    big_endian: bool,
    /// Where its entries of 12 bytes start.
    entries: usize,
    count: usize,
}

impl<'a> Tags<'a> {
    /// `None` for BigTIFF and for a directory outside the file; the decoder says what it thinks of those.
    fn read(bytes: &'a [u8]) -> Option<Tags<'a>> {
        let big_endian = bytes.starts_with(b"MM");
        let mut tags = Tags { bytes, big_endian, entries: 0, count: 0 };
        if tags.u16_at(2)? != 42 {
            return None;
        }
        let directory = tags.u32_at(4)? as usize;
        tags.count = usize::from(tags.u16_at(directory)?);
        tags.entries = directory + 2;
        bytes.get(tags.entries..tags.entries + tags.count * 12)?;
        Some(tags)
    }

    fn u16_at(&self, at: usize) -> Option<u16> {
        let raw = [*self.bytes.get(at)?, *self.bytes.get(at.checked_add(1)?)?];
        Some(if self.big_endian { u16::from_be_bytes(raw) } else { u16::from_le_bytes(raw) })
    }

    fn u32_at(&self, at: usize) -> Option<u32> {
        let raw: [u8; 4] = self.bytes.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if self.big_endian { u32::from_be_bytes(raw) } else { u32::from_le_bytes(raw) })
    }

    /// Where the entry of a tag starts.
    fn entry(&self, tag: u16) -> Option<usize> {
        (0..self.count).map(|i| self.entries + i * 12).find(|&at| self.u16_at(at) == Some(tag))
    }

    /// The values of a tag of 16-bit numbers.
    fn values(&self, tag: u16) -> Option<Vec<u32>> {
        const SHORT: u16 = 3;
        let at = self.entry(tag)?;
        let count = self.u32_at(at + 4)? as usize;
        if self.u16_at(at + 2)? != SHORT || count > 3 << 16 {
            return None;
        }
        let from = if count <= 2 { at + 8 } else { self.u32_at(at + 8)? as usize };
        (0..count).map(|i| self.u16_at(from.checked_add(2 * i)?).map(u32::from)).collect()
    }

    /// What the decoder would get wrong without saying so.
    fn refused(&self) -> Option<&'static str> {
        let has = |tag, value| self.values(tag).is_some_and(|values| values.contains(&value));
        if has(SAMPLE_FORMAT, FLOAT) {
            Some("floating-point samples, for which no value is defined to be white")
        } else if has(FILL_ORDER, 2) {
            Some("bits stored in reversed order")
        } else if has(PLANAR_CONFIGURATION, 2) && self.entry(TILE_WIDTH).is_some() {
            Some("tiles of separate colour planes")
        } else {
            None
        }
    }

    /// The 256 colours of an 8-bit palette file; `None` for any other file. The map has 16 bits a colour, yet writers
    /// fill it with 8-bit colours, some as v·256, some as v·257: the upper byte is right for both.
    fn palette(&self) -> Option<Vec<[u8; 3]>> {
        let is_palette = self.values(PHOTOMETRIC)? == [PALETTE] && self.values(BITS_PER_SAMPLE)? == [8];
        let map = self.values(COLOR_MAP).filter(|map| is_palette && map.len() == 3 * 256)?;
        Some((0..256).map(|i| [map[i], map[256 + i], map[512 + i]].map(|v| (v >> 8) as u8)).collect())
    }

    /// The file with another photometric interpretation.
    fn with_photometric(&self, value: u8) -> Vec<u8> {
        let mut copy = self.bytes.to_vec();
        if let Some(at) = self.entry(PHOTOMETRIC) {
            copy[at + 8..at + 10].copy_from_slice(&if self.big_endian { [0, value] } else { [value, 0] });
        }
        copy
    }
}
