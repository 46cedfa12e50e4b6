//! The report for people.

use super::classes::classes;
use super::layout::Align::{Left, Path, Right};
use super::layout::{aligned, wrapped};
use super::metrics::{claims, metrics};
use super::number::{column, significant};
use super::{ImageReport, Report, SetReport, Spread};
use crate::preflight::Preflight;

/// Images listed at either end.
const LISTED: usize = 5;

/// The report as plain text of at most 100 columns (a single longer word of a warning excepted): both sets, the score
/// with its floor, what further metrics were asked for, the most and the least natural generated images, the warnings.
///
/// Control characters in paths are escaped, so that a file's name cannot command the terminal.
pub fn terminal(report: &Report) -> String {
    let mut sections = vec![head(std::slice::from_ref(report)), sets(report), score(report)];
    sections.extend(report.claims.as_ref().map(claims));
    if !report.metrics.is_empty() {
        sections.push(metrics(&report.metrics));
    }
    sections.extend(report.classes.as_deref().map(classes));
    if report.anomaly_score.is_some() || report.images.iter().any(|i| i.vulnerability.is_some()) {
        sections.extend(images(&report.images));
    }
    sections.extend(preflight(std::slice::from_ref(report)));
    if !report.warnings.is_empty() {
        let warnings = report.warnings.iter();
        sections.push(
            warnings
                .map(|w| wrapped(&format!("warning: {}: {w}", w.kind()), "  "))
                .collect::<Vec<_>>()
                .concat(),
        );
    }
    sections.join("\n")
}

/// What pre-flight found, but for what a warning says again with the numbers at hand.
pub(super) fn preflight(reports: &[Report]) -> Option<String> {
    let of = |report: &Report| {
        let mut found = report.preflight.clone()?;
        found.findings.retain(|finding| report.warnings.iter().all(|w| w.kind() != finding.kind.name()));
        Some(found)
    };
    let found = Preflight::joined(reports.iter().filter_map(of));
    (!found.findings.is_empty()).then(|| format!("Before measuring\n{}", found.text()))
}

/// What was computed, by the first of `reports`; the arithmetics of all.
pub(super) fn head(reports: &[Report]) -> String {
    let Some(report) = reports.first() else { return String::new() };
    let Report { tool, protocol, backbone, seed, preset, .. } = report;
    let preset = preset.as_ref().map(|name| format!(", preset {name}")).unwrap_or_default();
    let px = backbone.input_px.map(|px| format!("{px} px, ")).unwrap_or_default();
    let layer = backbone.layer.as_ref().map(|layer| format!(" at {layer}")).unwrap_or_default();
    let mut arithmetics: Vec<&str> = Vec::new();
    for set in reports.iter().flat_map(|report| [&report.reference, &report.generated]) {
        arithmetics.extend(set.arithmetic.as_deref().filter(|a| !arithmetics.contains(a)));
    }
    let arithmetic = match arithmetics.is_empty() {
        true => String::new(),
        false => format!(", arithmetic {}", arithmetics.join(" and ")),
    };
    wrapped(
        &format!(
            "{} {}: protocol {}, backbone {}{layer}, {px}seed {seed}{arithmetic}{preset}",
            tool.name, tool.version, protocol.name, backbone.name
        ),
        "  ",
    )
}

fn sets(report: &Report) -> String {
    table_of_sets(&[("reference".into(), &report.reference), ("generated".into(), &report.generated)])
}

/// Sets by name; the medians of C and V where a set has any.
pub(super) fn table_of_sets(sets: &[(String, &SetReport)]) -> String {
    let median =
        |of: fn(&SetReport) -> Spread| -> Vec<_> { sets.iter().map(|(_, s)| of(s).median).collect() };
    let (complexity, vulnerability) = (median(|s| s.complexity), median(|s| s.vulnerability));
    let scored = complexity.iter().chain(&vulnerability).any(Option::is_some);
    let (complexity, vulnerability) = (column(&complexity, 4), column(&vulnerability, 4));
    let mut rows = vec![["set", "n", "C median (rad)", "V median", "source"].map(str::to_owned).to_vec()];
    rows.extend(sets.iter().enumerate().map(|(i, (name, set))| {
        vec![
            name.clone(),
            set.n.map_or("-".into(), |n| n.to_string()),
            complexity[i].clone(),
            vulnerability[i].clone(),
            set.source.clone(),
        ]
    }));
    if scored {
        return aligned(&rows, "", &[Left, Right, Right, Right, Path]);
    }
    rows.iter_mut().for_each(|row| drop(row.drain(2..4)));
    aligned(&rows, "", &[Left, Right, Path])
}

/// What stands in the place of the score where there is none.
pub(super) const NOT_SCORED: &str = "No Anomaly Score: complexity and vulnerability of a set were not measured; as or claims in \
     --metrics measures those of images.";

fn score(report: &Report) -> String {
    let Some(score) = &report.anomaly_score else { return wrapped(NOT_SCORED, "") };
    let optional = |v: Option<f64>| v.map_or("-".into(), |v| significant(v, 4));
    let lines = [
        ("AS", significant(score.value, 4), "0 = same distribution, lower is closer".to_owned()),
        (
            "p",
            score.p_value.map_or("-".into(), |p| significant(p, 3)),
            match score.permutations {
                0 => "undefined: no permutations were asked for".into(),
                b => format!("from {b} permutations"),
            },
        ),
        (
            "null mean",
            optional(score.null_mean),
            format!(
                "AS of sets of {} and {} images that do not differ",
                score.n_reference, score.n_generated
            ),
        ),
        ("null 95 % quantile", optional(score.null_q95), "5 % of such sets score higher".into()),
    ];
    let rows: Vec<_> = lines.map(|(name, value, note)| vec![name.to_owned(), value, note]).into();
    aligned(&rows, "", &[Left, Left, Left])
}

fn images(images: &[ImageReport]) -> Vec<String> {
    let mut scored: Vec<&ImageReport> = images.iter().filter(|i| i.anomaly_score_i.is_some()).collect();
    let score = |i: &ImageReport| i.anomaly_score_i.unwrap_or(f64::INFINITY);
    scored.sort_by(|a, b| score(a).total_cmp(&score(b)).then_with(|| a.path.cmp(&b.path)));
    match scored.len() {
        0 => vec!["No generated image has an AS-i: V / C is defined for none.\n".into()],
        // Two lists would show images twice.
        n if n <= 2 * LISTED => vec![list("Generated images, most natural first (AS-i = V / C)", &scored)],
        n => {
            let least: Vec<_> = scored[n - LISTED..].iter().rev().copied().collect();
            vec![
                list("Most natural generated images (lowest AS-i = V / C)", &scored[..LISTED]),
                list("Least natural generated images (highest AS-i = V / C)", &least),
            ]
        }
    }
}

fn list(title: &str, images: &[&ImageReport]) -> String {
    let numbers =
        |of: fn(&ImageReport) -> Option<f64>| column(&images.iter().map(|i| of(i)).collect::<Vec<_>>(), 4);
    let (a, c, v) = (numbers(|i| i.anomaly_score_i), numbers(|i| i.complexity), numbers(|i| i.vulnerability));
    let mut rows = vec![["AS-i", "C (rad)", "V", "path"].map(str::to_owned).to_vec()];
    rows.extend(
        (0..images.len()).map(|i| vec![a[i].clone(), c[i].clone(), v[i].clone(), images[i].path.clone()]),
    );
    format!("{title}\n{}", aligned(&rows, "  ", &[Right, Right, Right, Path]))
}
