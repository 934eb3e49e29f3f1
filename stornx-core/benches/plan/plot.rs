//! Draws the committed figures: instructions against the size of the cluster.

use std::{fmt::Write as _, fs, path::Path, process::ExitCode};

use super::{counted::UNSEARCHED, gate};

const SIZES: [f64; 4] = [0.125, 0.25, 0.5, 1.0];

/// Millions of instructions at the ends of the vertical axis; both axes are logarithmic.
const LEAST: f64 = 50.0;
const MOST: f64 = 10_000.0;

const LINES: [(&str, &str, &str); 5] = [
    ("first", "plan", "#2f6fde"),
    ("later", "plan", "#d1690e"),
    ("probed", "plan", "#8b4fc9"),
    ("later", "remember", "#1f8f5f"),
    ("later", "check", "#8a8a8a"),
];

fn x(size: f64) -> f64 {
    70.0 + 420.0 * (size / SIZES[0]).log2() / 3.0
}

fn y(millions: f64) -> f64 {
    310.0 - 270.0 * (millions / LEAST).ln() / (MOST / LEAST).ln()
}

/// Writes `docs/images/cost-of-a-plan.svg`.
pub(crate) fn draw() -> ExitCode {
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 640 370\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <style>text { fill: #333 } .axis { stroke: #999 } \
         @media (prefers-color-scheme: dark) { text { fill: #ddd } .axis { stroke: #777 } }</style>\n\
         <text x=\"70\" y=\"20\">Million instructions against nodes (both logarithmic)</text>\n",
    );
    for millions in [100.0, 1_000.0, 10_000.0] {
        let at = y(millions);
        let _ = writeln!(
            svg,
            "<path class=\"axis\" d=\"M70 {at:.1}H490\" stroke-width=\"0.5\"/>\
             <text x=\"62\" y=\"{:.1}\" text-anchor=\"end\">{millions}</text>",
            at + 4.0
        );
    }
    for size in SIZES {
        let nodes = 5_000.0 * size;
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"332\" text-anchor=\"middle\">{nodes}</text>",
            x(size)
        );
    }
    let figures = gate::committed();
    for (run, part, colour) in LINES {
        let figure = |size: f64| {
            let name = format!("{UNSEARCHED} {run} {size} {part}");
            let found = figures.iter().find(|(other, _)| *other == name);
            found.map(|(_, figure)| (x(size), y(*figure as f64 / 1e6)))
        };
        let points: Vec<(f64, f64)> = SIZES.into_iter().filter_map(figure).collect();
        let Some((_, end)) = points.last() else { continue };
        let path: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\
             <text x=\"498\" y=\"{:.1}\" style=\"fill: {colour}\">{run}: {part}</text>",
            path.join(" "),
            end + 4.0
        );
    }
    svg.push_str("</svg>\n");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/images/cost-of-a-plan.svg");
    fs::write(path, svg).unwrap();
    ExitCode::SUCCESS
}
