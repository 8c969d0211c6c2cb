//! Which kinds are served: the built-in ones from the table, and those of CustomResourceDefinitions.
//!
//! In: `facts.txt` and definitions. Out: a [`Kind`] for a path, in a fixed order for discovery.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::apply::Typed;
use super::crd::Custom;
use super::normal;
use super::schema::{Schema, TypeId};

/// The table distilled from the pinned server.
pub const FACTS: &str = include_str!("facts.txt");

/// One kind in one version.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Its API group; empty for the core group.
    pub group: String,
    /// Its version, as `v1`.
    pub version: String,
    /// Its name, as `Deployment`.
    pub kind: String,
    /// As paths name it, `deployments`.
    pub plural: String,
    /// As people name one, `deployment`.
    pub singular: String,
    /// Whether it lives in namespaces.
    pub namespaced: bool,
    /// Abbreviations.
    pub short: Vec<String>,
    /// Groups of kinds it belongs to, as `all`.
    pub categories: Vec<String>,
    /// Whether status is written apart.
    pub status: bool,
    /// Whether it can be scaled.
    pub scale: bool,
    /// Where its type is declared.
    pub schema: Arc<Schema>,
    /// Its type.
    pub id: TypeId,
    /// Set for kinds of a CustomResourceDefinition.
    pub custom: Option<Arc<Custom>>,
}

/// What tells stores of objects apart: group and plural.
pub type Resource = (String, String);

impl Kind {
    /// `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        match self.group.as_str() {
            "" => self.version.clone(),
            group => format!("{group}/{}", self.version),
        }
    }

    /// `deployments.apps`, as messages name it.
    #[must_use]
    pub fn resource(&self) -> String {
        match self.group.as_str() {
            "" => self.plural.clone(),
            group => format!("{}.{group}", self.plural),
        }
    }

    /// Where its objects are stored, whatever the version.
    #[must_use]
    pub fn store(&self) -> Resource {
        (self.group.clone(), self.plural.clone())
    }

    /// Its type.
    #[must_use]
    pub fn typed(&self) -> Typed<'_> {
        Typed {
            schema: &self.schema,
            id: self.id,
        }
    }

    /// Whether this is `group/kind`.
    #[must_use]
    pub fn is(&self, group: &str, kind: &str) -> bool {
        self.group == group && self.kind == kind
    }

    /// The object before it has anything in it, as the server sees it when one is created.
    #[must_use]
    pub fn empty(&self) -> Value {
        let bare = json!({"apiVersion": self.api_version(), "kind": self.kind});
        match self.custom {
            Some(_) => bare,
            None => normal::shape(self.typed(), bare).0,
        }
    }
}

/// All served kinds.
#[derive(Debug, Clone)]
pub struct Kinds {
    by_path: BTreeMap<(String, String, String), Arc<Kind>>,
}

impl Kinds {
    /// The built-in kinds.
    #[must_use]
    pub fn built_in() -> Self {
        static BUILT_IN: OnceLock<Kinds> = OnceLock::new();
        BUILT_IN
            .get_or_init(|| Self::parse(FACTS).expect("the committed table reads"))
            .clone()
    }

    /// Reads a table.
    pub fn parse(table: &str) -> Result<Self> {
        let schema = Arc::new(Schema::parse(table)?);
        let mut by_path = BTreeMap::new();
        for line in table.lines().filter_map(|l| l.strip_prefix("kind ")) {
            let words: Vec<&str> = line.split(' ').collect();
            let [group_version, kind, plural, singular, scope, rest @ ..] = words.as_slice() else {
                anyhow::bail!("not a kind: {line}");
            };
            let list = |key: &str| -> Vec<String> {
                let found = rest
                    .iter()
                    .find_map(|w| w.strip_prefix(key)?.strip_prefix('='));
                found
                    .into_iter()
                    .flat_map(|l| l.split(','))
                    .map(str::to_owned)
                    .collect()
            };
            let (group, version) = group_version
                .rsplit_once('/')
                .unwrap_or(("", group_version));
            if (group, version) == ("autoscaling", "v1") {
                // Served in v2 only: there is no conversion between versions here.
                continue;
            }
            let subresources = list("subresources");
            let name = list("type").pop().with_context(|| line.to_owned())?;
            let kind = Kind {
                group: group.to_owned(),
                version: version.to_owned(),
                kind: (*kind).to_owned(),
                plural: (*plural).to_owned(),
                singular: (*singular).to_owned(),
                namespaced: *scope == "Namespaced",
                short: list("short"),
                categories: list("categories"),
                status: subresources.iter().any(|s| s == "status"),
                scale: subresources.iter().any(|s| s == "scale"),
                id: schema.named(&name).with_context(|| line.to_owned())?,
                schema: schema.clone(),
                custom: None,
            };
            by_path.insert(path_of(&kind), Arc::new(kind));
        }
        Ok(Self { by_path })
    }

    /// The kind at `/apis/GROUP/VERSION/PLURAL`.
    #[must_use]
    pub fn at(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Kind>> {
        self.by_path
            .get(&(group.to_owned(), version.to_owned(), plural.to_owned()))
            .cloned()
    }

    /// The kind in any of its versions, by group and plural: all of them, in order.
    pub fn versions(&self, group: &str, plural: &str) -> impl Iterator<Item = &Arc<Kind>> {
        let (group, plural) = (group.to_owned(), plural.to_owned());
        self.by_path
            .values()
            .filter(move |k| k.group == group && k.plural == plural)
    }

    /// All kinds, by group, version and plural.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Kind>> {
        self.by_path.values()
    }

    /// The built-in type of that name.
    #[must_use]
    pub fn built_in_type(&self, name: &str) -> Option<(Arc<Schema>, TypeId)> {
        let schema = &self.by_path.values().find(|k| k.custom.is_none())?.schema;
        Some((schema.clone(), schema.named(name)?))
    }

    /// Takes the kinds of a definition in, instead of those it had before.
    pub fn replace_custom(&mut self, group: &str, plural: &str, kinds: Vec<Kind>) {
        self.by_path
            .retain(|_, k| k.custom.is_none() || k.group != group || k.plural != plural);
        for kind in kinds {
            self.by_path
                .entry(path_of(&kind))
                .or_insert_with(|| Arc::new(kind));
        }
    }
}

fn path_of(kind: &Kind) -> (String, String, String) {
    (
        kind.group.clone(),
        kind.version.clone(),
        kind.plural.clone(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_table_serves_the_usual_kinds() {
        let kinds = Kinds::built_in();
        let deployment = kinds.at("apps", "v1", "deployments").unwrap();
        assert!(deployment.namespaced && deployment.status && deployment.scale);
        assert_eq!(deployment.short, ["deploy"]);
        assert_eq!(deployment.resource(), "deployments.apps");
        assert!(!kinds.at("", "v1", "namespaces").unwrap().namespaced);
        assert!(kinds.at("", "v1", "bindings").is_none());
        assert!(
            kinds
                .at("autoscaling", "v1", "horizontalpodautoscalers")
                .is_none()
        );
    }

    #[test]
    fn an_empty_object_has_the_structs_that_go_always_writes() {
        let deployment = Kinds::built_in().at("apps", "v1", "deployments").unwrap();
        assert_eq!(
            deployment.empty(),
            json!({
                "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {},
                "spec": {"selector": null, "strategy": {},
                    "template": {"metadata": {}, "spec": {"containers": null}}},
                "status": {},
            })
        );
    }
}
