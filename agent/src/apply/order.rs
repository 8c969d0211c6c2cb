//! Applies one object with all that goes before and after: takes fields over, leaves fields to others, replaces what
//! can't be changed. Async, without any state.
//!
//! A new object, and one that is only ours, is one call. What is there already and held by others too is looked at
//! first.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt as _;
use kube::core::{DynamicObject, ObjectMeta};
use muster_proto::{Adoption, ObjectKey};
use serde_json::{Value, json};

use super::{Error, Failure, Writer, compare, failure, replace, versions};
use crate::desired::wanted::Wanted;
use crate::live::Sight;
use crate::takeover::{self, Whose};
use crate::{body, drift, ignore};

/// What is to be applied, and how.
pub(crate) struct Order {
    /// Who does it.
    pub(crate) writer: Writer,
    /// Who it is here.
    pub(crate) key: Arc<ObjectKey>,
    /// As Git wants it.
    pub(crate) wanted: Wanted,
    /// Git does not state its namespace: it is created when it is absent.
    pub(crate) make_namespace: bool,
    /// It is there, and others hold fields of it.
    pub(crate) shared: bool,
    /// It is there, and nothing in it was applied by us.
    pub(crate) strange: bool,
    /// Its resourceVersion, when Git states its replicas: an autoscaler may write them while this is on its way.
    pub(crate) seen: Option<String>,
}

/// How often an apply gives way to another write before it is a failure.
const RACES: usize = 5;

/// How often fields are taken over in one go: a kind is served in a few versions. What is left is taken the next time.
const ROUNDS: usize = 8;

/// A body, and the resourceVersion that an object must have for it.
struct Fitted {
    body: Vec<u8>,
    version: Option<String>,
}

impl Order {
    /// What to do about an object, by what was seen of it.
    pub(crate) fn new(
        client: kube::Client,
        key: Arc<ObjectKey>,
        wanted: &Wanted,
        sight: &Sight,
        make_namespace: bool,
    ) -> Self {
        let live = sight.object();
        let strange = live.is_some_and(|live| live.ours.is_none());
        let shared = live.is_some_and(|live| live.take_over || live.left.is_some());
        let equal = strange && wanted.settings.adoption == Adoption::IfEqual;
        Self {
            writer: Writer {
                client,
                service_account: wanted.settings.service_account.clone(),
            },
            key,
            wanted: wanted.clone(),
            make_namespace,
            seen: live
                .filter(|live| wanted.replicas && live.resource_version > 0)
                .map(|live| live.resource_version.to_string()),
            shared: shared || equal || live.is_some() && wanted.ignore.is_some(),
            strange,
        }
    }
}

/// Applies it, and returns it as it is then.
pub(crate) async fn apply(order: &Order) -> Result<DynamicObject, Failure> {
    let (wanted, key) = (&order.wanted, &*order.key);
    let stated = body::of(&wanted.object, key, &wanted.application).bytes;
    let mut fitted = if order.shared {
        fit(order, &stated).await?
    } else {
        let version = order.seen.clone();
        Fitted {
            body: stated.clone(),
            version,
        }
    };
    let mut applied = send(order, &stated, &mut fitted).await?;
    // What was there before without any managedFields is held by nobody we know, from our first apply on. What is held
    // in other versions takes one more round each.
    let whose = Whose::of(wanted, !order.strange);
    for _ in 0..ROUNDS {
        let Some(version) = take_over(order, &applied.metadata, whose).await? else {
            break;
        };
        fitted.version = Some(version).filter(|_| wanted.replicas);
        applied = send(order, &stated, &mut fitted).await?;
    }
    Ok(applied)
}

/// Fields that applying it would change; `None` when it is not there.
pub(crate) async fn compare(order: &Order) -> Result<Option<Vec<String>>, Failure> {
    let (wanted, key) = (&order.wanted, &*order.key);
    let Some(live) = super::get_whole(&order.writer.client, &wanted.kind, key).await? else {
        return Ok(None);
    };
    let sent = body::of(&wanted.object, key, &wanted.application).bytes;
    let body: Value = serde_json::from_slice(&sent).expect("we wrote it");
    let body = ignore::fit(body, &live, wanted.ignore.as_deref());
    let sent = muster_proto::object::canonical(&body);
    let differs = compare::compare(&order.writer, &wanted.kind, key, &sent, &live).await?;
    Ok(Some(differs))
}

/// Why an object that is there and differs is not adopted.
pub(crate) fn not_equal(differs: &[String]) -> String {
    let differs = compare::shown(differs);
    format!("it exists already and differs in {differs} (adoption: if-equal)")
}

