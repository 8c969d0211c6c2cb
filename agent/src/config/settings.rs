//! Where a setting's text comes from: flag, then environment, then default.
//!
//! In: flags as clap matched them and a way to look up the environment. Out: texts that remember their origin, so that
//! an error names the flag or variable to change.

use clap::{Arg, ArgMatches, Command};

/// One setting: `--name` and `MUSTER_AGENT_NAME`.
pub(super) struct Setting {
    pub(super) name: &'static str,
    /// What stands for its value in the help text.
    pub(super) value: &'static str,
    pub(super) default: Option<&'static str>,
    pub(super) help: &'static str,
}

/// A text and where it was said.
pub(super) struct Given {
    pub(super) text: String,
    /// `--name` or `MUSTER_AGENT_NAME`.
    pub(super) origin: String,
}

impl Setting {
    fn variable(&self) -> String {
        format!(
            "MUSTER_AGENT_{}",
            self.name.to_uppercase().replace('-', "_")
        )
    }
}

/// Adds a flag for every setting.
pub(super) fn flags(command: Command, settings: &'static [Setting]) -> Command {
    command.args(settings.iter().map(|setting| {
        let default = match setting.default {
            Some(default) => format!(" [default: {default}]"),
            None => String::new(),
        };
        Arg::new(setting.name)
            .long(setting.name)
            .value_name(setting.value)
            .help(format!(
                "{}{default} [env: {}]",
                setting.help,
                setting.variable()
            ))
    }))
}

/// What was said for `name`, if anything. An empty variable says nothing.
pub(super) fn given(
    settings: &'static [Setting],
    name: &str,
    flags: &ArgMatches,
    environment: &impl Fn(&str) -> Option<String>,
) -> Option<Given> {
    let setting = settings
        .iter()
        .find(|setting| setting.name == name)
        .expect("only settings of the table are asked for");
    let from = |text: Option<String>, origin: String| text.map(|text| Given { text, origin });
    let flag = || flags.get_one::<String>(name).cloned();
    let variable = || environment(&setting.variable()).filter(|text| !text.is_empty());
    from(flag(), format!("--{name}"))
        .or_else(|| from(variable(), setting.variable()))
        .or_else(|| from(setting.default.map(str::to_owned), format!("--{name}")))
}
