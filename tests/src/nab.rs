//! `eagre bench nab`: what its files say is what the SQL function says of the rows up to each one.

use std::path::Path;

use libtest_mimic::Trial;

use crate::process::eagre;

/// Real series of the benchmark; the second has times that come twice.
const FILES: [&str; 2] = ["realTraffic/TravelTime_451.csv", "realKnownCause/machine_temperature_system_failure.csv"];
const ROWS: usize = 2_160;
/// The row that is far out: there have been enough rows before it for the shipped false alarm rate.
const WILD: usize = 2_100;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::test("nab::prefixes_have_the_scores_of_the_whole", || Ok(causal()?)),
        Trial::test("nab::a_file_that_is_none_is_told_with_its_line", || Ok(refused()?)),
    ]
}

fn text(error: std::io::Error) -> String {
    error.to_string()
}

/// The first rows of the series, and one value in them far out; returns how many there are.
fn write(data: &Path, file: &str, rows: usize) -> Result<usize, String> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets/data/nab").join(file);
    let all = std::fs::read_to_string(source).map_err(text)?;
    let mut lines: Vec<String> = all.lines().take(rows + 1).map(str::to_owned).collect();
    if let Some(line) = lines.get_mut(WILD) {
        let time = line.split(',').next().unwrap_or_default().to_owned();
        *line = format!("{time},1000000000");
    }
    let path = data.join(file);
    std::fs::create_dir_all(path.parent().ok_or("no folder")?).map_err(text)?;
    std::fs::write(path, lines.join("\n")).map_err(text)?;
    Ok(lines.len() - 1)
}

/// The lines of the result.
fn scored(data: &Path, out: &Path, file: &str) -> Result<Vec<String>, String> {
    eagre(&["bench", "nab", "--data", &data.display().to_string(), "--out", &out.display().to_string()]).ok()?;
    let lines = std::fs::read_to_string(out.join(file)).map_err(text)?;
    Ok(lines.lines().map(str::to_owned).collect())
}

/// A detector that looks ahead would have other scores when less of the file is there.
fn causal() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(text)?;
    for (index, file) in FILES.into_iter().enumerate() {
        let place = |name: &str| folder.path().join(format!("{name}{index}"));
        let rows = write(&place("whole"), file, ROWS)?;
        let whole = scored(&place("whole"), &place("whole_out"), file)?;
        if whole.len() != rows + 1 || whole[0] != "timestamp,value,anomaly_score" {
            return Err(format!("{file}: {} lines for {rows} rows, headed `{}`", whole.len(), whole[0]));
        }
        let input = std::fs::read_to_string(place("whole").join(file)).map_err(text)?;
        if let Some((line, result)) =
            input.lines().zip(&whole).find(|(line, result)| !result.starts_with(&format!("{line},")))
        {
            return Err(format!("{file}: `{line}` became `{result}`"));
        }
        let score = |line: &String| line.rsplit(',').next().and_then(|score| score.parse::<f64>().ok());
        let scores: Vec<f64> = whole[1..].iter().map(|line| score(line).unwrap_or(f64::NAN)).collect();
        let alarms: Vec<usize> = (0..rows).filter(|row| scores[*row] >= 0.5).collect();
        // The row is as strange as a row at rest can be said to be, or an alarm.
        if !(scores[WILD - 1] > 0.49 && alarms.iter().any(|row| (WILD - 101..WILD).contains(row))) {
            return Err(format!("{file}: no alarm at `{}`: {alarms:?}", whole[WILD]));
        }
        // It rests for a hundred rows after an alarm.
        if alarms.windows(2).any(|pair| pair[1] - pair[0] <= 100) || scores.iter().any(|score| score.is_nan()) {
            return Err(format!("{file}: alarms at {alarms:?}"));
        }
        for rows in [1, 1_050, WILD, 2_130] {
            let (data, out) = (place(&format!("part{rows}_")), place(&format!("part{rows}_out")));
            write(&data, file, rows)?;
            let part = scored(&data, &out, file)?;
            if let Some((one, other)) = part.iter().zip(&whole).find(|(one, other)| one != other) {
                return Err(format!("{file}: `{one}` among {rows} rows, `{other}` among all"));
            }
            if part.len() != rows + 1 {
                return Err(format!("{file}: {} lines for {rows} rows", part.len()));
            }
        }
    }
    Ok(())
}

fn refused() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(text)?;
    let data = folder.path().join("data");
    std::fs::create_dir_all(data.join("a")).map_err(text)?;
    let run = || {
        eagre(&["bench", "nab", "--data", &data.display().to_string(), "--out", &folder.path().display().to_string()])
    };
    let none = run();
    std::fs::write(data.join("a/b.csv"), "timestamp,value\n2024-01-01 00:00:00,1\n2024-01-01 00:05:00,x\n")
        .map_err(text)?;
    let wrong = run();
    for (ended, expected) in [(none, "there is no `<folder>/<file>.csv` below"), (wrong, "line 3: `x` is no number")] {
        if ended.code == Some(0) || !ended.stderr.contains(expected) {
            return Err(format!("no `{expected}` but {:?}: {}", ended.code, ended.stderr));
        }
    }
    Ok(())
}
