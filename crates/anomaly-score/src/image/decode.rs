//! From an entry's bytes to a [`Picture`].

mod complete;
mod entropy;
pub(super) mod jpeg;
mod tiff;

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use image::codecs::{bmp, gif, png, pnm, qoi, webp};
use image::error::ImageError;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, Rgb};

use super::kind::Kind;
use super::picture::{Picture, Pixels, Traits};
use super::source::Raw;
use super::unreadable::Unreadable;

/// What a picture may cost. Both are checked against the file's header, before its pixels are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Width × height, at most.
    pub max_pixels: u64,
    /// Bytes one decoding may take: the decoded pixels in the file's own layout, and the decoder's buffers as far as
    /// it counts them.
    pub max_bytes: u64,
}

impl Default for Limits {
    /// 178,956,970 pixels, where Pillow too refuses an image as a decompression bomb (2 × 89,478,485), and 1 GiB.
    fn default() -> Self {
        Limits { max_pixels: 178_956_970, max_bytes: 1 << 30 }
    }
}

impl Limits {
    /// Refuses a picture of this size whose decoding takes `bytes_per_pixel`.
    fn check(&self, width: u32, height: u32, bytes_per_pixel: u64) -> Result<(), Unreadable> {
        let pixels = u64::from(width) * u64::from(height);
        if pixels > self.max_pixels {
            let detail = format!("{width} × {height} is {pixels} pixels, the limit is {}", self.max_pixels);
            return Err(Unreadable::TooLarge { detail });
        }
        let bytes = pixels.saturating_mul(bytes_per_pixel);
        if bytes > self.max_bytes {
            let detail =
                format!("{width} × {height} takes {bytes} bytes to decode, the limit is {}", self.max_bytes);
            return Err(Unreadable::TooLarge { detail });
        }
        Ok(())
    }
}

/// Decodes one entry: orientation applied, grey, palette and CMYK turned to RGB, alpha laid over white in the file's
/// bit depth, more than 8 bits kept as 16, the first frame of an animation.
///
/// A file is decoded only if it is whole and of the type its name claims: half a picture is an error, never grey
/// filling. No content makes this panic.
///
/// # Errors
/// The reason, without the path; see [`Unreadable`].
pub fn decode(raw: &Raw, limits: &Limits) -> Result<Picture, Unreadable> {
    let decoded = catch_unwind(AssertUnwindSafe(|| match raw {
        Raw::Encoded { bytes, claimed } => decode_file(bytes, *claimed, limits),
        Raw::Rgb8 { width, height, pixels } => {
            limits.check(*width, *height, 3)?;
            Picture::new(*width, *height, Pixels::Rgb8(pixels.clone()))
                .map_err(|e| Unreadable::Corrupt { detail: e.to_string() })
        }
    }));
    // Decoders are foreign code: a panic of theirs is this image's fault, not the run's.
    decoded.unwrap_or_else(|_| Err(Unreadable::Corrupt { detail: "image: its decoder panicked".into() }))
}

