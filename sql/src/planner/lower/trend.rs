//! Which way the columns of a changelog go, where that makes less work: a count of rows that are only inserted only rises, and its group stays.
//!
//! Of rows that a key identifies, that are replaced but never go ([`Stream::lasting`]), a column may stay as it is, rise or fall
//! ([`StreamColumn::trend`]). Then the greatest of what rises needs no other value kept ([`Trend::of_extreme`]), a top-N from the greatest down
//! no row behind the last (`Lowering::rising_key`), a condition that what rises exceeds something never ceases to hold, and rows of what
//! stays alone are final ([`Lowering::final_rows`]). Flink calls it the modified monotonicity of a relation (`FlinkRelMdModifiedMonotonicity`).

use datafusion::common::DFSchema;
use datafusion::logical_expr::expr::AggregateFunction;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{Expr as LogicalExpr, LogicalPlan, Operator};
use eagre_engine::graph::{ChangelogMode, EdgeInfo, Route};
use eagre_engine::operator::PORT_MAIN;
use eagre_engine::operator::consolidate::ConsolidateFactory;

use super::Lowering;
use super::stream::Stream;
use crate::planner::expr::strip_alias;

/// How a value is replaced. What is not null never becomes null again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::planner) enum Trend {
    /// By the same one.
    Stays,
    /// By one that is no less.
    Rises,
    /// By one that is no greater.
    Falls,
}

impl Trend {
    /// Whether a value is at most replaced by one that comes no later in this order.
    pub(in crate::planner) fn comes_no_later(self, descending: bool) -> bool {
        match self {
            Self::Stays => true,
            Self::Rises => descending,
            Self::Falls => !descending,
        }
    }

    /// Of an aggregate over values that go this way, in rows that are replaced and never go; `None`: it may go either way.
    pub(in crate::planner) fn of_extreme(name: &str, of_values: Self) -> Option<Self> {
        match name {
            "max" | "bool_or" if of_values != Self::Falls => Some(Self::Rises),
            "min" | "bool_and" if of_values != Self::Rises => Some(Self::Falls),
            _ => None,
        }
    }
}

impl Stream {
    /// How the values of an expression are replaced within a row; `None`: nobody knows.
    pub(in crate::planner) fn trend_of(&self, expr: &LogicalExpr, schema: &DFSchema) -> Option<Trend> {
        let of_column = |column| {
            let index = schema.index_of_column(column).ok()?;
            if self.changelog == ChangelogMode::AppendOnly { Some(Trend::Stays) } else { self.columns[index].trend }
        };
        if self.changelog != ChangelogMode::AppendOnly && !self.lasting {
            return None;
        }
        match strip_alias(expr) {
            LogicalExpr::Column(column) => of_column(column),
            expr if expr.is_volatile() => None,
            expr => {
                let stays = expr.column_refs().into_iter().all(|column| of_column(column) == Some(Trend::Stays));
                stays.then_some(Trend::Stays)
            }
        }
    }

    /// How the result of an aggregate over the rows of a group goes, none of which leaves it.
    pub(in crate::planner) fn trend_of_call(&self, call: &AggregateFunction, schema: &DFSchema) -> Option<Trend> {
        let params = &call.params;
        let of = |expr: &LogicalExpr| self.trend_of(expr, schema);
        if params.filter.as_ref().is_some_and(|filter| of(filter) != Some(Trend::Stays)) {
            return None;
        }
        let args: Vec<Trend> = params.args.iter().map(of).collect::<Option<_>>()?;
        match (call.func.name(), args.as_slice()) {
            ("count", args) if !params.distinct || args.iter().all(|arg| *arg == Trend::Stays) => Some(Trend::Rises),
            (name, [arg]) => Trend::of_extreme(name, *arg),
            _ => None,
        }
    }

    /// Whether no row stops meeting a condition that it has met.
    pub(in crate::planner) fn meets_for_good(&self, condition: &LogicalExpr, schema: &DFSchema) -> bool {
        let of = |expr: &LogicalExpr| self.trend_of(expr, schema);
        split_conjunction(condition).into_iter().all(|condition| match condition {
            LogicalExpr::IsNotNull(value) => of(value).is_some(),
            LogicalExpr::BinaryExpr(binary) => {
                let exceeds = |less: &LogicalExpr, more: &LogicalExpr| {
                    of(more).is_some_and(|trend| trend.comes_no_later(true))
                        && of(less).is_some_and(|trend| trend.comes_no_later(false))
                };
                match binary.op {
                    Operator::Gt | Operator::GtEq => exceeds(&binary.right, &binary.left),
                    Operator::Lt | Operator::LtEq => exceeds(&binary.left, &binary.right),
                    _ => of(condition) == Some(Trend::Stays),
                }
            }
            _ => of(condition) == Some(Trend::Stays),
        })
    }
}

impl Lowering<'_> {
    /// Where all columns stay and no row goes, a row comes once: when another column of it is replaced, that is no news.
    pub(super) fn final_rows(&mut self, mut stream: Stream, plan: &LogicalPlan) -> Stream {
        let stays = stream.columns.iter().all(|column| column.trend == Some(Trend::Stays));
        if !stream.lasting || !stays || stream.changelog != ChangelogMode::Upsert || stream.pending.is_some() {
            return stream;
        }
        self.narrow(&mut stream);
        // Rows with a MAP cannot be compared, and stay a changelog.
        let Ok(factory) = ConsolidateFactory::new(stream.physical.clone()) else { return stream };
        let Some(key) = stream.key.clone() else { return stream };
        let from = self.flush(&mut stream, plan);
        let output = EdgeInfo { changelog: ChangelogMode::AppendOnly, ..stream.output_info() };
        let id = self.id("final rows", plan, &stream.tables);
        let detail = "rows that stay".to_string();
        let node = self.push_operator(id, factory.into_final(), from, Route::Hash(key), output, detail, "");
        stream.leave((node, PORT_MAIN));
        stream.changelog = ChangelogMode::AppendOnly;
        stream.retracts_because = None;
        stream.consolidated = true;
        stream
    }
}
