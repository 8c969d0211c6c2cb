//! `muster version`: this program's, then the hub's.

use std::io::Write;

use muster_proto::wire::v1;
use serde::Serialize;

use crate::ExitCode;
use crate::answer::print_data;
use crate::args::{ConnectionArgs, Output, VersionArgs};
use crate::config::{self, Environment};
use crate::failure::Failure;
use crate::hub::{self, call};

const OWN: &str = env!("CARGO_PKG_VERSION");

#[derive(Serialize)]
struct Versions {
    client: v1::Version,
    #[serde(skip_serializing_if = "Option::is_none")]
    hub: Option<v1::Version>,
}

/// Prints both versions. Its own one is printed whatever happens to the hub.
pub(crate) async fn print(
    environment: &Environment,
    flags: &ConnectionArgs,
    args: VersionArgs,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    let text = matches!(args.output, Output::Table | Output::Wide);
    if text {
        writeln!(out, "muster {OWN}")?;
    }
    let hub = match args.client {
        true => None,
        false => Some(ask(environment, flags).await?),
    };
    match (&hub, text) {
        (Some(hub), true) => writeln!(out, "hub    {} ({})", hub.version, hub.trust_domain)?,
        (None, true) => {}
        (_, false) => {
            let client = v1::Version {
                version: OWN.to_owned(),
                ..v1::Version::default()
            };
            print_data(&Versions { client, hub }, args.output, out)?;
        }
    }
    Ok(ExitCode::Ok)
}

async fn ask(environment: &Environment, flags: &ConnectionArgs) -> Result<v1::Version, Failure> {
    let hub = config::find_hub(environment, flags)?;
    let mut session = hub::connect(&hub).await?;
    let answer = session.client.get_version(call(v1::GetVersionRequest {}));
    let answer = answer.await;
    session.answer(answer)
}
