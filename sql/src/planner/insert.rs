//! `INSERT INTO`: the columns of a query become those of a table.
//!
//! Numbers, timestamps and text widen and narrow into each other where nothing but range or precision is at stake; text does not turn into
//! a number or a time by itself, because a mistake there would only show at run time, row by row. Texts written as `VALUES` are an
//! exception: what is written as a text may be meant as any type.

use std::sync::Arc;

use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Schema};
use bigdecimal::num_bigint::Sign;
use bigdecimal::{BigDecimal, RoundingMode};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::{Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, cast};
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType as SqlType, ExactNumberInfo, Expr as AstExpr, Parens, SetExpr, UnaryOperator, Value,
    ValueWithSpan,
};
use datafusion::sql::sqlparser::tokenizer::Span;
use eagre_engine::graph::ChangelogMode;
use eagre_engine::sink::SinkFactory;

use super::context::PlanContext;
use super::lower::Stream;
use super::not_null;
use super::value_queries::said_type;
use crate::catalog::{Catalog, ColumnDefinition, ColumnKind, Relation, Table, TableDefinition};
use crate::error::{Result, SqlError, nearest};
use crate::functions::{convert, jsonb};
use crate::parser::{ExprText, Insert, QueryText};
use crate::types::sql_name;

/// Numbers whose exponents are beyond this are left as they are written.
const EXPONENT_MAX: i64 = 1_000;

/// Where the rows go.
pub(super) struct Target {
    pub(super) table: String,
    pub(super) factory: Arc<dyn SinkFactory>,
}

/// An append-only sink cannot take rows back.
pub(super) fn check_retractions(stream: &Stream, target: &Target, query: &QueryText) -> Result<()> {
    if stream.changelog == ChangelogMode::AppendOnly || target.factory.accepts_retractions() {
        return Ok(());
    }
    let because = stream.retracts_because.clone().unwrap_or_else(|| "its input can take rows back".into());
    Err(SqlError::plan(
        format!(
            "`{}` ({}) takes appended rows only, but rows of this query can be taken back: {because}; aggregate by a window that \
             closes (`EMIT ON WINDOW CLOSE` over a table with a watermark), or write to a sink that takes changes ('format' = \
             'changelog-json' or 'debezium-json')",
            target.table,
            target.factory.describe()
        ),
        query.location,
    ))
}

/// The columns of a table that an `INSERT` fills, in the order of its query.
fn targets(definition: &TableDefinition, insert: &Insert) -> Result<Vec<usize>> {
    if insert.columns.is_empty() {
        return Ok(definition.written().collect());
    }
    let mut targets: Vec<usize> = vec![];
    for name in &insert.columns {
        let index = definition.column_index(name).ok_or_else(|| SqlError::UnknownColumn {
            name: name.text.clone(),
            nearest: nearest(&name.text, definition.columns.iter().map(|column| column.name.as_str())),
            location: Some(name.location),
        })?;
        let column = &definition.columns[index];
        if !column.is_written() {
            let kind = match column.kind {
                ColumnKind::Computed(_) => "computed from other columns",
                _ => "metadata of the connector (`VIRTUAL`)",
            };
            return Err(SqlError::plan(
                format!("column `{}` of `{}` is {kind} and cannot be inserted", column.name, definition.name),
                name.location,
            ));
        }
        if targets.contains(&index) {
            return Err(SqlError::plan(format!("column `{}` is given twice", column.name), name.location));
        }
        targets.push(index);
    }
    Ok(targets)
}

/// The table that is written.
fn table(context: &PlanContext<'_>, insert: &Insert) -> Result<Arc<Table>> {
    let relation = context.catalog.lookup(&insert.table)?;
    let Relation::Table(table) = relation else {
        let kind = if matches!(relation, Relation::View(_)) { "a view" } else { "made by the engine" };
        let message = format!("`{}` is {kind} and cannot be written", relation.name());
        return Err(SqlError::plan(message, insert.table.location()));
    };
    Ok(table)
}

