//! From the numbers of a network's last layer to columns: values, or labels with probabilities and a priority.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, StringArray, StructArray};
use arrow::datatypes::{DataType, Field, Fields, SchemaRef};
use eagre_engine::model::{Predictions, Refusal};

use crate::error::Result;
use crate::options::Definition;

/// What follows the last layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    None,
    Sigmoid,
    Softmax,
}

impl Activation {
    pub(crate) const ALL: [(&'static str, Self); 3] =
        [("none", Self::None), ("sigmoid", Self::Sigmoid), ("softmax", Self::Softmax)];

    /// Of one row, in place.
    pub(crate) fn apply(self, row: &mut [f64]) {
        match self {
            Self::None => {}
            Self::Sigmoid => row.iter_mut().for_each(|value| *value = 1.0 / (1.0 + (-*value).exp())),
            Self::Softmax => {
                let greatest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                row.iter_mut().for_each(|value| *value = (*value - greatest).exp());
                let sum: f64 = row.iter().sum();
                row.iter_mut().for_each(|value| *value /= sum);
            }
        }
    }
}

/// The labels of a classifier and how urgent each is.
#[derive(Debug, Clone)]
pub(crate) struct Classes {
    pub(crate) labels: Vec<String>,
    pub(crate) priorities: Vec<f64>,
}

/// How far probabilities may be from a sum of 1: they are computed in `f32`.
const SUM_TOLERANCE: f64 = 1e-3;
const HOW_TO_PROBABILITIES: &str = "and probabilities are from 0 to 1 and sum up to 1; of a model of a file 'output.activation' = 'softmax' \
                                    makes them";

impl Classes {
    /// Of 'labels' and 'priorities', or of the labels that a file has.
    pub(crate) fn of(definition: &Definition, own: Option<&[String]>) -> Result<Option<Self>> {
        let labels = match (definition.labels()?, own) {
            (Some(labels), Some(own)) if labels.len() != own.len() => {
                return Err(definition.shape(format!(
                    "'labels' names {} labels, and the file was trained with {}: {}",
                    labels.len(),
                    own.len(),
                    own.join(", ")
                )));
            }
            (Some(labels), _) => labels,
            (None, Some(own)) => own.to_vec(),
            (None, None) => {
                if let Some(value) = definition.option("priorities") {
                    return Err(definition.bad(
                        "priorities",
                        value,
                        "labels have priorities, and the model has no 'labels'",
                    ));
                }
                return Ok(None);
            }
        };
        Ok(Some(Self { priorities: definition.priorities(&labels)?, labels }))
    }

    fn probabilities(&self) -> Fields {
        self.labels.iter().map(|label| Field::new(label, DataType::Float64, true)).collect()
    }

    /// The columns of an answer.
    pub(crate) fn fields(&self) -> Vec<Field> {
        vec![
            Field::new("label", DataType::Utf8, true),
            Field::new("probability", DataType::Float64, true),
            Field::new("priority", DataType::Float64, true),
            Field::new("probabilities", DataType::Struct(self.probabilities()), true),
        ]
    }

    /// How many numbers a network gives for these labels, as text for errors.
    pub(crate) fn fits(&self, width: usize) -> bool {
        width == self.labels.len() || (width == 1 && self.labels.len() == 2)
    }
}

/// Makes columns of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) activation: Activation,
    pub(crate) classes: Option<Classes>,
    /// The columns that are wanted, the first of what there is.
    pub(crate) output: SchemaRef,
}

impl Answer {
    /// `numbers` has `width` for each of `rows` rows.
    pub(crate) fn columns(
        &self,
        mut numbers: Vec<f64>,
        width: usize,
        rows: usize,
        mut refused: Vec<Refusal>,
    ) -> Predictions {
        numbers.chunks_mut(width.max(1)).for_each(|row| self.activation.apply(row));
        let Some(classes) = &self.classes else {
            let column = |place: usize| -> ArrayRef {
                Arc::new(Float64Array::from_iter_values((0..rows).map(|row| six_digits(numbers[row * width + place]))))
            };
            return Predictions { columns: (0..width).map(column).collect(), refused };
        };
        let count = classes.labels.len();
        let probability = |row: usize, place: usize| match width {
            // One number is the probability of the second label.
            1 if place == 0 => 1.0 - numbers[row],
            1 => numbers[row],
            _ => numbers[row * width + place],
        };
        let (mut labels, mut greatest, mut priorities) =
            (Vec::with_capacity(rows), Vec::with_capacity(rows), Vec::with_capacity(rows));
        let mut by_label: Vec<Vec<f64>> = vec![Vec::with_capacity(rows); count];
        for row in 0..rows {
            let (mut best, mut sum, mut priority) = (0, 0.0, 0.0);
            for (place, column) in by_label.iter_mut().enumerate() {
                let value = probability(row, place);
                column.push(six_digits(value));
                sum += value;
                priority += value * classes.priorities[place];
                if value > probability(row, best) {
                    best = place;
                }
            }
            let negative = (0..count).find(|place| probability(row, *place) < -SUM_TOLERANCE);
            let fault = match negative {
                _ if sum.is_nan() => Some("its probabilities are not numbers".to_owned()),
                Some(place) => Some(format!(
                    "its output for `{}` is {}, {HOW_TO_PROBABILITIES}",
                    classes.labels[place],
                    six_digits(probability(row, place))
                )),
                None if (sum - 1.0).abs() > SUM_TOLERANCE => {
                    Some(format!("its outputs sum up to {}, {HOW_TO_PROBABILITIES}", six_digits(sum)))
                }
                None => None,
            };
            refused.extend(fault.map(|reason| Refusal { row: row as u32, reason }));
            labels.push(classes.labels[best].as_str());
            greatest.push(six_digits(probability(row, best)));
            priorities.push(six_digits(priority));
        }
        let by_label: Vec<ArrayRef> =
            by_label.into_iter().map(|column| Arc::new(Float64Array::from(column)) as ArrayRef).collect();
        let probabilities = StructArray::new(classes.probabilities(), by_label, None);
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(labels)),
            Arc::new(Float64Array::from(greatest)),
            Arc::new(Float64Array::from(priorities)),
            Arc::new(probabilities),
        ];
        columns.truncate(self.output.fields().len());
        Predictions { columns, refused }
    }
}

/// The nearest number of six significant decimal digits: networks compute in `f32`, which has no more, so what is beyond is an accident of
/// the processor.
pub(crate) fn six_digits(value: f64) -> f64 {
    let magnitude = value.abs();
    if !(1e-30..1e30).contains(&magnitude) {
        return if magnitude < 1e-30 { 0.0 } else { value };
    }
    let digits = 5 - magnitude.log10().floor() as i32;
    // Powers of ten up to 22 are exact, and a quotient of exact numbers is the nearest number there is.
    match digits {
        0..=22 => (value * 10f64.powi(digits)).round() / 10f64.powi(digits),
        digits if (-22..0).contains(&digits) => (value / 10f64.powi(-digits)).round() * 10f64.powi(-digits),
        _ => value,
    }
}
