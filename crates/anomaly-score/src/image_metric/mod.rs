//! Measurements of single images against a reference set, from features alone.

mod authenticity;
#[cfg(test)]
mod fixture;
mod rarity;
mod realism;

pub(crate) use authenticity::authenticity_of;
pub use authenticity::{AuthPct, Authenticity, authenticity};
pub use rarity::rarity;
pub use realism::{RealismForm, realism};
