//! From a plan as written to one that can be lowered: DataFusion's analysis, and those of its rules that hold for unbounded input.
//!
//! Left out are the rules that assume an end of the input (limits pushed into sources), that trade one aggregate for two (a distinct
//! count as two groupings doubles the state), and that turn a union into one scan with a disjunction, because what follows a union may
//! rely on its parts.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, JoinType, NullEquality, Result as DataFusionResult};
use datafusion::logical_expr::{Expr, Join, LogicalPlan};
use datafusion::optimizer::analyzer::Analyzer;
use datafusion::optimizer::analyzer::function_rewrite::ApplyFunctionRewrites;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::optimizer::common_subexpr_eliminate::CommonSubexprEliminate;
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion::optimizer::eliminate_filter::EliminateFilter;
use datafusion::optimizer::eliminate_group_by_constant::EliminateGroupByConstant;
use datafusion::optimizer::eliminate_join::EliminateJoin;
use datafusion::optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion::optimizer::extract_equijoin_predicate::ExtractEquijoinPredicate;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::optimize_unions::OptimizeUnions;
use datafusion::optimizer::propagate_empty_relation::PropagateEmptyRelation;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::rewrite_set_comparison::RewriteSetComparison;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::simplify_expressions::SimplifyExpressions;
use datafusion::optimizer::{AnalyzerRule, ApplyOrder, Optimizer, OptimizerConfig, OptimizerContext, OptimizerRule};

use super::common_types::MeetInOneType;
use super::context::{PlanContext, function_rewrites};
use super::expr::strip_alias;
use super::fallible::may_fail;
use super::{
    casts, decorrelate, frames, group_unnest, grouping_sets, interval_keys, json_plain, limits, map_equality, misread,
    online, outer_aggregates, over, predict, rank, single_value, ties, unkeyed,
};
use crate::error::Result;
use crate::functions::volatile;

/// How often references to queries around are given the types that their columns get, as subqueries in subqueries may need.
const RENEWALS_MAX: usize = 4;

/// Types fit, functions are resolved, calls of random functions are told apart.
pub(super) fn analyze(context: &PlanContext<'_>, plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut analyzer = Analyzer::new();
    for rewrite in function_rewrites() {
        analyzer.add_function_rewrite(Arc::clone(rewrite));
    }
    let plan = MeetInOneType.analyze(rank::expand(plan)?, &context.config)?;
    frames::check_written(&plan)?;
    let plan = group_unnest::in_order(plan)?;
    let plan =
        frames::as_known(single_value::check(limits::computed(ties::expand(outer_aggregates::settle(plan)?)?)?)?)?;
    let subqueries = decorrelate::has_subquery(&plan);
    let fit = |plan: &LogicalPlan| {
        let rules = unchecked_rules();
        rules.iter().try_fold(plan.clone(), |plan, rule| rule.analyze(plan, &context.config))
    };
    let by_ours = |mut plan: LogicalPlan| -> Result<LogicalPlan> {
        let mut fitted = fit(&plan)?;
        // A type that changes may change that of another subquery.
        for _ in 0..RENEWALS_MAX {
            let Some(renewed) = decorrelate::renewed(&plan, &fitted)? else { break };
            plan = renewed;
            fitted = fit(&plan)?;
        }
        Ok(analyzer.execute_and_check(decorrelate::decorrelate(fitted)?, &context.config, |_, _| {})?)
    };
    let plan = if subqueries && decorrelate::is_deep(&plan) {
        by_ours(plan)?
    } else {
        match analyzer.execute_and_check(plan.clone(), &context.config, |_, _| {}) {
            Ok(fitted) if !(subqueries && decorrelate::has_stale_reference(&fitted)?) => fitted,
            // Where subqueries are joins already, columns have the types that they get.
            Ok(_) => by_ours(plan)?,
            // DataFusion checks that its own rules can turn subqueries into joins; ours can do more.
            Err(_) if subqueries => by_ours(plan)?,
            Err(error) => return Err(error.into()),
        }
    };
    let plan = misread::in_lists::rewrite_plan(plan)?;
    let plan = over::once::rewrite(over::known_only::rewrite(json_plain::rewrite(interval_keys::rewrite(plan)?)?)?)?;
    let plan = grouping_sets::expand(map_equality::rewrite(plan)?)?;
    let plan = casts::rewrite_plan(plan, context.catalog.time_zone())?;
    let plan = misread::compared_casts::rewrite_plan(plan)?;
    Ok(unkeyed::mark(volatile::number_call_sites(plan)?)?)
}

/// The analyser's rules without its checks.
fn unchecked_rules() -> Vec<Arc<dyn AnalyzerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> =
        vec![Arc::new(MeetInOneType), Arc::new(ApplyFunctionRewrites::new(function_rewrites().to_vec()))];
    rules.extend(Analyzer::new().rules);
    rules
}

