//! Functions that Flink has and DataFusion has not, or has with another meaning.
//!
//! DataFusion's functions stay as they are wherever theirs say at least as much. Ours take the place of one of the same name in these
//! cases: `date_format`, `to_timestamp`, `to_date` and `from_unixtime` take Java's patterns (and strftime's, by their `%`), `to_char` and those that read texts PostgreSQL's, the
//! [`volatile`] ones depend on the step instead of a clock, and [`ranking`] ones are BIGINT. `JSON` access (`j -> 'a'`, `j ->> 'a'`, `json_get(..)`) is
//! `datafusion-functions-json`'s.

mod aggregate_around;
mod array_has;
mod array_text;
mod arrays;
pub(crate) mod as_it_is;
mod average;
mod byte_text;
mod bytes;
mod coalesce;
mod conditional;
pub(crate) mod convert;
mod date_pattern;
mod definition;
mod degrees;
mod error_function;
pub(crate) mod extreme_by;
mod extremes;
pub(crate) mod interval;
pub(crate) mod interval_parts;
mod json;
pub(crate) mod json_build;
mod json_order;
mod json_path;
pub(crate) mod jsonb;
mod key_pattern;
mod letter_case;
pub(crate) mod local_time;
mod maps;
mod modulo;
pub(crate) mod nested;
mod operators;
pub(crate) mod order_key;
mod ordered_set;
mod padding;
mod percentile_cont;
mod period;
mod postgres_type;
pub(crate) mod predict;
mod prepend;
mod printf;
mod quoted_numbers;
pub(crate) mod quoting;
mod ranking;
mod round;
pub(crate) mod round_time;
pub(crate) mod score;
mod template;
mod text;
mod text_column;
mod text_lists;
pub(crate) mod text_words;
mod time;
pub(crate) mod time_spelling;
pub(crate) mod time_text;
mod url;
pub mod volatile;
mod whole_numbers;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::execution::FunctionRegistry;
use datafusion::functions_aggregate::approx_distinct::approx_distinct_udaf;
use datafusion::functions_aggregate::array_agg::array_agg_udaf;
use datafusion::functions_aggregate::bool_and_or::{bool_and_udaf, bool_or_udaf};
use datafusion::functions_aggregate::grouping::grouping_udaf;
use datafusion::functions_aggregate::string_agg::string_agg_udaf;
use datafusion::functions_aggregate::variance::var_samp_udaf;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};

pub(crate) use aggregate_around::{AGGREGATE_AROUND, WITH_AGGREGATES};
pub(crate) use byte_text::{BYTEA, TRY_BYTEA};
pub(crate) use bytes::{CHARSETS, DECODE, ENCODE};
pub use json::json_values;
pub(crate) use json::{JSON_RETURNING, JSON_TEXTS};
pub(crate) use maps::MAP_UNION;
pub(crate) use maps::in_key_form;
pub(crate) use period::PERIOD_END;
pub(crate) use printf::PRINTF;
pub(crate) use time::{ADD_DAYS, is_of_days};
pub use volatile::is_volatile;

/// Our scalar functions, and DataFusion's under Flink's names.
pub fn scalar_functions() -> Vec<Arc<ScalarUDF>> {
    let definitions = [
        time::definitions(),
        time_text::definitions(),
        round_time::definitions(),
        text::definitions(),
        text_lists::definitions(),
        url::definitions(),
        bytes::definitions(),
        byte_text::definitions(),
        padding::definitions(),
        period::definitions(),
        maps::definitions(),
        printf::definitions(),
        convert::definitions(),
        degrees::definitions(),
        error_function::definitions(),
        postgres_type::definitions(),
        interval_parts::definitions(),
        quoting::definitions(),
        whole_numbers::definitions(),
        json::definitions(),
        json_build::definitions(),
        jsonb::definitions(),
        nested::definitions(),
        local_time::definitions(),
    ];
    let mut functions: Vec<_> = definitions.into_iter().flatten().map(|definition| definition.udf()).collect();
    functions.push(Arc::new(coalesce::function()));
    functions.push(Arc::new(ScalarUDF::new_from_impl(conditional::If::new())));
    functions.push(Arc::new(ScalarUDF::new_from_impl(prepend::ArrayPrepend::new())));
    functions.push(Arc::new(ScalarUDF::new_from_impl(modulo::Modulo::new())));
    functions.push(Arc::new(ScalarUDF::new_from_impl(nested::FieldOfRow::new())));
    functions.push(Arc::new(ScalarUDF::new_from_impl(nested::InnerElements::new())));
    functions.extend(arrays::functions());
    functions.push(Arc::new(arrays::counting(&datafusion::functions_nested::dimension::array_ndims_udf())));
    functions.extend(json_build::functions());
    functions.extend(letter_case::functions());
    functions.extend(volatile::functions());
    functions.extend(aggregate_around::functions());
    let renamed = [
        (datafusion::functions::regex::regexp_like(), "regexp"),
        (datafusion::functions::math::trunc(), "truncate"),
        (datafusion::functions::math::signum(), "sign"),
        (datafusion::functions::math::ceil(), "ceiling"),
        (datafusion::functions::math::isnan(), "is_nan"),
        (datafusion::functions::string::starts_with(), "startswith"),
        (datafusion::functions::string::ends_with(), "endswith"),
        (Arc::new(arrays::counting(&datafusion::functions_nested::length::array_length_udf())), "array_size"),
        (datafusion::functions_nested::sort::array_sort_udf(), "sort_array"),
    ];
    functions.extend(renamed.map(|(function, alias)| Arc::new(function.as_ref().clone().with_aliases([alias]))));
    functions
}

/// DataFusion's aggregate functions under Flink's names, and ours.
pub fn aggregate_functions() -> Vec<Arc<AggregateUDF>> {
    // One function with all of its names: two would be two columns of one name where a query calls both.
    let renamed: [(_, &[&str]); 7] = [
        (string_agg_udaf(), &["listagg"]),
        (bool_and_udaf(), &["every", "logical_and"]),
        (bool_or_udaf(), &["some", "logical_or"]),
        (approx_distinct_udaf(), &["approx_count_distinct"]),
        (grouping_udaf(), &["grouping_id"]),
        (array_agg_udaf(), &["collect"]),
        (var_samp_udaf(), &["variance"]),
    ];
    let with_names = |(function, aliases): (Arc<AggregateUDF>, &[&'static str])| {
        Arc::new(function.as_ref().clone().with_aliases(aliases.iter().copied()))
    };
    let mut functions: Vec<_> = renamed.map(with_names).into();
    functions.extend(ordered_set::functions());
    functions.push(percentile_cont::function());
    functions.push(average::function());
    functions
}

/// The function that writes JSON values in the one way of equal ones.
pub(crate) fn json_plain() -> &'static ScalarUDF {
    &json_order::JSON_PLAIN
}

/// Adds all functions, and the planner of the JSON operators, over DataFusion's defaults.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    // Before that of the JSON functions, which takes a number with a fraction for no integer.
    registry.register_function_rewrite(Arc::new(jsonb::operators::JsonCasts))?;
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
    registry.register_function_rewrite(Arc::new(round::RoundDigits))?;
    registry.register_function_rewrite(Arc::new(array_has::ArrayHas))?;
    registry.register_function_rewrite(Arc::new(jsonb::marks::JsonMarks))?;
    registry.register_expr_planner(Arc::new(interval::IntervalOperators))?;
    registry.register_expr_planner(Arc::new(quoted_numbers::QuotedNumbers))?;
    ranking::register(registry)
}

#[cfg(test)]
mod tests;
