//! A plan put to API servers: the agent of one cluster of each diff tries what would be applied there, by dry runs.
//!
//! In: a plan, and what it was made of. Out: the same plan, each diff with what an API server says to it or why none
//! was asked. Questions are bounded in size, clusters in time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use muster_decide::plan::{Coming, Diff, DryRun, Outcome, Plan, Trial, Tried};
use muster_proto::wire::{self, v1};
use muster_proto::{ClusterName, ObjectKey, shortened};
use tokio::time::Instant;

use crate::fleet::{Decided, Fleet, NotAsked};
use crate::view::Connection;

/// Diffs that are tried, those of most clusters first.
const MOST_DIFFS: usize = 100;
/// Clusters that are asked at the same time.
const AT_ONCE: usize = 16;
/// Clusters of one diff that are looked at for one that can try it.
const MOST_CLUSTERS: usize = 20;
/// A cluster has so long for all of one diff.
const ON_ONE_CLUSTER: Duration = Duration::from_secs(60);
/// An agent gives up one question after 15 s by itself.
const ON_ONE_QUESTION: Duration = Duration::from_secs(25);
/// Bytes of one diff's objects.
const LARGEST: usize = 16 << 20;
/// Characters of what an agent says of one object.
const LONGEST: usize = 2048;

/// Tries all diffs of which anything would be applied.
pub(super) async fn try_out(fleet: &Fleet, plan: &mut Plan, decided: &Decided) {
    let connected = connected(fleet);
    let places = 0..plan.diffs.len();
    let mut applied: Vec<usize> = places
        .filter(|at| would_apply(&plan.diffs[*at], decided))
        .collect();
    for at in applied.split_off(applied.len().min(MOST_DIFFS)) {
        plan.diffs[at].dry_run = Some(not_asked(format!(
            "only the {MOST_DIFFS} diffs of most clusters are tried: ask for one --cluster or one --app"
        )));
    }
    // One cluster tries one diff after the other.
    let mut of: BTreeMap<Option<&ClusterName>, Vec<usize>> = BTreeMap::new();
    for at in applied {
        let mut clusters = plan.diffs[at].clusters.iter();
        let first = clusters.find(|cluster| connected.contains(*cluster));
        of.entry(first).or_default().push(at);
    }
    let (diffs, connected) = (&plan.diffs, &connected);
    let on_clusters: Vec<_> = of
        .into_values()
        .map(|places| on_one(fleet, diffs, places, connected, decided))
        .collect();
    let on_clusters = futures::stream::iter(on_clusters).buffer_unordered(AT_ONCE);
    let dry_runs: Vec<_> = on_clusters.collect().await;
    for (at, dry_run) in dry_runs.into_iter().flatten() {
        plan.diffs[at].dry_run = Some(dry_run);
    }
}

fn connected(fleet: &Fleet) -> BTreeSet<ClusterName> {
    let view = fleet.view().borrow().clone();
    let clusters = view.clusters.iter();
    clusters
        .filter(|cluster| cluster.connection == Connection::Connected)
        .map(|cluster| cluster.name.clone())
        .collect()
}

/// All clusters of a diff would be sent the same, but for values that do not change.
fn would_apply(diff: &Diff, decided: &Decided) -> bool {
    let first = diff.clusters.first();
    first.is_some_and(|first| Trial::of(diff, first, &decided.after).is_some())
}

/// One diff after the other, which begin at the same cluster.
async fn on_one(
    fleet: &Fleet,
    diffs: &[Diff],
    places: Vec<usize>,
    connected: &BTreeSet<ClusterName>,
    decided: &Decided,
) -> Vec<(usize, DryRun)> {
    let mut dry_runs = Vec::new();
    for at in places {
        dry_runs.push((at, tried(fleet, &diffs[at], connected, decided).await));
    }
    dry_runs
}

