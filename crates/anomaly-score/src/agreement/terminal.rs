//! The answer for people.

use super::scatter::{braille, range};
use super::{Agreement, Associations, Coefficient};
use crate::report::layout::Align::{Left, Path, Right};
use crate::report::layout::{aligned, visible, wrapped};
use crate::report::number::{column, significant};
use crate::stats::{Estimate, PValue};

/// Size of the scatter, characters.
const PLOT: (usize, usize) = (72, 18);

/// The answer as plain text of at most 100 columns (a single longer word excepted): the coefficients with their
/// intervals, the groups, the units' means, and the scatter.
pub fn terminal(agreement: &Agreement) -> String {
    let mut sections = vec![head(agreement), pooled(agreement)];
    if !agreement.groups.is_empty() {
        sections.push(groups(agreement));
    }
    sections.extend(means(agreement));
    sections.push(plot(agreement));
    sections.join("\n")
}

fn head(agreement: &Agreement) -> String {
    let Agreement { table, score, human, mean_by, rows, pooled, .. } = agreement;
    let mut text = format!("{score} against {human}, {table}: {} of {} rows", rows.used, rows.total);
    for (n, what) in [
        (rows.missing_score, format!("without {score}")),
        (rows.missing_human, format!("without {human}")),
        (rows.not_joined, "not in the joined table".to_owned()),
    ] {
        if n > 0 {
            text += &format!(", {n} {what}");
        }
    }
    if let Some(mean_by) = mean_by {
        text += &format!("; averaged to {} values of {mean_by}", pooled.n);
    }
    wrapped(&text, "  ")
}

fn pooled(agreement: &Agreement) -> String {
    let Associations { n, pearson, spearman, kendall_tau_b, pairwise_accuracy, .. } = &agreement.pooled;
    let direction = if agreement.lower_is_better { "lower" } else { "higher" };
    let mut rows = vec![[&format!("n = {n}"), "value", "interval", "p", ""].map(str::to_owned).to_vec()];
    let mut notes = String::new();
    for (name, coefficient, note) in [
        ("Pearson r", pearson, String::new()),
        ("Spearman ρ", spearman, String::new()),
        ("Kendall τ-b", kendall_tau_b, String::new()),
        (
            "pairwise accuracy",
            pairwise_accuracy,
            format!("pairs ordered as people do, {direction} = better; .5 is chance"),
        ),
    ] {
        let Estimate { value, ci_low, ci_high, .. } = coefficient.estimate;
        let interval = match (ci_low, ci_high) {
            (Some(low), Some(high)) => format!("{low:.3} to {high:.3}"),
            _ => "-".to_owned(),
        };
        rows.push(vec![
            name.to_owned(),
            value.map_or("-".to_owned(), |v| format!("{v:.3}")),
            interval,
            coefficient.p_value.map_or(String::new(), p_text),
            note,
        ]);
        if let Some(reason) = &coefficient.estimate.undefined {
            notes += &wrapped(&format!("{name}: no interval, because {reason}"), "  ");
        }
    }
    aligned(&rows, "", &[Left, Right, Right, Right, Left]) + &wrapped(&pearson.estimate.method, "  ") + &notes
}

fn groups(agreement: &Agreement) -> String {
    let name = agreement.group_by.as_deref().unwrap_or_default();
    let mut rows =
        vec![["n", "Pearson r", "Spearman ρ", "Kendall τ-b", "accuracy", name].map(str::to_owned).to_vec()];
    for group in &agreement.groups {
        let Associations { n, pearson, spearman, kendall_tau_b, pairwise_accuracy, .. } = &group.associations;
        let mut row = vec![n.to_string()];
        row.extend([pearson, spearman, kendall_tau_b, pairwise_accuracy].map(with_interval));
        row.push(group.name.clone());
        rows.push(row);
    }
    aligned(&rows, "", &[Right, Right, Right, Right, Right, Path])
}

