//! Everything one server knows: objects, kinds, the numbers it gives out.
//!
//! In: an injected clock and a seed. Out: times, uids and names that are the same in every run with the same
//! seed and the same requests. Definitions have consequences here: kinds that come and go.

use std::sync::Arc;

use serde_json::{Value, json};

use super::crd;
use super::kinds::{Kind, Kinds};
use super::status::Refusal;
use super::store::{Key, Store};
use super::write::{self, Change, Options, Target};

/// A clock.
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// The state of one server.
pub struct State {
    /// Its objects.
    pub store: Store,
    /// Its kinds.
    pub kinds: Kinds,
    clock: Clock,
    seed: u64,
    number: u64,
}

/// The namespaces that every cluster has.
const NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

impl State {
    /// A fresh cluster with its four namespaces.
    #[must_use]
    pub fn new(clock: Clock, seed: u64) -> Self {
        let mut out = Self {
            store: Store::default(),
            kinds: Kinds::built_in(),
            clock,
            seed,
            number: 0,
        };
        for name in NAMESPACES {
            let target = out.target("", "v1", "namespaces", "", "");
            let body = json!({"metadata": {"name": name}});
            let options = Options {
                manager: "kube-apiserver".to_owned(),
                ..Options::default()
            };
            write::write(&mut out, &target, Change::Create(body), &options)
                .expect("the first namespaces are valid");
        }
        out
    }

    pub(super) fn target(
        &self,
        group: &str,
        version: &str,
        plural: &str,
        name: &str,
        sub: &str,
    ) -> Target {
        Target {
            kind: self
                .kinds
                .at(group, version, plural)
                .expect("a built-in kind"),
            namespace: String::new(),
            name: name.to_owned(),
            subresource: sub.to_owned(),
        }
    }

    /// Now, RFC 3339 in seconds.
    #[must_use]
    pub fn now(&self) -> String {
        (self.clock)().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// A number never given out before.
    pub fn next_number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    /// The uid that belongs to a number.
    #[must_use]
    pub fn uid(&self, number: u64) -> String {
        let high = mixed(self.seed ^ number.rotate_left(32));
        let low = mixed(high ^ number);
        uuid::Builder::from_random_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
            .into_uuid()
            .to_string()
    }

    /// Five letters for `generateName`, from the alphabet the real server uses.
    pub fn suffix(&mut self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let number = self.next_number();
        let mut left = mixed(self.seed.rotate_left(17) ^ number);
        let letter = |_| {
            let index = usize::try_from(left % LETTERS.len() as u64).unwrap_or(0);
            left /= LETTERS.len() as u64;
            char::from(LETTERS[index])
        };
        (0..5).map(letter).collect()
    }

    /// Whether an object may be created there: its namespace and its definition exist and stay.
    pub fn admits(&self, kind: &Kind, namespace: &str, name: &str) -> Result<(), Refusal> {
        if kind.custom.is_some() {
            let definition = format!("{}.{}", kind.plural, kind.group);
            let plural = "customresourcedefinitions";
            let definitions = self
                .target("apiextensions.k8s.io", "v1", plural, "", "")
                .kind;
            let found = self
                .store
                .get(&definitions.store(), &(String::new(), definition));
            if found.is_some_and(|found| is_dying(&found)) {
                let why = "create not allowed while custom resource definition is terminating";
                return Err(Refusal::forbidden(kind, name, why));
            }
        }
        if !kind.namespaced {
            return Ok(());
        }
        let namespaces = self.target("", "v1", "namespaces", "", "").kind;
        let key = (String::new(), namespace.to_owned());
        let Some(found) = self.store.get(&namespaces.store(), &key) else {
            return Err(Refusal::not_found(&namespaces, namespace));
        };
        if is_dying(&found) {
            let why = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            let mut refusal = Refusal::forbidden(kind, name, &why);
            refusal.details["causes"] = json!([{
                "reason": "NamespaceTerminating",
                "message": format!("namespace {namespace} is being terminated"),
                "field": "metadata.namespace",
            }]);
            return Err(refusal);
        }
        Ok(())
    }

    /// Whether a definition can be served; other objects always pass.
    pub fn check_definition(&self, kind: &Kind, object: &Value) -> Result<(), Refusal> {
        if !is_definition(kind) {
            return Ok(());
        }
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or("")
        };
        let expected = format!("{}.{}", text("/spec/names/plural"), text("/spec/group"));
        let cause = |field: &str, what: String| {
            Refusal::invalid(kind, name, &[(field.to_owned(), what, "FieldValueInvalid")])
        };
        if name != expected {
            let what =
                format!("Invalid value: {name:?}: must be spec.names.plural+\".\"+spec.group");
            return Err(cause("metadata.name", what));
        }
        crd::kinds(object, &self.kinds)
            .map_err(|e| cause("spec.versions", format!("Invalid value: {e:#}")))?;
        Ok(())
    }

