//! Models of one's own: columns in, columns out, a batch of rows at a time.
//!
//! A [`Model`] is made elsewhere (the room `models` has networks and ONNX graphs) and is asked for a step's rows together. What it answers for a
//! row depends on that row alone: how rows are cut into batches never shows.
//!
//! A row that a model refuses, or answers with something that is no number, is a bad row and not a failure: its prediction is null, and
//! the row goes with a reason to `<view>.errors`. A row with a null among the inputs has a null for an answer, as SQL's functions have; that
//! is no error. [`ask`] does both for every model.
//!
//! A [`ModelSlot`] is what a name means while pipelines run. `CREATE OR REPLACE MODEL` puts another model in. Each pipeline has steps of its own, so each
//! says by its [`StepModels`] from which step on the new one answers: the first that none of its operators has begun, for all its shards and
//! operators alike.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use arrow::array::{Array, ArrayRef, AsArray, StructArray, UInt32Array, new_null_array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, SchemaRef};

pub use self::arrays::filled_by;
use crate::error::{EngineError, Result};
use crate::online::Online;
use crate::type_name::sql_name;

mod arrays;

/// A function of a row's columns that was learnt.
pub trait Model: Send + Sync {
    /// For EXPLAIN and errors, for example `safetensors mlp(3, 16, 2)`.
    fn describe(&self) -> String;

    /// What is asked for: `DOUBLE` columns, and `ARRAY<DOUBLE>` where a column is a sequence.
    fn input(&self) -> &SchemaRef;

    /// What is answered. A classifier answers with label, probability of the label, priority, and the probability of each label.
    fn output(&self) -> &SchemaRef;

    /// The labels of a classifier, in the order of its probabilities.
    fn labels(&self) -> Option<&[String]> {
        None
    }

    /// A hash of all that the answers depend on: two models with one hash answer the same.
    fn hash(&self) -> u64;

    /// Answers for `rows` rows; `inputs` has the columns of [`input`](Self::input) without nulls.
    ///
    /// # Errors
    /// What is no fault of single rows, which are [`Predictions::refused`] instead.
    fn predict(&self, inputs: &[ArrayRef], rows: usize) -> Result<Predictions>;

    /// Whether it asks somebody outside: then it may take its time, and what it answers depends on when it is asked.
    fn waits(&self) -> bool {
        false
    }

    /// How long answers of one that waits are held; `None`: for the step.
    fn cache(&self) -> Option<AnswerCache> {
        None
    }

    /// How it goes on learning, if it does: then it is asked by [`operator::online`](crate::operator::online), and [`predict`](Self::predict) answers by what is
    /// known of it outside of pipelines.
    fn online(&self) -> Option<&dyn Online> {
        None
    }

    /// What a user may want to know beside that: names and values, for `DESCRIBE MODEL`.
    fn details(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

/// How long answers of a model outside are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerCache {
    /// Beyond it the answers that were asked for first are dropped.
    pub rows_max: usize,
    /// An answer is asked for again when it is so old, in processing time; `None`: never.
    pub expire_ms: Option<i64>,
}

/// What a model answers.
#[derive(Debug, Clone)]
pub struct Predictions {
    /// The columns of [`Model::output`]; of a refused row anything.
    pub columns: Vec<ArrayRef>,
    /// The rows that have no answer, ascending.
    pub refused: Vec<Refusal>,
}

/// A row without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The row, from 0.
    pub row: u32,
    /// Why, in a sentence.
    pub reason: String,
}

/// Asks a model for rows that may have nulls: what is null, refused or not a number is null in all columns of the answer. A column of arrays
/// may stand for several inputs ([`filled_by`]); a row whose array has another length is refused.
///
/// # Errors
/// As [`Model::predict`]; an answer that does not have the columns it promised.
pub fn ask(model: &dyn Model, inputs: &[ArrayRef], rows: usize) -> Result<Predictions> {
    let (inputs, misfits) = arrays::columns(model.input(), inputs)?;
    let null = |row: usize| inputs.iter().any(|column| column.is_null(row));
    let has_nulls = inputs.iter().any(|column| column.logical_null_count() > 0);
    let whole: Option<Vec<u32>> = has_nulls.then(|| (0..rows as u32).filter(|row| !null(*row as usize)).collect());
    let answer = match &whole {
        None => model.predict(&inputs, rows)?,
        Some(whole) => {
            let indices = UInt32Array::from(whole.clone());
            let inputs = inputs.iter().map(|column| Ok(take(column, &indices, None)?)).collect::<Result<Vec<_>>>()?;
            model.predict(&inputs, whole.len())?
        }
    };
    let mut answer = spread(model, answer, whole.as_deref(), rows)?;
    answer.refused.extend(misfits);
    answer.refused.sort_by_key(|refusal| refusal.row);
    Ok(answer)
}

