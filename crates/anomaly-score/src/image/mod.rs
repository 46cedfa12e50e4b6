//! Images: where they lie, what they hold, and how they become network input.
//!
//! [`Source`] lists and reads (folder, zip, tar, npz), [`decode`](decode()) turns one entry into a [`Picture`],
//! [`Preprocessing::apply`] turns a picture into H×W×3 floats in [0, 1]. What is wrong with one image is an [`Unreadable`]
//! and never stops the others; what is wrong with a whole source is an [`Error`](crate::Error).

mod decode;
#[cfg(test)]
pub(crate) mod fixture;
mod kind;
mod picture;
mod pil_u8;
mod preprocessing;
mod provenance;
mod resize;
mod source;
mod unreadable;

pub use decode::{Limits, decode};
pub use kind::{EXTENSIONS, Kind};
pub use picture::{Picture, Pixels, Traits};
pub use preprocessing::{Fit, Preprocessing, Resampler};
pub use provenance::Provenance;
pub use source::{Entry, MAX_ENTRY_BYTES, Raw, Source};
pub use unreadable::Unreadable;
