//! Models that go on learning: `CREATE MODEL m WITH ('learn' = 'online', ..) AS SELECT ..` over a labelled stream.
//!
//! Logistic and linear regression ([`linear`]) and networks of one hidden layer ([`mlp`]) learn a row at a time, over inputs that are standardised by running figures
//! ([`scale`]). The state is a few numbers an input, so it is copied, saved and shown as a whole. Beside the weights a learner keeps how good it is on rows before
//! it learns them ([`progress`]), and how far its inputs have gone from those that it began with ([`drift`]).
//!
//! Before its first row a classifier gives all labels the same probability, and a regressor says 0: it knows nothing, and says so.
//!
//! Labels are said beforehand (`'labels'`), because they are columns of the answer, whose form a running pipeline cannot change; a label that is none of them is
//! no lesson.
//!
//! All is computed in 64 bits, row after row, by code of our own: a step is a few hundred nanoseconds, which a tensor library takes to be called.

mod drift;
mod learner;
mod linear;
mod mlp;
mod progress;
mod scale;
mod settings;
#[cfg(test)]
mod tests;
mod words;

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, AsArray, Float64Array, StringArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Fields, Float64Type, SchemaRef};
use eagre_engine::EngineError;
use eagre_engine::model::{Model, Predictions};
use eagre_engine::online::{Learner, Online, Report};
use eagre_engine::type_name::sql_name;
use xxhash_rust::xxh3::xxh3_64;

use self::learner::{Brain, OnlineLearner};
use self::progress::FIGURES;
use self::settings::{Settings, Size};
use crate::answer::{Activation, Answer, Classes, six_digits};
use crate::error::{ModelError, Result};
use crate::network::Arch;
use crate::options::{Definition, check};
use crate::signature::Signature;
use crate::train::Task;

/// Whether a definition is that of a model that goes on learning.
///
/// # Errors
/// Another word for how it learns.
pub fn is_online(definition: &Definition) -> Result<bool> {
    settings::is_online(definition)
}

/// What a model is, without what it has learnt.
struct Spec {
    settings: Settings,
    size: Size,
    input: SchemaRef,
    answer: Answer,
    /// Of all that answers depend on beside the rows.
    hash: u64,
}

impl Spec {
    fn labels(&self) -> usize {
        self.answer.classes.as_ref().map_or(0, |classes| classes.labels.len())
    }

    fn describe(&self) -> String {
        let arch = Arch::ALL.iter().find(|(_, arch)| *arch == self.settings.arch).map_or("", |(name, _)| name);
        let Size { inputs, hidden, .. } = self.size;
        let outputs = self.labels().max(1);
        match hidden {
            0 => format!("online {arch}({inputs}, {outputs})"),
            _ => format!("online {arch}({inputs}, {hidden}, {outputs})"),
        }
    }
}

/// What was learnt by the copy of the model that has learnt most, for those who look from outside.
struct Shared(Mutex<Option<Seen>>);

struct Seen {
    rows: u64,
    brain: Brain,
    all: [f64; FIGURES],
    last: Option<Report>,
}

impl Shared {
    fn see(&self, rows: u64, seen: impl FnOnce() -> Seen) {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.as_ref().map_or(0, |seen| seen.rows) < rows {
            *shared = Some(seen());
        }
    }

    fn look<T>(&self, look: impl FnOnce(Option<&Seen>) -> T) -> T {
        look(self.0.lock().unwrap_or_else(PoisonError::into_inner).as_ref())
    }
}

/// A model that goes on learning.
pub struct OnlineModel {
    spec: Arc<Spec>,
    shared: Arc<Shared>,
}

