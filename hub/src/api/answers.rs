//! What people are told: messages made of the [`View`]. Pure.

use std::collections::BTreeMap;

use muster_decide::labels::Selector;
use muster_proto::wire::v1;
use muster_proto::{Drift, HealthStatus, ObjectStatus, SyncStatus, Timestamp};

use super::pauses;
use crate::view::{
    ApplicationView, ClusterView, Connection, PlacementStatus, Problem, RepositoryView, View,
    Waiting, What,
};

/// The whole fleet, or the part of it on the selected clusters.
pub(super) fn fleet(view: &View, selector: &Selector) -> v1::Fleet {
    let everything = *selector == Selector::default();
    let selected = || {
        view.clusters
            .iter()
            .filter(|cluster| selector.matches(&cluster.labels))
    };
    let mut applications: Vec<_> = if everything {
        view.applications
            .iter()
            .map(|application| application_summary(application))
            .collect()
    } else {
        applications_on(view, selected())
    };
    let paused = pauses::counts(selected().map(AsRef::as_ref));
    for application in &mut applications {
        let count = paused.get(application.name.as_str()).copied();
        application.clusters_paused = count.unwrap_or_default();
    }
    let concerned = |problem: &&Problem| match &problem.cluster {
        Some(name) => everything || selected().any(|cluster| cluster.name == *name),
        None => true,
    };
    v1::Fleet {
        source: Some(source(view)),
        repositories: view.repositories.iter().map(repository).collect(),
        clusters: selected().map(|cluster| cluster_summary(cluster)).collect(),
        applications,
        problems: view
            .problems
            .iter()
            .filter(concerned)
            .map(problem)
            .collect(),
        waiting: view
            .waiting
            .iter()
            .filter(|waiting| {
                let on = &waiting.clusters;
                everything || on.is_empty() || selected().any(|one| on.contains(&one.name))
            })
            .map(waiting)
            .collect(),
        pauses: pauses::standing(selected().map(AsRef::as_ref), None),
    }
}

fn waiting(waiting: &Waiting) -> v1::Waiting {
    let application = waiting.what.application();
    v1::Waiting {
        id: waiting.what.id(),
        what: waiting.what.word().to_owned(),
        application: application.map(ToString::to_string).unwrap_or_default(),
        clusters: waiting.clusters.iter().map(ToString::to_string).collect(),
        revision: match &waiting.what {
            What::Emptied { revision, .. } => revision.clone(),
            _ => String::new(),
        },
        message: waiting.message.clone(),
        since_ms: waiting.since.0,
    }
}

/// One cluster; `None` when there is none of that name.
pub(super) fn cluster(view: &View, name: &str) -> Option<v1::ClusterDetail> {
    let cluster = view.cluster(name)?;
    let problems = view
        .problems
        .iter()
        .filter(|problem| problem.cluster.as_ref() == Some(&cluster.name));
    Some(v1::ClusterDetail {
        summary: Some(cluster_summary(cluster)),
        placements: cluster.placements().map(placement).collect(),
        objects: cluster.rows.objects().values().map(Into::into).collect(),
        cluster_uid: cluster.uid.clone(),
        certificate_expires_ms: cluster.certificate_expires.0,
        problems: problems.map(self::problem).collect(),
        pauses: pauses::standing(std::iter::once(cluster.as_ref()), None),
    })
}

/// One application; `None` when there is none of that name.
pub(super) fn application(view: &View, name: &str) -> Option<v1::ApplicationDetail> {
    let application = view.application(name)?;
    let problems = view
        .problems
        .iter()
        .filter(|problem| problem.application.as_ref() == Some(&application.name));
    let objects = rows(view.clusters.iter()).filter(|(_, row)| row.application == application.name);
    let clusters = || view.clusters.iter().map(AsRef::as_ref);
    let paused = pauses::counts(clusters());
    let summary = v1::ApplicationSummary {
        clusters_paused: paused
            .get(application.name.as_str())
            .copied()
            .unwrap_or_default(),
        ..application_summary(application)
    };
    Some(v1::ApplicationDetail {
        summary: Some(summary),
        placements: view.placements(name).map(placement).collect(),
        problems: problems.map(self::problem).collect(),
        objects: objects
            .map(|(cluster, row)| cluster_object(cluster, row))
            .collect(),
        pauses: pauses::standing(clusters(), Some(&application.name)),
    })
}

