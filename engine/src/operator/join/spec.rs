//! What a join is asked to do, and what follows from it: which columns are kept, which rows are counted, which are let go.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

use crate::error::{EngineError, Result};
use crate::expr::ExprRef;

/// Which rows come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum JoinKind {
    /// Pairs.
    Inner,
    /// Pairs, and left rows without a match beside nulls.
    Left,
    /// Pairs, and right rows without a match beside nulls.
    Right,
    /// Pairs, and rows of both sides without a match beside nulls.
    Full,
    /// Left rows with a match, once.
    LeftSemi,
    /// Left rows without a match.
    LeftAnti,
    /// Right rows with a match, once.
    RightSemi,
    /// Right rows without a match.
    RightAnti,
    /// Every left row once, with a column that says whether it has a match.
    LeftMark,
}

impl JoinKind {
    /// Whether pairs come out.
    pub(super) fn pairs(self) -> bool {
        matches!(self, Self::Inner | Self::Left | Self::Right | Self::Full)
    }

    /// What the rows of a side mean beyond their pairs.
    pub(super) fn role(self, side: usize) -> Role {
        match (self, side) {
            (Self::Left | Self::Full, 0) | (Self::Right | Self::Full, 1) => Role::Padded,
            (Self::LeftSemi, 0) | (Self::RightSemi, 1) => Role::Semi,
            (Self::LeftAnti, 0) | (Self::RightAnti, 1) => Role::Anti,
            (Self::LeftMark, 0) => Role::Mark,
            _ => Role::Matched,
        }
    }
}

/// One input of a join.
#[derive(Debug, Clone)]
pub struct JoinSide {
    /// The columns.
    pub schema: SchemaRef,
    /// The key columns, pairwise with the other side's and of the same types. None: every row meets every row.
    pub keys: Vec<usize>,
    /// Whether deltas may carry weights.
    pub retracting: bool,
    /// Over the side's columns, an Int64 in milliseconds: the row can meet no row to come once the watermark is beyond it, and is then
    /// freed. Where it is null, the row matches nothing. `None`: the watermark lets no row go.
    pub expires_at: Option<ExprRef>,
    /// When a row comes too late, because what it would meet may have been let go.
    pub late: Option<JoinLate>,
    /// Where the watermark lets no row go: rows that were not touched for so many milliseconds of processing time are forgotten.
    pub ttl_ms: Option<i64>,
}

/// Which rows of a side are late.
#[derive(Debug, Clone)]
pub struct JoinLate {
    /// Over the side's columns, an Int64 in milliseconds: the row is late when the watermark at the step's start was beyond it.
    pub limit: ExprRef,
    /// The column that is reported as the event time of late rows.
    pub event_time: Option<usize>,
}

/// What a join does.
#[derive(Debug, Clone)]
pub struct JoinSpec {
    /// Which rows come out.
    pub kind: JoinKind,
    /// Input port 0.
    pub left: JoinSide,
    /// Input port 1.
    pub right: JoinSide,
    /// Keys compare as `IS NOT DISTINCT FROM`; else a row with a null among its keys matches nothing.
    pub null_equals_null: bool,
    /// A further condition.
    pub residual: Option<JoinResidual>,
    /// Which columns of `(left.., right..[, mark])` come out, in that order. Of a semi or anti join only the kept side's can.
    pub output: Vec<usize>,
    /// Outer and anti joins: a row without a match is shown only when it expires, instead of at once and taken back later.
    pub unmatched_on_expiry: bool,
}

/// A condition beyond equal keys.
#[derive(Debug, Clone)]
pub struct JoinResidual {
    /// A boolean over a batch of exactly `columns`, in that order.
    pub expr: ExprRef,
    /// Columns of `(left.., right..)`.
    pub columns: Vec<usize>,
}

/// What the rows of a side mean beyond their pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Nothing.
    Matched,
    /// Without a match they come out beside nulls.
    Padded,
    /// They come out where they have a match.
    Semi,
    /// They come out where they have none.
    Anti,
    /// They come out with a mark.
    Mark,
}

impl Role {
    /// Whether matches are counted for each row.
    pub(super) fn counts(self) -> bool {
        self != Self::Matched
    }

    /// Whether a row without a match comes out.
    pub(super) fn shows_unmatched(self) -> bool {
        matches!(self, Self::Padded | Self::Anti | Self::Mark)
    }

    /// Whether a row with a match comes out by itself.
    pub(super) fn shows_matched(self) -> bool {
        matches!(self, Self::Semi | Self::Mark)
    }
}

/// Names of the columns that a side keeps beside its rows.
const EXPIRES: &str = "__expires";
const MATCHES: &str = "__matches";

