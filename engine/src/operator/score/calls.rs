//! The calls of a query: what each reads of a row, and what it says of it.
//!
//! A call answers with the score of its method, or with all that there is to say of a row: a score and its chance, whether that is an
//! alarm, what was expected, and what share each value has in it. Both are the same rows through the same method; a detector has the
//! calibration of each key's scores beside.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Float64Array, ListArray, RecordBatch, StringViewArray, StructArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Float64Type};
use eagre_kernels::placed::WaveGroup;
use eagre_kernels::rows::GroupedRows;
use eagre_kernels::score::{Detections, Detector, DetectorOptions, Method, Placement, RowContext, Scorer};
use eagre_kernels::state::StateShape;

use super::NAME;
use crate::arrays::{array_type, side_by_side};
use crate::error::{EngineError, Result};
use crate::time::event_times_ms;

/// One call of a query.
#[derive(Debug, Clone)]
pub struct ScoreCall {
    /// What the result is called.
    pub name: String,
    /// What is said of rows, and how it is found.
    pub answer: ScoreAnswer,
    /// What rows are scored by, as numeric columns of the operator's input.
    pub features: Vec<usize>,
    /// How many numbers an array has, where the one feature is a column of arrays: each is a value then. A row whose array has another length is as
    /// one without values.
    pub width: Option<usize>,
    /// When a row happened, as a column of times; for what depends on how much time has passed.
    pub time: Option<usize>,
    /// Whether a row is learnt, as a column of truth values; one that is unknown is not learnt. Without it all are. A call that has it runs
    /// on the CPU.
    pub learn: Option<usize>,
}

impl ScoreCall {
    /// How many values a row is scored by.
    pub(super) fn value_count(&self) -> usize {
        self.width.unwrap_or(self.features.len())
    }
}

/// What a call says of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum ScoreAnswer {
    /// The method's score: a `DOUBLE`, null where there is no value to score.
    Score(Method),
    /// A row of [`detections_type`].
    Detections(DetectorOptions),
}

impl ScoreAnswer {
    /// How rows are scored.
    pub fn method(&self) -> &Method {
        match self {
            Self::Score(method) => method,
            Self::Detections(options) => options.method(),
        }
    }

    /// The type of its results.
    pub fn data_type(&self) -> DataType {
        match self {
            Self::Score(_) => DataType::Float64,
            Self::Detections(_) => detections_type(),
        }
    }

    /// What the words of a key's state mean.
    pub(super) fn state_layout(&self) -> String {
        match self {
            Self::Score(method) => method.state_layout(),
            Self::Detections(options) => options.state_layout(),
        }
    }
}

/// The fields of what is detected: `score`, `p_value`, `is_anomaly`, `expected`, `lower`, `upper`, `direction`, `contributions`, `method`.
/// All but `is_anomaly` and `method` are null where nothing can be said.
pub fn detections_type() -> DataType {
    let number = |name: &str| Field::new(name, DataType::Float64, true);
    DataType::Struct(Fields::from(vec![
        number("score"),
        number("p_value"),
        Field::new("is_anomaly", DataType::Boolean, true),
        number("expected"),
        number("lower"),
        number("upper"),
        Field::new("direction", DataType::Utf8View, true),
        Field::new("contributions", array_type(), true),
        Field::new("method", DataType::Utf8View, true),
    ]))
}

/// What a call reads of a batch's rows.
#[derive(Debug, Default)]
pub(super) struct CallRows {
    features: Vec<Vec<f64>>,
    time_ms: Option<Vec<i64>>,
    learn: Option<Vec<bool>>,
}

impl CallRows {
    pub(super) fn of(call: &ScoreCall, batch: &RecordBatch) -> Result<Self> {
        let columns: Vec<ArrayRef> = call.features.iter().map(|place| Arc::clone(batch.column(*place))).collect();
        Self::new(
            &columns,
            call.width,
            call.time.map(|place| batch.column(place)),
            call.learn.map(|place| batch.column(place)),
        )
    }

    fn new(
        features: &[ArrayRef],
        width: Option<usize>,
        time: Option<&ArrayRef>,
        learn: Option<&ArrayRef>,
    ) -> Result<Self> {
        let features = match (width, features) {
            (Some(width), [arrays]) => side_by_side(arrays, width)?.iter().map(numbers).collect::<Result<_>>()?,
            _ => features.iter().map(numbers).collect::<Result<_>>()?,
        };
        let times = |column: &ArrayRef| {
            Ok::<_, EngineError>(event_times_ms(column)?.iter().map(|ms| ms.unwrap_or(0)).collect())
        };
        let truths = |column: &ArrayRef| column.as_boolean().iter().map(|learn| learn == Some(true)).collect();
        Ok(Self { features, time_ms: time.map(times).transpose()?, learn: learn.map(truths) })
    }

