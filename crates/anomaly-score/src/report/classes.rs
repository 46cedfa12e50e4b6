//! The metrics by class, for people.

use super::layout::Align::{Left, Right};
use super::layout::{aligned, visible, wrapped};
use super::number::column;
use crate::evaluate::{ClassResult, Direction, METRICS, MetricResult};

/// Classes listed whole.
const LISTED: usize = 40;
/// Characters of a class's name.
const NAME: usize = 24;
/// Metrics that fit beside each other.
const COLUMNS: usize = 6;
/// Classes named that only one set has.
const NAMED: usize = 10;

/// A table of classes: sizes, the values of the first metrics, the median AS-i of generated images where there is one; then what is
/// missing.
pub(super) fn classes(classes: &[ClassResult]) -> String {
    let common: Vec<&ClassResult> =
        classes.iter().filter(|c| !c.metrics.is_empty() || c.is_common()).collect();
    let Some(first) = common.first() else { return String::new() };
    let shown = first.metrics.len().min(COLUMNS);
    let leading = first.metrics.iter().position(|m| m.direction != Direction::None);
    let mut listed = common.clone();
    let mut title = format!("By class ({} in both sets)", common.len());
    if let (Some(leading), true) = (leading, listed.len() > LISTED) {
        let value = |c: &ClassResult| c.metrics[leading].value;
        let metric = &first.metrics[leading];
        listed.sort_by(|a, b| {
            let order = match (value(a), value(b)) {
                (Some(a), Some(b)) => b.total_cmp(&a),
                (a, b) => b.is_some().cmp(&a.is_some()),
            };
            let worst_first = if metric.direction == Direction::Lower { order } else { order.reverse() };
            let undefined_last = value(b).is_some().cmp(&value(a).is_some());
            undefined_last.then(worst_first).then_with(|| a.class.cmp(&b.class))
        });
        listed.truncate(LISTED);
        title =
            format!("By class (the {LISTED} worst of {} by {}; all in --json)", common.len(), metric.title);
    }
    let of_images: Vec<Option<f64>> =
        listed.iter().map(|c| c.anomaly_score_i_generated.map(|of| of.median)).collect();
    let scored = of_images.iter().any(Option::is_some);
    let mut rows = vec![["class", "n ref", "n gen"].map(str::to_owned).to_vec()];
    rows[0].extend(first.metrics.iter().take(shown).map(|m| short(m).to_owned()));
    rows.extend(
        listed.iter().map(|c| vec![name(&c.class), c.n_reference.to_string(), c.n_generated.to_string()]),
    );
    for k in 0..shown {
        let values: Vec<Option<f64>> =
            listed.iter().map(|c| c.metrics.get(k).and_then(|m| m.value)).collect();
        rows.iter_mut().skip(1).zip(column(&values, 3)).for_each(|(row, cell)| row.push(cell));
    }
    if scored {
        rows[0].push("AS-i median".into());
        rows.iter_mut().skip(1).zip(column(&of_images, 4)).for_each(|(row, cell)| row.push(cell));
    }
    let mut align = vec![Right; rows[0].len()];
    align[0] = Left;
    let mut text = format!("{title}\n{}", aligned(&rows, "  ", &align));
    let arrows: Vec<String> = first.metrics.iter().take(shown).map(arrow_of).collect();
    text += &wrapped(
        &format!(
            "{}; intervals, null floors{} and why a value is missing: --json",
            arrows.join(", "),
            if shown < first.metrics.len() { ", further metrics" } else { "" }
        ),
        "  ",
    );
    for (set, other) in [("reference", "generated"), ("generated", "reference")] {
        let only: Vec<String> = classes
            .iter()
            .filter(|c| if set == "reference" { c.n_generated == 0 } else { c.n_reference == 0 })
            .map(|c| name(&c.class))
            .collect();
        if !only.is_empty() {
            let more = only.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            let named = only[..only.len().min(NAMED)].join(", ");
            text += &wrapped(&format!("only in the {set} set, without {other} images: {named}{more}"), "  ");
        }
    }
    text
}

impl ClassResult {
    fn is_common(&self) -> bool {
        self.n_reference > 0 && self.n_generated > 0
    }
}

/// As the metric is asked for, unless its features give it a name of its own.
fn short(metric: &MetricResult) -> &str {
    METRICS.iter().find(|e| e.name == metric.name).map_or(metric.name.as_str(), |e| e.option)
}

fn arrow_of(metric: &MetricResult) -> String {
    let arrow = super::metrics::arrow(metric.direction);
    if arrow.is_empty() { short(metric).to_owned() } else { format!("{} {arrow}", short(metric)) }
}

/// The name of a class, cut at its end.
fn name(class: &str) -> String {
    let class = visible(class);
    match class.chars().count() > NAME {
        true => format!("{}…", class.chars().take(NAME - 1).collect::<String>()),
        false => class,
    }
}