/// A [`JoinSpec`] with what follows from it.
pub(super) struct Plan {
    pub(super) pairs: bool,
    pub(super) sides: [SidePlan; 2],
    pub(super) key_types: Vec<DataType>,
    pub(super) null_equals_null: bool,
    pub(super) residual: Option<Residual>,
    pub(super) output: SchemaRef,
    pub(super) columns: Vec<OutputColumn>,
    pub(super) on_expiry: bool,
    /// The output has weights.
    pub(super) updating: bool,
}

/// A residual over kept columns.
pub(super) struct Residual {
    pub(super) expr: ExprRef,
    pub(super) schema: SchemaRef,
    /// `(side, kept column)`.
    pub(super) columns: Vec<(usize, usize)>,
}

/// Where a column of the output comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum OutputColumn {
    Kept { side: usize, column: usize },
    Mark,
}

/// One side of a [`Plan`].
pub(super) struct SidePlan {
    pub(super) role: Role,
    pub(super) retracting: bool,
    pub(super) expires_at: Option<ExprRef>,
    pub(super) late: Option<JoinLate>,
    pub(super) ttl_ms: Option<i64>,
    /// The input's key columns.
    pub(super) input_keys: Vec<usize>,
    /// The input's column of each kept column.
    pub(super) inputs: Vec<usize>,
    /// The key columns among the kept ones.
    pub(super) keys: Vec<usize>,
    /// The kept columns that come out.
    pub(super) output: Vec<usize>,
    /// The kept columns, and where rows are found again by their columns and expire, when they do: two rows that are equal in what is
    /// kept may differ in that.
    pub(super) stored: SchemaRef,
    /// The columns of a checkpoint: the kept ones, when they expire, how many matches they have.
    pub(super) logged: SchemaRef,
    /// The other side only inserts: the first match is as good as many.
    pub(super) saturates: bool,
    /// A row with a match is done with: nothing can change it any more.
    pub(super) settles: bool,
    /// Matches cannot be counted again from the rows of a checkpoint, because the other side's may have been freed.
    pub(super) logs_matches: bool,
    /// A checkpoint tells of rows what they are, and not what was done to them: how many matches they have, or until when they live.
    pub(super) logs_rows: bool,
    /// Of rows of one key one is as good as all: nothing of them comes out, and only that one is there is asked.
    pub(super) first_of_key: bool,
    /// Rows leave.
    pub(super) shrinks: bool,
}

impl SidePlan {
    /// Whether time lets rows go.
    pub(super) fn expires(&self) -> bool {
        self.expires_at.is_some() || self.ttl_ms.is_some()
    }

    /// Whether it is no part of a stored row when it expires.
    pub(super) fn expires_apart(&self) -> bool {
        self.ttl_ms.is_some() || self.expires_at.is_some() && !self.retracting
    }

    /// The kept columns alone.
    pub(super) fn kept(&self) -> usize {
        self.inputs.len()
    }
}

