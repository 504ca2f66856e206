//! Counters of a running pipeline: written by shards with relaxed atomics, read by anyone at any time.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use crate::operator::Placed;
use crate::time::{EventTimeMs, WATERMARK_MIN};

/// A counter or gauge.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it.
    #[inline]
    pub fn add(&self, n: u64) {
        if n > 0 {
            self.0.fetch_add(n, Ordering::Relaxed);
        }
    }
    /// Replaces it.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }
    /// Raises it to at least `n`.
    pub fn raise(&self, n: u64) {
        self.0.fetch_max(n, Ordering::Relaxed);
    }
    /// Reads it.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What one shard counts of one node.
#[derive(Debug, Default)]
pub struct NodeCounters {
    /// Rows that came in (sources: were read).
    pub rows_in: Counter,
    /// Rows that left on the main port.
    pub rows_out: Counter,
    /// Rows refused as late.
    pub rows_late: Counter,
    /// Unreadable rows (sources).
    pub rows_bad: Counter,
    /// Nanoseconds inside the operator.
    pub busy_ns: Counter,
    /// Bytes of state held.
    pub state_bytes: Counter,
    /// Rows of state held.
    pub state_rows: Counter,
    /// Keys by which larger steps pay ([`Operator::keys`](crate::operator::Operator::keys)).
    pub keys: Counter,
    /// Where kernels run.
    placements: Mutex<Vec<Placed>>,
    /// What no row tells, and how often.
    incidents: Mutex<Vec<(&'static str, u64)>>,
}

impl NodeCounters {
    /// Notes where kernels run.
    pub fn set_placements(&self, placements: Vec<Placed>) {
        // A list is whole whatever happened to the thread that held the lock.
        *self.placements.lock().unwrap_or_else(PoisonError::into_inner) = placements;
    }

    /// Notes what the operator did that no row tells, and how often.
    pub fn set_incidents(&self, incidents: Vec<(&'static str, u64)>) {
        *self.incidents.lock().unwrap_or_else(PoisonError::into_inner) = incidents;
    }
}

/// All counters of a pipeline.
#[derive(Debug)]
pub struct Metrics {
    /// `[shard][node]`.
    nodes: Vec<Vec<NodeCounters>>,
    labels: Vec<NodeLabel>,
    watermarks: Vec<AtomicI64>,
    /// Steps finished by all shards.
    pub steps: Counter,
    /// Rows read from all sources.
    pub rows_read: Counter,
    /// Checkpoints whose manifest is durable.
    pub checkpoints: Counter,
    /// Bytes written to the store by checkpoints.
    pub checkpoint_bytes: Counter,
    /// Nanoseconds that shards spent in `save`.
    pub checkpoint_save_ns: Counter,
    /// The longest `save` of one shard in nanoseconds.
    pub checkpoint_save_ns_max: Counter,
    /// Waves of work that shards sent to the device.
    pub device_waves: Counter,
    /// Batches of kernels in them.
    pub device_batches: Counter,
    step_ns: StepHistogram,
}

/// Which node a line of metrics is about.
#[derive(Debug, Clone, Serialize)]
pub struct NodeLabel {
    /// Index in the graph.
    pub node: usize,
    /// The operator's name.
    pub name: String,
    /// The table of a source or sink, or whose rows an operator judges; else empty.
    pub table: String,
}

/// The counters of one node, summed over shards.
#[derive(Debug, Clone, Serialize)]
pub struct NodeSnapshot {
    /// Which node.
    #[serde(flatten)]
    pub label: NodeLabel,
    /// Rows that came in.
    pub rows_in: u64,
    /// Rows that left.
    pub rows_out: u64,
    /// Rows refused as late.
    pub rows_late: u64,
    /// Unreadable rows.
    pub rows_bad: u64,
    /// Nanoseconds of work.
    pub busy_ns: u64,
    /// Bytes of state.
    pub state_bytes: u64,
    /// Rows of state.
    pub state_rows: u64,
    /// The watermark in milliseconds; `None`: none yet.
    pub watermark_ms: Option<EventTimeMs>,
    /// Where kernels run, in each shard that has run one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub placements: Vec<Placed>,
    /// What no row tells, and how often it happened ([`Operator::incidents`](crate::operator::Operator::incidents)).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub incidents: BTreeMap<&'static str, u64>,
}

/// A whole reading.
#[derive(Debug, Clone, Serialize)]
pub struct MetricsSnapshot {
    /// One entry a node, in graph order.
    pub nodes: Vec<NodeSnapshot>,
    /// Steps finished.
    pub steps: u64,
    /// Rows read.
    pub rows_read: u64,
    /// Checkpoints made.
    pub checkpoints: u64,
    /// Bytes written by checkpoints.
    pub checkpoint_bytes: u64,
    /// Nanoseconds spent saving on the hot path.
    pub checkpoint_save_ns: u64,
    /// The longest save of one shard.
    pub checkpoint_save_ns_max: u64,
    /// Waves of work that shards sent to the device.
    pub device_waves: u64,
    /// Batches of kernels in them.
    pub device_batches: u64,
    /// Step duration quantiles in nanoseconds (upper bound of the bucket): p50, p99, max.
    pub step_ns_p50: u64,
    /// See above.
    pub step_ns_p99: u64,
    /// See above.
    pub step_ns_max: u64,
}

impl Metrics {
    /// Counters at zero for `shards` copies of a graph.
    pub fn new(labels: Vec<NodeLabel>, shards: usize) -> Arc<Self> {
        let nodes = (0..shards).map(|_| labels.iter().map(|_| NodeCounters::default()).collect()).collect();
        let watermarks = labels.iter().map(|_| AtomicI64::new(WATERMARK_MIN)).collect();
        Arc::new(Self {
            nodes,
            labels,
            watermarks,
            steps: Counter::default(),
            rows_read: Counter::default(),
            checkpoints: Counter::default(),
            checkpoint_bytes: Counter::default(),
            checkpoint_save_ns: Counter::default(),
            checkpoint_save_ns_max: Counter::default(),
            device_waves: Counter::default(),
            device_batches: Counter::default(),
            step_ns: StepHistogram::default(),
        })
    }

