//! What there is of devices on this machine: what `eagre gpu` shows.
//!
//! A user who wonders why nothing runs on the GPU finds the answer here: that there is no adapter, that it is a software one, that it
//! failed a part of the self-test, or that it would be slower, with the figures that say so.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bench::{self, bytes, short, time};
use crate::device::{AdapterDescription, Device, DeviceOptions, SelfTest, calibrate};
use crate::placer::{Calibration, Link};

/// What is looked at, and how.
#[derive(Debug, Clone)]
pub struct InspectOptions {
    /// Only an adapter with this in its name.
    pub adapter: Option<String>,
    /// Where calibrations are kept.
    pub calibration_file: Option<PathBuf>,
    /// Measures anew what was kept.
    pub fresh: bool,
    /// About how long measuring may take.
    pub budget: Duration,
}

impl Default for InspectOptions {
    fn default() -> Self {
        // Longer than at a start, because somebody asked for it and waits: all kernels are measured.
        InspectOptions { adapter: None, calibration_file: None, fresh: false, budget: Duration::from_secs(10) }
    }
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// All adapters, the best first.
    pub adapters: Vec<AdapterDescription>,
    /// The one that eagre would take, with what it does; or, where there is only software, that.
    pub opened: Option<Opened>,
    /// Why none could be opened.
    pub refused: Option<String>,
}

/// An adapter that was opened.
#[derive(Debug, Clone, Serialize)]
pub struct Opened {
    /// What it is.
    pub adapter: AdapterDescription,
    /// How many bytes eagre may hold on it.
    pub budget_bytes: u64,
    /// What it computes rightly.
    pub self_test: SelfTest,
    /// What it takes for things.
    pub calibration: Option<Calibration>,
    /// Why that is not known.
    pub calibration_refused: Option<String>,
    /// How long opening it took, with the self-test.
    pub open_ms: f64,
    /// How long calibrating it took.
    pub calibrate_ms: f64,
    /// Where the calibration is kept.
    pub calibration_file: Option<PathBuf>,
}

/// Looks at all adapters, and opens and measures the best.
pub fn inspect(options: &InspectOptions) -> Inspection {
    let adapters = Device::adapters();
    let started = Instant::now();
    let open = DeviceOptions {
        adapter: options.adapter.clone(),
        allow_software: true,
        timestamps: true,
        ..DeviceOptions::default()
    };
    let device = match Device::open(&open) {
        Ok(device) => device,
        Err(error) => return Inspection { adapters, opened: None, refused: Some(error.to_string()) },
    };
    let open_ms = started.elapsed().as_secs_f64() * 1e3;
    let started = Instant::now();
    let (cases, file) = (bench::cases(), options.calibration_file.as_deref());
    let calibrated = match options.fresh {
        true => calibrate::calibrate_anew(&device, &cases, file, options.budget),
        false => calibrate::calibrate(&device, &cases, file, options.budget),
    };
    let (calibration, calibration_refused) = match calibrated {
        Ok(calibration) => (Some(calibration), None),
        Err(error) => (None, Some(error.to_string())),
    };
    let opened = Opened {
        adapter: device.description().clone(),
        budget_bytes: device.metrics().budget_bytes,
        self_test: device.self_test().clone(),
        calibration,
        calibration_refused,
        open_ms,
        calibrate_ms: started.elapsed().as_secs_f64() * 1e3,
        calibration_file: options.calibration_file.clone(),
    };
    Inspection { adapters, opened: Some(opened), refused: None }
}

impl fmt::Display for Inspection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.adapters.is_empty() {
            writeln!(
                out,
                "no adapter: neither Vulkan, Metal nor DirectX 12 is there; all kernels run on the CPU, with the same answers"
            )?;
        }
        for adapter in &self.adapters {
            let taken = self.opened.as_ref().is_some_and(|opened| opened.adapter == *adapter);
            writeln!(
                out,
                "{} {} ({}, {}; {}){}",
                if taken { "*" } else { " " },
                adapter.name,
                adapter.device_type,
                adapter.backend,
                adapter.driver,
                if adapter.software { ": computes on the CPU, used only where eagre.device is 'gpu'" } else { "" }
            )?;
        }
        if let Some(reason) = self.refused.as_ref().filter(|_| !self.adapters.is_empty()) {
            writeln!(out, "\nnone was opened: {reason}")?;
        }
        match &self.opened {
            Some(opened) => write!(out, "{opened}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Opened {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let adapter = &self.adapter;
        let (narrow, wide) = adapter.subgroup_sizes;
        let memory = adapter.memory_bytes.map_or_else(|| "not told".to_owned(), bytes);
        let subgroups = if narrow == wide { narrow.to_string() } else { format!("{narrow} to {wide}") };
        let features = if adapter.features.is_empty() {
            "none of those that matter".to_owned()
        } else {
            adapter.features.join(", ")
        };
        writeln!(out, "\nlimits of {}", adapter.name)?;
        writeln!(out, "  memory              {memory}; eagre may hold {}", bytes(self.budget_bytes))?;
        writeln!(out, "  one binding         {}", bytes(adapter.storage_binding_bytes_max))?;
        writeln!(out, "  one buffer          {}", bytes(adapter.buffer_bytes_max))?;
        writeln!(
            out,
            "  one workgroup       {} invocations, {} of memory; {} storage buffers",
            adapter.workgroup_invocations_max,
            bytes(u64::from(adapter.workgroup_bytes_max)),
            adapter.storage_buffers_max
        )?;
        writeln!(out, "  subgroups           {subgroups} wide")?;
        writeln!(out, "  features            {features}")?;

        let observed = &self.self_test.observed;
        writeln!(out, "\nself-test (opened in {:.0} ms)", self.open_ms)?;
        for need in crate::device::Need::ALL {
            let result = self
                .self_test
                .allows(need)
                .map_or_else(|reason| format!("REFUSED: {reason}"), |()| "passed".to_owned());
            writeln!(out, "  {:<28} {result}", need.name())?;
        }
        let kept = |wrong: bool, so: &'static str, otherwise: &'static str| if wrong { so } else { otherwise };
        writeln!(
            out,
            "  float operations are {}, {}; denormals are {}",
            kept(observed.reassociates, "reassociated where nothing prevents it", "done in the order that is written"),
            kept(observed.contracts, "contracted where nothing prevents it", "rounded one by one"),
            kept(observed.keeps_denormals, "kept", "taken as 0")
        )?;

        match (&self.calibration, &self.calibration_refused) {
            (Some(calibration), _) => self.write_calibration(calibration, out),
            (None, Some(reason)) => writeln!(out, "\nnot calibrated: {reason}"),
            (None, None) => Ok(()),
        }
    }
}

