//! `INSERT INTO .. SELECT .. ORDER BY`: the rows of input that ends are written in an order, those of a stream in one that begins with their time.

use std::sync::Arc;

use arrow::compute::SortOptions;
use datafusion::logical_expr::{Expr, LogicalPlan, Sort, SortExpr};
use eagre_engine::graph::{ChangelogMode, EdgeInfo, Route};
use eagre_engine::operator::over::OrderKey;
use eagre_engine::operator::sort::SortFactory;

use super::{Lowering, Stream, engine};
use crate::error::Result;
use crate::planner::expr::short_text;

impl Lowering<'_> {
    /// The rows in the order in which they go to a sink.
    pub(super) fn lower_sorted(&mut self, sort: &Sort, plan: &LogicalPlan) -> Result<Stream> {
        let input = sort.input.as_ref();
        self.above.keeps_arrival = true;
        let mut stream = self.lower(input)?;
        if !stream.bounded {
            return self.lower_sorted_stream(stream, sort, plan);
        }
        if stream.changelog != ChangelogMode::AppendOnly {
            self.notice(
                "what is written are changes of rows, as they come: the ORDER BY, which has no LIMIT, says nothing of them"
                    .to_string(),
            );
            return Ok(stream);
        }
        if stream.pending.is_some() {
            stream = self.assign_windows(stream, input)?;
        }
        self.narrow(&mut stream);
        let mut order = self.keys_of(&mut stream, sort)?;
        // Steps and shards do not show in the order of rows that the keys do not tell apart.
        self.keep_arrival(&mut stream);
        let tie = stream.arrival.unwrap_or_else(|| self.add_contents(&mut stream));
        order.push(OrderKey::ascending(tie));
        let from = self.flush(&mut stream, input);
        let schema = Arc::clone(&stream.physical);
        let factory = SortFactory::new(Arc::clone(&schema), order).map_err(engine)?;
        let direction = |sort: &SortExpr| if sort.asc { "" } else { " DESC" };
        let keys = sort.expr.iter().map(|sort| format!("{}{}", short_text(&sort.expr), direction(sort)));
        let detail = format!("order=[{}]", keys.collect::<Vec<_>>().join(", "));
        let id = self.id("sort", plan, &stream.tables);
        let output = EdgeInfo {
            schema,
            changelog: ChangelogMode::AppendOnly,
            key: stream.key.clone(),
            time_column: None,
            ordinals: false,
        };
        let route = Route::Hash(Vec::new());
        let bound = "all rows, until the input ends";
        let node = self.push_operator(id, factory, from, route, output, detail, bound);
        let mut columns = stream.columns.clone();
        columns.iter_mut().for_each(|column| column.rowtime = false);
        Ok(self.stream_after(&stream, node, columns))
    }

    /// The same of rows that do not end: they leave as their time passes.
    fn lower_sorted_stream(&mut self, mut stream: Stream, sort: &Sort, plan: &LogicalPlan) -> Result<Stream> {
        if stream.pending.is_some() {
            stream = self.assign_windows(stream, &sort.input)?;
        }
        self.narrow(&mut stream);
        let order = self.keys_of(&mut stream, sort)?;
        self.in_order_of_time(stream, plan, order)
    }

    /// The keys of an order, as columns of the stream.
    fn keys_of(&mut self, stream: &mut Stream, sort: &Sort) -> Result<Vec<OrderKey>> {
        let exprs: Vec<&Expr> = sort.expr.iter().map(|key| &key.expr).collect();
        let places = self.physical_columns(stream, sort.input.schema(), &exprs)?;
        let key = |(column, sort): (usize, &SortExpr)| OrderKey {
            column,
            options: SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first },
        };
        Ok(places.into_iter().zip(&sort.expr).map(key).collect())
    }
}