    /// What a write entails: a definition brings its kinds.
    pub fn after_write(&mut self, kind: &Kind, key: &Key) {
        if is_definition(kind)
            && let Some(object) = self.store.get(&kind.store(), key)
        {
            self.establish(&object);
        }
    }

    /// Takes an object out; with a definition go its kinds.
    pub fn remove(&mut self, kind: &Kind, key: &Key) {
        let Some(last) = self.store.remove(&kind.store(), key) else {
            return;
        };
        if is_definition(kind) {
            let text = |pointer: &str| last.pointer(pointer).and_then(Value::as_str).unwrap_or("");
            let (group, plural) = (text("/spec/group"), text("/spec/names/plural"));
            self.kinds.replace_custom(group, plural, Vec::new());
        }
    }

    /// Serves the kinds of a definition and says so in its status.
    fn establish(&mut self, object: &Value) {
        let Ok(kinds) = crd::kinds(object, &self.kinds) else {
            return;
        };
        let text = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or("")
        };
        let (group, plural) = (text("/spec/group"), text("/spec/names/plural"));
        self.kinds.replace_custom(group, plural, kinds);
        self.store.open(&(group.to_owned(), plural.to_owned()));
        let name = text("/metadata/name").to_owned();
        let accepted = object.pointer("/spec/names").cloned().unwrap_or_default();
        let conditions = object
            .pointer("/status/conditions")
            .and_then(Value::as_array);
        let established = conditions
            .into_iter()
            .flatten()
            .any(|c| c["type"] == "Established");
        if established && object.pointer("/status/acceptedNames") == Some(&accepted) {
            return;
        }
        let now = self.now();
        let condition = |kind: &str, reason: &str, message: &str| {
            json!({"type": kind, "status": "True", "reason": reason, "message": message,
                "lastTransitionTime": now})
        };
        let mut body = object.clone();
        body["status"]["acceptedNames"] = accepted;
        body["status"]["conditions"] = json!([
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition(
                "Established",
                "InitialNamesAccepted",
                "the initial names have been accepted"
            ),
        ]);
        let plural = "customresourcedefinitions";
        let target = self.target("apiextensions.k8s.io", "v1", plural, &name, "status");
        let options = Options {
            manager: "kube-apiserver".to_owned(),
            ..Options::default()
        };
        // Refused only if the definition is gone, and then there is nothing to say.
        let _ = write::write(self, &target, Change::Replace(body), &options);
    }
}

pub(super) fn is_definition(kind: &Kind) -> bool {
    kind.is("apiextensions.k8s.io", "CustomResourceDefinition")
}

/// Whether its deletion has begun.
#[must_use]
pub(super) fn is_dying(object: &Value) -> bool {
    object["metadata"].get("deletionTimestamp").is_some()
}

/// Whether somebody still has to do something before the object may go; of a Namespace, the contents too.
#[must_use]
pub(super) fn has_finalizers(object: &Value) -> bool {
    let some = |pointer: &str| {
        let list = object.pointer(pointer).and_then(Value::as_array);
        list.is_some_and(|l| !l.is_empty())
    };
    let namespace = object["kind"] == "Namespace" && object["apiVersion"] == "v1";
    some("/metadata/finalizers") || (namespace && some("/spec/finalizers"))
}

/// A number spread over all bits (the finaliser of SplitMix64).
pub(super) fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
