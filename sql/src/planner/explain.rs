//! A pipeline in words: what each operator does, how rows move, what is kept and until when.

use std::fmt::Write as _;

use eagre_engine::graph::{EdgeInfo, Graph, Node, NodeKind, Route};
use eagre_engine::operator::PORT_SIDE;

use super::Job;

/// The text of `EXPLAIN`: the nodes in the order in which they run, each with where its rows come from (`<-`), what leaves it (`->`) and
/// what it keeps (`state:`); then what the user should know.
pub fn explain(job: &Job) -> String {
    let mut text = String::new();
    for (index, node) in job.graph.nodes.iter().enumerate() {
        let _ = write!(text, "{index} {}", node.name());
        match &node.kind {
            NodeKind::Source(source) => {
                let _ = write!(text, " {}: {}", source.table, node.detail);
            }
            _ if node.detail.is_empty() => {}
            _ => {
                let _ = write!(text, ": {}", node.detail);
            }
        }
        match &node.kind {
            NodeKind::Source(_) | NodeKind::Sink(_) => {}
            NodeKind::Operator(factory) => {
                let _ = write!(text, " ({})", factory.runs_on());
            }
            _ => text.push_str(" (CPU)"),
        }
        text.push('\n');
        for edge in &node.inputs {
            let from = &job.graph.nodes[edge.from];
            let port = match (edge.port == PORT_SIDE, &from.kind) {
                (false, _) => "",
                (true, NodeKind::Source(_)) => " unreadable rows",
                (true, _) if matches!(from.name(), "ChangelogNormalize" | "RetractionCheck") => " unfounded changes",
                (true, _) => " late rows",
            };
            let _ = writeln!(text, "    <- {}{port}{}", edge.from, route(&edge.route, from));
        }
        if !node.state_bound.is_empty() {
            let _ = writeln!(text, "    state: {}", node.state_bound);
        }
        if !matches!(node.kind, NodeKind::Sink(_)) {
            let _ = writeln!(text, "    -> {}", output(&job.graph, index));
        } else {
            let _ = writeln!(text, "    {}, columns=[{}]", changes(&node.output), columns(&node.output));
        }
    }
    for notice in &job.notices {
        let _ = writeln!(text, "note: {}", notice.message);
    }
    text
}

fn route(route: &Route, from: &Node) -> String {
    match route {
        Route::Forward => String::new(),
        Route::Hash(columns) if columns.is_empty() => " exchange all to one shard".into(),
        Route::Hash(columns) => {
            let schema = &from.output.schema;
            let names: Vec<_> = columns.iter().map(|column| schema.field(*column).name().as_str()).collect();
            format!(" exchange hash({})", names.join(", "))
        }
    }
}

fn columns(info: &EdgeInfo) -> String {
    info.schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

fn changes(info: &EdgeInfo) -> String {
    let mut text = info.changelog.to_string();
    if let Some(key) = &info.key {
        let names: Vec<_> = key.iter().map(|column| info.schema.field(*column).name().as_str()).collect();
        let _ = write!(text, ", key=({})", names.join(", "));
    }
    text
}

fn output(graph: &Graph, index: usize) -> String {
    let node = &graph.nodes[index];
    let mut text = changes(&node.output);
    match watermark(graph, index) {
        Some(source) => {
            let _ = write!(text, ", watermark of {source}");
        }
        None => text.push_str(", no watermark"),
    }
    if let Some(time) = node.output.time_column {
        let _ = write!(text, " on {}", node.output.schema.field(time).name());
    }
    if node.output.ordinals {
        text.push_str(", arrival numbers");
    }
    text
}

/// The tables whose watermarks decide that of a node; none where one of them has none.
fn watermark(graph: &Graph, index: usize) -> Option<String> {
    let node = &graph.nodes[index];
    if let NodeKind::Source(source) = &node.kind {
        return source.watermark.as_ref().map(|_| source.table.clone());
    }
    let mut tables = vec![];
    for edge in &node.inputs {
        for table in watermark(graph, edge.from)?.split(", ") {
            if !tables.iter().any(|known| known == table) {
                tables.push(table.to_string());
            }
        }
    }
    (!tables.is_empty()).then(|| tables.join(", "))
}
