//! What no operator runs yet is refused before anything is planned, by its name and at its place.
//!
//! DataFusion's planner refuses some of it without a place and takes the rest in silence (it drops `TABLESAMPLE` and
//! `FOR SYSTEM_TIME`), so it is not asked.

use datafusion::sql::sqlparser::ast::Query;

use crate::error::{Result, SqlError};
use crate::parser::{Construct, find_constructs};

/// Refuses the first construct of the text that cannot run.
pub(super) fn constructs(query: &Query) -> Result<()> {
    for (construct, location) in find_constructs(query) {
        if let Some(hint) = refusal(construct) {
            return Err(SqlError::unsupported(construct.to_string(), hint, location));
        }
    }
    Ok(())
}

/// `Some(hint)` where the construct cannot run.
fn refusal(construct: Construct) -> Option<&'static str> {
    match construct {
        Construct::UnionAll
        | Construct::Union
        | Construct::Distinct
        | Construct::GroupingSets
        | Construct::Unnest
        | Construct::Join
        | Construct::CommaJoin
        | Construct::CrossJoin
        | Construct::Lateral
        | Construct::Subquery
        | Construct::AsOfJoin
        | Construct::SystemTime
        | Construct::OrderBy
        | Construct::SubqueryOrderBy
        | Construct::Over
        | Construct::Qualify
        | Construct::DistinctOn
        | Construct::Intersect
        | Construct::Except
        | Construct::SubqueryLimit
        | Construct::RecursiveCte
        | Construct::Pivot
        | Construct::Unpivot
        | Construct::Limit => None,
        Construct::TableSample => Some("filter with `random() < ..`"),
        _ => Some(""),
    }
}
