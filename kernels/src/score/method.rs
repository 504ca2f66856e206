//! What a user names: a method and its options, checked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::forecast::{ForecastScorer, ScorerSeason};
use super::scorer::{KernelScorer, ScoreKernel, Scorer};
use super::selective::SelectiveScorer;
use crate::calibration::{HALF_LIFE_ROWS, Prior};
use crate::forecast::SEASON_MAX;
use crate::half_space_forest::{ForestParameters, HalfSpaceForest};
use crate::kernel::KernelError;
use crate::parameter::check;
use crate::placed::Placement;
use crate::recurrence_scan::{Config, Recurrence, RecurrenceScan};
use crate::series::{
    Auto, ChangePoint, NoveltyScore, RandomCutForest, SeasonalScore, Seasonality, SeriesModel, SeriesScorer, gain_of,
};
use crate::subspace_score::{Model, SubspaceParameters, SubspaceScore};
use crate::window_distance::{DistanceParameters, WindowDistance};

/// The method that is taken when none is named.
const DEFAULT: &str = "auto";
/// The version of all kernels' states, raised when the words of any of them change their meaning.
const STATE_VERSION: u32 = 2;
/// Of methods whose words have changed since.
const STATE_VERSION_LATER: [(&str, u32); 6] =
    [("forecast", 4), ("holt", 3), ("auto", 3), ("novelty", 4), ("seasonal", 3), ("changepoint", 3)];
/// The option that names the method.
const METHOD: &str = "method";

/// An option of a method. All are numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OptionDescription {
    /// As users write it.
    pub name: &'static str,
    /// The value when it is not given.
    pub default: f64,
    /// Whether only whole numbers from 0 on are taken.
    pub whole: bool,
    /// One sentence, with the unit.
    pub meaning: &'static str,
}

/// A method of scoring.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MethodDescription {
    /// As users write it.
    pub name: &'static str,
    /// The most features of a row.
    pub features_max: usize,
    /// One sentence.
    pub meaning: &'static str,
    /// How its scores are distributed, for all that is known before a key has shown its own.
    pub prior: Prior,
    /// What can be set.
    pub options: &'static [OptionDescription],
}

macro_rules! option {
    ($name:literal, whole $default:literal, $meaning:literal) => {
        OptionDescription { name: $name, default: $default as f64, whole: true, meaning: $meaning }
    };
    ($name:literal, $default:literal, $meaning:literal) => {
        OptionDescription { name: $name, default: $default, whole: false, meaning: $meaning }
    };
}

const MIN_TRAINING: OptionDescription = option!("min_training", whole 30, "Rows of a key that are learnt but score 0.");
const VARIANCE_FLOOR: OptionDescription = option!(
    "variance_floor",
    1e-18,
    "Added to every variance, in squared units of the value: a constant series scores 0."
);

/// Of methods whose model has no half-life of its own.
const CALIBRATION_HALF_LIFE: OptionDescription = option!(
    "half_life",
    50_000.0,
    "Rows after which a score weighs half in what makes chances of scores; the model itself does not forget by it."
);
/// In so few rows no rate of alarms could be told; a sum of 32 bits knows no more.
const CALIBRATION_HALF_LIFE_ROWS: std::ops::RangeInclusive<f64> = 1e3..=1e6;

/// The option that is a number of milliseconds and has words for two of them.
const SEASONALITY_NAME: &str = "seasonality";
/// As a number: any season that is found.
const SEASONALITY_AUTO: f64 = -1.0;
/// As a number: no season.
const SEASONALITY_NONE: f64 = 0.0;
/// A season is at most ten years long.
const SEASONALITY_MS_MAX: f64 = 10.0 * 366.0 * 86_400_000.0;
const SEASONALITY: OptionDescription = option!(
    "seasonality",
    -1.0,
    "'auto' (the day, the week, or a cycle that is found), 'none', or the interval after which values repeat."
);

