//! `CREATE TABLE b (..) WITH (..) LIKE a (EXCLUDING OPTIONS)`, Flink's, and `CREATE TABLE b (LIKE a INCLUDING GENERATED)`, PostgreSQL's.
//!
//! What is taken over are features of the other table. Flink takes all of them, and lets options that are said anew take the place of the others;
//! PostgreSQL takes the columns alone.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::ast::{Like, LikeFeature, LikeMerge};
use super::cursor::Cursor;
use crate::error::{Result, SqlError};

impl Cursor<'_> {
    /// Behind the word `LIKE`, as a clause behind the columns.
    pub(super) fn like_clause(&mut self) -> Result<Like> {
        let table = self.object_name()?;
        let mut like = Like { table, all: LikeMerge::Including, features: vec![] };
        like.features.push((LikeFeature::Options, LikeMerge::Overwriting));
        if self.accept_token(&Token::LParen) {
            while !self.accept_token(&Token::RParen) {
                self.like_feature(&mut like)?;
            }
        }
        Ok(like)
    }

    /// Behind the word `LIKE`, among the columns.
    pub(super) fn like_element(&mut self) -> Result<Like> {
        let table = self.object_name()?;
        let mut like = Like { table, all: LikeMerge::Excluding, features: vec![] };
        while !matches!(self.peek(), Token::Comma | Token::RParen | Token::EOF) {
            self.like_feature(&mut like)?;
        }
        Ok(like)
    }

    fn like_feature(&mut self, like: &mut Like) -> Result<()> {
        let merge = match () {
            () if self.accept("INCLUDING") => LikeMerge::Including,
            () if self.accept("EXCLUDING") => LikeMerge::Excluding,
            () if self.accept("OVERWRITING") => LikeMerge::Overwriting,
            () => return Err(self.expected("`INCLUDING`, `EXCLUDING`, `OVERWRITING` or `)`")),
        };
        let location = self.location();
        if self.accept("ALL") {
            like.all = merge;
            // The rule for options that nobody said.
            if merge != LikeMerge::Including {
                like.features.retain(|(feature, _)| *feature != LikeFeature::Options);
            }
            return Ok(());
        }
        let Some(feature) = LikeFeature::ALL.into_iter().find(|feature| self.accept(feature.word())) else {
            let known = LikeFeature::ALL.map(LikeFeature::word).join(", ");
            return Err(self.expected(&format!("one of ALL, {known}")));
        };
        if merge == LikeMerge::Overwriting && matches!(feature, LikeFeature::Constraints | LikeFeature::Partitions) {
            let word = feature.word();
            let message = format!("`OVERWRITING {word}` is not there: write `EXCLUDING {word}`, and the new ones");
            return Err(SqlError::syntax(message, location));
        }
        like.features.retain(|(known, _)| *known != feature);
        like.features.push((feature, merge));
        Ok(())
    }
}