/// The query of an `INSERT`, in whose `VALUES` each `DEFAULT` is what its column has by default. Where all that is written for a DECIMAL are
/// numbers and nulls, they are the digits that are written, and not the DOUBLEs that these would be elsewhere.
///
/// # Errors
/// No such table or column.
pub(super) fn with_columns(context: &PlanContext<'_>, insert: &Insert) -> Result<QueryText> {
    let mut query = insert.query.clone();
    let SetExpr::Values(values) = query.ast.body.as_mut() else { return Ok(query) };
    let rows = &mut values.rows;
    leave_texts(rows);
    let cells = rows.iter().flat_map(|row| &row.content);
    if !cells.clone().any(|cell| is_default(cell) || written_number(cell).is_some()) {
        return Ok(query);
    }
    let table = table(context, insert)?;
    for (place, target) in targets(&table.definition, insert)?.into_iter().enumerate() {
        let column = &table.definition.columns[target];
        let mut cells: Vec<&mut AstExpr> = rows.iter_mut().filter_map(|row| row.content.get_mut(place)).collect();
        for cell in cells.iter_mut().filter(|cell| is_default(cell)) {
            let default = column.default.as_ref();
            **cell = default.map_or_else(|| AstExpr::value(Value::Null), |default| default.ast.clone());
        }
        match column.data_type {
            DataType::Utf8 | DataType::Utf8View => write_texts(cells),
            _ => {
                read_texts(&column.data_type, &mut cells);
                write_digits(&column.data_type, cells);
            }
        }
    }
    Ok(query)
}

fn is_default(expr: &AstExpr) -> bool {
    matches!(expr, AstExpr::Identifier(ident) if ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("default"))
}

/// Texts beside values of another type are of the column's type, not of theirs: what a `VALUES` would make of them is kept from it.
fn leave_texts(rows: &mut [Parens<Vec<AstExpr>>]) {
    let width = rows.iter().map(|row| row.content.len()).max().unwrap_or(0);
    for column in 0..width {
        if !rows.iter().any(|row| row.content.get(column).is_some_and(|cell| said_type(cell).is_some())) {
            continue;
        }
        for cell in rows.iter_mut().filter_map(|row| row.content.get_mut(column)) {
            if matches!(cell, AstExpr::Value(value) if matches!(value.value, Value::SingleQuotedString(_))) {
                *cell = AstExpr::Nested(Box::new(cell.clone()));
            }
        }
    }
}

/// Numbers beside texts for a column of texts, as they are written: a `VALUES` would read the texts as numbers.
fn write_texts(mut cells: Vec<&mut AstExpr>) {
    let is_text =
        |cell: &AstExpr| matches!(cell, AstExpr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)));
    if !cells.iter().any(|cell| is_text(cell)) {
        return;
    }
    for cell in &mut cells {
        if let Some((_, span)) = written_number(cell) {
            let text = cell.to_string();
            **cell = AstExpr::Value(Value::SingleQuotedString(text).with_span(span));
        }
    }
}

/// Texts beside numbers for a column of numbers, as the numbers that they are: a `VALUES` would read them as those beside them.
fn read_texts(to: &DataType, cells: &mut [&mut AstExpr]) {
    if !to.is_numeric() || !cells.iter().any(|cell| written_number(cell).is_some()) {
        return;
    }
    for cell in cells {
        let AstExpr::Value(ValueWithSpan { value: Value::SingleQuotedString(text), span }) = &**cell else { continue };
        let number = |digits: &str| AstExpr::Value(Value::Number(digits.into(), false).with_span(*span));
        let text = text.trim();
        let read = if to.is_floating() {
            // One that is beyond all numbers is none.
            let is_one = |read: f64| read.is_finite() || text.bytes().all(|byte| !byte.is_ascii_digit());
            if !text.parse::<f64>().is_ok_and(is_one) {
                continue;
            }
            AstExpr::Cast {
                kind: CastKind::Cast,
                expr: Box::new((**cell).clone()),
                data_type: SqlType::Double(ExactNumberInfo::None),
                array: false,
                format: None,
            }
        } else {
            let Some(read) = text.parse::<BigDecimal>().ok().filter(|_| !text.contains('_')) else { continue };
            let read = read.normalized();
            if read.fractional_digit_count().abs() >= EXPONENT_MAX
                || to.is_integer() && read.fractional_digit_count() > 0
            {
                continue;
            }
            let digits = number(&read.abs().to_plain_string());
            match read.sign() == Sign::Minus {
                true => AstExpr::UnaryOp { op: UnaryOperator::Minus, expr: Box::new(digits) },
                false => digits,
            }
        };
        **cell = read;
    }
}

