//! `anomaly-score backbones`

use anomaly_score::backbone::hub::{check_sha256, sha256_of};
use anomaly_score::backbone::{BACKBONES, Entry, WeightsSource};
use anyhow::Result;

use crate::Skips;
use crate::args::{Backbones, BackbonesCommand};
use crate::output::print;
use crate::progress;

pub(crate) fn run(args: &Backbones) -> Result<Skips> {
    match &args.command {
        None | Some(BackbonesCommand::List) => print(&list())?,
        Some(BackbonesCommand::Show { name }) => print(&show(Entry::find(name)?)?)?,
        Some(BackbonesCommand::Fetch { names }) => {
            let entries: Vec<&Entry> =
                names.iter().map(|name| Entry::find(name)).collect::<anomaly_score::Result<_>>()?;
            entries.into_iter().try_for_each(fetch)?;
        }
    }
    Ok(Skips::None)
}

/// Fetches the weights and prints where they are, and which.
fn fetch(entry: &Entry) -> Result<()> {
    let name = entry.name;
    match (entry.origin.source, progress::fetch(entry)?) {
        (WeightsSource::Hub(file), Some(path)) => {
            let sha256 = sha256_of(&path)?;
            check_sha256(&file, &path, &sha256)?;
            let note =
                if file.sha256.is_some() { "as recorded" } else { "none is recorded to compare it with" };
            print(&format!("{name}\n  file     {}\n  SHA-256  {sha256} ({note})\n", path.display()))
        }
        _ => print(&format!("{name}\n  compiled in: there is nothing to fetch\n")),
    }
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
