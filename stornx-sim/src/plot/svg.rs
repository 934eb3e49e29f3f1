//! Draws a [`Chart`]. The first name of the legend is drawn thickest and last, so
//! that it stays visible where curves coincide.

use std::fmt::Display;

use plotters::{
    coord::Shift,
    prelude::{
        BLACK, ChartBuilder, Color, DrawingArea, IntoDrawingArea, IntoFont, LineSeries,
        PathElement, RGBColor, Rectangle, SVGBackend, Text, WHITE,
    },
    style::{ShapeStyle, TextStyle},
};
use thiserror::Error;

use super::{Chart, Panel};

/// A picture that could not be drawn.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot draw the picture: {0}")]
pub struct PlotError(String);

fn failed(error: impl Display) -> PlotError {
    PlotError(error.to_string())
}

/// Colours that people with any common colour blindness can tell apart (Okabe and
/// Ito), the most saturated first, yellow left out: it vanishes on white.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// Dash and gap in pixels, once for each round through the colours.
const DASHES: [Option<(f64, f64)>; 3] = [None, Some((6.0, 3.0)), Some((2.0, 2.0))];

const COLUMNS: usize = 3;
const PANEL: (u32, u32) = (400, 220);
const HEADER: u32 = 78;
const FONT: &str = "Helvetica, Arial, sans-serif";
const GREY: RGBColor = RGBColor(110, 110, 110);
const PALE: RGBColor = RGBColor(225, 225, 225);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws a chart as the text of an SVG file.
///
/// # Errors
/// [`PlotError`] when the drawing library refuses.
pub fn render(chart: &Chart) -> Result<String, PlotError> {
    let columns = COLUMNS.min(chart.panels.len()).max(1);
    let rows = chart.panels.len().div_ceil(columns).max(1);
    let size = (PANEL.0 * pixels(columns), HEADER + PANEL.1 * pixels(rows));
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        let (head, body) = root.split_vertically(HEADER);
        header(&head, chart)?;
        let minutes = span(chart);
        for (panel, area) in chart.panels.iter().zip(body.split_evenly((rows, columns))) {
            draw(&area, panel, chart, minutes)?;
        }
        root.present().map_err(failed)?;
    }
    Ok(text)
}

fn pixels(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// First and last instant of any curve, in minutes.
fn span(chart: &Chart) -> (f64, f64) {
    let points = chart.panels.iter().flat_map(|panel| &panel.curves).flat_map(|(_, points)| points);
    let (low, high) = points.fold((f64::MAX, f64::MIN), |(low, high), (minute, _)| {
        (low.min(*minute), high.max(*minute))
    });
    if low < high { (low, high) } else { (0.0, 1.0) }
}

fn style(index: usize) -> (ShapeStyle, Option<(f64, f64)>) {
    let width = if index == 0 { 3 } else { 2 };
    let dash = DASHES[(index / COLOURS.len()) % DASHES.len()];
    (COLOURS[index % COLOURS.len()].stroke_width(width), dash)
}

fn font(size: i32, colour: RGBColor) -> TextStyle<'static> {
    TextStyle { color: colour.to_backend_color(), ..TextStyle::from((FONT, size).into_font()) }
}

fn header(area: &Area<'_>, chart: &Chart) -> Result<(), PlotError> {
    area.draw(&Text::new(chart.title.clone(), (14, 12), font(20, BLACK))).map_err(failed)?;
    let (width, _) = area.dim_in_pixel();
    let (mut x, mut y) = (14, 46);
    for (index, name) in chart.legend.iter().enumerate() {
        // The library has no font metrics here: 7 pixels a character is generous for
        // this size.
        let needed = 34 + 7 * i32::try_from(name.len()).unwrap_or(i32::MAX / 8);
        if x > 14 && x + needed > i32::try_from(width).unwrap_or(i32::MAX) {
            (x, y) = (14, y + 16);
        }
        let (style, dash) = style(index);
        for (from, to) in
            dashes(&[(f64::from(x), f64::from(y)), (f64::from(x + 24), f64::from(y))], dash)
        {
            area.draw(&PathElement::new([whole(from), whole(to)], style)).map_err(failed)?;
        }
        area.draw(&Text::new(name.clone(), (x + 29, y - 7), font(13, BLACK))).map_err(failed)?;
        x += needed;
    }
    Ok(())
}

#[allow(clippy::cast_possible_truncation)] // Pixels.
fn whole((x, y): (f64, f64)) -> (i32, i32) {
    (x.round() as i32, y.round() as i32)
}