/// Numbers for a column of DECIMALs as such of their own digits, of one type that has room for all of them: of digits behind the column's scale
/// the first decides how it is rounded.
fn write_digits(to: &DataType, mut cells: Vec<&mut AstExpr>) {
    let (DataType::Decimal128(_, scale_max) | DataType::Decimal256(_, scale_max)) = to else { return };
    cells.retain(|cell| !matches!(cell, AstExpr::Value(value) if value.value == Value::Null));
    let Some(numbers) = cells.iter().map(|cell| written_number(cell)).collect::<Option<Vec<_>>>() else { return };
    let (mut whole, mut scale) = (0, 0);
    for (number, _) in &numbers {
        let fraction = number.fractional_digit_count();
        whole = whole.max(number.digits() as i64 - fraction);
        scale = scale.max(fraction);
    }
    let precision_max = i64::from(DECIMAL128_MAX_PRECISION);
    // An integer that a BIGINT holds is exact as it is.
    if scale == 0 && whole < 19 || whole > precision_max {
        return;
    }
    let scale = scale.min(i64::from(*scale_max) + 1).min(precision_max - whole).max(0);
    for (cell, (number, span)) in cells.into_iter().zip(numbers) {
        let digits = number.with_scale_round(scale, RoundingMode::Down).to_plain_string();
        *cell = AstExpr::Cast {
            kind: CastKind::Cast,
            expr: Box::new(AstExpr::Value(Value::SingleQuotedString(digits).with_span(span))),
            data_type: SqlType::Decimal(ExactNumberInfo::PrecisionAndScale((whole + scale).max(1) as u64, scale)),
            array: false,
            format: None,
        };
    }
}

/// A number that is written, and where it stands.
fn written_number(expr: &AstExpr) -> Option<(BigDecimal, Span)> {
    match expr {
        AstExpr::Nested(expr) | AstExpr::UnaryOp { op: UnaryOperator::Plus, expr } => written_number(expr),
        AstExpr::UnaryOp { op: UnaryOperator::Minus, expr } => {
            written_number(expr).map(|(number, span)| (-number, span))
        }
        AstExpr::Value(ValueWithSpan { value: Value::Number(text, _), span }) => {
            let number = text.parse::<BigDecimal>().ok()?;
            // Of others no DECIMAL has a digit, and to write them out takes as many bytes as their exponent says.
            let is_near = number.fractional_digit_count().abs() < EXPONENT_MAX;
            is_near.then(|| (number.normalized(), *span))
        }
        _ => None,
    }
}

