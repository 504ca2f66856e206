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
        let variable = setting.name.replace('.', "_").to_ascii_uppercase();
        if let Some(value) = read(&variable) {
            set(settings, setting.name, &value)
                .map_err(|error| Error::usage(format!("environment `{variable}`: {error}")))?;
        }
    }
    Ok(())
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
}
