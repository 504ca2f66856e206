//! Settings: plain values with a name, a default, a unit and a meaning; the same names in `SET`, in the configuration file, in the
//! environment and in the crate's builder.
//!
//! `SET 'eagre.step.rows_max' = '1'`, `[step] rows_max = 1` (TOML), `EAGRE_STEP_ROWS_MAX=1` and `.set("eagre.step.rows_max", "1")` mean
//! the same. This room parses and holds them; reading files and the environment is for the crate `eagre`.

use std::collections::BTreeMap;

use crate::error::{EngineError, Result};

/// What values a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A whole number of at least this.
    Count {
        /// The least value allowed.
        min: u64,
    },
    /// A duration like `500 ms`, `1s`, `2 min`, `1 h`, `1 d`.
    Duration,
    /// An amount of memory like `64 mb`, `2 gb`; `0`: no bound.
    Bytes,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any text.
    Text,
    /// `true` or `false`.
    Bool,
}

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its default, as one would write it.
    pub default: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// The unit of a bare number, or what kind of value it is.
    pub unit: &'static str,
    /// One sentence.
    pub meaning: &'static str,
}

macro_rules! settings {
    ($($constant:ident = $name:literal, $default:literal, $kind:expr, $unit:literal, $meaning:literal;)*) => {
        $(#[doc = $meaning] pub const $constant: &str = $name;)*
        /// All settings, by name.
        pub const SETTINGS: &[Setting] = &[$(Setting { name: $name, default: $default, kind: $kind, unit: $unit, meaning: $meaning }),*];
    };
}

settings! {
    CHECKPOINT_COMPRESSION = "eagre.checkpoint.compression", "auto", Kind::Word(&["auto", "none", "lz4", "zstd"]), "word",
        "How state files are compressed; auto: not at all in a folder, with zstd in an object store. Files of either form are read.";
    CHECKPOINT_INTERVAL = "eagre.checkpoint.interval", "1s", Kind::Duration, "duration",
        "Processing time between two checkpoints when there is a state folder.";
    CHECKPOINT_RETAIN = "eagre.checkpoint.retain", "3", Kind::Count { min: 1 }, "checkpoints",
        "How many checkpoints are kept.";
    CHECKPOINT_STEPS = "eagre.checkpoint.steps", "0", Kind::Count { min: 0 }, "steps",
        "A checkpoint after every so many steps besides the interval; 0: by the interval alone.";
    DEVICE = "eagre.device", "auto", Kind::Word(&["auto", "cpu", "gpu"]), "word",
        "Where kernels run: on what measures faster, on the CPU, or on the GPU wherever they can.";
    GPU_MEMORY = "eagre.gpu.memory", "0", Kind::Bytes, "bytes",
        "The most memory that is held on the GPU; 0: 70 % of what it has.";
    LATENCY_TARGET = "eagre.latency.target", "0", Kind::Duration, "duration",
        "How long the oldest event of a batch may take, waiting included, on the GPU before the CPU is preferred; 0: no bound.";
    MATCH_BAD_SKIP = "eagre.match.bad_skip", "auto", Kind::Word(&["auto", "error", "next-row"]), "word",
        "What becomes of a match whose AFTER MATCH SKIP TO leads nowhere: an error, on at the next row, or (auto) the error over finished input and the next row over streams.";
    MATCH_MAX_PARTIAL = "eagre.match.max_partial", "1000000", Kind::Count { min: 1 }, "partial matches",
        "The most rows that the partial matches of a partition of a MATCH_RECOGNIZE may have together.";
    MATCH_OVERFLOW = "eagre.match.overflow", "error", Kind::Word(&["error", "drop-oldest"]), "word",
        "What happens where a partition has more partial matches: an error, or the attempt that began first is given up.";
    MEMORY_MAX = "eagre.memory.max", "0", Kind::Bytes, "bytes",
        "State beyond this ends the pipeline with a checkpoint and an error; 0: no bound.";
    SEED = "eagre.seed", "0", Kind::Count { min: 0 }, "number",
        "The seed of random() and uuid(); 0: a new one for each run, recorded in the checkpoint.";
    SHARDS = "eagre.shards", "0", Kind::Count { min: 0 }, "shards",
        "How many shards run the pipeline; 0: one for each core.";
    SOURCE_IDLE_TIMEOUT = "eagre.source.idle_timeout", "0", Kind::Duration, "duration",
        "A partition without rows for this long no longer holds the watermark back; 0: it does for ever.";
    SOURCE_MAX_DRIFT = "eagre.source.max_drift", "0", Kind::Duration, "duration",
        "A source further ahead of the slowest one than this, in event time, is held back; 0: never.";
    SOURCE_QUEUE_BATCHES = "eagre.source.queue_batches", "16", Kind::Count { min: 1 }, "batches",
        "How many batches a source may have ready before it has to wait.";
    SQL_APPROXIMATE = "eagre.sql.approximate", "false", Kind::Bool, "true or false",
        "Whether sums, averages and variances of floats by window may be computed in 32-bit floats, by a kernel that can run on the GPU.";
    RECURSION_MAX = "eagre.sql.recursion_max", "10000", Kind::Count { min: 1 }, "iterations",
        "The most iterations of a recursive query in one step; beyond it the pipeline ends with an error.";
    RECURSION_ROWS_MAX = "eagre.sql.recursion_rows_max", "10000000", Kind::Count { min: 1 }, "rows",
        "The most rows that a recursive query makes in one step; beyond it the pipeline ends with an error.";
    SQL_TIME_ZONE = "eagre.sql.time_zone", "UTC", Kind::Text, "time zone",
        "The time zone in which TIMESTAMP_LTZ values are shown and CURRENT_DATE is taken.";
    STATE_TTL = "eagre.state.ttl", "0", Kind::Duration, "duration",
        "State that no watermark bounds is forgotten when it was not touched for this long, in processing time; 0: never.";
    STEP_BYTES_MAX = "eagre.step.bytes_max", "64 mb", Kind::Bytes, "bytes",
        "The most bytes that a step takes in, over all sources and shards.";
    STEPS_IN_FLIGHT = "eagre.step.in_flight", "4", Kind::Count { min: 1 }, "steps",
        "How many steps a fast shard may be ahead of a slow one.";
    STEP_ROWS_MAX = "eagre.step.rows_max", "65536", Kind::Count { min: 1 }, "rows",
        "The most rows that a step takes in, over all sources and shards; 1 makes every row a step of its own. Unless it is set: for each shard, and up to four times as many where patterns are looked for in many keys.";
    VIEWS_VERSIONS_MAX = "eagre.views.versions_max", "256 mb", Kind::Bytes, "bytes",
        "The most memory for rows of materialized views that have changed and are kept for queries of an earlier step; 0: no bound.";
}

/// Values that differ from the defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<&'static str, String>,
}

