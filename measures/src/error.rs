//! What can be wrong with scores and labels that are to be compared.

use std::path::PathBuf;

/// The result of this crate's functions.
pub type Result<T, E = MeasureError> = std::result::Result<T, E>;

/// Why scores cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeasureError {
    /// There is not one score for each label.
    #[error("there are {scores} scores for {labels} labels; each row needs one of each")]
    UnequalLengths {
        /// How many scores there are.
        scores: usize,
        /// How many labels there are.
        labels: usize,
    },
    /// A score is no number that can be put in order.
    #[error(
        "the score of row {row} (rows count from 0) is {value}; a score must be finite, use 0 where nothing is known yet"
    )]
    ScoreNotFinite {
        /// The row.
        row: usize,
        /// The score.
        value: f64,
    },
    /// Nothing is labelled, so that there is nothing to find.
    #[error("no row is labelled as an anomaly; count false alarms instead of measuring how well anomalies are found")]
    NoAnomaly,
    /// All is labelled, so that there is nothing to tell apart.
    #[error("all {rows} rows are labelled as an anomaly; there is nothing to tell it apart from")]
    NothingElse {
        /// How many rows there are.
        rows: usize,
    },
    /// A labelled window is not one of rows.
    #[error(
        "window {start}..{end} does not lie in the {rows} rows, or is empty, or begins before the end of the one before it"
    )]
    BadWindow {
        /// Its first row.
        start: usize,
        /// The row after its last.
        end: usize,
        /// How many rows there are.
        rows: usize,
    },
    /// A file cannot be read.
    #[error("`{path}`: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// A file is not what it should be.
    #[error("`{path}`: {reason}")]
    BadFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the way out.
        reason: String,
    },
}