/// Objects that drifted, on the selected clusters; of one application unless `application` is empty. What stands is told
/// whenever it began, what was repaired only when that was not before `since`.
pub(super) fn drift(
    view: &View,
    selector: &Selector,
    application: &str,
    since: Timestamp,
) -> v1::DriftList {
    let selected = view
        .clusters
        .iter()
        .filter(|cluster| selector.matches(&cluster.labels));
    let drifted = rows(selected).filter(|(_, row)| {
        let stands = row.sync == SyncStatus::Drifted;
        let told = |drift: &Drift| is_told(drift, since);
        (stands || row.last_drift.as_ref().is_some_and(told))
            && (application.is_empty() || row.application.as_str() == application)
    });
    v1::DriftList {
        rows: drifted
            .map(|(cluster, row)| cluster_object(cluster, row))
            .collect(),
    }
}

fn is_told(drift: &Drift, since: Timestamp) -> bool {
    drift.repaired_at.is_none_or(|at| at >= since)
}

fn rows<'a, C: std::ops::Deref<Target = ClusterView> + 'a>(
    clusters: impl Iterator<Item = &'a C>,
) -> impl Iterator<Item = (&'a ClusterView, &'a ObjectStatus)> {
    clusters.flat_map(|cluster| {
        let cluster: &ClusterView = cluster;
        cluster
            .rows
            .objects()
            .values()
            .map(move |row| (cluster, row))
    })
}

fn cluster_object(cluster: &ClusterView, row: &ObjectStatus) -> v1::ClusterObject {
    v1::ClusterObject {
        cluster: cluster.name.to_string(),
        object: Some(row.into()),
    }
}

fn source(view: &View) -> v1::Source {
    let source = view.source.clone();
    v1::Source {
        url: source.url,
        branch: source.branch,
        revision: source.revision,
        adopted_revision: source.adopted_revision,
        fetched_at_ms: source.fetched_at.0,
        error: source.error,
        subject: source.subject,
    }
}

fn repository(repository: &RepositoryView) -> v1::Repository {
    let repository = repository.clone();
    v1::Repository {
        name: repository.name,
        url: repository.url,
        r#ref: repository.reference,
        picked: repository.picked,
        revision: repository.revision,
        subject: repository.subject,
        since_ms: repository.since.0,
        fetched_at_ms: repository.fetched_at.0,
        error: repository.error,
    }
}

fn problem(problem: &Problem) -> v1::Problem {
    let name = |name: Option<&dyn ToString>| name.map(ToString::to_string).unwrap_or_default();
    v1::Problem {
        application: name(problem.application.as_ref().map(|name| name as _)),
        cluster: name(problem.cluster.as_ref().map(|name| name as _)),
        location: problem.location.clone(),
        message: problem.message.clone(),
        since_ms: problem.since.0,
        variants: problem.variants.iter().map(ToString::to_string).collect(),
    }
}

fn cluster_summary(cluster: &ClusterView) -> v1::ClusterSummary {
    v1::ClusterSummary {
        name: cluster.name.to_string(),
        labels: cluster.labels.clone(),
        connection: cluster.connection.as_str().to_owned(),
        since_ms: cluster.since.0,
        last_seen_ms: cluster.last_seen.0,
        agent_version: cluster.agent_version.clone(),
        kubernetes_version: cluster.kubernetes_version.clone(),
        generation: cluster.generation,
        accepted_generation: cluster.accepted_generation,
        sync: cluster.sync.to_string(),
        health: cluster.health.to_string(),
        applications: count(cluster.placements.len()),
        applications_synced: cluster.synced,
        applications_healthy: cluster.healthy,
        message: cluster.message.clone(),
        removals_held: cluster.removals_held.clone(),
        applications_paused: count(cluster.pauses.len()),
    }
}

