//! What is to be measured, checked before anything runs: a typing error must not cost a long run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Case;

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct Options {
    /// Twins, the device, or both.
    pub sides: Sides,
    /// Kernels or workloads by name; none: all.
    pub kernels: Vec<String>,
    /// Batch sizes, ascending.
    pub rows: Vec<u64>,
    /// Only an adapter with this in its name.
    pub adapter: Option<String>,
    /// Whether shaders check their indices.
    pub checked_shaders: bool,
    /// Of the input.
    pub seed: u64,
    /// For each figure.
    pub duration: Duration,
    /// A batch that is expected to take longer than this is left out.
    pub batch_duration_max: Duration,
    /// Files for the report.
    pub reports: Vec<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            sides: Sides { cpu: true, gpu: cfg!(feature = "gpu") },
            kernels: Vec::new(),
            rows: parse_rows("1k..16M").expect("the default is written as it is read"),
            adapter: None,
            checked_shaders: false,
            seed: 42,
            duration: Duration::from_millis(500),
            batch_duration_max: Duration::from_secs(10),
            reports: Vec::new(),
        }
    }
}

/// Which sides are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sides {
    /// Twins.
    pub cpu: bool,
    /// The device.
    pub gpu: bool,
}

/// A wrong command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// There is no such kernel.
    #[error("--kernels: there is no kernel `{given}`{}; there are {}", did_you_mean(.nearest), .known.join(", "))]
    UnknownKernel {
        /// What was given.
        given: String,
        /// What may have been meant.
        nearest: Option<String>,
        /// All that could be given.
        known: Vec<String>,
    },
    /// There is no such side.
    #[error("--device: there is no device `{given}`; it takes cpu, gpu or cpu,gpu")]
    UnknownSide {
        /// What was given.
        given: String,
    },
    /// The build has no GPU part.
    #[error("--device gpu: this eagre was built without the feature `gpu`; `--device cpu` measures the twins")]
    NoGpu,
    /// No batch sizes.
    #[error(
        "--rows: `{given}` is no list of batch sizes from 1 to {}: write 64k, or 1k,64k,1M, or 1k..16M (each four times the one before)",
        count(ROWS_MAX)
    )]
    Rows {
        /// What was given.
        given: String,
    },
    /// A duration that is none.
    #[error("{option}: `{given}` is no time of 0.01 to 3600 seconds")]
    Seconds {
        /// The option.
        option: &'static str,
        /// What was given.
        given: String,
    },
    /// A report in an unknown form.
    #[error("--report: `{path}` ends in none of .json, .md and .html, which say what is written")]
    ReportForm {
        /// The file.
        path: String,
    },
    /// A report in a folder that is not there.
    #[error("--report: there is no folder `{folder}` for `{path}`")]
    ReportFolder {
        /// The folder.
        folder: String,
        /// The file.
        path: String,
    },
}

fn did_you_mean(nearest: &Option<String>) -> String {
    nearest.as_ref().map_or_else(String::new, |nearest| format!("; did you mean `{nearest}`?"))
}

/// The most rows of a batch: rows are counted in 32 bits, and a forest's input of them takes gigabytes.
const ROWS_MAX: u64 = 64_000_000;

/// A form of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// All that is known.
    Json,
    /// Tables.
    Markdown,
    /// Tables and plots, in one file that needs nothing else.
    Html,
}

impl Form {
    /// By the end of a file's name, which lies in a folder that is there.
    ///
    /// # Errors
    /// Another end, or no such folder.
    pub fn of(path: &Path) -> Result<Self, OptionsError> {
        let form = match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => Form::Json,
            Some("md") => Form::Markdown,
            Some("html") => Form::Html,
            _ => return Err(OptionsError::ReportForm { path: path.display().to_string() }),
        };
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => Err(OptionsError::ReportFolder {
                folder: folder.display().to_string(),
                path: path.display().to_string(),
            }),
            _ => Ok(form),
        }
    }
}

/// `cpu`, `gpu` or both, separated by commas.
///
/// # Errors
/// Anything else, and `gpu` in a build without it.
pub fn parse_sides(text: &str) -> Result<Sides, OptionsError> {
    let mut sides = Sides { cpu: false, gpu: false };
    for side in text.split(',').map(|side| side.trim().to_ascii_lowercase()) {
        match side.as_str() {
            "cpu" => sides.cpu = true,
            "gpu" if cfg!(feature = "gpu") => sides.gpu = true,
            "gpu" => return Err(OptionsError::NoGpu),
            _ => return Err(OptionsError::UnknownSide { given: side }),
        }
    }
    Ok(sides)
}

/// Batch sizes: a list of counts and ranges, `1k,64k` or `1k..16M`; ascending, each once.
///
/// # Errors
/// Anything else.
pub fn parse_rows(text: &str) -> Result<Vec<u64>, OptionsError> {
    let wrong = || OptionsError::Rows { given: text.to_owned() };
    let parse = |text: &str| parse_count(text).filter(|rows| (1..=ROWS_MAX).contains(rows)).ok_or_else(wrong);
    let mut rows = Vec::new();
    for part in text.split(',') {
        match part.split_once("..") {
            None => rows.push(parse(part)?),
            Some((first, last)) => {
                let (first, last) = (parse(first)?, parse(last)?);
                if first > last {
                    return Err(wrong());
                }
                // The last size is measured even where four times the one before is beyond it.
                rows.extend(std::iter::successors(Some(first), |&rows| (rows < last).then(|| (rows * 4).min(last))));
            }
        }
    }
    rows.sort_unstable();
    rows.dedup();
    Ok(rows)
}