/// Rows as they are once types are fitted to each other, where that gives a column another type (`SELECT 1 UNION ALL SELECT 2.5`): for whoever
/// plans by the types of their input before the whole plan is analysed.
pub(super) fn with_final_types(plan: LogicalPlan, config: &ConfigOptions) -> Result<LogicalPlan> {
    let mut fitted = plan.clone();
    for rule in unchecked_rules() {
        fitted = match rule.analyze(fitted, config) {
            Ok(fitted) => fitted,
            // What is wrong with it is told when all is analysed.
            Err(_) => return Ok(plan),
        };
    }
    let types =
        |plan: &LogicalPlan| plan.schema().fields().iter().map(|field| field.data_type().clone()).collect::<Vec<_>>();
    Ok(if types(&fitted) == types(&plan) { plan } else { fitted })
}

/// The plan that is lowered.
pub(super) fn optimize(context: &PlanContext<'_>, plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = online::add_times(plan)?;
    predict::take_out(rank::recognise(run_all_rules(context, plan)?)?)
}

fn run_all_rules(context: &PlanContext<'_>, plan: LogicalPlan) -> Result<LogicalPlan> {
    if !decorrelate::has_subquery(&plan) {
        return run_rules(context, plan);
    }
    let plan = misread::ask_above(plan)?;
    let by_ours = |plan: LogicalPlan| {
        // What looked outwards was of the types that the columns around had when their names were resolved.
        let plan = TypeCoercion::new().analyze(decorrelate::decorrelate(plan)?, &context.config)?;
        run_rules(context, plan)
    };
    if misread::is_misread(&plan) {
        return by_ours(plan);
    }
    match run_rules(context, plan.clone()) {
        Ok(optimized) if !decorrelate::has_subquery(&optimized) && is_resolved(&optimized) => Ok(optimized),
        // What DataFusion's rules left in place, or took apart wrongly.
        _ => by_ours(plan),
    }
}