fn application_summary(application: &ApplicationView) -> v1::ApplicationSummary {
    v1::ApplicationSummary {
        name: application.name.to_string(),
        location: application.location.clone(),
        revision: application.revision.clone(),
        clusters: application.clusters,
        clusters_synced: application.synced,
        clusters_healthy: application.healthy,
        clusters_unknown: application.unknown,
        sync: application.sync.to_string(),
        health: application.health.to_string(),
        message: application.message.clone(),
        note: application.note.clone(),
        // Filled in where the clusters are known.
        clusters_paused: 0,
    }
}

fn placement(status: PlacementStatus<'_>) -> v1::Placement {
    v1::Placement {
        application: status.placement.application.name.to_string(),
        cluster: status.cluster.name.to_string(),
        target: status.placement.target.to_string(),
        desired_revision: status.placement.application.revision.clone(),
        connection: status.cluster.connection.as_str().to_owned(),
        known_since_ms: status.known_since.0,
        current: status.current,
        status: status.status.map(Into::into),
        paused_until_ms: status
            .cluster
            .pause(&status.placement.application.name)
            .map_or(0, |pause| pause.until.0),
    }
}

/// The applications that are placed on some clusters, counted over these only.
fn applications_on<'a>(
    view: &View,
    clusters: impl Iterator<Item = &'a std::sync::Arc<ClusterView>>,
) -> Vec<v1::ApplicationSummary> {
    let mut placed: BTreeMap<&str, Vec<PlacementStatus<'_>>> = BTreeMap::new();
    for cluster in clusters {
        for status in cluster.placements() {
            placed
                .entry(status.placement.application.name.as_str())
                .or_default()
                .push(status);
        }
    }
    let applications = placed.into_iter().filter_map(|(name, placements)| {
        let summary = application_summary(view.application(name)?);
        Some(counted_over(summary, &placements))
    });
    applications.collect()
}

fn counted_over(
    summary: v1::ApplicationSummary,
    placements: &[PlacementStatus<'_>],
) -> v1::ApplicationSummary {
    // What a silent cluster said is no knowledge of now.
    let known = |status: &PlacementStatus<'_>| {
        let here = matches!(
            status.cluster.connection,
            Connection::Connected | Connection::Removing
        );
        status.status.filter(|_| here).map(|row| {
            let sync = match row.sync {
                SyncStatus::Synced if !status.current => SyncStatus::Progressing,
                sync => sync,
            };
            (sync, row.health, status.current)
        })
    };
    let rows: Vec<_> = placements.iter().map(known).collect();
    let counted = |good: fn(SyncStatus, HealthStatus) -> bool| {
        count(
            rows.iter()
                .flatten()
                .filter(|(sync, health, current)| *current && good(*sync, *health))
                .count(),
        )
    };
    let sync = rows
        .iter()
        .map(|row| row.map_or(SyncStatus::Unknown, |(sync, _, _)| sync))
        .max();
    let health = rows
        .iter()
        .map(|row| row.map_or(HealthStatus::Unknown, |(_, health, _)| health))
        .max();
    v1::ApplicationSummary {
        clusters: count(placements.len()),
        clusters_synced: counted(|sync, _| sync == SyncStatus::Synced),
        clusters_healthy: counted(|_, health| health == HealthStatus::Current),
        clusters_unknown: count(rows.iter().filter(|row| row.is_none()).count()),
        sync: sync.unwrap_or(SyncStatus::Unknown).to_string(),
        health: health.unwrap_or(HealthStatus::Unknown).to_string(),
        ..summary
    }
}

fn count(number: usize) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use muster_proto::DriftKind;

    use super::*;

    fn drift(at: i64, repaired_at: Option<i64>) -> Drift {
        Drift {
            kind: DriftKind::Changed,
            fields: vec![".data.k".into()],
            changes: Vec::new(),
            manager: "kubectl-edit".into(),
            at: Timestamp(at),
            repaired_at: repaired_at.map(Timestamp),
            count: 1,
        }
    }

    #[test]
    fn what_stands_is_told_however_old_and_what_was_repaired_when_it_is_new_enough() {
        let since = Timestamp(100);
        for (at, repaired_at, told) in [
            (1, None, true),
            (1, Some(99), false),
            (1, Some(100), true),
            (150, Some(151), true),
        ] {
            assert_eq!(is_told(&drift(at, repaired_at), since), told, "{at}");
        }
        assert!(is_told(&drift(1, Some(2)), Timestamp(0)));
    }
}
