//! The store of measurements: everything up to here is done once an image and kept, everything later reads only this.
//!
//! - [`Writer`] fills a table. It survives being killed, takes up what an interrupted run left, and asks the [`Cache`]
//!   before anything is measured twice.
//! - [`Table`] is the finished result, a Parquet file any data-frame library reads; `reference/table.py` shows how.
//! - [`Settings`] say how a table was measured and whether two of them may be compared.
//!
//! Memory grows with the number of images only by the index of a table being filled: its paths and about 100 bytes an
//! image, and about 50 bytes for every measurement in the cache. Rows and features stay on the disk.

mod cache;
mod columns;
mod disk;
mod from_features;
mod journal;
mod log;
mod parquet;
mod row;
mod settings;
mod writer;

#[cfg(test)]
mod tests;

pub use cache::Cache;
pub use disk::check_writable;
pub(crate) use disk::{folder_of, io_error};
pub use journal::Recovered;
pub use parquet::Table;
pub use row::{Flags, Measurement, Row, ScoredImage, Scores, Skipped};
pub use settings::{
    BackboneSettings, Difference, FEATURES_ONLY, FORMAT_VERSION, METHOD_VERSION, Noise, ProtocolSettings,
    Settings,
};
pub use writer::{Known, Writer};
