//! The semantics said once more, in the plainest way: all matches of a pattern depth first, in order of preference; the first one counts.
//!
//! It takes exponential time, knows nothing of states or increments, and is what the matcher is tested against.

use crate::matcher::{BadSkip, Label, MatcherSpec, Skip, Status};
use crate::pattern::{Pattern, Variable, VariableSet};

/// A whole partition, and what is asked of its rows.
pub(crate) struct Naive<'a> {
    pub(crate) spec: &'a MatcherSpec,
    /// For each row the variables whose bits it has.
    pub(crate) rows: &'a [u64],
    pub(crate) times: &'a [i64],
    /// Whether a row can be taken, asked if `spec.asks`: the attempt's first row, the number of its match, and the variables of all rows
    /// from there on up to the one in question.
    pub(crate) holds: &'a dyn Fn(usize, u64, &[Label]) -> bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct NaiveFound {
    pub(crate) matches: Vec<(u64, u64, Vec<Label>, Status)>,
    pub(crate) unmatched: Vec<u64>,
    pub(crate) bad_skips: u64,
    /// A bad skip, where that is an error.
    pub(crate) failed: bool,
}

/// More steps than a test should take.
#[derive(Debug)]
pub(crate) struct TooSlow;

struct Attempt<'a> {
    naive: &'a Naive<'a>,
    first: usize,
    number: u64,
    labels: Vec<Label>,
    longest: Vec<Label>,
    steps: usize,
}

type Then<'t, 'a> = &'t mut dyn FnMut(&mut Attempt<'a>) -> bool;

impl<'a> Attempt<'a> {
    fn position(&self) -> usize {
        self.first + self.labels.len()
    }

    /// Each way to match the pattern from here on, until `then` says that it is enough.
    fn all(&mut self, pattern: &Pattern, excluded: bool, then: Then<'_, 'a>) -> bool {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return true;
        }
        match pattern {
            Pattern::Empty => then(self),
            Pattern::Variable(variable) => {
                if !self.take(*variable, excluded) {
                    return false;
                }
                let enough = then(self);
                if !enough {
                    self.labels.pop();
                }
                enough
            }
            Pattern::Concatenation(parts) => self.sequence(&parts.iter().collect::<Vec<_>>(), excluded, then),
            Pattern::Alternation(parts) => parts.iter().any(|part| self.all(part, excluded, then)),
            Pattern::Permutation(parts) => orders((0..parts.len()).collect()).iter().any(|order| {
                let parts: Vec<&Pattern> = order.iter().map(|index| &parts[*index]).collect();
                self.sequence(&parts, excluded, then)
            }),
            Pattern::Repetition { body, min, max, greedy } => {
                self.repeat((body, *min, *max, *greedy), excluded, 0, then)
            }
            Pattern::Exclusion(body) => self.all(body, true, then),
            Pattern::PartitionStart => self.position() == 0 && then(self),
            Pattern::PartitionEnd => self.position() == self.naive.rows.len() && then(self),
        }
    }

    fn take(&mut self, variable: Variable, excluded: bool) -> bool {
        let (naive, row) = (self.naive, self.position());
        if naive.rows.get(row).is_none_or(|bits| bits >> variable & 1 == 0) {
            return false;
        }
        if naive.spec.within.is_some_and(|within| naive.times[row] - naive.times[self.first] > within) {
            return false;
        }
        self.labels.push(Label::new(variable, excluded));
        if naive.spec.asks && !(naive.holds)(self.first, self.number, &self.labels) {
            self.labels.pop();
            return false;
        }
        if self.labels.len() > self.longest.len() {
            self.longest.clone_from(&self.labels);
        }
        true
    }

    fn sequence(&mut self, parts: &[&Pattern], excluded: bool, then: Then<'_, 'a>) -> bool {
        match parts {
            [] => then(self),
            [first, rest @ ..] => self.all(first, excluded, &mut |attempt| attempt.sequence(rest, excluded, then)),
        }
    }

    fn repeat(
        &mut self,
        repetition: (&Pattern, u32, Option<u32>, bool),
        excluded: bool,
        count: u32,
        then: Then<'_, 'a>,
    ) -> bool {
        let (body, min, max, greedy) = repetition;
        if max.is_some_and(|max| max < min) {
            return false;
        }
        let before = self.position();
        if !greedy && count >= min && then(self) {
            return true;
        }
        if max.is_none_or(|max| count < max) {
            // Behind an empty iteration comes what follows, once there are enough.
            let enough = self.all(body, excluded, &mut |attempt| match attempt.position() == before {
                true if count + 1 >= min => then(attempt),
                _ => attempt.repeat(repetition, excluded, count + 1, then),
            });
            if enough {
                return true;
            }
        }
        greedy && count >= min && then(self)
    }
}

const STEPS_MAX: usize = 100_000;

impl Naive<'_> {
    pub(crate) fn run(&self) -> Result<NaiveFound, TooSlow> {
        let mut found = NaiveFound::default();
        let (mut first, mut number, mut matched_until, mut told_until) = (0, 0, 0, 0);
        while first < self.rows.len() {
            let mut attempt =
                Attempt { naive: self, first, number: number + 1, labels: Vec::new(), longest: Vec::new(), steps: 0 };
            let matched = attempt.all(&self.spec.pattern, false, &mut |_| true);
            if attempt.steps > STEPS_MAX {
                return Err(TooSlow);
            }
            if !matched {
                let end = first + attempt.longest.len();
                if self.spec.partial && end > first && !(self.spec.skip == Skip::PastLastRow && end <= told_until) {
                    told_until = told_until.max(end);
                    found.matches.push((first as u64, number + 1, attempt.longest, Status::Timeout));
                }
                if self.spec.unmatched && first >= matched_until {
                    found.unmatched.push(first as u64);
                }
                first += 1;
                continue;
            }
            number += 1;
            let labels = attempt.labels;
            matched_until = matched_until.max(first + labels.len());
            let is = |variables: VariableSet| move |label: &Label| variables.contains(label.variable());
            let target = match self.spec.skip {
                _ if labels.is_empty() => Some(1),
                Skip::PastLastRow => Some(labels.len()),
                Skip::ToNextRow => Some(1),
                Skip::ToFirst(variables) => labels.iter().position(is(variables)),
                Skip::ToLast(variables) => labels.iter().rposition(is(variables)),
            };
            let target = target.filter(|target| *target > 0);
            if target.is_none() && self.spec.bad_skip == BadSkip::Error {
                found.failed = true;
                return Ok(found);
            }
            found.bad_skips += u64::from(target.is_none());
            found.matches.push((first as u64, number, labels, Status::Complete));
            first += target.unwrap_or(1);
        }
        Ok(found)
    }
}

/// All orders, the lexicographically first one first.
fn orders(left: Vec<usize>) -> Vec<Vec<usize>> {
    if left.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for first in &left {
        let rest = left.iter().copied().filter(|other| other != first).collect();
        for mut order in orders(rest) {
            order.insert(0, *first);
            all.push(order);
        }
    }
    all
}
