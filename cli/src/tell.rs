//! What people tell the hub: let a cluster join, remove it, look at Git now, go on with removals.

use std::io::Write;
use std::time::Duration;

use muster_proto::wire::v1;

use crate::args::{ApproveCommand, ClusterCommand, RemoveArgs, SyncCommand};
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

/// `muster approve …`.
pub(crate) async fn approve(
    hub: &Hub,
    command: ApproveCommand,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    let ApproveCommand::Removals { cluster } = command;
    let mut session = hub::connect(hub).await?;
    let request = call(v1::ApproveRemovalsRequest {
        cluster: cluster.clone(),
    });
    let answer = session.client.approve_removals(request).await;
    session.answer(answer).map_err(question::unknown_cluster)?;
    writeln!(out, "Removals on {cluster} may go on.")?;
    Ok(ExitCode::Ok)
}