    /// The counters of `node` in `shard`.
    pub fn node(&self, shard: usize, node: usize) -> &NodeCounters {
        &self.nodes[shard][node]
    }

    /// Notes a node's watermark.
    pub fn set_watermark(&self, node: usize, watermark: EventTimeMs) {
        self.watermarks[node].store(watermark, Ordering::Relaxed);
    }

    /// Notes how long a step took, from its cut to its last operator.
    pub fn step_took(&self, ns: u64) {
        self.step_ns.record(ns);
    }

    /// Bytes of state of all operators in all shards.
    pub fn state_bytes(&self) -> u64 {
        self.nodes.iter().flatten().map(|node| node.state_bytes.get()).sum()
    }

    /// Rows of state of all operators in all shards.
    pub fn state_rows(&self) -> u64 {
        self.nodes.iter().flatten().map(|node| node.state_rows.get()).sum()
    }

    /// Keys of the operator that has most of them, in all shards.
    pub fn keys_most(&self) -> u64 {
        let of = |node: &NodeLabel| self.nodes.iter().map(|shard| shard[node.node].keys.get()).sum();
        self.labels.iter().map(of).max().unwrap_or(0)
    }

    fn incidents(&self, node: usize) -> BTreeMap<&'static str, u64> {
        let mut sum = BTreeMap::new();
        for shard in &self.nodes {
            let incidents = shard[node].incidents.lock();
            for (name, count) in incidents.unwrap_or_else(PoisonError::into_inner).iter() {
                *sum.entry(*name).or_default() += count;
            }
        }
        sum
    }

