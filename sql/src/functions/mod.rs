//! Functions that Flink has and DataFusion has not, or has with another meaning.
//!
//! DataFusion's functions stay as they are wherever theirs say at least as much. Ours take the place of one of the same name in these
//! cases: `date_format`, `to_timestamp`, `to_date` and `from_unixtime` take Java's patterns (and chrono's, by their `%`), the
//! [`volatile`] ones depend on the step instead of a clock, and [`ranking`] ones are BIGINT. `JSON` access (`j -> 'a'`, `j ->> 'a'`, `json_get(..)`) is
//! `datafusion-functions-json`'s.

mod conditional;
pub(crate) mod convert;
mod date_pattern;
mod definition;
mod json;
mod json_order;
pub(crate) mod local_time;
mod modulo;
pub(crate) mod nested;
mod operators;
pub(crate) mod predict;
mod ranking;
mod round_time;
pub(crate) mod score;
mod text;
mod time;
pub mod volatile;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::functions_aggregate::approx_distinct::approx_distinct_udaf;
use datafusion::functions_aggregate::bool_and_or::bool_and_udaf;
use datafusion::functions_aggregate::grouping::grouping_udaf;
use datafusion::functions_aggregate::string_agg::string_agg_udaf;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};

pub use json::json_values;
pub use volatile::is_volatile;

/// Our scalar functions, and DataFusion's under Flink's names.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let definitions = [
        time::definitions(),
        round_time::definitions(),
        text::definitions(),
        json::definitions(),
        nested::definitions(),
    ];
    let mut functions: Vec<_> = definitions.into_iter().flatten().map(|definition| definition.udf()).collect();
    functions.push(Arc::new(ScalarUDF::new_from_impl(conditional::If::new())));
    functions.push(Arc::new(ScalarUDF::new_from_impl(modulo::Modulo::new())));
    functions.push(Arc::new(ScalarUDF::new_from_impl(nested::FieldOfRow::new())));
    functions.extend(volatile::functions());
    let renamed = [
        (datafusion::functions::regex::regexp_like(), "regexp"),
        (datafusion::functions::math::trunc(), "truncate"),
        (datafusion::functions::math::signum(), "sign"),
    ];
    functions.extend(renamed.map(|(function, alias)| Arc::new(function.as_ref().clone().with_aliases([alias]))));
    functions
}

/// DataFusion's aggregate functions under Flink's names.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    let renamed = [
        (string_agg_udaf(), "listagg"),
        (bool_and_udaf(), "every"),
        (approx_distinct_udaf(), "approx_count_distinct"),
        (grouping_udaf(), "grouping_id"),
    ];
    renamed.map(|(function, alias)| Arc::new(function.as_ref().clone().with_aliases([alias]))).into()
}

/// Adds all functions, and the planner of the JSON operators, over DataFusion's defaults.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    datafusion_functions_json::register_all(registry)?;
    for function in scalar_functions() {
        registry.register_udf(function)?;
    }
    for function in aggregate_functions() {
        registry.register_udaf(function)?;
    }
    for function in score::ScoreFunction::ALL {
        registry.register_udwf(Arc::new(WindowUDF::new_from_impl(score::ScoreUdwf::new(function))))?;
    }
    registry.register_function_rewrite(Arc::new(operators::Operators))?;
    ranking::register(registry)
}

#[cfg(test)]
mod tests;
