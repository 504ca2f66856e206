//! The rows of a query as what a network learns from.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};
use candle_core::{Device, Tensor};
use eagre_engine::arrays::{array_type, item_of};
use eagre_engine::type_name::sql_name;

use super::chance::Chance;
use super::settings::{Task, TrainingSettings};
use crate::error::{ModelError, Result};
use crate::network::Arch;
use crate::options::Definition;
use crate::signature::numbered;

/// More labels than this are no labels but numbers, or names.
const LABELS_MAX: usize = 1_000;

/// What is learnt from, sorted.
pub(super) struct Rows {
    /// The names of the inputs; the numbers of an array that is no sequence are inputs of their own: `x_1`, `x_2`, ..
    pub(super) names: Vec<String>,
    /// Whether the one input is an array of any length.
    pub(super) sequence: bool,
    /// The inputs of each row.
    pub(super) numbers: Vec<Vec<f32>>,
    pub(super) targets: Targets,
    /// How many rows were left out, because something in them is null or no number.
    pub(super) left_out: usize,
}

/// What is learnt.
pub(super) enum Targets {
    /// A label for each row, by its place.
    Classes {
        labels: Vec<String>,
        of: Vec<u32>,
    },
    Numbers(Vec<f64>),
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    /// How many inputs there are, where all rows have as many.
    pub(super) fn width(&self) -> usize {
        self.numbers.first().map_or(0, Vec::len)
    }

    /// `[rows, inputs]`; the rows have as many.
    pub(super) fn tensor(&self, rows: &[usize]) -> candle_core::Result<Tensor> {
        let width = rows.first().map_or(0, |row| self.numbers[*row].len());
        let numbers: Vec<f32> = rows.iter().flat_map(|row| self.numbers[*row].iter().copied()).collect();
        Tensor::from_vec(numbers, (rows.len(), width), &Device::Cpu)
    }

    /// Batches of at most `size` rows of one length, which keep the order; where lengths differ, batches of the lengths come one after another.
    pub(super) fn batches(&self, order: &[usize], size: usize) -> Vec<Vec<usize>> {
        let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        order.iter().for_each(|row| by_length.entry(self.numbers[*row].len()).or_default().push(*row));
        let mut batches: Vec<Vec<usize>> = by_length
            .into_values()
            .flat_map(|rows| rows.chunks(size).map(<[usize]>::to_vec).collect::<Vec<_>>())
            .collect();
        if self.sequence {
            // Not the short ones first in every epoch; which comes when follows from the order of the rows.
            let seed = order.iter().fold(0u64, |hash, row| hash.wrapping_mul(31).wrapping_add(*row as u64));
            Chance::new(seed).shuffle(&mut batches);
        }
        batches
    }
}

