//! Reports of figures that were made up, looked at as readers and programs do.

use super::*;
use crate::bench::*;

fn report(software: bool, wrong: u64) -> Report {
    let twin = |threads: usize, rate: f64| TwinFigure {
        threads,
        batches: 10,
        warm: true,
        batch_ns_p50: 64_000.0 / rate * 1e9,
        kernel_ns_p50: 32_000.0 / rate * 1e9,
        events_per_s: rate,
    };
    let device = DeviceFigure {
        batches: 10,
        warm: true,
        batch_ns_p50: 250_000.0,
        batch_ns_p99: 900_000.0,
        convert_ns_p50: 40_000.0,
        kernel_ns_p50: Some(20_000.0),
        events_per_s: 320e6,
        fed: vec![FedFigure { threads: 2, events_per_s: 310e6 }],
        converted_events_per_s: 480e6,
        upload_bytes: 1 << 20,
        readback_bytes: 256 << 10,
        kernel_gb_per_s: Some(700.0),
        kernel_share_of_copy: Some(0.7),
    };
    let point = |rows: u64, device: Option<DeviceFigure>| Point {
        rows,
        twin: vec![twin(1, 10e6), twin(2, 20e6)],
        agreement: device.as_ref().map(|_| Agreement { compared: 100, wrong, ..Agreement::default() }),
        device,
        notes: vec!["not <warm>".to_owned()],
    };
    Report {
        version: "1.2.3",
        machine: "2 cores of <Cray>".to_owned(),
        command: "eagre bench kernels".to_owned(),
        seed: 42,
        adapter: Some(AdapterFigures {
            name: "A card & more".to_owned(),
            driver: "driver 1".to_owned(),
            backend: "vulkan".to_owned(),
            software,
            checked_shaders: false,
            round_trip_ns_p50: 50_000.0,
            round_trip_ns_p99: 150_000.0,
            links: vec![LinkFigure { bytes: 1 << 20, upload_gb_per_s: 20.0, readback_gb_per_s: 10.0 }],
            copy_gb_per_s: Some(1000.0),
        }),
        cases: vec![CaseFigures {
            kernel: "half_space_forest".to_owned(),
            case: "half_space_forest/100x12".to_owned(),
            input: "trees".to_owned(),
            exactness: "equal to the bit".to_owned(),
            points: vec![point(1000, None), point(64_000, Some(device))],
            break_even: vec![BreakEven { threads: 2, rows: Some(5000), or_fewer: false }],
        }],
        refused: vec![Refused { what: "window_distance".to_owned(), reason: "no memory".to_owned() }],
    }
}

/// Figures of llvmpipe read as those of a GPU would make a fool of whoever quotes them.
#[test]
fn a_software_adapter_is_labelled_and_not_summarised() {
    for form in [Form::Markdown, Form::Html] {
        let (software, card) = (text(&report(true, 0), form), text(&report(false, 0), form));
        assert!(software.contains("software adapter") && !software.contains("16x at 64k"), "{software}");
        assert!(!card.contains("software adapter") && card.contains("16x at 64k"), "{card}");
    }
    let summary = table::summary(&report(true, 0));
    assert!(summary.contains("no summary") && !summary.contains("16x"), "{summary}");
    assert!(table::summary(&report(false, 0)).contains("16x at 64k"));
    assert!(table::adapter(report(true, 0).adapter.as_ref().expect("one")).contains("a software adapter"));
}

#[test]
fn a_wrong_answer_is_shown_in_every_form() {
    let (right, wrong) = (report(false, 0), report(false, 7));
    assert!(right.is_right() && !wrong.is_right());
    for form in [Form::Markdown, Form::Html] {
        assert!(text(&wrong, form).contains("WRONG: 7 of 100") && !text(&right, form).contains("WRONG"));
    }
    assert!(table::summary(&wrong).contains("WRONG: 7 of 100"));
    let json: serde_json::Value = serde_json::from_str(&text(&wrong, Form::Json)).expect("valid JSON");
    assert_eq!(json["cases"][0]["points"][1]["agreement"]["wrong"], 7);
    assert_eq!(json["cases"][0]["points"][1]["device"]["kernel_share_of_copy"], 0.7);
}

/// A page that asks a server for something shows nothing where it is opened without one.
#[test]
fn the_page_is_whole_and_its_text_is_no_markup() {
    let page = text(&report(false, 0), Form::Html);
    assert!(page.contains("&lt;Cray&gt;") && !page.contains("<Cray>") && page.contains("A card &amp; more"));
    assert!(!page.contains("http") && !page.contains("<script") && !page.contains("src="));
    for tag in ["svg", "table", "tr", "div", "p", "h2"] {
        let (open, close) = (
            page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count(),
            page.matches(&format!("</{tag}>")).count(),
        );
        assert_eq!(open, close, "<{tag}>");
    }
    assert!(page.contains("<polyline") && page.contains("pays from 5k") && !page.contains("NaN"));
}

/// A terminal shows columns under their names.
#[test]
fn lines_stand_under_the_header() {
    let report = report(false, 0);
    let threads = [1, 2];
    let header = table::header(&threads, true);
    let line = table::line("half_space_forest/100x12", &report.cases[0].points[1], &threads, true);
    let end = |text: &str, word: &str| text.find(word).expect(word) + word.len();
    for (name, value) in [
        ("rows", "64k"),
        ("cpu x1", "10M"),
        ("cpu x2", "20M"),
        ("gpu", "320M"),
        ("converted", "480M"),
        ("p99", "900 us"),
        ("of copy", "70 %"),
    ] {
        assert_eq!(end(&header, name), end(&line, value), "{name}\n{header}\n{line}");
    }
    let (line, note) = line.split_once('\n').expect("a note");
    assert!(line.ends_with("equal") && line.len() < 160 && note == "  not <warm>", "{line}");
}

#[test]
fn numbers_have_three_telling_digits() {
    assert_eq!(
        [0.0, 1.0, 1.25, 12.34, 123.4, 1000.0, 1_234_567.0, 2.5e9, 1e12].map(short),
        ["0", "1", "1.25", "12.3", "123", "1k", "1.23M", "2.5G", "1T"]
    );
    assert_eq!([5.0, 5000.0, 5e6, 5e9].map(time), ["5 ns", "5 us", "5 ms", "5 s"]);
    assert_eq!([100, 2048, 16 << 20, 24 << 30].map(bytes), ["100 B", "2 KiB", "16 MiB", "24 GiB"]);
}
