//! Real series with labelled anomalies, small enough to be part of the binary: the demo must run from the binary alone.
//!
//! They are files of the Numenta Anomaly Benchmark, unchanged. Origin, licence and citation are in `data/nab/SOURCE.md`, whose
//! text [`SOURCE`] holds, so that a program can show where its data comes from.

#[cfg(feature = "polars")]
mod frame;

use std::collections::BTreeMap;

/// Origin and licence of the series, as Markdown.
pub const SOURCE: &str = include_str!("../../data/nab/SOURCE.md");
/// The text of the licence of the series.
pub const LICENCE: &str = include_str!("../../data/nab/LICENSE-NAB.txt");

const WINDOWS: &str = include_str!("../../data/nab/windows.json");

/// A real series: a CSV file with the columns `timestamp` (`YYYY-MM-DD HH:MM:SS`) and `value`.
#[derive(Debug, Clone, Copy)]
pub struct Series {
    /// A short name, unique among the series.
    pub name: &'static str,
    /// What was measured, and how often.
    pub about: &'static str,
    /// The unit of `value`.
    pub unit: &'static str,
    /// Folder and file in the benchmark.
    pub path: &'static str,
    /// How far time goes back between two rows, at most, in seconds: real clocks do that. A watermark that lags by as much makes
    /// no row late.
    pub disorder_s: u32,
    /// The file.
    pub csv: &'static [u8],
}

impl Series {
    /// First and last timestamp of each labelled anomaly, as the file spells timestamps.
    pub fn anomaly_windows(&self) -> Vec<(String, String)> {
        let mut windows: BTreeMap<String, Vec<(String, String)>> =
            serde_json::from_str(WINDOWS).expect("the embedded file maps paths to pairs of timestamps");
        windows.remove(self.path).unwrap_or_default()
    }
}

macro_rules! series {
    ($name:literal, $path:literal, $unit:literal, $disorder_s:literal, $about:literal) => {
        Series {
            name: $name,
            about: $about,
            unit: $unit,
            disorder_s: $disorder_s,
            path: $path,
            csv: include_bytes!(concat!("../../data/nab/", $path)),
        }
    };
}

/// All series.
pub const SERIES: &[Series] = &[
    series!(
        "nyc_taxi",
        "realKnownCause/nyc_taxi.csv",
        "passengers per half hour",
        0,
        "Taxi passengers in New York, each half hour; the anomalies are the marathon, Thanksgiving, Christmas, New Year and a \
         snow storm."
    ),
    series!(
        "machine_temperature",
        "realKnownCause/machine_temperature_system_failure.csv",
        "degrees Fahrenheit",
        3_300,
        "Temperature inside a large industrial machine, each five minutes, up to its failure; one hour was recorded twice."
    ),
    series!(
        "ec2_request_latency",
        "realKnownCause/ec2_request_latency_system_failure.csv",
        "ms",
        0,
        "Request latency of a server, each five minutes, up to the failure of its network."
    ),
    series!(
        "ec2_cpu",
        "realAWSCloudwatch/ec2_cpu_utilization_24ae8d.csv",
        "percent",
        0,
        "CPU use of a server, each five minutes."
    ),
    series!(
        "traffic_speed",
        "realTraffic/speed_6005.csv",
        "miles per hour",
        0,
        "Speed of road traffic in Minnesota at one sensor, at irregular times."
    ),
    series!(
        "traffic_speed_t4013",
        "realTraffic/speed_t4013.csv",
        "miles per hour",
        0,
        "Speed of road traffic in Minnesota at another sensor, at irregular times."
    ),
    series!(
        "travel_time",
        "realTraffic/TravelTime_451.csv",
        "s",
        0,
        "Travel time on a road in Minnesota, at irregular times."
    ),
    series!(
        "ad_exchange_cpm",
        "realAdExchange/exchange-3_cpm_results.csv",
        "US dollars per thousand impressions",
        0,
        "Price of online advertisement at an exchange, each hour."
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds since midnight: no series goes back over midnight, or by more than half a day.
    fn time_of_day_s(timestamp: &str) -> i64 {
        timestamp[11..].split(':').fold(0, |seconds, part| seconds * 60 + part.parse::<i64>().expect("a number"))
    }

    /// Each series is readable, labelled within its own time, no more out of order than it says, and its origin is on record.
    #[test]
    fn series_are_labelled() {
        for series in SERIES {
            let text = std::str::from_utf8(series.csv).expect("ASCII");
            let mut lines = text.lines();
            assert_eq!(lines.next(), Some("timestamp,value"), "{}", series.name);
            let timestamps: Vec<&str> = lines
                .map(|line| {
                    let (timestamp, value) = line.split_once(',').expect("two columns");
                    assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{}: {line}", series.name);
                    timestamp
                })
                .collect();
            let disorder_s = timestamps.windows(2).map(|pair| time_of_day_s(pair[0]) - time_of_day_s(pair[1]));
            let disorder_s =
                if timestamps.is_sorted() { 0 } else { disorder_s.filter(|&lag| lag < 12 * 3_600).max().unwrap_or(0) };
            assert_eq!(disorder_s, i64::from(series.disorder_s), "{}", series.name);
            let windows = series.anomaly_windows();
            assert!(!windows.is_empty(), "{}", series.name);
            for (first, last) in &windows {
                assert!(timestamps.contains(&first.as_str()) && timestamps.contains(&last.as_str()), "{}", series.name);
            }
        }
        assert!(SOURCE.contains("numenta/NAB") && LICENCE.contains("Permission is hereby granted"));
    }
}
