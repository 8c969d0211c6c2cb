//! Status rows and reports over the wire.

use super::v1;
use super::{InvalidMessage, digest, digest_bytes};
use crate::{ApplicationStatus, Drift, FieldChange, ObjectKey, ObjectStatus, Report, Timestamp};

impl From<&ObjectKey> for v1::ObjectKey {
    fn from(key: &ObjectKey) -> Self {
        Self {
            group: key.group.clone(),
            kind: key.kind.clone(),
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        }
    }
}

impl TryFrom<v1::ObjectKey> for ObjectKey {
    type Error = InvalidMessage;

    fn try_from(message: v1::ObjectKey) -> Result<Self, InvalidMessage> {
        if message.kind.is_empty() || message.name.is_empty() {
            return Err(InvalidMessage::new("key", "kind and name must be set"));
        }
        Ok(Self {
            group: message.group,
            kind: message.kind,
            namespace: message.namespace,
            name: message.name,
        })
    }
}

impl From<&ApplicationStatus> for v1::ApplicationStatus {
    fn from(row: &ApplicationStatus) -> Self {
        Self {
            application: row.application.to_string(),
            digest: digest_bytes(row.digest),
            revision: row.revision.clone(),
            sync: row.sync.as_str().to_owned(),
            health: row.health.as_str().to_owned(),
            message: row.message.clone(),
            objects: row.objects,
            synced: row.synced,
            healthy: row.healthy,
            waiting: row.waiting,
            unapproved: row.unapproved,
            since_ms: row.since.0,
        }
    }
}

impl TryFrom<v1::ApplicationStatus> for ApplicationStatus {
    type Error = InvalidMessage;

    fn try_from(message: v1::ApplicationStatus) -> Result<Self, InvalidMessage> {
        Ok(Self {
            application: parse("application", &message.application)?,
            digest: digest("digest", &message.digest)?,
            revision: message.revision,
            sync: parse("sync", &message.sync)?,
            health: parse("health", &message.health)?,
            message: message.message,
            objects: message.objects,
            synced: message.synced,
            healthy: message.healthy,
            waiting: message.waiting,
            unapproved: message.unapproved,
            since: Timestamp(message.since_ms),
        })
    }
}

impl From<&ObjectStatus> for v1::ObjectStatus {
    fn from(row: &ObjectStatus) -> Self {
        Self {
            key: Some((&row.key).into()),
            application: row.application.to_string(),
            sync: row.sync.as_str().to_owned(),
            health: row.health.as_str().to_owned(),
            message: row.message.clone(),
            since_ms: row.since.0,
            last_drift: row.last_drift.as_ref().map(Into::into),
        }
    }
}

impl TryFrom<v1::ObjectStatus> for ObjectStatus {
    type Error = InvalidMessage;

