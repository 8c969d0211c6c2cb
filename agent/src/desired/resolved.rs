//! A desired state placed in this cluster: namespaces filled in by scope, every object under its one identity, and
//! applications that claim an object of another held back. Pure.
//!
//! In: the desired state, what is known of the cluster's kinds, who owns what already. Out: [`Resolved`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::{ApplicationName, Content, Desired, Digest, ObjectKey, Settings};

use super::claims::{Claim, by_identity, claims, namespace};
use super::wanted::{Wanted, wanted};
use crate::discovery::Catalogue;
use crate::graph::{self, Definitions, Graph, Node};
use crate::health::Rules;
use crate::walk::Walk;

/// An object that has no place yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unplaced {
    /// As stated; the namespace of its application is filled in where it states none.
    pub(crate) key: ObjectKey,
    /// Its apiVersion.
    pub(crate) api_version: String,
    /// Whose it is.
    pub(crate) application: ApplicationName,
    /// Why, for people.
    pub(crate) why: String,
    /// Its definition is on its way: nothing is wrong yet.
    pub(crate) awaited: bool,
}

/// A desired state, placed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resolved {
    /// By identity.
    pub(crate) wanted: BTreeMap<Arc<ObjectKey>, Wanted>,
    /// Objects of kinds that the cluster does not serve (yet), or without a namespace.
    pub(crate) unplaced: Vec<Unplaced>,
    /// Applications that are left as they are, and why.
    pub(crate) held: BTreeMap<ApplicationName, String>,
    /// Objects that Git states in an application that is held: not wanted now, and no less stated.
    spoken_for: BTreeSet<ObjectKey>,
    /// How its application wants an object done, by application.
    ways: BTreeMap<ApplicationName, Way>,
    /// The CustomResourceDefinitions among the wanted.
    pub(crate) definitions: Definitions,
    /// What waits for what.
    pub(crate) graph: Graph,
}

/// How an application wants its objects done.
#[derive(Debug, Clone)]
struct Way {
    settings: Arc<Settings>,
    /// Its health rules, compiled.
    rules: Arc<Rules>,
}

impl Way {
    /// The same again when nothing changed, else anew.
    fn of(settings: &Settings, before: Option<&Self>) -> Self {
        match before {
            Some(before) if *before.settings == *settings => before.clone(),
            _ => Self {
                settings: Arc::new(settings.clone()),
                rules: Rules::of(&settings.health, before.map(|before| &before.rules)),
            },
        }
    }
}

impl Resolved {
    fn order(&mut self) {
        let unplaced = self.unplaced.iter().map(|unplaced| unplaced.key.clone());
        let elsewhere = unplaced.chain(self.spoken_for.iter().cloned()).collect();
        let nodes = self.wanted.iter().map(|(key, wanted)| Node {
            key,
            application: &wanted.application,
            names: wanted.names.as_deref(),
            object: &wanted.object,
        });
        self.graph = Graph::of(nodes, &self.definitions, &elsewhere);
        for (key, trouble) in self.graph.troubles() {
            if let Some(wanted) = self.wanted.get_mut(key) {
                wanted.trouble = Some(trouble.clone());
            }
        }
    }

    /// Does Git state this object although it is not among the wanted? Because its application is held, or because an
    /// object without a place could be this one. Then it must not be taken for one that left Git.
    pub(crate) fn may_become(&self, key: &ObjectKey) -> bool {
        if self.spoken_for.contains(key) {
            return true;
        }
        self.unplaced.iter().any(|unplaced| {
            let stated = &unplaced.key;
            stated.group == key.group
                && stated.kind == key.kind
                && stated.name == key.name
                && (stated.namespace == key.namespace
                    || stated.namespace.is_empty()
                    || key.namespace.is_empty())
        })
    }
}

