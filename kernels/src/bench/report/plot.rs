//! Plots as inline SVG.

use std::fmt::Write as _;

use super::html::escape;
use super::short;

/// A line of a plot.
pub(super) struct Curve {
    /// Its name in the legend.
    pub(super) label: String,
    /// Its colour.
    pub(super) colour: &'static str,
    /// Whether it is dashed.
    pub(super) dashed: bool,
    /// Points, both coordinates greater than 0.
    pub(super) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 40.0;

/// Curves over two logarithmic axes. `mark` is a place on the horizontal axis that is marked, with its text.
pub(super) fn curves(curves: &[Curve], horizontal: &str, vertical: &str, mark: Option<(f64, String)>) -> String {
    let all = || curves.iter().flat_map(|curve| curve.points.iter());
    let range = |values: Vec<f64>| {
        let (low, high) =
            values.iter().fold((f64::INFINITY, 0.0f64), |(low, high), &value| (low.min(value), high.max(value)));
        // Whole powers of ten around the points, at least one wide.
        let (low, high) = (low.log10().floor(), high.log10().ceil());
        (low, if high > low { high } else { low + 1.0 })
    };
    if all().next().is_none() {
        return String::new();
    }
    let (left, right) = range(all().map(|point| point.0).collect());
    let (bottom, top) = range(all().map(|point| point.1).collect());
    let x = |value: f64| LEFT + (value.log10() - left) / (right - left) * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| HEIGHT - BOTTOM - (value.log10() - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{} over {}\">",
        escape(vertical),
        escape(horizontal)
    );
    for power in left as i32..=right as i32 {
        let at = x(10f64.powi(power));
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 16.0,
            short(10f64.powi(power))
        );
    }
    for power in bottom as i32..=top as i32 {
        let at = y(10f64.powi(power));
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            short(10f64.powi(power))
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 6.0,
        escape(horizontal)
    );
    if let Some((at, text)) = mark.filter(|(at, _)| at.log10() >= left && at.log10() <= right) {
        let at = x(at);
        let anchor = if at > WIDTH / 2.0 { ("end", at - 4.0) } else { ("start", at + 4.0) };
        let _ = write!(
            svg,
            "<line class=\"limit\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{:.1}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{}\">{}</text>",
            HEIGHT - BOTTOM,
            anchor.1,
            TOP + 12.0,
            anchor.0,
            escape(&text)
        );
    }
    let mut legend = LEFT;
    for curve in curves.iter().filter(|curve| !curve.points.is_empty()) {
        let points: Vec<String> =
            curve.points.iter().map(|&(at, value)| format!("{:.1},{:.1}", x(at), y(value))).collect();
        let dash = if curve.dashed { " stroke-dasharray=\"5 4\"" } else { "" };
        let _ = write!(
            svg,
            "<polyline fill=\"none\" stroke=\"{0}\" stroke-width=\"2\"{dash} points=\"{1}\"/>",
            curve.colour,
            points.join(" ")
        );
        for (&(at, value), place) in curve.points.iter().zip(&points) {
            let (cx, cy) = place.split_once(',').expect("made of two numbers");
            let _ = write!(
                svg,
                "<circle cx=\"{cx}\" cy=\"{cy}\" r=\"3\" fill=\"{}\"><title>{}: {} at {}</title></circle>",
                curve.colour,
                escape(&curve.label),
                short(value),
                short(at)
            );
        }
        let _ = write!(
            svg,
            "<line x1=\"{legend:.1}\" x2=\"{:.1}\" y1=\"14\" y2=\"14\" stroke=\"{}\" stroke-width=\"2\"{dash}/><text x=\"{:.1}\" y=\"18\">{}</text>",
            legend + 18.0,
            curve.colour,
            legend + 23.0,
            escape(&curve.label)
        );
        legend += 36.0 + 6.6 * curve.label.chars().count() as f64;
    }
    svg + "</svg>"
}