/// Makes the answer for the rows `whole` (`None`: for all) that of `rows` rows: the others, and those that are refused or are no numbers, are null.
pub(crate) fn spread(
    model: &dyn Model,
    mut answer: Predictions,
    whole: Option<&[u32]>,
    rows: usize,
) -> Result<Predictions> {
    let asked = whole.map_or(rows, <[u32]>::len);
    let promised = model.output().fields();
    let fits = answer.columns.len() == promised.len()
        && answer
            .columns
            .iter()
            .zip(promised)
            .all(|(column, field)| column.len() == asked && column.data_type() == field.data_type());
    if !fits {
        return Err(EngineError::bug(format!(
            "{} does not answer with the columns that it promised",
            model.describe()
        )));
    }
    for (column, field) in answer.columns.iter().zip(promised) {
        refuse_no_numbers(column, field, &mut answer.refused);
    }
    answer.refused.sort_by_key(|refusal| refusal.row);
    answer.refused.dedup_by_key(|refusal| refusal.row);
    if whole.is_none() && answer.refused.is_empty() {
        return Ok(answer);
    }
    // Where in the answer each row stands.
    let mut places: Vec<Option<u32>> = vec![None; rows];
    let mut refused = answer.refused.iter().map(|refusal| refusal.row).peekable();
    for place in 0..asked as u32 {
        let row = whole.map_or(place, |whole| whole[place as usize]);
        if refused.next_if_eq(&place).is_none() {
            places[row as usize] = Some(place);
        }
    }
    let places = UInt32Array::from(places);
    let spread = |column: &ArrayRef| match asked {
        0 => Ok(new_null_array(column.data_type(), rows)),
        _ => Ok(take(column, &places, None)?),
    };
    answer.columns = answer.columns.iter().map(spread).collect::<Result<Vec<_>>>()?;
    if let Some(whole) = whole {
        answer.refused.iter_mut().for_each(|refusal| refusal.row = whole[refusal.row as usize]);
    }
    Ok(answer)
}

/// What is NaN or infinite is no answer.
fn refuse_no_numbers(column: &ArrayRef, field: &Field, refused: &mut Vec<Refusal>) {
    let mut check = |numbers: &mut dyn Iterator<Item = (usize, f64)>| {
        refused.extend(numbers.filter(|(_, value)| !value.is_finite()).map(|(row, value)| Refusal {
            row: row as u32,
            reason: format!(
                "its output `{}` is {}",
                field.name(),
                if value.is_nan() { "not a number" } else { "infinite" }
            ),
        }));
    };
    match column.data_type() {
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>();
            check(&mut values.iter().enumerate().filter_map(|(row, value)| Some((row, value?))));
        }
        DataType::Float32 => {
            let values = column.as_primitive::<Float32Type>();
            check(&mut values.iter().enumerate().filter_map(|(row, value)| Some((row, f64::from(value?)))));
        }
        DataType::Struct(fields) => {
            let values = column.as_struct();
            for (column, field) in values.columns().iter().zip(fields) {
                refuse_no_numbers(column, field, refused);
            }
        }
        _ => {}
    }
}

/// How the columns of an answer become the one value of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Shape {
    /// The first column: the value of a regressor, the label of a classifier.
    First,
    /// All columns, as the fields of a row.
    Row,
}

impl Shape {
    /// What a model's answer is in this form.
    pub fn data_type(self, output: &SchemaRef) -> DataType {
        match self {
            Self::First => output.field(0).data_type().clone(),
            Self::Row => DataType::Struct(output.fields().iter().map(nullable).collect()),
        }
    }