    fn try_from(message: v1::ObjectStatus) -> Result<Self, InvalidMessage> {
        Ok(Self {
            key: message
                .key
                .ok_or_else(|| InvalidMessage::new("key", "missing"))?
                .try_into()?,
            application: parse("application", &message.application)?,
            sync: parse("sync", &message.sync)?,
            health: parse("health", &message.health)?,
            message: message.message,
            since: Timestamp(message.since_ms),
            last_drift: message.last_drift.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<&Drift> for v1::Drift {
    fn from(drift: &Drift) -> Self {
        Self {
            kind: drift.kind.as_str().to_owned(),
            fields: drift.fields.clone(),
            manager: drift.manager.clone(),
            at_ms: drift.at.0,
            repaired_at_ms: drift.repaired_at.unwrap_or_default().0,
            count: drift.count,
            changes: drift.changes.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::Drift> for Drift {
    type Error = InvalidMessage;

    fn try_from(message: v1::Drift) -> Result<Self, InvalidMessage> {
        Ok(Self {
            kind: parse("kind", &message.kind)?,
            fields: message.fields,
            manager: message.manager,
            at: Timestamp(message.at_ms),
            repaired_at: (message.repaired_at_ms != 0).then_some(Timestamp(message.repaired_at_ms)),
            count: message.count,
            changes: message.changes.into_iter().map(Into::into).collect(),
        })
    }
}

impl From<&FieldChange> for v1::FieldChange {
    fn from(change: &FieldChange) -> Self {
        Self {
            path: change.path.clone(),
            desired: change.desired.clone(),
            live: change.live.clone(),
        }
    }
}

impl From<v1::FieldChange> for FieldChange {
    fn from(message: v1::FieldChange) -> Self {
        Self {
            path: message.path,
            desired: message.desired,
            live: message.live,
        }
    }
}

impl From<&Report> for v1::Report {
    fn from(report: &Report) -> Self {
        Self {
            full: report.full,
            generation: report.generation,
            applications: report.applications.iter().map(Into::into).collect(),
            removed_applications: report
                .removed_applications
                .iter()
                .map(ToString::to_string)
                .collect(),
            objects: report.objects.iter().map(Into::into).collect(),
            removed_objects: report.removed_objects.iter().map(Into::into).collect(),
            digest: digest_bytes(report.digest),
        }
    }
}

impl TryFrom<v1::Report> for Report {
    type Error = InvalidMessage;

    fn try_from(message: v1::Report) -> Result<Self, InvalidMessage> {
        let removed = message
            .removed_applications
            .iter()
            .map(|name| parse("removed_applications", name));
        Ok(Self {
            full: message.full,
            generation: message.generation,
            applications: convert(message.applications)?,
            removed_applications: removed.collect::<Result<_, _>>()?,
            objects: convert(message.objects)?,
            removed_objects: convert(message.removed_objects)?,
            digest: digest("digest", &message.digest)?,
        })
    }
}

fn convert<M, V: TryFrom<M, Error = InvalidMessage>>(
    messages: Vec<M>,
) -> Result<Vec<V>, InvalidMessage> {
    messages.into_iter().map(V::try_from).collect()
}

fn parse<V: std::str::FromStr<Err: std::fmt::Display>>(
    field: &'static str,
    text: &str,
) -> Result<V, InvalidMessage> {
    text.parse()
        .map_err(|error| InvalidMessage::new(field, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, DriftKind, HealthStatus, SyncStatus};

    #[test]
    fn a_report_reads_back() {
        let report = Report {
            full: false,
            generation: 7,
            applications: vec![ApplicationStatus {
                application: "shop".parse().unwrap(),
                digest: Digest::of(["d"]),
                revision: "abc".into(),
                sync: SyncStatus::Drifted,
                health: HealthStatus::InProgress,
                message: "m".into(),
                objects: 3,
                synced: 2,
                healthy: 1,
                waiting: 4,
                unapproved: 3,
                since: Timestamp(5),
            }],
            removed_applications: vec!["old".parse().unwrap()],
            objects: vec![ObjectStatus {
                key: ObjectKey {
                    group: "apps".into(),
                    kind: "Deployment".into(),
                    namespace: "n".into(),
                    name: "web".into(),
                },
                application: "shop".parse().unwrap(),
                sync: SyncStatus::Synced,
                health: HealthStatus::Current,
                message: String::new(),
                since: Timestamp(6),
                last_drift: Some(Drift {
                    kind: DriftKind::Changed,
                    fields: vec![".spec.replicas".into()],
                    manager: "kubectl-edit".into(),
                    at: Timestamp(1),
                    repaired_at: None,
                    count: 2,
                    changes: vec![FieldChange {
                        path: ".spec.replicas".into(),
                        desired: Some("2".into()),
                        live: None,
                    }],
                }),
            }],
            removed_objects: Vec::new(),
            digest: Digest::of(["r"]),
        };
        assert_eq!(Report::try_from(v1::Report::from(&report)), Ok(report));
    }

    #[test]
    fn an_unknown_word_is_refused_with_its_field() {
        let row = v1::ApplicationStatus {
            application: "shop".into(),
            digest: digest_bytes(Digest::ZERO),
            sync: "Fine".into(),
            ..Default::default()
        };
        let error = ApplicationStatus::try_from(row).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid message: sync: \"Fine\" is no known status"
        );
    }
}