/// Tries a diff on the first of its clusters that can.
async fn tried(
    fleet: &Fleet,
    diff: &Diff,
    connected: &BTreeSet<ClusterName>,
    decided: &Decided,
) -> DryRun {
    let here = diff.clusters.iter();
    let here = here.filter(|cluster| connected.contains(*cluster));
    let mut too_old = Vec::new();
    for cluster in here.take(MOST_CLUSTERS) {
        match tried_on(fleet, diff, cluster, decided).await {
            Ok(dry_run) => return dry_run,
            Err(NotAsked::TooOld) => too_old.push(cluster.as_str()),
            Err(_) => {}
        }
    }
    not_asked(match (too_old.as_slice(), diff.clusters.len()) {
        ([], 1) => format!("{} is not connected", diff.clusters[0]),
        ([], clusters) => format!("none of its {clusters} clusters is connected"),
        (too_old, _) => format!(
            "the agents that are connected are too old to try anything, upgrade them: {}",
            too_old.join(", ")
        ),
    })
}

fn not_asked(why: String) -> DryRun {
    DryRun {
        incomplete: Some(why),
        ..DryRun::default()
    }
}

/// Tries a diff on one cluster.
///
/// # Errors
/// When its agent can't be asked at all.
async fn tried_on(
    fleet: &Fleet,
    diff: &Diff,
    cluster: &ClusterName,
    decided: &Decided,
) -> Result<DryRun, NotAsked> {
    let mut dry_run = DryRun {
        cluster: Some(cluster.clone()),
        ..DryRun::default()
    };
    let Some(trial) = Trial::of(diff, cluster, &decided.after) else {
        return Ok(dry_run);
    };
    let coming = Coming::to(cluster, &decided.before, &decided.after);
    let kinds = coming.kinds.into_iter();
    let question = v1::DryRun {
        application: diff.application.to_string(),
        settings: Some((&trial.settings).into()),
        objects: Vec::new(),
        namespaces: coming.namespaces.into_iter().collect(),
        kinds: kinds
            .map(|(group, kind)| v1::DefinedKind { group, kind })
            .collect(),
        rights: coming.rights,
    };
    let deadline = Instant::now() + ON_ONE_CLUSTER;
    let (mut first, mut size) = (true, 0);
    let mut why = "its agent had no time for them".to_owned();
    for frame in wire::object_frames(&trial.objects) {
        size += frame.objects.iter().map(|it| it.body.len()).sum::<usize>();
        if size > LARGEST {
            why = format!("they have more than {} MiB", LARGEST >> 20);
            break;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let most = frame.objects.len();
        let ask = v1::Ask {
            dry_run: Some(v1::DryRun {
                objects: frame.objects,
                ..question.clone()
            }),
            ..v1::Ask::default()
        };
        let within = ON_ONE_QUESTION.min(left);
        let knows = |knows: &crate::fleet::Knows| knows.dry_runs;
        match fleet.ask_agent(cluster.clone(), knows, ask, within).await {
            Ok(answer) if answer.error.is_empty() => take(&mut dry_run, answer, most),
            Ok(answer) => why = shortened(answer.error, LONGEST),
            Err(not @ (NotAsked::Away | NotAsked::TooOld)) if first => return Err(not),
            Err(not) => {
                why = in_words(not).to_owned();
                break;
            }
        }
        first = false;
    }
    dry_run.objects.sort();
    let all = trial.objects.len();
    let left = all.saturating_sub(dry_run.taken + dry_run.objects.len());
    if left > 0 {
        dry_run.incomplete = Some(format!("{left} of {all} objects were not tried: {why}"));
    }
    Ok(dry_run)
}

/// Takes in what an agent says of at most so many objects.
fn take(dry_run: &mut DryRun, answer: v1::Answer, most: usize) {
    let tried = answer.tried.into_iter().take(most).filter_map(|tried| {
        Some(Tried {
            object: ObjectKey::try_from(tried.object?).ok()?,
            outcome: match tried.outcome.as_str() {
                "refused" => Outcome::Refused,
                "not-tried" => Outcome::NotTried,
                _ => Outcome::Unknown,
            },
            message: shortened(tried.message, LONGEST),
        })
    });
    let before = dry_run.objects.len();
    dry_run.objects.extend(tried);
    let told = dry_run.objects.len() - before;
    let taken = usize::try_from(answer.taken).unwrap_or(usize::MAX);
    dry_run.taken += taken.min(most - told);
}

fn in_words(not: NotAsked) -> &'static str {
    match not {
        NotAsked::Away | NotAsked::Gone => "its agent left before it had answered",
        NotAsked::TooOld => "its agent is too old",
        NotAsked::Busy => "too much is asked of its agent already",
        NotAsked::Late => "its agent did not answer in time",
    }
}
