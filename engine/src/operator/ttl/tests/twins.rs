//! What operators with a TTL have to say, worked out from all rows that are not forgotten, in every step anew.

use std::collections::BTreeMap;

use super::{Changes, TTL_MS, net};
use crate::aggregate::testing::Row;
use crate::operator::join::JoinKind;
use crate::operator::set_operation::SetFunction;
use crate::operator::top_n::RankFunction;

/// The same operator, simpler.
pub(super) trait Twin {
    /// What a step changes.
    fn step(&mut self, clock_ms: i64, ports: &[Vec<Row>]) -> Changes;
}

/// Values by key, each with the time at which it was touched.
#[derive(Debug)]
struct Touched<K, V>(BTreeMap<K, (V, i64)>);

impl<K: Ord, V> Default for Touched<K, V> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Ord + Clone, V: Default> Touched<K, V> {
    fn forget(&mut self, clock_ms: i64) {
        self.0.retain(|_, (_, touched)| clock_ms < *touched + TTL_MS);
    }

    fn touch(&mut self, key: K, clock_ms: i64) -> &mut V {
        let (value, touched) = self.0.entry(key).or_default();
        *touched = clock_ms;
        value
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.0.get(key).map(|(value, _)| value)
    }
}

fn cells(row: &Row) -> (i64, i64) {
    (row.key.expect("rows have keys"), row.value.expect("rows have values"))
}

fn difference(before: Changes, after: Changes) -> Changes {
    net(after.into_iter().chain(before.into_iter().map(|(row, weight)| (row, -weight))))
}

/// Values with their weights, for each key.
#[derive(Default)]
pub(super) struct AggregateTwin(Touched<i64, BTreeMap<i64, i64>>);

impl AggregateTwin {
    fn shown(&self) -> Changes {
        let text = |(key, (values, _)): (&i64, &(BTreeMap<i64, i64>, i64))| {
            let count: i64 = values.values().sum();
            let sum: i64 = values.iter().map(|(value, weight)| value * weight).sum();
            let mut present = values.iter().filter(|(_, weight)| **weight > 0);
            let distinct = present.clone().count();
            let min = present.next().map_or(0, |(value, _)| *value);
            (format!("{key}|{count}|{sum}|{min}|{distinct}"), 1)
        };
        net(self.0.0.iter().map(text))
    }
}

impl Twin for AggregateTwin {
    fn step(&mut self, clock_ms: i64, ports: &[Vec<Row>]) -> Changes {
        self.0.forget(clock_ms);
        let before = self.shown();
        let (gone, come): (Vec<&Row>, Vec<&Row>) = ports[0].iter().partition(|row| row.weight < 0);
        for rows in [gone, come] {
            for row in rows {
                let (key, value) = cells(row);
                *self.0.touch(key, clock_ms).entry(value).or_default() += row.weight;
            }
            self.0
                .0
                .values_mut()
                .filter(|(values, _)| values.values().sum::<i64>() <= 0)
                .for_each(|(values, _)| values.clear());
        }
        self.0.0.retain(|_, (values, _)| values.values().sum::<i64>() > 0);
        difference(before, self.shown())
    }
}

/// Keys that were said.
#[derive(Default)]
pub(super) struct DistinctTwin(Touched<i64, ()>);

impl Twin for DistinctTwin {
    fn step(&mut self, clock_ms: i64, ports: &[Vec<Row>]) -> Changes {
        self.0.forget(clock_ms);
        let mut changes = Changes::new();
        for row in &ports[0] {
            let (key, _) = cells(row);
            if self.0.get(&key).is_none() {
                changes.insert(key.to_string(), 1);
            }
            self.0.touch(key, clock_ms);
        }
        changes
    }
}

/// Rows with how often each side has them.
pub(super) struct SetTwin {
    function: SetFunction,
    all: bool,
    rows: Touched<(i64, i64), [i64; 2]>,
}

impl SetTwin {
    pub(super) fn new(function: SetFunction, all: bool) -> Self {
        Self { function, all, rows: Touched::default() }
    }

    fn shown(&self) -> Changes {
        let weight = |[left, right]: [i64; 2]| match (self.function, self.all) {
            (SetFunction::Intersect, true) => left.min(right),
            (SetFunction::Intersect, false) => left.min(right).min(1),
            (SetFunction::Except, true) => (left - right).max(0),
            (SetFunction::Except, false) => i64::from(left > 0 && right == 0),
        };
        net(self.rows.0.iter().map(|((key, value), (counts, _))| (format!("0|{key}|{value}"), weight(*counts))))
    }
}

