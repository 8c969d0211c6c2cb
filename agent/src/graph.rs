//! What waits for what. Pure.
//!
//! In: the objects of a desired state and what they say of others ([`names`]). Out: a [`Graph`]: for every object what
//! must be applied, or ready, before it, and who is caught in a cycle. Independent objects wait for nothing; among
//! those that may go, a [`Stage`] says which goes first. Removing runs the same order backwards: [`removal`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::{ApplicationName, Object, ObjectKey};
use serde_json::Value;

mod cycles;
pub(crate) mod names;
pub(crate) mod removal;

use names::Names;

/// Place among objects that may all be applied now; lower goes first. It never blocks.
pub(crate) type Stage = u8;

/// Identity, shared.
type Key = Arc<ObjectKey>;

/// Until when an object is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Until {
    /// It is there as Git states it.
    Applied,
    /// And it works: a Namespace is Active, a definition Established, a workload rolled out.
    Ready,
}

/// One object of a desired state.
pub(crate) struct Node<'a> {
    /// Who it is here.
    pub(crate) key: &'a Key,
    /// Whose it is.
    pub(crate) application: &'a ApplicationName,
    /// What it says of others.
    pub(crate) names: Option<&'a Names>,
    /// Read only where something stands behind a Service.
    pub(crate) object: &'a Object,
}

/// The objects of a desired state.
type Nodes<'a> = BTreeMap<Key, Node<'a>>;

/// What waits for what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Graph {
    needs: BTreeMap<Key, BTreeMap<Key, Until>>,
    /// Objects by stage, of the applications that have more than one.
    stages: BTreeMap<ApplicationName, BTreeMap<i32, BTreeSet<Key>>>,
    troubles: BTreeMap<Key, Trouble>,
}

/// Why an object can't be ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// A person must correct it.
    Wrong(String),
    /// What it waits for has no place in this cluster yet.
    Early(String),
}

/// What an object waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Need<'a> {
    /// This object.
    pub(crate) key: &'a Key,
    /// Until then.
    pub(crate) until: Until,
}

