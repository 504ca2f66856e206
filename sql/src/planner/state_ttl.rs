//! State TTL: which operators forget what was not touched, and after how long.
//!
//! `SET 'eagre.state.ttl'` says it of all that no watermark bounds. `SELECT /*+ STATE_TTL('o' = '1d') */` says it of the inputs of one query
//! block: the table `o` of its `FROM` becomes a subquery whose inner alias holds the duration, which DataFusion carries along to
//! the operator that reads `o` directly.

use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{
    Ident, Select, SelectItem, Spanned, TableAlias, TableFactor, WildcardAdditionalOptions,
};
use eagre_engine::graph::{ChangelogMode, EdgeInfo, Route};
use eagre_engine::operator::PORT_MAIN;
use eagre_engine::operator::consolidate::ConsolidateFactory;

use super::lower::{Lowering, Stream};
use super::window;
use crate::error::{Location, Result, SqlError};
use crate::parser::hint::{StateTtl, state_ttls};

/// Begins the alias of an input whose state has a TTL; the milliseconds follow.
const ALIAS: &str = "__state_ttl_";

/// How to bound state that nothing else does; the end of a notice.
pub(super) const ADVICE: &str = "or forget what is not touched for long (`SET 'eagre.state.ttl' = '1 d'`)";

/// Writes the `STATE_TTL` hints of a block into its `FROM`.
pub(super) fn write_hints(select: &mut Select) -> Result<()> {
    let location = Location::of(select.select_token.0.span);
    let mut ttls = vec![];
    for hint in std::mem::take(&mut select.optimizer_hints) {
        ttls.extend(state_ttls(&hint.text, location)?);
    }
    if ttls.is_empty() {
        return Ok(());
    }
    let mut names = vec![];
    let mut found = vec![false; ttls.len()];
    for table in &mut select.from {
        write_hint(&mut table.relation, &ttls, &mut found, &mut names)?;
        for join in &mut table.joins {
            write_hint(&mut join.relation, &ttls, &mut found, &mut names)?;
        }
    }
    match ttls.iter().zip(found).find(|(_, found)| !found) {
        None => Ok(()),
        Some((ttl, _)) => Err(SqlError::plan(
            format!(
                "the hint `STATE_TTL` names `{}`, which is no table of this query; its tables are `{}`",
                ttl.table,
                names.join("`, `")
            ),
            location,
        )),
    }
}

fn write_hint(factor: &mut TableFactor, ttls: &[StateTtl], found: &mut [bool], names: &mut Vec<String>) -> Result<()> {
    let name = match &*factor {
        TableFactor::Table { alias: Some(alias), .. }
        | TableFactor::Derived { alias: Some(alias), .. }
        | TableFactor::TableFunction { alias: Some(alias), .. } => alias.name.clone(),
        TableFactor::Table { name, args: None, .. } => match name.0.last().and_then(|part| part.as_ident()) {
            Some(ident) => ident.clone(),
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    names.push(name.value.clone());
    let Some(index) = ttls.iter().position(|ttl| ttl.table.eq_ignore_ascii_case(&name.value)) else { return Ok(()) };
    if matches!(factor, TableFactor::Table { version: Some(_), .. }) {
        return Err(SqlError::unsupported(
            format!("the hint `STATE_TTL` for `{}`, which is joined `FOR SYSTEM_TIME AS OF`", name.value),
            "its versions are let go by the watermark",
            Location::of(factor.span()),
        ));
    }
    found[index] = true;
    let inner_name = format!("{ALIAS}{}", ttls[index].ttl_ms);
    let mut inner = factor.clone();
    if let TableFactor::Table { alias, .. }
    | TableFactor::Derived { alias, .. }
    | TableFactor::TableFunction { alias, .. } = &mut inner
    {
        let columns = alias.take().map(|alias| alias.columns).unwrap_or_default();
        *alias = Some(TableAlias { explicit: true, name: Ident::with_quote('"', inner_name), columns, at: None });
    }
    let all = SelectItem::Wildcard(WildcardAdditionalOptions::default());
    *factor = TableFactor::Derived {
        lateral: false,
        subquery: Box::new(window::select_query(vec![all], Some(inner), None)),
        alias: Some(TableAlias { explicit: true, name, columns: vec![], at: None }),
        sample: None,
    };
    Ok(())
}

/// What a hint says of a plan that an operator reads; `Some(0)`: for ever.
fn hint_of(mut plan: &LogicalPlan) -> Option<i64> {
    loop {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => {
                if let Some(ttl_ms) = alias.alias.table().strip_prefix(ALIAS) {
                    return ttl_ms.parse().ok();
                }
                plan = &alias.input;
            }
            LogicalPlan::Projection(projection) => plan = &projection.input,
            LogicalPlan::Filter(filter) => plan = &filter.input,
            _ => return None,
        }
    }
}

/// A plan's text without the durations of hints: the same query finds its state again when only those have changed.
pub(super) fn without_durations(text: &str) -> String {
    let mut parts = text.split(ALIAS);
    let mut kept = parts.next().unwrap_or_default().to_string();
    for part in parts {
        kept.push_str(ALIAS);
        kept.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
    }
    kept
}

/// A duration as one would write it.
pub(super) fn duration(ms: i64) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    match units.iter().find(|(unit_ms, _)| ms % unit_ms == 0) {
        Some((unit_ms, unit)) => format!("{} {unit}", ms / unit_ms),
        None => format!("{ms} ms"),
    }
}

impl Lowering<'_> {
    /// After how long an operator forgets what it has of this input; `None`: never.
    pub(super) fn ttl_of(&self, input: &LogicalPlan) -> Option<i64> {
        // A recursion keeps all that it made.
        hint_of(input).or_else(|| self.state_ttl()).filter(|ttl_ms| *ttl_ms > 0 && self.ports.is_empty())
    }

    /// What the setting says.
    pub(super) fn state_ttl(&self) -> Option<i64> {
        self.context.catalog.state_ttl_ms().map(|ttl_ms| ttl_ms as i64)
    }

    /// Has each row of a step be said once before an operator with a TTL takes what goes before what comes.
    pub(super) fn consolidate(&mut self, stream: &mut Stream, plan: &LogicalPlan) {
        if stream.changelog == ChangelogMode::AppendOnly || stream.consolidated {
            return;
        }
        stream.consolidated = true;
        let from = stream.from();
        let output: EdgeInfo = self.graph.nodes[from.0].output.clone();
        // Rows with a MAP cannot be compared, and are taken as they come.
        let Ok(factory) = ConsolidateFactory::new(output.schema.clone()) else { return };
        let plain = |column: &usize| !output.schema.field(*column).data_type().is_nested();
        let route = Route::Hash((0..output.schema.fields().len()).filter(plain).collect());
        let id = self.id("consolidate", plan, &stream.tables);
        let node = self.push_operator(id, factory, from, route, output, String::new(), "");
        stream.leave((node, PORT_MAIN));
    }
}
