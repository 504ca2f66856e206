//! The watermark of each node: the least over what its rows come from, less what the operators on the way hold back.
//!
//! Behind an operator that starts processing time it is the clock of the step, as the step log records it, and the end of time once all
//! sources before it have ended: so windows in processing time close without input, and a replay closes them in the same steps.

use std::sync::Arc;

use crate::graph::{Graph, NodeKind};
use crate::log::SourceTime;
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

    /// Moves all nodes to the watermarks of the sources after a step and the clock of that step. Idle sources hold nothing back; where
    /// all that a node waits for are idle, it is where the furthest of them has come.
    pub(super) fn advance(&mut self, sources: &[SourceTime], clock_ms: i64) -> Arc<[Watermarks]> {
        let value = |term: &Term| {
            let (time, idle) = match &term.origin {
                Origin::Source(source) => (sources[*source].watermark, sources[*source].idle),
                Origin::Clock(before) if before.iter().all(|source| sources[*source].watermark == WATERMARK_MAX) => {
                    (WATERMARK_MAX, false)
                }
                Origin::Clock(_) => (clock_ms, false),
            };
            (if time == WATERMARK_MAX { time } else { time.saturating_sub(term.behind_ms) }, idle)
        };
        self.terms
            .iter()
            .zip(&mut self.current)
            .map(|(terms, current)| {
                let before = *current;
                let of = |wanted: bool| terms.iter().map(value).filter(move |(_, idle)| *idle == wanted);
                let awake = of(false).map(|(time, _)| time).min();
                let after = awake.or_else(|| of(true).map(|(time, _)| time).max());
                *current = after.map_or(before, |after| after.max(before));
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

#[cfg(test)]
mod tests {
    use arrow::datatypes::Schema;

    use super::*;
    use crate::error::Result;
    use crate::graph::{ChangelogMode, Edge, EdgeInfo, Node, NodeIndex, OperatorId, Route};
    use crate::operator::{Operator, OperatorFactory};
    use crate::time::WATERMARK_MIN;

    struct Holding(OutputWatermark);

    impl OperatorFactory for Holding {
        fn name(&self) -> &'static str {
            "Holding"
        }

        fn create(&self) -> Result<Box<dyn Operator>> {
            Err(crate::error::EngineError::bug("a test operator was created"))
        }

        fn output_watermark(&self) -> OutputWatermark {
            self.0
        }
    }

    fn node(kind: NodeKind, inputs: &[NodeIndex]) -> Node {
        let edge = |from: &NodeIndex| Edge { from: *from, port: 0, route: Route::Forward };
        Node {
            id: OperatorId(0),
            kind,
            inputs: inputs.iter().map(edge).collect(),
            output: EdgeInfo {
                schema: Arc::new(Schema::empty()),
                changelog: ChangelogMode::AppendOnly,
                key: None,
                time_column: None,
                ordinals: false,
            },
            detail: String::new(),
            state_bound: String::new(),
            statement: String::new(),
        }
    }

    fn source() -> NodeKind {
        NodeKind::Source(crate::graph::SourceNode {
            table: String::new(),
            source: Arc::new(Nothing),
            projection: Vec::new(),
            columns: Vec::new(),
            watermark: None,
            idle_timeout_ms: None,
            ordinals: false,
            positions: false,
            fail_on_bad_rows: false,
        })
    }

    struct Nothing;

    impl crate::source::Source for Nothing {
        fn describe(&self) -> String {
            String::new()
        }
        fn schema(&self) -> arrow::datatypes::SchemaRef {
            Arc::new(Schema::empty())
        }
        fn bounded(&self) -> bool {
            true
        }
        fn replayable(&self) -> bool {
            true
        }
        fn open(
            &self,
            _: &[usize],
            _: &crate::source::Places,
            _: crate::source::StopFlag,
        ) -> Result<Box<dyn crate::source::SourceReader>> {
            Err(crate::error::EngineError::bug("a test source was opened"))
        }
    }

    fn awake(watermark: EventTimeMs) -> SourceTime {
        SourceTime { watermark, idle: false }
    }

    fn idle(watermark: EventTimeMs) -> SourceTime {
        SourceTime { watermark, idle: true }
    }

    fn operator(rule: OutputWatermark) -> NodeKind {
        NodeKind::Operator(Arc::new(Holding(rule)))
    }

    /// What an operator holds back holds all behind it back, the slowest way decides, and the end of the input is the end everywhere.
    #[test]
    fn what_is_held_back_adds_up() {
        let nodes = vec![
            node(source(), &[]),
            node(operator(OutputWatermark::Behind(1)), &[0]),
            node(operator(OutputWatermark::Behind(10)), &[1]),
            node(NodeKind::Union, &[0, 2]),
        ];
        let mut watermarks = NodeWatermarks::new(&Graph { nodes }, vec![WATERMARK_MIN; 4]);
        let after = |marks: Arc<[Watermarks]>| marks.iter().map(|mark| mark.after).collect::<Vec<_>>();
        assert_eq!(after(watermarks.advance(&[awake(100)], 0)), [100, 100, 99, 89]);
        // An idle source goes on to where its furthest partition has come.
        assert_eq!(after(watermarks.advance(&[idle(100)], 0)), [100, 100, 99, 89]);
        assert_eq!(after(watermarks.advance(&[idle(110)], 0)), [110, 110, 109, 99]);
        assert_eq!(after(watermarks.advance(&[awake(WATERMARK_MAX)], 0)), [WATERMARK_MAX; 4]);
        assert_eq!(watermarks.next_tick_ms(0), None);
    }

    /// A source that is idle holds back nobody who waits for another one, and time does not stop where all are idle.
    #[test]
    fn idle_sources_are_not_waited_for() {
        let nodes = vec![node(source(), &[]), node(source(), &[]), node(NodeKind::Union, &[0, 1])];
        let mut watermarks = NodeWatermarks::new(&Graph { nodes }, vec![WATERMARK_MIN; 3]);
        let mut union = |sources: [SourceTime; 2]| watermarks.advance(&sources, 0)[2].after;
        assert_eq!(union([awake(50), awake(80)]), 50);
        assert_eq!(union([awake(60), idle(20)]), 60);
        assert_eq!(union([idle(60), idle(80)]), 80);
        // It does not go back when one speaks again.
        assert_eq!(union([awake(61), idle(80)]), 80);
    }

    /// Behind the start of processing time the clock is the watermark, until the input ends.
    #[test]
    fn processing_time_is_the_watermark() {
        let nodes = vec![
            node(source(), &[]),
            node(operator(OutputWatermark::Clock { grain_ms: 10, offset_ms: 3 }), &[0]),
            node(operator(OutputWatermark::Behind(1)), &[1]),
            node(NodeKind::Union, &[2]),
        ];
        let mut watermarks = NodeWatermarks::new(&Graph { nodes }, vec![WATERMARK_MIN; 4]);
        let mut advance = |source, clock_ms| {
            watermarks.advance(&[source], clock_ms).iter().map(|mark| mark.after).collect::<Vec<_>>()
        };
        assert_eq!(advance(awake(5), 1_000), [5, 5, 1_000, 999]);
        assert_eq!(advance(idle(5), 1_010), [5, 5, 1_010, 1_009]);
        assert_eq!(advance(awake(WATERMARK_MAX), 1_011), [WATERMARK_MAX; 4]);
        assert_eq!(watermarks.next_tick_ms(1_002), Some(1_003));
        assert_eq!(watermarks.next_tick_ms(1_003), Some(1_013));
    }
}