impl OnlineModel {
    /// Of a definition whose inputs are the columns of the labelled rows beside time and label, and whose label is of the stated type.
    ///
    /// # Errors
    /// Options that cannot be; no labelled rows; inputs that are no numbers; labels that are not said, or no labels.
    pub fn open(definition: &Definition) -> Result<Self> {
        check(definition)?;
        let settings = Settings::of(definition)?;
        let wrong = |message: String| ModelError::Training { model: definition.name.clone(), message };
        let (Some(columns), Some(label_type)) = (&definition.input, &definition.label) else {
            return Err(wrong(
                "'learn' = 'online' learns from a labelled stream: `CREATE MODEL .. AS SELECT ts, a, b, label FROM ..`"
                    .into(),
            ));
        };
        let input = Signature::input(definition, None, Some(columns.len()))?;
        let (classes, output) = match settings.task {
            Task::Regressor => {
                if !label_type.is_numeric() {
                    return Err(wrong(format!(
                        "the label is {}, and a regressor learns numbers",
                        sql_name(label_type)
                    )));
                }
                if let Some(labels) = definition.option("labels") {
                    return Err(definition.bad("labels", labels, "a regressor gives numbers and has none"));
                }
                (None, Signature::regression(definition, None, 1)?)
            }
            Task::Classifier => {
                if label_type.is_nested() {
                    return Err(wrong(format!(
                        "the label is {}, and a classifier learns texts, booleans or numbers",
                        sql_name(label_type)
                    )));
                }
                let booleans = (*label_type == DataType::Boolean).then(|| ["false".to_owned(), "true".to_owned()]);
                let said = definition.labels()?;
                let own = if said.is_some() { None } else { booleans.as_ref().map(|labels| labels.as_slice()) };
                let classes = Classes::of(definition, own)?.ok_or_else(|| ModelError::MissingOption {
                    model: definition.name.clone(),
                    option: "labels",
                    meaning: "the labels that may come, which are columns of the answer",
                    example: "ok, fraud",
                })?;
                let output = Signature::classification(definition, &classes)?;
                (Some(classes), output)
            }
        };
        let labels = classes.as_ref().map_or(0, |classes| classes.labels.len());
        let size = Size {
            inputs: input.fields().len(),
            outputs: if labels > 2 { labels } else { 1 },
            hidden: settings.hidden,
        };
        let names = input.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>();
        let hash = xxh3_64(format!("{settings:?} {names:?} {classes:?} {label_type}").as_bytes());
        let answer = Answer { activation: Activation::None, classes, output };
        let spec = Arc::new(Spec { settings, size, input, answer, hash });
        Ok(Self { spec, shared: Arc::new(Shared(Mutex::new(None))) })
    }

    /// The names of the first figures of a report.
    fn figure_names(&self) -> [&'static str; FIGURES] {
        match self.spec.settings.task {
            Task::Classifier => ["accuracy", "log_loss", "baseline_accuracy"],
            Task::Regressor => ["mae", "rmse", "baseline_mae"],
        }
    }

    fn by_input(&self) -> Fields {
        let inputs = self.spec.input.fields().iter();
        inputs.map(|field| Field::new(field.name(), DataType::Float64, true)).collect()
    }
}

impl Model for OnlineModel {
    fn describe(&self) -> String {
        self.spec.describe()
    }

    fn input(&self) -> &SchemaRef {
        &self.spec.input
    }

    fn output(&self) -> &SchemaRef {
        &self.spec.answer.output
    }

    fn labels(&self) -> Option<&[String]> {
        self.spec.answer.classes.as_ref().map(|classes| classes.labels.as_slice())
    }

    fn hash(&self) -> u64 {
        self.spec.hash
    }

    /// By what is known now, outside of pipelines.
    fn predict(&self, inputs: &[ArrayRef], rows: usize) -> eagre_engine::Result<Predictions> {
        let known = self.shared.look(|seen| seen.map(|seen| seen.brain.clone()));
        let mut brain = known.unwrap_or_else(|| Brain::new(self.spec.size, &self.spec.settings));
        let columns: Vec<&Float64Array> = inputs.iter().map(|column| column.as_primitive::<Float64Type>()).collect();
        let width = self.width();
        let mut numbers = vec![0.0; rows * width];
        let mut features = vec![0.0; columns.len()];
        for (row, answer) in numbers.chunks_exact_mut(width).enumerate() {
            features.iter_mut().zip(&columns).for_each(|(place, column)| *place = column.value(row));
            match features.iter().all(|value| value.is_finite()) {
                true => brain.answer(&features, answer),
                false => answer.fill(f64::NAN),
            }
        }
        Ok(self.answers(numbers, rows))
    }

    fn online(&self) -> Option<&dyn Online> {
        Some(self)
    }

