//! Another set of views on a running session.
//!
//! The pipeline stops between two steps with a checkpoint and goes on as the graph of the new statements. Operators that both graphs have
//! keep their state. New ones are *filled*: a pipeline of their own, beside, runs them over the rows of the views that they read and, where
//! they read tables, over all rows that had been read of those; its state becomes theirs, and all go on with the next row, without a gap.
//! Meanwhile the views of before are read on. Where rows cannot be read again, new operators begin empty and see the rows from now on,
//! unless that would be wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use eagre_engine::checkpoint::{self, CheckpointStore, Filled, Manifest, MemoryStore};
use eagre_engine::graph::{ChangelogMode, Graph, NodeIndex, NodeKind, OperatorId, SourceNode};
use eagre_engine::operator::PORT_MAIN;
use eagre_engine::operator::materialize::NAME as MATERIALIZE;
use eagre_engine::runtime::{Mode, Pipeline, PipelineConfig, Start};
use eagre_sql::parser::StatementKind;
use eagre_sql::planner::Job;

use super::prefix::PrefixSource;
use super::rows;
use super::start::{Begin, begin, without_sinks};
use super::{Current, Kept};
use crate::error::{Error, Result};
use crate::job::pipeline_config;
use crate::session::Session;
use crate::state::JobObject;

/// How often a pipeline that fills new operators is looked at.
const LOOK: std::time::Duration = std::time::Duration::from_millis(2);

/// What a change of the views does to the operators, told before it is done.
pub(crate) struct Outlook {
    /// Nodes of the new graph that have state, with what becomes of it.
    fates: Vec<(NodeIndex, Fate)>,
    /// Operators of the old graph that go, in words.
    gone: Vec<String>,
}

/// What becomes of an operator's state.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    /// It is what it was.
    Kept,
    /// It is computed anew from all rows of these tables and views.
    Rebuilt(Vec<String>),
    /// It begins empty: the rows of these tables cannot be read again.
    FromNow(Vec<String>),
    /// It begins empty, and so do its tables.
    New,
}

impl Outlook {
    /// From `old` to `new`.
    ///
    /// # Errors
    /// A change that would make a view wrong, or that loses rows.
    pub(crate) fn of(old: &Graph, new: &Graph) -> Result<Self> {
        let known: BTreeSet<OperatorId> = old.nodes.iter().map(|node| node.id).collect();
        let before = Before::of(new, &known);
        let mut fates = Vec::new();
        for (index, node) in new.nodes.iter().enumerate().filter(|(_, node)| !node.state_bound.is_empty()) {
            if known.contains(&node.id) {
                fates.push((index, Fate::Kept));
                continue;
            }
            let before = before.nodes_before(new, index);
            let mut filled_from: Vec<String> = before.views.values().cloned().collect();
            let sources = before.nodes.iter().filter_map(|before| match &new.nodes[*before].kind {
                NodeKind::Source(source) if known.contains(&new.nodes[*before].id) => Some(source),
                _ => None,
            });
            let (kept, lost): (Vec<&SourceNode>, Vec<&SourceNode>) =
                sources.partition(|source| source.source.keeps_history());
            let names = |sources: &[&SourceNode]| sources.iter().map(|source| source.table.clone()).collect::<Vec<_>>();
            filled_from.extend(names(&kept));
            if lost.is_empty() {
                fates.push((index, if filled_from.is_empty() { Fate::New } else { Fate::Rebuilt(filled_from) }));
                continue;
            }
            // What a kept operator takes back, a new one would have had to see come.
            let unsound = before.nodes.iter().map(|before| &new.nodes[*before]).any(|before| {
                let is_kept = known.contains(&before.id) && !before.state_bound.is_empty();
                is_kept && before.output.changelog != ChangelogMode::AppendOnly
            });
            if unsound || !filled_from.is_empty() {
                return Err(Error::usage(format!(
                    "{} of {} needs the rows of {} from the beginning, and they cannot be read again: pushed rows, standard input and \
                     journalled tables have no history; create the view before its rows come, or over a materialized view that has them",
                    node.name(),
                    node.statement,
                    quoted(&names(&lost)),
                )));
            }
            fates.push((index, Fate::FromNow(names(&lost))));
        }
        for source in old.nodes.iter().filter_map(|node| match &node.kind {
            NodeKind::Source(source) => Some(source),
            _ => None,
        }) {
            if !source.source.goes_on() {
                return Err(Error::usage(format!(
                    "table `{}` ({}) cannot be opened a second time, so the views that run over it cannot be changed; create all of them in \
                     one text",
                    source.table,
                    source.source.describe()
                )));
            }
            // A journal holds the columns that were read when it was written.
            let again = new.nodes.iter().find_map(|node| match &node.kind {
                NodeKind::Source(again) if again.table == source.table => Some(again),
                _ => None,
            });
            if !source.source.keeps_history()
                && source.source.replayable()
                && again.is_some_and(|again| again.projection != source.projection)
            {
                return Err(Error::usage(format!(
                    "table `{0}` is journalled with the columns that its views read so far, and these views read others; have the first view \
                     read them too (`SELECT * FROM {0}`)",
                    source.table
                )));
            }
        }
        let stays: BTreeSet<OperatorId> = new.nodes.iter().map(|node| node.id).collect();
        let gone = old.nodes.iter().filter(|node| !node.state_bound.is_empty() && !stays.contains(&node.id));
        let gone = gone.map(|node| format!("{}: {}", node.name(), node.detail)).collect();
        Ok(Self { fates, gone })
    }