/// Applies what is fit for the object as it was seen. When somebody wrote it since, it is made fit for that.
async fn send(order: &Order, stated: &[u8], fitted: &mut Fitted) -> Result<DynamicObject, Failure> {
    let (writer, kind, key) = (&order.writer, &order.wanted.kind, &*order.key);
    let mut races = 0;
    loop {
        let body = onto(fitted);
        match super::apply(writer, kind, key, &body, order.make_namespace).await {
            Ok(applied) => return Ok(applied),
            Err(Error::Api(status)) if status.code == 422 => {
                return replace::replace(order, stated, &status).await;
            }
            Err(Error::Api(status))
                if status.code == 409 && fitted.version.is_some() && races < RACES =>
            {
                races += 1;
                *fitted = fit(order, stated).await?;
            }
            Err(error) => return Err(failure(key, &error)),
        }
    }
}

/// The body, to be refused by an object of any other version.
fn onto(fitted: &Fitted) -> Cow<'_, [u8]> {
    let Some(version) = &fitted.version else {
        return Cow::Borrowed(&fitted.body);
    };
    let mut body: Value = serde_json::from_slice(&fitted.body).expect("we wrote it");
    body["metadata"]["resourceVersion"] = json!(version);
    Cow::Owned(muster_proto::object::canonical(&body))
}

/// The body fit for what is there; of an object that is not ours yet, fields of others are taken over on the way.
async fn fit(order: &Order, stated: &[u8]) -> Result<Fitted, Failure> {
    let (wanted, key) = (&order.wanted, &*order.key);
    let Some(live) = super::get_whole(&order.writer.client, &wanted.kind, key).await? else {
        return Ok(Fitted {
            body: stated.to_vec(),
            version: None,
        });
    };
    let body: Value = serde_json::from_slice(stated).expect("we wrote it");
    let body = ignore::fit(body, &live, wanted.ignore.as_deref());
    let sent = muster_proto::object::canonical(&body);
    if order.strange && wanted.settings.adoption == Adoption::IfEqual {
        let differs = compare::compare(&order.writer, &wanted.kind, key, &sent, &live).await?;
        if !differs.is_empty() {
            return Err(Failure {
                message: not_equal(&differs),
                ..Failure::default()
            });
        }
    }
    // What is ours already gets its values first: with a field that somebody changed back in our entry, and no apply
    // after it, our entry would look as it should while the value is not ours.
    let metadata = live.get("metadata").cloned().unwrap_or_default();
    let metadata: ObjectMeta = serde_json::from_value(metadata).unwrap_or_default();
    // In a second try our entry may hold what was taken in the first: it is not given up for that of another version.
    let managed = metadata.managed_fields.as_deref().unwrap_or_default();
    let taken = match order.strange && drift::our_entry(managed).is_none() {
        true => take_over(order, &metadata, Whose::of(wanted, false)).await?,
        false => None,
    };
    let version = taken.or(metadata.resource_version);
    Ok(Fitted {
        body: sent,
        version: version.filter(|_| wanted.replicas),
    })
}

/// Puts fields of others into our entry, with one patch that holds for this very state of the object; returns its
/// resourceVersion then, `None` when there is nothing to take.
async fn take_over(
    order: &Order,
    metadata: &ObjectMeta,
    whose: Whose<'_>,
) -> Result<Option<String>, Failure> {
    let managed: &[ManagedFieldsEntry] = metadata.managed_fields.as_deref().unwrap_or_default();
    let kind = &order.wanted.kind;
    let version = &kind.resource.api_version;
    let managed = versions::known(order, managed, whose).await?;
    let Some(taken) = takeover::taken_over(&managed, version, whose) else {
        return Ok(None);
    };
    let mut patch = vec![
        json!({"op": "replace", "path": "/metadata/resourceVersion", "value": metadata.resource_version}),
        json!({"op": "replace", "path": "/metadata/managedFields", "value": taken}),
    ];
    let annotations = metadata.annotations.as_ref();
    if annotations.is_some_and(|annotations| annotations.contains_key(takeover::LAST_APPLIED)) {
        let name = takeover::LAST_APPLIED.replace('/', "~1");
        patch.push(json!({"op": "remove", "path": format!("/metadata/annotations/{name}")}));
    }
    let body = serde_json::to_vec(&patch).expect("plain data can be written");
    let patched = super::patch(&order.writer, kind, &order.key, body).await?;
    tracing::info!(object = %order.key, "took over the fields that others had applied");
    let same = patched.uid() == metadata.uid;
    Ok(patched.metadata.resource_version.filter(|_| same))
}