/// All methods.
pub const METHODS: &[MethodDescription] = &[
    MethodDescription {
        name: "auto",
        features_max: 32,
        meaning: "Novelty of values and of their means, deviations, and what a season leaves, weighed for each key by what the season \
                  explains; of several values, how rare their region is (as `half_space`).",
        prior: Prior::AUTO,
        options: &[SEASONALITY, option!("half_life", 500.0, "Rows after which a row weighs half in deviations.")],
    },
    MethodDescription {
        name: "novelty",
        features_max: 1,
        meaning: "How far a value, and the mean of the last ones, is from all earlier ones, beside how far they usually are; alarms of what has \
                  been there already: for how long it has not.",
        prior: Prior::NOVELTY,
        options: &[
            option!("window", whole 80, "Rows of the rolling mean."),
            option!("capacity", whole 384, "Distinct values that are remembered."),
            CALIBRATION_HALF_LIFE,
            MIN_TRAINING,
        ],
    },
    MethodDescription {
        name: "seasonal",
        features_max: 1,
        meaning: "Distance from what is usual at this time of day, of the week or in the cycle, in standard deviations.",
        prior: Prior::DEVIATIONS,
        options: &[
            SEASONALITY,
            option!("half_life", 500.0, "Rows after which a row weighs half in the standard deviation."),
            MIN_TRAINING,
        ],
    },
    MethodDescription {
        name: "ewma",
        features_max: 1,
        meaning: "Distance from an exponentially weighted mean, in standard deviations.",
        prior: Prior::DEVIATIONS,
        options: &[option!("half_life", 100.0, "Rows after which a row weighs half."), MIN_TRAINING, VARIANCE_FLOOR],
    },
    MethodDescription {
        name: "holt",
        features_max: 1,
        meaning: "Error of the forecast from level and trend (Holt), in its standard deviations.",
        prior: Prior::DEVIATIONS,
        options: &[
            option!("half_life", 20.0, "Rows after which the level has forgotten half."),
            option!("trend_half_life", 100.0, "Rows after which the trend has forgotten half."),
            MIN_TRAINING,
            VARIANCE_FLOOR,
        ],
    },
    MethodDescription {
        name: "cusum",
        features_max: 1,
        meaning: "Two-sided cumulative sum (Page) of standardised residuals: small shifts that last.",
        prior: Prior::SUMS,
        options: &[
            option!("half_life", 500.0, "Rows after which a row weighs half in mean and variance."),
            option!("drift", 0.5, "Taken from each residual, in standard deviations: half of the shift to be found."),
            option!("residual_limit", 4.0, "Residuals are cut at so many standard deviations."),
            MIN_TRAINING,
            VARIANCE_FLOOR,
        ],
    },
    MethodDescription {
        name: "changepoint",
        features_max: 1,
        meaning: "How sure it is that level or spread have changed of late, by all that came since (Bayesian online change point detection).",
        prior: Prior::SURENESS,
        options: &[
            option!("window", whole 30, "Rows of late in which a change counts."),
            option!("run", 500.0, "Rows from one change to the next, for all that is known beforehand."),
            option!(
                "residual_limit",
                4.0,
                "Values are cut at so many standard deviations from the level, so that no single row is a change."
            ),
            option!(
                "half_life",
                500.0,
                "Rows after which a row weighs half in the level of which changes are expected."
            ),
            MIN_TRAINING,
        ],
    },
    MethodDescription {
        name: "forecast",
        features_max: 1,
        meaning: "Distance from what was forecast for the row, in half widths of the forecast's interval (its standard deviations).",
        prior: Prior::DEVIATIONS,
        options: &[
            SEASONALITY,
            option!("period", whole 0, "Rows of a season; 0: any that is found."),
            option!("season_max", whole 168, "The longest season that is looked for, in rows."),
            CALIBRATION_HALF_LIFE,
            MIN_TRAINING,
        ],
    },
    MethodDescription {
        name: "rcf",
        features_max: 32,
        meaning: "How much a row, of one or more values, displaces those in samples of the earlier ones (robust random cut forest).",
        prior: Prior::DISPLACEMENTS,
        options: &[
            option!("trees", whole 20, "Random trees."),
            option!("sample", whole 128, "Earlier rows in a tree."),
            option!("window", whole 4, "Rows that make a point (a shingle)."),
            option!("half_life", 50_000.0, "Rows after which half of a sample is forgotten."),
            option!("seed", whole 24_301, "Where random choices come from."),
            MIN_TRAINING,
        ],
    },
    MethodDescription {
        name: "half_space",
        features_max: 32,
        meaning: "How rare the region is in which a row lies, in bits, by half-space trees over one or more values.",
        prior: Prior::BITS,
        options: &[
            option!("trees", whole 25, "Random trees."),
            option!("depth", whole 8, "Levels of a tree."),
            option!("window", whole 256, "Rows whose distribution a row is compared with; the first five quarters of it score 0."),
            option!("seed", whole 24_301, "Where random choices come from."),
            CALIBRATION_HALF_LIFE,
        ],
    },
    MethodDescription {
        name: "distance",
        features_max: 1,
        meaning: "Distance of the last values' shape to the nearest earlier shape (left matrix profile, z-normalised).",
        prior: Prior::UNKNOWN,
        options: &[
            option!("window", whole 32, "Rows that make a shape."),
            option!("history", whole 2000, "How many rows back earlier shapes are kept; two windows score 0."),
            CALIBRATION_HALF_LIFE,
        ],
    },
    MethodDescription {
        name: "subspace",
        features_max: 1,
        meaning: "What the usual shapes of a window do not explain (online principal components).",
        prior: Prior::UNKNOWN,
        options: &[
            option!("window", whole 32, "Rows that make a shape."),
            option!("components", whole 4, "How many components are kept."),
            option!("half_life", 5000.0, "Rows after which half is forgotten."),
        ],
    },
    MethodDescription {
        name: "centroids",
        features_max: 1,
        meaning: "Distance of a window's shape to the nearest of the usual shapes (online k-means).",
        prior: Prior::UNKNOWN,
        options: &[
            option!("window", whole 32, "Rows that make a shape."),
            option!("components", whole 4, "How many centres are kept."),
            option!("half_life", 5000.0, "Rows after which half is forgotten."),
        ],
    },
];