    fn details(&self) -> Vec<(String, String)> {
        let shown = |value: f64| if value.is_nan() { "unknown".to_owned() } else { six_digits(value).to_string() };
        self.shared.look(|seen| {
            let rows = seen.map_or(0, |seen| seen.rows);
            let mut lines =
                vec![("version".to_owned(), rows.to_string()), ("rows learnt".to_owned(), rows.to_string())];
            let Some(seen) = seen else { return lines };
            let names = self.figure_names();
            lines.extend(names.iter().zip(seen.all).map(|(name, value)| (name.replace('_', " "), shown(value))));
            let Some(last) = &seen.last else { return lines };
            let window = format!("last {} rows", self.spec.settings.window_rows);
            lines.extend(
                names
                    .iter()
                    .zip(&last.figures)
                    .map(|(name, value)| (format!("{}, {window}", name.replace('_', " ")), shown(*value))),
            );
            let (psi, input) = greatest(&last.figures[FIGURES..]);
            let of = input.map_or(String::new(), |input| format!(" ({})", self.spec.input.field(input).name()));
            lines.push((format!("psi, {window}"), format!("{}{of}", shown(psi))));
            lines
        })
    }
}

/// The greatest of some numbers and its place; NaN of none.
fn greatest(numbers: &[f64]) -> (f64, Option<usize>) {
    let known = numbers.iter().enumerate().filter(|(_, number)| !number.is_nan());
    let found = known.fold(None, |best: Option<(usize, f64)>, (place, number)| match best {
        Some((_, greatest)) if greatest >= *number => best,
        _ => Some((place, *number)),
    });
    found.map_or((f64::NAN, None), |(place, number)| (number, Some(place)))
}

impl Online for OnlineModel {
    fn learner(&self) -> Box<dyn Learner> {
        Box::new(OnlineLearner::new(&self.spec, &self.shared))
    }

    fn width(&self) -> usize {
        self.spec.labels().max(1)
    }

    fn answers(&self, numbers: Vec<f64>, rows: usize) -> Predictions {
        self.spec.answer.columns(numbers, self.width(), rows, Vec::new())
    }

    fn targets(&self, labels: &ArrayRef) -> eagre_engine::Result<Vec<std::result::Result<f64, Arc<str>>>> {
        let null: Arc<str> = "its label is null, so it is not learnt".into();
        let Some(classes) = &self.spec.answer.classes else {
            let numbers = cast(labels, &DataType::Float64)?;
            let wrong: Arc<str> = "its label is no finite number, so it is not learnt".into();
            let target = |value: Option<f64>| match value {
                Some(value) if value.is_finite() => Ok(value),
                Some(_) => Err(Arc::clone(&wrong)),
                None => Err(Arc::clone(&null)),
            };
            return Ok(numbers.as_primitive::<Float64Type>().iter().map(target).collect());
        };
        let texts = cast(labels, &DataType::Utf8)?;
        let texts = texts.as_string_opt::<i32>().ok_or_else(|| EngineError::bug("a label became no text"))?;
        let target = |text: Option<&str>| match text {
            Some(text) => {
                classes.labels.iter().position(|label| label == text).map(|place| place as f64).ok_or_else(|| {
                    format!(
                        "its label `{text}` is none of 'labels' ({}), so it is not learnt",
                        classes.labels.join(", ")
                    )
                    .into()
                })
            }
            None => Err(Arc::clone(&null)),
        };
        Ok(texts.iter().map(target).collect())
    }

    fn report_fields(&self) -> Vec<Field> {
        let number = |name: &str| Field::new(name, DataType::Float64, true);
        let mut fields: Vec<Field> = self.figure_names().into_iter().map(number).collect();
        fields.push(number("psi"));
        fields.push(Field::new("psi_input", DataType::Utf8, true));
        fields.push(Field::new("psi_by_input", DataType::Struct(self.by_input()), true));
        fields
    }

    fn reports(&self, reports: &[Report]) -> eagre_engine::Result<Vec<ArrayRef>> {
        let known = |value: f64| (!value.is_nan()).then(|| six_digits(value));
        let column = |place: usize| -> ArrayRef {
            Arc::new(reports.iter().map(|report| known(report.figures[place])).collect::<Float64Array>())
        };
        let mut columns: Vec<ArrayRef> = (0..FIGURES).map(column).collect();
        let greatest: Vec<(f64, Option<usize>)> =
            reports.iter().map(|report| greatest(&report.figures[FIGURES..])).collect();
        columns.push(Arc::new(greatest.iter().map(|(psi, _)| known(*psi)).collect::<Float64Array>()));
        let names = greatest.iter().map(|(_, input)| input.map(|input| self.spec.input.field(input).name().as_str()));
        columns.push(Arc::new(names.collect::<StringArray>()));
        let by_input = (0..self.spec.size.inputs).map(|input| column(FIGURES + input)).collect();
        columns.push(Arc::new(StructArray::try_new(self.by_input(), by_input, None)?));
        Ok(columns)
    }
}
