//! `predict(m, ..)` and `classify(m, ..)`: what a model says of a row.
//!
//! A streaming query runs them as the engine's `Predict`, which tells what the model refuses. The function here is what they mean: it checks
//! types, and answers over finished rows, where what is refused is null.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DataFusionError, Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use eagre_engine::arrays::{array_type, item_of};
use eagre_engine::model::{ModelSlot, Shape, ask, filled_by};

use crate::types::sql_name;

/// What of a model's answer is wanted, by the name of the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Wanted {
    /// `predict`: the value, the label, or a row of several values.
    Value,
    /// `classify`: label, probability, priority and probabilities, of a classifier.
    Classes,
    /// `ML_PREDICT`: all columns.
    All,
}

impl Wanted {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Value => "predict",
            Self::Classes => "classify",
            Self::All => "ml_predict",
        }
    }
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct Predict {
    pub(crate) model: Arc<ModelSlot>,
    pub(crate) wanted: Wanted,
    signature: Signature,
}

impl PartialEq for Predict {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.model, &other.model) && self.wanted == other.wanted
    }
}

impl Eq for Predict {}

impl std::hash::Hash for Predict {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.model.name(), self.wanted).hash(state);
    }
}

impl Predict {
    pub(crate) fn new(model: Arc<ModelSlot>, wanted: Wanted) -> Self {
        Self { model, wanted, signature: Signature::user_defined(Volatility::Immutable) }
    }

    /// How many columns the model reads; a call of one that goes on learning has the time of the row behind them.
    pub(crate) fn inputs(&self) -> usize {
        self.model.current().input().fields().len()
    }

    /// In what form the answer is given.
    pub(crate) fn shape(&self) -> Shape {
        let model = self.model.current();
        match self.wanted {
            Wanted::Value if model.labels().is_some() || model.output().fields().len() == 1 => Shape::First,
            _ => Shape::Row,
        }
    }

    fn display(&self, args: &[Expr], text: impl Fn(&Expr) -> String) -> String {
        let mut shown = format!("{}({}", self.wanted.name(), self.model.name());
        for arg in args.iter().take(self.inputs()) {
            let _ = write!(shown, ", {}", text(arg));
        }
        shown.push(')');
        shown
    }
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric() || matches!(data_type, DataType::Boolean | DataType::Null)
}

/// Whether values of a type are turned into what an input reads.
fn fits(read: &DataType, given: &DataType) -> bool {
    match read {
        DataType::List(read) => {
            item_of(given).map_or(*given == DataType::Null, |given| fits(read.data_type(), given.data_type()))
        }
        // A service may read texts; what is none is written as one.
        DataType::Utf8 => {
            !given.is_nested() && !matches!(given, DataType::Binary | DataType::BinaryView | DataType::LargeBinary)
        }
        DataType::Int64 => given.is_integer() || matches!(given, DataType::Boolean | DataType::Null),
        DataType::Boolean => matches!(given, DataType::Boolean | DataType::Null),
        _ => is_number(given),
    }
}

impl ScalarUDFImpl for Predict {
    fn name(&self) -> &str {
        self.wanted.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn display_name(&self, args: &[Expr]) -> Result<String> {
        Ok(self.display(args, ToString::to_string))
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        Ok(self.display(args, |arg| arg.schema_name().to_string()))
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let (model, name) = (self.model.current(), self.model.name());
        if self.wanted == Wanted::Classes && model.labels().is_none() {
            return plan_err!(
                "model `{name}` has no labels, so it classifies nothing; create it with 'labels' = 'a, b', or call `predict({name}, ..)`"
            );
        }
        let expected = model.input().fields();
        let timed = model.online().is_some()
            && arg_types.len() == expected.len() + 1
            && matches!(arg_types.last(), Some(DataType::Timestamp(..)));
        let (arg_types, time) = if timed { arg_types.split_at(expected.len()) } else { (arg_types, &[][..]) };
        let Some(filled) = filled_by(model.input(), arg_types) else {
            let names = expected.iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ");
            let hint = match arg_types.iter().filter(|given| item_of(given).is_some()).count() {
                0 => "",
                1 => "; an ARRAY fills the numbers that the others leave",
                _ => "; one ARRAY can fill the numbers that the others leave, of several nobody knows which",
            };
            return plan_err!(
                "model `{name}` reads {} columns ({names}), and is asked about {}{hint}",
                expected.len(),
                arg_types.len()
            );
        };
        let coerced = arg_types.iter().zip(filled).map(|(given, inputs)| {
            let field = &expected[inputs.start];
            if let Some(item) = item_of(given)
                && *field.data_type() == DataType::Float64
            {
                if model.waits() || model.online().is_some() {
                    let read = if model.waits() { ", or have it read an array (`INPUT (v ARRAY<DOUBLE>)`)" } else { "" };
                    return plan_err!("model `{name}` is asked about single values, and `{}` is given {}; take its numbers out (`v[1], v[2]`){read}", field.name(), sql_name(given));
                }
                if is_number(item.data_type()) {
                    return Ok(array_type());
                }
            }
            match fits(field.data_type(), given) {
                true => Ok(field.data_type().clone()),
                false => plan_err!(
                    "input `{}` of model `{name}` is {}, and is given {}; turn it into that (`CASE WHEN kind = 'a' THEN 1 ELSE 0 END`)",
                    field.name(),
                    sql_name(field.data_type()),
                    sql_name(given)
                ),
            }
        });
        coerced.chain(time.iter().map(|time| Ok(time.clone()))).collect()
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        Ok(self.shape().data_type(self.model.current().output()))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
        Ok(Arc::new(Field::new(self.name(), self.return_type(&types)?, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let model = self.model.current();
        let mut inputs = Vec::with_capacity(args.args.len());
        for arg in args.args.into_iter().take(self.inputs()) {
            inputs.push(arg.into_array(rows)?);
        }
        let failed = |error: eagre_engine::EngineError| DataFusionError::External(Box::new(error));
        let answer = ask(model.as_ref(), &inputs, rows).map_err(failed)?;
        Ok(ColumnarValue::Array(self.shape().column(model.output(), answer.columns).map_err(failed)?))
    }
}