    /// Reads everything.
    pub fn snapshot(&self) -> MetricsSnapshot {
        let sum = |node: usize, read: fn(&NodeCounters) -> &Counter| {
            self.nodes.iter().map(|shard| read(&shard[node]).get()).sum()
        };
        let nodes = self
            .labels
            .iter()
            .map(|label| NodeSnapshot {
                label: label.clone(),
                rows_in: sum(label.node, |c| &c.rows_in),
                rows_out: sum(label.node, |c| &c.rows_out),
                rows_late: sum(label.node, |c| &c.rows_late),
                rows_bad: sum(label.node, |c| &c.rows_bad),
                busy_ns: sum(label.node, |c| &c.busy_ns),
                state_bytes: sum(label.node, |c| &c.state_bytes),
                state_rows: sum(label.node, |c| &c.state_rows),
                placements: self
                    .nodes
                    .iter()
                    .flat_map(|shard| {
                        let placements = shard[label.node].placements.lock();
                        placements.unwrap_or_else(PoisonError::into_inner).clone()
                    })
                    .collect(),
                incidents: self.incidents(label.node),
                watermark_ms: Some(self.watermarks[label.node].load(Ordering::Relaxed)).filter(|w| *w != WATERMARK_MIN),
            })
            .collect();
        MetricsSnapshot {
            nodes,
            steps: self.steps.get(),
            rows_read: self.rows_read.get(),
            checkpoints: self.checkpoints.get(),
            checkpoint_bytes: self.checkpoint_bytes.get(),
            checkpoint_save_ns: self.checkpoint_save_ns.get(),
            checkpoint_save_ns_max: self.checkpoint_save_ns_max.get(),
            device_waves: self.device_waves.get(),
            device_batches: self.device_batches.get(),
            step_ns_p50: self.step_ns.quantile(0.5),
            step_ns_p99: self.step_ns.quantile(0.99),
            step_ns_max: self.step_ns.max.get(),
        }
    }
}

const BUCKETS_PER_OCTAVE: u32 = 8;
const BUCKET_COUNT: usize = 64 * BUCKETS_PER_OCTAVE as usize;

/// Step durations in buckets an eighth of an octave wide: enough to tell a stall from a slow step.
#[derive(Debug)]
struct StepHistogram {
    buckets: Vec<Counter>,
    max: Counter,
}

impl Default for StepHistogram {
    fn default() -> Self {
        Self { buckets: (0..BUCKET_COUNT).map(|_| Counter::default()).collect(), max: Counter::default() }
    }
}

impl StepHistogram {
    fn bucket(ns: u64) -> usize {
        let ns = ns.max(1);
        let octave = 63 - ns.leading_zeros();
        let fraction = if octave >= 3 { (ns >> (octave - 3)) & 7 } else { (ns << (3 - octave)) & 7 };
        (octave * BUCKETS_PER_OCTAVE) as usize + fraction as usize
    }

    fn upper_bound(bucket: usize) -> u64 {
        let (octave, fraction) = (bucket as u32 / BUCKETS_PER_OCTAVE, bucket as u64 % BUCKETS_PER_OCTAVE as u64);
        ((1u128 << octave) * (9 + fraction as u128) / 8).min(u64::MAX as u128) as u64
    }

    fn record(&self, ns: u64) {
        self.buckets[Self::bucket(ns)].add(1);
        self.max.raise(ns);
    }