/// Places a desired state. `owner` says which application an object belongs to already, and is asked in the order of the
/// keys; `before` is the last result, whose digests are taken over for objects that did not change.
pub(crate) fn resolve(
    desired: &Desired,
    catalogue: &Catalogue,
    owner: impl FnMut(&ObjectKey) -> Option<ApplicationName>,
    before: &Resolved,
) -> Resolved {
    let catalogue = catalogue.ruled(&ruled_kinds(desired));
    let claims = claims(desired, &catalogue);
    let mut resolved = Resolved::default();
    for application in &desired.applications {
        if let Content::Keep(why) = &application.content {
            resolved.held.insert(application.name.clone(), why.clone());
        }
    }
    hold_back(&claims, desired, owner, &mut resolved.held);
    let held = claims
        .iter()
        .filter(|claim| resolved.held.contains_key(claim.application));
    resolved.spoken_for = held.map(|claim| claim.key.clone().into_owned()).collect();
    for application in &desired.applications {
        if let Content::Objects { settings, .. } = &application.content
            && !resolved.held.contains_key(&application.name)
        {
            let way = Way::of(settings, before.ways.get(&application.name));
            resolved.ways.insert(application.name.clone(), way);
        }
    }
    place(claims, &catalogue, before, &mut resolved);
    for unplaced in &mut resolved.unplaced {
        let kind = (unplaced.key.group.clone(), unplaced.key.kind.clone());
        if let Some(definition) = resolved.definitions.get(&kind) {
            unplaced.why = format!("waits for {definition}");
            unplaced.awaited = true;
        }
    }
    resolved.order();
    resolved
}