impl Twin for SetTwin {
    fn step(&mut self, clock_ms: i64, ports: &[Vec<Row>]) -> Changes {
        self.rows.forget(clock_ms);
        let before = self.shown();
        for (side, rows) in ports.iter().enumerate() {
            let (gone, come): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.weight < 0);
            gone.iter().for_each(|row| self.rows.touch(cells(row), clock_ms)[side] += row.weight);
            self.rows.0.values_mut().for_each(|(counts, _)| *counts = counts.map(|count| count.max(0)));
            come.iter().for_each(|row| self.rows.touch(cells(row), clock_ms)[side] += row.weight);
        }
        self.rows.0.retain(|_, (counts, _)| *counts != [0; 2]);
        difference(before, self.shown())
    }
}

/// The last value of each key.
#[derive(Default)]
pub(super) struct NormalizeTwin(Touched<i64, i64>);

impl NormalizeTwin {
    fn shown(&self) -> Changes {
        net(self.0.0.iter().map(|(key, (value, _))| (format!("0|{key}|{value}"), 1)))
    }
}

impl Twin for NormalizeTwin {
    fn step(&mut self, clock_ms: i64, ports: &[Vec<Row>]) -> Changes {
        self.0.forget(clock_ms);
        let before = self.shown();
        for row in &ports[0] {
            let (key, value) = cells(row);
            match row.weight > 0 {
                true => *self.0.touch(key, clock_ms) = value,
                false => drop(self.0.0.remove(&key)),
            }
        }
        difference(before, self.shown())
    }
}

/// A row of a partition: its value, its tie and its weight.
type Ranked = (i64, u64, i64);

/// The rows of each partition.
pub(super) struct TopNTwin {
    function: RankFunction,
    last: u64,
    retracting: bool,
    partitions: Touched<i64, Vec<Ranked>>,
}

impl TopNTwin {
    pub(super) fn new(function: RankFunction, last: u64, retracting: bool) -> Self {
        Self { function, last, retracting, partitions: Touched::default() }
    }

    /// The rows that are shown, with how often.
    fn top(&self, rows: &[Ranked]) -> Vec<Ranked> {
        let mut rows = rows.to_vec();
        rows.sort_unstable();
        let (mut number, mut rank, mut dense, mut last) = (0, 0, 0, None);
        let mut top: Vec<Ranked> = vec![];
        for (value, tie, weight) in rows {
            for _ in 0..weight {
                number += 1;
                if last != Some(value) {
                    (rank, dense, last) = (number, dense + 1, Some(value));
                }
                let of_row = match self.function {
                    RankFunction::RowNumber => number,
                    RankFunction::Rank => rank,
                    RankFunction::DenseRank => dense,
                };
                if of_row <= self.last {
                    top.push((value, tie, 1));
                }
            }
        }
        top
    }

    fn shown(&self) -> Changes {
        let rows = self.partitions.0.iter().flat_map(|(key, (rows, _))| {
            self.top(rows).into_iter().map(move |(value, _, weight)| (format!("0|{key}|{value}"), weight))
        });
        net(rows)
    }
}

impl Twin for TopNTwin {
    fn step(&mut self, clock_ms: i64, ports: &[Vec<Row>]) -> Changes {
        self.partitions.forget(clock_ms);
        let before = self.shown();
        let mut of_key = BTreeMap::<i64, Vec<Row>>::new();
        ports[0].iter().for_each(|row| of_key.entry(cells(row).0).or_default().push(*row));
        for (key, rows) in of_key {
            let old = self.partitions.get(&key).cloned().unwrap_or_default();
            let mut new = old.clone();
            let mut came = BTreeMap::<i64, i64>::new();
            for row in rows {
                let (_, value) = cells(&row);
                *came.entry(value).or_default() += row.weight.max(0);
                match new.iter_mut().find(|(other, ..)| self.retracting && *other == value) {
                    Some((_, tie, weight)) => {
                        if *weight <= 0 && row.weight > 0 {
                            *tie = row.ordinal;
                        }
                        *weight += row.weight;
                    }
                    None => new.push((value, row.ordinal, row.weight)),
                }
            }
            new.iter_mut().for_each(|(value, _, weight)| {
                *weight = (*weight).max(came.get(value).copied().filter(|_| self.retracting).unwrap_or(0))
            });
            new.retain(|(_, _, weight)| *weight > 0);
            let weights =
                |rows: &[Ranked]| rows.iter().map(|(value, _, weight)| (*value, *weight)).collect::<BTreeMap<_, _>>();
            let changed = match self.retracting {
                true => weights(&new) != weights(&old),
                // A row that is not among the first changes nothing.
                false => self.top(&new) != self.top(&old),
            };
            if changed {
                *self.partitions.touch(key, clock_ms) = new;
            } else if let Some((rows, _)) = self.partitions.0.get_mut(&key) {
                *rows = new;
            }
        }
        self.partitions.0.retain(|_, (rows, _)| !rows.is_empty());
        difference(before, self.shown())
    }
}