/// Projects a query onto the columns that the table's sink takes.
pub(super) fn plan(context: &PlanContext<'_>, plan: LogicalPlan, insert: &Insert) -> Result<(LogicalPlan, Target)> {
    let at = insert.table.location();
    let table = table(context, insert)?;
    let definition = &table.definition;
    let sink_columns: Vec<usize> = definition.written().collect();
    // The table column that each query column fills.
    let targets = targets(definition, insert)?;
    let given = plan.schema().fields().len();
    if given != targets.len() {
        let list = |indices: &[usize]| {
            indices.iter().map(|index| definition.columns[*index].name.as_str()).collect::<Vec<_>>().join(", ")
        };
        return Err(SqlError::plan(
            format!(
                "`{}` takes {} column{} ({}), but the query gives {given}; name the columns to fill: `INSERT INTO {} (..)`",
                definition.name,
                targets.len(),
                if targets.len() == 1 { "" } else { "s" },
                list(&targets),
                definition.name
            ),
            insert.query.location,
        ));
    }
    let is_values = matches!(insert.query.ast.body.as_ref(), SetExpr::Values(_));
    let mut exprs = vec![];
    for index in &sink_columns {
        let column = &definition.columns[*index];
        let expr = match targets.iter().position(|target| target == index) {
            Some(place) => {
                let (qualifier, field) = plan.schema().qualified_field(place);
                let expr = Expr::Column(Column::from((qualifier, field)));
                let (from, to) = (field.data_type(), &column.data_type);
                if !assignable(from, to, is_values) {
                    return Err(SqlError::plan(
                        format!(
                            "column `{0}` of `{1}` is {2}, but the query gives {3} (`{4}`); write `CAST(.. AS {2})`",
                            column.name,
                            definition.name,
                            sql_name(to),
                            sql_name(from),
                            field.name()
                        ),
                        insert.query.location,
                    ));
                }
                assigned(expr, from, column, &definition.name)
            }
            None if let Some(default) = &column.default => {
                let (expr, from) = default_value(context, default, &column.data_type)?;
                assigned(expr, &from, column, &definition.name)
            }
            None if column.nullable => Expr::Literal(ScalarValue::try_from(&column.data_type)?, None),
            None => {
                return Err(SqlError::plan(
                    format!("column `{}` of `{}` is NOT NULL and needs a value", column.name, definition.name),
                    at,
                ));
            }
        };
        exprs.push(expr.alias(&column.name));
    }
    let plan = LogicalPlanBuilder::from(plan).project(exprs)?.build()?;
    let factory = context.catalog.sink(&table).map_err(|error| error.or_at(at))?;
    let not_null = sink_columns.iter().enumerate().filter(|(_, index)| !definition.columns[**index].nullable);
    let not_null: Vec<usize> = not_null.map(|(place, _)| place).collect();
    let factory = not_null::checked(factory, definition, not_null);
    Ok((plan, Target { table: definition.name.clone(), factory }))
}

/// A value of type `from` as one of a column.
fn assigned(value: Expr, from: &DataType, column: &ColumnDefinition, table: &str) -> Expr {
    let to = &column.data_type;
    match from == to {
        // A text out of JSON keeps its quotes where the column is of JSON.
        false if column.is_json && matches!(from, DataType::Union(..)) => {
            jsonb::function(jsonb::CAST_JSON).call(vec![value])
        }
        true => value,
        false if may_fail(from, to) => convert::assignment(value, to, format!("column `{}` of `{table}`", column.name)),
        false => cast(value, to.clone()),
    }
}

/// What a column has by default, and its type: an expression of no columns, so that it may also be the time, or chance.
fn default_value(context: &PlanContext<'_>, default: &ExprText, to: &DataType) -> Result<(Expr, DataType)> {
    let mut default = default.clone();
    write_digits(to, vec![&mut default.ast]);
    let value = context.plan_expr(&default, &Arc::new(Schema::empty()))?;
    let data_type = value.get_type(&DFSchema::empty())?;
    Ok((value, data_type))
}

/// Checks what a column has by default, when its table is created.
///
/// # Errors
/// The column is computed, the expression does not plan without columns, or is of a type that does not go into the column.
pub(crate) fn check_default(catalog: &Catalog, column: &ColumnDefinition, table: &str) -> Result<()> {
    let Some(default) = &column.default else { return Ok(()) };
    let (_, from) = default_value(&PlanContext::new(catalog), default, &column.data_type)?;
    if !column.is_written() {
        let message = format!("column `{}` of `{table}` is not inserted, so it has no default", column.name);
        return Err(SqlError::plan(message, default.location));
    }
    if !assignable(&from, &column.data_type, true) {
        let (name, to, from) = (&column.name, sql_name(&column.data_type), sql_name(&from));
        let message = format!(
            "column `{name}` of `{table}` is {to}, but its default `{}` is {from}; write `CAST(.. AS {to})`",
            default.text
        );
        return Err(SqlError::plan(message, default.location));
    }
    Ok(())
}

