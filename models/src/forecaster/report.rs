//! How a training went, as numbers and as a picture.

use std::fmt::Write as _;

use super::CurvePoint;

/// The plot's size and what its axes take, in pixels.
const SIZE: (f64, f64) = (720.0, 360.0);
const MARGIN: (f64, f64) = (64.0, 44.0);
/// Lines across the plot.
const LINES: usize = 5;

/// The points of a loss curve as CSV: `step,loss,held_out_loss`.
pub fn curve_csv(curve: &[CurvePoint]) -> String {
    let mut csv = String::from("step,loss,held_out_loss\n");
    for point in curve {
        let _ = writeln!(csv, "{},{:.6},{:.6}", point.step, point.loss, point.held_out_loss);
    }
    csv
}

/// A loss curve as a picture: the loss on what is learnt from, and on what is held out.
pub fn curve_svg(title: &str, curve: &[CurvePoint]) -> String {
    let losses = || curve.iter().flat_map(|point| [point.loss, point.held_out_loss]);
    let (low, high) = losses().fold((f64::MAX, f64::MIN), |(low, high), loss| (low.min(loss), high.max(loss)));
    let (low, high) = if low < high { (low, high) } else { (low - 0.5, low + 0.5) };
    let steps = curve.last().map_or(1, |point| point.step.max(1)) as f64;
    let (width, height) = (SIZE.0 - 1.5 * MARGIN.0, SIZE.1 - 2.0 * MARGIN.1);
    let x = |step: f64| MARGIN.0 + width * step / steps;
    // The loss falls by a factor, so that its logarithm tells more.
    let y = |loss: f64| MARGIN.1 + height * (high / loss).ln() / (high / low).ln();
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"{}\" y=\"20\" font-size=\"14\">{title}</text>\n",
        SIZE.0, SIZE.1, MARGIN.0
    );
    for line in 0..=LINES {
        let share = line as f64 / LINES as f64;
        let (loss, step) = (high * (low / high).powf(share), steps * share);
        let _ = writeln!(
            svg,
            "<path d=\"M{:.1} {:.1}H{:.1}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{loss:.4}</text>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{step:.0}</text>",
            x(0.0),
            y(loss),
            x(steps),
            x(0.0) - 6.0,
            y(loss) + 4.0,
            x(step),
            SIZE.1 - MARGIN.1 + 18.0
        );
    }
    type Of = fn(&CurvePoint) -> f64;
    let lines: [(&str, &str, Of); 2] =
        [("loss", "#8ab4d8", |point| point.loss), ("held-out loss", "#c0392b", |point| point.held_out_loss)];
    for (place, (name, colour, of)) in lines.into_iter().enumerate() {
        let points: Vec<String> =
            curve.iter().map(|point| format!("{:.1},{:.1}", x(point.step as f64), y(of(point)))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\" text-anchor=\"end\">{name}</text>",
            points.join(" "),
            x(steps),
            MARGIN.1 + 16.0 * (place + 1) as f64
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">step</text>\n</svg>",
        x(steps / 2.0),
        SIZE.1 - 8.0
    );
    svg
}
