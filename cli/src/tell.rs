//! What people tell the hub: let a cluster join, remove it, look at Git now, go on with removals.

use std::io::Write;
use std::time::Duration;

use muster_decide::nearest::did_you_mean;
use muster_proto::wire::v1;

use crate::args::{ApproveArgs, ClusterCommand, RemoveArgs, SyncCommand};
use crate::config::Hub;
use crate::failure::Failure;
use crate::hub::{self, call};
use crate::show::words;
use crate::text::clean;
use crate::{ExitCode, join, question};

/// The hub answers when it has fetched, and a Git server may be slow.
const FETCH_TIMEOUT: Duration = Duration::from_secs(300);

/// `muster cluster …`.
pub(crate) async fn cluster(
    hub: &Hub,
    command: ClusterCommand,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    match command {
        ClusterCommand::Join(args) => join::join(hub, args, out, err).await,
        ClusterCommand::Remove(args) => remove(hub, args, out).await,
    }
}

async fn remove(
    hub: &Hub,
    args: RemoveArgs,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    let mut session = hub::connect(hub).await?;
    let request = v1::RemoveClusterRequest {
        name: args.name,
        delete_objects: args.delete_objects,
    };
    let answer = session.client.remove_cluster(call(request)).await;
    let answer = session.answer(answer).map_err(question::unknown_cluster)?;
    writeln!(out, "{}", clean(&answer.message))?;
    Ok(ExitCode::Ok)
}

/// `muster sync …`.
pub(crate) async fn sync(
    hub: &Hub,
    command: SyncCommand,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    let SyncCommand::Now = command;
    let mut session = hub::connect(hub).await?;
    let mut request = call(v1::SyncNowRequest {});
    request.set_timeout(FETCH_TIMEOUT);
    let answer = session.client.sync_now(request).await;
    let answer = session.answer(answer)?;
    writeln!(out, "Git is at {}.", words::revision(&answer.revision))?;
    Ok(ExitCode::Ok)
}

/// `muster approve …`: what is meant is looked up, so that nothing is approved that came later.
pub(crate) async fn approve(
    hub: &Hub,
    args: ApproveArgs,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    let mut session = hub::connect(hub).await?;
    let answer = session
        .client
        .get_fleet(call(question::fleet_request("")))
        .await;
    let ids = to_approve(&args, &session.answer(answer)?.waiting)?;
    let answer = session
        .client
        .approve(call(v1::ApproveRequest { ids }))
        .await;
    for approved in session.answer(answer)?.approved {
        writeln!(out, "{}.", clean(&approved))?;
    }
    Ok(ExitCode::Ok)
}

/// The ids of what a person means. Each word must mean something that waits.
fn to_approve(args: &ApproveArgs, waiting: &[v1::Waiting]) -> Result<Vec<String>, Failure> {
    let nothing = |of: &str, known: &mut dyn Iterator<Item = &str>, word: &str| {
        let meant = did_you_mean(word, known);
        Failure::told(format!(
            "nothing {of} {word:?} waits for approval{meant} (`muster status` shows what does)"
        ))
    };
    let mut ids = Vec::new();
    for name in &args.applications {
        let of = waiting
            .iter()
            .filter(|waiting| waiting.application == *name);
        let before = ids.len();
        ids.extend(of.map(|waiting| waiting.id.clone()));
        if ids.len() == before {
            let mut known = waiting.iter().map(|waiting| waiting.application.as_str());
            return Err(nothing("of application", &mut known, name));
        }
    }
    let single = |what: &str| {
        let what = what.to_owned();
        waiting.iter().filter(move |waiting| waiting.what == what)
    };
    if let Some(name) = &args.cluster {
        let clusters = || single("restored").flat_map(|waiting| &waiting.clusters);
        let of = single("restored").find(|waiting| waiting.clusters.contains(name));
        let mut known = clusters().map(String::as_str);
        ids.push(
            of.ok_or_else(|| nothing("at cluster", &mut known, name))?
                .id
                .clone(),
        );
    }
    if let Some(revision) = &args.emptied {
        // As short as it is shown everywhere, and no shorter.
        let is =
            |waiting: &&v1::Waiting| revision.len() >= 7 && waiting.revision.starts_with(revision);
        let mut known = single("emptied").map(|waiting| waiting.revision.as_str());
        let of = single("emptied").find(is);
        ids.push(
            of.ok_or_else(|| nothing("of commit", &mut known, revision))?
                .id
                .clone(),
        );
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::example;

    fn chosen(args: ApproveArgs) -> String {
        match to_approve(&args, &example::waiting()) {
            Ok(ids) => ids.join(" "),
            Err(failure) => failure.to_string(),
        }
    }

    fn args(applications: &[&str], cluster: Option<&str>, emptied: Option<&str>) -> ApproveArgs {
        ApproveArgs {
            applications: applications.iter().map(ToString::to_string).collect(),
            cluster: cluster.map(str::to_owned),
            emptied: emptied.map(str::to_owned),
        }
    }

    #[test]
    fn only_what_waits_can_be_approved_and_a_slip_is_answered() {
        let said = [
            args(&["shop"], None, None),
            args(&["shop", "monitoring"], None, None),
            args(&["shop", "shpo"], None, None),
            args(&[], Some("eu-1"), None),
            args(&[], Some("eu-9"), None),
            args(&[], None, Some("4be1c2a")),
            args(&[], None, Some("4be1")),
            args(&[], None, Some("1fe08d3")),
        ]
        .map(chosen);
        insta::assert_snapshot!(said.join("\n"), @r#"
        leaves/shop/1
        leaves/shop/1 prune/monitoring/2
        nothing of application "shpo" waits for approval; did you mean "shop"? (`muster status` shows what does)
        restored/eu-1
        nothing at cluster "eu-9" waits for approval; did you mean "eu-1"? (`muster status` shows what does)
        emptied/4be1c2a900fe4be1c2a900fe4be1c2a900fe4be1
        nothing of commit "4be1" waits for approval; did you mean "4be1c2a900fe4be1c2a900fe4be1c2a900fe4be1"? (`muster status` shows what does)
        nothing of commit "1fe08d3" waits for approval (`muster status` shows what does)
        "#);
    }
}
