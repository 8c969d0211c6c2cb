//! Would the API server take objects that nobody has merged? Each is tried by a dry run of the very body that an apply
//! would send, as who would send it.
//!
//! In: a question of a bounded size, with what the same plan makes before. Out: how many are taken, and of the others
//! why they are not, without any value of a Secret. Nothing is written.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{FutureExt as _, StreamExt as _};
use kube::Client;
use kube::core::DynamicObject;
use muster_proto::wire::v1;
use muster_proto::{
    Adoption, ApplicationName, Desired, DesiredApplication, Object, ObjectKey, Removals, Settings,
    shortened,
};
use tokio::time::Instant;

use super::CONCURRENCY;
use crate::apply::{self, Failure, Order, Outcome, Preview};
use crate::desired::resolved::{self, Resolved, Unplaced};
use crate::desired::wanted::Wanted;
use crate::discovery::{self, Catalogue};
use crate::live::{self, Sight};
use crate::marks::Applying;
use crate::{graph, plan};

/// Objects of one question.
const MOST: usize = 2000;
/// Bytes of all objects of one question: one object may have 3 MiB for the API server.
const LARGEST: usize = 4 << 20;
/// Characters of what is said of one object.
const LONGEST: usize = 1024;

/// What is to be tried, read.
struct Question {
    /// The objects, as a desired state of their own.
    desired: Desired,
    coming: Coming,
}

/// What the same plan makes or changes on this cluster.
struct Coming {
    namespaces: BTreeSet<String>,
    kinds: BTreeSet<(String, String)>,
    /// Who may do what.
    rights: bool,
}

/// Why an object is not taken.
#[derive(Debug, PartialEq)]
enum Untaken {
    /// An apply would fail.
    Refused(String),
    /// It depends on what is not there yet.
    NotTried(String),
    /// Nobody could find out.
    Unknown(String),
}

/// Answers with what is known at the deadline.
pub(super) async fn answer(
    client: Client,
    id: u64,
    asked: v1::DryRun,
    deadline: Instant,
) -> v1::Answer {
    let mut answer = v1::Answer {
        id,
        ..v1::Answer::default()
    };
    let Question { desired, coming } = match read(asked) {
        Ok(question) => question,
        Err(error) => return v1::Answer { error, ..answer },
    };
    let mut left = desired.applications[0].objects().len();
    let places = tokio::time::timeout_at(deadline, Places::of(&client, &desired)).await;
    if let Ok(places) = places {
        for unplaced in &places.resolved.unplaced {
            left -= 1;
            let untaken = places.nowhere(unplaced, &coming);
            answer.tried.push(told(&unplaced.key, untaken));
        }
        let tried = places.resolved.wanted.into_iter().map(|(key, wanted)| {
            let tried = one(client.clone(), key.clone(), wanted, &places.absent, &coming);
            tried.map(move |tried| (key, tried))
        });
        let mut tried = futures::stream::iter(tried).buffer_unordered(CONCURRENCY);
        while let Ok(Some((key, tried))) = tokio::time::timeout_at(deadline, tried.next()).await {
            left -= 1;
            match tried {
                Ok(()) => answer.taken += 1,
                Err(untaken) => answer.tried.push(told(&key, untaken)),
            }
        }
    }
    answer.left_out = u32::try_from(left).unwrap_or(u32::MAX);
    answer
}

fn read(asked: v1::DryRun) -> Result<Question, String> {
    let bytes: usize = asked.objects.iter().map(|object| object.body.len()).sum();
    if asked.objects.len() > MOST || bytes > LARGEST {
        return Err(format!(
            "{} objects of {bytes} bytes are asked about at once: an agent tries at most {MOST} of {LARGEST} bytes",
            asked.objects.len()
        ));
    }
    let application: ApplicationName = asked
        .application
        .parse()
        .map_err(|error| format!("the question can't be read: {error}"))?;
    let unread = |error: muster_proto::wire::InvalidMessage| error.to_string();
    let settings = asked.settings.unwrap_or_default();
    let settings = Settings::try_from(&settings).map_err(unread)?;
    let objects = asked.objects.into_iter();
    let objects = objects.map(|object| Object::try_from(object).map(Arc::new));
    let objects = objects.collect::<Result<Vec<_>, _>>().map_err(unread)?;
    let application = DesiredApplication::new(application, String::new(), settings, objects);
    let kinds = asked.kinds.into_iter();
    Ok(Question {
        desired: Desired::new(
            1,
            vec![Arc::new(application)],
            Removals::Released,
            Vec::new(),
        ),
        coming: Coming {
            namespaces: asked.namespaces.into_iter().collect(),
            kinds: kinds.map(|kind| (kind.group, kind.kind)).collect(),
            rights: asked.rights,
        },
    })
}

/// The objects in their places.
struct Places {
    resolved: Resolved,
    /// API versions of which the kinds could not be read.
    unread: BTreeSet<String>,
    /// Namespaces that are not there.
    absent: BTreeSet<String>,
}