/// `.43 [.33, .52]`: all of them lie in [−1, 1].
fn with_interval(coefficient: &Coefficient) -> String {
    let short = |v: f64| {
        let text = format!("{v:.2}");
        text.strip_prefix("0").map(str::to_owned).unwrap_or_else(|| text.replacen("-0.", "-.", 1))
    };
    let Estimate { value, ci_low, ci_high, .. } = coefficient.estimate;
    match (value, ci_low, ci_high) {
        (None, ..) => "-".to_owned(),
        (Some(v), Some(low), Some(high)) => format!("{} [{}, {}]", short(v), short(low), short(high)),
        (Some(v), ..) => short(v),
    }
}

/// Means with their standard errors: of the units, or else of the groups.
fn means(agreement: &Agreement) -> Option<String> {
    let (by, entries): (_, Vec<(&str, &Estimate, &Estimate)>) = if let Some(by) = &agreement.mean_by {
        (by, agreement.units.iter().map(|u| (u.name.as_str(), &u.score, &u.human)).collect())
    } else {
        let entries = agreement.groups.iter().map(|group| {
            let Associations { score_mean, human_mean, .. } = &group.associations;
            (group.name.as_str(), score_mean, human_mean)
        });
        (agreement.group_by.as_ref()?, entries.collect())
    };
    let numbers = |of: fn(&(&str, &Estimate, &Estimate)) -> Option<f64>, digits| {
        column(&entries.iter().map(of).collect::<Vec<_>>(), digits)
    };
    let (score, score_error) = (numbers(|e| e.1.value, 4), numbers(|e| e.1.std_error, 2));
    let (human, human_error) = (numbers(|e| e.2.value, 4), numbers(|e| e.2.std_error, 2));
    let mut rows = vec![
        ["n", &agreement.score, "std error", &agreement.human, "std error", by].map(str::to_owned).to_vec(),
    ];
    for (i, (name, estimate, _)) in entries.iter().enumerate() {
        let cells = [&score, &score_error, &human, &human_error].map(|c| c[i].clone());
        let mut row = vec![estimate.n.to_string()];
        row.extend(cells);
        row.push((*name).to_owned());
        rows.push(row);
    }
    Some(format!("Means\n{}", aligned(&rows, "  ", &[Right, Right, Right, Right, Right, Path])))
}

fn plot(agreement: &Agreement) -> String {
    let points: Vec<[f64; 2]> = agreement.points.iter().map(|p| [p.score, p.human]).collect();
    let (x, y) = (range(points.iter().map(|p| p[0])), range(points.iter().map(|p| p[1])));
    let (columns, lines) = PLOT;
    let [bottom, top] = y.map(|v| significant(v, 3));
    let margin = bottom.chars().count().max(top.chars().count());
    let mut text = format!("{}\n", visible(&agreement.human));
    for (i, line) in braille(&points, x, y, columns, lines).into_iter().enumerate() {
        let label = match i {
            0 => top.as_str(),
            i if i + 1 == lines => bottom.as_str(),
            _ => "",
        };
        text += &format!("{label:>margin$} │{}\n", line.trim_end());
    }
    let [left, right] = x.map(|v| significant(v, 3));
    let name = visible(&agreement.score);
    let between = columns.saturating_sub(left.chars().count() + right.chars().count());
    text += &format!("{:margin$} └{}\n", "", "─".repeat(columns));
    text += &format!("{:margin$}  {left}{name:^between$}{right}\n", "");
    text
}

/// As many digits as people read; below the smallest `f64` from its logarithm.
fn p_text(p_value: PValue) -> String {
    match p_value.log10_p {
        Some(log10_p) if p_value.p < 1e-290 => {
            let exponent = log10_p.floor();
            format!("{:.1}e{exponent}", 10f64.powf(log10_p - exponent))
        }
        _ => significant(p_value.p, 2),
    }
}
