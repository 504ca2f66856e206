//! What the operator is told: conditions, measures, and which columns leave.
//!
//! A condition or a measure is an ordinary expression over *slots*: values that depend on the match, worked out before it is evaluated.

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use eagre_kernels::placed::Placement;
use eagre_patterns::{BadSkip, Overflow, Pattern, Skip, VariableSet};
use std::sync::Arc;

use super::Program;
use crate::aggregate::AggregateFunctionRef;
use crate::error::Place;
use crate::expr::ExprRef;
use crate::operator::over::OrderKey;

/// `CLASSIFIER()` of a row: the column after the input's own in what [`Slot::At`] and [`Slot::Aggregate`] evaluate.
pub const CLASSIFIER: &str = "__classifier";
/// `MATCH_NUMBER()`: the column after that.
pub const MATCH_NUMBER: &str = "__match_number";

/// The columns over which values at rows are evaluated: the input's, [`CLASSIFIER`] (text) and [`MATCH_NUMBER`] (`BIGINT`).
pub fn row_schema(input: &SchemaRef) -> SchemaRef {
    let mut fields: Vec<FieldRef> = input.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(CLASSIFIER, DataType::Utf8, true)));
    fields.push(Arc::new(Field::new(MATCH_NUMBER, DataType::Int64, true)));
    Arc::new(Schema::new(fields))
}

/// A row of a match: `FIRST`, `LAST`, `PREV` and `NEXT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Navigation {
    /// Of the rows of these variables,
    pub variables: VariableSet,
    /// the first one (else the last one),
    pub first: bool,
    /// and from there so many rows of these variables on (`FIRST(A.x, n)`) or back (`LAST(A.x, n)`);
    pub offset: u64,
    /// from that row so many rows of the partition on, or, negative, back (`NEXT`, `PREV`).
    pub shift: i64,
    /// Only rows up to the current one count, and not the whole match. In conditions always.
    pub running: bool,
    /// Of an empty match, which has no rows, the row at which it begins: for values that do not depend on the match. Of a column alone.
    pub or_beginning: bool,
}

/// A value that depends on the match.
#[derive(Debug, Clone)]
pub enum Slot {
    /// A value at a row, null if there is none such. `value` is over [`row_schema`] (the label of the row at which it is evaluated is
    /// null outside of the match).
    At {
        /// Which row.
        row: Navigation,
        /// What of it.
        value: ExprRef,
    },
    /// An aggregate over the rows of some variables. `args` and `filter` are over [`row_schema`].
    Aggregate {
        /// The function.
        function: AggregateFunctionRef,
        /// Its arguments.
        args: Vec<ExprRef>,
        /// `FILTER (WHERE ..)`.
        filter: Option<ExprRef>,
        /// Over which rows.
        variables: VariableSet,
        /// Up to the current row only.
        running: bool,
        /// Where it stands.
        place: Place,
    },
    /// `MATCH_NUMBER()`, a `BIGINT`.
    MatchNumber,
    /// `match_status()`: 'complete' or 'timeout'.
    Status,
}

/// An expression over slots: column `i` of the batch that it is given is `slots[i]`.
#[derive(Debug, Clone)]
pub struct SlotExpr {
    /// Its inputs.
    pub slots: Vec<Slot>,
    /// The columns of the batch.
    pub schema: SchemaRef,
    /// The expression.
    pub expr: ExprRef,
    /// The same for a condition, if it can be written so.
    pub program: Option<SlotProgram>,
    /// Where it stands.
    pub place: Place,
}

/// A condition as a program over slots of its own, none of which reads the label of its row or can fail at a row that is not asked.
#[derive(Debug, Clone)]
pub struct SlotProgram {
    /// What [`Program::Slot`] counts.
    pub slots: Vec<Slot>,
    /// A boolean.
    pub program: Program,
}

/// A value of the same partition some rows on or back.
#[derive(Debug, Clone)]
pub struct Shifted {
    /// So many rows on or, negative, back.
    pub by: i64,
    /// The value, over the input.
    pub value: ExprRef,
}

/// What a row says of a variable by itself, and with rows at fixed distances from it.
#[derive(Debug, Clone)]
pub struct RowCondition {
    /// The columns after the input's own in the batch that `expr` is given.
    pub shifted: Vec<Shifted>,
    /// The columns of that batch.
    pub schema: SchemaRef,
    /// A boolean.
    pub expr: ExprRef,
}

/// The condition of a variable: both parts have to be true.
#[derive(Debug, Clone, Default)]
pub struct Condition {
    /// What rows say; `None`: any row.
    pub row: Option<RowCondition>,
    /// What only the rows matched so far can tell. The current row is the last one of its variable there.
    pub run: Option<SlotExpr>,
}