fn draw(
    area: &Area<'_>,
    panel: &Panel,
    chart: &Chart,
    (first, last): (f64, f64),
) -> Result<(), PlotError> {
    let finite = panel.curves.iter().flat_map(|(_, points)| points).map(|(_, value)| *value);
    let line = panel.line.iter().map(|(value, _)| *value);
    let highest = finite.chain(line).filter(|v| v.is_finite()).fold(panel.at_least, f64::max);
    let top = if highest > 0.0 { highest * 1.06 } else { 1.0 };
    let mut builder = ChartBuilder::on(area);
    let mut plot = builder
        .margin(8)
        .margin_right(14)
        .caption(&panel.title, font(14, BLACK))
        .x_label_area_size(34)
        .y_label_area_size(46)
        .build_cartesian_2d(first..last, 0.0..top)
        .map_err(failed)?;
    plot.configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .bold_line_style(PALE)
        .axis_style(GREY)
        .x_labels(7)
        .y_labels(5)
        .x_desc("minutes")
        .label_style(font(12, GREY))
        .axis_desc_style(font(12, GREY))
        .x_label_formatter(&|minute| tick(*minute, last - first))
        .y_label_formatter(&|value| tick(*value, top))
        .draw()
        .map_err(failed)?;
    for (minute, what) in &chart.marks {
        plot.draw_series(LineSeries::new([(*minute, 0.0), (*minute, top)], GREY.stroke_width(1)))
            .map_err(failed)?;
        let label =
            Text::new(what.clone(), (minute + (last - first) * 0.01, top * 0.99), font(11, GREY));
        plot.draw_series([label]).map_err(failed)?;
    }
    if let Some((value, what)) = &panel.line {
        let ends = [(first, *value), (last, *value)];
        plot.draw_series(LineSeries::new(ends, GREY.stroke_width(1))).map_err(failed)?;
        let label = Text::new(
            what.clone(),
            (first + (last - first) * 0.01, value + top * 0.07),
            font(11, GREY),
        );
        plot.draw_series([label]).map_err(failed)?;
    }
    let dimensions = plot.plotting_area().dim_in_pixel();
    let per_pixel =
        ((last - first) / f64::from(dimensions.0.max(1)), top / f64::from(dimensions.1.max(1)));
    let mut curves: Vec<_> = panel.curves.iter().collect();
    curves.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
    for (index, points) in curves {
        let (style, dash) = style(*index);
        for run in points.split(|(_, value)| !value.is_finite()) {
            let in_pixels: Vec<_> =
                run.iter().map(|(x, y)| (x / per_pixel.0, y / per_pixel.1)).collect();
            if dash.is_none() {
                plot.draw_series(LineSeries::new(run.iter().copied(), style)).map_err(failed)?;
                continue;
            }
            let back = |(x, y): (f64, f64)| (x * per_pixel.0, y * per_pixel.1);
            for (from, to) in dashes(&in_pixels, dash) {
                plot.draw_series(LineSeries::new([back(from), back(to)], style)).map_err(failed)?;
            }
        }
    }
    let frame = Rectangle::new([(first, 0.0), (last, top)], PALE.stroke_width(1));
    plot.draw_series([frame]).map_err(failed)?;
    Ok(())
}

/// A number for an axis whose range is `range`.
fn tick(value: f64, range: f64) -> String {
    let decimals = match range {
        r if r >= 6.0 => 0,
        r if r >= 0.6 => 1,
        _ => 2,
    };
    format!("{value:.decimals$}")
}

/// Cuts a line into its dashes; the line itself when there are none.
fn dashes(points: &[(f64, f64)], dash: Option<(f64, f64)>) -> Vec<((f64, f64), (f64, f64))> {
    let mut pieces = Vec::new();
    let mut done = 0.0;
    for pair in points.windows(2) {
        let [from, to] = [pair[0], pair[1]];
        let Some((on, off)) = dash else {
            pieces.push((from, to));
            continue;
        };
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let at = |distance: f64| {
            let part = if length > 0.0 { distance / length } else { 0.0 };
            (from.0 + (to.0 - from.0) * part, from.1 + (to.1 - from.1) * part)
        };
        let mut here = 0.0;
        while here < length {
            let phase = (done + here) % (on + off);
            let until = if phase < on { here + on - phase } else { here + on + off - phase };
            let until = until.min(length).max(here + 0.01);
            if phase < on {
                pieces.push((at(here), at(until.min(length))));
            }
            here = until;
        }
        done += length;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart() -> Chart {
        let wave = |shift: f64| {
            (0..=30)
                .map(|m| (f64::from(m), 40.0 + shift + 9.0 * (f64::from(m) / 4.0 + shift).sin()))
                .collect::<Vec<_>>()
        };
        let names = [
            "stornx",
            "random",
            "prefer-close",
            "failover",
            "static-80-10-10",
            "zone-aware",
            "load-aware-locality",
            "classic",
            "netmarks",
            "greedy-delay",
        ];
        let panels = [
            "p95 of users (ms)",
            "cross-zone share (%)",
            "errors (%)",
            "utilisation of zone a (%)",
            "utilisation of zone b (%)",
            "utilisation of zone c (%)",
        ];
        Chart {
            title: "uneven-inbound, seed 1".to_owned(),
            legend: names.map(str::to_owned).to_vec(),
            marks: vec![(10.0, "zone c lost".to_owned())],
            panels: panels
                .into_iter()
                .enumerate()
                .map(|(p, title)| Panel {
                    title: title.to_owned(),
                    at_least: 0.0,
                    line: (p > 2).then(|| (70.0, "cap".to_owned())),
                    curves: (0..names.len()).map(|index| (index, wave(index as f64))).collect(),
                })
                .collect(),
        }
    }

    #[test]
    fn every_name_and_panel_is_in_the_picture() {
        let chart = chart();
        let svg = render(&chart).unwrap();
        for text in chart.legend.iter().chain(chart.panels.iter().map(|panel| &panel.title)) {
            assert!(svg.contains(text.as_str()), "{text}");
        }
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        if let Ok(path) = std::env::var("STORNX_PLOT_SAMPLE") {
            std::fs::write(path, svg).unwrap();
        }
    }

    #[test]
    fn empty_and_broken_curves_are_drawn() {
        assert!(render(&Chart::default()).is_ok());
        let mut chart = chart();
        chart.panels[0].curves = vec![(0, vec![(0.0, f64::NAN), (1.0, 2.0), (2.0, f64::NAN)])];
        chart.panels[1].curves.clear();
        assert!(render(&chart).is_ok());
    }

    #[test]
    fn dashes_cover_their_part_of_the_line() {
        let pieces = dashes(&[(0.0, 0.0), (0.0, 30.0), (60.0, 30.0)], Some((6.0, 3.0)));
        let covered: f64 = pieces.iter().map(|(a, b)| (b.0 - a.0).hypot(b.1 - a.1)).sum();
        assert!((covered - 60.0).abs() < 1e-6, "{covered}");
    }
}
