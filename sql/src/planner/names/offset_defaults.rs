//! Defaults of `LAG` and `LEAD` that DataFusion does not take, which wants a constant and makes it one of the argument's type in silence: columns and other
//! expressions, and numbers that have more digits than the argument.
//!
//! `LAG(x, n, d) OVER w` is `CASE WHEN LAG(1, n, 0) OVER w = 1 THEN LAG(x, n) OVER w ELSE d END`, which has the common type of both; of `IGNORE NULLS` that of
//! the row, which has one, tells itself. `LAG(x, NULL)` is null, and `LAG(x, -n)` is `LEAD(x, n)`.

use arrow::datatypes::DataType;
use datafusion::sql::sqlparser::ast::helpers::attached_token::AttachedToken;
use datafusion::sql::sqlparser::ast::{
    CaseWhen, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentClause, FunctionArguments, Ident,
    NullTreatment, ObjectName, UnaryOperator, Value,
};

use super::{Resolver, Scope};
use crate::error::Result;
use crate::planner::rows::equal;

impl Resolver<'_> {
    /// What such a call is; none for any other.
    pub(super) fn with_default(&self, function: &Function, scope: &Scope) -> Result<Option<Expr>> {
        let name = function.name.to_string().to_lowercase();
        if !matches!(name.as_str(), "lag" | "lead") || function.over.is_none() {
            return Ok(None);
        }
        // Back by less than nothing is forth: nulls are passed over in the direction that the name says.
        let turned = turned(function, &name);
        let is_turned = turned.is_some();
        let function = turned.as_ref().unwrap_or(function);
        let unchanged = || Ok(is_turned.then(|| Expr::Function(function.clone())));
        let FunctionArguments::List(list) = &function.args else { return Ok(None) };
        let plain = |arg: &FunctionArg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr.clone()),
            _ => None,
        };
        let Some(args) = list.args.iter().map(plain).collect::<Option<Vec<Expr>>>() else { return unchanged() };
        let called_with = |args: Vec<Expr>| {
            let mut call = function.clone();
            if let FunctionArguments::List(list) = &mut call.args {
                list.args = args.into_iter().map(|arg| FunctionArg::Unnamed(FunctionArgExpr::Expr(arg))).collect();
            }
            Expr::Function(call)
        };
        let case = |condition: Expr, result: Expr, otherwise: Option<Expr>| Expr::Case {
            case_token: AttachedToken::empty(),
            end_token: AttachedToken::empty(),
            operand: None,
            conditions: vec![CaseWhen { condition, result }],
            else_result: otherwise.map(Box::new),
        };
        // Of how many rows away is not known, nothing is: DataFusion takes it for 0.
        if let [value, Expr::Value(offset), ..] = args.as_slice()
            && offset.value == Value::Null
        {
            let never = Expr::Value(Value::Boolean(false).into());
            return Ok(Some(case(never, called_with(vec![value.clone()]), None)));
        }
        let Ok([value, offset, default]) = <[Expr; 3]>::try_from(args) else { return unchanged() };
        let value_type = self.type_of(&value, scope).ok().flatten();
        if is_kept(&default, value_type.as_ref()) {
            return unchanged();
        }
        let ignores = FunctionArgumentClause::IgnoreOrRespectNulls(NullTreatment::IgnoreNulls);
        let ignores_nulls =
            function.null_treatment == Some(NullTreatment::IgnoreNulls) || list.clauses.contains(&ignores);
        let number = |digits: &str| Expr::Value(Value::Number(digits.into(), false).into());
        let found = called_with(vec![value, offset.clone()]);
        let condition = match ignores_nulls {
            true => Expr::IsNotNull(Box::new(found.clone())),
            false => equal(called_with(vec![number("1"), offset, number("0")]), number("1")),
        };
        Ok(Some(case(condition, found, Some(default))))
    }
}

/// `LAG(x, -n)` as `LEAD(x, n)`, and the other way round; `None`: the offset is none that is written with a sign.
fn turned(function: &Function, name: &str) -> Option<Function> {
    let mut turned = function.clone();
    let FunctionArguments::List(list) = &mut turned.args else { return None };
    let FunctionArg::Unnamed(FunctionArgExpr::Expr(offset)) = list.args.get_mut(1)? else { return None };
    let Expr::UnaryOp { op: UnaryOperator::Minus, expr } = offset else { return None };
    if !matches!(&**expr, Expr::Value(value) if matches!(value.value, Value::Number(..))) {
        return None;
    }
    *offset = expr.as_ref().clone();
    turned.name = ObjectName::from(vec![Ident::new(if name == "lag" { "lead" } else { "lag" })]);
    Some(turned)
}

/// Whether the default is a constant that is none the less for being of the type of the argument, where that is known.
fn is_kept(default: &Expr, value_type: Option<&DataType>) -> bool {
    let digits = match default {
        Expr::Nested(inner) => return is_kept(inner, value_type),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } => match expr.as_ref() {
            Expr::Value(value) => &value.value,
            _ => return false,
        },
        Expr::Value(value) => &value.value,
        _ => return false,
    };
    let Value::Number(digits, _) = digits else { return true };
    match (digits.split_once('.'), value_type) {
        _ if digits.contains(['e', 'E']) => value_type.is_some_and(DataType::is_floating),
        (_, Some(value_type)) if value_type.is_floating() => true,
        (None, Some(DataType::Int64)) => digits.parse::<i64>().is_ok(),
        (None, Some(DataType::Int8)) => digits.parse::<i8>().is_ok(),
        (None, Some(DataType::Int16)) => digits.parse::<i16>().is_ok(),
        (whole, Some(DataType::Decimal128(precision, scale))) => {
            let (whole, fraction) = whole.unwrap_or((digits, ""));
            let room = i64::from(*precision) - i64::from(*scale);
            fraction.len() as i64 <= i64::from(*scale) && whole.len() as i64 <= room
        }
        (None, _) => digits.parse::<i32>().is_ok(),
        (Some(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parser::parse_expr;

    /// Constants that the argument's type holds stay DataFusion's.
    #[test]
    fn constants_that_fit_are_kept() {
        let decimal = DataType::Decimal128(5, 2);
        for (default, value_type, kept) in [
            ("NULL", Some(&DataType::Int32), true),
            ("'none'", None, true),
            ("-1", Some(&DataType::Int32), true),
            ("3000000000", Some(&DataType::Int32), false),
            ("3000000000", Some(&DataType::Int64), true),
            ("-1.4", Some(&DataType::Int32), false),
            ("-1.4", Some(&DataType::Float64), true),
            ("1e3", Some(&DataType::Float32), true),
            ("(123.45)", Some(&decimal), true),
            ("1234", Some(&decimal), false),
            ("0.125", Some(&decimal), false),
            ("0", None, true),
            ("0.5", None, false),
            ("d", Some(&DataType::Int32), false),
            ("DATE '2024-01-01'", Some(&DataType::Date32), false),
        ] {
            let expr = parse_expr(default).unwrap_or_else(|error| panic!("{default}: {error}"));
            assert_eq!(is_kept(&expr.ast, value_type), kept, "{default} for {value_type:?}");
        }
    }
}
