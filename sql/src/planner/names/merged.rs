//! `USING` and `NATURAL`: columns of both sides that become one.
//!
//! DataFusion's planner leaves such a column to the names of its tables: `*` shows it at the place of whichever comes first in the alphabet, and
//! without a qualifier it is the left one, also where the left row is missing. In SQL it comes first in `*`, and is the left one of an inner and a `LEFT` join, the right
//! one of a `RIGHT` join, and whichever is there of a `FULL` join (SQL:2016, 7.10). So the condition is written out here as an `ON`, and the names in scope
//! get an input more, which has the columns that the join made and what each of them is.

use datafusion::sql::sqlparser::ast::{AccessExpr, Expr, Ident, JoinConstraint, JoinOperator, ObjectName, Value};

use super::{Column, Input, Resolver, Scope, last_ident_mut, unknown_column};
use crate::error::Result;
use crate::planner::rows::{and, equal};
use crate::planner::window;

/// Whose value a column has that a join makes of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    Left,
    Right,
    Either,
    /// One side is not seen any more, and the other one keeps its columns.
    OneSide,
}

impl Keeps {
    /// None for joins that merge nothing.
    pub(super) fn of(operator: &JoinOperator) -> Option<Self> {
        Some(match operator {
            JoinOperator::Join(_) | JoinOperator::Inner(_) | JoinOperator::Left(_) | JoinOperator::LeftOuter(_) => {
                Self::Left
            }
            JoinOperator::Right(_) | JoinOperator::RightOuter(_) => Self::Right,
            JoinOperator::FullOuter(_) => Self::Either,
            JoinOperator::LeftSemi(_)
            | JoinOperator::LeftAnti(_)
            | JoinOperator::RightSemi(_)
            | JoinOperator::RightAnti(_) => Self::OneSide,
            _ => return None,
        })
    }
}

/// Whether a join merges columns of inputs that are known in full.
pub(super) fn is_written_out(constraint: &JoinConstraint, inputs: &[Input]) -> bool {
    matches!(constraint, JoinConstraint::Using(_) | JoinConstraint::Natural) && !inputs.iter().any(|input| input.open)
}

/// `value.a.b`.
pub(super) fn field_of(value: Expr, fields: &[Ident]) -> Expr {
    match value {
        value if fields.is_empty() => value,
        Expr::CompoundIdentifier(mut idents) => {
            idents.extend_from_slice(fields);
            Expr::CompoundIdentifier(idents)
        }
        Expr::Identifier(ident) => {
            Expr::CompoundIdentifier(std::iter::once(ident).chain(fields.iter().cloned()).collect())
        }
        value => Expr::CompoundFieldAccess {
            root: Box::new(value),
            access_chain: fields.iter().map(|field| AccessExpr::Dot(Expr::Identifier(field.clone()))).collect(),
        },
    }
}

/// A column of one side of a join: its input's place, the column, what it is in the plan.
type Side = (usize, Column, Expr);

impl Resolver<'_> {
    /// Writes `USING` and `NATURAL` as an `ON`. The inputs from `right` on are joined to those before; what is made one is the input that is given
    /// back, and belongs to no input any more.
    pub(super) fn merge_columns(
        &self,
        constraint: &mut JoinConstraint,
        keeps: Keeps,
        inputs: &mut [Input],
        right: usize,
    ) -> Result<Option<Input>> {
        let pairs = match constraint {
            JoinConstraint::Using(names) => self.named_pairs(names, inputs, right)?,
            _ => {
                let pairs = common_pairs(inputs, right);
                for (part, side) in [(0..right, 0), (right..inputs.len(), 1)] {
                    let scope = Scope { inputs: inputs[part].to_vec(), ..Scope::default() };
                    for pair in &pairs {
                        let (_, column, _) = if side == 0 { &pair.0 } else { &pair.1 };
                        // One that is there twice is ambiguous.
                        self.column(&[Ident::with_quote('"', &column.name)], &scope, true)?;
                    }
                }
                pairs
            }
        };
        let condition = pairs.iter().map(|((.., left), (.., right))| equal(left.clone(), right.clone())).reduce(and);
        *constraint = JoinConstraint::On(condition.unwrap_or_else(|| Expr::value(Value::Boolean(true))));
        if keeps == Keeps::OneSide || pairs.is_empty() {
            return Ok(None);
        }
        let mut made = Input::default();
        for ((left_input, left_column, left), (right_input, right_column, right)) in pairs {
            inputs[left_input].merged.push(left_column.name.clone());
            inputs[right_input].merged.push(right_column.name);
            made.columns.push(left_column);
            made.values.push(match keeps {
                Keeps::Right => right,
                Keeps::Either => window::call("coalesce", vec![left, right]),
                Keeps::Left | Keeps::OneSide => left,
            });
        }
        Ok(Some(made))
    }

    fn named_pairs(&self, names: &mut [ObjectName], inputs: &[Input], right: usize) -> Result<Vec<(Side, Side)>> {
        let side = |ident: &Ident, part: std::ops::Range<usize>| -> Result<Side> {
            let scope = Scope { inputs: inputs[part.clone()].to_vec(), ..Scope::default() };
            let idents = std::slice::from_ref(ident);
            let found = match self.column(idents, &scope, true)? {
                Some(found) => Some(found),
                None => self.column(idents, &scope, false)?,
            };
            let found = found.ok_or_else(|| unknown_column(ident, &scope))?;
            let has = |input: &Input| {
                input.name == found.input.name && input.own_columns().any(|c| c.name == found.column.name)
            };
            let place = scope.inputs.iter().position(has).unwrap_or_default();
            let value = in_plan(&found.input, &found.column);
            Ok((part.start + place, found.column, value))
        };
        let mut pairs = vec![];
        for name in names {
            let ident = last_ident_mut(name)?;
            pairs.push((side(ident, 0..right)?, side(ident, right..inputs.len())?));
        }
        Ok(pairs)
    }
}

/// The columns that both sides have by name, in the order of the left side.
fn common_pairs(inputs: &[Input], right: usize) -> Vec<(Side, Side)> {
    let columns = |part: std::ops::Range<usize>| {
        part.flat_map(|place| inputs[place].shown_columns().map(move |column| (place, column)))
    };
    let of = |(place, column): (usize, &Column)| (place, column.clone(), in_plan(&inputs[place], column));
    let other = |name: &str| columns(right..inputs.len()).find(|(_, column)| column.name == name);
    columns(0..right).filter_map(|left| Some((of(left), of(other(&left.1.name)?)))).collect()
}

/// A column as the planner finds it.
fn in_plan(input: &Input, column: &Column) -> Expr {
    let name = Ident::with_quote('"', &column.name);
    match (input.value_of(column), input.qualifier.as_ref().filter(|_| !input.bare.contains(&column.name))) {
        (Some(value), _) => value.clone(),
        (None, Some(qualifier)) => Expr::CompoundIdentifier(vec![Ident::with_quote('"', qualifier), name]),
        (None, None) => Expr::Identifier(name),
    }
}