impl Settings {
    /// All at their defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes a setting after checking name and value.
    ///
    /// # Errors
    /// An unknown name (with the nearest known one), or a value that the setting does not take.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let setting = find(name)?;
        check(setting, value)?;
        self.values.insert(setting.name, value.trim().to_owned());
        Ok(())
    }

    /// Back to what `base` says, which is what held before any statement.
    ///
    /// # Errors
    /// An unknown name.
    pub fn reset(&mut self, name: &str, base: &Self) -> Result<()> {
        let name = find(name)?.name;
        match base.values.get(name) {
            Some(value) => self.values.insert(name, value.clone()),
            None => self.values.remove(name),
        };
        Ok(())
    }

    /// The value as text.
    ///
    /// # Errors
    /// An unknown name.
    pub fn get(&self, name: &str) -> Result<&str> {
        let setting = find(name)?;
        Ok(self.values.get(setting.name).map_or(setting.default, String::as_str))
    }

    /// Whether the setting was changed from its default.
    pub fn is_set(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// A [`Kind::Count`] setting of this crate's table.
    pub fn count(&self, name: &'static str) -> u64 {
        self.text(name).parse().expect("counts are checked when set")
    }

    /// A [`Kind::Duration`] setting in milliseconds.
    pub fn duration_ms(&self, name: &'static str) -> u64 {
        parse_duration_ms(self.text(name)).expect("durations are checked when set")
    }

    /// A [`Kind::Bytes`] setting.
    pub fn bytes(&self, name: &'static str) -> u64 {
        parse_bytes(self.text(name)).expect("sizes are checked when set")
    }

    /// A [`Kind::Bool`] setting.
    pub fn is_true(&self, name: &'static str) -> bool {
        self.text(name) == "true"
    }

    /// Any setting of this crate's table as text.
    pub fn text(&self, name: &'static str) -> &str {
        self.get(name).expect("the name is one of this module's constants")
    }
}

