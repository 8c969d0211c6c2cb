//! `cargo measure engine`: one agent and one API server, at so many objects: how fast it applies beside a bare loop,
//! what it calls when nothing or little changes, how soon a hand edit is repaired, what memory it takes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher::Event;
use serde_json::json;

use super::audit::{self, Call, Mark};
use super::bare;
use super::bed::Bed;
use super::figure::{Figure, Promise};
use super::load::{Load, name};
use super::objects::{First, config_maps, pass};
use super::process::memory;
use super::shipped;
use crate::programs::Programs;

/// The agent's name at the API server.
const PROGRAM: &str = "muster-agent";
/// Where its ledger is; nothing else is written there.
const HOME: &str = "muster-system";
/// Memory and calls at rest are looked at after, and over, this time.
const REST: Duration = Duration::from_secs(60);
/// Calls that come late still count for the change before them.
const LATE: Duration = Duration::from_secs(5);
const EDITS: usize = 200;

/// How much.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// How many objects; may be repeated.
    #[arg(long, value_name = "COUNT", default_values_t = [1_000, 10_000])]
    objects: Vec<usize>,
    /// How often the first sync is measured.
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    rounds: usize,
    /// Run beside another product instead: the same commits through both.
    #[arg(long, value_name = "NAME")]
    pub(super) peer: Option<Peer>,
}

/// Whom we compare with.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(super) enum Peer {
    /// Flux's source-controller and kustomize-controller, at their defaults and tuned; built at the first use.
    Flux,
}

/// All figures at each number of objects.
pub(super) async fn measure(arguments: &Arguments) -> Result<Vec<Figure>> {
    muster_proto::tls::install_crypto();
    let minutes: usize = arguments
        .objects
        .iter()
        .map(|count| 4 + count * arguments.rounds / 5_000)
        .sum();
    let programs = shipped::build().await?;
    println!("This takes about {minutes} minutes.");
    let mut figures = Vec::new();
    for count in &arguments.objects {
        ensure!(
            *count >= 300,
            "at least 300 objects, so that {EDITS} of them can be edited"
        );
        figures.extend(at(&programs, *count, arguments.rounds).await?);
    }
    Ok(figures)
}

