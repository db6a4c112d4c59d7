//! A chart in one row.

use crate::terminal::theme::Theme;

/// `width` signs for `values`, one each, the newest at the right; a gap is a blank. From zero to the largest.
pub fn spark(values: &[Option<f64>], width: usize, theme: &Theme) -> String {
    let levels = theme.spark();
    let shown = &values[values.len().saturating_sub(width)..];
    let top = shown.iter().flatten().copied().filter(|value| value.is_finite()).fold(0.0, f64::max);
    let sign = |value: &Option<f64>| match value {
        Some(value) if value.is_finite() && top > 0.0 => {
            levels[((value / top).clamp(0.0, 1.0) * (levels.len() - 1) as f64).round() as usize]
        }
        Some(value) if value.is_finite() => levels[0],
        _ => ' ',
    };
    let text: String = shown.iter().map(sign).collect();
    format!("{text:>width$}")
}
