//! The run itself.

use std::io::Write;
use std::path::Path;

use super::figure::break_even;
use super::options::{Form, chosen, count};
use super::report::{self, machine, table};
use super::{AdapterFigures, Case, CaseFigures, Limits, Options, OptionsError, Point, Refused, Report, cases};
use crate::kernel::Exactness;

/// Why a benchmark ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// A wrong command line.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// Standard output or a report could not be written.
    #[error("{what}: {error}")]
    Write {
        /// What was written.
        what: String,
        /// Why it could not be.
        error: std::io::Error,
    },
    /// The adapter that was asked for by name cannot be had.
    #[error("adapter `{adapter}` is not measured: {reason}; `eagre gpu` lists the adapters")]
    Adapter {
        /// What was asked for.
        adapter: String,
        /// Why it cannot be had.
        reason: String,
    },
}

impl BenchError {
    /// Whether who read the output has gone.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, BenchError::Write { error, .. } if error.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

/// Measures, prints a line for each figure as soon as it is there, a summary at the end, and writes the reports.
///
/// `command` is what a report says to run for the same figures.
///
/// # Errors
/// Wrong options before anything runs; output that cannot be written. A kernel or a device that refuses is part of the report.
pub fn run(options: &Options, command: String, out: &mut dyn Write) -> Result<Report, BenchError> {
    let all = cases();
    let chosen = chosen(&all, &options.kernels)?;
    let forms =
        options.reports.iter().map(|path| Ok((Form::of(path)?, path))).collect::<Result<Vec<_>, OptionsError>>()?;
    let printed = |error| BenchError::Write { what: "standard output".to_owned(), error };
    if cfg!(debug_assertions) {
        writeln!(out, "note: this is a debug build; its figures say nothing, build with --release").map_err(printed)?;
    }
    let mut report = Report {
        version: env!("CARGO_PKG_VERSION"),
        machine: machine(),
        command,
        seed: options.seed,
        adapter: None,
        cases: Vec::new(),
        refused: Vec::new(),
    };
    writeln!(out, "{}", report.machine).map_err(printed)?;
    let device = Gpu::open(options, &mut report);
    if let Some(adapter) = &report.adapter {
        write!(out, "{}", table::adapter(adapter)).map_err(printed)?;
    }
    for refused in &report.refused {
        writeln!(out, "{}: {}", refused.what, refused.reason).map_err(printed)?;
    }
    // Figures of the CPU alone are not what was asked for then.
    if let (Some(adapter), None, Some(refused)) = (&options.adapter, &device, report.refused.first()) {
        return Err(BenchError::Adapter { adapter: adapter.clone(), reason: refused.reason.clone() });
    }
    let threads = thread_counts(options);
    writeln!(out, "\n{}", table::header(&threads, options.sides.gpu)).map_err(printed)?;
    for case in chosen {
        let figures =
            measure(case, options, &threads, device.as_ref(), &mut report, &mut |line| writeln!(out, "{line}"))
                .map_err(printed)?;
        report.cases.push(figures);
        // After each case, so that a run that is stopped has what it came to.
        for (form, path) in &forms {
            write_report(&report, *form, path)?;
        }
    }
    write!(out, "{}", table::summary(&report)).map_err(printed)?;
    Ok(report)
}

fn write_report(report: &Report, form: Form, path: &Path) -> Result<(), BenchError> {
    std::fs::write(path, report::text(report, form))
        .map_err(|error| BenchError::Write { what: path.display().to_string(), error })
}

/// One thread, two, and all.
fn thread_counts(options: &Options) -> Vec<usize> {
    if !options.sides.cpu {
        return Vec::new();
    }
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let mut threads = vec![1, 2.min(all), all];
    threads.dedup();
    threads
}

/// How many threads feed the device beside one: all, or as many as a batch can be cut among.
fn fed_by(case: &dyn Case, rows: usize) -> Vec<usize> {
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    Some(all.min(case.threads_max(rows))).filter(|&threads| threads > 1).into_iter().collect()
}

/// One workload at all sizes.
fn measure(
    case: &dyn Case,
    options: &Options,
    threads: &[usize],
    device: Option<&Gpu>,
    report: &mut Report,
    print: &mut dyn FnMut(&str) -> std::io::Result<()>,
) -> std::io::Result<CaseFigures> {
    let warm_duration = options.batch_duration_max;
    let limits = Limits { duration: options.duration, warm_duration, seed: options.seed, ..Limits::default() };
    let mut figures = CaseFigures {
        kernel: case.kernel().to_owned(),
        case: case.name(),
        input: case.input().to_owned(),
        exactness: exactness(case.exactness()),
        points: Vec::new(),
        break_even: Vec::new(),
    };
    let mut refused = false;
    for &rows in &options.rows {
        let mut point = Point { rows, twin: Vec::new(), device: None, agreement: None, notes: Vec::new() };
        // What a batch of this size takes if it is no quicker an event than the last one was.
        let expected =
            |last: Option<(u64, f64)>| last.map_or(0.0, |(last_rows, ns)| ns * rows as f64 / last_rows as f64);
        let too_long = |ns: f64| ns > options.batch_duration_max.as_nanos() as f64;
        for &threads in threads.iter().filter(|&&threads| threads <= case.threads_max(rows as usize)) {
            let last = figures.points.iter().rev().find_map(|point: &Point| {
                point
                    .twin
                    .iter()
                    .find(|figure| figure.threads == threads)
                    .map(|figure| (point.rows, figure.batch_ns_p50))
            });
            match expected(last) {
                ns if too_long(ns) => point.notes.push(format!(
                    "left out: twin on {threads} thread(s): a batch of {} would take some {:.0} s; --batch-seconds allows more",
                    count(rows),
                    ns / 1e9
                )),
                _ => point.twin.push(case.twin(rows as usize, threads, &limits)),
            }
        }
        if let Some(device) = device.filter(|_| !refused) {
            let last = figures
                .points
                .iter()
                .rev()
                .find_map(|point| point.device.as_ref().map(|figure| (point.rows, figure.batch_ns_p50)));
            match expected(last) {
                ns if too_long(ns) => point.notes.push(format!(
                    "left out: device: a batch of {} would take some {:.0} s",
                    count(rows),
                    ns / 1e9
                )),
                _ => match device.measure(case, rows as usize, &fed_by(case, rows as usize), &limits, report) {
                    Ok(figure) => {
                        if let Some((units, name)) = case.units_per_event() {
                            point.notes.push(format!(
                                "device: {} {name}/s from converted rows in host memory",
                                report::short(figure.converted_events_per_s * units as f64)
                            ));
                        }
                        point.device = Some(figure);
                    }
                    Err(reason) => {
                        report.refused.push(Refused {
                            what: format!("{} at {} rows on the device", case.name(), count(rows)),
                            reason,
                        });
                        refused = true;
                    }
                },
            }
            let agreement_ns = expected(last.or(point.device.as_ref().map(|figure| (rows, figure.batch_ns_p50))));
            if point.device.is_some()
                && !too_long(agreement_ns.max(point.twin.first().map_or(0.0, |figure| figure.batch_ns_p50)))
            {
                match device.agreement(case, rows as usize, &limits) {
                    Ok(agreement) => point.agreement = Some(agreement),
                    Err(reason) => {
                        report.refused.push(Refused {
                            what: format!("{} at {} rows, compared", case.name(), count(rows)),
                            reason,
                        });
                    }
                }
            }
        }
        let cold =
            point.twin.iter().any(|figure| !figure.warm) || point.device.as_ref().is_some_and(|figure| !figure.warm);
        if cold {
            let text = format!(
                "not warm: keys had fewer rows than they need after {} s, so figures are too good",
                limits.warm_duration.as_secs()
            );
            point.notes.push(text);
        }
        print(&table::line(&figures.case, &point, threads, options.sides.gpu))?;
        figures.points.push(point);
    }
    figures.break_even = threads
        .iter()
        .filter_map(|&threads| {
            let both = |point: &Point| {
                let twin = point.twin.iter().find(|figure| figure.threads == threads)?;
                Some((point.rows, twin.batch_ns_p50, point.device.as_ref()?.batch_ns_p50))
            };
            break_even(threads, &figures.points.iter().filter_map(both).collect::<Vec<_>>())
        })
        .collect();
    Ok(figures)
}

fn exactness(exactness: Exactness) -> String {
    match exactness {
        Exactness::Exact => "equal to the bit".to_owned(),
        Exactness::SameTree => "equal to the bit where the adapter computes as it is told".to_owned(),
        Exactness::Tolerance { relative, absolute } => format!("within {relative:e} of the value + {absolute:e}"),
    }
}

/// The device that is measured, as far as this build has one.
#[cfg(feature = "gpu")]
struct Gpu(crate::device::SharedDevice);

#[cfg(feature = "gpu")]
impl Gpu {
    fn open(options: &Options, report: &mut Report) -> Option<Self> {
        if !options.sides.gpu {
            return None;
        }
        match super::gpu::open(options) {
            Ok((device, figures)) => {
                report.adapter = Some(figures);
                Some(Gpu(device))
            }
            Err(error) => {
                report.refused.push(Refused { what: "device".to_owned(), reason: error.to_string() });
                None
            }
        }
    }