    /// The one column of an answer of `rows` rows; a row without any answer is null as a whole.
    ///
    /// # Errors
    /// None, where the columns are those of the model.
    pub fn column(self, output: &SchemaRef, columns: Vec<ArrayRef>) -> Result<ArrayRef> {
        match self {
            Self::First => columns.into_iter().next().ok_or_else(|| EngineError::bug("a model without outputs")),
            Self::Row => {
                // Whatever is refused is null in the first column too.
                let nulls = columns.first().and_then(|column| column.logical_nulls());
                let fields = output.fields().iter().map(nullable).collect();
                Ok(Arc::new(StructArray::try_new(fields, columns, nulls)?))
            }
        }
    }
}

fn nullable(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_nullable(true))
}

/// Finds models that a slot has had, by their hash: for replays.
pub type ModelHistory = dyn Fn(u64) -> Result<Arc<dyn Model>> + Send + Sync;

/// A model, and what finds others that its name has meant.
pub type ModelAndHistory = (Arc<dyn Model>, Option<Box<ModelHistory>>);

/// What the name of a model means now.
pub struct ModelSlot {
    name: String,
    state: Mutex<SlotState>,
    history: Option<Box<ModelHistory>>,
    /// Tells slots of one name apart.
    id: u64,
    /// Who asks, as long as they run.
    askers: Mutex<Vec<Weak<Asker>>>,
}

/// As long as it is held, a pipeline asks a model.
#[derive(Debug)]
pub(crate) struct Asker {
    /// About rows that can be taken back: the model must stay, as its answers are to be taken back.
    retracts: bool,
}

struct SlotState {
    current: Arc<dyn Model>,
    /// How often the model has been exchanged.
    generation: u64,
    /// The hashes of all that the name has meant.
    hashes: BTreeSet<u64>,
}

impl fmt::Debug for ModelSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "model `{}`", self.name)
    }
}

impl ModelSlot {
    /// A name and its first model.
    pub fn new(name: impl Into<String>, model: Arc<dyn Model>) -> Self {
        static SLOTS: AtomicU64 = AtomicU64::new(0);
        let state = SlotState { hashes: BTreeSet::from([model.hash()]), current: model, generation: 0 };
        let id = SLOTS.fetch_add(1, Ordering::Relaxed);
        Self { name: name.into(), state: Mutex::new(state), history: None, id, askers: Mutex::default() }
    }

    /// The same name with another model, for those who ask from now on; who has asked this slot goes on with it.
    pub fn successor(&self, model: Arc<dyn Model>) -> Self {
        let next = Self::new(&self.name, model);
        next.state().hashes.extend(&self.state().hashes);
        next
    }

    /// Where models of this name that are no longer held are found.
    pub fn with_history(mut self, history: Box<ModelHistory>) -> Self {
        self.history = Some(history);
        self
    }

    /// The model's name, as created.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn state(&self) -> MutexGuard<'_, SlotState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The model as it is now.
    pub fn current(&self) -> Arc<dyn Model> {
        Arc::clone(&self.state().current)
    }

    fn askers(&self) -> Vec<Arc<Asker>> {
        let mut askers = self.askers.lock().unwrap_or_else(PoisonError::into_inner);
        askers.retain(|asker| asker.strong_count() > 0);
        askers.iter().filter_map(Weak::upgrade).collect()
    }

