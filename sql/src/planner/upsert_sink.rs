//! Sinks that replace rows by key.
//!
//! Such a sink shows one row of each `PRIMARY KEY`. Where the query's own key says that there is only one, changes go to it as they are. Where it does
//! not, several rows of a key may be there at once, and when the one that is shown goes another one has to stand in its place, which the sink
//! does not know any more. So an operator before it keeps all rows of each key and shows the greatest: a function of the rows that are
//! there, whatever the steps (Flink's `SinkUpsertMaterializer` shows the last one to come, which two shards would not agree on).

use datafusion::logical_expr::LogicalPlan;
use eagre_engine::graph::{ChangelogMode, EdgeInfo, Route};
use eagre_engine::operator::PORT_MAIN;
use eagre_engine::operator::top_n::{RankFunction, SortColumn, Ties, TopNFactory, TopNSpec};

use super::insert::Target;
use super::lower::{Lowering, Stream, engine};
use super::state_ttl::{ADVICE, duration};
use crate::error::Result;

/// Gives a sink that replaces rows by key one row of each.
///
/// # Errors
/// Those of the operator that keeps the rows.
pub(super) fn one_row_of_each_key(
    lowering: &mut Lowering<'_>,
    stream: &mut Stream,
    plan: &LogicalPlan,
    target: &Target,
) -> Result<()> {
    let Some(key) = target.factory.replaces_by() else { return Ok(()) };
    if stream.changelog == ChangelogMode::AppendOnly {
        // The last to arrive stands.
        if stream.ordered {
            stream.require_ordinals();
        }
        return Ok(());
    }
    if stream.key.as_ref().is_some_and(|unique| unique.iter().all(|column| key.contains(column))) {
        return Ok(());
    }
    lowering.flush(stream, plan);
    let field = |column: &usize| stream.physical.field(*column);
    let names = key.iter().map(|column| field(column).name().as_str()).collect::<Vec<_>>().join(", ");
    let ttl_ms = lowering.ttl_of(plan);
    let bound = match ttl_ms {
        Some(ttl_ms) => format!("for {} by TTL", duration(ttl_ms)),
        None if stream.bounded => "until the input ends".to_string(),
        None => "for ever".to_string(),
    };
    let unbounded =
        if ttl_ms.is_none() && !stream.bounded { format!("; to bound its state, {ADVICE}") } else { String::new() };
    lowering.notice(format!(
        "`{0}` replaces rows by its PRIMARY KEY ({names}), and it cannot be seen from the query that this identifies its rows: every row is \
         kept {bound}, and of several rows of one key the greatest is shown; without 'changelog.mode' = 'upsert' `{0}` holds them all{unbounded}",
        target.table
    ));
    // What cannot be compared does not decide.
    let others = (0..stream.physical.fields().len()).filter(|column| !key.contains(column));
    let compared = others.filter(|column| !field(column).data_type().is_nested());
    let spec = TopNSpec {
        partition: key.to_vec(),
        order: compared.map(|column| SortColumn { column, descending: true, nulls_first: false }).collect(),
        function: RankFunction::RowNumber,
        first: 1,
        last: 1,
        rank_column: None,
        window: None,
        retracting: true,
        ties: Ties::ByRow,
    };
    if ttl_ms.is_some() {
        lowering.consolidate(stream, plan);
    }
    let from = stream.from();
    let factory = TopNFactory::new(spec, stream.physical.clone()).map_err(engine)?.with_ttl(ttl_ms);
    let id = lowering.id("one row of each primary key", plan, &stream.tables);
    let output = EdgeInfo {
        schema: factory.output_schema(),
        changelog: ChangelogMode::Upsert,
        key: Some(key.to_vec()),
        time_column: None,
        ordinals: false,
    };
    let detail = format!("the greatest row of each primary key ({names}) of {}", target.table);
    let state = format!("every row, {bound}");
    let index = lowering.push_operator(id, factory, from, Route::Hash(key.to_vec()), output, detail, &state);
    let columns = stream.columns.clone();
    *stream = lowering.stream_after(stream, index, columns);
    debug_assert_eq!(stream.from, (index, PORT_MAIN));
    stream.consolidated = true;
    Ok(())
}
