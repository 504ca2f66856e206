//! Plots as SVG: dots on a logarithmic axis, and latency curves. Text and lines take their colours from the page.

use std::fmt::Write as _;

use super::html::escape;

/// Colours that are told apart on light and dark pages, also by most who see fewer of them.
pub(super) const COLOURS: &[&str] =
    &["#0a7cff", "#e8590c", "#2f9e44", "#9c36b5", "#c92a2a", "#0b7285", "#b8860b", "#e64980", "#5c7cfa", "#74b816"];

/// A row of dots.
pub(super) struct DotRow {
    pub label: String,
    /// Index of the series, value.
    pub dots: Vec<(usize, f64)>,
}

/// Dots of several series, a row for each label, on one logarithmic axis.
pub(super) fn dots(series: &[String], rows: &[DotRow], unit: &str) -> String {
    const WIDTH: f64 = 900.0;
    const RIGHT: f64 = 36.0;
    const ROW: f64 = 24.0;
    const TOP: f64 = 30.0;
    let letters = rows.iter().map(|row| row.label.chars().count()).max().unwrap_or(0);
    let left = (16.0 + 7.5 * letters as f64).max(70.0);
    let values = || rows.iter().flat_map(|row| &row.dots).map(|(_, value)| *value).filter(|value| *value > 0.0);
    let (low, high) = decades(values());
    let height = TOP + ROW * rows.len() as f64 + 34.0;
    let x = |value: f64| left + (value.log10() - low as f64) / f64::from(high - low) * (WIDTH - left - RIGHT);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"{}\">", escape(unit));
    let bottom = height - 34.0;
    for decade in low..=high {
        let at = x(10f64.powi(decade));
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom:.1}\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 16.0,
            thousands(decade)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
        WIDTH - RIGHT,
        height - 2.0,
        escape(unit)
    );
    for (index, row) in rows.iter().enumerate() {
        let y = TOP + ROW * (index as f64 + 0.5);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{left}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            left - 8.0,
            y + 4.0,
            escape(&row.label)
        );
        for (series_index, value) in row.dots.iter().filter(|(_, value)| *value > 0.0) {
            let name = series.get(*series_index).map_or("", String::as_str);
            let _ = write!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"6\" fill=\"{}\"><title>{} {}: {value:.0}</title></circle>",
                x(*value),
                colour(*series_index),
                escape(&row.label),
                escape(name)
            );
        }
    }
    let mut at = left;
    for (index, name) in series.iter().enumerate() {
        let _ = write!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"12\" r=\"6\" fill=\"{}\"/><text x=\"{:.1}\" y=\"16\">{}</text>",
            at + 6.0,
            colour(index),
            at + 17.0,
            escape(name)
        );
        at += 34.0 + 7.5 * name.chars().count() as f64;
    }
    svg + "</svg>"
}

/// A curve: quantiles below 1 and milliseconds.
pub(super) struct Curve {
    pub label: String,
    pub points: Vec<(f64, f64)>,
}

/// Latency against its quantile: the axis stretches towards 1, where it matters.
pub(super) fn curves(curves: &[Curve], limit_ms: f64) -> String {
    const WIDTH: f64 = 900.0;
    const HEIGHT: f64 = 420.0;
    const LEFT: f64 = 60.0;
    const RIGHT: f64 = 70.0;
    const TOP: f64 = 14.0;
    const BOTTOM: f64 = 40.0;
    const NINES_MAX: f64 = 4.0;
    let values = curves.iter().flat_map(|curve| &curve.points).map(|(_, ms)| *ms).chain([limit_ms]);
    let (low, high) = decades(values.filter(|ms| *ms > 0.0));
    let nines = |q: f64| (-(1.0 - q).max(10f64.powf(-NINES_MAX)).log10()).clamp(0.0, NINES_MAX);
    let x = |q: f64| LEFT + nines(q) / NINES_MAX * (WIDTH - LEFT - RIGHT);
    let y = |ms: f64| {
        HEIGHT
            - BOTTOM
            - (ms.max(10f64.powi(low)).log10() - low as f64) / f64::from(high - low) * (HEIGHT - TOP - BOTTOM)
    };
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"latency in milliseconds by quantile\">"
    );
    for (q, name) in [(0.0, "0"), (0.5, "50"), (0.9, "90"), (0.99, "99"), (0.999, "99.9"), (0.9999, "99.99 %")] {
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP}\" y2=\"{1:.1}\"/><text x=\"{0:.1}\" y=\"{2:.1}\" text-anchor=\"middle\">{name}</text>",
            x(q),
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 18.0
        );
    }
    for decade in low..=high {
        let at = y(10f64.powi(decade));
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{} ms</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            10f64.powi(decade)
        );
    }
    let limit = y(limit_ms);
    let _ = write!(
        svg,
        "<line class=\"limit\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{limit:.1}\" y2=\"{limit:.1}\"/>",
        WIDTH - RIGHT
    );
    // Labels at the ends of the curves, pushed apart where they would overlap.
    let end = |curve: &Curve| curve.points.iter().rev().find(|(q, _)| *q < 1.0).map_or(0.0, |(_, ms)| *ms);
    let mut order: Vec<usize> = (0..curves.len()).collect();
    order.sort_by(|a, b| end(&curves[*a]).total_cmp(&end(&curves[*b])));
    let mut label_y = HEIGHT;
    for index in order {
        let curve = &curves[index];
        let points: Vec<String> = curve
            .points
            .iter()
            .filter(|(q, _)| *q < 1.0)
            .map(|(q, ms)| format!("{:.1},{:.1}", x(*q), y(*ms)))
            .collect();
        label_y = (y(end(curve)) + 4.0).min(label_y - 12.0);
        let _ = write!(
            svg,
            "<polyline fill=\"none\" stroke=\"{0}\" stroke-width=\"1.8\" points=\"{1}\"><title>{2}</title></polyline><text x=\"{3:.1}\" y=\"{label_y:.1}\" fill=\"{0}\">{2}</text>",
            colour(index),
            points.join(" "),
            escape(&curve.label),
            WIDTH - RIGHT + 6.0
        );
    }
    svg + "</svg>"
}

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// The decades that hold all values; at least one.
fn decades(values: impl Iterator<Item = f64>) -> (i32, i32) {
    let (low, high) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        return (0, 1);
    }
    let low = low.log10().floor() as i32;
    (low, (high.log10().ceil() as i32).max(low + 1))
}

/// A power of ten, short.
fn thousands(decade: i32) -> String {
    match decade {
        6.. => format!("{} M", 10i64.pow((decade as u32 - 6).min(12))),
        3..=5 => format!("{} k", 10i64.pow(decade as u32 - 3)),
        0..=2 => 10i64.pow(decade as u32).to_string(),
        _ => format!("{}", 10f64.powi(decade)),
    }
}
