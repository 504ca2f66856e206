//! Settings from the configuration file and the environment.
//!
//! `[step] rows_max = 1000` in the file and `EAGRE_STEP_ROWS_MAX=1000` in the environment mean `SET 'eagre.step.rows_max' = '1000'`.

use std::path::Path;

use arrow::array::timezone::Tz;
use eagre_engine::EngineError;
use eagre_engine::settings::{SETTINGS, SQL_TIME_ZONE, Settings};

use crate::error::{Error, Result};

/// Settings from `file` (TOML), overridden by the environment.
///
/// # Errors
/// The file cannot be read, is no TOML, or names an unknown setting or a wrong value.
pub fn load(file: Option<&Path>) -> Result<Settings> {
    let mut settings = Settings::new();
    if let Some(path) = file {
        let path_text = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| Error::File { path: path_text.clone(), error })?;
        let table: toml::Table =
            text.parse().map_err(|error| Error::usage(format!("`{path_text}` is no TOML: {error}")))?;
        apply_table("eagre", &table, &mut settings, &path_text)?;
    }
    apply_environment(|name| std::env::var(name).ok(), &mut settings)?;
    check_environment(std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()))?;
    Ok(settings)
}

/// Changes a setting after checking name and value, also against what only this crate knows: the names of time zones.
///
/// # Errors
/// An unknown name or a wrong value.
pub fn set(settings: &mut Settings, name: &str, value: &str) -> eagre_engine::Result<()> {
    if name.eq_ignore_ascii_case(SQL_TIME_ZONE) {
        check_zone(value)?;
    }
    settings.set(name, value)
}

/// Whether there is such a time zone.
pub(crate) fn check_zone(zone: &str) -> eagre_engine::Result<()> {
    match zone.trim().parse::<Tz>() {
        Ok(_) => Ok(()),
        Err(_) => Err(EngineError::Setting {
            message: format!(
                "setting `{SQL_TIME_ZONE}` cannot be '{zone}': it takes a time zone by its name in the IANA data base, such as \
                 'Europe/Berlin' or 'UTC', or an offset such as '+02:00'"
            ),
        }),
    }
}

fn apply_table(prefix: &str, table: &toml::Table, settings: &mut Settings, path: &str) -> Result<()> {
    for (key, value) in table {
        let name = if prefix == "eagre" && key == "eagre" { prefix.to_owned() } else { format!("{prefix}.{key}") };
        let text = match value {
            toml::Value::Table(inner) => {
                apply_table(&name, inner, settings, path)?;
                continue;
            }
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        set(settings, &name, &text).map_err(|error| Error::usage(format!("`{path}`: {error}")))?;
    }
    Ok(())
}

fn apply_environment(read: impl Fn(&str) -> Option<String>, settings: &mut Settings) -> Result<()> {
    for setting in SETTINGS {
        let variable = variable_of(setting.name);
        if let Some(value) = read(&variable) {
            set(settings, setting.name, &value)
                .map_err(|error| Error::usage(format!("environment `{variable}`: {error}")))?;
        }
    }
    Ok(())
}

/// The environment variable of a setting.
fn variable_of(setting: &str) -> String {
    setting.replace('.', "_").to_ascii_uppercase()
}

/// A variable that is nearly that of a setting was meant as one. Others that begin so are not ours to judge.
fn check_environment(names: impl Iterator<Item = String>) -> Result<()> {
    const PREFIX: &str = "EAGRE_";
    const ALIKE: f64 = 0.7;
    let known: Vec<String> = SETTINGS.iter().map(|setting| variable_of(setting.name)).collect();
    let mut names: Vec<String> = names.filter(|name| name.starts_with(PREFIX) && !known.contains(name)).collect();
    names.sort();
    for name in names {
        let rest = &name[PREFIX.len()..];
        let likeness = |known: &str| match known.ends_with(&format!("_{rest}")) {
            true => 1.0,
            false => strsim::normalized_damerau_levenshtein(rest, &known[PREFIX.len()..]),
        };
        let nearest = known.iter().map(|known| (likeness(known), known)).max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some((likeness, nearest)) = nearest
            && likeness >= ALIKE
        {
            return Err(Error::usage(format!(
                "environment `{name}`: there is no such setting; did you mean `{nearest}`? `SHOW SETTINGS` lists them all"
            )));
        }
    }
    Ok(())
}

/// What the environment says of object stores, under the names that their clients know: `AWS_REGION`, `GOOGLE_SERVICE_ACCOUNT`,
/// `AZURE_STORAGE_ACCOUNT_NAME` and their kin.
pub(crate) fn object_store_options(variables: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    const PREFIXES: &[&str] = &["AWS_", "GOOGLE_", "AZURE_"];
    let ours = variables.filter(|(name, _)| PREFIXES.iter().any(|prefix| name.starts_with(prefix)));
    let mut options: Vec<_> = ours.map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    options.sort();
    options
}

#[cfg(test)]
mod tests {
    use eagre_engine::settings::{CHECKPOINT_INTERVAL, STEP_ROWS_MAX};

    use super::*;

    /// The same name must mean the same everywhere, or a deployment runs with defaults that nobody chose.
    #[test]
    fn file_and_environment_set_the_same_names() {
        let mut settings = Settings::new();
        let table: toml::Table = "[step]\nrows_max = 1000\n[eagre.checkpoint]\ninterval = '2s'".parse().expect("TOML");
        apply_table("eagre", &table, &mut settings, "eagre.toml").expect("known names");
        assert_eq!(settings.count(STEP_ROWS_MAX), 1_000);
        assert_eq!(settings.duration_ms(CHECKPOINT_INTERVAL), 2_000);
        let variables = |name: &str| (name == "EAGRE_STEP_ROWS_MAX").then(|| "7".to_owned());
        apply_environment(variables, &mut settings).expect("a known name");
        assert_eq!(settings.count(STEP_ROWS_MAX), 7);
        let table: toml::Table = "[step]\nrow_max = 1".parse().expect("TOML");
        let error = apply_table("eagre", &table, &mut settings, "eagre.toml").expect_err("unknown").to_string();
        assert!(error.contains("`eagre.toml`") && error.contains("did you mean `eagre.step.rows_max`"), "{error}");
    }

    /// A variable with a slip of the pen would leave the default in force.
    #[test]
    fn misspelt_variables_are_told() {
        let check = |name: &str| check_environment(std::iter::once(name.to_owned()));
        for (name, meant) in [
            ("EAGRE_STEP_ROW_MAX", "`EAGRE_STEP_ROWS_MAX`"),
            ("EAGRE_ROWS_MAX", "`EAGRE_STEP_ROWS_MAX`"),
            ("EAGRE_SHARD", "`EAGRE_SHARDS`"),
            ("EAGRE_CHECKPOINT_INTERVAL_MS", "`EAGRE_CHECKPOINT_INTERVAL`"),
        ] {
            let error = check(name).expect_err(name).to_string();
            assert!(error.contains(name) && error.contains(meant), "{error}");
        }
        for name in ["EAGRE_SEED", "EAGRE_TESTS_SEED", "EAGRE_HOME", "OTHER_STEP_ROW_MAX"] {
            check(name).expect(name);
        }
    }

    /// A bucket is opened with the variables that every other program reads.
    #[test]
    fn object_stores_read_the_usual_variables() {
        let variables = [("PATH", "/bin"), ("AWS_REGION", "eu-west-1"), ("AWS_ACCESS_KEY_ID", "k")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let options = object_store_options(variables.into_iter());
        assert_eq!(options, [("aws_access_key_id".into(), "k".into()), ("aws_region".into(), "eu-west-1".into())]);
    }
}