async fn at(programs: &Programs, count: usize, rounds: usize) -> Result<Vec<Figure>> {
    let load = Load { count };
    // An application that stays, so that the repository is never empty.
    let mut bed = Bed::start(programs, &Load { count: 1 }.files("anchor")).await?;
    bed.synced("anchor").await?;
    let named = |what: &str| format!("{count} objects: {what}");
    let mut figures = Vec::new();

    let (mut ours, mut bares) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let application = format!("round-{round}");
        let loop_before = bare_rate(&bed, &load, &format!("bare-{round}a")).await?;
        let mark = bed.audit.mark()?;
        bed.push("Deploy", &load.files(&application)).await?;
        bed.synced(&application).await?;
        let writes = objects_of(
            &application,
            bed.audit.since(mark, PROGRAM)?,
            Call::is_write,
        );
        ours.push(count as f64 / audit::seconds(&writes));
        let loop_after = bare_rate(&bed, &load, &format!("bare-{round}b")).await?;
        bares.push(f64::midpoint(loop_before, loop_after));
        progress(
            count,
            &format!(
                "round {}: {:.0}/s, a bare loop {:.0}/s",
                round + 1,
                ours[round],
                bares[round]
            ),
        );
        if round == 0 {
            figures.extend(rest(&bed, count).await?);
        }
        if round + 1 < rounds {
            bed.push_removal("Remove", &[&application]).await?;
            bed.gone(&application).await?;
        }
    }
    let application = format!("round-{}", rounds - 1);
    let ratios = ours
        .iter()
        .zip(&bares)
        .map(|(ours, bare)| ours / bare)
        .collect();
    figures.push(Figure::new(
        named("apply rate"),
        median(ours),
        "/s",
        Promise::None,
    ));
    figures.push(Figure::new(
        named("apply rate of a bare loop"),
        median(bares),
        "/s",
        Promise::None,
    ));
    figures.push(Figure::new(
        named("apply rate, of a bare loop's"),
        median(ratios),
        "x",
        Promise::AtLeast(0.9),
    ));

    let mark = bed.audit.mark()?;
    let revision = bed
        .push(
            "Say something",
            &[("README.md".into(), "Nothing of ours.".into())],
        )
        .await?;
    bed.seen(&revision).await?;
    figures.push(
        unchanged(
            &bed,
            mark,
            &application,
            named("object calls: a commit without change"),
        )
        .await?,
    );

    let mark = bed.audit.mark()?;
    bed.wire.cut();
    bed.connected().await?;
    figures.push(unchanged(&bed, mark, &application, named("object calls: a reconnect")).await?);

    let mark = bed.audit.mark()?;
    bed.restart_hub().await?;
    figures.push(
        unchanged(
            &bed,
            mark,
            &application,
            named("object calls: a hub restart"),
        )
        .await?,
    );

    let mark = bed.audit.mark()?;
    bed.restart_agent().await?;
    bed.synced(&application).await?;
    figures.push(
        unchanged(
            &bed,
            mark,
            &application,
            named("object calls: an agent restart"),
        )
        .await?,
    );
    progress(count, "unchanged: looked at four times");

    let mark = bed.audit.mark()?;
    let first = First::watch(&bed.cluster, &application).await?;
    bed.commit("Change one", &[load.file(&application, 0, "2")])?;
    let began = Instant::now();
    bed.tell().await?;
    first.changes_to("2").await?;
    let seconds = began.elapsed().as_secs_f64();
    bed.synced(&application).await?;
    pass(LATE).await;
    let calls = bed.audit.since(mark, PROGRAM)?;
    let bookkeeping = calls
        .iter()
        .filter(|call| call.is_write() && call.resource == "secrets" && call.namespace == HOME)
        .count();
    let objects = objects_of(&application, calls, |_| true);
    figures.push(Figure::new(
        named("one-object commit to the object"),
        seconds,
        "s",
        Promise::AtMost(1.0),
    ));
    figures.push(Figure::new(
        named("one-object commit: object calls"),
        objects.len() as f64,
        "calls",
        Promise::AtMost(1.0),
    ));
    figures.push(Figure::new(
        named("one-object commit: bookkeeping writes"),
        bookkeeping as f64,
        "calls",
        Promise::AtMost(2.0),
    ));

    let repairs = repairs(&bed, &application, &load).await?;
    for (what, share) in [("p50", 0.5), ("p99", 0.99)] {
        let name = named(&format!("hand edit to repaired, {what} of {EDITS}"));
        figures.push(Figure::new(
            name,
            percentile(&repairs, share),
            "s",
            Promise::AtMost(1.0),
        ));
    }
    figures.push(Figure::new(
        named("agent's memory after all of it"),
        memory(bed.agent.pid)?.resident,
        "MiB",
        Promise::None,
    ));
    Ok(figures)
}

/// Memory and calls when there is nothing to do.
async fn rest(bed: &Bed, count: usize) -> Result<Vec<Figure>> {
    let named = |what: &str| format!("{count} objects: {what}");
    progress(count, "at rest for a minute");
    pass(LATE).await;
    let mark = bed.audit.mark()?;
    pass(REST).await;
    let calls = bed.audit.since(mark, PROGRAM)?;
    let most = match count {
        0..=1_000 => Promise::AtMost(25.0),
        1_001..=10_000 => Promise::AtMost(64.0),
        _ => Promise::None,
    };
    let agent = memory(bed.agent.pid)?;
    let (watches, others): (Vec<Call>, Vec<Call>) =
        calls.into_iter().partition(|call| call.verb == "watch");
    tell(&named("at rest"), &others);
    Ok(vec![
        Figure::new(
            named("agent's memory a minute after the sync"),
            agent.resident,
            "MiB",
            most,
        ),
        Figure::new(
            named("of that its own, without the program's file"),
            agent.own,
            "MiB",
            Promise::None,
        ),
        Figure::new(
            named("agent's memory at its peak"),
            agent.peak,
            "MiB",
            Promise::None,
        ),
        Figure::new(
            named("calls in a minute at rest, watches aside"),
            others.len() as f64,
            "calls",
            Promise::AtMost(0.0),
        ),
        Figure::new(
            named("watches renewed in a minute at rest"),
            watches.len() as f64,
            "calls",
            Promise::None,
        ),
    ])
}