/// Which rows leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowsPerMatch {
    /// One for each match.
    One,
    /// All rows of each match.
    All {
        /// Whether an empty match is a row.
        show_empty: bool,
        /// Whether rows leave that no match has.
        unmatched: bool,
    },
    /// As from a pattern in a window: the first row of each match, an empty one included, with the measures of all its rows, and the rows
    /// that the skip passes over, with those of no rows. So each row leaves once, where a match may be empty.
    Window,
}

/// A column that leaves.
#[derive(Debug, Clone)]
pub enum OutputColumn {
    /// Of the input: of the current row, or (one row per match: a column of `PARTITION BY`) of any.
    Input(usize),
    /// A measure.
    Measure(SlotExpr),
}

/// A bound in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Within {
    /// The column of time, the first of the order.
    pub column: usize,
    /// The bound, inclusive, in milliseconds for dates and in the unit of the column for timestamps.
    pub units: i64,
}

/// When matches leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchEmit {
    /// When they are final.
    Final,
    /// As soon as they exist; what a later row changes is taken back.
    Changes,
}

/// Where parts of a clause stand, for what goes wrong while rows are matched.
#[derive(Debug, Clone, Default)]
pub struct MatchPlaces {
    /// `PATTERN`.
    pub pattern: Place,
    /// The target of `AFTER MATCH SKIP TO`.
    pub skip: Place,
}

/// A `MATCH_RECOGNIZE` clause, planned.
#[derive(Debug, Clone)]
pub struct MatchSpec {
    /// The rows.
    pub input: SchemaRef,
    /// Whether rows can be taken back.
    pub retracting: bool,
    /// `PARTITION BY`, as columns of the input.
    pub partition: Vec<usize>,
    /// `ORDER BY`; rows that are equal in it are in order of arrival.
    pub order: Vec<OrderKey>,
    /// Whether a watermark speaks of the first column of the order, which is ascending then; otherwise rows wait until the input ends.
    pub by_watermark: bool,
    /// Whether all rows of a partition have the same time there: none comes when the watermark has passed it, so that nothing more is
    /// waited for.
    pub whole_partitions: bool,
    /// How long after the watermark has passed a row it may still come or be taken back.
    pub allowed_lateness_ms: i64,
    /// When matches leave.
    pub emit: MatchEmit,
    /// The pattern.
    pub pattern: Pattern,
    /// Its variables, as `CLASSIFIER()` names them; one without a name is of rows that have no label.
    pub variables: Vec<String>,
    /// Their conditions.
    pub conditions: Vec<Condition>,
    /// `AFTER MATCH SKIP`.
    pub skip: Skip,
    /// Where that is nowhere.
    pub bad_skip: BadSkip,
    /// `WITHIN`.
    pub within: Option<Within>,
    /// `EMIT PARTIAL ON TIMEOUT`.
    pub partial: bool,
    /// How many rows the partial matches of a partition may have.
    pub max_partial: usize,
    /// What happens where there are more.
    pub overflow: Overflow,
    /// Which rows leave.
    pub rows: RowsPerMatch,
    /// The columns that leave, with their names and types.
    pub output: Vec<(FieldRef, OutputColumn)>,
    /// Where its parts stand.
    pub places: MatchPlaces,
    /// Where kernels may run: several patterns over the same rows share one that looks ahead.
    pub placement: Arc<Placement>,
}

impl MatchSpec {
    /// The columns that leave.
    pub fn output_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.output.iter().map(|(field, _)| Arc::clone(field)).collect::<Vec<_>>()))
    }

    /// What `CLASSIFIER()` is of a row of a variable.
    pub(super) fn label(&self, variable: u8) -> Option<&str> {
        Some(self.variables[usize::from(variable)].as_str()).filter(|name| !name.is_empty())
    }

    /// Whether rows leave that are in no match.
    pub(super) fn shows_unmatched(&self) -> bool {
        matches!(self.rows, RowsPerMatch::All { unmatched: true, .. })
    }

    /// Whether some expression reads `MATCH_NUMBER()`: then the number of a partition's matches is kept for as long as the pipeline runs.
    pub fn counts_matches(&self) -> bool {
        let width = self.input.fields().len();
        let reads = |value: &ExprRef| value.as_column().is_none_or(|column| column > width);
        let counts = |slot: &Slot| match slot {
            Slot::MatchNumber => true,
            Slot::Status => false,
            Slot::At { value, .. } => reads(value),
            Slot::Aggregate { args, filter, .. } => args.iter().chain(filter).any(reads),
        };
        let measures = self.output.iter().filter_map(|(_, column)| match column {
            OutputColumn::Measure(measure) => Some(measure),
            OutputColumn::Input(_) => None,
        });
        let conditions = self.conditions.iter().filter_map(|condition| condition.run.as_ref());
        measures.chain(conditions).any(|expr| expr.slots.iter().any(counts))
    }
}
