//! Health rules of one application, compiled once. Pure.

use std::sync::Arc;

use muster_proto::HealthRule;
use muster_proto::health::{Judge, Verdict};
use serde_json::Value;

use super::{Health, condition_is};

/// The rules of an application, in the order it states them.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    stated: Vec<HealthRule>,
    compiled: Vec<Arc<Rule>>,
}

/// The rule of one kind, or why it can't be read: the hub refuses such a rule, an older hub may not.
pub(crate) type Rule = Result<Judge, String>;

impl Rules {
    /// The same rules again when nothing changed, else new ones.
    pub(crate) fn of(stated: &[HealthRule], before: Option<&Arc<Self>>) -> Arc<Self> {
        match before {
            Some(before) if before.stated == stated => before.clone(),
            _ => Arc::new(Self {
                stated: stated.to_vec(),
                compiled: stated.iter().map(|rule| Arc::new(rule.compile())).collect(),
            }),
        }
    }

    /// The rule of a kind; the first one counts.
    pub(crate) fn get(&self, group: &str, kind: &str) -> Option<&Arc<Rule>> {
        let at = self
            .stated
            .iter()
            .position(|rule| rule.group == group && rule.kind == kind)?;
        self.compiled.get(at)
    }
}

/// What a rule says of an object; `None` leaves it to the usual rules.
pub(super) fn judge(rule: &Rule, object: &Value) -> Option<Health> {
    let verdict = match rule {
        Ok(judge) => judge.judge(object),
        Err(error) => Err(format!("its health rule can't be read: {error}")),
    };
    match verdict {
        Ok(Verdict::Current) => Some(Health::current()),
        Ok(Verdict::InProgress) => Some(Health::in_progress(reason(
            object,
            "by its health rule it is not there yet",
        ))),
        Ok(Verdict::Failed) => Some(Health::failed(reason(
            object,
            "by its health rule it failed",
        ))),
        Ok(Verdict::Silent) => None,
        Err(error) => Some(Health::new(muster_proto::HealthStatus::Unknown, error)),
    }
}

/// What its controller says, where it says something in the usual place.
fn reason(object: &Value, otherwise: &str) -> String {
    let said = ["True", "False", "Unknown"]
        .into_iter()
        .find_map(|value| condition_is(object, "Ready", value));
    match said {
        Some(said) => format!("{otherwise} ({said})"),
        None => otherwise.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use muster_proto::HealthStatus;
    use serde_json::json;

    fn stated(kind: &str, current: &str) -> HealthRule {
        HealthRule {
            group: "shop.io".into(),
            kind: kind.into(),
            current: Some(current.into()),
            in_progress: None,
            failed: None,
        }
    }

    #[test]
    fn rules_are_compiled_once_and_found_by_kind() {
        let rules = [stated("Cart", "true"), stated("Cart", "false")];
        let first = Rules::of(&rules, None);
        assert!(Arc::ptr_eq(&first, &Rules::of(&rules, Some(&first))));
        assert!(!Arc::ptr_eq(&first, &Rules::of(&rules[..1], Some(&first))));
        let rule = first.get("shop.io", "Cart").unwrap();
        assert_eq!(judge(rule, &json!({})), Some(Health::current()));
        assert!(first.get("shop.io", "Till").is_none());
    }

    #[test]
    fn the_verdict_carries_what_the_controller_says() {
        let rules = Rules::of(&[stated("Cart", "self.status.ok")], None);
        let rule = rules.get("shop.io", "Cart").unwrap();
        let waiting = json!({"status": {"conditions": [{"type": "Ready", "status": "False", "message": "no wheels"}]}});
        assert_eq!(
            judge(rule, &waiting),
            Some(Health::in_progress(
                "by its health rule it is not there yet (no wheels)"
            ))
        );
        let broken = Rules::of(&[stated("Cart", "1 +")], None);
        let health = judge(broken.get("shop.io", "Cart").unwrap(), &json!({})).unwrap();
        assert_eq!(health.status, HealthStatus::Unknown);
        assert!(
            health.message.contains("can't be read"),
            "{}",
            health.message
        );
    }
}
