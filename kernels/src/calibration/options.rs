//! When a score is an alarm, as users say it.

use serde_json::{Map, Value};

use crate::score::MethodError;

/// When scores are alarms.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmOptions {
    /// The most false alarms for each normal row, before `rest`: alarms are rows whose p-value is below. Between 1e-9 and 0.5.
    pub max_false_alarm_rate: f64,
    /// Rows of the key after an alarm that are no alarm, whatever they are.
    pub rest: u32,
    /// Rows of a key that are learnt before any is an alarm.
    pub min_training: u32,
}

impl Default for AlarmOptions {
    fn default() -> Self {
        AlarmOptions { max_false_alarm_rate: 5e-4, rest: 100, min_training: 100 }
    }
}

/// As users write them.
const RATE: &str = "max_false_alarm_rate";
const REST: &str = "rest";
const MIN_TRAINING: &str = "min_training";

impl AlarmOptions {
    /// The names of the options.
    pub const NAMES: [&str; 3] = [RATE, REST, MIN_TRAINING];

    /// Takes what speaks of alarms, and leaves what speaks of the method. `min_training` speaks of both.
    ///
    /// # Errors
    /// Values that cannot be.
    pub fn take(given: &Map<String, Value>) -> Result<(Self, Map<String, Value>), MethodError> {
        let mut options = AlarmOptions::default();
        let mut left = Map::new();
        for (key, value) in given {
            let refuse = |expected: &str| MethodError::Value {
                method: "detect_anomalies",
                option: key.clone(),
                expected: expected.to_string(),
                given: value.to_string(),
            };
            let rows = || {
                let rows = value.as_u64().and_then(|rows| u32::try_from(rows).ok());
                rows.filter(|rows| *rows <= 1_000_000_000).ok_or_else(|| refuse("a whole number of rows up to 10^9"))
            };
            match key.to_lowercase().as_str() {
                RATE => {
                    options.max_false_alarm_rate = value
                        .as_f64()
                        .filter(|rate| (1e-9..=0.5).contains(rate))
                        .ok_or_else(|| refuse("a number between 1e-9 and 0.5"))?;
                }
                REST => options.rest = rows()?,
                MIN_TRAINING => options.min_training = rows()?,
                _ => drop(left.insert(key.clone(), value.clone())),
            }
        }
        Ok((options, left))
    }
}
