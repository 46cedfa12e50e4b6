//! `anomaly-score compare`

use std::path::PathBuf;

use anomaly_score::evaluate::{
    ClassFile, Classes, FeatureSet, Options, PairResult, Preset, Selection, Side, compare_models,
    evaluate_classes,
};
use anomaly_score::measure::{FEATURES_ONLY, protocol};
use anomaly_score::report::{
    Models, Report, Set, Warning, csv, csv_of_models, json, terminal, terminal_of_models,
};
use anomaly_score::set_metric::PermutationOptions;
use anyhow::{Result, bail};

use crate::Skips;
use crate::args::{Compare, Measuring, Score};
use crate::input::{Input, Loader, MeasuredInput, report_skipped};
use crate::output::{TextOutput, print};
use crate::preflight::{Pass, report as report_findings};

pub(crate) fn run(args: &Compare) -> Result<Skips> {
    let inputs = |moments: bool| {
        let open = |path: &PathBuf| Input::open_for(path, moments);
        Ok((open(&args.reference)?, args.generated.iter().map(open).collect::<Result<_>>()?))
    };
    compare(inputs, Vec::new(), &args.score, &args.measuring)
}

/// Measures what has to be measured and reports. Shared with `demo`. `inputs` opens the reference and the models' images, given
/// whether mean and covariance of the reference are all that is asked for; `warnings` end the report's own.
pub(crate) fn compare(
    inputs: impl FnOnce(bool) -> Result<(Input, Vec<Input>)>,
    warnings: Vec<Warning>,
    score: &Score,
    measuring: &Measuring,
) -> Result<Skips> {
    let preset = score.metrics.preset.as_deref().map(Preset::find).transpose()?;
    let as_preset = preset.as_ref().map(|preset| measuring.with_preset(preset)).transpose()?;
    let measuring = as_preset.as_ref().unwrap_or(measuring);
    let outputs = |path: &Option<PathBuf>| path.as_deref().map(|p| measuring.reading.outputs(p)).transpose();
    let (json_paths, images_paths) = (outputs(&score.json)?, outputs(&score.images)?);
    let is_stdout = |path: &Option<PathBuf>| path.as_deref().map(TextOutput::of) == Some(TextOutput::Stdout);
    let to_stdout = [&score.json, &score.images].map(is_stdout);
    if to_stdout == [true; 2] {
        bail!("--json and --images: only one of the two can go to stdout; name a file for the other");
    }
    for path in json_paths.iter().chain(&images_paths).flatten() {
        TextOutput::of(path).check()?;
    }
    let selection = Selection::of(&score.metrics.metrics)?;
    let classes = match &score.metrics.by_class {
        None => None,
        Some(None) => Some(Classes::Folders),
        Some(Some(path)) => Some(Classes::File(ClassFile::read(path)?)),
    };
    let moments = !selection.claims && selection.metrics.iter().all(|m| m.reads_reference_moments());
    let (reference, generated) = inputs(moments)?;
    let held_out = score.metrics.held_out.as_deref().map(Input::open).transpose()?;
    if held_out.is_none() {
        selection.require_held_out()?;
    }
    let several = generated.len() > 1;
    if score.images.is_some() && !selection.needs_scores() && !selection.has_image_columns() {
        bail!(
            "--images: none of the metrics asked for says anything of a single image; add as (complexity, vulnerability \
             and AS-i), realism, rarity, authpct, or with --held-out fls, to --metrics"
        );
    }
    let all: Vec<&Input> = std::iter::once(&reference).chain(&generated).chain(&held_out).collect();
    if let Some(classes) = &classes {
        require_common_classes(classes, &reference, &generated)?;
    }
    let scorable = std::iter::once(&reference).chain(&generated).all(Input::can_have_scores);
    let scored = selection.needs_scores() && (scorable || selection.names_scores());
    let wanted = if scored { measuring.method.constants() } else { protocol(FEATURES_ONLY) };
    let loader = Loader::of(&measuring.reading, wanted, &all)?;
    if !scored && all.iter().any(|input| matches!(input, Input::Images(_))) {
        note_what_is_not_measured(measuring);
    }
    for input in std::iter::once(&reference).chain(&generated).filter(|_| scored) {
        loader.settings(input)?.iter().try_for_each(|s| s.require_scores(&input.name()))?;
    }
    // No metric reads more of held-out images than their features.
    let of_features = loader.of_features();
    let of_held_out = match &held_out {
        Some(input) if loader.require_comparable(&reference, &of_features, input).is_ok() => &of_features,
        _ => &loader,
    };
    for other in &generated {
        loader.require_comparable(&reference, &loader, other)?;
        loader.warn_of_arithmetics((Set::Reference, &reference), (Set::Generated, other))?;
    }
    if let Some(other) = &held_out {
        loader.require_comparable(&reference, of_held_out, other)?;
        of_held_out.warn_of_arithmetics((Set::Reference, &reference), (Set::HeldOut, other))?;
    }
    if let Some(preset) = &preset {
        // Files of features and statistics do not tell.
        for input in all.iter().filter(|i| matches!(i, Input::Images(_) | Input::Table(..))) {
            loader.settings(input)?.iter().try_for_each(|s| preset.require(&input.name(), s))?;
        }
    }
    let backbones: Vec<_> = loader.settings(&reference)?.into_iter().map(|s| s.backbone).collect();
    selection.require_possible(&backbones)?;
    let of_files: Vec<Vec<Warning>> = (0..backbones.len())
        .map(|layer| all.iter().filter_map(|input| input.unknown_origin(&loader, layer)).collect())
        .collect();
    let found = if score.no_preflight {
        None
    } else {
        let question = loader.question(&reference, selection.clone(), preset.as_ref())?;
        let pass = Pass::of(&measuring.reading);
        let found = pass.compare(&reference, &generated, held_out.as_ref(), &question)?;
        report_findings(&found);
        Some(found)
    };
    let references = reference.measured(&loader)?;
    let models: Vec<Vec<MeasuredInput>> =
        generated.into_iter().map(|input| input.measured(&loader)).collect::<Result<_>>()?;
    let held_out = held_out.map(|input| input.into_tables(of_held_out)).transpose()?;
    let of_preset = preset.map(|p| Warning::Preset { name: p.name.into(), limits: p.limits.into() });
    let warnings = [Vec::from_iter(of_preset), warnings].concat();
    for (layer, reference) in references.iter().enumerate() {
        let seed = reference.measured().settings().seed;
        let permutations = PermutationOptions { permutations: score.permutations, seed };
        let warnings = [&loader.cache_errors()[..], &of_files[layer], &warnings].concat();
        let options = Options {
            bootstrap: score.metrics.bootstrap,
            null_splits: score.metrics.null_splits,
            conventions: preset.map(|p| p.conventions).unwrap_or_default(),
            ..Options::new(selection.clone(), seed)
        };
        let models: Vec<&MeasuredInput> = models.iter().map(|layers| &layers[layer]).collect();
        let mut reports = Vec::with_capacity(models.len());
        for generated in &models {
            let mut report =
                Report::of(reference.measured(), generated.measured(), &permutations, warnings.clone())?;
            report.preset = preset.map(|p| p.name.into());
            report.preflight = found.as_ref().map(|found| {
                let mut sources = vec![report.reference.source.as_str(), &report.generated.source];
                sources.extend(held_out.iter().flatten().map(|table| table.settings().source.as_str()));
                found.only(&sources)
            });
            reports.push(report);
        }
        let mut pairs = Vec::new();
        if several || classes.is_some() || selection.is_more_than_score() {
            let held_out = match &held_out {
                Some(layers) => Some(FeatureSet::read(&layers[layer], "held out")?),
                None => None,
            };
            let alone = several || selection.is_more_than_score();
            let of = Together { classes: classes.as_ref(), held_out: held_out.as_ref(), alone };
            pairs = of.evaluate(reference, &models, &mut reports, &permutations, &options, score)?;
        }
        let (as_json, as_text, as_csv) = if several {
            let of = Models { models: reports, pairs };
            (json(&of)?, terminal_of_models(&of), csv_of_models(&of)?)
        } else {
            let report = &reports[0];
            (json(report)?, terminal(report), csv(&report.images)?)
        };
        if let Some(paths) = &images_paths {
            TextOutput::of(&paths[layer]).write(&as_csv)?;
        }
        if let Some(paths) = &json_paths {
            TextOutput::of(&paths[layer]).write(&as_json)?;
        }
        if to_stdout == [false; 2] {
            let gap = if layer > 0 { "\n" } else { "" };
            print(&format!("{gap}{as_text}"))?;
        }
    }
    // Every layer's table skips the same files, but for what only one layer cannot give.
    let tables = references.iter().chain(models.iter().flatten()).filter_map(MeasuredInput::table);
    let tables = tables.chain(held_out.iter().flatten());
    let skips = tables.map(|table| report_skipped(table, &measuring.reading));
    Ok(skips.fold(Skips::None, Skips::or))
}

