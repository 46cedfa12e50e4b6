//! `anomaly-score backbones`

use std::path::Path;

use anomaly_score::backbone::hub::{check_sha256, sha256_of};
use anomaly_score::backbone::{BACKBONES, Entry, ModelCheck, OnnxOptions, WeightsSource, check_onnx};
use anyhow::Result;

use crate::Skips;
use crate::args::{Backbones, BackbonesCommand};
use crate::output::print;
use crate::progress;

pub(crate) fn run(args: &Backbones) -> Result<Skips> {
    match &args.command {
        None | Some(BackbonesCommand::List) => print(&list())?,
        Some(BackbonesCommand::Check { model, onnx }) => print(&check(model, &onnx.options())?)?,
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

fn check(path: &Path, options: &OnnxOptions) -> Result<String> {
    let ModelCheck { input_px, sha256, output, feature_dim, multiply_adds, first_kink, fusions, layers } =
        check_onnx(path, options)?;
    let exact = match first_kink {
        None => "yes".to_owned(),
        Some(layer) => format!("no: {layer} is piecewise linear"),
    };
    let fused: Vec<String> = fusions.iter().map(|(what, times)| format!("{what} ({times})")).collect();
    let fused = if fused.is_empty() { "nothing".to_owned() } else { fused.join("; ") };
    // A multiply-add is two floating-point operations.
    let flops = 2.0 * multiply_adds as f64 / 1e9;
    let output = printable(&output);
    let mut text = format!(
        "{}\n  input     {input_px} × {input_px} px\n  output    {output}, {feature_dim} features\n  \
         cost      {flops:.3} GFLOP an image (convolutions, linear layers, matrix products)\n  exact     {exact}\n  \
         joined    {fused}\n  sha256    {sha256}\n  layers    for --layer, by the name of the value or of the module \
         that ends in it; with its shape, the batch first\n",
        path.display(),
    );
    for layer in layers {
        let dims: Vec<String> = layer.dims.iter().map(usize::to_string).collect();
        let (name, modules) = (printable(&layer.name), printable(&layer.modules.join(", ")));
        text += format!("    {name:<48} {:>20}  {modules}", dims.join("×")).trim_end();
        text += "\n";
    }
    Ok(text)
}

/// Text out of a file, without what would move a terminal's cursor.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_debug().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}
