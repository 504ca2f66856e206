//! The matches of a block: partition by partition where there is one pattern, pattern by pattern where there are several.

use arrow::array::RecordBatch;
use eagre_patterns::NoConditions;

use super::Settled;
use super::block::Block;
use crate::error::Result;
use crate::expr::StepContext;
use crate::keys::AHEAD;
use crate::operator::match_recognize::busy::{Active, Busy};
use crate::operator::match_recognize::matches::Evaluation;
use crate::operator::match_recognize::registers::Running;
use crate::operator::match_recognize::rows::{Places, View};
use crate::operator::match_recognize::run::{
    Fed, Known, Scratch, Work, needed_from, row_values, run, times_of_waiting,
};
use crate::operator::match_recognize::starts::{Group, Starts, group_of_rows};
use crate::operator::match_recognize::{Failure, Plan, Plans, matcher_error};

impl Settled {
    /// Matches the rows of partitions where there is one pattern. For each of them, from where on its rows are still needed is added to
    /// `needed`.
    pub(super) fn match_one(
        &mut self,
        (plans, plan): (&Plans, &Plan),
        block: &Block,
        context: &StepContext,
        needed: &mut Vec<u64>,
    ) -> Result<Vec<(usize, RecordBatch)>> {
        let Block { groups, batch, bits, times, ends, rows: count, time, .. } = block;
        let (count, time) = (*count, *time);
        let places = Places { kept: &self.kept.rows, batch };
        let any = vec![u64::MAX; count.div_ceil(64)];
        let bitmaps = if count == 0 { Vec::new() } else { plans.distinct.of(0, bits, &any) };
        let starts = Starts::of(plan, &bitmaps, count, ends);
        if count > 0 {
            let starts = starts.looked_ahead().unwrap_or(&[]);
            plan.matcher.symbols_with(&bitmaps, starts, count, &mut self.scratch.symbols);
        }
        let within = plan.spec.within.is_some();
        let expired = time.expired.filter(|_| within);
        let waits = groups.iter().map(|group| group.view(&self.parts).at(self.parts.part(group.slot).position));
        let waiting = times_of_waiting(plans, waits, places, expired)?;
        if let Some(registers) = &plan.registers {
            let rows = groups.iter().map(|group| (group.view(&self.parts), group.from, group.rows.len()));
            let values = row_values(registers, rows, count, places, context)?;
            self.scratch.symbols.set_values(values, registers.stride());
        }
        let evaluation = Evaluation { spec: &plan.spec, places, context };
        let failure = Failure::default();
        let Scratch { symbols, found, matches, dropped, bad_skips } = &mut self.scratch;
        matches.clear();
        for (index, group) in groups.iter().enumerate() {
            if index % AHEAD == 0 {
                self.parts.look_ahead(groups[index..].iter().take(AHEAD).map(|group| group.slot));
            }
            needed.push(self.parts.part(group.slot).position.saturating_sub(plans.lookback));
            let number = self.parts.number(group.slot);
            let mut begun = None;
            let (view, active) = match self.parts.busy_mut(group.slot) {
                Some(Busy { held, one: Some(active), .. }) => {
                    (View { first: held.first, kept: held.ids(), new: group.new }, active)
                }
                busy => {
                    let Some(row) = starts.next(group) else { continue };
                    let position = group.from + (row - group.rows.start) as u64;
                    let key = plan.matcher.resume(position, number, 0);
                    let view = match busy {
                        Some(busy) => View { first: busy.held.first, kept: busy.held.ids(), new: group.new },
                        None => View { first: group.position, kept: &[], new: group.new },
                    };
                    (view, begun.insert(Active { pattern: 0, key }))
                }
            };
            let key = &mut active.key;
            let from = group.rows.start + (key.position() - group.from) as usize;
            let rows = from..group.rows.end.max(from);
            found.clear();
            let waits_from = waiting.get(index).copied().flatten();
            let fed = Fed {
                matcher: &plan.matcher,
                symbols: &*symbols,
                times: if within && !rows.is_empty() { &times[rows.clone()] } else { &[] },
                rows,
                ended: time.ended,
                expired: expired.map(|time| waits_from.map_or(time, |first| time.min(first))),
            };
            let result = match (&plan.registers, plan.asks) {
                (Some(registers), _) => fed.feed(key, &mut Running { registers, failure: &failure }, found),
                (None, true) => fed.feed(key, &mut plan.asked(evaluation, view, &failure), found),
                (None, false) => fed.feed(key, &mut NoConditions, found),
            };
            result.map_err(|error| matcher_error(&plan.spec, error, &failure))?;
            matches.add(&plan.spec, found, view, plan.margin);
            let needed = &mut needed[index];
            *needed = needed_from(plans, key).min(*needed);
            let idle = key.start() == key.position();
            let counted = (plan.counts && key.number() > number).then_some(key.number());
            match begun {
                Some(active) if !idle => {
                    let position = self.parts.part(group.slot).position;
                    self.parts.make_busy(group.slot, position).one = Some(active);
                }
                None if idle => {
                    if let Some(busy) = self.parts.busy_mut(group.slot) {
                        busy.one = None;
                    }
                }
                _ => {}
            }
            if let Some(number) = counted {
                self.parts.set_number(group.slot, number);
            }
        }
        *dropped += std::mem::take(&mut found.dropped);
        *bad_skips += std::mem::take(&mut found.bad_skips);
        Ok(matches.leaving(evaluation)?.map(|rows| (0, rows)).into_iter().collect())
    }

