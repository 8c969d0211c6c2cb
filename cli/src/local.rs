//! `muster check`, and `render` and `plan` with `--local`: what a hub would make of a checkout, asked of none.
//!
//! In: a checkout, the clusters of the fleet, the programs that render. Out: what is wrong, what a cluster gets, what a
//! change does. [`fleet`] decides as the hub does; the commands here choose what is looked at, and print it.

mod fleet;
mod listed;
mod planning;

pub(crate) use planning::plan;

use std::io::Write;

use muster_decide::nearest::nearest;
use muster_decide::{Decision, LastGood, Placement, shown};
use muster_git::Looked;
use muster_proto::Content;

use crate::ExitCode;
use crate::answer::print_data;
use crate::args::{CheckArgs, Output, RenderArgs};
use crate::config::Environment;
use crate::failure::Failure;
use crate::show;
use crate::text::Paper;
use fleet::Fleet;

/// Prints everything that is wrong with a checkout.
pub(crate) async fn check(
    environment: &Environment,
    args: CheckArgs,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    let mut fleet = Fleet::open(environment, &args.path, &args.without).await?;
    let looked = look(&fleet, args.at.as_deref())?;
    let decided = fleet
        .decide(&looked, &LastGood::default(), true, err)
        .await?;
    let found = show::check::Found::new(&looked.name, decided.variants, &decided.decision);
    match args.output {
        Output::Table | Output::Wide => {
            let text = show::check::check(&found).paint(Paper {
                colour: environment.terminal.is_some_and(|it| it.colour),
                size: None,
            });
            out.write_all(text.as_bytes())?;
        }
        format @ (Output::Json | Output::Yaml) => print_data(&found, format, out)?,
    }
    Ok(match found.is_well() {
        true => ExitCode::Ok,
        false => ExitCode::Failed,
    })
}

/// Prints what a cluster gets of an application.
pub(crate) async fn render(
    environment: &Environment,
    args: RenderArgs,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    let path = args.local.clone().unwrap_or_else(|| ".".into());
    let mut fleet = Fleet::open(environment, &path, &args.without).await?;
    let looked = look(&fleet, args.at.as_deref())?;
    let decided = fleet
        .decide(&looked, &LastGood::default(), false, err)
        .await?;
    let placement = placement(&decided.decision, &args.app, &args.cluster)?;
    let Content::Objects { settings, objects } = &placement.application.content else {
        return Err(Failure::told(format!(
            "application {} is left as it is",
            args.app
        )));
    };
    let objects = objects
        .iter()
        .map(|object| shown(object, &settings.namespace));
    show::manifests::print(&objects.collect::<Vec<_>>(), args.output, out)?;
    Ok(ExitCode::Ok)
}

/// An error of many parts in one line.
fn told(error: impl std::fmt::Display) -> Failure {
    Failure::told(format!("{error:#}"))
}

/// A commit, or the working tree.
fn look(fleet: &Fleet, at: Option<&str>) -> Result<Looked, Failure> {
    let looked = match at {
        None => fleet.checkout.working_tree(),
        Some(revision) => fleet.checkout.commit(revision),
    };
    looked.map_err(told)
}

/// What a cluster runs of an application, or why it runs nothing of it.
fn placement<'d>(
    decision: &'d Decision,
    application: &str,
    cluster: &str,
) -> Result<&'d Placement, Failure> {
    let Some(of_cluster) = decision.clusters.get(cluster) else {
        let known = decision.clusters.keys().map(|name| name.as_str());
        let hint = match nearest(cluster, known) {
            Some(name) => format!("did you mean {name:?}?"),
            None => "those that Git does not declare come with --clusters-from FILE".to_owned(),
        };
        return Err(Failure::told(format!(
            "no cluster is called {cluster:?}: {hint}"
        )));
    };
    let mut placements = of_cluster.placements.iter();
    if let Some(placement) = placements.find(|it| it.application.name.as_str() == application) {
        return Ok(placement);
    }
    if !decision.applications.contains_key(application) {
        let known = decision.applications.keys().map(|name| name.as_str());
        let hint = match nearest(application, known) {
            Some(name) => format!(": did you mean {name:?}?"),
            None => String::new(),
        };
        return Err(Failure::told(format!(
            "no application is called {application:?}{hint}"
        )));
    }
    let problems = decision.problems.iter();
    let mut own = problems.filter(|problem| {
        let of = problem.application.as_ref();
        of.is_none_or(|name| name.as_str() == application)
    });
    Err(Failure::told(match own.next() {
        Some(problem) => format!("{problem}"),
        None => format!("no target of application {application} takes {cluster}"),
    }))
}