impl Graph {
    /// Orders the objects of a desired state, whatever order they come in. `elsewhere` is what Git states for
    /// this cluster and has no place in it now.
    pub(crate) fn of<'a>(
        nodes: impl IntoIterator<Item = Node<'a>>,
        definitions: &Definitions,
        elsewhere: &BTreeSet<ObjectKey>,
    ) -> Self {
        let nodes: Nodes<'a> = nodes
            .into_iter()
            .map(|node| (node.key.clone(), node))
            .collect();
        let mut graph = Self::default();
        let key_of = |key: &ObjectKey| nodes.get_key_value(key).map(|(key, _)| key.clone());
        let mut all_needs: Vec<(Key, BTreeMap<Key, Until>)> = Vec::new();
        let (mut last, mut basis) = (None, BTreeMap::new());
        for (key, node) in &nodes {
            // Objects of one kind and namespace stand side by side.
            if !last.is_some_and(|last| are_alike(last, key)) {
                let needs = needs_by_identity(key, definitions);
                let needs = needs.iter().filter_map(key_of);
                basis = needs.map(|key| (key, Until::Ready)).collect();
            }
            last = Some(key);
            let mut needs = basis.clone();
            let Some(names) = node.names else {
                all_needs.push((key.clone(), needs));
                continue;
            };
            if let Some(wrong) = &names.wrong {
                let wrong = Trouble::Wrong(wrong.clone());
                graph.troubles.insert(key.clone(), wrong);
            }
            for reference in names.references.iter().filter_map(key_of) {
                needs.entry(reference).or_insert(Until::Applied);
            }
            for service in &names.services {
                let behind = workloads(service, &nodes).map(|key| (key, Until::Ready));
                needs.extend(behind);
            }
            for wish in &names.depends_on {
                let meant: Vec<&Key> = nodes.keys().filter(|other| wish.means(other)).collect();
                if meant.is_empty() {
                    let early = elsewhere.iter().any(|other| wish.means(other));
                    graph.troubles.insert(key.clone(), wish.trouble(early));
                }
                needs.extend(meant.into_iter().map(|other| (other.clone(), Until::Ready)));
            }
            all_needs.push((key.clone(), needs));
        }
        let needs = all_needs.into_iter();
        graph.needs = needs.filter(|(_, needs)| !needs.is_empty()).collect();
        graph.set_stages(&nodes);
        for cycle in graph.cycles() {
            let text = cycle.iter().map(ToString::to_string);
            let text = text.collect::<Vec<_>>().join(" -> ");
            let why = format!(
                "these wait for each other: {text}: take one of these dependencies out (muster.dev/depends-on, muster.dev/stage)"
            );
            for part in cycle {
                if let Part::Object(key) = part {
                    graph.troubles.insert(key, Trouble::Wrong(why.clone()));
                }
            }
        }
        graph
    }

    /// What an object needs directly.
    pub(crate) fn needs(&self, key: &ObjectKey) -> impl Iterator<Item = Need<'_>> {
        let needs = self.needs.get(key).into_iter().flatten();
        needs.map(|(key, until)| Need { key, until: *until })
    }

    /// Its stage, where its application has more than one.
    pub(crate) fn stage(&self, application: &ApplicationName, key: &ObjectKey) -> Option<i32> {
        let stages = self.stages.get(application)?;
        let found = stages.iter().find(|(_, keys)| keys.contains(key));
        found.map(|(stage, _)| *stage)
    }

    /// The first object of the stages before this one that must still be waited for; `is_met` says what is not waited
    /// for any more.
    pub(crate) fn first_unmet_before(
        &self,
        application: &ApplicationName,
        stage: i32,
        is_met: impl Fn(&Need<'_>) -> bool,
    ) -> Option<Need<'_>> {
        let earlier = self.stages.get(application)?.range(..stage);
        let mut earlier = earlier.flat_map(|(_, keys)| keys).map(|key| Need {
            key,
            until: Until::Ready,
        });
        earlier.find(|need| !is_met(need))
    }

    /// Why an object can't be ordered: a cycle, or an annotation that means nothing.
    pub(crate) fn troubles(&self) -> &BTreeMap<Key, Trouble> {
        &self.troubles
    }

    /// Stages as stated. What states none is in stage 0, or in that of the earliest that needs it.
    fn set_stages(&mut self, nodes: &Nodes<'_>) {
        let stated = |node: &Node<'_>| node.names.and_then(|names| names.stage);
        let staged: BTreeSet<&ApplicationName> = nodes
            .values()
            .filter(|node| stated(node).is_some())
            .map(|node| node.application)
            .collect();
        if staged.is_empty() {
            return;
        }
        let mut stage_of: BTreeMap<&Key, i32> = nodes
            .iter()
            .filter(|(_, node)| staged.contains(node.application))
            .map(|(key, node)| (key, stated(node).unwrap_or(0)))
            .collect();
        let mut pull: Vec<Key> = stage_of.keys().copied().cloned().collect();
        while let Some(key) = pull.pop() {
            let Some(&stage) = stage_of.get(&key) else {
                continue;
            };
            let application = nodes[&key].application;
            for need in self.needs.get(&key).into_iter().flat_map(BTreeMap::keys) {
                let Some((needed, node)) = nodes.get_key_value(need) else {
                    continue;
                };
                let later = stage_of.get(needed).is_some_and(|other| *other > stage);
                if later && node.application == application && stated(node).is_none() {
                    stage_of.insert(needed, stage);
                    pull.push(needed.clone());
                }
            }
        }
        for (key, stage) in stage_of {
            let stages = self.stages.entry(nodes[key].application.clone());
            stages
                .or_default()
                .entry(stage)
                .or_default()
                .insert(key.clone());
        }
        self.stages.retain(|_, stages| stages.len() > 1);
    }

    fn cycles(&self) -> Vec<Vec<Part>> {
        let mut parts: BTreeMap<Part, Vec<Part>> = BTreeMap::new();
        // What needs nothing itself is no part of a way round, such as a Namespace that thousands need.
        let needed: BTreeSet<&Key> = self.needs.values().flat_map(BTreeMap::keys).collect();
        let waits = |key: &&Key| !self.stages.is_empty() || self.needs.contains_key(*key);
        let waiting: BTreeSet<&Key> = needed.into_iter().filter(waits).collect();
        for (key, needs) in &self.needs {
            let needs = needs.keys().filter(|key| waiting.contains(key));
            let needs: Vec<Part> = needs.cloned().map(Part::Object).collect();
            if !needs.is_empty() {
                parts.insert(Part::Object(key.clone()), needs);
            }
        }
        for (application, stages) in &self.stages {
            let mut earlier: Option<i32> = None;
            for (stage, keys) in stages {
                if let Some(earlier) = earlier {
                    let mut needs = vec![Part::Stage(application.clone(), earlier)];
                    needs.extend(stages[&earlier].iter().cloned().map(Part::Object));
                    parts.insert(Part::Stage(application.clone(), *stage), needs);
                }
                for key in keys {
                    let stage = Part::Stage(application.clone(), *stage);
                    parts
                        .entry(Part::Object(key.clone()))
                        .or_default()
                        .push(stage);
                }
                earlier = Some(*stage);
            }
        }
        cycles::cycles(&parts)
    }
}

