//! Where a setting's text comes from: flag, then environment, then file, then default.
//!
//! In: the flags as clap matched them, a way to look up the environment, and the file that `--config` names. Out:
//! [`Settings`], texts that remember their origin, so that an error about a value names the place to change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Arg, ArgMatches, Command};
use muster_decide::nearest::did_you_mean;

use super::Environment;

/// One setting: `--name`, `MUSTER_HUB_NAME` and `name:` in the file.
pub(super) struct Setting {
    pub(super) name: &'static str,
    /// What stands for its value in the help text.
    pub(super) value: &'static str,
    pub(super) default: Option<&'static str>,
    pub(super) help: &'static str,
}

/// All texts given, by name.
pub(super) struct Settings(BTreeMap<&'static str, Given>);

#[derive(Clone)]
struct Given {
    text: String,
    origin: String,
}

impl Setting {
    fn variable(&self) -> String {
        format!("MUSTER_HUB_{}", self.name.to_uppercase().replace('-', "_"))
    }
}

/// Adds the flags for `settings`, and `--config`, to a command.
pub(super) fn flags(command: Command, settings: &'static [Setting]) -> Command {
    let config = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .help("YAML file with any of these settings by the same names [env: MUSTER_HUB_CONFIG]");
    settings
        .iter()
        .fold(command.arg(config), |command, setting| {
            let default = match setting.default {
                Some(default) => format!(" [default: {default}]"),
                None => String::new(),
            };
            let help = format!("{}{default} [env: {}]", setting.help, setting.variable());
            let flag = Arg::new(setting.name)
                .long(setting.name)
                .value_name(setting.value)
                .help(help);
            // What is `no` unless told otherwise is told by its flag alone.
            command.arg(match setting.default {
                Some("no") => flag
                    .num_args(0..=1)
                    .require_equals(true)
                    .default_missing_value("yes"),
                _ => flag,
            })
        })
}

/// Merges the sources. An empty environment variable counts as not set.
///
/// # Errors
/// When the file can't be read or names an unknown setting.
pub(super) fn merge(
    settings: &'static [Setting],
    flags: &ArgMatches,
    environment: &Environment,
) -> anyhow::Result<Settings> {
    let environment = |name: &str| environment.get(name).filter(|it| !it.is_empty()).cloned();
    let file = flags
        .get_one::<String>("config")
        .cloned()
        .or_else(|| environment("MUSTER_HUB_CONFIG"));
    let mut file = match file {
        Some(path) => read_file(settings, Path::new(&path))?,
        None => BTreeMap::new(),
    };
    let given = settings.iter().filter_map(|setting| {
        let flag = flags.get_one::<String>(setting.name);
        let given = if let Some(text) = flag {
            Given {
                text: text.clone(),
                origin: format!("--{}", setting.name),
            }
        } else if let Some(text) = environment(&setting.variable()) {
            Given {
                text,
                origin: setting.variable(),
            }
        } else if let Some(given) = file.remove(setting.name) {
            given
        } else {
            let text = setting.default?.to_owned();
            Given {
                text,
                origin: format!("the default of --{}", setting.name),
            }
        };
        Some((setting.name, given))
    });
    Ok(Settings(given.collect()))
}

fn read_file(
    settings: &'static [Setting],
    path: &Path,
) -> anyhow::Result<BTreeMap<&'static str, Given>> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("can't read the configuration file {}", path.display()))?;
    if text.trim().is_empty() {
        return Ok(BTreeMap::new());
    }
    let entries: BTreeMap<String, serde_saphyr::Spanned<Option<String>>> =
        serde_saphyr::from_str(&text).map_err(|error| {
            let line = error.location().map(|at| format!(":{}", at.line()));
            anyhow::anyhow!(
                "{}{}: a configuration file is lines of `setting: value`",
                path.display(),
                line.unwrap_or_default(),
            )
        })?;
    let mut given = BTreeMap::new();
    for (name, value) in entries {
        let place = format!("{}:{}", path.display(), value.defined.line());
        let Some(setting) = settings.iter().find(|setting| setting.name == name) else {
            let known = settings.iter().map(|setting| setting.name);
            bail!(
                "{place}: {name:?} is no setting{}",
                did_you_mean(&name, known)
            );
        };
        if let Some(text) = value.value {
            given.insert(
                setting.name,
                Given {
                    text,
                    origin: format!("{name} at {place}"),
                },
            );
        }
    }
    Ok(given)
}

impl Settings {
    /// The text of a setting, if given.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|given| given.text.as_str())
    }

    /// Names the place where a setting was given, for errors.
    pub(super) fn origin(&self, name: &str) -> String {
        match self.0.get(name) {
            Some(given) => given.origin.clone(),
            None => format!("--{name}"),
        }
    }

    /// A value that must be given.
    pub(super) fn required<V>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<V, String>,
    ) -> anyhow::Result<V> {
        match self.optional(name, read)? {
            Some(value) => Ok(value),
            None => {
                let variable = name.to_uppercase().replace('-', "_");
                bail!(
                    "--{name} is missing: give it as a flag, as MUSTER_HUB_{variable} or in the --config file"
                )
            }
        }
    }

    /// A value that may be left out. What `read` finds wrong is told with the place to change.
    pub(super) fn optional<V>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<V, String>,
    ) -> anyhow::Result<Option<V>> {
        let Some(given) = self.0.get(name) else {
            return Ok(None);
        };
        let value = read(&given.text).map_err(|problem| {
            anyhow::anyhow!("{}: {:?} {problem}", given.origin, shown(&given.text))
        })?;
        Ok(Some(value))
    }

    /// A file that must be readable now. It is read again whenever it is needed, so that it may be replaced.
    pub(super) fn file(&self, name: &str) -> anyhow::Result<Option<PathBuf>> {
        self.optional(name, |text| match std::fs::read(text) {
            Ok(content) if content.is_empty() => Err("is an empty file".to_owned()),
            Ok(_) => Ok(PathBuf::from(text)),
            Err(error) => Err(format!("can't be read: {error}")),
        })
    }
}

/// A text for an error: a URL without the credentials it may hold.
fn shown(text: &str) -> String {
    match text
        .split_once("://")
        .and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?)))
    {
        Some((scheme, (_credentials, rest))) => format!("{scheme}://…@{rest}"),
        None => text.to_owned(),
    }
}
