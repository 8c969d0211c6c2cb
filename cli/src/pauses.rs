//! `muster pause` and `muster resume`: stopping a repair that fights a person, and letting it go on.

use std::io::Write;

use muster_proto::wire::v1;

use crate::ExitCode;
use crate::answer::print_data;
use crate::args::{Output, PauseArgs, ResumeArgs};
use crate::config::Hub;
use crate::failure::Failure;
use crate::hub::{self, call};
use crate::question::unknown_app;
use crate::show::words;
use crate::text::clean;

/// `muster pause APP`.
pub(crate) async fn pause(
    hub: &Hub,
    args: PauseArgs,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    let mut session = hub::connect(hub).await?;
    let seconds = args.length.map_or(0, |length| length.as_secs());
    let request = v1::PauseRequest {
        application: args.app.clone(),
        cluster: args.on.cluster,
        cluster_selector: args.on.selector,
        for_seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        reason: args.reason,
    };
    let answer = session.client.pause(call(request)).await;
    let answer = session.answer(answer).map_err(unknown_app)?;
    match args.output {
        Output::Table | Output::Wide => writeln!(out, "{}", paused(&args.app, &answer))?,
        output => print_data(&answer, output, out)?,
    }
    Ok(ExitCode::Ok)
}

/// `muster resume APP`.
pub(crate) async fn resume(
    hub: &Hub,
    args: ResumeArgs,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    let mut session = hub::connect(hub).await?;
    let request = v1::ResumeRequest {
        application: args.app.clone(),
        cluster: args.on.cluster,
        cluster_selector: args.on.selector,
    };
    let answer = session.client.resume(call(request)).await;
    let answer = session.answer(answer).map_err(unknown_app)?;
    match args.output {
        Output::Table | Output::Wide => {
            let on = names(&answer.clusters);
            writeln!(out, "{} goes on, on {on}.", clean(&args.app))?;
        }
        output => print_data(&answer, output, out)?,
    }
    Ok(ExitCode::Ok)
}

fn paused(app: &str, answer: &v1::PauseResponse) -> String {
    let (on, until) = (names(&answer.clusters), words::moment(answer.until_ms));
    let app = clean(app);
    let mut line = format!("{app} is paused until {until}, on {on}.");
    if !answer.silent.is_empty() {
        let silent = names(&answer.silent);
        line.push_str(&format!(
            "\nNot yet on {silent}: the agent there is away, and takes it when it is back."
        ));
    }
    line.push_str(&format!("\n`muster resume {app}` ends it before its time."));
    line
}

/// A few names, or how many.
fn names(clusters: &[String]) -> String {
    match clusters.len() {
        ..=5 => clean(&clusters.join(", ")),
        many => format!("{many} clusters"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_says_where_it_does_not_hold_yet() {
        let answer = v1::PauseResponse {
            clusters: vec!["eu-1".into(), "us-2".into()],
            silent: vec!["us-2".into()],
            until_ms: 1_795_435_600_000,
        };
        insta::assert_snapshot!(paused("shop", &answer), @r"
        shop is paused until 2026-11-23T12:06:40Z, on eu-1, us-2.
        Not yet on us-2: the agent there is away, and takes it when it is back.
        `muster resume shop` ends it before its time.
        ");
    }
}
