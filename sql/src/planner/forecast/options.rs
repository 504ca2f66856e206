//! What `FORECAST` is told by words and numbers.

use std::fmt;

use eagre_engine::forecast::Method;
use eagre_engine::operator::forecast::{ForecastEmit, ForecastOutput};
use serde::{Deserialize, Serialize};

/// The columns of its own, beside keys and quantiles.
pub(super) const TS: &str = "ts";
pub(super) const MADE_AT: &str = "made_at";
pub(super) const MODEL: &str = "model";

/// The options that are constants of the text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Options {
    pub(super) method: Method,
    /// Ascending.
    pub(super) levels: Vec<f64>,
    /// After so many rows; 0 is on window close.
    pub(super) every: u32,
    pub(super) latest: bool,
    /// Errors leave, and no forecasts.
    pub(super) errors: bool,
    pub(super) min_training: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            method: Method::Flair,
            levels: vec![0.1, 0.5, 0.9],
            every: 1,
            latest: false,
            errors: false,
            min_training: None,
        }
    }
}

impl Options {
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).expect("numbers and words")
    }

    pub(super) fn emit(&self) -> ForecastEmit {
        if self.every == 0 { ForecastEmit::OnWindowClose } else { ForecastEmit::Every(self.every) }
    }

    pub(super) fn output(&self) -> ForecastOutput {
        match (self.errors, self.latest) {
            (true, _) => ForecastOutput::Errors,
            (false, true) => ForecastOutput::Latest,
            (false, false) => ForecastOutput::Append,
        }
    }

    /// Whether forecasts are taken back.
    pub(super) fn is_latest(&self) -> bool {
        self.output() == ForecastOutput::Latest
    }

    pub(super) fn named_levels(&self) -> Vec<(f64, String)> {
        self.levels.iter().map(|level| (*level, level_name(*level))).collect()
    }
}

/// `q10` for 0.1, `q2_5` for 0.025.
fn level_name(level: f64) -> String {
    // Rounded where a level has no finite number of digits.
    let percent = format!("{:.6}", level * 100.0);
    let percent = percent.trim_end_matches('0').trim_end_matches('.');
    format!("q{}", percent.replace('.', "_"))
}

/// The names of the columns that leave behind the keys.
pub(super) fn output_columns(options: &Options) -> Vec<String> {
    let mut names = vec![TS.to_string()];
    if options.errors {
        let own = [MADE_AT, "steps", "actual", "expected", "lower", "upper", "error", "is_inside"];
        names.extend(own.map(str::to_string));
    } else {
        names.extend(options.named_levels().into_iter().map(|(_, name)| name));
        names.extend(["is_forecast", MADE_AT].map(str::to_string));
    }
    names.push(MODEL.to_string());
    names
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.every {
            0 => f.write_str("on window close")?,
            1 => f.write_str("after each row")?,
            rows => write!(f, "every {rows} rows")?,
        }
        if self.errors {
            return f.write_str(", errors");
        }
        let names = self.named_levels().into_iter().map(|(_, name)| name).collect::<Vec<_>>();
        write!(f, ", levels=[{}], {}", names.join(", "), if self.latest { "latest" } else { "append" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_names() {
        let names = [0.1, 0.5, 0.025, 0.999, 0.05, 1.0 / 3.0].map(level_name);
        assert_eq!(names, ["q10", "q50", "q2_5", "q99_9", "q5", "q33_333333"]);
    }
}