    /// In words, one line an operator.
    pub(crate) fn describe(&self, new: &Graph) -> String {
        let mut text = String::new();
        for (index, fate) in &self.fates {
            let node = &new.nodes[*index];
            let fate = match fate {
                Fate::Kept => "kept".to_owned(),
                Fate::Rebuilt(tables) => format!("rebuilt from the rows of {}", quoted(tables)),
                Fate::FromNow(tables) => {
                    format!("new, with the rows from now on: those of {} cannot be read again", quoted(tables))
                }
                Fate::New => "new".to_owned(),
            };
            let _ = writeln!(text, "state of {index} {}: {}: {fate}", node.name(), node.detail);
        }
        for gone in &self.gone {
            let _ = writeln!(text, "state of {gone}: dropped");
        }
        text
    }

    fn rebuilt(&self) -> Vec<NodeIndex> {
        self.fates.iter().filter(|(_, fate)| matches!(fate, Fate::Rebuilt(_))).map(|(index, _)| *index).collect()
    }

    /// What a user should know of it: nothing where all is kept or new.
    pub(crate) fn notices(&self, new: &Graph) -> Vec<String> {
        let told = self.fates.iter().any(|(_, fate)| *fate != Fate::Kept) || !self.gone.is_empty();
        if told { self.describe(new).lines().map(str::to_owned).collect() } else { Vec::new() }
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Replaces what the pipeline of views runs. `text`: all that made the views, for the state folder.
pub(crate) fn change(session: &Session, job: Job, kept: Vec<Kept>, text: &str) -> Result<()> {
    let views = &session.inner.views;
    let current = views.current().ok_or_else(|| Error::usage("no materialized views are running"))?;
    let before = views.kept();
    let queries = |kept: &[Kept]| kept.iter().filter(|kept| kept.view.is_none()).count();
    let beside = match queries(&kept) > queries(&before) {
        true => kept.last(),
        false => before.iter().find(|kept| matches!(kept.statement.kind, StatementKind::Query(_))),
    };
    if let Some(query) = beside {
        return Err(Error::usage(format!(
            "`{}` would run in the pipeline of the views, which cannot be changed then; give it a text of its own, without statements that \
             create, replace or drop materialized views",
            query.statement.text.lines().next().unwrap_or_default()
        )));
    }
    let outlook = Outlook::of(&current.graph, &job.graph)?;
    // All is prepared that can be before anything stops.
    let back = session.plan_views(&before)?;
    let folder = session.inner.store.as_deref();
    let said = folder.map(JobObject::read).transpose()?.flatten();
    stop(session, &current)?;
    let next = Next { session, current: &current, outlook: &outlook, text };
    let error = match next.go_on(&job, kept) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    // As if nothing had been said: the old graph goes on from its own checkpoint, under its own text.
    if let (Some(folder), Some(said)) = (folder, said) {
        said.write(folder)?;
    }
    let restore = checkpoint::read_latest(current.store.as_ref())?;
    let restored = match restore {
        Some(manifest) if manifest.check_same_query(&back.graph).is_ok() => Some(manifest),
        // The new checkpoint was written and its pipeline did not start.
        Some(manifest) => {
            checkpoint::drop_checkpoint(current.store.as_ref(), manifest.checkpoint)?;
            checkpoint::read_latest(current.store.as_ref())?
        }
        None => None,
    };
    let all = current.set.views().iter().map(|view| view.name.to_lowercase()).collect();
    let resumed = Begin {
        job: back,
        kept: before,
        store: Arc::clone(&current.store),
        restore: restored,
        generation: current.generation + 1,
        before: Some((Arc::clone(&current.set), all)),
    };
    begin(session, resumed)?;
    Err(error)
}

/// Has the pipeline of views end after a step, with a checkpoint, so that another goes on.
fn stop(session: &Session, current: &Current) -> Result<()> {
    current.set.release_subscriptions();
    if let Some(stopper) = &current.stopper {
        stopper.drain();
    }
    session.inner.views.wait_for(current.generation).map(drop)
}

/// The change that is to be done.
struct Next<'a> {
    session: &'a Session,
    current: &'a Current,
    outlook: &'a Outlook,
    text: &'a str,
}

impl Next<'_> {
    fn go_on(&self, job: &Job, kept: Vec<Kept>) -> Result<()> {
        let store = Arc::clone(&self.current.store);
        let old = checkpoint::read_latest(store.as_ref())?;
        let restore = match &old {
            // Nothing was ever read.
            None => None,
            Some(old) => {
                let filled = self.fill(job, old)?;
                let filled = filled.as_ref().map(|(manifest, store)| Filled { manifest, store });
                let run = format!("{}-{}", self.session.inner.run, self.current.generation);
                Some(checkpoint::migrate(store.as_ref(), old, &job.graph, filled.as_ref(), &run)?)
            }
        };
        if let Some(store) = &self.session.inner.store {
            JobObject::new(self.text, &self.session.providers().columns).write(store.as_ref())?;
        }
        let next = Begin {
            job: job.clone(),
            kept,
            store,
            restore,
            generation: self.current.generation + 1,
            before: Some((Arc::clone(&self.current.set), self.stays(job))),
        };
        begin(self.session, next)
    }

