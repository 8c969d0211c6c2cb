//! `muster plan` and `muster render`: what a commit would change before it is merged, and what a cluster gets now or
//! would get after.
//!
//! In: what to plan, by name or as files of a checkout. Out: the plan as text, JSON or Markdown, and whether something
//! would change; what the hub is doing meanwhile goes to the terminal.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use muster_decide::plan::Plan;
use muster_proto::wire::v1;
use serde::Serialize;
use tonic::Request;

use crate::ExitCode;
use crate::args::{Color, DryRun, PlanArgs, PlanOutput, PlanShownArgs, RenderArgs};
use crate::config::{Hub, Terminal};
use crate::failure::Failure;
use crate::hub::{self, call};
use crate::show::{self, plan};
use crate::text::{Paper, clean};

mod checkout;

/// Longer than the hub takes for any plan.
const TIMEOUT: Duration = Duration::from_secs(1000);

/// A plan as JSON.
#[derive(Serialize)]
struct Told<'a> {
    /// What is planned, for people.
    of: &'a str,
    #[serde(flatten)]
    plan: &'a Plan,
}

/// Asks the hub for a plan and prints it.
pub(crate) async fn plan(
    hub: &Hub,
    args: PlanArgs,
    terminal: Option<Terminal>,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    let mut session = hub::connect(hub).await?;
    let what = args.what.unwrap_or_default();
    let folder = what.starts_with(['.', '/']);
    let (what, working_tree) = match folder {
        false => (what, None),
        true => {
            let fleet = session.client.get_fleet(call(v1::GetFleetRequest {
                // No cluster: only where Git is.
                cluster_selector: "muster.dev/nothing=at-all".into(),
            }));
            let fleet = fleet.await;
            let source = session.answer(fleet)?.source.unwrap_or_default();
            let tree = checkout::differing(Path::new(&what), &source)?;
            (String::new(), Some(tree))
        }
    };
    let mut request = Request::new(v1::PlanRequest {
        what,
        as_is: args.as_is,
        cluster: name(&args.shown.cluster),
        application: name(&args.shown.app),
        working_tree,
        dry_run: match args.dry_run {
            None => String::new(),
            Some(DryRun::Server) => "server".to_owned(),
        },
    });
    request.set_timeout(TIMEOUT);
    let answers = session.client.plan(request).await;
    let mut answers = session.answer(answers)?;
    loop {
        let news = answers.message().await;
        let news = news.map_err(|status| Failure::hub(&session.server, status))?;
        let Some(news) = news else {
            return Err(Failure::told(
                "the hub ended before it had planned: try again",
            ));
        };
        if news.doing.is_empty() {
            let plan = serde_json::from_str(&news.plan)
                .map_err(|error| Failure::told(format!("the hub's plan can't be read: {error}")))?;
            return print(&news.of, &plan, &args.shown, terminal, out);
        }
        if terminal.is_some() {
            let _nobody_listens = writeln!(err, "{} ...", clean(&news.doing));
        }
    }
}

/// Prints a plan; `of` says what is planned.
pub(crate) fn print(
    of: &str,
    planned: &Plan,
    shown: &PlanShownArgs,
    terminal: Option<Terminal>,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    match shown.output {
        PlanOutput::Text => {
            let paper = Paper {
                colour: match shown.color {
                    Color::Auto => terminal.is_some_and(|terminal| terminal.colour),
                    Color::Always => true,
                    Color::Never => false,
                },
                size: None,
            };
            let text = plan::text(of, planned);
            out.write_all(text.paint(paper).as_bytes())?;
        }
        PlanOutput::Json => {
            let told = Told { of, plan: planned };
            let json = serde_json::to_string_pretty(&told);
            let json = json.map_err(|error| Failure::told(error.to_string()))?;
            writeln!(out, "{json}")?;
        }
        PlanOutput::Markdown => out.write_all(plan::markdown::markdown(of, planned).as_bytes())?,
    }
    Ok(match (planned.is_broken(), planned.is_empty()) {
        (true, _) => ExitCode::Failed,
        (false, false) => ExitCode::Changes,
        (false, true) => ExitCode::Ok,
    })
}

/// Prints what a cluster gets of an application.
pub(crate) async fn render(
    hub: &Hub,
    args: RenderArgs,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    let mut session = hub::connect(hub).await?;
    let is_now = args.at.is_none();
    let request = v1::RenderRequest {
        application: args.app.clone(),
        cluster: args.cluster.clone(),
        at: args.at.unwrap_or_default(),
        as_is: args.as_is,
    };
    let mut request = call(request);
    if !is_now {
        request.set_timeout(TIMEOUT);
    }
    let answer = session.client.render(request).await;
    let rendering = session.answer(answer)?;
    if !rendering.kept.is_empty() {
        return Err(Failure::told(format!(
            "{} is left as it is on {}: {}",
            args.app, args.cluster, rendering.kept
        )));
    }
    let unread = |error: &dyn std::fmt::Display| {
        Failure::told(format!("the hub's answer can't be read: {error}"))
    };
    let objects = rendering.objects.iter();
    let objects: Result<Vec<serde_json::Value>, _> =
        objects.map(|object| serde_json::from_str(object)).collect();
    let objects = objects.map_err(|error| unread(&error))?;
    show::manifests::print(&objects, args.output, out)?;
    Ok(ExitCode::Ok)
}

fn name(name: &Option<impl ToString>) -> String {
    name.as_ref().map(ToString::to_string).unwrap_or_default()
}
