//! The further metrics and the claims, for people.

use super::layout::Align::{Left, Right};
use super::layout::{aligned, wrapped};
use super::number::significant;
use crate::evaluate::{Claim, Claims, Direction, MetricResult};
use crate::stats::Alternative;

/// A table of metrics, then their notes.
pub(super) fn metrics(metrics: &[MetricResult]) -> String {
    let row = |title: &str, arrow: &str, of: Option<&MetricResult>| {
        let mut row = vec![title.to_owned(), arrow.to_owned()];
        row.extend(figures(of));
        row
    };
    let mut rows = vec![row("metric", "", None)];
    rows.extend(metrics.iter().map(|m| row(&m.title, arrow(m.direction), Some(m))));
    let mut text = aligned(&rows, "", &[Left, Left, Right, Left, Right, Right, Right]);
    text += &wrapped(
        "↓ lower is better, ↑ higher is better; null mean: of splits of the reference set, where nothing differs; 5 % limit: \
         5 % of such splits are beyond it; n: reference : generated images",
        "  ",
    );
    for note in notes(metrics) {
        text += &wrapped(&note, "  ");
    }
    text
}

/// Value, interval, null mean and limit, n; of none their headings.
pub(super) fn figures(metric: Option<&MetricResult>) -> Vec<String> {
    let Some(metric) = metric else {
        return ["value", "95 % interval", "null mean", "5 % limit", "n"].map(str::to_owned).to_vec();
    };
    let optional = |v: Option<f64>| v.map_or("-".into(), |v| significant(v, 4));
    let ends = metric.ci_low.zip(metric.ci_high);
    let n = match (metric.n_reference, metric.n_generated) {
        (None, None) => "-".into(),
        (None, Some(n)) => n.to_string(),
        (Some(n), None) => format!("{n} : -"),
        (Some(r), Some(g)) => format!("{r} : {g}"),
    };
    vec![
        optional(metric.value),
        ends.map_or("-".into(), |(a, b)| format!("{} … {}", significant(a, 3), significant(b, 3))),
        optional(metric.null_mean),
        optional(metric.null_q05.or(metric.null_q95)),
        n,
    ]
}

/// What is to be said of each metric, and of floors that are those of other sizes.
pub(super) fn notes(metrics: &[MetricResult]) -> Vec<String> {
    // What is said of several is said once.
    let mut said: Vec<(String, &String)> = Vec::new();
    for metric in metrics {
        let Some(note) = &metric.note else { continue };
        match said.iter_mut().find(|(_, other)| *other == note) {
            Some((titles, _)) => *titles += &format!(", {}", metric.title),
            None => said.push((metric.title.clone(), note)),
        }
    }
    let of_other_sizes = metrics.iter().find_map(|metric| {
        let parts = metric.null_n_reference.zip(metric.null_n_generated)?;
        let sets = metric.n_reference.zip(metric.n_generated)?;
        (parts != sets).then(|| {
            format!(
                "null mean and 5 % limit, where a reference was split: of {} : {} images, as many as it gives; a metric \
                 that falls or rises with the number of images would have others at {} : {}",
                parts.0, parts.1, sets.0, sets.1
            )
        })
    });
    said.into_iter().map(|(titles, note)| format!("{titles}: {note}")).chain(of_other_sizes).collect()
}

pub(super) fn arrow(direction: Direction) -> &'static str {
    match direction {
        Direction::Lower => "↓",
        Direction::Higher => "↑",
        Direction::None => "",
    }
}

/// A line for each of the paper's claims.
pub(super) fn claims(claims: &Claims) -> String {
    let row = |name: &str, claim: &Claim| {
        let than = if claim.generated == Alternative::Less { "lower" } else { "higher" };
        let p = match (claim.p_value, claim.log10_p) {
            (Some(0.0), Some(log10_p)) => format!("p = 10^{log10_p:.1}"),
            (Some(p), _) => format!("p = {}", significant(p, 3)),
            (None, _) => "p undefined".into(),
        };
        let ends = claim.ci_low.zip(claim.ci_high);
        let interval = ends.map(|(a, b)| format!(" ({a:.3} … {b:.3})")).unwrap_or_default();
        let delta = claim.cliffs_delta.map_or("-".into(), |d| format!("{d:.3}{interval}"));
        vec![format!("{name} of generated images is {than}"), p, format!("Cliff's δ {delta}")]
    };
    let rows = [row("complexity", &claims.complexity), row("vulnerability", &claims.vulnerability)];
    format!("The paper's claims (Mann–Whitney, one-sided)\n{}", aligned(&rows, "  ", &[Left, Left, Left]))
}
