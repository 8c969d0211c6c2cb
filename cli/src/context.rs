//! `muster context`: the hubs this program knows.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::ExitCode;
use crate::args::{ConnectionArgs, ContextCommand};
use crate::config::file::{Context, Contexts};
use crate::config::{self, Environment};
use crate::failure::Failure;
use crate::text::{Cell, Paper, Text, clean};

/// Where a hub's API listens unless it is told otherwise.
const LOCAL_API: &str = "127.0.0.1:7445";
/// The hub's CA certificate in its data directory.
const CA_FILE: &str = "ca/ca.pem";
/// The token of the hub's first administrator in its data directory.
const TOKEN_FILE: &str = "admin-token";

/// Reads or changes the context file.
pub(crate) fn run(
    environment: &Environment,
    flags: &ConnectionArgs,
    command: ContextCommand,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    let path = environment.config_file()?;
    let mut contexts = Contexts::load(path)?;
    match command {
        ContextCommand::Add {
            name,
            data,
            embed,
            make_current,
        } => {
            let context = new_context(environment, flags, data.as_deref(), embed)?;
            let server = context.server.clone();
            contexts.contexts.insert(name.clone(), context);
            if make_current || contexts.contexts.len() == 1 {
                contexts.current = Some(name.clone());
            }
            contexts.save(path)?;
            let current = contexts.current.as_deref() == Some(&name);
            let then = match current {
                true => "it is the current context".to_owned(),
                false => format!("choose it with `muster context use {name}`"),
            };
            writeln!(out, "{name} is the hub at {server}; {then}.")?;
        }
        ContextCommand::List { no_headers } => {
            let text = list(&contexts, environment.context.as_deref(), !no_headers);
            out.write_all(text.paint(Paper::default()).as_bytes())?;
        }
        ContextCommand::Use { name } => {
            let server = contexts.get(&name)?.server.clone();
            contexts.current = Some(name.clone());
            contexts.save(path)?;
            writeln!(out, "Now asking {name}, the hub at {}.", clean(&server))?;
        }
        ContextCommand::Remove { name } => {
            contexts.get(&name)?;
            contexts.contexts.remove(&name);
            contexts.current.take_if(|current| *current == name);
            contexts.save(path)?;
            writeln!(out, "{name} is forgotten.")?;
        }
    }
    Ok(ExitCode::Ok)
}

/// A context from flags and variables, checked: what it points at is there and can be read.
fn new_context(
    environment: &Environment,
    flags: &ConnectionArgs,
    data: Option<&Path>,
    embed: bool,
) -> Result<Context, Failure> {
    let missing = |what: &str| {
        Failure::Usage(format!(
            "`muster context add` needs {what}; on the hub's machine: `muster context add local --data DIR`"
        ))
    };
    let server = flags.server.as_ref().or(environment.server.as_ref());
    let server = match (server, data) {
        (Some(server), _) => config::checked_server(server)?,
        (None, Some(_)) => LOCAL_API.to_owned(),
        (None, None) => return Err(missing("--server HOST:PORT")),
    };
    let (ca_file, token_file, token) = match data {
        Some(dir) => (dir.join(CA_FILE), Some(dir.join(TOKEN_FILE)), None),
        None => {
            let ca_file = flags.ca_file.clone().or(environment.ca_file.clone());
            let token_file = flags.token_file.clone();
            let token = environment.token.clone().filter(|_| token_file.is_none());
            let token_file = match &token {
                Some(_) => None,
                None => token_file.or(environment.token_file.clone()),
            };
            (
                ca_file.ok_or_else(|| missing("--ca-file FILE"))?,
                token_file,
                token,
            )
        }
    };
    if token_file.is_none() && token.is_none() {
        return Err(missing("--token-file FILE (or MUSTER_TOKEN)"));
    }
    config::read_ca(&ca_file)?;
    let read = token_file.as_deref().map(config::read_token).transpose()?;
    let absolute = |path: PathBuf| {
        std::path::absolute(&path)
            .map_err(|error| Failure::told(format!("{} is no path: {error}", path.display())))
    };
    Ok(match embed {
        true => Context {
            server,
            ca: Some(config::read_file("CA", &ca_file)?),
            token: token.or(read),
            ..Context::default()
        },
        false => Context {
            server,
            ca_file: Some(absolute(ca_file)?),
            token,
            token_file: token_file.map(absolute).transpose()?,
            ..Context::default()
        },
    })
}

