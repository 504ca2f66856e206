//! A scorer and what makes alarms of its scores: calibrated, counted, rested.
//!
//! A raw score says more or less; how much is too much differs between methods and keys. A [`Detector`] learns for each key how its
//! scores are distributed ([`Calibration`]), so that what a user asks for is a rate: at most so many false alarms for each row.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::method::{Method, MethodError};
use super::scorer::Scorer;
use crate::calibration::{AlarmOptions, Calibration, GroupedContext};
use crate::features::Features;
use crate::placed::{Placement, WaveGroup};
use crate::rows::GroupedRows;
use crate::state::{StatePages, StateShape};

/// A method, and when its scores are alarms.
#[derive(Debug, Clone, PartialEq)]
pub struct DetectorOptions {
    method: Method,
    alarm: AlarmOptions,
}

/// What a detector says of each grouped row. All are `[grouped row]`; NaN stands where nothing can be said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Detections {
    /// The method's own score: greater is stranger; NaN where a value is missing, `f32::MAX` where one is beyond what can be compared.
    pub score: Vec<f32>,
    /// The chance that a normal row of this key surprises as much, in `(0, 1]`; 1 while the key is too young. What surprises is the score,
    /// but for `auto`, whose score stays high as long as an anomaly lasts.
    pub p_value: Vec<f32>,
    /// Whether it is an alarm: the p-value is below the false alarm rate, and the key does not rest from an earlier alarm.
    pub is_anomaly: Vec<bool>,
    /// What was expected of the first feature.
    pub expected: Vec<f64>,
    /// Below this the first feature would have been strange.
    pub lower: Vec<f64>,
    /// Above this the first feature would have been strange.
    pub upper: Vec<f64>,
    /// 1 where the feature that contributes most is above what was expected, -1 below, else 0.
    pub direction: Vec<i8>,
    /// `[feature][grouped row]`: each feature's share of how far the row is from what was expected; shares of a row add up to 1.
    pub contributions: Vec<Vec<f32>>,
}

/// What is known of rows beside their features; each has one entry for each row *before* grouping.
#[derive(Debug, Clone, Copy, Default)]
pub struct RowContext<'a> {
    /// Event time in milliseconds.
    pub time_ms: Option<&'a [i64]>,
    /// Rows with `false` are scored and not learnt; of detectors and scorers that are selective.
    pub learn: Option<&'a [bool]>,
}

impl DetectorOptions {
    /// A method and its alarms from what was named: `method`, options of that method, and `max_false_alarm_rate`, `rest`,
    /// `min_training`; `{}` is the default.
    ///
    /// # Errors
    /// Names that are not known, and values that cannot be.
    pub fn parse(given: &Map<String, Value>) -> Result<Self, MethodError> {
        Ok(DetectorOptions { method: Self::parse_method(given)?, alarm: AlarmOptions::take(given)?.0 })
    }

    /// The method alone, from the options of a detector: what speaks of alarms is checked and left out.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_method(given: &Map<String, Value>) -> Result<Method, MethodError> {
        let (_, mut rest) = AlarmOptions::take(given)?;
        let method = Method::parse(&rest)?;
        let shared = given.iter().find(|(key, _)| key.eq_ignore_ascii_case(AlarmOptions::SHARED));
        let Some((key, value)) = shared else { return Ok(method) };
        if !method.description().options.iter().any(|option| option.name == AlarmOptions::SHARED) {
            return Ok(method);
        }
        rest.insert(key.clone(), value.clone());
        Method::parse(&rest)
    }

    /// How rows are scored.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// When scores are alarms.
    pub fn alarm(&self) -> &AlarmOptions {
        &self.alarm
    }

    /// What the words of a key's state mean.
    pub fn state_layout(&self) -> String {
        // A prior of several values has the words of one of one.
        format!("{}+{}", self.method.state_layout(), Calibration::layout(&self.method.prior(1)))
    }

    /// A detector that has seen no row.
    ///
    /// # Errors
    /// More features than the method takes.
    pub fn detector(&self, features: usize, placement: &Arc<Placement>) -> Result<Detector, MethodError> {
        Ok(self.with_scorer(self.method.scorer(features, placement)?, features))
    }

    /// As [`detector`](Self::detector), for rows of which some are judged and not learnt, as by [`Method::selective_scorer`].
    ///
    /// # Errors
    /// More features than the method takes.
    pub fn selective_detector(&self, features: usize) -> Result<Detector, MethodError> {
        Ok(self.with_scorer(self.method.selective_scorer(features)?, features))
    }

    fn with_scorer(&self, scorer: Box<dyn Scorer>, features: usize) -> Detector {
        let (prior, warm_up_rows) = (self.method.prior(features), self.method.warm_up_rows(features));
        let calibration = Calibration::new(self.alarm.clone(), prior, features, warm_up_rows)
            .with_half_life(self.method.calibration_half_life_rows())
            .with_recurrence(self.method.recurrence().and_then(Result::ok));
        let words = scorer.state_shape().initial().iter().chain(calibration.shape().initial()).copied().collect();
        let shape = StateShape::new(words, scorer.state_shape().layout());
        Detector {
            scorer_words: scorer.state_shape().words_per_slot(),
            state: StatePages::new(calibration.shape().clone()),
            scorer,
            calibration,
            shape,
            started: None,
        }
    }
}