    /// The views whose rows stay as they are.
    fn stays(&self, job: &Job) -> BTreeSet<String> {
        let known: BTreeSet<OperatorId> = self.current.graph.nodes.iter().map(|node| node.id).collect();
        let outputs = job.outputs.iter().filter(|output| known.contains(&job.graph.nodes[output.node].id));
        outputs.filter_map(|output| output.view.as_ref()).map(|view| view.name.to_lowercase()).collect()
    }

    /// Runs the new operators over the rows that were read before.
    fn fill(&self, job: &Job, old: &Manifest) -> Result<Option<(Manifest, MemoryStore)>> {
        let rebuilt = self.outlook.rebuilt();
        if rebuilt.is_empty() {
            return Ok(None);
        }
        let busy = Arc::new(AtomicUsize::new(0));
        let graph = self.filling(&job.graph, &rebuilt, old, &busy)?;
        let store = MemoryStore::new();
        let inner = &self.session.inner;
        let config = PipelineConfig {
            checkpoint_interval_ms: u64::MAX / 4,
            checkpoint_steps: 0,
            seed: old.seed,
            log_steps: false,
            first_step: true,
            ..pipeline_config(&self.session.settings(), &inner.run)
        };
        job.views.begin_unread();
        let pipeline = Pipeline::start(Start {
            graph,
            config,
            clock: Arc::clone(&inner.clock),
            store: Some(Arc::new(store.clone()) as Arc<dyn CheckpointStore>),
            restore: None,
            mode: Mode::Live,
            observer: None,
        })?;
        while busy.load(Ordering::SeqCst) > 0 && !pipeline.is_finished() {
            std::thread::sleep(LOOK);
        }
        pipeline.drain();
        pipeline.wait()?;
        job.views.views().iter().for_each(|view| view.forget_parts());
        let manifest = checkpoint::read_latest(&store)?;
        Ok(manifest.map(|manifest| (manifest, store)))
    }

