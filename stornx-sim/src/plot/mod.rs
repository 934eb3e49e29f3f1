//! Pictures of runs as SVG: small multiples over time with the policies overlaid.
//!
//! A [`Chart`] is data; [`render`] draws it. Assumes a common time axis in minutes;
//! refuses nothing: a panel without points is drawn empty.

mod svg;

pub use svg::{PlotError, render};

/// A picture.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chart {
    /// What it shows.
    pub title: String,
    /// Names of what is overlaid, in the order of the legend. Colours go by this
    /// order, so that one name has one colour in every panel.
    pub legend: Vec<String>,
    /// Instants to mark in every panel: minutes, and what happened.
    pub marks: Vec<(f64, String)>,
    /// The panels, row by row.
    pub panels: Vec<Panel>,
}

/// One small picture of a [`Chart`].
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Panel {
    /// What its curves are, with the unit.
    pub title: String,
    /// Least upper end of the vertical axis; it grows with the curves, and always
    /// begins at zero.
    pub at_least: f64,
    /// A horizontal line worth comparing with (a cap, a threshold) and its name.
    pub line: Option<(f64, String)>,
    /// The curves: position in the legend, and points of minutes and values. Values
    /// that are not finite break the curve.
    pub curves: Vec<(usize, Vec<(f64, f64)>)>,
}
