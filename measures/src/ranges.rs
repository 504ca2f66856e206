//! Labels as rows and as ranges of rows.

use std::ops::Range;

use crate::error::{MeasureError, Result};

/// The ranges of rows that are labelled, ascending: the longest runs of `true`.
pub fn ranges(labels: &[bool]) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for row in (0..labels.len()).filter(|row| labels[*row]) {
        match ranges.last_mut() {
            Some(range) if range.end == row => range.end = row + 1,
            _ => ranges.push(row..row + 1),
        }
    }
    ranges
}

/// Errors unless the windows are ranges of the rows, ascending and apart.
pub(crate) fn check_windows(windows: &[Range<usize>], rows: usize) -> Result<()> {
    let mut earliest = 0;
    for window in windows {
        if window.start < earliest || window.is_empty() || window.end > rows {
            return Err(MeasureError::BadWindow { start: window.start, end: window.end, rows });
        }
        earliest = window.end;
    }
    Ok(())
}

/// Errors unless all scores are finite.
pub(crate) fn check_scores(scores: &[f64]) -> Result<()> {
    match scores.iter().position(|score| !score.is_finite()) {
        Some(row) => Err(MeasureError::ScoreNotFinite { row, value: scores[row] }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranges at both ends, next to each other and alone.
    #[test]
    fn runs_become_ranges() {
        let label = |text: &str| ranges(&text.bytes().map(|byte| byte == b'1').collect::<Vec<_>>());
        assert!(label("").is_empty() && label("000").is_empty());
        assert_eq!(label("1101001"), [0..2, 3..4, 6..7]);
        assert!(label("111").len() == 1 && label("111")[0] == (0..3));
    }
}
