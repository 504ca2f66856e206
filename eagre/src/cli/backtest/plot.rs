//! One key's history as inline SVG: the series above, and below it a strip for each query with its scores and alarms.
//!
//! A history has more rows than a page has pixels. Rows of one pixel's width become one upright line from their least to their
//! greatest value, so that a single row that sticks out is still seen.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use super::history::{Track, moment};
use super::html::escape;
use super::verdict::Mark;

const WIDTH: f64 = 1_180.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 12.0;
const SERIES_HEIGHT: f64 = 170.0;
const STRIP_HEIGHT: f64 = 64.0;
const GAP: f64 = 20.0;
const AXIS_HEIGHT: f64 = 22.0;
/// An alarm's tick.
const TICK_HEIGHT: f64 = 9.0;
/// A window is drawn at least so wide.
const WINDOW_WIDTH_MIN: f64 = 2.0;
/// Scores in this share of the rows may leave the strip at its top: one row far out must not flatten all others.
const CUT_SHARE: f64 = 0.001;

/// What one query says of the key.
pub(super) struct Strip<'a> {
    pub name: &'a str,
    pub marks: &'a [Mark],
    pub alarms_ms: &'a [i64],
    pub threshold: Option<f64>,
}

/// The plot; `value` is the name of the series, if there is one.
pub(super) fn track(track: &Track, value: Option<&str>, strips: &[Strip<'_>]) -> String {
    let (first, last) = match (track.times_ms.first(), track.times_ms.last()) {
        (Some(first), Some(last)) => (*first, *last),
        _ => return String::new(),
    };
    let span = (last - first).max(1) as f64;
    let x = |ms: i64| LEFT + ((ms - first) as f64 / span).clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT);
    let series_height = if value.is_some() { SERIES_HEIGHT + GAP } else { 0.0 };
    let height = series_height + strips.len() as f64 * (STRIP_HEIGHT + GAP) + AXIS_HEIGHT;
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"series, scores and alarms\">");
    for window in &track.windows_ms {
        let (left, right) = (x(*window.start()), x(*window.end()));
        let width = (right - left).max(WINDOW_WIDTH_MIN);
        let _ = write!(
            svg,
            "<rect class=\"window\" x=\"{:.1}\" y=\"0\" width=\"{width:.1}\" height=\"{:.1}\"><title>{} to {}</title></rect>",
            left.min(WIDTH - RIGHT - width),
            height - AXIS_HEIGHT,
            moment(*window.start()),
            moment(*window.end())
        );
    }
    let mut top = 0.0;
    if let Some(value) = value {
        let points: Vec<(i64, f64)> = track.times_ms.iter().copied().zip(track.values.iter().copied()).collect();
        let finite = points.iter().map(|(_, value)| *value).filter(|value| value.is_finite());
        let (low, high) = finite.fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        if low <= high {
            let panel = Panel { top: top + 4.0, height: SERIES_HEIGHT - 8.0, low, high };
            svg.push_str(&panel.frame(value));
            svg.push_str(&panel.line("series", &points, x));
        }
        top += SERIES_HEIGHT + GAP;
    }
    for strip in strips {
        svg.push_str(&strip.draw(top, &track.windows_ms, x));
        top += STRIP_HEIGHT + GAP;
    }
    for (share, anchor) in [(0.0, "start"), (0.25, "middle"), (0.5, "middle"), (0.75, "middle"), (1.0, "end")] {
        let at = first + (span * share) as i64;
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\">{}</text>",
            x(at),
            height - 6.0,
            moment(at)
        );
    }
    svg + "</svg>"
}

