//! `CAST(x AS TIMESTAMP(p))` where `p` digits are fewer than the type that holds it has.
//!
//! Timestamps are held in milli-, micro- or nanoseconds (`crate::types`), so what the digits that were not asked for say is cut off:
//! `TIMESTAMP(0)` is a whole second.

use datafusion::sql::sqlparser::ast::{CastKind, DataType, Expr};

use super::window;

/// The cast with its digits cut off; none where all digits of the type are asked for.
pub(super) fn cut(expr: &Expr) -> Option<Expr> {
    let Expr::Cast { kind: CastKind::Cast | CastKind::TryCast | CastKind::DoubleColon, data_type, .. } = expr else {
        return None;
    };
    let DataType::Timestamp(Some(digits), _) = data_type else { return None };
    let unit = match digits {
        0 => "1 second",
        1 => "100 milliseconds",
        2 => "10 milliseconds",
        4 => "100 microseconds",
        5 => "10 microseconds",
        7 => "100 nanoseconds",
        8 => "10 nanoseconds",
        _ => return None,
    };
    Some(window::call("date_bin", vec![window::string(unit), expr.clone()]))
}