/// A method with all its options.
#[derive(Debug, Clone, PartialEq)]
pub struct Method {
    description: &'static MethodDescription,
    options: BTreeMap<&'static str, f64>,
}

/// What is wrong with a method as it was given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum MethodError {
    /// There is no such method.
    #[error("method '{given}' is not known; the methods are {}", methods())]
    UnknownMethod {
        /// What was given.
        given: String,
    },
    /// The method has no such option.
    #[error("method '{method}' has no option `{given}`{}; its options are {}", elsewhere(.given), options(.method))]
    UnknownOption {
        /// The method.
        method: &'static str,
        /// What was given.
        given: String,
    },
    /// The option cannot have this value.
    #[error("option `{option}` of method '{method}' must be {expected}, not {given}")]
    Value {
        /// The method.
        method: &'static str,
        /// The option.
        option: String,
        /// What it may be.
        expected: String,
        /// What it was.
        given: String,
    },
    /// Too many or too few values for each row.
    #[error("method '{method}' takes {}, not {given}", features(.features_max))]
    Features {
        /// The method.
        method: &'static str,
        /// The most that it takes.
        features_max: usize,
        /// What was given.
        given: usize,
    },
}

/// `'auto'`, `'none'` or `{"ms": 3600000}` as a number.
fn seasonality(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) if text.eq_ignore_ascii_case("auto") => Some(SEASONALITY_AUTO),
        Value::String(text) if text.eq_ignore_ascii_case("none") => Some(SEASONALITY_NONE),
        other => other.get("ms")?.as_f64().filter(|ms| ms.fract() == 0.0 && (1.0..=SEASONALITY_MS_MAX).contains(ms)),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => format!("'{text}'"),
        other => other.to_string(),
    }
}

