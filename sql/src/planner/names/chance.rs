//! `random()`, `uuid()` and their like in a CTE: one call, however often the CTE is read.
//!
//! The planner copies a CTE to each of its readers, and two calls in one plan give different values. So a call in a CTE gets its salt here, before
//! it is copied ([`crate::functions::volatile`]): copies with one salt give a row one value. Readers of a view each have their own.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Cte, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, Value,
    visit_expressions_mut,
};

/// Gives the calls of functions of chance in a CTE their salts.
pub(super) fn fix_salts(cte: &mut Cte) {
    let text = cte.to_string();
    let place = cte.alias.name.span.start;
    let mut count = 0_u64;
    let _ = visit_expressions_mut(&mut cte.query, |expr| {
        if let Expr::Function(function) = expr
            && function.over.is_none()
            && let Some(name) = salted(function)
            && let FunctionArguments::List(list) = &mut function.args
        {
            let salt = salt(&text, [place.line, place.column, count]);
            count += 1;
            let salt = Expr::Value(Value::Number(salt.to_string(), false).into());
            list.args.push(FunctionArg::Unnamed(FunctionArgExpr::Expr(salt)));
            function.name = ObjectName::from(vec![Ident::new(name)]);
        }
        ControlFlow::<()>::Continue(())
    });
}

/// What a call of chance without a seed is called where it has a salt.
fn salted(function: &Function) -> Option<&'static str> {
    let FunctionArguments::List(list) = &function.args else { return None };
    match (function.name.to_string().to_lowercase().as_str(), list.args.len()) {
        ("random" | "rand", 0) => Some("random"),
        ("uuid" | "gen_random_uuid", 0) => Some("uuid"),
        // The one with its seed at the end.
        ("rand_integer", 1) => Some("__rand_integer"),
        _ => None,
    }
}

/// A number that differs from call to call and from text to text, and is never one that the planner gives, or that a user is likely to:
/// FNV-1a.
fn salt(text: &str, places: [u64; 3]) -> u64 {
    let bytes = text.bytes().chain(places.into_iter().flat_map(u64::to_le_bytes));
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (hash >> 2) | (1 << 62)
}

#[cfg(test)]
mod tests {
    use super::salt;

    /// Salts are positive, and differ by text, place and call.
    #[test]
    fn salts_differ() {
        let salts = [salt("a", [1, 1, 0]), salt("a", [1, 1, 1]), salt("b", [1, 1, 0]), salt("a", [2, 1, 0])];
        assert!(salts.iter().all(|salt| i64::try_from(*salt).is_ok()));
        for (index, salt) in salts.iter().enumerate() {
            assert!(!salts[..index].contains(salt));
        }
    }
}