/// Refuses classes that no two sets can share, before anything is measured.
fn require_common_classes(classes: &Classes, reference: &Input, generated: &[Input]) -> Result<()> {
    let is_statistics = |input: &&Input| matches!(input, Input::Statistics(..));
    if let Some(input) = std::iter::once(reference).chain(generated).find(is_statistics) {
        bail!("--by-class: {} holds mean and covariance of all classes together", input.name());
    }
    let (source, paths) = reference.paths()?;
    for model in generated {
        let (of_model, model_paths) = model.paths()?;
        classes.require_common([(&source, &paths), (&of_model, &model_paths)])?;
    }
    Ok(())
}

/// What the sets of one layer are evaluated with, beyond the Anomaly Score.
struct Together<'a> {
    classes: Option<&'a Classes>,
    held_out: Option<&'a FeatureSet>,
    /// Whether each model is also evaluated as a whole.
    alone: bool,
}

impl Together<'_> {
    /// Completes the report of each model; gives what tells every two of several apart.
    fn evaluate(
        &self,
        reference: &MeasuredInput,
        models: &[&MeasuredInput],
        reports: &mut [Report],
        permutations: &PermutationOptions,
        options: &Options,
        score: &Score,
    ) -> Result<Vec<PairResult>> {
        let of_reference = reference.features("reference")?;
        let sets: Vec<Option<FeatureSet>> =
            models.iter().map(|model| model.features("generated")).collect::<Result<_>>()?;
        let sides: Vec<Side> = models.iter().zip(&sets).filter_map(|(model, set)| model.side(set)).collect();
        let Some(reference) = reference.side(&of_reference) else { return Ok(Vec::new()) };
        for (report, &generated) in reports.iter_mut().zip(&sides) {
            if self.alone {
                report.evaluate(reference, generated, self.held_out, options)?;
            }
            if let (Some(classes), Side::Images(reference), Side::Images(generated)) =
                (self.classes, reference, generated)
            {
                let found =
                    evaluate_classes(reference, generated, self.held_out, classes, permutations, options)?;
                report.add_classes(found);
            }
        }
        if models.len() < 2 {
            return Ok(Vec::new());
        }
        Ok(compare_models(reference, &sides, options, score.metrics.pair_permutations)?)
    }
}

/// Says that options of the method do nothing, where some were given.
fn note_what_is_not_measured(measuring: &Measuring) {
    if measuring.method.constants() != protocol("paper") {
        eprintln!(
            "note: no metric asked for needs complexity and vulnerability, so that only features are measured and the options \
             of the method do nothing; as or claims in --metrics measures both"
        );
    }
}
