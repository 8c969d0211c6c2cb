//! What people tell the hub: let a cluster join, remove it, look at Git now.

use std::io::Write;

use muster_proto::wire::v1;

use crate::args::{ClusterCommand, RemoveArgs, SyncCommand};
use crate::config::Hub;
use crate::failure::Failure;
use crate::hub::{self, call};
use crate::show::words;
use crate::{ExitCode, join, question};

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
        name: args.name.clone(),
        delete_objects: args.delete_objects,
    };
    let answer = session.client.remove_cluster(call(request)).await;
    match session.answer(answer) {
        Ok(removed) => {
            let said = crate::text::clean(&removed.message);
            match said.as_str() {
                "" => writeln!(out, "{} is removed.", args.name)?,
                said => writeln!(out, "{said}")?,
            }
            Ok(ExitCode::Ok)
        }
        Err(failure) => Err(question::unknown_cluster(&mut session, &args.name, failure).await),
    }
}

/// `muster sync …`.
pub(crate) async fn sync(
    hub: &Hub,
    command: SyncCommand,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    let SyncCommand::Now = command;
    let mut session = hub::connect(hub).await?;
    let answer = session.client.sync_now(call(v1::SyncNowRequest {})).await;
    let answer = session.answer(answer)?;
    writeln!(out, "Git is at {}.", words::revision(&answer.revision))?;
    Ok(ExitCode::Ok)
}