/// An object, or all that stands in the stages before one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Object(Key),
    Stage(ApplicationName, i32),
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Object(key) => write!(f, "{key}"),
            Self::Stage(application, stage) => {
                write!(f, "what is before stage {stage} of {application}")
            }
        }
    }
}

/// Workloads whose Pods a Service selects.
fn workloads(service: &ObjectKey, nodes: &Nodes<'_>) -> impl Iterator<Item = Key> {
    let selector = nodes.get(service).map(|node| node.object.value());
    let selector = selector
        .and_then(|service| service.pointer("/spec/selector")?.as_object().cloned())
        .unwrap_or_default();
    let selects = move |node: &Node<'_>| {
        let Some(template) = names::pod_template(&node.key.kind) else {
            return false;
        };
        let is_workload = matches!(node.key.group.as_str(), "" | "apps")
            && node.key.namespace == service.namespace
            && !selector.is_empty();
        is_workload && {
            let object = node.object.value();
            let labels = object.pointer(&format!("{template}/metadata/labels"));
            selector
                .iter()
                .all(|(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value))
        }
    };
    let found: Vec<Key> = nodes
        .values()
        .filter(|node| selects(node))
        .map(|node| node.key.clone())
        .collect();
    found.into_iter()
}

/// Stage of a kind.
pub(crate) fn stage(group: &str, kind: &str) -> Stage {
    match (group, kind) {
        ("", "Namespace") => 0,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => 1,
        ("scheduling.k8s.io", "PriorityClass")
        | ("storage.k8s.io", "StorageClass")
        | ("node.k8s.io", "RuntimeClass")
        | ("networking.k8s.io", "IngressClass")
        | ("gateway.networking.k8s.io", "GatewayClass") => 2,
        ("", "ServiceAccount" | "ConfigMap" | "Secret" | "LimitRange" | "ResourceQuota")
        | ("" | "storage.k8s.io", "PersistentVolume" | "PersistentVolumeClaim")
        | ("rbac.authorization.k8s.io", _) => 3,
        ("", "Service") => 4,
        ("admissionregistration.k8s.io", _) | ("apiregistration.k8s.io", "APIService") => 6,
        _ => 5,
    }
}

/// True for a CustomResourceDefinition.
pub(crate) fn is_definition(key: &ObjectKey) -> bool {
    key.group == "apiextensions.k8s.io" && key.kind == "CustomResourceDefinition"
}

/// True for a Namespace.
pub(crate) fn is_namespace(key: &ObjectKey) -> bool {
    key.group.is_empty() && key.kind == "Namespace"
}

/// Group and kind that a CustomResourceDefinition defines.
pub(crate) fn defines(definition: &Value) -> Option<(String, String)> {
    let text = |pointer| definition.pointer(pointer).and_then(Value::as_str);
    Some((
        text("/spec/group")?.to_owned(),
        text("/spec/names/kind")?.to_owned(),
    ))
}

/// The definitions of a desired state, by the group and kind they define.
pub(crate) type Definitions = BTreeMap<(String, String), ObjectKey>;

/// Of one kind and namespace, so that they need the same by who they are?
fn are_alike(one: &ObjectKey, other: &ObjectKey) -> bool {
    one.group == other.group && one.kind == other.kind && one.namespace == other.namespace
}

/// What an object needs by who it is: its namespace, its definition.
fn needs_by_identity(key: &ObjectKey, definitions: &Definitions) -> Vec<ObjectKey> {
    let namespace = (!key.namespace.is_empty()).then(|| namespace_key(&key.namespace));
    let definition = definitions
        .get(&(key.group.clone(), key.kind.clone()))
        .cloned();
    namespace.into_iter().chain(definition).collect()
}

/// Identity of a Namespace.
pub(crate) fn namespace_key(name: &str) -> ObjectKey {
    ObjectKey {
        group: String::new(),
        kind: "Namespace".into(),
        namespace: String::new(),
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
