//! `muster diff` and `muster get object`: what only the cluster knows, asked of its agent through the hub.
//!
//! In: which application or object, on which cluster. Out: text, or the answer as JSON or YAML, and whether it differs.

use std::io::Write;

use muster_proto::wire::v1;

use crate::ExitCode;
use crate::answer::{now, print_data};
use crate::args::{Color, ComparisonArgs, DiffArgs, GetObjectArgs, Output};
use crate::config::{Hub, Terminal};
use crate::failure::Failure;
use crate::hub::{self, call};
use crate::show;
use crate::text::{Paper, Text};

/// Prints what differs of an application on one cluster.
pub(crate) async fn diff(
    hub: &Hub,
    args: DiffArgs,
    terminal: Option<Terminal>,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    let request = v1::CompareRequest {
        cluster: args.cluster,
        application: args.app.clone(),
        object: None,
    };
    let comparison = ask(hub, request).await?;
    match args.format.output {
        Output::Table | Output::Wide => {
            let text = show::diff::diff(&args.app, &comparison, now());
            paint(&text, &args.format, terminal, out)?;
        }
        format @ (Output::Json | Output::Yaml) => print_data(&comparison, format, out)?,
    }
    if show::diff::differs(&comparison) {
        return Ok(ExitCode::NotInSync);
    }
    match show::diff::not_compared(&comparison) {
        0 => Ok(ExitCode::Ok),
        missing => {
            out.flush()?;
            let _nobody_listens = writeln!(
                err,
                "muster: {missing} objects could not be compared; try again"
            );
            Ok(ExitCode::Failed)
        }
    }
}

/// Prints one object; as JSON or YAML it is the object itself, as it is in the cluster.
pub(crate) async fn object(
    hub: &Hub,
    name: v1::ObjectName,
    args: GetObjectArgs,
    terminal: Option<Terminal>,
    out: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    let request = v1::CompareRequest {
        cluster: args.cluster,
        application: String::new(),
        object: Some(name),
    };
    let comparison = ask(hub, request).await?;
    let Some(object) = comparison.objects.first() else {
        return Err(Failure::told(
            "the object is too large, or its API server too slow, to be told of",
        ));
    };
    match args.format.output {
        Output::Table | Output::Wide => {
            let text = show::object::object(&comparison, object, now());
            paint(&text, &args.format, terminal, out)?;
        }
        format @ (Output::Json | Output::Yaml) => {
            let live: serde_json::Value = match object.live.as_str() {
                "" if object.cut => {
                    return Err(Failure::told("the object is too large to be printed"));
                }
                "" => return Err(Failure::told(not_there(object))),
                live => serde_json::from_str(live)
                    .map_err(|error| Failure::told(format!("the answer is no JSON: {error}")))?,
            };
            print_data(&live, format, out)?;
        }
    }
    Ok(ExitCode::Ok)
}

fn not_there(object: &v1::ObjectComparison) -> String {
    match object.error.as_str() {
        "" => "the object is not there".to_owned(),
        error => format!("the object is not there, or can't be read: {error}"),
    }
}

async fn ask(hub: &Hub, request: v1::CompareRequest) -> Result<v1::Comparison, Failure> {
    let mut session = hub::connect(hub).await?;
    let answer = session.client.compare(call(request)).await;
    session.answer(answer)
}

fn paint(
    text: &Text,
    format: &ComparisonArgs,
    terminal: Option<Terminal>,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let paper = Paper {
        colour: match format.color {
            Color::Auto => terminal.is_some_and(|terminal| terminal.colour),
            Color::Always => true,
            Color::Never => false,
        },
        size: None,
    };
    out.write_all(text.paint(paper).as_bytes())?;
    Ok(())
}

/// An object as people write it: `deployment.apps/web`, `deployment web`, `deployment shop/web`.
pub(crate) fn object_name(words: &[String], namespace: &str) -> Result<v1::ObjectName, Failure> {
    let unclear = || {
        Failure::Usage(
            "name an object as KIND[.GROUP]/NAME, or as KIND[.GROUP] and [NAMESPACE/]NAME".into(),
        )
    };
    let (kind, place, name) = match words {
        [one] => {
            let (kind, name) = one.split_once('/').ok_or_else(unclear)?;
            (kind, None, name)
        }
        [kind, name] => match name.split_once('/') {
            Some((place, name)) => (kind.as_str(), Some(place), name),
            None => (kind.as_str(), None, name.as_str()),
        },
        _ => return Err(unclear()),
    };
    if place.is_some_and(|place| !namespace.is_empty() && place != namespace) {
        return Err(Failure::Usage(
            "the object's name and --namespace say different namespaces".into(),
        ));
    }
    if kind.is_empty() || name.is_empty() || name.contains('/') {
        return Err(unclear());
    }
    let (kind, group) = kind.split_once('.').unwrap_or((kind, ""));
    Ok(v1::ObjectName {
        kind: kind.to_owned(),
        group: without_version(group).to_owned(),
        namespace: place.unwrap_or(namespace).to_owned(),
        name: name.to_owned(),
    })
}

/// `kubectl` lets people write `deployments.v1.apps`.
fn without_version(group: &str) -> &str {
    let is_version = |part: &str| {
        let mut letters = part.chars();
        letters.next() == Some('v') && letters.next().is_some_and(|c| c.is_ascii_digit())
    };
    match group.split_once('.') {
        Some((version, group)) if is_version(version) => group,
        None if is_version(group) => "",
        _ => group,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_named_in_the_ways_that_people_are_used_to() {
        let read = |line: &str, namespace: &str| {
            let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let name = object_name(&words, namespace).ok()?;
            Some([name.kind, name.group, name.namespace, name.name].join("|"))
        };
        for (line, namespace, expected) in [
            ("deployment.apps/web", "shop", "deployment|apps|shop|web"),
            ("deployment web", "", "deployment|||web"),
            ("deployment shop/web", "", "deployment||shop|web"),
            ("deployment shop/web", "shop", "deployment||shop|web"),
            ("deployments.v1.apps/web", "", "deployments|apps||web"),
            ("pods.v1/web", "", "pods|||web"),
            (
                "certificate.cert-manager.io/web",
                "",
                "certificate|cert-manager.io||web",
            ),
        ] {
            assert_eq!(read(line, namespace).as_deref(), Some(expected), "{line}");
        }
        for (line, namespace) in [
            ("deployment", ""),
            ("/web", ""),
            ("deployment shop/", ""),
            ("deployment shop/web", "other"),
            ("deployment a/b/c", ""),
        ] {
            assert_eq!(read(line, namespace), None, "{line}");
        }
    }
}