impl Places {
    async fn of(client: &Client, desired: &Desired) -> Self {
        let objects = desired.applications[0].objects().iter();
        let versions = objects.map(|object| object.api_version.as_str());
        let versions: BTreeSet<&str> = versions.chain(["v1"]).collect();
        let (mut catalogue, mut unread) = (Catalogue::default(), BTreeSet::new());
        for version in versions {
            match discovery::ask(client, version).await {
                Ok(kinds) => _ = catalogue.learn(version, kinds),
                Err(_) => _ = unread.insert(version.to_owned()),
            }
        }
        let resolved = resolved::resolve(desired, &catalogue, |_| None, &Resolved::default());
        let namespaces = resolved.wanted.keys().map(|key| &key.namespace);
        let namespaces: BTreeSet<&String> = namespaces.filter(|name| !name.is_empty()).collect();
        let mut absent = BTreeSet::new();
        for name in namespaces {
            let Some(kind) = catalogue.kind("v1", "Namespace") else {
                break;
            };
            let found = apply::get_whole(client, kind, &graph::namespace_key(name)).await;
            // Where that can't be read, each object is told so by itself.
            if let Ok(None) = found {
                absent.insert(name.clone());
            }
        }
        Self {
            resolved,
            unread,
            absent,
        }
    }

    /// Of an object of a kind that the cluster does not serve, or without a namespace.
    fn nowhere(&self, unplaced: &Unplaced, coming: &Coming) -> Untaken {
        let kind = (unplaced.key.group.clone(), unplaced.key.kind.clone());
        let defined = self.resolved.definitions.contains_key(&kind);
        if defined || coming.kinds.contains(&kind) {
            return Untaken::NotTried(
                "its CustomResourceDefinition is made or changed by this plan".into(),
            );
        }
        match self.unread.contains(&unplaced.api_version) {
            true => Untaken::Unknown(format!(
                "the kinds of {} can't be read",
                unplaced.api_version
            )),
            false => Untaken::Refused(unplaced.why.clone()),
        }
    }
}

async fn one(
    client: Client,
    key: Arc<ObjectKey>,
    wanted: Wanted,
    absent: &BTreeSet<String>,
    coming: &Coming,
) -> Result<(), Untaken> {
    match &wanted.applying {
        Applying::Disabled => return Ok(()),
        Applying::Unclear(why) => return Err(Untaken::Refused(why.clone())),
        Applying::Always | Applying::CreateOnly => {}
    }
    if absent.contains(&key.namespace) {
        let name = &key.namespace;
        return Err(Untaken::NotTried(match coming.namespaces.contains(name) {
            true => format!("its Namespace {name} is created by this plan"),
            false => format!("its namespace {name} is not there: an apply makes it"),
        }));
    }
    let order = Order::new(client, key.clone(), &wanted, &Sight::Unknown, false);
    let preview = apply::preview(&order).await;
    let Preview { live, outcome, .. } = preview.map_err(|failure| unsure(&failure))?;
    if let Some(live) = live {
        // The error could quote what is there.
        let live: DynamicObject = serde_json::from_value(live)
            .map_err(|_| Untaken::Unknown("what is there can't be read".into()))?;
        let seen = live::look(&live, &wanted.kind, None);
        if wanted.applying == Applying::CreateOnly || seen.applying != Applying::Always {
            // It is left as it is.
            return Ok(());
        }
        if seen.ours.is_none() {
            // Which application it belongs to, the plan has settled.
            if let Some(why) = plan::conflict(&wanted, &seen, true) {
                return Err(Untaken::Refused(why));
            }
            if wanted.settings.adoption == Adoption::IfEqual {
                let differs = apply::compare_with(&order).await;
                let differs = differs.map_err(|failure| unsure(&failure))?;
                let differs = differs.unwrap_or_default();
                if !differs.is_empty() {
                    return Err(Untaken::Refused(apply::not_equal(&differs)));
                }
            }
        }
    }
    match outcome {
        Outcome::Applied(_) | Outcome::Replaced => Ok(()),
        Outcome::Refused(failure) => Err(refused(&key, &wanted, &failure, coming)),
    }
}

/// The API server did not say.
fn unsure(failure: &Failure) -> Untaken {
    Untaken::Unknown(failure.message.clone())
}

/// The API server refused it as things stand, which the plan may change.
fn refused(key: &ObjectKey, wanted: &Wanted, failure: &Failure, coming: &Coming) -> Untaken {
    let said = &failure.message;
    let kind = (key.group.clone(), key.kind.clone());
    if failure.code == 400 && said.contains("does not support dry run") {
        return Untaken::Unknown(said.clone());
    }
    if coming.kinds.contains(&kind) {
        return Untaken::NotTried(format!(
            "its CustomResourceDefinition is made or changed by this plan; as it is now: {said}"
        ));
    }
    let impersonates = !wanted.settings.service_account.is_empty();
    // Admission says 403 too, and in other words.
    let is_unauthorized = failure.code == 403 && said.contains(" is forbidden: User ");
    if impersonates && coming.rights && is_unauthorized {
        return Untaken::NotTried(format!(
            "who may do what is changed by this plan; as it is now: {said}"
        ));
    }
    Untaken::Refused(said.clone())
}

fn told(key: &ObjectKey, untaken: Untaken) -> v1::Tried {
    let (outcome, message) = match untaken {
        Untaken::Refused(why) => ("refused", why),
        Untaken::NotTried(why) => ("not-tried", why),
        Untaken::Unknown(why) => ("unknown", why),
    };
    v1::Tried {
        object: Some(key.into()),
        outcome: outcome.into(),
        message: shortened(message, LONGEST),
    }
}

#[cfg(test)]
mod tests;