/// Holds back whoever claims what belongs to another.
fn hold_back(
    claims: &[Claim<'_>],
    desired: &Desired,
    mut owner: impl FnMut(&ObjectKey) -> Option<ApplicationName>,
    held: &mut BTreeMap<ApplicationName, String>,
) {
    for claimants in by_identity(claims) {
        let first = &claimants[0];
        let claims_it = |name: &ApplicationName| {
            let mut names = claimants.iter().map(|claim| claim.application);
            names.any(|other| other == name)
        };
        let owner = owner(&first.key);
        let kept_elsewhere = owner.as_ref().filter(|owner| {
            held.contains_key(*owner)
                && desired.application(owner.as_str()).is_some()
                && !claims_it(owner)
        });
        let keeper = match kept_elsewhere {
            // Left as it is on purpose, and this object with it.
            Some(owner) => owner,
            None => owner
                .as_ref()
                .filter(|owner| claims_it(owner))
                .unwrap_or(first.application),
        };
        for claimant in claimants.iter().map(|claim| claim.application) {
            if claimant != keeper {
                let why = format!(
                    "{} belongs to application {keeper}: {claimant} can't claim it too, and is left as it is",
                    first.key
                );
                held.entry(claimant.clone()).or_insert(why);
            }
        }
    }
}

/// Places what is not held, in the order of the identities.
fn place(
    claims: Vec<Claim<'_>>,
    catalogue: &Catalogue,
    before: &Resolved,
    resolved: &mut Resolved,
) {
    let mut before = Walk::over(&before.wanted);
    let mut placed: Vec<(Arc<ObjectKey>, Wanted)> = Vec::new();
    for claim in claims {
        let Some(way) = resolved.ways.get(claim.application) else {
            continue;
        };
        let (key, object) = (&*claim.key, claim.object);
        let mut unplaced = |why: String| {
            let namespace = namespace(object, &way.settings).to_owned();
            resolved.unplaced.push(Unplaced {
                key: ObjectKey {
                    namespace,
                    ..object.key.clone()
                },
                api_version: object.api_version.clone(),
                application: claim.application.clone(),
                why,
                awaited: false,
            });
        };
        let Some(kind) = claim.kind else {
            unplaced(if catalogue.knows(&object.api_version) {
                format!(
                    "this cluster does not serve {} in {}: install its CustomResourceDefinition, or correct apiVersion and kind",
                    object.key.kind, object.api_version
                )
            } else {
                format!(
                    "nothing is known of {} yet: the API server has not answered",
                    object.api_version
                )
            });
            continue;
        };
        if kind.namespaced && key.namespace.is_empty() {
            unplaced(format!(
                "{} lives in a namespace and states none: set metadata.namespace, or the application's namespace",
                object.key
            ));
            continue;
        }
        if placed.last().is_some_and(|(last, _)| **last == *key) {
            unplaced(format!(
                "{key} is stated twice, with and without its namespace"
            ));
            continue;
        }
        if graph::is_definition(key)
            && let Some(defined) = graph::defines(&object.value())
        {
            resolved.definitions.insert(defined, key.clone());
        }
        let (key, known) = match before.get(key) {
            Some((key, known)) => (key.clone(), Some(known)),
            None => (Arc::new(claim.key.into_owned()), None),
        };
        let name = claim.application;
        let mut wanted = wanted(name, &way.settings, object, kind, &key, known);
        wanted.rule = way.rules.get(&key.group, &key.kind).cloned();
        placed.push((key, wanted));
    }
    resolved.wanted = placed.into_iter().collect();
}

fn ruled_kinds(desired: &Desired) -> BTreeMap<(String, String), Digest> {
    let mut texts: BTreeMap<(String, String), Vec<Vec<u8>>> = BTreeMap::new();
    for application in &desired.applications {
        let Content::Objects { settings, .. } = &application.content else {
            continue;
        };
        for rule in &settings.health {
            let text = serde_json::to_vec(rule).expect("a rule can be written");
            let kind = (rule.group.clone(), rule.kind.clone());
            texts.entry(kind).or_default().push(text);
        }
    }
    texts
        .into_iter()
        .map(|(kind, texts)| (kind, Digest::of(texts)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discovery::{Kind, Kinds};
    use kube::core::ApiResource;
    use muster_proto::{DesiredApplication, DigestKey, Object, Removals};
    use serde_json::{Value, json};

    fn catalogue() -> Catalogue {
        let kind = |kind: &str, plural: &str, namespaced| {
            let resource = ApiResource {
                group: String::new(),
                version: "v1".into(),
                api_version: "v1".into(),
                kind: kind.into(),
                plural: plural.into(),
            };
            (
                kind.to_owned(),
                Arc::new(Kind {
                    resource,
                    namespaced,
                    has_status: false,
                    listable: true,
                    ruled: None,
                }),
            )
        };
        let mut catalogue = Catalogue::default();
        let kinds = Kinds::from([
            kind("ConfigMap", "configmaps", true),
            kind("Namespace", "namespaces", false),
        ]);
        catalogue.learn("v1", kinds);
        catalogue
    }

    fn application(name: &str, namespace: &str, objects: &[Value]) -> Arc<DesiredApplication> {
        let key = DigestKey::new([0; 32]);
        let settings = Settings {
            namespace: namespace.into(),
            ..Settings::default()
        };
        let objects = objects
            .iter()
            .map(|object| Arc::new(Object::new(object, &key).unwrap()))
            .collect();
        Arc::new(DesiredApplication::new(
            name.parse().unwrap(),
            String::new(),
            settings,
            objects,
        ))
    }

    fn desired(applications: Vec<Arc<DesiredApplication>>) -> Desired {
        Desired::new(1, applications, Removals::Released, Vec::new())
    }

    fn config(name: &str, namespace: Option<&str>) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}})
    }

    fn keys(resolved: &Resolved) -> Vec<String> {
        resolved.wanted.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn the_applications_namespace_fills_what_states_none_and_only_namespaced_kinds() {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "namespace": "odd"}});
        let state = desired(vec![application(
            "a",
            "web",
            &[config("x", None), config("y", Some("db")), namespace],
        )]);
        let resolved = resolve(&state, &catalogue(), |_| None, &Resolved::default());
        assert_eq!(
            keys(&resolved),
            ["ConfigMap db/y", "ConfigMap web/x", "Namespace n"]
        );
    }

    #[test]
    fn an_object_without_namespace_or_kind_is_unplaced_and_says_why() {
        let cart = json!({"apiVersion": "shop.io/v1", "kind": "Cart", "metadata": {"name": "c"}});
        let state = desired(vec![application("a", "", &[config("x", None), cart])]);
        let mut known = catalogue();
        known.learn("shop.io/v1", Kinds::new());
        let resolved = resolve(&state, &known, |_| None, &Resolved::default());
        assert!(resolved.wanted.is_empty());
        assert!(
            resolved.unplaced[0].why.contains("states none"),
            "{}",
            resolved.unplaced[0].why
        );
        assert!(
            resolved.unplaced[1]
                .why
                .contains("does not serve Cart in shop.io/v1")
        );
        let mut placed = resolved.unplaced[1].key.clone();
        placed.namespace = "anywhere".into();
        assert!(resolved.may_become(&placed));
    }

    #[test]
    fn an_object_that_is_stated_twice_counts_as_it_is_stated_first() {
        let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "web"}, "data": {"v": "2"}});
        let state = desired(vec![application("a", "web", &[config("x", None), other])]);
        let resolved = resolve(&state, &catalogue(), |_| None, &Resolved::default());
        let wanted = &resolved.wanted.values().next().unwrap().object;
        assert_eq!(wanted.digest, state.applications[0].objects()[0].digest);
        assert_eq!(resolved.wanted.len(), 1);
        assert!(resolved.unplaced[0].why.contains("stated twice"));
    }

    #[test]
    fn what_is_stated_again_is_taken_over_from_before() {
        let first = desired(vec![application(
            "a",
            "web",
            &[config("x", None), config("z", None)],
        )]);
        let again = desired(vec![application(
            "a",
            "web",
            &[config("z", None), config("y", None), config("x", None)],
        )]);
        let before = resolve(&first, &catalogue(), |_| None, &Resolved::default());
        let resolved = resolve(&again, &catalogue(), |_| None, &before);
        for (key, wanted) in &before.wanted {
            let (same, now) = resolved.wanted.get_key_value(key).unwrap();
            assert!(Arc::ptr_eq(same, key));
            assert!(Arc::ptr_eq(&now.settings, &wanted.settings));
        }
        assert_eq!(
            keys(&resolved),
            ["ConfigMap web/x", "ConfigMap web/y", "ConfigMap web/z"]
        );
    }

    #[test]
    fn the_owner_keeps_an_object_that_two_claim_and_the_newcomer_is_held() {
        let state = desired(vec![
            application("a", "web", &[config("x", None), config("only-a", None)]),
            application(
                "b",
                "other",
                &[config("x", Some("web")), config("only-b", None)],
            ),
        ]);
        for (owner, held, left) in [
            (Some("b"), "a", "ConfigMap other/only-b"),
            (None, "b", "ConfigMap web/only-a"),
        ] {
            let owner = |_: &ObjectKey| owner.map(|owner| owner.parse().unwrap());
            let resolved = resolve(&state, &catalogue(), owner, &Resolved::default());
            let why = &resolved.held[held];
            assert!(
                why.contains("application a") || why.contains("application b"),
                "{why}"
            );
            assert!(
                why.contains("a can't claim") || why.contains("b can't claim"),
                "{why}"
            );
            assert_eq!(resolved.held.len(), 1);
            assert!(keys(&resolved).contains(&left.to_owned()));
            assert_eq!(resolved.wanted.len(), 2);
        }
    }

    #[test]
    fn what_an_application_without_a_rendering_owns_is_not_handed_over() {
        let kept = DesiredApplication::keep(
            "a".parse().unwrap(),
            String::new(),
            "does not render".into(),
        );
        let state = desired(vec![
            Arc::new(kept),
            application("b", "web", &[config("x", None)]),
        ]);
        let resolved = resolve(
            &state,
            &catalogue(),
            |_| Some("a".parse().unwrap()),
            &Resolved::default(),
        );
        assert!(resolved.held["b"].contains("belongs to application a"));
        assert!(resolved.wanted.is_empty());
    }

    #[test]
    fn an_object_that_moved_belongs_to_the_one_who_states_it() {
        let state = desired(vec![
            application("a", "web", &[]),
            application("b", "web", &[config("x", None)]),
        ]);
        let resolved = resolve(
            &state,
            &catalogue(),
            |_| Some("a".parse().unwrap()),
            &Resolved::default(),
        );
        assert!(resolved.held.is_empty());
        assert_eq!(
            resolved
                .wanted
                .values()
                .next()
                .unwrap()
                .application
                .as_str(),
            "b"
        );
    }
}
