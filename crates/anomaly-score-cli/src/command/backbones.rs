//! `anomaly-score backbones`

use anomaly_score::backbone::BACKBONES;
use anyhow::Result;

use crate::Skips;
use crate::output::print;

pub(crate) fn run() -> Result<Skips> {
    let mut text = format!("{:<20} {:>5} {:>8} {:>6}  {}\n", "name", "input", "features", "exact", "weights");
    for b in &BACKBONES {
        let exact = if b.is_smooth() { "yes" } else { "no" };
        let input = format!("{} px", b.input_px);
        text += &format!("{:<20} {:>6} {:>7} {:>6}  {}\n", b.name, input, b.feature_dim, exact, b.origin);
    }
    print(&text)?;
    Ok(Skips::None)
}