    /// The device, opened again if the case before has lost it.
    fn get(&self) -> Result<crate::device::Device, String> {
        self.0.get().map_err(|error| error.to_string())
    }

    fn measure(
        &self,
        case: &dyn Case,
        rows: usize,
        threads: &[usize],
        limits: &Limits,
        report: &Report,
    ) -> Result<super::DeviceFigure, String> {
        let mut figure = case.device(&self.get()?, rows, threads, limits).map_err(|error| error.to_string())?;
        let copy = report.adapter.as_ref().and_then(|adapter: &AdapterFigures| adapter.copy_gb_per_s);
        figure.kernel_share_of_copy = figure.kernel_gb_per_s.zip(copy).map(|(kernel, copy)| kernel / copy);
        Ok(figure)
    }

    fn agreement(&self, case: &dyn Case, rows: usize, limits: &Limits) -> Result<super::Agreement, String> {
        case.agreement(&self.get()?, rows, limits).map_err(|error| error.to_string())
    }
}

#[cfg(not(feature = "gpu"))]
enum Gpu {}

#[cfg(not(feature = "gpu"))]
impl Gpu {
    fn open(_: &Options, _: &mut Report) -> Option<Self> {
        let _: Option<AdapterFigures> = None;
        None
    }

    fn measure(
        &self,
        _: &dyn Case,
        _: usize,
        _: &[usize],
        _: &Limits,
        _: &Report,
    ) -> Result<super::DeviceFigure, String> {
        match *self {}
    }

    fn agreement(&self, _: &dyn Case, _: usize, _: &Limits) -> Result<super::Agreement, String> {
        match *self {}
    }
}