    /// The part of a graph that gives some nodes their rows, over the rows that there are.
    fn filling(&self, graph: &Graph, wanted: &[NodeIndex], old: &Manifest, busy: &Arc<AtomicUsize>) -> Result<Graph> {
        let known = self.current.graph.nodes.iter().map(|node| node.id).collect();
        let all = Before::of(graph, &known);
        let mut needed = Before { nodes: wanted.iter().copied().collect(), views: BTreeMap::new() };
        for index in wanted {
            let before = all.nodes_before(graph, *index);
            needed.nodes.extend(before.nodes);
            needed.views.extend(before.views);
        }
        let pin = self.current.set.pin();
        let mut moved = vec![0; graph.nodes.len()];
        let mut nodes = Vec::new();
        for (index, node) in graph.nodes.iter().enumerate() {
            let mut node = match (needed.views.get(&index), needed.nodes.contains(&index)) {
                (Some(name), _) => {
                    let view = self.current.set.view(name);
                    let view =
                        view.ok_or_else(|| Error::usage(format!("materialized view `{name}` is not running")))?;
                    let rows = view.snapshot(&pin)?.batches().collect::<eagre_engine::Result<Vec<_>>>()?;
                    rows::node(node, name, rows, busy)
                }
                (None, true) => node.clone(),
                (None, false) => continue,
            };
            node.inputs.iter_mut().for_each(|edge| edge.from = moved[edge.from]);
            if let (NodeKind::Source(source), false) = (&mut node.kind, needed.views.contains_key(&index)) {
                let until = old.sources.get(&node.id.to_string()).cloned();
                source.source = Arc::new(PrefixSource::new(&source.table, Arc::clone(&source.source), until, busy));
            }
            moved[index] = nodes.len();
            nodes.push(node);
        }
        Ok(without_sinks(&Graph { nodes }))
    }
}

/// What the rows of a node are made of, where they are not to be had more easily.
#[derive(Default)]
struct Before {
    /// The nodes, in order.
    nodes: BTreeSet<NodeIndex>,
    /// Nodes whose rows a kept view has, with its name; nothing before them is needed.
    views: BTreeMap<NodeIndex, String>,
}

impl Before {
    /// All nodes whose rows a view has that stays.
    fn of(graph: &Graph, known: &BTreeSet<OperatorId>) -> Self {
        let mut views = BTreeMap::new();
        for node in graph.nodes.iter().filter(|node| known.contains(&node.id)) {
            if let NodeKind::Operator(factory) = &node.kind
                && factory.name() == MATERIALIZE
                && let ([edge], Some(view)) = (node.inputs.as_slice(), factory.table())
                && edge.port == PORT_MAIN
            {
                views.insert(edge.from, view.to_owned());
            }
        }
        Self { nodes: BTreeSet::new(), views }
    }

    /// Those of one node.
    fn nodes_before(&self, graph: &Graph, index: NodeIndex) -> Self {
        let mut found = Self::default();
        let mut todo: Vec<NodeIndex> = graph.nodes[index].inputs.iter().map(|edge| edge.from).collect();
        while let Some(index) = todo.pop() {
            if let Some(view) = self.views.get(&index) {
                found.views.insert(index, view.clone());
            } else if found.nodes.insert(index) {
                todo.extend(graph.nodes[index].inputs.iter().map(|edge| edge.from));
            }
        }
        found
    }
}