fn decode_file(bytes: &[u8], claimed: Option<Kind>, limits: &Limits) -> Result<Picture, Unreadable> {
    if bytes.is_empty() {
        return Err(Unreadable::Empty);
    }
    let Some(kind) = Kind::of_content(bytes) else {
        return Err(match (claimed, super::kind::foreign_name(bytes)) {
            (Some(claimed), Some(actual)) => Unreadable::Misnamed { claimed, actual },
            _ => Unreadable::not_an_image(bytes),
        });
    };
    if let Some(claimed) = claimed.filter(|claimed| *claimed != kind) {
        return Err(Unreadable::Misnamed { claimed, actual: kind.name() });
    }
    let reader = || Cursor::new(bytes);
    let fail = |e| reason(kind, e);
    let plain = Traits { kind: Some(kind), ..Traits::default() };
    match kind {
        Kind::Jpeg => jpeg::decode(bytes, limits),
        Kind::Tiff => tiff::decode(bytes, limits),
        Kind::Png => {
            complete::png(bytes)?;
            let decoder = png::PngDecoder::with_limits(reader(), library_limits(limits)).map_err(fail)?;
            let traits = Traits { animated: decoder.is_apng().map_err(fail)?, ..plain };
            run(decoder, limits, traits)
        }
        Kind::WebP => {
            complete::webp(bytes)?;
            let decoder = webp::WebPDecoder::new(reader()).map_err(fail)?;
            let traits = Traits { animated: decoder.has_animation(), ..plain };
            run(decoder, limits, traits)
        }
        Kind::Gif => {
            let traits = Traits { animated: complete::gif(bytes)? > 1, ..plain };
            run(gif::GifDecoder::new(reader()).map_err(fail)?, limits, traits)
        }
        Kind::Bmp => {
            complete::bmp(bytes)?;
            run(bmp::BmpDecoder::new(reader()).map_err(fail)?, limits, plain)
        }
        Kind::Pnm => run(pnm::PnmDecoder::new(reader()).map_err(fail)?, limits, plain),
        Kind::Qoi => run(qoi::QoiDecoder::new(reader()).map_err(fail)?, limits, plain),
    }
}

fn library_limits(limits: &Limits) -> image::Limits {
    let mut library = image::Limits::no_limits();
    library.max_alloc = Some(limits.max_bytes);
    library
}

/// Lets a decoder of the `image` crate run, once its header has passed the limits.
fn run(mut decoder: impl ImageDecoder, limits: &Limits, mut traits: Traits) -> Result<Picture, Unreadable> {
    let kind = traits.kind.unwrap_or(Kind::Png);
    let fail = |e| reason(kind, e);
    let (width, height) = decoder.dimensions();
    limits.check(width, height, u64::from(decoder.color_type().bytes_per_pixel()))?;
    if width == 0 || height == 0 {
        return Err(Unreadable::corrupt(kind, format_args!("the picture is {width} × {height}")));
    }
    decoder.set_limits(library_limits(limits)).map_err(fail)?;
    let orientation = orientation_of(decoder.exif_metadata().map_err(fail)?.as_deref());
    let image = DynamicImage::from_decoder(decoder).map_err(fail)?;
    let (size, pixels) = opaque_rgb(kind, image, &mut traits)?;
    finish(kind, size, pixels, orientation, traits)
}

/// The orientation an Exif block asks for. Some writers put JPEG's introduction before it in other types too.
fn orientation_of(exif: Option<&[u8]>) -> Orientation {
    exif.map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif))
        .and_then(Orientation::from_exif_chunk)
        .unwrap_or(Orientation::NoTransforms)
}

/// Applies the orientation and makes the picture.
fn finish(
    kind: Kind,
    (width, height): (u32, u32),
    pixels: Pixels,
    orientation: Orientation,
    mut traits: Traits,
) -> Result<Picture, Unreadable> {
    traits.sixteen_bit = matches!(pixels, Pixels::Rgb16(_));
    traits.reoriented = orientation != Orientation::NoTransforms;
    let (width, height, pixels) = if traits.reoriented {
        let mismatch = || Unreadable::corrupt(kind, "the pixels do not fit the header's size");
        let mut image = match pixels {
            Pixels::Rgb8(v) => image::RgbImage::from_raw(width, height, v).map(DynamicImage::ImageRgb8),
            Pixels::Rgb16(v) => {
                image::ImageBuffer::<Rgb<u16>, _>::from_raw(width, height, v).map(DynamicImage::ImageRgb16)
            }
        }
        .ok_or_else(mismatch)?;
        image.apply_orientation(orientation);
        let size = (image.width(), image.height());
        match image {
            DynamicImage::ImageRgb8(image) => (size.0, size.1, Pixels::Rgb8(image.into_raw())),
            DynamicImage::ImageRgb16(image) => (size.0, size.1, Pixels::Rgb16(image.into_raw())),
            _ => return Err(mismatch()),
        }
    } else {
        (width, height, pixels)
    };
    match Picture::new(width, height, pixels) {
        Ok(picture) => Ok(picture.with_traits(traits)),
        Err(e) => Err(Unreadable::corrupt(kind, e)),
    }
}

