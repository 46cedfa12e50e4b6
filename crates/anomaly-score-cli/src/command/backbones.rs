//! `anomaly-score backbones`

use anomaly_score::backbone::{BACKBONES, Entry};
use anyhow::Result;

use crate::Skips;
use crate::args::{Backbones, BackbonesCommand};
use crate::output::print;

pub(crate) fn run(args: &Backbones) -> Result<Skips> {
    match &args.command {
        None | Some(BackbonesCommand::List) => print(&list())?,
        Some(BackbonesCommand::Show { name }) => print(&show(Entry::find(name)?)?)?,
    }
    Ok(Skips::None)
}

fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

fn list() -> String {
    let mut text = format!("{:<20} {:>6} {:>8} {:>6}  {}\n", "name", "input", "features", "exact", "weights");
    for b in BACKBONES {
        let (input, exact) = (format!("{} px", b.preprocessing.input_px), yes_no(b.is_smooth()));
        text += &format!("{:<20} {:>6} {:>8} {:>6}  {}\n", b.name, input, b.feature_dim, exact, b.origin);
    }
    text
}

fn show(entry: &Entry) -> Result<String> {
    let Entry { name, preprocessing, feature_dim, origin, .. } = entry;
    let mut text = format!(
        "{name}\n  input     {px} × {px} px, {}\n  features  {feature_dim}\n  exact     {}\n  weights   {origin}\n",
        preprocessing.name(),
        yes_no(entry.is_smooth()),
        px = preprocessing.input_px,
    );
    text += "  layers    for --layer; each with its shape (height × width × channels) and how it is read by default\n";
    for layer in entry.layers()? {
        text += &format!("    {:<32} {:>14}  {}\n", layer.name, layer.shape.to_string(), layer.pool.name());
    }
    Ok(text)
}
