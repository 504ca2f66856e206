//! What the system says of this process: CPU time and memory.

/// CPU seconds of this process so far, user and system; 0 where the system does not tell.
pub(super) fn cpu_seconds() -> f64 {
    let (user, system) = user_and_system_seconds();
    user + system
}

/// Those that the system took of them, for memory that is touched for the first time above all.
pub(super) fn system_seconds() -> f64 {
    user_and_system_seconds().1
}

fn user_and_system_seconds() -> (f64, f64) {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) / TICKS_PER_SECOND, ticks(12) / TICKS_PER_SECOND)
}

/// Makes [`peak_memory_mib`] count from now on.
pub(super) fn reset_peak_memory() {
    // Where it is not allowed the peak is that of the whole process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// The most memory that this process had resident, in MiB; 0 where the system does not tell.
pub(super) fn peak_memory_mib() -> f64 {
    status_mib("VmHWM:")
}

/// The memory that is resident now, in MiB.
pub(super) fn memory_mib() -> f64 {
    status_mib("VmRSS:")
}

fn status_mib(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) / 1_024.0
}

/// The machine, for the report: processor and how many cores may be used.
pub(super) fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = if model.is_empty() { std::env::consts::ARCH } else { model };
    format!("{cores} cores of {model}, {}", std::env::consts::OS)
}
