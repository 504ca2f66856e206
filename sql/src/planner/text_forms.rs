//! Forms of texts that DataFusion does not read: `COLLATE`, `N'..'`, `SUBSTRING(text FROM 'pattern')`, casts to texts of a length.

use datafusion::sql::sqlparser::ast::{
    CastKind, CharacterLength, DataType, Expr, ObjectName, Spanned, Value, ValueWithSpan,
};

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

/// `CAST(x AS VARCHAR(3))`, which has three characters at most, and `CAST(x AS CHAR(3))`, which has three: blanks are added. None for other types.
pub(super) fn of_length(kind: &CastKind, value: &Expr, data_type: &DataType) -> Option<Expr> {
    let (length, is_filled) = match data_type {
        DataType::Varchar(Some(CharacterLength::IntegerLength { length, .. })) => (*length, false),
        DataType::Char(Some(CharacterLength::IntegerLength { length, .. })) => (*length, true),
        _ => return None,
    };
    // Longer than a text can be.
    if length > i32::MAX as u64 {
        return None;
    }
    let number = |number: u64| Expr::Value(Value::Number(number.to_string(), false).into());
    let text = Expr::Cast {
        kind: kind.clone(),
        expr: Box::new(value.clone()),
        data_type: DataType::Text,
        array: false,
        format: None,
    };
    let cut = |text: Expr| window::call("substr", vec![text, number(1), number(length)]);
    Some(match is_filled {
        true => window::call("rpad", vec![cut(text), number(length)]),
        false => cut(text),
    })
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
