//! Numbers as people read them.

/// Decimal exponent of `value` after rounding to `digits` significant digits; `None` for 0 and what is not finite.
fn exponent(value: f64, digits: usize) -> Option<i32> {
    if value == 0.0 || !value.is_finite() {
        return None;
    }
    format!("{:.*e}", digits.saturating_sub(1), value).rsplit('e').next()?.parse().ok()
}

/// `value` rounded to `digits` significant digits, trailing zeros kept; scientific where that takes many zeros.
pub(crate) fn significant(value: f64, digits: usize) -> String {
    match exponent(value, digits) {
        None => value.to_string(),
        Some(e) if (-5..digits as i32 + 3).contains(&e) => {
            format!("{:.*}", (digits as i32 - 1 - e).max(0) as usize, value)
        }
        Some(_) => format!("{:.*e}", digits.saturating_sub(1), value),
    }
}

/// Numbers that stand below each other: all with as many decimals as the smallest needs for `digits` significant
/// digits, at most 6, where numbers a thousand times below the largest do not count. One that would then show fewer
/// than two digits is scientific; an undefined one a dash.
pub(crate) fn column(values: &[Option<f64>], digits: usize) -> Vec<String> {
    let exponents = || values.iter().flatten().filter_map(|&v| exponent(v, digits));
    let largest = exponents().max().unwrap_or(0);
    let smallest = exponents().filter(|e| e + 3 > largest).min().unwrap_or(0);
    let decimals = (digits as i32 - 1 - smallest).clamp(0, 6);
    let cell = |value: &Option<f64>| match *value {
        None => "-".to_owned(),
        Some(v) if exponent(v, digits).is_some_and(|e| e < 1 - decimals || e > 9) => {
            format!("{:.*e}", digits.saturating_sub(1), v)
        }
        Some(v) => format!("{:.*}", decimals as usize, v),
    };
    values.iter().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn significant_digits() {
        let cases = [
            (0.0, "0"),
            (0.160_44, "0.1604"),
            (0.099_999, "0.1000"),
            (0.000_98, "0.0009800"),
            (35.499_9, "35.50"),
            (9_999.6, "10000"),
            (123_456.0, "123456"),
            (1.234_56e9, "1.235e9"),
            (-2.5e-7, "-2.500e-7"),
        ];
        for (value, expected) in cases {
            assert_eq!(significant(value, 4), expected);
        }
    }

    #[test]
    fn a_column_shares_its_decimals() {
        assert_eq!(column(&[Some(390.44), Some(1203.25), None], 4), ["390.4", "1203.2", "-"]);
        assert_eq!(column(&[Some(0.5), Some(0.0), Some(3e-9)], 4), ["0.5000", "0.0000", "3.000e-9"]);
        assert_eq!(column(&[Some(0.091_25), Some(0.006_25)], 4), ["0.091250", "0.006250"]);
        assert_eq!(column(&[Some(12_345.6), Some(1e12)], 4), ["12346", "1.000e12"]);
        assert!(column(&[], 4).is_empty());
    }
}