fn methods() -> String {
    METHODS.iter().map(|method| format!("'{}'", method.name)).collect::<Vec<_>>().join(", ")
}

fn options(method: &str) -> String {
    let described = METHODS.iter().find(|described| described.name == method);
    described
        .iter()
        .flat_map(|described| described.options)
        .map(|o| format!("`{}`", o.name))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Which methods have an option.
pub fn methods_with(option: &str) -> Vec<&'static str> {
    let has = |method: &&MethodDescription| method.options.iter().any(|known| known.name.eq_ignore_ascii_case(option));
    METHODS.iter().filter(has).map(|method| method.name).collect()
}

fn elsewhere(option: &str) -> String {
    let names = methods_with(option).into_iter().map(|name| format!("'{name}'")).collect::<Vec<_>>();
    match names.as_slice() {
        [] => String::new(),
        [one] => format!(", which {one} has"),
        [others @ .., last] => format!(", which {} and {last} have", others.join(", ")),
    }
}

fn features(most: &usize) -> String {
    if *most == 1 { "one value".to_string() } else { format!("between 1 and {most} values") }
}

impl Method {
    /// The description of a method.
    pub fn named(name: &str) -> Option<&'static MethodDescription> {
        METHODS.iter().find(|method| method.name == name)
    }

    /// A method from what was named: `method` and the options of that method; `{}` is the default.
    ///
    /// # Errors
    /// Names that are not known, and values that cannot be.
    pub fn parse(given: &Map<String, Value>) -> Result<Self, MethodError> {
        let name = match given.get(METHOD) {
            None => DEFAULT.to_string(),
            Some(Value::String(name)) => name.to_lowercase(),
            Some(other) => return Err(MethodError::UnknownMethod { given: other.to_string() }),
        };
        let description =
            METHODS.iter().find(|method| method.name == name).ok_or(MethodError::UnknownMethod { given: name })?;
        let mut options: BTreeMap<_, _> =
            description.options.iter().map(|option| (option.name, option.default)).collect();
        for (key, value) in given.iter().filter(|(key, _)| *key != METHOD) {
            let option = description.options.iter().find(|option| option.name.eq_ignore_ascii_case(key));
            let Some(option) = option else {
                return Err(MethodError::UnknownOption { method: description.name, given: key.clone() });
            };
            if option.name == SEASONALITY_NAME {
                let period = seasonality(value).ok_or_else(|| MethodError::Value {
                    method: description.name,
                    option: option.name.to_string(),
                    expected: "'auto', 'none' or an interval of at most ten years".to_string(),
                    given: shown(value),
                })?;
                options.insert(option.name, period);
                continue;
            }
            let whole = |number: &f64| {
                !option.whole || (number.fract() == 0.0 && *number >= 0.0 && *number <= f64::from(u32::MAX))
            };
            let number = value.as_f64().filter(whole).ok_or_else(|| MethodError::Value {
                method: description.name,
                option: option.name.to_string(),
                expected: if option.whole { "a whole number" } else { "a number" }.to_string(),
                given: shown(value),
            })?;
            options.insert(option.name, number);
        }
        let method = Method { description, options };
        method.scorer(1, &Arc::default())?;
        Ok(method)
    }

    /// What the words of a key's state mean: a checkpoint of another layout cannot be read.
    pub fn state_layout(&self) -> String {
        let name = self.description.name;
        let later = STATE_VERSION_LATER.iter().find(|(method, _)| *method == name);
        format!("{name}/{}", later.map_or(STATE_VERSION, |(_, version)| *version))
    }

    /// Whether it takes a season out whose period is one of time, so that it has to be told each row's.
    pub fn has_period_in_time(&self) -> bool {
        self.options.get(SEASONALITY_NAME).is_some_and(|period| *period > SEASONALITY_NONE)
    }

    /// How many rows it takes until a score weighs half in a calibration: what a `half_life` says where the model has none of its own.
    pub(super) fn calibration_half_life_rows(&self) -> f32 {
        match self.description.options.contains(&CALIBRATION_HALF_LIFE) {
            true => self.options[CALIBRATION_HALF_LIFE.name] as f32,
            false => HALF_LIFE_ROWS,
        }
    }

    /// The method's description.
    pub fn description(&self) -> &'static MethodDescription {
        self.description
    }

    /// How scores of rows with so many features are distributed, for all that is known beforehand.
    pub fn prior(&self, features: usize) -> Prior {
        match self.is_forest(features) {
            true => Prior::BITS,
            false => self.description.prior,
        }
    }

    /// Whether rows of so many features go to half-space trees.
    fn is_forest(&self, features: usize) -> bool {
        self.description.name == "half_space" || (self.description.name == DEFAULT && features > 1)
    }

    /// How many rows of a key are learnt before one has a score that can be compared with later ones: those before score 0, or, by `rcf`,
    /// little, because its samples are not full.
    pub fn warm_up_rows(&self, features: usize) -> u32 {
        let whole = |name: &str| self.options.get(name).map_or(0, |number| *number as u32);
        if self.is_forest(features) {
            let default = ForestParameters::default();
            let window = if self.description.name == DEFAULT { default.window } else { whole("window") };
            return ForestParameters { window, ..default }.warm_up_rows();
        }
        match self.description.name {
            "distance" => {
                let (window, history) = (whole("window"), whole("history"));
                DistanceParameters { window, history, ..DistanceParameters::default() }.warm_up_rows()
            }
            "subspace" | "centroids" => {
                SubspaceParameters { window: whole("window"), ..SubspaceParameters::default() }.warm_up_rows()
            }
            "rcf" => whole("min_training").max(whole("window") - 1 + whole("sample")),
            // A regression takes a handful of rows, whatever is asked for.
            "forecast" => whole("min_training").max(7),
            // One more, which begins the first run.
            "changepoint" => whole("min_training") + 1,
            _ => whole("min_training"),
        }
    }

    /// A scorer of rows with so many features that has seen none, and runs where the placement says.
    ///
    /// # Errors
    /// More features than the method takes.
    pub fn scorer(&self, features: usize, placement: &Arc<Placement>) -> Result<Box<dyn Scorer>, MethodError> {
        self.made(features, Some(placement))
    }

    /// As [`scorer`](Self::scorer), for rows of which some are scored and not learnt ([`RowContext::learn`](super::RowContext::learn)); it runs
    /// on the CPU.
    ///
    /// A row that is not learnt leaves the model as it was. Four kinds of models have a place for it all the same: `subspace`, `centroids`
    /// and `distance` keep it in the windows to come, and neither they nor a calibration learn a window that holds one; `forecast` goes on by a
    /// row of time, for which the expectation stands in; `auto` and `seasonal` go on in a cycle that they have found in rows.
    ///
    /// # Errors
    /// As [`scorer`](Self::scorer).
    pub fn selective_scorer(&self, features: usize) -> Result<Box<dyn Scorer>, MethodError> {
        self.made(features, None)
    }

    /// Without a placement: a selective one.
    fn made(&self, features: usize, placement: Option<&Arc<Placement>>) -> Result<Box<dyn Scorer>, MethodError> {
        let features_max = self.description.features_max;
        if features == 0 || features > features_max {
            return Err(MethodError::Features { method: self.description.name, features_max, given: features });
        }
        if self.description.name == DEFAULT && features > 1 {
            let set = self.description.options.iter().find(|option| self.options[option.name] != option.default);
            if let Some(option) = set {
                return Err(MethodError::Value {
                    method: self.description.name,
                    option: option.name.to_string(),
                    expected: "left out where there are several values, whose regions have no season and no deviation (as `half_space`)"
                        .to_string(),
                    given: match (option.name, self.options[option.name]) {
                        (SEASONALITY_NAME, SEASONALITY_NONE) => "'none'".to_string(),
                        (SEASONALITY_NAME, ms) => serde_json::json!({ "ms": ms }).to_string(),
                        (_, number) => number.to_string(),
                    },
                });
            }
        }
        self.kernel(features, placement).map_err(|error| match error {
            KernelError::Parameter { parameter, expected, given, .. } => {
                MethodError::Value { method: self.description.name, option: parameter.to_string(), expected, given }
            }
            #[cfg(feature = "gpu")]
            other => MethodError::Value {
                method: self.description.name,
                option: METHOD.to_string(),
                expected: "one that can be made".to_string(),
                given: other.to_string(),
            },
        })
    }

    /// The recurrence that its scores are made of, if they are.
    pub(super) fn recurrence(&self) -> Option<Result<RecurrenceScan, KernelError>> {
        let number = |name: &str| self.options[name];
        let recurrence = match self.description.name {
            "ewma" => Recurrence::Ewma { half_life: number("half_life") },
            "holt" => Recurrence::Holt { half_life: number("half_life"), trend_half_life: number("trend_half_life") },
            "cusum" => Recurrence::Cusum {
                half_life: number("half_life"),
                drift: number("drift"),
                residual_limit: number("residual_limit"),
            },
            _ => return None,
        };
        let (min_training, variance_floor) = (number("min_training") as u32, number("variance_floor"));
        Some(RecurrenceScan::new(Config { recurrence, min_training, variance_floor }))
    }

    fn kernel(&self, features: usize, placement: Option<&Arc<Placement>>) -> Result<Box<dyn Scorer>, KernelError> {
        type Place<'a> = Option<&'a Arc<Placement>>;
        fn placed<K: ScoreKernel>(kernel: K, placement: Place<'_>) -> Result<Box<dyn Scorer>, KernelError> {
            Ok(match placement {
                Some(placement) => Box::new(KernelScorer::new(kernel, placement)),
                None => Box::new(SelectiveScorer::new(kernel)),
            })
        }
        let number = |name: &str| self.options[name];
        let whole = |name: &str| number(name) as u32;
        let season = || match number(SEASONALITY_NAME) {
            SEASONALITY_AUTO => Seasonality::Auto,
            SEASONALITY_NONE => Seasonality::None,
            ms => Seasonality::Period(ms as i64),
        };
        if self.description.options.contains(&CALIBRATION_HALF_LIFE) {
            check(self.description.name, CALIBRATION_HALF_LIFE.name, number("half_life"), CALIBRATION_HALF_LIFE_ROWS)?;
        }
        let half_life = |kernel| {
            let value = number("half_life");
            let fits = value.is_finite() && (1.0..=1e9).contains(&value);
            match fits {
                true => Ok(gain_of(value as f32)),
                false => Err(KernelError::Parameter {
                    kernel,
                    parameter: "half_life",
                    expected: "between 1 and 1e9".to_string(),
                    given: value.to_string(),
                }),
            }
        };
        if let Some(recurrence) = self.recurrence() {
            return placed(recurrence?, placement);
        }
        match self.description.name {
            "auto" if features > 1 => {
                let parameters = ForestParameters { features: features as u32, ..ForestParameters::default() };
                placed(HalfSpaceForest::new(parameters)?, placement)
            }
            "auto" => Ok(Box::new(SeriesScorer::new(Auto { seasonality: season(), gain: half_life("auto")? }))),
            "novelty" => {
                check("novelty", "window", whole("window"), 2..=1024)?;
                check("novelty", "capacity", whole("capacity"), 8..=16_384)?;
                Ok(Box::new(SeriesScorer::new(NoveltyScore {
                    window: whole("window") as usize,
                    capacity: whole("capacity") as usize,
                    min_training: whole("min_training"),
                })))
            }
            "seasonal" => Ok(Box::new(SeriesScorer::new(SeasonalScore {
                seasonality: season(),
                gain: half_life("seasonal")?,
                min_training: whole("min_training"),
            }))),
            "changepoint" => {
                check("changepoint", "window", whole("window"), 1..=100_000)?;
                check("changepoint", "run", number("run"), 2.0..=1e9)?;
                check("changepoint", "residual_limit", number("residual_limit"), 0.5..=1e6)?;
                Ok(Box::new(SeriesScorer::new(ChangePoint {
                    window: whole("window"),
                    hazard: (1.0 / number("run")) as f32,
                    residual_limit: number("residual_limit") as f32,
                    gain: half_life("changepoint")?,
                    memory: (number("half_life") / std::f64::consts::LN_2).max(2.0) as f32,
                    min_training: whole("min_training"),
                })))
            }
            "forecast" => {
                let (period, season_max) = (whole("period"), whole("season_max"));
                if period != 0 {
                    check("forecast", "period", period, 2..=SEASON_MAX)?;
                }
                let season = match season() {
                    Seasonality::Auto if period == 0 => ScorerSeason::Found { season_max },
                    Seasonality::Auto => ScorerSeason::Rows(period),
                    Seasonality::None if period == 0 => ScorerSeason::None,
                    // Rows have no fixed distance here, so an interval is no number of them.
                    other => {
                        return Err(KernelError::Parameter {
                            kernel: "forecast",
                            parameter: SEASONALITY_NAME,
                            expected:
                                "'auto' or 'none' (its season is of rows, `period => 24`, and `period` needs 'auto')"
                                    .to_string(),
                            given: match other {
                                Seasonality::Period(ms) => serde_json::json!({ "ms": ms }).to_string(),
                                _ => format!("'none' with `period => {period}`"),
                            },
                        });
                    }
                };
                Ok(Box::new(ForecastScorer::new(season, whole("min_training").max(1))?))
            }
            "rcf" => {
                check("rcf", "trees", whole("trees"), 1..=200)?;
                check("rcf", "sample", whole("sample"), 4..=1024)?;
                check("rcf", "window", whole("window"), 1..=64)?;
                half_life("rcf")?;
                let model = RandomCutForest {
                    features,
                    window: whole("window") as usize,
                    trees: whole("trees") as usize,
                    sample: whole("sample") as usize,
                    decay: (std::f64::consts::LN_2 / number("half_life")) as f32,
                    seed: whole("seed"),
                    min_training: whole("min_training"),
                };
                check("rcf", "trees, sample, window and values as bytes of state", 4 * model.words(), 0..=16 << 20)?;
                Ok(Box::new(SeriesScorer::of_several(model, features)))
            }
            "half_space" => {
                let parameters = ForestParameters {
                    features: features as u32,
                    trees: whole("trees"),
                    depth: whole("depth"),
                    window: whole("window"),
                    seed: whole("seed"),
                    attribution: false,
                };
                placed(HalfSpaceForest::new(parameters)?, placement)
            }
            "distance" => {
                let parameters = DistanceParameters {
                    window: whole("window"),
                    history: whole("history"),
                    ..DistanceParameters::default()
                };
                placed(WindowDistance::new(parameters)?, placement)
            }
            "subspace" | "centroids" => {
                let parameters = SubspaceParameters {
                    window: whole("window"),
                    components: whole("components"),
                    half_life: number("half_life") as f32,
                    model: if self.description.name == "subspace" { Model::Subspace } else { Model::Centroids },
                    ..SubspaceParameters::default()
                };
                placed(SubspaceScore::new(parameters)?, placement)
            }
            other => unreachable!("method '{other}' is described and not made"),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = self.options.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>();
        write!(f, "{}({})", self.description.name, options.join(", "))
    }
}