    /// A pipeline asks as long as it holds what is given; `retracts`: about rows that can be taken back.
    pub(crate) fn bind(&self, retracts: bool) -> Arc<Asker> {
        let asker = Arc::new(Asker { retracts });
        self.askers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&asker));
        asker
    }

    /// Whether a pipeline that runs asks.
    pub fn is_asked(&self) -> bool {
        !self.askers().is_empty()
    }

    /// Another model takes this one's place, for each pipeline from the first step on that none of its operators has begun.
    ///
    /// # Errors
    /// It has other inputs or outputs: whoever asks this one could not ask it. This one is asked about rows that can be taken back, and its
    /// answers would not be found again.
    pub fn replace(&self, model: Arc<dyn Model>) -> Result<()> {
        let before = self.current();
        if before.online().is_some() || model.online().is_some() {
            return Err(EngineError::Plan {
                message: format!(
                    "model `{0}` cannot be exchanged, because one that learns is what its labelled rows made of it; `DROP MODEL {0}` and create it again, \
                     and what asks it too",
                    self.name
                ),
            });
        }
        let types = |schema: &SchemaRef| schema.fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
        let named = |schema: &SchemaRef| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        let shown = |schema: &SchemaRef| {
            let fields =
                schema.fields().iter().map(|field| format!("{} {}", field.name(), sql_name(field.data_type())));
            fields.collect::<Vec<_>>().join(", ")
        };
        let same = types(before.input()) == types(model.input())
            && types(before.output()) == types(model.output())
            && named(before.output()) == named(model.output())
            && before.waits() == model.waits();
        if !same {
            return Err(EngineError::Plan {
                message: format!(
                    "model `{}` is in use and takes ({}) to give ({}); the new one takes ({}) to give ({}), so what asks the one cannot ask \
                     the other; give it a name of its own",
                    self.name,
                    shown(before.input()),
                    shown(before.output()),
                    shown(model.input()),
                    shown(model.output())
                ),
            });
        }
        if self.askers().iter().any(|asker| asker.retracts) {
            return Err(EngineError::Plan {
                message: format!(
                    "model `{}` is asked about rows that can be taken back, and a row is taken back with the answer that it got; ask it about rows that \
                     are only inserted, or drop what asks it and create that again",
                    self.name
                ),
            });
        }
        let mut state = self.state();
        state.generation += 1;
        state.hashes.insert(model.hash());
        state.current = model;
        Ok(())
    }

    /// Whether this name means or has meant, since it was created, the model of a hash.
    pub fn has_had(&self, hash: u64) -> bool {
        self.state().hashes.contains(&hash)
    }

    /// The model of a hash, which this name means or has meant.
    ///
    /// # Errors
    /// It is not known any more.
    pub fn version(&self, hash: u64) -> Result<Arc<dyn Model>> {
        let current = self.current();
        match &self.history {
            _ if current.hash() == hash => Ok(current),
            Some(history) => history(hash),
            None => Err(EngineError::Checkpoint {
                message: format!(
                    "model `{}` is another one than {hash:016x}, which it was when this was written",
                    self.name
                ),
            }),
        }
    }
}

/// Models are held for shards that are so many steps behind the newest.
const STEPS_BEHIND_MAX: u64 = 1_024;

/// Which models answer in which steps of one pipeline: shared by all its operators that ask, on all shards.
#[derive(Debug, Default)]
pub struct StepModels {
    state: Mutex<StepState>,
}

#[derive(Debug, Default)]
struct StepState {
    /// The newest step that an operator has begun.
    newest: u64,
    /// By the id of the slot.
    slots: BTreeMap<u64, Versions>,
}

#[derive(Default)]
struct Versions {
    /// Of the slot, when it was looked at last.
    generation: u64,
    /// By the step from which on they answer.
    models: BTreeMap<u64, Arc<dyn Model>>,
}

impl fmt::Debug for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.models.iter().map(|(step, model)| (step, model.describe()))).finish()
    }
}

impl StepModels {
    /// The model of a step that an operator begins.
    pub fn at(&self, slot: &ModelSlot, step: u64) -> Arc<dyn Model> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.newest;
        state.newest = before.max(step);
        let past = state.newest.saturating_sub(STEPS_BEHIND_MAX);
        let versions = state.slots.entry(slot.id).or_default();
        let (generation, current) = {
            let state = slot.state();
            (state.generation, Arc::clone(&state.current))
        };
        if versions.models.is_empty() {
            versions.models.insert(0, Arc::clone(&current));
        } else if versions.generation != generation {
            versions.models.insert(before + 1, Arc::clone(&current));
        }
        versions.generation = generation;
        while versions.models.keys().nth(1).is_some_and(|second| *second <= past) {
            versions.models.pop_first();
        }
        let begun = versions.models.range(..=step).next_back().or_else(|| versions.models.first_key_value());
        begun.map_or(current, |(_, model)| Arc::clone(model))
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A model that a test can see through: the sum of its inputs.

    use arrow::array::Float64Array;
    use arrow::datatypes::Schema;

    use super::*;

    pub(crate) struct Sum {
        pub(crate) input: SchemaRef,
        pub(crate) output: SchemaRef,
        pub(crate) factor: f64,
    }