/// The table; `*` marks the one that is asked.
fn list(contexts: &Contexts, chosen: Option<&str>, headers: bool) -> Text {
    let current = chosen.or(contexts.current.as_deref());
    let rows = contexts.contexts.iter().map(|(name, context)| {
        let mark = if current == Some(name) { "*" } else { "" };
        let place = |itself: bool, file: &Option<PathBuf>| match file {
            _ if itself => Cell::from("in the context file"),
            Some(file) => file.display().to_string().into(),
            None => "-".into(),
        };
        vec![
            mark.into(),
            name.into(),
            context.server.as_str().into(),
            place(context.ca.is_some(), &context.ca_file),
            place(context.token.is_some(), &context.token_file),
        ]
    });
    let columns = ["CURRENT", "NAME", "SERVER", "CA", "TOKEN"];
    Text::table(headers, &columns, rows.collect()).or_say(
        headers,
        "No contexts; `muster context add NAME` remembers a hub.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Args, Command};
    use clap::Parser as _;
    use std::fs;

    /// What it prints, or its error, in a directory that has a hub's data in `data`.
    fn muster(dir: &Path, line: &str) -> String {
        let environment = Environment {
            config_file: Some(dir.join("config.yaml")),
            ..Environment::default()
        };
        let line = line.replace("DIR", dir.to_str().unwrap());
        let words = ["muster", "context"].into_iter().chain(line.split(' '));
        let args = Args::try_parse_from(words).unwrap();
        let Command::Context(command) = args.command else {
            panic!("no context command");
        };
        let mut out = Vec::new();
        let said = match run(&environment, &args.connection, command, &mut out) {
            Ok(_) => String::from_utf8(out).unwrap(),
            Err(failure) => format!("{failure}\n"),
        };
        let mut said = said.replace(dir.to_str().unwrap(), "DIR");
        // The folder's real name may be longer than `DIR`.
        while said.contains("    ") {
            said = said.replace("    ", "   ");
        }
        said
    }

    fn hub_directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("data/ca")).unwrap();
        fs::write(dir.path().join("data/ca/ca.pem"), crate::stub::ca_pem()).unwrap();
        fs::write(dir.path().join("data/admin-token"), "hunter2\n").unwrap();
        dir
    }

    #[test]
    fn one_line_is_enough_on_the_hubs_own_machine() {
        let dir = hub_directory();
        let session = [
            "add local --server 127.0.0.1:7445 --data DIR/data",
            "add far --server hub.example:7445 --ca-file DIR/data/ca/ca.pem --token-file DIR/data/admin-token --embed",
            "list",
            "use fra",
            "use far",
            "add own --data DIR/data",
            "remove far",
            "list --no-headers",
        ];
        let said: String = session
            .iter()
            .map(|line| muster(dir.path(), line))
            .collect();
        insta::assert_snapshot!(said, @r#"
        local is the hub at 127.0.0.1:7445; it is the current context.
        far is the hub at hub.example:7445; choose it with `muster context use far`.
        CURRENT   NAME   SERVER   CA   TOKEN
           far   hub.example:7445   in the context file   in the context file
        *   local   127.0.0.1:7445   DIR/data/ca/ca.pem   DIR/data/admin-token
        no context is called "fra"; did you mean "far"?
        Now asking far, the hub at hub.example:7445.
        own is the hub at 127.0.0.1:7445; choose it with `muster context use own`.
        far is forgotten.
           local   127.0.0.1:7445   DIR/data/ca/ca.pem   DIR/data/admin-token
           own   127.0.0.1:7445   DIR/data/ca/ca.pem   DIR/data/admin-token
        "#);
        let kept = fs::read_to_string(dir.path().join("config.yaml")).unwrap();
        assert!(!kept.contains("hunter2"), "the token stays where it is");
    }

    #[test]
    fn a_context_that_can_not_work_is_not_added() {
        let dir = hub_directory();
        fs::write(dir.path().join("empty"), "\n").unwrap();
        let session = [
            "add a --server hub --data DIR/data",
            "add a --ca-file DIR/data/ca/ca.pem",
            "add a --server hub:1 --data DIR/nothing",
            "add a --server hub:1 --ca-file DIR/data/ca/ca.pem",
            "add a --server hub:1 --ca-file DIR/data/ca/ca.pem --token-file DIR/empty",
            "add a --server hub:1 --ca-file DIR/data/admin-token --token-file DIR/data/admin-token",
            "list",
        ];
        let said: String = session
            .iter()
            .map(|line| muster(dir.path(), line))
            .collect();
        insta::assert_snapshot!(said, @r#"
        "hub" is no address of a hub: write host:port, such as hub.example:7445
        `muster context add` needs --server HOST:PORT; on the hub's machine: `muster context add local --data DIR`
        the CA file DIR/nothing/ca/ca.pem can't be read: No such file or directory (os error 2)
        `muster context add` needs --token-file FILE (or MUSTER_TOKEN); on the hub's machine: `muster context add local --data DIR`
        DIR/empty is empty
        DIR/data/admin-token holds no certificate in PEM form: give the hub's ca.pem
        No contexts; `muster context add NAME` remembers a hub.
        "#);
    }
}
