//! Colours of two sets: far apart, or such that one exchange explains it.

use super::facts::Colour;
use super::finding::{Finding, Kind, Severity};
use super::set::SetFacts;

/// Standardised difference of means (Cohen's d) from which it is worth a word; Cohen 1988 calls 0.8 large.
const APART: f64 = 0.8;
/// Standard errors that must go with it. Of 11,000 random halves of photos, of 20 to 300 images, two were so far apart
/// (docs/preflight.md).
const SURE: f64 = 4.5;
/// The same where an exchange of red and blue explains it, which chance does more rarely.
const SURE_OF_EXCHANGE: f64 = 4.0;
/// Images a set needs: of fewer, halves of a set pass for different now and then.
const ENOUGH: usize = 20;
/// Distance in standard deviations from which an exchange is looked for.
const EXCHANGED: f64 = 0.5;
/// Share of that distance that may remain after the exchange.
const REMAINS: f64 = 0.5;

/// What differs between sets of colours, at most one finding: exchanged channels, inverted colours, or just far apart.
pub(super) fn findings(reference: &SetFacts, other: &SetFacts) -> Option<Finding> {
    let colours = |set: &SetFacts| set.seen().map(|(_, seen)| seen.colour).collect::<Vec<_>>();
    if !reference.is_seen() || !other.is_seen() || reference.n().min(other.n()) < ENOUGH {
        return None;
    }
    let (mine, theirs) = (colours(reference), colours(other));
    let sets: [&str; 2] = [&other.source, &reference.source];
    let grey = |set: &[Colour]| 2 * set.iter().filter(|c| c.chroma <= 1.0).count() >= set.len();
    let is_exchanged = !grey(&mine)
        && !grey(&theirs)
        && explained(&mine, &theirs, red_over_blue, exchanged, SURE_OF_EXCHANGE);
    let is_inverted = explained(&mine, &theirs, whole, inverted, SURE);
    // A negative has red less blue the other way round too.
    let remaining = |exchange: fn(&Colour) -> Colour| {
        let turned: Vec<_> = theirs.iter().map(|c| whole(&exchange(c))).collect();
        distance(&mine.iter().map(whole).collect::<Vec<_>>(), &turned).unwrap_or(f64::INFINITY)
    };
    if is_exchanged && (!is_inverted || remaining(exchanged) <= remaining(inverted)) {
        let difference = |set: &[Colour]| mean(set.iter().map(|c| c.mean[0] - c.mean[2]));
        return Some(Finding::new(
            Kind::ChannelsSwapped,
            Severity::Serious,
            &sets,
            format!(
                "red and blue of one set are likely exchanged: red less blue is {:+.0} levels in {} and {:+.0} in {}, and the sets \
                 agree once it is turned round",
                difference(&mine),
                reference.source,
                difference(&theirs),
                other.source
            ),
            "Look at some images; OpenCV writes and reads B G R, so turn the channels round where colours are wrong",
        ));
    }
    if is_inverted {
        return Some(Finding::new(
            Kind::ColoursInverted,
            Severity::Serious,
            &sets,
            format!(
                "one set is likely inverted: brightness and colours of {} and {} agree once 255 − x is taken of one",
                reference.source, other.source
            ),
            "Look at some images and invert those that are negatives",
        ));
    }
    apart(&mine, &theirs, reference, other)
}

/// Brightness, colour or contrast far apart.
fn apart(mine: &[Colour], theirs: &[Colour], reference: &SetFacts, other: &SetFacts) -> Option<Finding> {
    type Measure = fn(&Colour) -> f64;
    let measures: [(&str, Measure); 6] = [
        ("mean of red", |c| c.mean[0]),
        ("mean of green", |c| c.mean[1]),
        ("mean of blue", |c| c.mean[2]),
        ("contrast (standard deviation within an image) of red", |c| c.std_dev[0]),
        ("contrast (standard deviation within an image) of green", |c| c.std_dev[1]),
        ("contrast (standard deviation within an image) of blue", |c| c.std_dev[2]),
    ];
    let (name, a, b, d) = measures
        .into_iter()
        .filter_map(|(name, of)| {
            let [a, b] = [mine, theirs].map(|set| Moments::of(set.iter().map(of)));
            let (spread, error) =
                (((a.variance + b.variance) / 2.0).sqrt(), (a.variance / a.n + b.variance / b.n).sqrt());
            let difference = b.mean - a.mean;
            (difference.abs() >= APART * spread && difference.abs() >= SURE * error && difference != 0.0)
                .then_some((name, a.mean, b.mean, difference / spread))
        })
        .max_by(|a, b| a.3.abs().total_cmp(&b.3.abs()))?;
    let far = if d.is_finite() {
        format!("{:.1} standard deviations of the images", d.abs())
    } else {
        "no image between".into()
    };
    Some(Finding::new(
        Kind::ColoursDiffer,
        Severity::Note,
        &[&other.source, &reference.source],
        format!(
            "the {name} is {a:.0} in {} and {b:.0} in {} (0 to 255; {far} apart)",
            reference.source, other.source
        ),
        "If the model's images are so, nothing; if they were denormalised or tone-mapped on the way, write them again",
    ))
}