/// A stored row of one side.
#[derive(Clone, Debug)]
struct Joined {
    key: i64,
    value: i64,
    weight: i64,
    matches: i64,
    touched: i64,
    /// Came in this step.
    fresh: bool,
    /// By how much this step changed its weight.
    change: i64,
    /// How often it came in this step.
    came: i64,
}

/// The rows of both sides, each with how many matches it has met.
pub(super) struct JoinTwin {
    kind: JoinKind,
    retracting: [bool; 2],
    ttl_ms: [Option<i64>; 2],
    sides: [Vec<Joined>; 2],
}

impl JoinTwin {
    pub(super) fn new(kind: JoinKind, retracting: [bool; 2], ttl_ms: [Option<i64>; 2]) -> Self {
        Self { kind, retracting, ttl_ms, sides: [vec![], vec![]] }
    }

    fn shown(&self) -> Changes {
        use JoinKind::*;
        let mut rows: Vec<(String, i64)> = vec![];
        if matches!(self.kind, Inner | Left | Right | Full) {
            for left in &self.sides[0] {
                for right in self.sides[1].iter().filter(|right| right.key == left.key) {
                    let text = format!("{}|{}|{}|{}", left.key, left.value, right.key, right.value);
                    rows.push((text, left.weight * right.weight));
                }
            }
        }
        for (at, side) in self.sides.iter().enumerate() {
            for Joined { key, value, weight, matches, .. } in side {
                let text = match (self.kind, at, *matches > 0) {
                    (Left | Full, 0, false) => format!("{key}|{value}||"),
                    (Right | Full, 1, false) => format!("||{key}|{value}"),
                    (LeftSemi, 0, true) | (LeftAnti, 0, false) | (RightSemi, 1, true) | (RightAnti, 1, false) => {
                        format!("{key}|{value}")
                    }
                    (LeftMark, 0, mark) => format!("{key}|{value}|{mark}"),
                    _ => continue,
                };
                rows.push((text, *weight));
            }
        }
        net(rows)
    }

    fn take_in(&mut self, at: usize, rows: &[Row], clock_ms: i64) {
        use JoinKind::*;
        let side = &mut self.sides[at];
        // Rows that are equal in what a join needs of them are one.
        let key_alone = match self.kind {
            LeftSemi | LeftAnti | LeftMark => at == 1,
            RightSemi | RightAnti => at == 0,
            _ => false,
        };
        for row in rows {
            let (key, value) = cells(row);
            let value = if key_alone { 0 } else { value };
            match side.iter_mut().find(|known| self.retracting[at] && (known.key, known.value) == (key, value)) {
                Some(known) => {
                    known.change += row.weight;
                    known.came += row.weight.max(0);
                }
                None => side.push(Joined {
                    key,
                    value,
                    weight: 0,
                    matches: 0,
                    touched: clock_ms,
                    fresh: true,
                    change: row.weight,
                    came: row.weight.max(0),
                }),
            }
        }
        for row in side.iter_mut() {
            // What went goes before what came; of what is not there nothing can go.
            row.change = row.change.max(row.came - row.weight);
            row.weight += row.change;
            if row.change != 0 {
                row.touched = clock_ms;
            }
        }
    }
}

impl Twin for JoinTwin {
    fn step(&mut self, clock_ms: i64, ports: &[Vec<Row>]) -> Changes {
        for (side, ttl_ms) in self.sides.iter_mut().zip(self.ttl_ms) {
            side.retain(|row| ttl_ms.is_none_or(|ttl_ms| clock_ms < row.touched + ttl_ms));
            side.iter_mut().for_each(|row| (row.fresh, row.change, row.came) = (false, 0, 0));
        }
        let before = self.shown();
        (0..2).for_each(|at| self.take_in(at, &ports[at], clock_ms));
        for at in 0..2 {
            let others = self.sides[1 - at].clone();
            for row in &mut self.sides[at] {
                let meets = others.iter().filter(|other| other.key == row.key);
                row.matches += meets.map(|other| if row.fresh { other.weight } else { other.change }).sum::<i64>();
            }
        }
        self.sides.iter_mut().for_each(|side| side.retain(|row| row.weight > 0));
        difference(before, self.shown())
    }
}
