//! Anomaly Score of image-generative models and of single generated images.
//!
//! The modules are the pipeline: `image` → `backbone` → `measure` → `table` → `set_metric` → `evaluate` → `report`; `preflight` looks
//! at the images before all of it, and `agreement` asks whether people see what a score says.

pub mod agreement;
pub mod backbone;
pub mod demo;
pub mod evaluate;
pub mod image;
pub mod image_metric;
pub mod measure;
pub mod preflight;
pub mod report;
pub mod set_metric;
pub mod stats;
pub mod table;

mod error;
mod linalg;

pub use error::{Error, ErrorKind, Result};
