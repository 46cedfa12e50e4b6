//! `anomaly-score rank`

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use anomaly_score::image::{Raw, Source};
use anomaly_score::report::{ImageReport, csv, write_text};
use anomaly_score::table::check_writable;
use anyhow::{Context, Result, bail};

use crate::Skips;
use crate::args::Rank;
use crate::input::{Input, Loader, report_skipped};
use crate::output::print;

pub(crate) fn run(args: &Rank) -> Result<Skips> {
    if let Some(path) = &args.csv {
        check_writable(path)?;
    }
    let input = Input::open(&args.images)?;
    if let Some(folder) = &args.copy_to {
        if matches!(input, Input::Table(_)) {
            bail!(
                "{}: --copy-to needs the images, and a table holds none; give the image source \
                 (with the cache nothing is measured twice)",
                args.images.display()
            );
        }
        fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    }
    let loader = Loader::new(&args.measuring, &[&input])?;
    let table = input.into_table(&loader)?;
    let mut images: Vec<ImageReport> = Vec::with_capacity(table.len());
    for image in table.scores()? {
        images.push(image?.into());
    }
    let (ranked, undefined): (Vec<_>, Vec<_>) = images.into_iter().partition(|i| i.anomaly_score_i.is_some());
    let total = ranked.len();
    let listed = choose(ranked, args.top, args.worst);
    if let Some(path) = &args.csv {
        let rows = listed.iter().map(|(_, image)| image);
        let whole = args.top.is_none() && args.worst.is_none();
        write_text(path, &csv(rows.chain(undefined.iter().filter(|_| whole)))?)?;
    }
    if let Some(folder) = &args.copy_to {
        copy(&args.images, folder, &listed, total)?;
    }
    print(&listing(&listed, total, undefined.len()))?;
    Ok(report_skipped(&table, &args.measuring))
}

/// (rank, image), rank 1 the most natural. `top` from the natural end, then `worst` from the other, worst first.
fn choose(
    mut images: Vec<ImageReport>,
    top: Option<usize>,
    worst: Option<usize>,
) -> Vec<(usize, ImageReport)> {
    images.sort_by(|a, b| {
        let order = a.anomaly_score_i.partial_cmp(&b.anomaly_score_i).unwrap_or(Ordering::Equal);
        order.then_with(|| a.path.cmp(&b.path))
    });
    let ranked: Vec<(usize, ImageReport)> = (1..).zip(images).collect();
    if top.is_none() && worst.is_none() {
        return ranked;
    }
    let mut listed: Vec<_> = ranked.iter().take(top.unwrap_or(0)).cloned().collect();
    listed.extend(ranked.iter().rev().take(worst.unwrap_or(0)).cloned());
    listed
}

fn listing(listed: &[(usize, ImageReport)], total: usize, undefined: usize) -> String {
    let digits = total.to_string().len().max(4);
    let mut text =
        format!("{:>digits$}  {:>10}  {:>10}  {:>13}  path\n", "rank", "AS-i", "complexity", "vulnerability");
    for (rank, image) in listed {
        let number = |x: Option<f64>| x.map_or("undefined".to_owned(), |x| format!("{x:.4}"));
        text += &format!(
            "{rank:>digits$}  {:>10}  {:>10}  {:>13}  {}\n",
            number(image.anomaly_score_i),
            number(image.complexity),
            number(image.vulnerability),
            image.path
        );
    }
    if undefined > 0 {
        text += &format!("{undefined} images have no AS-i, because their complexity is undefined or 0\n");
    }
    text
}

/// Copies the listed images as they are, `<rank>-<name>`; pixels out of an array become PNG.
fn copy(images: &Path, folder: &Path, listed: &[(usize, ImageReport)], total: usize) -> Result<()> {
    let source = Source::open(images)?;
    let ranks: HashMap<&str, usize> =
        listed.iter().map(|(rank, image)| (image.path.as_str(), *rank)).collect();
    let wanted: Vec<usize> =
        (0..source.len()).filter(|&i| ranks.contains_key(source.entries()[i].path())).collect();
    let digits = total.to_string().len();
    let mut failure = None;
    source.read(&wanted, &mut |index, raw| {
        let path = source.entries()[index].path();
        let name = path.rsplit('/').next().unwrap_or(path);
        let stem = format!("{:0digits$}-{name}", ranks[path]);
        let written = match raw {
            Ok(Raw::Encoded { bytes, .. }) => write(&folder.join(stem), &bytes),
            Ok(Raw::Rgb8 { width, height, pixels }) => {
                let file = folder.join(format!("{stem}.png"));
                image::save_buffer(&file, &pixels, width, height, image::ExtendedColorType::Rgb8)
                    .with_context(|| format!("{}: cannot be written", file.display()))
            }
            Err(reason) => Err(anyhow::anyhow!("{path}: {reason}")),
        };
        match written {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                failure = Some(e);
                ControlFlow::Break(())
            }
        }
    })?;
    failure.map_or(Ok(()), Err)
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(file, bytes).with_context(|| format!("{}: cannot be written", file.display()))
}