/// # Errors
/// Columns that are no numbers, no column of the label, too few rows or labels.
pub(super) fn read(definition: &Definition, settings: &TrainingSettings, batch: &RecordBatch) -> Result<Rows> {
    let wrong = |message: String| ModelError::Training { model: definition.name.clone(), message };
    let schema = batch.schema();
    let named = schema.fields().iter().position(|field| *field.name() == settings.label);
    let named =
        named.or_else(|| schema.fields().iter().position(|field| field.name().eq_ignore_ascii_case(&settings.label)));
    let label = named.ok_or_else(|| {
        let names = schema.fields().iter().map(|field| format!("`{}`", field.name())).collect::<Vec<_>>().join(", ");
        definition.bad("label", &settings.label, &format!("the query has the columns {names}"))
    })?;
    let inputs: Vec<usize> = (0..schema.fields().len()).filter(|place| *place != label).collect();
    let mut names: Vec<String> = inputs.iter().map(|place| schema.field(*place).name().clone()).collect();
    if inputs.is_empty() {
        return Err(wrong(format!(
            "there is nothing to learn from: the query has no column beside `{}`",
            settings.label
        )));
    }
    let arrays = inputs.iter().filter(|place| item_of(schema.field(**place).data_type()).is_some()).count();
    let sequence = arrays > 0 && settings.arch == Arch::Gru;
    if sequence && inputs.len() > 1 {
        return Err(wrong(
            "a gru reads an array alone; leave the other columns out, or put them into the array".into(),
        ));
    }
    if arrays > 1 {
        return Err(wrong(format!(
            "the query has {arrays} columns of arrays, and a model is asked about one; put them together (`array_concat(a, b)`)"
        )));
    }
    let mut columns: Vec<Vec<Option<Vec<f32>>>> = Vec::new();
    for place in &inputs {
        let (column, name) = (batch.column(*place), schema.field(*place).name());
        let data_type = column.data_type();
        let is_number = |data_type: &DataType| data_type.is_numeric() || *data_type == DataType::Boolean;
        columns.push(match data_type {
            array if item_of(array).is_some_and(|item| is_number(item.data_type())) => {
                let lists = lists(column).map_err(|error| wrong(error.to_string()))?;
                if !sequence {
                    names_of_array(&mut names, name, &lists).map_err(wrong)?;
                }
                lists
            }
            number if is_number(number) => {
                numbers(column).map_err(|error| wrong(error.to_string()))?.into_iter().map(|value| finite(value?).map(|value| vec![value])).collect()
            }
            other => {
                let other = sql_name(other);
                return Err(wrong(format!(
                    "column `{name}` is {other}, and models learn from numbers; turn it into some (`CASE WHEN kind = 'a' THEN 1 ELSE 0 END`), \
                     or leave it out of the query"
                )));
            }
        });
    }
    let targets = targets(definition, settings, batch.column(label))?;
    // By input and target, so that chance alone decides what is learnt in which order.
    let mut all: Vec<(Vec<f32>, Target)> = Vec::new();
    for (row, target) in targets.into_iter().enumerate() {
        let inputs: Option<Vec<Vec<f32>>> = columns.iter_mut().map(|column| column[row].take()).collect();
        if let (Some(inputs), Some(target)) = (inputs, target) {
            let inputs: Vec<f32> = inputs.concat();
            if !inputs.is_empty() {
                all.push((inputs, target));
            }
        }
    }
    all.sort_by(|(a, of_a), (b, of_b)| {
        let by_input = a.len().cmp(&b.len()).then_with(|| {
            a.iter()
                .zip(b)
                .map(|(a, b)| a.total_cmp(b))
                .find(|order| order.is_ne())
                .unwrap_or(std::cmp::Ordering::Equal)
        });
        by_input.then_with(|| of_a.compare(of_b))
    });
    let left_out = batch.num_rows() - all.len();
    if all.len() < 10 {
        return Err(wrong(format!(
            "the query gives {} rows that can be learnt ({left_out} have nulls, or numbers beyond the 3.4e38 that 32 bits hold), and a model is \
             learnt from ten or more",
            all.len()
        )));
    }
    let (numbers, targets): (Vec<Vec<f32>>, Vec<Target>) = all.into_iter().unzip();
    let targets = match settings.task {
        Task::Regressor => Targets::Numbers(targets.iter().map(|target| target.number).collect()),
        Task::Classifier => {
            let labels = ordered_labels(definition, &targets)?;
            let of =
                targets.iter().map(|target| labels.iter().position(|label| *label == target.label).unwrap_or(0) as u32);
            Targets::Classes { of: of.collect(), labels }
        }
    };
    Ok(Rows { names, sequence, numbers, targets, left_out })
}

/// A label or a number.
struct Target {
    label: String,
    number: f64,
}

impl Target {
    fn compare(&self, other: &Self) -> std::cmp::Ordering {
        self.number.total_cmp(&other.number).then_with(|| self.label.cmp(&other.label))
    }
}