async fn bare_rate(bed: &Bed, load: &Load, namespace: &str) -> Result<f64> {
    let mark = bed.audit.mark()?;
    bare::apply(&bed.cluster, namespace, load).await?;
    let writes = objects_of(
        namespace,
        bed.audit.since(mark, bare::PROGRAM)?,
        Call::is_write,
    );
    ensure!(
        writes.len() == load.count,
        "{} writes of {} were written down",
        writes.len(),
        load.count
    );
    Ok(load.count as f64 / audit::seconds(&writes))
}

/// Calls on objects in a namespace, LIST and WATCH aside.
fn objects_of(namespace: &str, calls: Vec<Call>, which: impl Fn(&Call) -> bool) -> Vec<Call> {
    let inside = |call: &Call| call.namespace == namespace && call.resource != "namespaces";
    calls
        .into_iter()
        .filter(|call| {
            inside(call) && !matches!(call.verb.as_str(), "list" | "watch") && which(call)
        })
        .collect()
}

/// Object calls since `mark`: none were promised.
async fn unchanged(bed: &Bed, mark: Mark, application: &str, name: String) -> Result<Figure> {
    pass(LATE).await;
    let calls = objects_of(application, bed.audit.since(mark, PROGRAM)?, |_| true);
    tell(&name, &calls);
    Ok(Figure::new(
        name,
        calls.len() as f64,
        "calls",
        Promise::AtMost(0.0),
    ))
}

/// Seconds from the answer to a hand edit until the object is as before, one edit after the other.
async fn repairs(bed: &Bed, application: &str, load: &Load) -> Result<Vec<f64>> {
    let editor = PatchParams {
        field_manager: Some("kubectl-edit".into()),
        ..PatchParams::default()
    };
    let api: Api<ConfigMap> = Api::namespaced(bed.cluster.client()?, application);
    let mut objects = config_maps(&bed.cluster, application)?;
    let mut versions = BTreeMap::new();
    let mut seconds = Vec::new();
    let numbers = load.some_config_maps(EDITS);
    for (nth, index) in numbers.iter().enumerate() {
        let name = name(*index);
        let edit = Patch::Merge(json!({"data": {"content": "by hand"}}));
        let edited = api.patch(&name, &editor, &edit).await?;
        let edited = edited.resource_version().context("no resourceVersion")?;
        let began = Instant::now();
        // What the edit itself gave is not the repair.
        versions.insert(name.clone(), edited);
        let repaired = async {
            while let Some(event) = objects.try_next().await? {
                let (Event::Apply(object) | Event::InitApply(object)) = event else {
                    continue;
                };
                let content = object.data.as_ref().and_then(|data| data.get("content"));
                if object.name_any() == name
                    && object.resource_version() > versions.get(&name).cloned()
                    && content.is_some_and(|content| content != "by hand")
                {
                    return anyhow::Ok(());
                }
            }
            anyhow::bail!("the watch ended")
        };
        tokio::time::timeout(Duration::from_secs(30), repaired)
            .await
            .with_context(|| format!("{name} was not repaired in 30 s"))??;
        seconds.push(began.elapsed().as_secs_f64());
        if (nth + 1) % 50 == 0 {
            progress(
                load.count,
                &format!("{} of {EDITS} hand edits repaired", nth + 1),
            );
        }
    }
    Ok(seconds)
}

/// Names calls that nobody wanted.
fn tell(when: &str, calls: &[Call]) {
    for call in calls.iter().take(5) {
        println!(
            "{when}: {} {} {}/{}",
            call.verb, call.resource, call.namespace, call.name
        );
    }
}

fn progress(count: usize, what: &str) {
    println!("{count} objects: {what}");
}

pub(super) fn median(figures: Vec<f64>) -> f64 {
    percentile(&figures, 0.5)
}

/// The smallest figure that this share of them does not exceed.
fn percentile(figures: &[f64], share: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn a_percentile_is_one_of_the_figures() {
        let figures: Vec<f64> = (1..=200).rev().map(f64::from).collect();
        assert_eq!(percentile(&figures, 0.5), 100.0);
        assert_eq!(percentile(&figures, 0.99), 198.0);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
    }
}