/// Whether there are values of type `from` that do not fit `to`: those are told with the column that they were meant for. Times and what
/// becomes one go by the casts that know the time zone.
fn may_fail(from: &DataType, to: &DataType) -> bool {
    let is_time = |t: &DataType| matches!(t, DataType::Timestamp(..) | DataType::Date32 | DataType::Date64);
    let is_instant = |t: &DataType| matches!(t, DataType::Timestamp(_, Some(_)));
    let is_number = |t: &DataType| t.is_numeric();
    match (from, to) {
        (DataType::Null, _) => false,
        _ if is_instant(from) || is_instant(to) => false,
        (DataType::Union(..), _) => true,
        _ if convert::has_row(to) => true,
        (from, to) if is_number(from) && is_number(to) => !is_wider(from, to),
        (DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View, to) => {
            let is_read = convert::is_read_here(to) || to == &DataType::Binary;
            is_number(to) || is_time(to) || to == &DataType::Boolean || is_read
        }
        _ => false,
    }
}

/// Whether each number of type `from` is one of type `to`.
fn is_wider(from: &DataType, to: &DataType) -> bool {
    let bits = |t: &DataType| t.primitive_width().unwrap_or_default();
    match (from.is_integer(), to) {
        (true, to) if to.is_signed_integer() && from.is_signed_integer() => bits(to) >= bits(from),
        (true, to) if to.is_unsigned_integer() => from.is_unsigned_integer() && bits(to) >= bits(from),
        (true, to) if to.is_integer() => bits(to) > bits(from),
        (_, DataType::Float32 | DataType::Float64) => true,
        _ => false,
    }
}

/// Whether a value of type `from` may be put into a column of type `to` without a `CAST`.
pub(super) fn assignable(from: &DataType, to: &DataType, is_values: bool) -> bool {
    use DataType as T;
    let is_text = |t: &T| matches!(t, T::Utf8 | T::LargeUtf8 | T::Utf8View);
    let is_bytes = |t: &T| matches!(t, T::Binary | T::LargeBinary | T::BinaryView | T::FixedSizeBinary(_));
    let is_time = |t: &T| matches!(t, T::Timestamp(..) | T::Date32 | T::Date64);
    let is_time_of_day = |t: &T| matches!(t, T::Time32(_) | T::Time64(_));
    let is_number = |t: &T| t.is_numeric() || matches!(t, T::Decimal32(..) | T::Decimal64(..));
    let is_list = |t: &T| matches!(t, T::List(_) | T::LargeList(_) | T::FixedSizeList(..));
    if from == to || from == &T::Null {
        return true;
    }
    if let T::Dictionary(_, value) = from {
        return assignable(value, to, is_values);
    }
    let kin = (is_text(from) && (is_text(to) || is_values))
        || (is_bytes(from) && is_bytes(to))
        || (is_number(from) && is_number(to))
        || (is_time(from) && is_time(to))
        || (is_time_of_day(from) && is_time_of_day(to))
        || match (from, to) {
            (T::List(a) | T::LargeList(a) | T::FixedSizeList(a, _), T::List(b) | T::LargeList(b)) if is_list(to) => {
                assignable(a.data_type(), b.data_type(), is_values)
            }
            (T::Struct(a), T::Struct(b)) => convert::pairs(a, b).is_some_and(|pairs| {
                let mut fields = pairs.into_iter().zip(b);
                fields.all(|(at, b)| assignable(a[at].data_type(), b.data_type(), is_values))
            }),
            // A value out of JSON, as `->>` gives it.
            (T::Union(..), to) => is_text(to),
            (T::Map(a, _), T::Map(b, _)) => assignable(a.data_type(), b.data_type(), is_values),
            // What is shown as text can be put into a text.
            (from, to) => {
                is_text(to) && (is_number(from) || is_time(from) || is_time_of_day(from) || from == &T::Boolean)
            }
        };
    kin && convert::can_convert(from, to)
}
