//! A scatter plot in characters.

/// Ends of the axis that `values` need, a little apart where all are equal.
pub(super) fn range(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low < high {
        return [low, high];
    }
    let margin = if low == 0.0 { 1.0 } else { low.abs() / 2.0 };
    [low - margin, high + margin]
}

/// Where `value` lies in `range`, in [0, 1]; halved first, so that the difference stays in range.
pub(super) fn position([low, high]: [f64; 2], value: f64) -> f64 {
    ((value / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0)).clamp(0.0, 1.0)
}

/// `points` = (x, y) as braille characters, each two dots wide and four high: `rows` lines of `columns`, the first on
/// top.
pub(super) fn braille(
    points: &[[f64; 2]],
    x: [f64; 2],
    y: [f64; 2],
    columns: usize,
    rows: usize,
) -> Vec<String> {
    let mut cells = vec![0u32; columns * rows];
    let dot = |range, value, dots: usize| (position(range, value) * (dots - 1) as f64).round() as usize;
    for &[px, py] in points {
        let across = dot(x, px, 2 * columns);
        let down = 4 * rows - 1 - dot(y, py, 4 * rows);
        // Braille numbers its dots down the left, down the right, and then the row below both.
        let bit = match (across % 2, down % 4) {
            (0, row @ 0..3) => row,
            (1, row @ 0..3) => row + 3,
            (0, _) => 6,
            _ => 7,
        };
        cells[down / 4 * columns + across / 2] |= 1 << bit;
    }
    let character = |&dots: &u32| if dots == 0 { ' ' } else { char::from_u32(0x2800 + dots).unwrap_or('?') };
    cells.chunks(columns).map(|line| line.iter().map(character).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn corners_are_where_they_should_be() {
        let unit = [0.0, 1.0];
        let plot = |points: &[[f64; 2]]| braille(points, unit, unit, 3, 2);
        assert_eq!(plot(&[[0.0, 0.0]]), ["   ", "⡀  "]);
        assert_eq!(plot(&[[1.0, 1.0]]), ["  ⠈", "   "]);
        assert_eq!(plot(&[[0.0, 1.0], [1.0, 0.0]]), ["⠁  ", "  ⢀"]);
        assert_eq!(plot(&[[0.0, 1.0], [0.2, 1.0]]), ["⠉  ", "   "]);
    }

    #[test]
    fn a_single_value_has_room() {
        assert_eq!(range([3.0, 3.0].into_iter()), [1.5, 4.5]);
        assert_eq!(range([0.0].into_iter()), [-1.0, 1.0]);
        assert_eq!(position([-f64::MAX, f64::MAX], 0.0), 0.5);
    }
}
