//! `UNION [ALL] CORRESPONDING [BY (a, b)]`, and so of `INTERSECT` and `EXCEPT`: the columns that both sides have by name (SQL:2016, 7.17).
//!
//! sqlparser does not know it. The words become one operand more, `a EXCEPT SELECT __eagre_corresponding(b, c) UNION ALL d`, which the planner finds as
//! the right side of what stands left of the union, and takes out again: operators of one rank are read from the left, so the mark is bound to exactly the
//! operator behind it.

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, SelectItem, SetExpr,
};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Word};

const MARK: &str = "__eagre_corresponding";

/// Puts the mark in the place of the words.
pub(super) fn rewrite(mut tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    let mut index = 0;
    while index < tokens.len() {
        if let Some(found) = Found::at(&tokens, index) {
            let span = tokens[index].span;
            let token = |token: Token| TokenWithSpan { span, token };
            let word =
                |text: &str, keyword| token(Token::Word(Word { value: text.into(), quote_style: None, keyword }));
            let operator: Vec<TokenWithSpan> = tokens[index..found.word].to_vec();
            let columns: Vec<TokenWithSpan> = tokens[found.columns.clone()].to_vec();
            let rank = match found.intersects {
                true => word("INTERSECT", Keyword::INTERSECT),
                false => word("EXCEPT", Keyword::EXCEPT),
            };
            let mut written =
                vec![rank, word("SELECT", Keyword::SELECT), word(MARK, Keyword::NoKeyword), token(Token::LParen)];
            written.extend(columns);
            written.push(token(Token::RParen));
            written.extend(operator);
            let length = written.len();
            tokens.splice(index..found.end, written);
            index += length;
        } else {
            index += 1;
        }
    }
    tokens
}

struct Found {
    intersects: bool,
    /// Where `CORRESPONDING` stands.
    word: usize,
    columns: std::ops::Range<usize>,
    end: usize,
}

impl Found {
    fn at(tokens: &[TokenWithSpan], index: usize) -> Option<Self> {
        let is = |place: usize, text: &str| {
            matches!(tokens.get(place).map(|token| &token.token), Some(Token::Word(word))
                if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
        };
        if !["UNION", "INTERSECT", "EXCEPT", "MINUS"].iter().any(|operator| is(index, operator)) {
            return None;
        }
        let word = index + 1 + usize::from(is(index + 1, "ALL") || is(index + 1, "DISTINCT"));
        if !is(word, "CORRESPONDING") {
            return None;
        }
        let intersects = is(index, "INTERSECT");
        let opens = is(word + 1, "BY") && tokens.get(word + 2).is_some_and(|token| token.token == Token::LParen);
        if !opens {
            return Some(Self { intersects, word, columns: word..word, end: word + 1 });
        }
        let close = (word + 3..tokens.len()).find(|place| tokens[*place].token == Token::RParen)?;
        Some(Self { intersects, word, columns: word + 3..close, end: close + 1 })
    }
}

/// Takes the mark off the left side of a set operation; the columns that it names, none of them where it names none.
pub(crate) fn take(left: &mut Box<SetExpr>) -> Option<Vec<Ident>> {
    let SetExpr::SetOperation { left: inner, right: mark, .. } = &mut **left else { return None };
    let SetExpr::Select(select) = &**mark else { return None };
    let [
        SelectItem::UnnamedExpr(Expr::Function(function))
        | SelectItem::ExprWithAlias { expr: Expr::Function(function), .. },
    ] = select.projection.as_slice()
    else {
        return None;
    };
    if function.name.to_string() != MARK {
        return None;
    }
    let columns = match &function.args {
        FunctionArguments::List(list) => list.args.iter().filter_map(|arg| match arg {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(ident))) => Some(ident.clone()),
            _ => None,
        }),
        _ => return None,
    };
    let columns = columns.collect();
    let operand = std::mem::replace(
        inner,
        Box::new(SetExpr::Values(datafusion::sql::sqlparser::ast::Values {
            explicit_row: false,
            value_keyword: false,
            rows: vec![],
        })),
    );
    *left = operand;
    Some(columns)
}

#[cfg(test)]
mod tests {
    use crate::parser::parse_query;

    /// The mark is bound to the operator behind it, whatever stands before.
    #[test]
    fn marks_stand_left_of_their_operator() {
        for (sql, meaning) in [
            (
                "SELECT a FROM t UNION ALL CORRESPONDING SELECT a FROM u",
                "SELECT a FROM t EXCEPT SELECT __eagre_corresponding() UNION ALL SELECT a FROM u",
            ),
            (
                "SELECT 1 INTERSECT SELECT 2 EXCEPT CORRESPONDING BY (a, \"B\") SELECT 3",
                "SELECT 1 INTERSECT SELECT 2 EXCEPT SELECT __eagre_corresponding(a, \"B\") EXCEPT SELECT 3",
            ),
            (
                "SELECT 1 UNION SELECT 2 INTERSECT CORRESPONDING SELECT 3",
                "SELECT 1 UNION SELECT 2 INTERSECT SELECT __eagre_corresponding() INTERSECT SELECT 3",
            ),
            ("SELECT corresponding FROM t UNION SELECT 1", "SELECT corresponding FROM t UNION SELECT 1"),
        ] {
            let query = parse_query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(query.ast.to_string(), meaning, "{sql}");
        }
    }
}