impl Strip<'_> {
    fn draw(&self, top: f64, windows_ms: &[RangeInclusive<i64>], x: impl Fn(i64) -> f64) -> String {
        let points: Vec<(i64, f64)> = self.marks.iter().map(|mark| (mark.time_ms, mark.score)).collect();
        let mut scores: Vec<f64> = points.iter().map(|(_, score)| *score).filter(|score| score.is_finite()).collect();
        scores.sort_unstable_by(f64::total_cmp);
        let panel = scores.first().map(|least| {
            let cut = scores.len() - 1 - (scores.len() as f64 * CUT_SHARE) as usize;
            let limit = self.threshold.filter(|threshold| threshold.is_finite()).unwrap_or(*least);
            // The threshold is always in view, with some room above it.
            let high = scores[cut].max(least + (limit - least) * 1.5);
            Panel { top: top + TICK_HEIGHT + 2.0, height: STRIP_HEIGHT - TICK_HEIGHT - 2.0, low: *least, high }
        });
        let mut svg = String::new();
        match &panel {
            Some(panel) => {
                svg.push_str(&panel.frame(self.name));
                svg.push_str(&panel.line("score", &points, &x));
                if let Some(limit) = self.threshold.filter(|threshold| threshold.is_finite()) {
                    let y = panel.y(limit);
                    let _ = write!(
                        svg,
                        "<line class=\"limit\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                        WIDTH - RIGHT
                    );
                }
            }
            None => svg.push_str(&Panel { top, height: STRIP_HEIGHT, low: 0.0, high: 0.0 }.frame(self.name)),
        }
        for alarm in self.alarms_ms {
            let class = if windows_ms.iter().any(|window| window.contains(alarm)) { "right" } else { "wrong" };
            // A pattern has no scores to show, so its alarms go over the whole strip.
            let height = if panel.is_some() { TICK_HEIGHT } else { STRIP_HEIGHT };
            let _ = write!(
                svg,
                "<line class=\"{class}\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{top:.1}\" y2=\"{1:.1}\"><title>{2}</title></line>",
                x(*alarm),
                top + height,
                moment(*alarm)
            );
        }
        svg
    }
}

/// A part of the plot with an axis of its own.
struct Panel {
    top: f64,
    height: f64,
    low: f64,
    high: f64,
}

impl Panel {
    fn y(&self, value: f64) -> f64 {
        let span = self.high - self.low;
        let share = if span > 0.0 { ((value - self.low) / span).clamp(0.0, 1.0) } else { 0.5 };
        self.top + self.height * (1.0 - share)
    }

    /// The name, and the ends of the axis.
    fn frame(&self, name: &str) -> String {
        let mut svg = String::new();
        for y in [self.top, self.top + self.height] {
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                WIDTH - RIGHT
            );
        }
        if self.high > self.low {
            for (value, y) in [(self.high, self.top + 10.0), (self.low, self.top + self.height)] {
                let _ = write!(
                    svg,
                    "<text x=\"{:.1}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>",
                    LEFT - 6.0,
                    short(value)
                );
            }
        }
        let _ = write!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-weight=\"600\">{}</text>",
            LEFT - 6.0,
            self.top + self.height / 2.0 + 4.0,
            escape(&clipped(name))
        );
        svg
    }

    /// The points as a line: for each pixel its first, least, greatest and last value.
    fn line(&self, class: &str, points: &[(i64, f64)], x: impl Fn(i64) -> f64) -> String {
        let mut svg = String::new();
        let mut path = String::new();
        let mut pixel: Option<Pixel> = None;
        let end_line = |path: &mut String, svg: &mut String| {
            if !path.is_empty() {
                let _ = write!(svg, "<polyline class=\"{class}\" points=\"{}\"/>", path.trim_end());
                path.clear();
            }
        };
        for (ms, value) in points {
            if value.is_nan() {
                // A gap in the series is a gap in the line.
                if let Some(pixel) = pixel.take() {
                    pixel.draw(self, &mut path);
                }
                end_line(&mut path, &mut svg);
                continue;
            }
            let at = x(*ms).round();
            match &mut pixel {
                Some(pixel) if pixel.x == at => pixel.add(*value),
                _ => {
                    if let Some(done) =
                        pixel.replace(Pixel { x: at, first: *value, low: *value, high: *value, last: *value })
                    {
                        done.draw(self, &mut path);
                    }
                }
            }
        }
        if let Some(pixel) = pixel {
            pixel.draw(self, &mut path);
        }
        end_line(&mut path, &mut svg);
        svg
    }
}

/// The values of one pixel's width.
struct Pixel {
    x: f64,
    first: f64,
    low: f64,
    high: f64,
    last: f64,
}

impl Pixel {
    fn add(&mut self, value: f64) {
        self.low = self.low.min(value);
        self.high = self.high.max(value);
        self.last = value;
    }

    fn draw(&self, panel: &Panel, path: &mut String) {
        let mut drawn = f64::NAN;
        for value in [self.first, self.low, self.high, self.last] {
            if value != drawn {
                let _ = write!(path, "{:.0},{:.1} ", self.x, panel.y(value));
                drawn = value;
            }
        }
    }
}

/// A name that fits beside the axis.
fn clipped(name: &str) -> String {
    const LETTERS_MAX: usize = 10;
    match name.chars().count() {
        count if count > LETTERS_MAX => name.chars().take(LETTERS_MAX - 1).chain(['…']).collect(),
        _ => name.to_owned(),
    }
}

/// A number with few digits.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 1e5 || size > 0.0 && size < 1e-2 => format!("{value:.1e}"),
        size if size >= 100.0 => format!("{value:.0}"),
        _ => format!("{value:.2}"),
    }
}
