//! Fields of objects that others may own, as an application states them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ObjectKey;

/// Which fields of which objects are left to others: in drift, and in every apply but the one that creates.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct IgnoreRule {
    /// Of which API group; any when it says nothing.
    pub group: Option<String>,
    /// Of which kind; any when it says nothing.
    pub kind: Option<String>,
    /// In which namespace; any when it says nothing.
    pub namespace: Option<String>,
    /// Of which name; any when it says nothing.
    pub name: Option<String>,
    /// Fields, such as `/spec/replicas`.
    pub json_pointers: Vec<String>,
    /// Items of lists, by their key.
    pub list_items: Vec<ListItem>,
    /// Whatever these field managers own.
    pub managers: Vec<String>,
}

/// An item of a list, by its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListItem {
    /// JSON pointer of the list.
    pub list: String,
    /// Such as `name: sidecar`.
    pub key: BTreeMap<String, serde_json::Value>,
}

impl IgnoreRule {
    /// Is this object one of those it speaks of?
    pub fn matches(&self, key: &ObjectKey) -> bool {
        let is = |stated: &Option<String>, own: &String| stated.as_ref().is_none_or(|it| it == own);
        is(&self.group, &key.group)
            && is(&self.kind, &key.kind)
            && is(&self.namespace, &key.namespace)
            && is(&self.name, &key.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_speaks_of_what_it_does_not_exclude() {
        let key = ObjectKey {
            group: "apps".into(),
            kind: "Deployment".into(),
            namespace: "web".into(),
            name: "front".into(),
        };
        assert!(IgnoreRule::default().matches(&key));
        let of_kind = |kind: &str| IgnoreRule {
            group: Some("apps".into()),
            kind: Some(kind.into()),
            ..IgnoreRule::default()
        };
        assert!(of_kind("Deployment").matches(&key));
        assert!(!of_kind("StatefulSet").matches(&key));
    }
}