    fn columns(&self) -> Vec<&[f64]> {
        self.features.iter().map(Vec::as_slice).collect()
    }

    fn context(&self) -> RowContext<'_> {
        RowContext { time_ms: self.time_ms.as_deref(), learn: self.learn.as_deref() }
    }
}

/// A column of numbers, null as NaN.
fn numbers(column: &ArrayRef) -> Result<Vec<f64>> {
    let numbers = cast(column, &DataType::Float64)?;
    let numbers = numbers.as_primitive::<Float64Type>();
    Ok(match numbers.null_count() {
        0 => numbers.values().to_vec(),
        _ => numbers.iter().map(|value| value.unwrap_or(f64::NAN)).collect(),
    })
}

/// A call with what it has learnt of all keys.
pub(super) enum Running {
    Score(Box<dyn Scorer>),
    Detections(Box<Detector>, &'static str),
}

impl Running {
    /// `selective`: of some rows it is said that they are not to be learnt.
    pub(super) fn new(
        answer: &ScoreAnswer,
        features: usize,
        selective: bool,
        placement: &Arc<Placement>,
    ) -> Result<Self> {
        let made = match answer {
            ScoreAnswer::Score(method) => match selective {
                true => method.selective_scorer(features),
                false => method.scorer(features, placement),
            }
            .map(Self::Score),
            ScoreAnswer::Detections(options) => match selective {
                true => options.selective_detector(features),
                false => options.detector(features, placement),
            }
            .map(|detector| Self::Detections(Box::new(detector), options.method().description().name)),
        };
        made.map_err(|error| EngineError::evaluate(NAME, error))
    }

    /// Starts to answer for rows; as [`Scorer::start`].
    pub(super) fn start(&mut self, grouped: &Arc<GroupedRows>, rows: &CallRows, group: &mut WaveGroup) {
        match self {
            Self::Score(scorer) => scorer.start(grouped, &rows.columns(), rows.context(), group),
            Self::Detections(detector, _) => detector.start(grouped, &rows.columns(), rows.context(), group),
        }
    }

    /// The answers, where the rows were.
    pub(super) fn finish(&mut self, grouped: &GroupedRows, rows: &CallRows) -> ArrayRef {
        match self {
            Self::Score(scorer) => Arc::new(scores_in_order(grouped, &scorer.finish(), &rows.features)),
            Self::Detections(detector, method) => Arc::new(detections_in_order(grouped, &detector.finish(), method)),
        }
    }

    pub(super) fn scorer(&self) -> &dyn Scorer {
        match self {
            Self::Score(scorer) => scorer.as_ref(),
            Self::Detections(detector, _) => detector.scorer(),
        }
    }

    pub(super) fn scorer_mut(&mut self) -> &mut dyn Scorer {
        match self {
            Self::Score(scorer) => scorer.as_mut(),
            Self::Detections(detector, _) => detector.scorer_mut(),
        }
    }

    pub(super) fn state_shape(&self) -> &StateShape {
        match self {
            Self::Score(scorer) => scorer.state_shape(),
            Self::Detections(detector, _) => detector.state_shape(),
        }
    }

    pub(super) fn read_slot(&self, slot: u32, words: &mut Vec<u32>) {
        match self {
            Self::Score(scorer) => scorer.read_slot(slot, words),
            Self::Detections(detector, _) => detector.read_slot(slot, words),
        }
    }

    pub(super) fn load(&mut self, slots: &[u32], words: &[u32]) {
        match self {
            Self::Score(scorer) => scorer.load(slots, words),
            Self::Detections(detector, _) => detector.load(slots, words),
        }
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Score(scorer) => scorer.bytes(),
            Self::Detections(detector, _) => detector.bytes(),
        }
    }
}

/// The answers for rows that are all of one partition, in order: what the operator says of a partition's rows, for finished tables.
///
/// `width`, `time` and `learn` are as those of a [`ScoreCall`].
///
/// # Errors
/// Features that are no numbers, or not as many as the method takes; times that are none.
pub fn score_partition(
    answer: &ScoreAnswer,
    features: &[ArrayRef],
    width: Option<usize>,
    time: Option<&ArrayRef>,
    learn: Option<&ArrayRef>,
    rows: usize,
) -> Result<ArrayRef> {
    let call_rows = CallRows::new(features, width, time, learn)?;
    let mut running = Running::new(answer, width.unwrap_or(features.len()), learn.is_some(), &Arc::default())?;
    let grouped = Arc::new(GroupedRows::group(&vec![0; rows], 1));
    let mut group = WaveGroup::new();
    running.start(&grouped, &call_rows, &mut group);
    group.submit(|| {});
    Ok(running.finish(&grouped, &call_rows))
}

