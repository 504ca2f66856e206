//! `WINDOW w AS (..)`: what `OVER w` and `OVER (w ROWS ..)` stand for, written in their places.
//!
//! DataFusion's planner puts in only the first form; of the second it drops the name, and with it partitions and order, in silence.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, NamedWindowDefinition, NamedWindowExpr, Query, Select, SelectItem, Value, ValueWithSpan, VisitMut,
    VisitorMut, WindowSpec, WindowType,
};

use crate::error::{Location, Result, SqlError, nearest};
use crate::parser::frame_exclusion::FrameExclusion;

/// The windows that a `SELECT` names.
pub(super) struct NamedWindows {
    specs: HashMap<String, WindowSpec>,
}

impl NamedWindows {
    /// Reads them off a `SELECT`, which has none afterwards.
    ///
    /// # Errors
    /// A name that is not known or twice there, and what one window may not take from another.
    pub(super) fn take(select: &mut Select) -> Result<Option<Self>> {
        if select.named_window.is_empty() {
            return Ok(None);
        }
        let mut windows = Self { specs: HashMap::new() };
        for NamedWindowDefinition(name, expr) in std::mem::take(&mut select.named_window) {
            let spec = match expr {
                NamedWindowExpr::NamedWindow(other) => windows.named(&other)?.clone(),
                NamedWindowExpr::WindowSpec(spec) => windows.inherited(spec)?,
            };
            if windows.specs.insert(key(&name), spec).is_some() {
                let message = format!("window `{}` is defined twice", name.value);
                return Err(SqlError::plan(message, Location::of(name.span)));
            }
        }
        Ok(Some(windows))
    }

    /// Writes them into the calls of an expression.
    ///
    /// # Errors
    /// As [`NamedWindows::take`].
    pub(super) fn write_into(&self, expr: &mut Expr) -> Result<()> {
        match expr.visit(&mut Writer { windows: self, depth: 0 }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(error) => Err(error),
        }
    }

    /// Writes them into the `SELECT` that they were taken from.
    ///
    /// # Errors
    /// As [`NamedWindows::take`].
    pub(super) fn write_into_select(&self, select: &mut Select) -> Result<()> {
        for item in &mut select.projection {
            match item {
                // The column is named as it was written.
                SelectItem::UnnamedExpr(expr) => {
                    let mut written = expr.clone();
                    self.write_into(&mut written)?;
                    if written != *expr {
                        let alias = Ident::with_quote('"', expr.to_string());
                        *item = SelectItem::ExprWithAlias { expr: written, alias };
                    }
                }
                SelectItem::ExprWithAlias { expr, .. } => self.write_into(expr)?,
                _ => {}
            }
        }
        select.qualify.as_mut().map_or(Ok(()), |qualify| self.write_into(qualify))
    }

    fn named(&self, name: &Ident) -> Result<&WindowSpec> {
        self.specs.get(&key(name)).ok_or_else(|| {
            let close = nearest(&name.value, self.specs.keys().map(String::as_str));
            let close = close.map(|close| format!("; did you mean `{close}`?")).unwrap_or_default();
            SqlError::plan(format!("window `{}` is not defined{close}", name.value), Location::of(name.span))
        })
    }

    /// A window with what it takes from the one that it begins with.
    fn inherited(&self, mut spec: WindowSpec) -> Result<WindowSpec> {
        let Some(name) = spec.window_name.take() else { return Ok(spec) };
        let base = self.named(&name)?;
        let wrong = |what: &str| {
            SqlError::plan(
                format!(
                    "a window that begins with `{}` {what}; write it out: `PARTITION BY .. ORDER BY ..`",
                    name.value
                ),
                Location::of(name.span),
            )
        };
        if !spec.partition_by.iter().all(is_mark) {
            return Err(wrong("has the partitions of that and none of its own"));
        }
        if !spec.order_by.is_empty() && !base.order_by.is_empty() {
            return Err(wrong("has the order of that and none of its own"));
        }
        if base.window_frame.is_some() {
            return Err(wrong("would lose the frame of that"));
        }
        spec.partition_by.extend(base.partition_by.iter().cloned());
        if spec.order_by.is_empty() {
            spec.order_by.clone_from(&base.order_by);
        }
        Ok(spec)
    }
}

/// Whether one of the partitions only says which rows a frame leaves out.
fn is_mark(partition: &Expr) -> bool {
    let Expr::Nested(constant) = partition else { return false };
    matches!(constant.as_ref(), Expr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), .. }) if FrameExclusion::of_mark(text).is_some())
}

fn key(name: &Ident) -> String {
    match name.quote_style {
        Some(_) => name.value.clone(),
        None => name.value.to_lowercase(),
    }
}

struct Writer<'w> {
    windows: &'w NamedWindows,
    depth: usize,
}

impl VisitorMut for Writer<'_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<SqlError> {
        self.depth += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<SqlError> {
        self.depth -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<SqlError> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        if self.depth > 0 {
            return ControlFlow::Continue(());
        }
        let spec = match function.over.take() {
            Some(WindowType::NamedWindow(name)) => self.windows.named(&name).cloned().map(Some),
            Some(WindowType::WindowSpec(spec)) => self.windows.inherited(spec).map(Some),
            None => Ok(None),
        };
        match spec {
            Ok(spec) => {
                function.over = spec.map(WindowType::WindowSpec);
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }
}