impl Plan {
    pub(super) fn new(spec: JoinSpec) -> Result<Self> {
        let JoinSpec { kind, left, right, null_equals_null, residual, output, unmatched_on_expiry } = spec;
        let key_types = key_types(&left, &right)?;
        let width = left.schema.fields().len();
        let total = width + right.schema.fields().len();
        let side_of = |column: usize| if column < width { (0, column) } else { (1, column - width) };
        let place = |column: usize| match column < total {
            true => Ok(side_of(column)),
            false => Err(EngineError::bug(format!("a join of {total} columns has no column {column}"))),
        };

        let mut kept: [Kept; 2] = [Kept::default(), Kept::default()];
        for (kept, side) in kept.iter_mut().zip([&left, &right]) {
            side.keys.iter().for_each(|key| {
                kept.place(*key);
            });
        }
        let (mut columns, mut fields): (_, Vec<FieldRef>) = (Vec::new(), Vec::new());
        for column in &output {
            if *column == total && kind == JoinKind::LeftMark {
                columns.push(OutputColumn::Mark);
                fields.push(Arc::new(Field::new("mark", DataType::Boolean, false)));
                continue;
            }
            let (side, input) = place(*column)?;
            if !kind.pairs() && !kind.role(side).counts() {
                return Err(EngineError::bug(format!("a {kind:?} join has no column of its other side to show")));
            }
            let field = [&left, &right][side].schema.fields()[input].clone();
            // Beside a row of the other side that has no match there are nulls.
            let padded = kind.role(1 - side) == Role::Padded && !field.is_nullable();
            fields.push(if padded { Arc::new(field.as_ref().clone().with_nullable(true)) } else { field });
            columns.push(OutputColumn::Kept { side, column: kept[side].place(input) });
        }
        let residual = match residual {
            None => None,
            Some(JoinResidual { expr, columns }) => {
                let places = columns.iter().map(|column| place(*column)).collect::<Result<Vec<_>>>()?;
                let field = |(side, input): &(usize, usize)| [&left, &right][*side].schema.fields()[*input].clone();
                let schema = Arc::new(Schema::new(places.iter().map(field).collect::<Vec<_>>()));
                let columns = places.into_iter().map(|(side, input)| (side, kept[side].place(input))).collect();
                Some(Residual { expr, schema, columns })
            }
        };

        let retracting = left.retracting || right.retracting;
        if [&left, &right].iter().any(|side| side.expires_at.is_some() && side.ttl_ms.is_some()) {
            return Err(EngineError::bug("rows that the watermark lets go need no TTL"));
        }
        let expires = [&left, &right].map(|side| side.expires_at.is_some() || side.ttl_ms.is_some());
        let timed = [left.expires_at.is_some(), right.expires_at.is_some()];
        let shows_unmatched = (0..2).any(|side| kind.role(side).shows_unmatched());
        if unmatched_on_expiry && (0..2).any(|side| kind.role(side).shows_unmatched() && !timed[side]) {
            return Err(EngineError::bug("rows that never expire cannot be shown when they do"));
        }
        let [left_kept, right_kept] = kept;
        let compares_keys = !kind.pairs() && residual.is_none();
        let side = |index: usize, side: JoinSide, kept: Kept, other_retracts: bool| {
            let role = kind.role(index);
            let settles = !retracting && role.counts() && !kind.pairs();
            let mut output = Vec::new();
            for column in &columns {
                if let OutputColumn::Kept { side, column } = column
                    && *side == index
                    && !output.contains(column)
                {
                    output.push(*column);
                }
            }
            let mut fields: Vec<FieldRef> = kept.0.iter().map(|input| side.schema.fields()[*input].clone()).collect();
            let extra = |name: &str| Arc::new(Field::new(name, DataType::Int64, false));
            let logs_matches = role.counts() && expires[1 - index];
            let mut stored = fields.clone();
            if expires[index] {
                fields.push(extra(EXPIRES));
                if side.retracting && side.expires_at.is_some() {
                    stored.push(extra(EXPIRES));
                }
            }
            if logs_matches {
                fields.push(extra(MATCHES));
            }
            SidePlan {
                role,
                retracting: side.retracting,
                keys: side.keys.iter().map(|key| kept.find(*key)).collect(),
                input_keys: side.keys,
                inputs: kept.0,
                output,
                stored: Arc::new(Schema::new(stored)),
                logged: Arc::new(Schema::new(fields)),
                saturates: !other_retracts,
                settles,
                logs_matches,
                first_of_key: compares_keys && !role.counts() && !side.retracting && !expires[index],
                logs_rows: logs_matches || side.retracting && side.ttl_ms.is_some(),
                shrinks: side.retracting || expires[index] || settles,
                expires_at: side.expires_at,
                late: side.late,
                ttl_ms: side.ttl_ms,
            }
        };
        let (left_retracts, right_retracts) = (left.retracting, right.retracting);
        let sides = [side(0, left, left_kept, right_retracts), side(1, right, right_kept, left_retracts)];
        Ok(Self {
            pairs: kind.pairs(),
            sides,
            key_types,
            null_equals_null,
            residual,
            output: Arc::new(Schema::new(fields)),
            columns,
            on_expiry: unmatched_on_expiry,
            updating: retracting || shows_unmatched && !unmatched_on_expiry,
        })
    }
}

fn key_types(left: &JoinSide, right: &JoinSide) -> Result<Vec<DataType>> {
    let types = |side: &JoinSide| -> Vec<DataType> {
        side.keys.iter().map(|key| side.schema.field(*key).data_type().clone()).collect()
    };
    let (types, others) = (types(left), types(right));
    match types == others {
        true => Ok(types),
        false => Err(EngineError::bug(format!("keys of types {types:?} are joined with keys of types {others:?}"))),
    }
}

/// The input columns that a side keeps.
#[derive(Default)]
struct Kept(Vec<usize>);

impl Kept {
    /// The kept column of an input column, from now on.
    fn place(&mut self, input: usize) -> usize {
        self.0.iter().position(|kept| *kept == input).unwrap_or_else(|| {
            self.0.push(input);
            self.0.len() - 1
        })
    }

    fn find(&self, input: usize) -> usize {
        self.0.iter().position(|kept| *kept == input).expect("keys were placed first")
    }
}