/// Scores rows, and tells which are alarms. As a [`Scorer`], whose words are those of its scorer and then those of its calibration.
pub struct Detector {
    scorer: Box<dyn Scorer>,
    scorer_words: usize,
    calibration: Calibration,
    state: StatePages,
    shape: StateShape,
    started: Option<Started>,
}

struct Started {
    features: Features,
    time_ms: Option<Vec<i64>>,
    learn: Option<Vec<bool>>,
    beyond: Vec<bool>,
}

impl Detector {
    /// The words of a key's state.
    pub fn state_shape(&self) -> &StateShape {
        &self.shape
    }

    /// As [`Scorer::start`].
    pub fn start(
        &mut self,
        rows: &Arc<GroupedRows>,
        columns: &[&[f64]],
        context: RowContext<'_>,
        group: &mut WaveGroup,
    ) {
        self.scorer.start(rows, columns, context, group);
        let order = || rows.order().iter().map(|row| *row as usize);
        self.started = Some(Started {
            features: Features::new(Arc::clone(rows), columns),
            time_ms: context.time_ms.map(|times| order().map(|row| times[row]).collect()),
            learn: context.learn.map(|learn| order().map(|row| learn[row]).collect()),
            beyond: order().map(|row| columns.iter().all(|column| !column[row].is_nan())).collect(),
        });
    }

    /// What there is to say of each *grouped* row.
    ///
    /// # Panics
    /// When nothing was started.
    pub fn finish(&mut self) -> Detections {
        let Started { features, time_ms, learn, beyond } = self.started.take().expect("a batch was started");
        let scores = self.scorer.finish();
        let surprises = self.scorer.take_surprises();
        let expectations = self.scorer.take_expectations();
        let learn = self.scorer.take_learns().or(learn);
        self.state.grow(features.slot_count());
        let seen = GroupedContext { time_ms: time_ms.as_deref(), learn: learn.as_deref(), beyond: &beyond };
        self.calibration.run(&features, (scores, surprises), expectations, seen, &mut self.state)
    }

    /// Its scorer: where it runs, what it decided.
    pub fn scorer(&self) -> &dyn Scorer {
        self.scorer.as_ref()
    }

    /// Its scorer, to resume or recall.
    pub fn scorer_mut(&mut self) -> &mut dyn Scorer {
        self.scorer.as_mut()
    }

    /// Appends the words of a key's state as of the last [`Scorer::sync`].
    pub fn read_slot(&self, slot: u32, words: &mut Vec<u32>) {
        self.scorer.read_slot(slot, words);
        words.extend(self.state.slot(slot));
    }

    /// Sets the words of keys, `words_per_slot` for each, before the first batch.
    pub fn load(&mut self, slots: &[u32], words: &[u32]) {
        let mut of_scorer = Vec::with_capacity(slots.len() * self.scorer_words);
        self.state.grow(slots.iter().max().map_or(0, |last| *last as usize + 1));
        for (slot, words) in slots.iter().zip(words.chunks_exact(self.shape.words_per_slot())) {
            let (scorer, calibration) = words.split_at(self.scorer_words);
            of_scorer.extend_from_slice(scorer);
            self.state.set_slot(*slot, calibration);
        }
        self.scorer.load(slots, &of_scorer);
    }

    /// Bytes of state.
    pub fn bytes(&self) -> usize {
        self.scorer.bytes() + self.state.bytes()
    }
}
