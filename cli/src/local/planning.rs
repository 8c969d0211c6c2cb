//! `muster plan --local`: what lies between two states of a checkout, on the clusters that are known.

use std::io::Write;

use muster_decide::LastGood;
use muster_decide::plan::Plan;
use muster_git::{Checkout, Looked};

use super::fleet::Fleet;
use super::told;
use crate::ExitCode;
use crate::args::PlanArgs;
use crate::config::Environment;
use crate::failure::Failure;
use crate::planning::print;
use crate::show::words;

/// Prints what a change does: from a commit to another one, or to the files as they are.
pub(crate) async fn plan(
    environment: &Environment,
    args: PlanArgs,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    let path = args.local.clone().unwrap_or_default();
    let mut fleet = Fleet::open(environment, &path, &args.without).await?;
    let (from, to) = ends(&fleet.checkout, args.what.as_deref().unwrap_or("HEAD"))?;
    let nothing = LastGood::default();
    let before = fleet.decide(&from, &nothing, false, err).await?.decision;
    if let Some(problem) = before.problems.first() {
        let count = words::count(before.problems.len(), "problem");
        let line = format!(
            "{} has {count} of its own, and what does not render there is told as new: {problem}",
            from.name
        );
        writeln!(err, "muster: {}", crate::text::clean(&line))?;
    }
    let last_good = &before.last_good;
    let after = fleet.decide(&to, last_good, false, err).await?.decision;
    if after.clusters.is_empty() {
        return Err(Failure::told(
            "no cluster is known here: Git declares none, and those of the hub come with --clusters-from FILE (`muster clusters -o json > FILE`)",
        ));
    }
    let mut plan = Plan::new(last_good, &after);
    plan.narrow(args.shown.cluster.as_ref(), args.shown.app.as_ref());
    let of = format!("{} to {}", from.name, to.name);
    print(&of, &plan, &args.shown, environment.terminal, out)
}

/// The two states that are compared: `A..B`, `A...B` from where they parted, `A` to the files as they are. An end that
/// says nothing is `HEAD`.
fn ends(checkout: &Checkout, what: &str) -> Result<(Looked, Looked), Failure> {
    let or_head = |revision: &str| match revision {
        "" => "HEAD".to_owned(),
        revision => revision.to_owned(),
    };
    let (from, to) = if let Some((one, other)) = what.split_once("...") {
        let (one, other) = (or_head(one), or_head(other));
        let base = checkout.merge_base(&one, &other).map_err(told)?;
        (base, Some(other))
    } else if let Some((one, other)) = what.split_once("..") {
        (or_head(one), Some(or_head(other)))
    } else {
        (or_head(what), None)
    };
    let from = checkout.commit(&from).map_err(told)?;
    let to = match to {
        Some(to) => checkout.commit(&to),
        None => checkout.working_tree(),
    };
    Ok((from, to.map_err(told)?))
}
