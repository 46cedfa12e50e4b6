//! The scatter for papers and pages.

use super::Agreement;
use super::scatter::{position, range};
use crate::report::number::significant;

/// Size of the picture and of the margins around its axes, in pixels: left, right, top, bottom.
const SIZE: [f64; 2] = [640.0, 480.0];
const MARGIN: [f64; 4] = [70.0, 20.0, 40.0, 55.0];
/// Okabe and Ito's colours, told apart by colour-blind people too; more groups repeat them as rings.
const COLOURS: [&str; 8] =
    ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442"];

/// The scatter as an SVG picture of 640 × 480 pixels: score across, people up, groups in colours; with more than one
/// group a legend beside it.
pub fn svg(agreement: &Agreement) -> String {
    let x = range(agreement.points.iter().map(|p| p.score));
    let y = range(agreement.points.iter().map(|p| p.human));
    let [left, right, top, bottom] = [MARGIN[0], SIZE[0] - MARGIN[1], MARGIN[2], SIZE[1] - MARGIN[3]];
    // A margin inside the axes keeps the outermost points whole.
    let across = |v: f64| left + 8.0 + position(x, v) * (right - left - 16.0);
    let up = |v: f64| bottom - 8.0 - position(y, v) * (bottom - top - 16.0);
    let legend = if agreement.groups.len() > 1 { 190.0 } else { 0.0 };

    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
        w = SIZE[0] + legend,
        h = SIZE[1],
    );
    let coefficient = |v: Option<f64>| v.map_or("-".to_owned(), |v| format!("{v:.3}"));
    out += &text(
        [(left + right) / 2.0, 24.0],
        "middle",
        &format!(
            "n = {}, Pearson {}, Spearman {}, Kendall {}",
            agreement.pooled.n,
            coefficient(agreement.pooled.pearson.estimate.value),
            coefficient(agreement.pooled.spearman.estimate.value),
            coefficient(agreement.pooled.kendall_tau_b.estimate.value),
        ),
    );
    out += &format!(
        "<path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"black\"/>\n<g stroke=\"black\">\n"
    );
    let (x_ticks, y_ticks) = (ticks(x), ticks(y));
    out += &x_ticks
        .iter()
        .map(|&v| format!("<path d=\"M{:.1} {bottom}v5\"/>\n", across(v)))
        .chain(y_ticks.iter().map(|&v| format!("<path d=\"M{left} {:.1}h-5\"/>\n", up(v))))
        .collect::<String>();
    out += "</g>\n";
    for &v in &x_ticks {
        out += &text([across(v), bottom + 19.0], "middle", &label(v));
    }
    for &v in &y_ticks {
        out += &text([left - 8.0, up(v) + 4.0], "end", &label(v));
    }
    out += &text([(left + right) / 2.0, SIZE[1] - 14.0], "middle", &agreement.score);
    out += &format!(
        "<g transform=\"translate(16 {:.1}) rotate(-90)\">{}</g>\n",
        (top + bottom) / 2.0,
        text([0.0, 0.0], "middle", &agreement.human).trim_end(),
    );
    for point in &agreement.points {
        out += &mark([across(point.score), up(point.human)], 3, point.group.unwrap_or(0));
    }
    if legend > 0.0 {
        // What does not fit below each other is counted.
        let most = ((bottom - top) / 16.0) as usize;
        for (i, group) in agreement.groups.iter().take(most).enumerate() {
            let y = top + 8.0 + 16.0 * i as f64;
            out += &mark([SIZE[0] + 6.0, y], 4, i);
            out += &text([SIZE[0] + 16.0, y + 4.0], "start", &group.name);
        }
        if let Some(more) = agreement.groups.len().checked_sub(most).filter(|&more| more > 0) {
            out += &text([SIZE[0] + 16.0, bottom + 12.0], "start", &format!("and {more} more"));
        }
    }
    out + "</svg>\n"
}

/// The mark of a group's point.
fn mark([x, y]: [f64; 2], radius: u32, group: usize) -> String {
    let colour = COLOURS[group % COLOURS.len()];
    let style = if (group / COLOURS.len()).is_multiple_of(2) {
        format!("fill=\"{colour}\" fill-opacity=\"0.6\"")
    } else {
        format!("fill=\"none\" stroke=\"{colour}\"")
    };
    format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\" {style}/>\n")
}

fn text([x, y]: [f64; 2], anchor: &str, content: &str) -> String {
    let mut escaped = String::new();
    for c in content.chars() {
        match c {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            // XML 1.0 has no form for them.
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{escaped}</text>\n")
}

/// Three to nine round numbers inside `range`: multiples of 1, 2 or 5 times a power of ten.
fn ticks([low, high]: [f64; 2]) -> Vec<f64> {
    let span = high / 2.0 - low / 2.0;
    let rough = span / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|k| k * power).into_iter().find(|&s| s >= rough).unwrap_or(rough);
    let first = (low / step).ceil();
    (0..10).map(|i| (first + f64::from(i)) * step).take_while(|&v| v <= high).collect()
}

/// A tick is a few digits times a power of ten; forming it leaves rounding behind.
fn label(v: f64) -> String {
    let short = significant(v, 6);
    if short.contains('.') && !short.contains('e') {
        return short.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let labels = |range| ticks(range).into_iter().map(label).collect::<Vec<_>>().join(" ");
        assert_eq!(labels([0.0, 1.0]), "0 0.2 0.4 0.6 0.8 1");
        assert_eq!(labels([0.031, 0.43]), "0.05 0.1 0.15 0.2 0.25 0.3 0.35 0.4");
        assert_eq!(labels([-3.0, 4.0]), "-3 -2 -1 0 1 2 3 4");
        assert_eq!(labels([47.0, 1190.0]), "200 400 600 800 1000");
    }

    #[test]
    fn text_cannot_become_markup() {
        let found = text([1.0, 2.0], "end", "a<b & \u{1b}[2J");
        assert_eq!(found, "<text x=\"1.0\" y=\"2.0\" text-anchor=\"end\">a&lt;b &amp; \u{fffd}[2J</text>\n");
    }
}