fn find(name: &str) -> Result<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name.eq_ignore_ascii_case(name)).ok_or_else(|| {
        let nearest = SETTINGS.iter().min_by_key(|setting| distance(setting.name, &name.to_ascii_lowercase()));
        EngineError::Setting {
            message: format!(
                "setting `{name}` is not known; did you mean `{}`? SHOW SETTINGS lists them all",
                nearest.map_or("", |setting| setting.name)
            ),
        }
    })
}

fn check(setting: &Setting, value: &str) -> Result<()> {
    let value = value.trim();
    let wanted = match setting.kind {
        Kind::Count { min } => match value.parse::<u64>() {
            Ok(n) if n >= min => return Ok(()),
            _ => format!("a whole number of at least {min} ({})", setting.unit),
        },
        Kind::Duration if parse_duration_ms(value).is_some() => return Ok(()),
        Kind::Duration => "a duration like '500 ms', '1s', '2 min' or '1 h'".to_owned(),
        Kind::Bytes if parse_bytes(value).is_some() => return Ok(()),
        Kind::Bytes => "an amount like '64 mb' or '2 gb'".to_owned(),
        Kind::Bool if matches!(value, "true" | "false") => return Ok(()),
        Kind::Bool => "true or false".to_owned(),
        Kind::Word(words) if words.contains(&value) => return Ok(()),
        Kind::Word(words) => format!("one of '{}'", words.join("', '")),
        Kind::Text if !value.is_empty() => return Ok(()),
        Kind::Text => "a text that is not empty".to_owned(),
    };
    Err(EngineError::Setting { message: format!("setting `{}` cannot be '{value}': it takes {wanted}", setting.name) })
}

/// `10 s`, `500ms`, `2 min`, `1 h`, `1 d`, or a bare number of milliseconds, in milliseconds.
pub fn parse_duration_ms(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let per: f64 = match unit.as_str() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1.0,
        "s" | "sec" | "secs" | "second" | "seconds" => 1e3,
        "m" | "min" | "mins" | "minute" | "minutes" => 6e4,
        "h" | "hour" | "hours" => 3.6e6,
        "d" | "day" | "days" => 8.64e7,
        _ => return None,
    };
    Some((number * per).round() as u64)
}

/// `64 mb`, `2 gb`, `1024 kb`, or a bare number of bytes, in bytes.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let per: f64 = match unit.as_str() {
        "" | "b" | "bytes" => 1.0,
        "k" | "kb" | "kib" => 1024.0,
        "m" | "mb" | "mib" => 1024.0 * 1024.0,
        "g" | "gb" | "gib" => 1024.0 * 1024.0 * 1024.0,
        "t" | "tb" | "tib" => 1024.0f64.powi(4),
        _ => return None,
    };
    Some((number * per).round() as u64)
}

fn split_unit(text: &str) -> Option<(f64, String)> {
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    number.is_finite().then(|| (number, text[end..].trim().to_ascii_lowercase()))
}

/// Levenshtein's distance, for suggestions.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A default that its own setting refuses would make RESET an error.
    #[test]
    fn defaults_are_valid_and_names_sorted() {
        for setting in SETTINGS {
            check(setting, setting.default).expect(setting.name);
        }
        assert!(SETTINGS.is_sorted_by_key(|setting| setting.name));
    }

    #[test]
    fn values_are_checked_and_names_suggested() {
        let mut settings = Settings::new();
        settings.set("eagre.checkpoint.interval", "2 min").expect("a duration");
        assert_eq!(settings.duration_ms(CHECKPOINT_INTERVAL), 120_000);
        let error = settings.set("eagre.step.row_max", "1").expect_err("unknown").to_string();
        assert!(error.contains("did you mean `eagre.step.rows_max`"), "{error}");
        let error = settings.set("eagre.step.rows_max", "zero").expect_err("no number").to_string();
        assert_eq!(
            error,
            "setting `eagre.step.rows_max` cannot be 'zero': it takes a whole number of at least 1 (rows)"
        );
        assert_eq!(parse_bytes("64 mb"), Some(64 << 20));
        assert_eq!(parse_duration_ms("1.5s"), Some(1_500));
        assert_eq!(parse_duration_ms("soon"), None);
    }
}
