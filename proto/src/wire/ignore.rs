//! Ignore rules over the wire.

use super::{InvalidMessage, v1};
use crate::ignore::{IgnoreRule, ListItem};

impl From<&IgnoreRule> for v1::IgnoreRule {
    fn from(rule: &IgnoreRule) -> Self {
        Self {
            group: rule.group.clone(),
            kind: rule.kind.clone(),
            namespace: rule.namespace.clone(),
            name: rule.name.clone(),
            json_pointers: rule.json_pointers.clone(),
            list_items: rule.list_items.iter().map(Into::into).collect(),
            managers: rule.managers.clone(),
        }
    }
}

impl From<&ListItem> for v1::ListItem {
    fn from(item: &ListItem) -> Self {
        Self {
            list: item.list.clone(),
            key: serde_json::to_string(&item.key).expect("a mapping can be written"),
        }
    }
}

impl TryFrom<&v1::IgnoreRule> for IgnoreRule {
    type Error = InvalidMessage;

    fn try_from(message: &v1::IgnoreRule) -> Result<Self, InvalidMessage> {
        let list_items = message.list_items.iter().map(|item| {
            let key = serde_json::from_str(&item.key)
                .map_err(|error| InvalidMessage::new("settings.ignore.list_items.key", error))?;
            Ok(ListItem {
                list: item.list.clone(),
                key,
            })
        });
        Ok(Self {
            group: message.group.clone(),
            kind: message.kind.clone(),
            namespace: message.namespace.clone(),
            name: message.name.clone(),
            json_pointers: message.json_pointers.clone(),
            list_items: list_items.collect::<Result<_, InvalidMessage>>()?,
            managers: message.managers.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_rule_comes_over_whole() {
        let rule: IgnoreRule = serde_json::from_value(json!({"kind": "Deployment", "group": "", "jsonPointers": ["/spec/replicas"],
            "listItems": [{"list": "/spec/ports", "key": {"port": 80, "protocol": "TCP"}}], "managers": ["keda"]}))
        .unwrap();
        assert_eq!(IgnoreRule::try_from(&v1::IgnoreRule::from(&rule)), Ok(rule));
    }
}