/// Grey spread to three channels, alpha laid over white.
fn opaque_rgb(
    kind: Kind,
    image: DynamicImage,
    traits: &mut Traits,
) -> Result<((u32, u32), Pixels), Unreadable> {
    let size = (image.width(), image.height());
    let pixels = match image {
        DynamicImage::ImageRgb8(image) => Pixels::Rgb8(image.into_raw()),
        DynamicImage::ImageRgb16(image) => Pixels::Rgb16(image.into_raw()),
        DynamicImage::ImageLuma8(image) => {
            traits.grey = true;
            Pixels::Rgb8(spread(image.as_raw()))
        }
        DynamicImage::ImageLuma16(image) => {
            traits.grey = true;
            Pixels::Rgb16(spread(image.as_raw()))
        }
        DynamicImage::ImageLumaA8(image) => {
            traits.grey = true;
            let grey = over_white::<u8, 2, 1>(image.as_raw(), &mut traits.alpha_composited);
            Pixels::Rgb8(spread(&grey))
        }
        DynamicImage::ImageLumaA16(image) => {
            traits.grey = true;
            let grey = over_white::<u16, 2, 1>(image.as_raw(), &mut traits.alpha_composited);
            Pixels::Rgb16(spread(&grey))
        }
        DynamicImage::ImageRgba8(image) => {
            Pixels::Rgb8(over_white::<u8, 4, 3>(image.as_raw(), &mut traits.alpha_composited))
        }
        DynamicImage::ImageRgba16(image) => {
            Pixels::Rgb16(over_white::<u16, 4, 3>(image.as_raw(), &mut traits.alpha_composited))
        }
        _ => return Err(Unreadable::unsupported(kind, "floating-point pixels have no defined white")),
    };
    Ok((size, pixels))
}

fn spread<T: Copy>(grey: &[T]) -> Vec<T> {
    grey.iter().flat_map(|&v| [v, v, v]).collect()
}

/// A channel value that knows its largest one.
trait Depth: Copy {
    const FULL: u32;
    fn wide(self) -> u32;
    fn narrow(value: u32) -> Self;
}

impl Depth for u8 {
    const FULL: u32 = 255;
    fn wide(self) -> u32 {
        u32::from(self)
    }
    fn narrow(value: u32) -> u8 {
        value as u8
    }
}

impl Depth for u16 {
    const FULL: u32 = 65535;
    fn wide(self) -> u32 {
        u32::from(self)
    }
    fn narrow(value: u32) -> u16 {
        value as u16
    }
}

/// `IN` channels, the last one straight alpha, become the `OUT` = `IN` − 1 colours over white, rounded to nearest.
/// Sets `touched` if some alpha is below full.
fn over_white<T: Depth, const IN: usize, const OUT: usize>(pixels: &[T], touched: &mut bool) -> Vec<T> {
    let mut out = Vec::with_capacity(pixels.len() / IN * OUT);
    for pixel in pixels.chunks_exact(IN) {
        let alpha = pixel[IN - 1].wide();
        *touched |= alpha != T::FULL;
        // At 16 bits the sum is at most 65535² + 32767, just inside 32 bits.
        let white = T::FULL * (T::FULL - alpha) + T::FULL / 2;
        out.extend(pixel[..OUT].iter().map(|c| T::narrow((c.wide() * alpha + white) / T::FULL)));
    }
    out
}

/// What a decoder's error means for the user.
fn reason(kind: Kind, error: ImageError) -> Unreadable {
    match error {
        ImageError::Limits(e) => Unreadable::TooLarge { detail: format!("{kind}: {e}") },
        ImageError::Unsupported(e) => Unreadable::unsupported(kind, e),
        ImageError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
            Unreadable::truncated(kind, "the file ends inside the picture")
        }
        ImageError::IoError(e) => Unreadable::corrupt(kind, e),
        other => Unreadable::corrupt(kind, other),
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