impl Opened {
    fn write_calibration(&self, calibration: &Calibration, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file =
            self.calibration_file.as_ref().map_or_else(String::new, |file| format!(", kept in {}", file.display()));
        writeln!(out, "\ncalibration ({:.0} ms{file})", self.calibrate_ms)?;
        let round_trip = &calibration.round_trip;
        writeln!(
            out,
            "  round trip          {}, 99th percentile {}",
            time(round_trip.p50_ns),
            time(round_trip.p99_ns)
        )?;
        for (name, link) in [("to the device", &calibration.upload), ("back", &calibration.readback)] {
            writeln!(out, "  {name:<19} {}", rates(link))?;
        }
        writeln!(
            out,
            "\n  {:<19} {:>13} {:>13} {:>18}",
            "kernel", "cpu, ns/event", "gpu, ns/event", "gpu pays from rows"
        )?;
        for figures in &calibration.kernels {
            let pays = calibration.break_even_rows(&figures.kernel, &figures.batch(1 << 20), 1.0, 1.0);
            writeln!(
                out,
                "  {:<19} {:>13} {:>13} {:>18}",
                figures.kernel,
                short(figures.twin.ns_per_event),
                short(figures.device.ns_per_event),
                pays.map_or_else(|| "never".to_owned(), |rows| short(rows as f64))
            )?;
        }
        let missing: Vec<&str> = kernel_names().into_iter().filter(|name| calibration.kernel(name).is_none()).collect();
        if !missing.is_empty() {
            writeln!(out, "  not measured, so on the CPU: {}", missing.join(", "))?;
        }
        writeln!(
            out,
            "  cpu: one thread; gpu: the kernel alone; it pays from where round trip and transfers are earned back"
        )?;
        if calibration.software {
            writeln!(
                out,
                "  a software adapter computes on the CPU: its figures say nothing of a GPU, and it is never chosen by itself"
            )?;
        }
        Ok(())
    }
}

fn rates(link: &Link) -> String {
    let rate = |point: &crate::placer::BandwidthPoint| {
        format!("{} GB/s at {}", short(point.bytes as f64 / point.ns.max(1.0)), bytes(point.bytes))
    };
    link.points.iter().map(rate).collect::<Vec<_>>().join(", ")
}

/// Each kernel once.
fn kernel_names() -> Vec<&'static str> {
    let mut names: Vec<&'static str> = bench::cases().iter().map(|case| case.kernel()).collect();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::testing::test_device;

    /// Whoever asks why nothing runs on the GPU reads here that there is none.
    #[test]
    fn a_machine_without_adapters_is_told_so() {
        let none = Inspection { adapters: Vec::new(), opened: None, refused: Some("nothing".to_owned()) };
        assert!(none.to_string().contains("no adapter") && none.to_string().contains("on the CPU"));
        let unknown =
            inspect(&InspectOptions { adapter: Some("no such card".to_owned()), ..InspectOptions::default() });
        assert!(
            unknown.opened.is_none() && unknown.refused.as_ref().is_some_and(|reason| reason.contains("no such card"))
        );
    }

    #[test]
    fn an_adapter_is_shown_with_its_self_test_and_figures() {
        let Some(device) = test_device() else { return };
        let adapter = Some(device.description().name.clone());
        let found = inspect(&InspectOptions { adapter, budget: Duration::ZERO, ..InspectOptions::default() });
        let text = found.to_string();
        for part in [
            device.description().name.as_str(),
            "all kernels",
            "round trip",
            "to the device",
            "one binding",
            "not measured, so on the CPU",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert_eq!(text.contains("never chosen by itself"), device.description().software);
        let json = serde_json::to_value(&found).expect("plain data");
        assert!(json["opened"]["calibration"]["round_trip"]["p50_ns"].as_f64().is_some_and(|ns| ns > 0.0));
    }
}