/// The score of a value that no kernel can compute with: infinite, or of a magnitude where no difference is left. Nothing is stranger, and
/// it is not learnt.
const BEYOND: f64 = 3.402_82e38;

/// Scores of grouped rows, put back where the rows were; null where a feature is null or NaN.
fn scores_in_order(grouped: &GroupedRows, scores: &[f32], features: &[Vec<f64>]) -> Float64Array {
    let mut all = vec![None; scores.len()];
    for (row, score) in grouped.order().iter().zip(scores) {
        let row = *row as usize;
        all[row] = match score.is_nan() {
            false => Some(six_digits(f64::from(*score))),
            true => features.iter().all(|column| !column[row].is_nan()).then_some(BEYOND),
        };
    }
    Float64Array::from(all)
}

/// What was detected of grouped rows, put back where the rows were.
fn detections_in_order(grouped: &GroupedRows, found: &Detections, method: &str) -> StructArray {
    let rows = found.score.len();
    let mut places = vec![0; rows];
    for (place, row) in grouped.order().iter().enumerate() {
        places[*row as usize] = place;
    }
    let scored = |place: usize| !found.score[place].is_nan();
    let of_scores = |values: &[f32]| {
        let value = |place: &usize| (scored(*place) && !values[*place].is_nan()).then(|| short(values[*place]));
        places.iter().map(value).collect::<Float64Array>()
    };
    let of_values = |values: &[f64]| {
        let value = |place: &usize| {
            let (value, reach) = (values[*place], found.upper[*place] - found.expected[*place]);
            value.is_finite().then(|| in_grains(value, reach))
        };
        places.iter().map(value).collect::<Float64Array>()
    };
    let direction = places.iter().map(|place| match found.direction[*place] {
        1.. => Some("up"),
        0 => None,
        _ => Some("down"),
    });
    let told = |place: &usize| scored(*place) && found.contributions.iter().all(|share| !share[*place].is_nan());
    let told: NullBuffer = places.iter().map(told).collect::<Vec<bool>>().into();
    let lengths = told.iter().map(|told| if told { found.contributions.len() } else { 0 });
    let shares = places.iter().zip(told.iter()).filter(|(_, told)| *told);
    let shares = shares.flat_map(|(place, _)| found.contributions.iter().map(|share| short(share[*place])));
    let item = Arc::new(Field::new_list_field(DataType::Float64, true));
    let offsets = OffsetBuffer::from_lengths(lengths);
    let contributions = ListArray::new(item, offsets, Arc::new(shares.collect::<Float64Array>()), Some(told.clone()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(of_scores(&found.score)),
        Arc::new(of_scores(&found.p_value)),
        Arc::new(places.iter().map(|place| Some(found.is_anomaly[*place])).collect::<BooleanArray>()),
        Arc::new(of_values(&found.expected)),
        Arc::new(of_values(&found.lower)),
        Arc::new(of_values(&found.upper)),
        Arc::new(direction.collect::<StringViewArray>()),
        Arc::new(contributions),
        Arc::new(std::iter::repeat_n(Some(method), rows).collect::<StringViewArray>()),
    ];
    let DataType::Struct(fields) = detections_type() else { unreachable!("detections are rows") };
    StructArray::new(fields, columns, None)
}

fn short(value: f32) -> f64 {
    if value == f32::MAX { BEYOND } else { six_digits(f64::from(value)) }
}

/// The nearest number of six significant decimal digits: kernels compute in `f32`, which has no more, and 0.3 is to be shown as such.
pub(super) fn six_digits(score: f64) -> f64 {
    to_place(score, 5)
}

/// A value of which only differences from others are known to six digits: as many decimal digits as one of `reach` has then, but not more
/// than twelve of its own.
pub(super) fn in_grains(value: f64, reach: f64) -> f64 {
    let magnitudes = value.abs().log10().floor() - reach.abs().log10().floor();
    to_place(value, if magnitudes.is_finite() { (magnitudes + 6.0).clamp(5.0, 11.0) as i32 } else { 11 })
}

/// The nearest number with so many digits after its first.
fn to_place(value: f64, digits: i32) -> f64 {
    let magnitude = value.abs();
    if !(1e-30..1e30).contains(&magnitude) {
        return value;
    }
    let digits = digits - magnitude.log10().floor() as i32;
    // Powers of ten up to 22 are exact, and a quotient of exact numbers is the nearest number there is.
    match digits {
        0..=22 => (value * 10f64.powi(digits)).round() / 10f64.powi(digits),
        digits if (-22..0).contains(&digits) => (value / 10f64.powi(-digits)).round() * 10f64.powi(-digits),
        _ => value,
    }
}