/// Whether `exchange` of one set explains most of a distance that chance does not.
fn explained<const K: usize>(
    mine: &[Colour],
    theirs: &[Colour],
    features: fn(&Colour) -> [f64; K],
    exchange: fn(&Colour) -> Colour,
    sure: f64,
) -> bool {
    let of = |set: &[Colour]| set.iter().map(features).collect::<Vec<_>>();
    let (a, b) = (of(mine), of(theirs));
    let turned: Vec<_> = theirs.iter().map(|c| features(&exchange(c))).collect();
    let (Some(before), Some(after)) = (distance(&a, &b), distance(&a, &turned)) else { return false };
    let harmonic = 1.0 / (1.0 / a.len() as f64 + 1.0 / b.len() as f64);
    before >= EXCHANGED && before * before * harmonic >= sure * sure && after <= REMAINS * before
}

/// Odd under an exchange of red and blue, and only that.
fn red_over_blue(c: &Colour) -> [f64; 2] {
    [c.mean[0] - c.mean[2], c.std_dev[0] - c.std_dev[2]]
}

fn exchanged(c: &Colour) -> Colour {
    let turn = |[r, g, b]: [f64; 3]| [b, g, r];
    Colour { mean: turn(c.mean), std_dev: turn(c.std_dev), ..*c }
}

fn whole(c: &Colour) -> [f64; 6] {
    let [r, g, b] = c.mean;
    [r - b, g - (r + b) / 2.0, c.luma, c.skewness.unwrap_or(0.0), c.std_dev[0] - c.std_dev[2], c.luma_std_dev]
}

fn inverted(c: &Colour) -> Colour {
    Colour { mean: c.mean.map(|m| 255.0 - m), luma: 255.0 - c.luma, skewness: c.skewness.map(|s| -s), ..*c }
}

/// Mahalanobis distance of two means by the mean of the two covariances, with a thousandth of each variance added, so that
/// features that never vary do not divide by 0. `None` for fewer than two images, or where nothing varies.
fn distance<const K: usize>(a: &[[f64; K]], b: &[[f64; K]]) -> Option<f64> {
    let centre = |set: &[[f64; K]]| -> [f64; K] { std::array::from_fn(|k| mean(set.iter().map(|v| v[k]))) };
    let (m, n) = (centre(a), centre(b));
    let covariance = |set: &[[f64; K]], m: &[f64; K], i: usize, j: usize| {
        set.iter().map(|v| (v[i] - m[i]) * (v[j] - m[j])).sum::<f64>() / (set.len() as f64 - 1.0)
    };
    if a.len().min(b.len()) < 2 {
        return None;
    }
    let mut matrix = [[0.0; K]; K];
    for i in 0..K {
        for j in 0..K {
            matrix[i][j] = (covariance(a, &m, i, j) + covariance(b, &n, i, j)) / 2.0;
        }
    }
    for (i, row) in matrix.iter_mut().enumerate() {
        if row[i] <= 0.0 {
            return None;
        }
        row[i] *= 1.001;
    }
    let difference: [f64; K] = std::array::from_fn(|k| n[k] - m[k]);
    let solved = solve(matrix, difference)?;
    let square: f64 = difference.iter().zip(solved).map(|(d, s)| d * s).sum();
    Some(square.max(0.0).sqrt())
}

/// x of M·x = y for a positive definite M, by elimination.
fn solve<const K: usize>(mut m: [[f64; K]; K], mut y: [f64; K]) -> Option<[f64; K]> {
    for k in 0..K {
        if m[k][k] <= 0.0 {
            return None;
        }
        for i in k + 1..K {
            let factor = m[i][k] / m[k][k];
            for j in k..K {
                m[i][j] -= factor * m[k][j];
            }
            y[i] -= factor * y[k];
        }
    }
    for k in (0..K).rev() {
        let rest: f64 = (k + 1..K).map(|j| m[k][j] * y[j]).sum();
        y[k] = (y[k] - rest) / m[k][k];
    }
    Some(y)
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (n, sum) = values.fold((0.0, 0.0), |(n, sum), v| (n + 1.0, sum + v));
    sum / n
}

/// Number, mean and variance (divided by n − 1).
struct Moments {
    n: f64,
    mean: f64,
    variance: f64,
}

impl Moments {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Moments {
        let n = values.clone().count() as f64;
        let mean = mean(values.clone());
        let variance = values.map(|v| (v - mean) * (v - mean)).sum::<f64>() / (n - 1.0);
        Moments { n, mean, variance }
    }
}
