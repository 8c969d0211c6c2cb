//! A desired state over the wire: only what the agent lacks.
//!
//! Hub: [`begin`] names everything and [`object_frames`] carries bodies. Agent: [`assemble`] puts the state together
//! from what it received and what it held.

use std::sync::Arc;

use bytes::Bytes;

use super::v1;
use super::{InvalidMessage, digest, digest_bytes};
use crate::{
    Additions, Adoption, ApplicationName, Approval, Content, Desired, DesiredApplication, Digest,
    HealthRule, Object, Pause, PruneBudget, Removals, Settings, Timestamp,
};

/// Objects are gathered into frames of about this size: far below gRPC's 4 MiB, so that a newer state soon gets its
/// turn. A single larger object is a frame of its own.
pub const OBJECTS_FRAME_BYTES: usize = 256 * 1024;

/// Announces a desired state. `held` says which application digests the agent has whole.
pub fn begin(desired: &Desired, held: impl Fn(&DesiredApplication) -> bool) -> v1::Begin {
    v1::Begin {
        generation: desired.generation,
        applications: desired
            .applications
            .iter()
            .map(|application| announce(application, held(application)))
            .collect(),
        removals_held: match &desired.removals {
            Removals::Released => String::new(),
            Removals::Held(why) => why.clone(),
        },
        approvals: desired
            .approvals
            .iter()
            .map(|approval| v1::Approval {
                application: approval.application.to_string(),
                digest: digest_bytes(approval.digest),
            })
            .collect(),
        pauses: desired.pauses.iter().map(Into::into).collect(),
    }
}

fn announce(application: &DesiredApplication, held: bool) -> v1::DesiredApplication {
    let mut message = v1::DesiredApplication {
        name: application.name.to_string(),
        digest: digest_bytes(application.digest()),
        revision: application.revision.clone(),
        held,
        ..Default::default()
    };
    match &application.content {
        Content::Keep(why) => message.keep = why.clone(),
        Content::Objects { .. } if held => {}
        Content::Objects { settings, objects } => {
            message.settings = Some(settings.into());
            message.objects = objects
                .iter()
                .map(|object| digest_bytes(object.digest))
                .collect();
        }
    }
    message
}

/// Bodies in frames of about [`OBJECTS_FRAME_BYTES`].
pub fn object_frames<'a>(
    objects: impl IntoIterator<Item = &'a Arc<Object>>,
) -> impl Iterator<Item = v1::Objects> {
    let mut rest = objects.into_iter().peekable();
    std::iter::from_fn(move || {
        rest.peek()?;
        let (mut frame, mut size) = (Vec::new(), 0);
        while let Some(object) =
            rest.next_if(|next| frame.is_empty() || size + next.body.len() <= OBJECTS_FRAME_BYTES)
        {
            size += object.body.len();
            frame.push(v1::Object {
                digest: digest_bytes(object.digest),
                body: object.body.clone(),
            });
        }
        Some(v1::Objects { objects: frame })
    })
}

/// Why an announced state can't be put together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Incomplete {
    /// The announcement breaks its contract.
    #[error(transparent)]
    Invalid(#[from] InvalidMessage),
    /// The hub believes that the agent holds something it does not: ask again from nothing.
    #[error("{0} was announced as held or sent, but is not here")]
    Lacking(String),
    /// The parts are there and add up to something else.
    #[error("the parts of application {0} do not add up to its digest")]
    Mismatch(ApplicationName),
}

/// Puts the announced state together. `application` finds a held one by name and digest, `object` a held or received
/// body by digest.
///
/// # Errors
/// When a part is missing or the parts don't add up.
pub fn assemble(
    begin: &v1::Begin,
    application: impl Fn(&ApplicationName, Digest) -> Option<Arc<DesiredApplication>>,
    object: impl Fn(Digest) -> Option<Arc<Object>>,
) -> Result<Desired, Incomplete> {
    let mut applications = Vec::with_capacity(begin.applications.len());
    for message in &begin.applications {
        let name: ApplicationName = message
            .name
            .parse()
            .map_err(|error| InvalidMessage::new("applications.name", error))?;
        let announced = digest("applications.digest", &message.digest)?;
        let assembled = if !message.keep.is_empty() {
            DesiredApplication::keep(name, message.revision.clone(), message.keep.clone())
        } else if message.held {
            let held = application(&name, announced)
                .ok_or_else(|| Incomplete::Lacking(format!("application {name}")))?;
            let mut application = (*held).clone();
            application.revision = message.revision.clone();
            application
        } else {
            let settings = message
                .settings
                .as_ref()
                .ok_or_else(|| InvalidMessage::new("applications.settings", "missing"))?
                .try_into()?;
            let objects = message.objects.iter().map(|bytes| {
                let digest = digest("applications.objects", bytes)?;
                object(digest)
                    .ok_or_else(|| Incomplete::Lacking(format!("object {}", digest.short())))
            });
            let objects = objects.collect::<Result<_, Incomplete>>()?;
            DesiredApplication::new(name, message.revision.clone(), settings, objects)
        };
        if assembled.digest() != announced {
            return Err(Incomplete::Mismatch(assembled.name));
        }
        applications.push(Arc::new(assembled));
    }
    let removals = match begin.removals_held.as_str() {
        "" => Removals::Released,
        why => Removals::Held(why.to_owned()),
    };
    let approvals = begin.approvals.iter().map(Approval::try_from);
    let approvals = approvals.collect::<Result<_, InvalidMessage>>()?;
    let pauses = begin.pauses.iter().map(Pause::try_from);
    let pauses = pauses.collect::<Result<_, InvalidMessage>>()?;
    let desired = Desired::new(begin.generation, applications, removals, approvals);
    Ok(desired.with_pauses(pauses))
}

