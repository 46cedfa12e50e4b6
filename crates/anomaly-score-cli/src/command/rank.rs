//! `anomaly-score rank`

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anomaly_score::image::{Limits, Raw, Source, Unreadable, decode};
use anomaly_score::report::{ImageReport, csv, write_bytes};
use anomaly_score::table::check_writable;
use anyhow::{Context, Result, anyhow, bail};

use crate::Skips;
use crate::args::Rank;
use crate::input::{Input, Loader, only_one, report_skipped};
use crate::output::{TextOutput, print};

type Hashes = HashMap<String, [u8; 32]>;

pub(crate) fn run(args: &Rank) -> Result<Skips> {
    let csv_output = args.csv.as_deref().map(TextOutput::of);
    csv_output.map_or(Ok(()), TextOutput::check)?;
    let input = Input::open(&args.images)?;
    match &input {
        Input::Images(_) => {}
        Input::Table(table, _) => table.settings().require_scores(&input.name())?,
        _ => bail!("{}: holds no images, and features have no rank", input.name()),
    }
    let copies = match &args.copy_to {
        Some(folder) => Some((images_of(&input)?, folder.as_path())),
        None => None,
    };
    if let Some((source, folder)) = &copies {
        prepare(folder, source)?;
    }
    let loader = Loader::new(&args.measuring, &[&input])?;
    let table = only_one(input.into_tables(&loader)?, "rank")?;
    let mut images: Vec<ImageReport> = Vec::with_capacity(table.len());
    let mut hashes = Hashes::new();
    for image in table.scores()? {
        let image = image?;
        if copies.is_some() {
            hashes.insert(image.path.clone(), image.scores.content_hash);
        }
        images.push(image.into());
    }
    let (ranked, undefined): (Vec<_>, Vec<_>) = images.into_iter().partition(|i| i.anomaly_score_i.is_some());
    let total = ranked.len();
    let listed = choose(ranked, args.top, args.worst);
    if let Some((source, folder)) = &copies {
        copy(source, folder, &listed, total, &hashes)?;
    }
    if let Some(output) = csv_output {
        let rows = listed.iter().map(|(_, image)| image);
        let whole = args.top.is_none() && args.worst.is_none();
        output.write(&csv(rows.chain(undefined.iter().filter(|_| whole)))?)?;
    }
    if csv_output != Some(TextOutput::Stdout) {
        print(&listing(&listed, total, undefined.len()))?;
    }
    Ok(report_skipped(&table, &args.measuring.reading))
}

/// The images themselves; of a table, those it was measured from.
fn images_of(input: &Input) -> Result<Source> {
    match input {
        Input::Images(source) => Ok(Source::open(source.path())?),
        Input::Features(_, path) | Input::Statistics(_, path) => bail!("{}: holds no images", path.display()),
        Input::Table(table, path) => Source::open(&table.settings().source).with_context(|| {
            format!(
                "{}: --copy-to needs the images this table was measured from; go to the folder it was made in, or \
                 give the image source instead of the table (with the cache nothing is measured twice)",
                path.display()
            )
        }),
    }
}

/// Makes the folder, and refuses one that copies cannot be written to or would spoil.
fn prepare(folder: &Path, source: &Source) -> Result<()> {
    if source.path().is_dir() && real_path(folder)?.starts_with(real_path(source.path())?) {
        bail!(
            "{}: --copy-to lies inside {}, so that the copies would count as images of it next time. Name a folder \
             outside",
            folder.display(),
            source.name()
        );
    }
    fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    Ok(check_writable(&folder.join("copy"))?)
}

/// `path` without links and `..`, as far as it exists.
fn real_path(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).with_context(|| format!("{}: no such place", path.display()))?;
    let exists = |p: &&Path| p.exists();
    let existing = absolute.ancestors().find(exists).unwrap_or(&absolute);
    let rest = absolute.strip_prefix(existing).unwrap_or(Path::new(""));
    let real = fs::canonicalize(existing).with_context(|| format!("{}: no such place", path.display()))?;
    Ok(real.join(rest))
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
fn copy(
    source: &Source,
    folder: &Path,
    listed: &[(usize, ImageReport)],
    total: usize,
    hashes: &Hashes,
) -> Result<()> {
    let ranks: HashMap<&str, usize> =
        listed.iter().map(|(rank, image)| (image.path.as_str(), *rank)).collect();
    let wanted: Vec<usize> =
        (0..source.len()).filter(|&i| ranks.contains_key(source.entries()[i].path())).collect();
    if wanted.len() < ranks.len() {
        let found: Vec<&str> = wanted.iter().map(|&i| source.entries()[i].path()).collect();
        let gone = listed.iter().map(|(_, image)| image.path.as_str()).find(|p| !found.contains(p));
        bail!("{}: {} is no longer there and cannot be copied", source.name(), gone.unwrap_or_default());
    }
    let digits = total.to_string().len();
    let mut failure = None;
    source.read(&wanted, &mut |index, raw| {
        let path = source.entries()[index].path();
        let name = path.rsplit('/').next().unwrap_or(path);
        let stem = folder.join(format!("{:0digits$}-{name}", ranks[path]));
        match copy_one(raw, &stem, &hashes[path]).with_context(|| format!("{}: {path}", source.name())) {
            Ok(()) => ControlFlow::Continue(()),
            Err(e) => {
                failure = Some(e);
                ControlFlow::Break(())
            }
        }
    })?;
    failure.map_or(Ok(()), Err)
}

fn copy_one(raw: std::result::Result<Raw, Unreadable>, stem: &Path, measured: &[u8; 32]) -> Result<()> {
    let cannot = |reason| anyhow!("cannot be copied: {reason}");
    let raw = raw.map_err(cannot)?;
    if decode(&raw, &Limits::default()).map_err(cannot)?.content_hash() != *measured {
        bail!("has changed since it was measured, so its rank may be another now; measure again");
    }
    match raw {
        Raw::Encoded { bytes, .. } => Ok(write_bytes(stem, &bytes)?),
        Raw::Rgb8 { width, height, pixels } => {
            let mut png = std::io::Cursor::new(Vec::new());
            let encoder = image::codecs::png::PngEncoder::new(&mut png);
            let colour = image::ExtendedColorType::Rgb8;
            image::ImageEncoder::write_image(encoder, &pixels, width, height, colour)?;
            let mut file = stem.as_os_str().to_owned();
            file.push(".png");
            Ok(write_bytes(Path::new(&file), png.get_ref())?)
        }
    }
}
