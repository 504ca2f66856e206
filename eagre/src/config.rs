//! Settings from the configuration file and the environment.
//!
//! `[step] rows_max = 1000` in the file and `EAGRE_STEP_ROWS_MAX=1000` in the environment mean `SET 'eagre.step.rows_max' = '1000'`.

use std::path::Path;

use eagre_engine::settings::{SETTINGS, Settings};

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
        settings.set(&name, &text).map_err(|error| Error::usage(format!("`{path}`: {error}")))?;
    }
    Ok(())
}

fn apply_environment(read: impl Fn(&str) -> Option<String>, settings: &mut Settings) -> Result<()> {
    for setting in SETTINGS {
        let variable = setting.name.replace('.', "_").to_ascii_uppercase();
        if let Some(value) = read(&variable) {
            settings
                .set(setting.name, &value)
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