impl From<&Pause> for v1::Pause {
    fn from(pause: &Pause) -> Self {
        Self {
            application: pause.application.to_string(),
            until_ms: pause.until.0,
            since_ms: pause.since.0,
            by: pause.by.clone(),
            reason: pause.reason.clone(),
        }
    }
}

impl TryFrom<&v1::Pause> for Pause {
    type Error = InvalidMessage;

    fn try_from(message: &v1::Pause) -> Result<Self, InvalidMessage> {
        Ok(Self {
            application: message
                .application
                .parse()
                .map_err(|error| InvalidMessage::new("pauses.application", error))?,
            until: Timestamp(message.until_ms),
            since: Timestamp(message.since_ms),
            by: message.by.clone(),
            reason: message.reason.clone(),
        })
    }
}

impl TryFrom<&v1::Approval> for Approval {
    type Error = InvalidMessage;

    fn try_from(message: &v1::Approval) -> Result<Self, InvalidMessage> {
        Ok(Self {
            application: message
                .application
                .parse()
                .map_err(|error| InvalidMessage::new("approvals.application", error))?,
            digest: digest("approvals.digest", &message.digest)?,
        })
    }
}

impl From<&Settings> for v1::ApplicationSettings {
    fn from(settings: &Settings) -> Self {
        Self {
            namespace: settings.namespace.clone(),
            prune: settings.prune,
            self_heal: settings.self_heal,
            depends_on: settings
                .depends_on
                .iter()
                .map(ToString::to_string)
                .collect(),
            service_account: settings.service_account.clone(),
            adoption: match settings.adoption {
                Adoption::Always => "always",
                Adoption::IfEqual => "if-equal",
                Adoption::Never => "never",
            }
            .to_owned(),
            additions: match settings.additions {
                Additions::Repair => "repair",
                Additions::Report => "report",
                Additions::Ignore => "ignore",
            }
            .to_owned(),
            prune_budget: Some(v1::PruneBudget {
                percent: settings.prune_budget.percent.into(),
                objects: settings.prune_budget.objects,
            }),
            health: settings.health.iter().map(Into::into).collect(),
            detect_only: settings.detect_only,
            replace: settings.replace,
            take_over: settings.take_over.clone(),
            ignore: settings.ignore.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<&v1::ApplicationSettings> for Settings {
    type Error = InvalidMessage;

    fn try_from(message: &v1::ApplicationSettings) -> Result<Self, InvalidMessage> {
        let depends_on = message.depends_on.iter().map(|name| {
            name.parse()
                .map_err(|error| InvalidMessage::new("settings.depends_on", error))
        });
        Ok(Self {
            namespace: message.namespace.clone(),
            prune: message.prune,
            self_heal: message.self_heal,
            depends_on: depends_on.collect::<Result<_, _>>()?,
            service_account: message.service_account.clone(),
            adoption: match message.adoption.as_str() {
                "always" => Adoption::Always,
                "if-equal" => Adoption::IfEqual,
                "never" => Adoption::Never,
                other => {
                    return Err(InvalidMessage::new(
                        "settings.adoption",
                        format!("{other:?}"),
                    ));
                }
            },
            additions: match message.additions.as_str() {
                "" | "repair" => Additions::Repair,
                "report" => Additions::Report,
                "ignore" => Additions::Ignore,
                other => {
                    return Err(InvalidMessage::new(
                        "settings.additions",
                        format!("{other:?}"),
                    ));
                }
            },
            prune_budget: match &message.prune_budget {
                None => PruneBudget::default(),
                Some(budget) => PruneBudget {
                    percent: budget.percent.try_into().map_err(|_| {
                        InvalidMessage::new("settings.prune_budget.percent", budget.percent)
                    })?,
                    objects: budget.objects,
                },
            },
            health: message.health.iter().map(Into::into).collect(),
            detect_only: message.detect_only,
            replace: message.replace,
            take_over: message.take_over.clone(),
            ignore: message
                .ignore
                .iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl From<&HealthRule> for v1::HealthRule {
    fn from(rule: &HealthRule) -> Self {
        let text = |expression: &Option<String>| expression.clone().unwrap_or_default();
        Self {
            group: rule.group.clone(),
            kind: rule.kind.clone(),
            current: text(&rule.current),
            in_progress: text(&rule.in_progress),
            failed: text(&rule.failed),
        }
    }
}

impl From<&v1::HealthRule> for HealthRule {
    fn from(message: &v1::HealthRule) -> Self {
        let stated = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        Self {
            group: message.group.clone(),
            kind: message.kind.clone(),
            current: stated(&message.current),
            in_progress: stated(&message.in_progress),
            failed: stated(&message.failed),
        }
    }
}

impl TryFrom<v1::Object> for Object {
    type Error = InvalidMessage;

    fn try_from(message: v1::Object) -> Result<Self, InvalidMessage> {
        let digest = digest("objects.digest", &message.digest)?;
        let body: Bytes = message.body;
        Self::received(digest, body).map_err(|error| InvalidMessage::new("objects.body", error))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::DigestKey;
    use proptest::prelude::*;
    use serde_json::json;

    fn object(name: u8, size: usize) -> Arc<Object> {
        let body = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("o{name}")}, "data": {"k": "x".repeat(size)}});
        Arc::new(Object::new(&body, &DigestKey::new([3; 32])).unwrap())
    }

    fn application(name: u8, objects: Vec<u8>) -> Arc<DesiredApplication> {
        let name = format!("app-{name}").parse().unwrap();
        if objects.is_empty() {
            return Arc::new(DesiredApplication::keep(name, "r".into(), "broken".into()));
        }
        let objects = objects.into_iter().map(|name| object(name, 10)).collect();
        let settings = Settings {
            additions: Additions::Report,
            prune_budget: PruneBudget {
                percent: 5,
                objects: 2,
            },
            health: vec![HealthRule {
                group: "shop.io".into(),
                kind: "Cart".into(),
                current: Some("true".into()),
                in_progress: None,
                failed: None,
            }],
            ..Settings::default()
        };
        Arc::new(DesiredApplication::new(name, "r".into(), settings, objects))
    }

    prop_compose! {
        fn desired()(
            generation in 1u64..100,
            applications in prop::collection::btree_map(0u8..5, prop::collection::btree_set(0u8..9, 0..5), 0..5),
            held in any::<bool>(),
            paused in any::<bool>(),
        ) -> Desired {
            let removals = if held { Removals::Held("why".into()) } else { Removals::Released };
            let applications = applications
                .into_iter()
                .map(|(name, objects)| application(name, objects.into_iter().collect()))
                .collect();
            let pause = Pause {
                application: "app-1".parse().unwrap(),
                until: Timestamp(9),
                since: Timestamp(1),
                by: "anna".into(),
                reason: "looking".into(),
            };
            let pauses = paused.then_some(pause).into_iter().collect();
            Desired::new(generation, applications, removals, Vec::new()).with_pauses(pauses)
        }
    }

    proptest! {
        #[test]
        fn a_state_arrives_as_it_was_sent_whatever_the_agent_held(old in desired(), new in desired()) {
            let has = |application: &DesiredApplication| {
                old.application(application.name.as_str()).is_some_and(|held| held.digest() == application.digest())
            };
            let begin = begin(&new, has);
            let mut received = BTreeMap::new();
            let lacking = new.applications.iter().filter(|application| !has(application));
            for frame in object_frames(lacking.flat_map(|application| application.objects())) {
                for message in frame.objects {
                    let object = Object::try_from(message).unwrap();
                    received.insert(object.digest, Arc::new(object));
                }
            }
            let assembled = assemble(
                &begin,
                |name, digest| old.application(name.as_str()).filter(|held| held.digest() == digest).cloned(),
                |digest| received.get(&digest).cloned(),
            );
            prop_assert_eq!(assembled.as_ref(), Ok(&new));
            prop_assert_eq!(assembled.unwrap().digest(), new.digest());
        }
    }

    #[test]
    fn frames_stay_small_and_a_large_object_stands_alone() {
        let objects = [
            object(1, 10),
            object(2, 300_000),
            object(3, 200_000),
            object(4, 20_000),
        ];
        let sizes: Vec<usize> = object_frames(&objects)
            .map(|frame| frame.objects.len())
            .collect();
        assert_eq!(sizes, [1, 1, 2]);
    }

    #[test]
    fn a_part_that_is_not_here_is_named() {
        let state = Desired::new(
            1,
            vec![application(1, vec![1])],
            Removals::Released,
            Vec::new(),
        );
        let error = assemble(&begin(&state, |_| true), |_, _| None, |_| None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "application app-1 was announced as held or sent, but is not here"
        );
    }
}
