//! `muster`: asks the hub for the state of the whole fleet, and tells it the few things that are not in Git.
//!
//! In: arguments, the environment ([`Environment`], read in one place), the hub's answers over FleetService.
//! Out: text, JSON or YAML, errors of one line, and an [`ExitCode`].
//!
//! `args` says what can be asked, `config` finds the hub, `hub` speaks with it, `question` asks and `watch` asks
//! again, `asking` asks a cluster through it, `planning` plans what is not merged, `local` looks at a checkout and asks no hub, `show` turns answers into text (pure), `join`, `pauses`, `tell` and `context` do the rest.

mod answer;
mod args;
mod asking;
mod config;
mod context;
mod failure;
mod hub;
mod join;
mod local;
mod pauses;
mod planning;
pub mod program;
mod question;
mod show;
mod tell;
mod text;
mod version;
mod watch;

#[cfg(test)]
mod stub;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::Write;

use clap::{CommandFactory as _, Parser as _};
use muster_decide::schema;

use args::{Args, Command, GetCommand};
pub use config::{Environment, Terminal};
use failure::Failure;

/// How a run of `muster` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCode {
    /// Done. Also when the reader of a pipe had seen enough.
    Ok = 0,
    /// Something failed; one line on standard error says what, and what to do.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// `status --check`: not everything is Synced and Current. `diff`: something differs.
    NotInSync = 3,
    /// `plan`: something would change. It is what such commands end with elsewhere; a command line of `plan` that makes
    /// no sense ends as [`ExitCode::Failed`], so that no script takes the one for the other.
    Changes = 4,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(match code {
            ExitCode::Changes => 2,
            code => code as u8,
        })
    }
}

/// Runs one command line (the program's name first) in this process's environment, as if `out` were no terminal.
pub async fn run<A: Into<OsString> + Clone>(
    args: impl IntoIterator<Item = A>,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> ExitCode {
    let environment = Environment {
        terminal: None,
        ..Environment::of_process()
    };
    run_in(&environment, args, out, err).await
}

/// Runs one command line in an environment that is handed in.
pub async fn run_in<A: Into<OsString> + Clone>(
    environment: &Environment,
    args: impl IntoIterator<Item = A>,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let usage = match is_plan(&args) {
        true => ExitCode::Failed,
        false => ExitCode::Usage,
    };
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            let (to, code): (&mut (dyn Write + Send), _) = if error.use_stderr() {
                (err, usage)
            } else {
                (out, ExitCode::Ok)
            };
            let _nobody_listens = write!(to, "{}", error.render());
            return code;
        }
    };
    let outcome = dispatch(environment, args, out, err).await;
    let outcome = outcome.and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    match outcome {
        Ok(code) => code,
        Err(Failure::OutputClosed) => ExitCode::Ok,
        Err(failure) => {
            let _nobody_listens = writeln!(err, "muster: {failure}");
            match failure {
                Failure::Usage(_) => usage,
                _ => ExitCode::Failed,
            }
        }
    }
}

/// Whether a command line is one of `muster plan`, as far as it can be read.
fn is_plan(args: &[OsString]) -> bool {
    let command = Args::command().ignore_errors(true);
    let matches = command.try_get_matches_from(args);
    matches.is_ok_and(|matches| matches.subcommand_name() == Some("plan"))
}

async fn dispatch(
    environment: &Environment,
    args: Args,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    let connection = &args.connection;
    match args.command {
        Command::Get(GetCommand::Object(args)) => {
            let name = asking::object_name(&args.object, &args.namespace)?;
            let hub = config::find_hub(environment, connection)?;
            asking::object(&hub, name, args, environment.terminal, out).await
        }
        Command::Diff(args) => {
            let hub = config::find_hub(environment, connection)?;
            asking::diff(&hub, args, environment.terminal, out, err).await
        }
        Command::Plan(args) if args.local.is_none() => {
            args.without.are_not_given()?;
            let hub = config::find_hub(environment, connection)?;
            planning::plan(&hub, args, environment.terminal, out, err).await
        }
        Command::Render(args) if args.local.is_none() => {
            args.without.are_not_given()?;
            let hub = config::find_hub(environment, connection)?;
            planning::render(&hub, args, out).await
        }
        Command::Status(_)
        | Command::Clusters(_)
        | Command::Apps(_)
        | Command::Get(_)
        | Command::Drift(_) => {
            let (question, view, check) = question::of(args.command);
            let hub = config::find_hub(environment, connection)?;
            if view.watch {
                watch::watch(&hub, &question, &view, environment.terminal, out, err).await?;
                return Ok(ExitCode::Ok);
            }
            let answer = question::ask(&mut hub::connect(&hub).await?, &question).await?;
            answer.print(&view, environment.terminal, out)?;
            Ok(match check && !answer.all_is_well() {
                true => ExitCode::NotInSync,
                false => ExitCode::Ok,
            })
        }
        Command::Cluster(command) => {
            let hub = config::find_hub(environment, connection)?;
            tell::cluster(&hub, command, out, err).await
        }
        Command::Pause(args) => {
            let hub = config::find_hub(environment, connection)?;
            pauses::pause(&hub, args, out).await
        }
        Command::Resume(args) => {
            let hub = config::find_hub(environment, connection)?;
            pauses::resume(&hub, args, out).await
        }
        Command::Sync(command) => {
            let hub = config::find_hub(environment, connection)?;
            tell::sync(&hub, command, out).await
        }
        Command::Approve(command) => {
            let hub = config::find_hub(environment, connection)?;
            tell::approve(&hub, command, out).await
        }
        Command::Check(args) => local::check(environment, args, out, err).await,
        Command::Plan(args) => local::plan(environment, args, out, err).await,
        Command::Render(args) => local::render(environment, args, out, err).await,
        Command::Schema { markdown } => {
            match markdown {
                true => out.write_all(schema::reference().as_bytes())?,
                false => writeln!(out, "{:#}", schema::schema())?,
            }
            Ok(ExitCode::Ok)
        }
        Command::Version(command) => version::print(environment, connection, command, out).await,
        Command::Context(command) => context::run(environment, connection, command, out),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "muster", &mut script);
            out.write_all(&script)?;
            Ok(ExitCode::Ok)
        }
    }
}