    /// Matches the rows of partitions where there are several patterns, as [`match_one`](Self::match_one).
    pub(super) fn match_many(
        &mut self,
        plans: &Plans,
        block: &Block,
        context: &StepContext,
        needed: &mut Vec<u64>,
    ) -> Result<Vec<(usize, RecordBatch)>> {
        let Block { groups, batch, bits, times, ends, rows: count, time, .. } = block;
        let (count, time) = (*count, *time);
        // Matches under way, by pattern, each with the place of its partition.
        let mut under_way: Vec<Vec<(usize, Active)>> = Vec::new();
        under_way.resize_with(plans.plans.len(), Vec::new);
        for (index, group) in groups.iter().enumerate() {
            for active in self.parts.busy_mut(group.slot).into_iter().flat_map(Busy::take_active) {
                under_way[active.pattern as usize].push((index, active));
            }
        }
        let places = Places { kept: &self.kept.rows, batch };
        let any = vec![u64::MAX; count.div_ceil(64)];
        let group_of = group_of_rows(groups, count);
        let mut emitted: Vec<(usize, RecordBatch)> = Vec::new();
        for (pattern, plan) in plans.plans.iter().enumerate() {
            let bitmaps = if count == 0 { Vec::new() } else { plans.distinct.of(pattern, bits, &any) };
            let starts = match self.ahead.starts(pattern) {
                Some(words) => Starts::known(plan, words),
                None => Starts::of(plan, &bitmaps, count, ends),
            };
            let known = Known { rows: count, bitmaps, times, starts: starts.looked_ahead().unwrap_or(&[]) };
            let work = |index: usize, active: Active| {
                let group: &Group = &groups[index];
                let start = group.rows.start + (active.key.position() - group.from) as usize;
                let rows = start..group.rows.end.max(start);
                Work { key: active.key, view: group.view(&self.parts), rows, stopped: false }
            };
            let (mut places_of, mut works) = (Vec::new(), Vec::new());
            let mut started = std::mem::take(&mut under_way[pattern]).into_iter().peekable();
            let mut index = 0;
            while let Some(begins) = starts.next_group(groups, &group_of, index) {
                while let Some((before, active)) = started.next_if(|(before, _)| *before < begins.0) {
                    places_of.push(before);
                    works.push(work(before, active));
                }
                let (group, row) = (&groups[begins.0], begins.1);
                let active = match started.next_if(|(before, _)| *before == begins.0) {
                    // A match under way takes the partition's rows in itself.
                    Some((_, active)) => active,
                    None => {
                        let position = group.from + (row - group.rows.start) as u64;
                        let number = self.parts.busy(group.slot).map_or(0, |busy| busy.number(pattern as u32));
                        let key = plan.matcher.resume(position, number, 0);
                        Active { pattern: pattern as u32, key }
                    }
                };
                places_of.push(begins.0);
                works.push(work(begins.0, active));
                index = begins.0 + 1;
            }
            for (index, active) in started {
                places_of.push(index);
                works.push(work(index, active));
            }
            if works.is_empty() {
                continue;
            }
            let mut matches = std::mem::take(&mut self.scratch.matches);
            matches.clear();
            run((plans, plan), &mut works, &known, (places, context), time, &mut self.scratch, &mut matches)?;
            let leaving = matches.leaving(Evaluation { spec: &plan.spec, places, context })?;
            self.scratch.matches = matches;
            if let Some(rows) = leaving {
                emitted.push((pattern, rows));
            }
            under_way[pattern] = places_of
                .into_iter()
                .zip(works)
                .filter(|(_, work)| work.key.start() < work.key.position() || plan.counts)
                .map(|(index, work)| (index, Active { pattern: pattern as u32, key: work.key }))
                .collect();
        }
        needed.extend(groups.iter().map(|group| self.parts.part(group.slot).position.saturating_sub(plans.lookback)));
        for (index, active) in under_way.iter().flatten() {
            needed[*index] = needed_from(plans, &active.key).min(needed[*index]);
        }
        self.put_back(plans, groups, under_way);
        Ok(emitted)
    }

    /// Gives partitions back the matches that are still under way.
    fn put_back(&mut self, plans: &Plans, groups: &[Group], under_way: Vec<Vec<(usize, Active)>>) {
        for (plan, active) in plans.plans.iter().zip(under_way) {
            for (index, active) in active {
                let slot = groups[index].slot;
                let idle = active.key.start() == active.key.position();
                let number = (plan.counts && active.key.number() > 0).then_some(active.key.number());
                if idle && number.is_none() {
                    continue;
                }
                let position = self.parts.part(slot).position;
                let busy = self.parts.make_busy(slot, position);
                if let Some(number) = number {
                    busy.set_number(active.pattern, number);
                }
                if !idle {
                    busy.put_active(active);
                }
            }
        }
    }
}