    pub(crate) fn sum_of(inputs: usize, factor: f64) -> Arc<dyn Model> {
        let input = (0..inputs).map(|index| Field::new(format!("x{index}"), DataType::Float64, false));
        Arc::new(Sum {
            input: Arc::new(Schema::new(input.collect::<Vec<_>>())),
            output: Arc::new(Schema::new(vec![Field::new("y", DataType::Float64, true)])),
            factor,
        })
    }

    impl Model for Sum {
        fn describe(&self) -> String {
            format!("{} times the sum", self.factor)
        }

        fn input(&self) -> &SchemaRef {
            &self.input
        }

        fn output(&self) -> &SchemaRef {
            &self.output
        }

        fn hash(&self) -> u64 {
            self.factor.to_bits()
        }

        fn predict(&self, inputs: &[ArrayRef], rows: usize) -> Result<Predictions> {
            let value =
                |row: usize| inputs.iter().map(|column| column.as_primitive::<Float64Type>().value(row)).sum::<f64>();
            let sums: Vec<f64> = (0..rows).map(|row| value(row) * self.factor).collect();
            let negative = |(row, sum): (usize, &f64)| {
                (*sum < 0.0).then(|| Refusal { row: row as u32, reason: "the sum is negative".into() })
            };
            let refused = sums.iter().enumerate().filter_map(negative).collect();
            Ok(Predictions { columns: vec![Arc::new(Float64Array::from(sums))], refused })
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Float64Array;

    use super::testing::sum_of;
    use super::*;

    /// A null is a null, a row that cannot be answered is null with its reason, and all others keep their places.
    #[test]
    fn rows_without_an_answer_are_null_and_told() {
        let inputs: Vec<ArrayRef> = vec![
            Arc::new(Float64Array::from(vec![Some(1.0), None, Some(f64::NAN), Some(-5.0), Some(2.0)])),
            Arc::new(Float64Array::from(vec![Some(1.0), Some(1.0), Some(1.0), Some(1.0), Some(3.0)])),
        ];
        let answer = ask(sum_of(2, 10.0).as_ref(), &inputs, 5).expect("it answers");
        let values: Vec<Option<f64>> = answer.columns[0].as_primitive::<Float64Type>().iter().collect();
        assert_eq!(values, [Some(20.0), None, None, None, Some(50.0)]);
        let refused: Vec<(u32, &str)> = answer.refused.iter().map(|r| (r.row, r.reason.as_str())).collect();
        assert_eq!(refused, [(2, "its output `y` is not a number"), (3, "the sum is negative")]);
    }

    /// All that is null is asked of nobody.
    #[test]
    fn only_nulls_give_only_nulls() {
        let inputs: Vec<ArrayRef> = vec![Arc::new(Float64Array::from(vec![None::<f64>, None]))];
        let answer = ask(sum_of(1, 1.0).as_ref(), &inputs, 2).expect("it answers");
        assert_eq!((answer.columns[0].null_count(), answer.refused.len()), (2, 0));
    }

    /// A replaced model answers from one step on, the same for all that ask in a pipeline: never within a step. Each pipeline has its own steps.
    #[test]
    fn another_model_begins_with_a_step() {
        let slot = ModelSlot::new("m", sum_of(1, 1.0));
        let (first, second) = (StepModels::default(), StepModels::default());
        let at = |pipeline: &StepModels, step: u64| f64::from_bits(pipeline.at(&slot, step).hash());
        assert_eq!((at(&first, 4), at(&second, 1_000)), (1.0, 1.0));
        slot.replace(sum_of(1, 2.0)).expect("it fits");
        assert_eq!(
            [at(&first, 3), at(&first, 4), at(&first, 5), at(&first, 4), at(&first, 6)],
            [1.0, 1.0, 2.0, 1.0, 2.0]
        );
        assert_eq!([at(&second, 1_000), at(&second, 1_001)], [1.0, 2.0]);
        assert_eq!(slot.current().hash(), 2f64.to_bits());
        assert!(slot.has_had(1f64.to_bits()) && !slot.has_had(3f64.to_bits()));
        let error = slot.replace(sum_of(2, 1.0)).expect_err("it has two inputs").to_string();
        assert!(error.contains("model `m` is in use and takes (x0 DOUBLE)"), "{error}");
    }
}
