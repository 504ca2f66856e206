//! The watermark of each node: the least over what its rows come from, less what the operators on the way hold back.
//!
//! Behind an operator that starts processing time it is the clock of the step, as the step log records it, and the end of time once all
//! sources before it have ended: so windows in processing time close without input, and a replay closes them in the same steps.

use std::sync::Arc;

use crate::graph::{Graph, NodeKind};
use crate::operator::OutputWatermark;
use crate::time::{EventTimeMs, WATERMARK_MAX, Watermarks};

pub(super) struct NodeWatermarks {
    /// For each node, what its watermark is the least of.
    terms: Vec<Vec<Term>>,
    current: Vec<EventTimeMs>,
    /// Grain and offset of the times at which a step is due though nothing came.
    ticks: Vec<(i64, i64)>,
}

#[derive(Clone, PartialEq, Eq)]
struct Term {
    origin: Origin,
    /// How far it is held back.
    behind_ms: i64,
}

#[derive(Clone, PartialEq, Eq)]
enum Origin {
    Source(usize),
    /// The clock, until these sources have ended.
    Clock(Vec<usize>),
}

impl NodeWatermarks {
    /// `current`: where each node is at the start.
    pub(super) fn new(graph: &Graph, current: Vec<EventTimeMs>) -> Self {
        let mut terms: Vec<Vec<Term>> = Vec::with_capacity(graph.nodes.len());
        let mut outputs: Vec<Vec<Term>> = Vec::with_capacity(graph.nodes.len());
        let mut ticks = Vec::new();
        let mut sources = 0;
        for node in &graph.nodes {
            let mut own: Vec<Term> = Vec::new();
            if matches!(node.kind, NodeKind::Source(_)) {
                own.push(Term { origin: Origin::Source(sources), behind_ms: 0 });
                sources += 1;
            }
            for term in node.inputs.iter().flat_map(|edge| &outputs[edge.from]) {
                match own.iter_mut().find(|known| known.origin == term.origin) {
                    Some(known) => known.behind_ms = known.behind_ms.max(term.behind_ms),
                    None => own.push(term.clone()),
                }
            }
            let rule = match &node.kind {
                NodeKind::Operator(factory) => factory.output_watermark(),
                _ => OutputWatermark::Behind(0),
            };
            outputs.push(match rule {
                OutputWatermark::Behind(ms) => own
                    .iter()
                    .map(|term| Term { behind_ms: term.behind_ms.saturating_add(ms), ..term.clone() })
                    .collect(),
                OutputWatermark::Clock { grain_ms, offset_ms } => {
                    ticks.push((grain_ms.max(1), offset_ms));
                    let mut before: Vec<usize> = own
                        .iter()
                        .flat_map(|term| match &term.origin {
                            Origin::Source(source) => vec![*source],
                            Origin::Clock(sources) => sources.clone(),
                        })
                        .collect();
                    before.sort_unstable();
                    before.dedup();
                    vec![Term { origin: Origin::Clock(before), behind_ms: 0 }]
                }
            });
            terms.push(own);
        }
        Self { terms, current, ticks }
    }

    /// Moves all nodes to the watermarks of the sources after a step (`None`: the source is idle) and the clock of that step.
    pub(super) fn advance(&mut self, sources: &[Option<EventTimeMs>], clock_ms: i64) -> Arc<[Watermarks]> {
        let value = |term: &Term| {
            let time = match &term.origin {
                Origin::Source(source) => sources[*source]?,
                Origin::Clock(before) if before.iter().all(|source| sources[*source] == Some(WATERMARK_MAX)) => {
                    WATERMARK_MAX
                }
                Origin::Clock(_) => clock_ms,
            };
            Some(if time == WATERMARK_MAX { time } else { time.saturating_sub(term.behind_ms) })
        };
        self.terms
            .iter()
            .zip(&mut self.current)
            .map(|(terms, current)| {
                let before = *current;
                *current = terms.iter().filter_map(value).min().map_or(before, |after| after.max(before));
                Watermarks { before, after: *current }
            })
            .collect()
    }

    /// Where each node is.
    pub(super) fn current(&self) -> &[EventTimeMs] {
        &self.current
    }

    /// The next time after `clock_ms` at which something in processing time can become final.
    pub(super) fn next_tick_ms(&self, clock_ms: i64) -> Option<i64> {
        let next = |(grain, offset): &(i64, i64)| {
            let turn = clock_ms.saturating_sub(*offset).div_euclid(*grain);
            turn.saturating_add(1).saturating_mul(*grain).saturating_add(*offset)
        };
        self.ticks.iter().map(next).min()
    }
}
