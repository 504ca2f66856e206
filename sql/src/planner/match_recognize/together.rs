//! Patterns over one stream, in the same partitions and order, share an operator.
//!
//! A rule book of a thousand patterns then orders, keeps and looks at each row once. The operator's matches of all patterns leave on one
//! edge, and each pattern's consumers take theirs from it. What rows a pattern refuses as late they all refuse, so it is told once.
//!
//! It is done when the whole graph is there, because only then it is known which patterns there are. The views of a session are left as
//! they are: a view that comes later must find the others' state where it was.

use std::collections::BTreeMap;
use std::sync::Arc;

use eagre_engine::expr::{ExprRef, PlainColumn};
use eagre_engine::graph::{ChangelogMode, Edge, EdgeInfo, Graph, Node, NodeIndex, NodeKind, OperatorId, Route};
use eagre_engine::operator::chain::{ChainFactory, Stage};
use eagre_engine::operator::match_recognize::{MatchFactory, MatchSpec, OutputColumn, Slot, is_pattern};
use eagre_engine::operator::{PORT_MAIN, PORT_SIDE};

use crate::error::Result;
use crate::planner::lower::engine;

/// Has patterns share operators; tells where each node is now.
///
/// # Errors
/// What the operator refuses.
pub(in crate::planner) fn share(graph: &mut Graph, matches: &[(NodeIndex, MatchSpec)]) -> Result<Vec<NodeIndex>> {
    let groups = groups(graph, matches);
    let mut moved: Vec<NodeIndex> = (0..graph.nodes.len()).collect();
    if groups.is_empty() {
        return Ok(moved);
    }
    // By the node of a member: its group, and its place in it.
    let mut member_of = BTreeMap::new();
    for (group, members) in groups.iter().enumerate() {
        members.iter().enumerate().for_each(|(place, member)| {
            member_of.insert(matches[*member].0, (group, place));
        });
    }
    let mut shared: Vec<Option<(NodeIndex, Arc<MatchFactory>)>> = groups.iter().map(|_| None).collect();
    let mut nodes: Vec<Node> = Vec::with_capacity(graph.nodes.len() + groups.len());
    for (index, mut node) in std::mem::take(&mut graph.nodes).into_iter().enumerate() {
        for edge in &mut node.inputs {
            match member_of.get(&edge.from) {
                // Late rows come from the operator itself.
                Some((group, _)) if edge.port == PORT_SIDE => {
                    edge.from = shared[*group].as_ref().map_or(edge.from, |(index, _)| *index);
                }
                _ => edge.from = moved[edge.from],
            }
        }
        if matches!(node.kind, NodeKind::Union) {
            let mut seen = Vec::with_capacity(node.inputs.len());
            node.inputs.retain(|edge| {
                let late = edge.port == PORT_SIDE;
                let again = late && seen.contains(&(edge.from, edge.port));
                seen.push((edge.from, edge.port));
                !again
            });
        }
        let Some((group, place)) = member_of.get(&index) else {
            moved[index] = nodes.len();
            nodes.push(node);
            continue;
        };
        let (operator, factory) = match &shared[*group] {
            Some((operator, factory)) => (*operator, Arc::clone(factory)),
            None => {
                let specs: Vec<MatchSpec> = groups[*group].iter().map(|member| matches[*member].1.clone()).collect();
                let count = specs.len();
                let factory = Arc::new(MatchFactory::together(specs).map_err(engine)?);
                nodes.push(operator_of(&node, &factory, count));
                shared[*group] = Some((nodes.len() - 1, Arc::clone(&factory)));
                (nodes.len() - 1, factory)
            }
        };
        moved[index] = nodes.len();
        nodes.push(consumer(node, operator, &factory, *place));
    }
    graph.nodes = nodes;
    Ok(moved)
}

/// Which of the patterns go together, where there are at least two.
fn groups(graph: &Graph, matches: &[(NodeIndex, MatchSpec)]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = vec![];
    let same = |a: usize, b: usize| {
        let ((a, of_a), (b, of_b)) = (&matches[a], &matches[b]);
        let from = |node: NodeIndex| (graph.nodes[node].inputs[0].from, graph.nodes[node].inputs[0].port);
        // Who looks ahead waits for rows, and has all the others wait: these might have said how late their rows are.
        let spec = |spec: &MatchSpec| {
            ((spec.by_watermark, spec.whole_partitions), spec.partition.clone(), spec.order.clone(), lookahead(spec))
        };
        // The unit of `WITHIN` is that of the first column of the order, which is the same then.
        let device = |spec: &MatchSpec| spec.placement.settings().device;
        from(*a) == from(*b) && spec(of_a) == spec(of_b) && device(of_a) == device(of_b)
    };
    for (member, (node, spec)) in matches.iter().enumerate() {
        if graph.nodes[*node].output.changelog != ChangelogMode::AppendOnly || spec.retracting {
            continue;
        }
        match groups.iter_mut().find(|group| same(group[0], member)) {
            Some(group) => group.push(member),
            None => groups.push(vec![member]),
        }
    }
    groups.retain(|group| group.len() > 1);
    groups
}

/// How many rows after a row have to be there before it is matched.
fn lookahead(spec: &MatchSpec) -> i64 {
    let measures = spec.output.iter().filter_map(|(_, column)| match column {
        OutputColumn::Measure(measure) => Some(measure),
        OutputColumn::Input(_) => None,
    });
    let slots = measures.chain(spec.conditions.iter().filter_map(|condition| condition.run.as_ref()));
    let of_slots = slots.flat_map(|expr| &expr.slots).map(|slot| match slot {
        Slot::At { row, .. } => row.shift,
        _ => 0,
    });
    let rows = spec.conditions.iter().filter_map(|condition| condition.row.as_ref());
    let of_rows = rows.flat_map(|row| &row.shifted).map(|shifted| shifted.by);
    of_slots.chain(of_rows).max().unwrap_or(0).max(0)
}

/// The operator of a group whose first member is `node`.
fn operator_of(node: &Node, factory: &Arc<MatchFactory>, count: usize) -> Node {
    let output = EdgeInfo {
        schema: factory.output_schema(),
        changelog: ChangelogMode::AppendOnly,
        key: None,
        time_column: None,
        ordinals: false,
    };
    Node {
        id: OperatorId(node.id.0.rotate_left(23) ^ count as u64),
        kind: NodeKind::Operator(Arc::clone(factory) as _),
        inputs: node.inputs.clone(),
        output,
        detail: format!("{count} patterns together; the first: {}", node.detail),
        state_bound: node.state_bound.clone(),
        statement: node.statement.clone(),
    }
}

/// What takes one pattern's matches from the operator, in the place of the pattern's own.
fn consumer(node: Node, operator: NodeIndex, factory: &MatchFactory, place: usize) -> Node {
    let columns = factory.columns_of(place).iter().zip(node.output.schema.fields());
    let exprs = columns.map(|(column, field)| Arc::new(PlainColumn::new(*column, Arc::clone(field))) as ExprRef);
    let stages = vec![
        Stage::Filter(is_pattern(place)),
        Stage::Project { exprs: exprs.collect(), schema: node.output.schema.clone() },
    ];
    Node {
        kind: NodeKind::Operator(Arc::new(ChainFactory::new(stages))),
        inputs: vec![Edge { from: operator, port: PORT_MAIN, route: Route::Forward }],
        detail: format!("pattern {} of those together: {}", place + 1, node.detail),
        state_bound: String::new(),
        ..node
    }
}