fn targets(definition: &Definition, settings: &TrainingSettings, column: &ArrayRef) -> Result<Vec<Option<Target>>> {
    let wrong = |message: String| ModelError::Training { model: definition.name.clone(), message };
    let told = |error: arrow::error::ArrowError| wrong(error.to_string());
    if settings.task == Task::Regressor {
        if !column.data_type().is_numeric() {
            return Err(wrong(format!(
                "the label `{}` is {}, and a regressor learns numbers",
                settings.label,
                sql_name(column.data_type())
            )));
        }
        let numbers = numbers(column).map_err(told)?;
        return Ok(numbers
            .into_iter()
            .map(|value| Some(Target { label: String::new(), number: value.filter(|v| v.is_finite())? }))
            .collect());
    }
    if column.data_type().is_nested() {
        return Err(wrong(format!(
            "the label `{}` is {}, and a classifier learns texts, booleans or numbers",
            settings.label,
            sql_name(column.data_type())
        )));
    }
    let texts = cast(column, &DataType::Utf8).map_err(told)?;
    // Numbers are in the order of numbers, texts in that of texts.
    let order = match column.data_type() {
        number if number.is_numeric() => numbers(column).map_err(told)?,
        _ => vec![Some(0.0); column.len()],
    };
    let texts = texts.as_string::<i32>().iter();
    Ok(texts
        .zip(order)
        .map(|(text, number)| Some(Target { label: text?.to_owned(), number: number.unwrap_or(0.0) }))
        .collect())
}

/// The labels that there are; those of 'labels', where it is said, in its order.
fn ordered_labels(definition: &Definition, targets: &[Target]) -> Result<Vec<String>> {
    let mut sorted: Vec<&Target> = targets.iter().collect();
    sorted.sort_by(|a, b| a.compare(b));
    sorted.dedup_by(|a, b| a.label == b.label);
    let found: Vec<String> = sorted.into_iter().map(|target| target.label.clone()).collect();
    let wrong = |message: String| ModelError::Training { model: definition.name.clone(), message };
    if found.len() < 2 || found.len() > LABELS_MAX {
        return Err(wrong(format!(
            "the label has {} different values, and a classifier tells two or more apart, {LABELS_MAX} at most",
            found.len()
        )));
    }
    match definition.labels()? {
        None => Ok(found),
        Some(labels) => match found
            .iter()
            .find(|label| !labels.contains(label))
            .or(labels.iter().find(|label| !found.contains(label)))
        {
            None => Ok(labels),
            Some(odd) => Err(definition.bad(
                "labels",
                &labels.join(", "),
                &format!("the rows have {}, so '{odd}' stands on one side only", found.join(", ")),
            )),
        },
    }
}

fn numbers(column: &ArrayRef) -> std::result::Result<Vec<Option<f64>>, arrow::error::ArrowError> {
    Ok(cast(column, &DataType::Float64)?.as_primitive::<Float64Type>().iter().collect())
}

fn finite(value: f64) -> Option<f32> {
    Some(value as f32).filter(|value| value.is_finite())
}

fn lists(column: &ArrayRef) -> std::result::Result<Vec<Option<Vec<f32>>>, arrow::error::ArrowError> {
    let list = |array: Option<ArrayRef>| -> std::result::Result<Option<Vec<f32>>, arrow::error::ArrowError> {
        let Some(array) = array else { return Ok(None) };
        Ok(numbers(&array)?.into_iter().map(|value| value.and_then(finite)).collect())
    };
    cast(column, &array_type())?.as_list::<i32>().iter().map(list).collect()
}

/// Puts the numbers of the array `name` into its place among the inputs.
///
/// # Errors
/// Arrays of several lengths: whoever asks would not know how many numbers the model reads.
fn names_of_array(names: &mut Vec<String>, name: &str, lists: &[Option<Vec<f32>>]) -> std::result::Result<(), String> {
    let lengths = lists.iter().flatten().map(Vec::len);
    let (least, greatest) =
        lengths.fold((usize::MAX, 0), |(least, greatest), length| (least.min(length), greatest.max(length)));
    if least < greatest {
        return Err(format!(
            "column `{name}` has arrays of {least} and of {greatest} numbers, and all but a gru read as many in each row; keep those of one length \
             (`WHERE cardinality({name}) = {greatest}`), or have a gru learn (`'arch' = 'gru'`)"
        ));
    }
    if let Some(place) = names.iter().position(|known| known == name) {
        names.splice(place..=place, numbered(name, greatest));
    }
    Ok(())
}