    fn quantile(&self, q: f64) -> u64 {
        let total: u64 = self.buckets.iter().map(Counter::get).sum();
        let wanted = (total as f64 * q).ceil() as u64;
        let mut seen = 0;
        for (bucket, counter) in self.buckets.iter().enumerate() {
            seen += counter.get();
            if seen >= wanted && seen > 0 {
                return Self::upper_bound(bucket).min(self.max.get());
            }
        }
        0
    }
}

impl MetricsSnapshot {
    /// The reading in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        let mut family = |name: &str, kind: &str, help: &str, read: &dyn Fn(&NodeSnapshot) -> Option<f64>| {
            let _ = writeln!(text, "# HELP eagre_{name} {help}\n# TYPE eagre_{name} {kind}");
            for node in &self.nodes {
                if let Some(value) = read(node) {
                    let NodeLabel { node: index, name: operator, table } = &node.label;
                    let table = table.replace('\\', "\\\\").replace('"', "\\\"");
                    let _ = writeln!(
                        text,
                        "eagre_{name}{{node=\"{index}\",operator=\"{operator}\",table=\"{table}\"}} {value}"
                    );
                }
            }
        };
        family("rows_in_total", "counter", "Rows that came into the operator.", &|n| Some(n.rows_in as f64));
        family("rows_out_total", "counter", "Rows that left the operator.", &|n| Some(n.rows_out as f64));
        family("rows_late_total", "counter", "Rows refused as late.", &|n| Some(n.rows_late as f64));
        family("rows_bad_total", "counter", "Rows that could not be read.", &|n| Some(n.rows_bad as f64));
        family("busy_seconds_total", "counter", "Seconds of work in the operator.", &|n| Some(n.busy_ns as f64 / 1e9));
        family("state_bytes", "gauge", "Bytes of state held.", &|n| Some(n.state_bytes as f64));
        family("state_rows", "gauge", "Rows of state held.", &|n| Some(n.state_rows as f64));
        family("watermark_seconds", "gauge", "Event time that the operator has come to.", &|n| {
            n.watermark_ms.filter(|w| *w != i64::MAX).map(|w| w as f64 / 1e3)
        });
        let on_device = |placed: &Placed| placed.decision.side == crate::score::Side::Device;
        family("kernels_on_device", "gauge", "Kernels of the operator that run on a device.", &|n| {
            let count = n.placements.iter().filter(|placed| on_device(placed)).count();
            (!n.placements.is_empty()).then_some(count as f64)
        });
        let placed = |n: &NodeSnapshot, read: fn(&Placed) -> u64| {
            (!n.placements.is_empty()).then(|| n.placements.iter().map(read).sum::<u64>() as f64)
        };
        family("kernel_fall_backs_total", "counter", "How often the CPU has taken over from a failed device.", &|n| {
            placed(n, |one| one.fall_backs)
        });
        family(
            "kernel_replayed_batches_total",
            "counter",
            "Batches that the CPU has done again because of that.",
            &|n| placed(n, |one| one.replayed_batches),
        );
        let mut names: Vec<&str> = self.nodes.iter().flat_map(|node| node.incidents.keys().copied()).collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let help = format!("{}, as `EXPLAIN ANALYZE` tells.", name.replace('_', " "));
            family(&format!("{name}_total"), "counter", &help, &|n| n.incidents.get(name).map(|count| *count as f64));
        }
        let mean = |values: Vec<f64>| (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64);
        family("kernel_cpu_ns_per_event", "gauge", "Observed on the CPU.", &|n| {
            mean(n.placements.iter().filter_map(|placed| placed.decision.cpu_observed_ns_per_event).collect())
        });
        family("kernel_device_ns_per_event", "gauge", "Observed on the device.", &|n| {
            mean(n.placements.iter().filter_map(|placed| placed.decision.gpu_observed_ns_per_event).collect())
        });
        for (name, kind, help, value) in [
            ("steps_total", "counter", "Steps finished.", self.steps as f64),
            ("rows_read_total", "counter", "Rows read from all sources.", self.rows_read as f64),
            ("checkpoints_total", "counter", "Checkpoints made durable.", self.checkpoints as f64),
            ("device_waves_total", "counter", "Waves of work sent to the device.", self.device_waves as f64),
            ("device_batches_total", "counter", "Batches of kernels in these.", self.device_batches as f64),
            ("checkpoint_bytes_total", "counter", "Bytes written by checkpoints.", self.checkpoint_bytes as f64),
            (
                "checkpoint_save_seconds_total",
                "counter",
                "Seconds that steps waited for saves.",
                self.checkpoint_save_ns as f64 / 1e9,
            ),
            ("step_seconds_p50", "gauge", "Median duration of a step.", self.step_ns_p50 as f64 / 1e9),
            ("step_seconds_p99", "gauge", "99th percentile of the duration of a step.", self.step_ns_p99 as f64 / 1e9),
            ("step_seconds_max", "gauge", "Longest step.", self.step_ns_max as f64 / 1e9),
        ] {
            let _ = writeln!(text, "# HELP eagre_{name} {help}\n# TYPE eagre_{name} {kind}\neagre_{name} {value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A p99 that is off by a factor would hide a stall.
    #[test]
    fn quantiles_are_within_an_eighth() {
        let histogram = StepHistogram::default();
        (1..=1000u64).for_each(|us| histogram.record(us * 1_000));
        for (q, expected) in [(0.5, 500_000f64), (0.99, 990_000.0), (1.0, 1_000_000.0)] {
            let got = histogram.quantile(q) as f64;
            assert!((got / expected - 1.0).abs() < 0.126, "q{q}: {got} for {expected}");
        }
    }
}
