//! When a score is an alarm, as users say it.

use serde_json::{Map, Value};

use crate::score::MethodError;

/// When scores are alarms.
#[derive(Debug, Clone, PartialEq)]
pub struct AlarmOptions {
    /// The most false alarms for each normal row, before `rest`: alarms are rows whose p-value is below. Between 1e-9 and 0.5.
    pub max_false_alarm_rate: f64,
    /// How long after an alarm the key has no other, whatever its rows are.
    pub rest: Rest,
    /// Rows of a key that are learnt before any is an alarm; more, where a method takes longer until it has scores of some rows.
    pub min_training: u32,
    /// What makes a row an alarm.
    pub alarm: AlarmBy,
}

/// What makes a row an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AlarmBy {
    /// Its chance is below the rate: that holds the rate.
    #[default]
    Chance,
    /// Its first value is outside of its bounds: that is what is shown.
    Bounds,
}

/// How long a key is quiet after an alarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// So many of its rows.
    Rows(u32),
    /// So many milliseconds of event time; as users' options hold it, `{"ms": 60000}`.
    Ms(i64),
}

impl Default for AlarmOptions {
    fn default() -> Self {
        AlarmOptions { max_false_alarm_rate: 5e-4, rest: Rest::Rows(100), min_training: 100, alarm: AlarmBy::Chance }
    }
}

/// As users write them.
const RATE: &str = "max_false_alarm_rate";
const REST: &str = "rest";
const MIN_TRAINING: &str = "min_training";
const ALARM: &str = "alarm";
/// What an alarm may be told by.
const ALARMS: [(&str, AlarmBy); 2] = [("chance", AlarmBy::Chance), ("bounds", AlarmBy::Bounds)];
/// What an interval is under in an option.
const MS: &str = "ms";
/// A thousand years: sums with times stay far from the end of the integers.
const REST_MS_MAX: i64 = 366_000 * 86_400_000;

impl AlarmOptions {
    /// The names of the options.
    pub const NAMES: [&str; 4] = [RATE, REST, MIN_TRAINING, ALARM];
    /// The name of the option that a method may have too, and means the same then.
    pub const SHARED: &str = MIN_TRAINING;

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
                given: match value {
                    Value::String(text) => format!("'{text}'"),
                    other => other.to_string(),
                },
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
                REST => {
                    options.rest = match value.get(MS) {
                        Some(ms) => {
                            let ms = ms.as_i64().filter(|ms| (0..=REST_MS_MAX).contains(ms));
                            Rest::Ms(ms.ok_or_else(|| refuse("an interval of at most a thousand years, not below 0"))?)
                        }
                        None => Rest::Rows(rows()?),
                    }
                }
                MIN_TRAINING => options.min_training = rows()?,
                ALARM => {
                    let named = |(name, _): &&(&str, AlarmBy)| {
                        value.as_str().is_some_and(|text| text.eq_ignore_ascii_case(name))
                    };
                    let found = ALARMS.iter().find(named);
                    options.alarm = found.ok_or_else(|| refuse("'chance' or 'bounds'"))?.1;
                }
                _ => drop(left.insert(key.clone(), value.clone())),
            }
        }
        Ok((options, left))
    }
}