/// A count with a suffix `k` or `M`.
fn parse_count(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, factor) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 1e3),
        b'm' | b'M' => (&text[..text.len() - 1], 1e6),
        _ => (text, 1.0),
    };
    let number: f64 = digits.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some((number * factor) as u64)
}

/// Seconds of a figure.
///
/// # Errors
/// Anything that is no sensible time.
pub fn parse_seconds(option: &'static str, text: &str) -> Result<Duration, OptionsError> {
    let seconds = text.trim().parse::<f64>().ok().filter(|seconds| (0.01..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| OptionsError::Seconds { option, given: text.to_owned() })
}

/// The workloads that names choose: a kernel's name is all its workloads. No name is all of them.
///
/// # Errors
/// A name that is neither, with the one that is nearest.
pub(super) fn chosen<'a>(cases: &'a [Box<dyn Case>], names: &[String]) -> Result<Vec<&'a dyn Case>, OptionsError> {
    let names: Vec<&str> =
        names.iter().flat_map(|names| names.split(',')).map(str::trim).filter(|name| !name.is_empty()).collect();
    let matches = |case: &dyn Case, name: &str| name == "all" || case.kernel() == name || case.name() == name;
    for name in &names {
        if !cases.iter().any(|case| matches(case.as_ref(), name)) {
            // A kernel before its workloads, each once, also where no workload goes by the kernel's name alone.
            let mut known: Vec<String> = Vec::new();
            for name in cases.iter().flat_map(|case| [case.kernel().to_owned(), case.name()]) {
                if !known.contains(&name) {
                    known.push(name);
                }
            }
            let distance = |known: &String| edit_distance(known, &name.to_ascii_lowercase());
            let nearest = known
                .iter()
                .min_by_key(|known| distance(known))
                .filter(|known| distance(known) <= known.len() / 2)
                .cloned();
            return Err(OptionsError::UnknownKernel { given: (*name).to_owned(), nearest, known });
        }
    }
    let wanted = |case: &&dyn Case| names.is_empty() || names.iter().any(|name| matches(*case, name));
    Ok(cases.iter().map(AsRef::as_ref).filter(wanted).collect())
}

/// How many letters must be changed, added or removed (Levenshtein 1966).
fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, letter) in left.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], index + 1);
        for (column, &other) in right.iter().enumerate() {
            let changed = diagonal + usize::from(letter != other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[right.len()]
}

/// A count as people write it: `1k`, `16M`.
pub(super) fn count(rows: u64) -> String {
    match rows {
        rows if rows >= 1_000_000 && rows.is_multiple_of(1_000_000) => format!("{}M", rows / 1_000_000),
        rows if rows >= 1000 && rows.is_multiple_of(1000) => format!("{}k", rows / 1000),
        rows => rows.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::cases;

    #[test]
    fn sizes_are_lists_and_ranges() {
        let rows = |text: &str| parse_rows(text).expect(text);
        assert_eq!(rows("64k"), [64_000]);
        assert_eq!(rows("1M, 1k,1k"), [1000, 1_000_000]);
        assert_eq!(rows("1k..16k"), [1000, 4000, 16_000]);
        assert_eq!(rows("1k..20k"), [1000, 4000, 16_000, 20_000]);
        assert_eq!(rows("7..7"), [7]);
        for wrong in ["", "0", "k", "-1", "1k..", "2k..1k", "1T", "nan", "1e30"] {
            assert!(parse_rows(wrong).is_err(), "{wrong}");
        }
        assert_eq!(Options::default().rows.first().zip(Options::default().rows.last()), Some((&1000, &16_000_000)));
        assert_eq!([1000, 1500, 1_024_000, 16_000_000].map(count), ["1k", "1500", "1024k", "16M"]);
    }

    /// A name with a slip in it is answered with the one that was meant.
    #[test]
    fn a_kernel_that_is_not_there_gives_the_nearest() {
        let cases = cases();
        let error = |name: &str| chosen(&cases, &[name.to_owned()]).err().expect("there is none").to_string();
        assert!(error("recurence_scan").contains("did you mean `recurrence_scan`?"), "{}", error("recurence_scan"));
        assert!(error("Recurrence-Scan/one-key").contains("did you mean `recurrence_scan/one-key`?"));
        assert!(!error("xyz").contains("did you mean") && error("xyz").contains("recurrence_scan"));
        let names = |names: &[&str]| -> Vec<String> {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            chosen(&cases, &names).expect("all are there").iter().map(|case| case.name()).collect()
        };
        assert_eq!(names(&["recurrence_scan/one-key"]), ["recurrence_scan/one-key"]);
        assert_eq!(
            names(&["recurrence_scan"]),
            ["recurrence_scan", "recurrence_scan/one-key", "recurrence_scan/holt", "recurrence_scan/cusum"]
        );
        assert_eq!(names(&[]), cases.iter().map(|case| case.name()).collect::<Vec<_>>());
        assert_eq!(names(&["all"]), names(&[]));
    }

    #[test]
    fn sides_and_reports_are_checked_before_anything_runs() {
        assert_eq!(parse_sides("cpu"), Ok(Sides { cpu: true, gpu: false }));
        assert!(parse_sides("tpu").expect_err("no such device").to_string().contains("`tpu`"));
        assert_eq!(parse_sides("cpu,gpu").is_ok(), cfg!(feature = "gpu"));
        assert_eq!(Form::of(Path::new("a.html")), Ok(Form::Html));
        assert!(Form::of(Path::new("a.txt")).is_err());
        assert!(matches!(Form::of(Path::new("/no/such/folder/a.md")), Err(OptionsError::ReportFolder { .. })));
        assert!(parse_seconds("--seconds", "0").is_err() && parse_seconds("--seconds", "1.5").is_ok());
    }
}
