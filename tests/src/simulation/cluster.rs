//! Hands in the cluster: what people and other controllers do there, and a look at what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use kube::Client;
use muster_proto::{Desired, Object};
use serde_json::{Value, json};

use super::chance::Chance;
use super::tree::OBJECTS;
use super::{NAMESPACE, agent};

const PERSON: &str = "kubectl-edit";
const CONTROLLER: &str = "some-controller";
const LABEL: &str = "muster.dev/application";
const STRANGER: &str = "stranger";

/// Whether a call is ours, not the agent's.
pub(super) fn is_hand(manager: &str) -> bool {
    [PERSON, CONTROLLER].contains(&manager)
}

/// The hands, and what they left behind.
pub(super) struct Hands {
    client: Client,
    /// Uids of objects that hold a field of another controller.
    marked: BTreeSet<String>,
}

impl Hands {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            marked: BTreeSet::new(),
        }
    }

    /// What is there before: the agent's namespace, and an object of others that looks like ours, for its label was
    /// copied. Gives the cluster's UID.
    pub(super) async fn make_stranger(&self) -> Result<String> {
        for name in [NAMESPACE, agent::NAMESPACE] {
            let namespace = json!({"metadata": {"name": name}});
            self.call("POST", "/api/v1/namespaces", CONTROLLER, &namespace)
                .await?;
        }
        let stranger = json!({"metadata": {"name": STRANGER, "labels": {LABEL: "front"}}});
        self.call("POST", &folder("configmaps"), CONTROLLER, &stranger)
            .await?;
        let system = "/api/v1/namespaces/kube-system";
        let system = self.call("GET", system, PERSON, &Value::Null).await?;
        let system = system.context("a cluster has this namespace")?;
        let uid = system["metadata"]["uid"].as_str();
        Ok(uid.unwrap_or_default().to_owned())
    }

    /// Somebody does something; what.
    pub(super) async fn edit(&mut self, chance: &mut Chance) -> Result<String> {
        let number = chance.below(OBJECTS);
        let place = place(number);
        let deed = chance.below(8);
        let Some(object) = self.call("GET", &place, PERSON, &Value::Null).await? else {
            return Ok(format!("o{number} is not there to be changed"));
        };
        let data = match number + 1 == OBJECTS {
            true => json!({"value": "Ynk="}),
            false => json!({"value": "by hand"}),
        };
        let (what, method, by, body) = match deed {
            0..3 => ("value", "PATCH", PERSON, json!({"data": data})),
            3 => {
                let none = json!({"data": {"value": null}});
                ("value removed", "PATCH", PERSON, none)
            }
            4..6 => {
                let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
                self.marked.insert(uid.to_owned());
                let field = json!({"metadata": {"annotations": {"example.com/other": "kept"}}});
                ("a field of others", "PATCH", CONTROLLER, field)
            }
            6 => {
                let label = json!({"metadata": {"labels": {LABEL: null}}});
                ("label removed", "PATCH", PERSON, label)
            }
            _ => ("deleted", "DELETE", PERSON, json!({})),
        };
        self.call(method, &place, by, &body).await?;
        Ok(format!("o{number}: {what}"))
    }

    /// A person takes the label off what was left when the cluster was let go, where another application has it now: the
    /// agent says of it that it belongs to the one before.
    pub(super) async fn take_marks_off(
        &self,
        wanted: &Contents,
        left: &BTreeSet<String>,
    ) -> Result<()> {
        for (name, object) in self.all().await? {
            let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
            let mark = object["metadata"]["labels"][LABEL].as_str();
            let moved = |(application, _): &(String, _)| mark.is_some_and(|it| it != application);
            if left.contains(uid) && wanted.get(&name).is_some_and(moved) {
                let place = format!("{}/{name}", folder(plural(&object)));
                let label = json!({"metadata": {"labels": {LABEL: null}}});
                self.call("PATCH", &place, PERSON, &label).await?;
            }
        }
        Ok(())
    }

    /// What others have stays as they left it.
    pub(super) async fn check(&self) -> Result<()> {
        let stranger = format!("{}/{STRANGER}", folder("configmaps"));
        let stranger = self.call("GET", &stranger, PERSON, &Value::Null).await?;
        stranger.context("invariant 11: an object of others was deleted")?;
        for object in self.all().await?.into_values() {
            let metadata = &object["metadata"];
            let uid = metadata["uid"].as_str().unwrap_or_default();
            ensure!(
                !self.marked.contains(uid)
                    || metadata["annotations"]["example.com/other"] == "kept",
                "invariant 11: a field of others is gone from {metadata}"
            );
        }
        Ok(())
    }

    /// Whether the cluster is as this state says.
    pub(super) async fn holds_state(
        &self,
        desired: &Desired,
        abandoned: &BTreeSet<String>,
    ) -> Result<()> {
        let released = desired.removals == muster_proto::Removals::Released;
        self.compare(&contents(desired), abandoned, released).await
    }

    /// Whether the cluster has all of this, and nothing beside it but what was abandoned: objects by UID.
    pub(super) async fn holds(
        &self,
        wanted: &Contents,
        abandoned: &BTreeSet<String>,
    ) -> Result<()> {
        self.compare(wanted, abandoned, true).await
    }

    async fn compare(
        &self,
        wanted: &Contents,
        abandoned: &BTreeSet<String>,
        released: bool,
    ) -> Result<()> {
        let mut found = BTreeMap::new();
        for (name, object) in self.all().await? {
            let label = object["metadata"]["labels"][LABEL].as_str();
            let application = label.unwrap_or_default().to_owned();
            let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
            // What waits for its removal is there, and not looked at.
            let left_alone = !released || name == STRANGER || abandoned.contains(uid);
            if wanted.contains_key(&name) || !left_alone {
                found.insert(name, (application, text_of(&object)));
            }
        }
        ensure!(found == *wanted, "there is {found:?}, wanted {wanted:?}");
        Ok(())
    }

    /// The UID of each object.
    pub(super) async fn uids(&self) -> Result<BTreeMap<String, String>> {
        let all = self.all().await?.into_iter();
        let uid = |object: Value| {
            object["metadata"]["uid"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        Ok(all.map(|(name, object)| (name, uid(object))).collect())
    }

    async fn all(&self) -> Result<BTreeMap<String, Value>> {
        let mut all = BTreeMap::new();
        for (kind, plural) in [("ConfigMap", "configmaps"), ("Secret", "secrets")] {
            let path = folder(plural);
            let list = self.call("GET", &path, PERSON, &Value::Null).await?;
            let list = list.unwrap_or_default();
            for item in list["items"].as_array().into_iter().flatten() {
                let name = item["metadata"]["name"].as_str().unwrap_or_default();
                let mut object = item.clone();
                object["kind"] = kind.into();
                all.insert(name.to_owned(), object);
            }
        }
        Ok(all)
    }

    /// The answer; `None` when there is no such object.
    async fn call(
        &self,
        method: &str,
        path: &str,
        by: &str,
        body: &Value,
    ) -> Result<Option<Value>> {
        let bytes = if body.is_null() {
            Vec::new()
        } else {
            serde_json::to_vec(body)?
        };
        let media = if method == "PATCH" {
            "application/merge-patch+json"
        } else {
            "application/json"
        };
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{path}?fieldManager={by}"))
            .header(http::header::CONTENT_TYPE, media)
            .body(bytes)?;
        match self.client.request::<Value>(request).await {
            Ok(value) => Ok(Some(value)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// What a state has: object name to application and value.
pub(super) type Contents = BTreeMap<String, (String, String)>;

/// The contents of a state.
pub(super) fn contents(desired: &Desired) -> Contents {
    let applications = desired.applications.iter();
    let objects = applications.flat_map(|application| {
        let of = move |object: &Arc<Object>| {
            let body: Value = serde_json::from_slice(&object.body).unwrap_or_default();
            let value = (application.name.to_string(), text_of(&body));
            (object.key.name.clone(), value)
        };
        application.objects().iter().map(of)
    });
    objects.collect()
}

/// Whether anything in it was applied by the agent: without, it is nobody's to remove.
pub(super) fn is_ours(object: &Value) -> bool {
    let entries = object["metadata"]["managedFields"].as_array();
    let ours = |entry: &Value| entry["manager"] == "muster" && entry["operation"] == "Apply";
    entries.into_iter().flatten().any(ours)
}

fn folder(plural: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/{plural}")
}

fn plural(object: &Value) -> &'static str {
    match object["kind"] == "Secret" {
        true => "secrets",
        false => "configmaps",
    }
}

fn place(number: u64) -> String {
    let plural = if number + 1 == OBJECTS {
        "secrets"
    } else {
        "configmaps"
    };
    format!("{}/o{number}", folder(plural))
}

/// The value, in plain: Git has it so, and the API server has that of a Secret in Base64.
fn text_of(object: &Value) -> String {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    let plain = object["stringData"]["value"].as_str();
    let value = plain
        .or(object["data"]["value"].as_str())
        .unwrap_or_default();
    let encoded = plain.is_none() && object["kind"] == "Secret";
    let decoded = encoded
        .then(|| BASE64_STANDARD.decode(value).ok())
        .flatten();
    match decoded {
        Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        None => value.to_owned(),
    }
}