fn run_rules(context: &PlanContext<'_>, plan: LogicalPlan) -> Result<LogicalPlan> {
    let config = OptimizerContext::new_with_config_options(Arc::clone(&context.config))
        // Nothing is a function of when it was planned.
        .without_query_execution_start_time();
    let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![
        Arc::new(RewriteSetComparison::new()),
        Arc::new(OptimizeUnions::new()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(EliminateJoin::new()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(DecorrelateLateralJoin::new()),
        Arc::new(extract_equijoin_predicate()),
        Arc::new(EliminateDuplicatedExpr::new()),
        Arc::new(EliminateFilter::new()),
        Arc::new(eliminate_cross_join()),
        Arc::new(PropagateEmptyRelation::new()),
        Arc::new(EliminateOuterJoin::new()),
        Arc::new(push_down_filter()),
        Arc::new(EliminateGroupByConstant::new()),
        Arc::new(common_subexpr_eliminate()),
        Arc::new(OptimizeProjections::new()),
    ];
    // Again: an INSERT casts to the types of its table after the analysis.
    let plan = casts::rewrite_plan(plan, context.catalog.time_zone())?;
    Ok(Optimizer::with_rules(rules).optimize(plan, &config, |_, _| {})?)
}

/// Tables that a query names one after the other, joined by what its `WHERE` says of them. Subqueries are then asked of these rows, and not of the
/// cross product.
pub(super) fn join_tables(plan: LogicalPlan) -> Result<LogicalPlan> {
    let rules = Optimizer::with_rules(vec![Arc::new(eliminate_cross_join())]);
    Ok(rules.optimize(plan, &OptimizerContext::new(), |_, _| {})?)
}

/// DataFusion's rules for finished rows, with ours in the place of those that give wrong answers.
pub(super) fn batch_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let ours: [Arc<dyn OptimizerRule + Send + Sync>; 3] =
        [Arc::new(extract_equijoin_predicate()), Arc::new(eliminate_cross_join()), Arc::new(push_down_filter())];
    let or_ours = |rule: Arc<dyn OptimizerRule + Send + Sync>| {
        ours.iter().find(|own| own.name() == rule.name()).map_or(rule, Arc::clone)
    };
    Optimizer::new().rules.into_iter().map(or_ours).collect()
}

/// A rule of DataFusion's that is not asked where it gives wrong answers.
#[derive(Debug)]
struct Except<R> {
    rule: R,
    is_wrong_for: fn(&LogicalPlan) -> bool,
}

impl<R: OptimizerRule> OptimizerRule for Except<R> {
    fn name(&self) -> &str {
        self.rule.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.rule.apply_order()
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> DataFusionResult<Transformed<LogicalPlan>> {
        match (self.is_wrong_for)(&plan) {
            // One that goes through the plan itself may be right for the parts.
            true if self.rule.apply_order().is_none() => plan.map_children(|part| self.rewrite(part, config)),
            true => Ok(Transformed::no(plan)),
            false => self.rule.rewrite(plan, config),
        }
    }
}

/// It takes inner joins apart and puts them together again with one answer to whether nulls meet, where each of them has its own, and in another
/// order, in which a `LATERAL` may come before what it looks at.
fn eliminate_cross_join() -> Except<EliminateCrossJoin> {
    let is_wrong_for = |plan: &LogicalPlan| {
        let is_wrong = |node: &LogicalPlan| match node {
            LogicalPlan::Join(join) => join.join_type == JoinType::Inner && nulls_meet(join),
            LogicalPlan::Subquery(lateral) => !lateral.outer_ref_columns.is_empty(),
            _ => false,
        };
        plan.exists(|node| Ok(is_wrong(node))).unwrap_or(true)
    };
    Except { rule: EliminateCrossJoin::new(), is_wrong_for }
}

/// It makes the equalities of a condition keys of the join, also where nulls of the other keys meet (`ON a.x IS NOT DISTINCT FROM b.x WHERE a.k = b.k`):
/// theirs would then meet too. There they stay a condition.
fn extract_equijoin_predicate() -> Except<ExtractEquijoinPredicate> {
    let is_wrong_for = |plan: &LogicalPlan| matches!(plan, LogicalPlan::Join(join) if nulls_meet(join));
    Except { rule: ExtractEquijoinPredicate::new(), is_wrong_for }
}

fn nulls_meet(join: &Join) -> bool {
    join.null_equality == NullEquality::NullEqualsNull
}

/// It asks of the rows that are aggregated what looks at none of the results. Of an aggregation without keys the one row would still be there.
fn push_down_filter() -> Except<PushDownFilter> {
    let is_wrong_for = |plan: &LogicalPlan| {
        matches!(plan, LogicalPlan::Filter(filter)
            if matches!(filter.input.as_ref(), LogicalPlan::Aggregate(all) if all.group_expr.is_empty()))
    };
    Except { rule: PushDownFilter::new(), is_wrong_for }
}

/// It computes what two arguments have in common for all rows, also for those that a `FILTER` leaves out because they would fail.
fn common_subexpr_eliminate() -> Except<CommonSubexprEliminate> {
    // It goes through the plan itself.
    let is_wrong_for = |plan: &LogicalPlan| plan.exists(|node| Ok(fails_behind_filter(node))).unwrap_or(true);
    Except { rule: CommonSubexprEliminate::new(), is_wrong_for }
}

/// Whether an aggregate has a `FILTER`, and arguments that may fail for the rows it leaves out.
fn fails_behind_filter(plan: &LogicalPlan) -> bool {
    let (exprs, input) = match plan {
        LogicalPlan::Aggregate(aggregate) => (&aggregate.aggr_expr, &aggregate.input),
        LogicalPlan::Window(window) => (&window.window_expr, &window.input),
        _ => return false,
    };
    exprs.iter().any(|expr| {
        let (filter, args, order) = match strip_alias(expr) {
            Expr::AggregateFunction(call) => (&call.params.filter, &call.params.args, &call.params.order_by),
            Expr::WindowFunction(call) => (&call.params.filter, &call.params.args, &call.params.order_by),
            _ => return false,
        };
        let mut read = args.iter().chain(order.iter().map(|sort| &sort.expr));
        filter.is_some() && read.any(|expr| may_fail(expr, input.schema()))
    })
}

/// Whether all columns that a plan looks at are there: DataFusion's rules lose the way in a subquery that looks at a query two further
/// out.
fn is_resolved(plan: &LogicalPlan) -> bool {
    let unresolved = plan.exists(|node| {
        let inputs = node.inputs();
        let known = |column: &Column| inputs.iter().any(|input| input.schema().maybe_index_of_column(column).is_some());
        let exprs = if inputs.is_empty() { vec![] } else { node.expressions() };
        Ok(exprs.iter().any(|expr| !expr.column_refs().into_iter().all(known)))
    });
    !unresolved.unwrap_or(true)
}

/// The operators that extensions turn into functions (JSON access).
pub(super) fn rewrite_functions(expr: Expr, schema: &DFSchema, config: &ConfigOptions) -> DataFusionResult<Expr> {
    let rewritten = expr.transform_up(|expr| {
        let mut result = Transformed::no(expr);
        for rewrite in function_rewrites() {
            result = result.transform_data(|expr| rewrite.rewrite(expr, schema, config))?;
        }
        Ok(result)
    })?;
    Ok(rewritten.data)
}

/// Whether an aggregate function is called somewhere in `expr`.
pub(super) fn contains_aggregate(expr: &Expr) -> bool {
    expr.exists(|expr| Ok(matches!(expr, Expr::AggregateFunction(_) | Expr::WindowFunction(_)))).unwrap_or(true)
}

/// The calls of functions that differ from step to step or from row to row, by name.
pub(super) fn volatile_calls(expr: &Expr) -> Vec<String> {
    let mut names = vec![];
    let _ = expr.apply(|expr| {
        if let Expr::ScalarFunction(function) = expr
            && volatile::is_volatile(function.func.name())
        {
            names.push(function.func.name().to_string());
        }
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    });
    names
}

/// The volatile functions that differ from row to row, and so depend on the order of arrival.
pub(super) fn is_random(name: &str) -> bool {
    matches!(name, "random" | "rand_integer" | "uuid")
}

/// Whether a column of this type can be an event time.
pub(super) fn is_time(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Timestamp(..))
}
