//! The settings of the history that the web page shows.

use stornx_core::units::Span;

use super::values::Text;

/// Where and how long history is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HistorySettings {
    pub(crate) file: Text,
    pub(crate) hours: u32,
}

impl Default for HistorySettings {
    /// A day shows every rhythm of a service but the week's.
    fn default() -> Self {
        Self { file: Text::default(), hours: 24 }
    }
}

impl HistorySettings {
    /// How long it is kept.
    pub(crate) fn keep(&self) -> Span {
        Span::from_seconds(u64::from(self.hours) * 3600)
    }
}
