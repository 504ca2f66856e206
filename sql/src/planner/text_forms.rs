//! Forms of texts that DataFusion does not read: `COLLATE`, `N'..'`, `SUBSTRING(text FROM 'pattern')`.

use datafusion::sql::sqlparser::ast::{Expr, ObjectName, Spanned, Value, ValueWithSpan};

use super::window;
use crate::error::{Location, Result, SqlError};

/// Orders in which texts go by their code points, as here all do.
const BY_CODE_POINTS: [&str; 4] = ["c", "posix", "ucs_basic", "unicode"];

/// Such a form as what it means; `None`: it is none.
///
/// # Errors
/// An order of texts that is another one.
pub(super) fn written_out(expr: &Expr) -> Result<Option<Expr>> {
    match expr {
        Expr::Collate { expr, collation } => by_code_points(collation).map(|()| Some(expr.as_ref().clone())),
        Expr::Value(ValueWithSpan { value: Value::NationalStringLiteral(text), span }) => {
            Ok(Some(Expr::Value(Value::SingleQuotedString(text.clone()).with_span(*span))))
        }
        // What the pattern's first group matches, or all of it where it has none.
        Expr::Substring { expr, substring_from: Some(pattern), substring_for: None, .. } if is_text(pattern) => {
            let groups = window::call("regexp_match", vec![expr.as_ref().clone(), pattern.as_ref().clone()]);
            let first = Expr::Value(Value::Number("1".into(), false).into());
            Ok(Some(window::call("array_element", vec![groups, first])))
        }
        _ => Ok(None),
    }
}

fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::SingleQuotedString(_)))
}

fn by_code_points(collation: &ObjectName) -> Result<()> {
    let name = collation.0.last().and_then(|part| part.as_ident()).map(|name| name.value.to_lowercase());
    match name {
        Some(name) if BY_CODE_POINTS.contains(&name.as_str()) => Ok(()),
        _ => Err(SqlError::unsupported(
            format!("`COLLATE {collation}`"),
            "texts are compared by their code points (`COLLATE \"C\"`); compare `LOWER(text)` where case is not to count",
            Location::of(collation.span()),
        )),
    }
}
