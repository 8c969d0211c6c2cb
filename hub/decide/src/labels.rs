//! Label selectors of Kubernetes: which clusters are meant.
//!
//! In: `matchLabels` and `matchExpressions` of a document, or the text form of `kubectl -l` ([`Selector::parse`]). All
//! requirements must hold; none selects everything.
//! See <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/>.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::Labels;

mod parse;

pub use parse::InvalidSelector;

/// Requirements on labels, all of which must hold.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Selector {
    /// Labels that must have this value.
    #[serde(
        default,
        deserialize_with = "labels",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub match_labels: Labels,
    /// Further requirements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<Expression>,
}

/// One requirement on one label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", try_from = "Fields")]
pub struct Expression {
    /// The label.
    pub key: String,
    /// What must hold.
    pub operator: Operator,
    /// For `In` and `NotIn`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// What must hold of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub enum Operator {
    /// It is there and has one of the values.
    In,
    /// It is not there or has none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl Selector {
    /// Whether these labels fulfil every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        Self::holds(&self.match_labels, &self.match_expressions, labels)
    }

    pub(crate) fn holds(equal: &Labels, expressions: &[Expression], labels: &Labels) -> bool {
        equal
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
            && expressions.iter().all(|one| one.matches(labels))
    }
}

impl Expression {
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            Operator::In => listed,
            Operator::NotIn => !listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "schema", schemars(rename = "Expression"))]
/// One requirement on one label.
struct Fields {
    /// The label.
    key: String,
    /// What must hold.
    operator: Operator,
    /// For `In` and `NotIn`.
    #[serde(default)]
    values: Vec<String>,
}

impl TryFrom<Fields> for Expression {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let Fields {
            key,
            operator,
            values,
        } = fields;
        check_key(&key)?;
        values.iter().try_for_each(|value| check_value(value))?;
        let wants_values = matches!(operator, Operator::In | Operator::NotIn);
        match (wants_values, values.is_empty()) {
            (true, true) => Err(format!("{operator:?} needs values")),
            (false, false) => Err(format!("{operator:?} takes no values")),
            _ => Ok(Self {
                key,
                operator,
                values,
            }),
        }
    }
}

/// Reads labels and checks that Kubernetes would take them.
pub(crate) fn labels<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
    let labels = Labels::deserialize(deserializer)?;
    for (key, value) in &labels {
        check_key(key)
            .and_then(|()| check_value(value))
            .map_err(D::Error::custom)?;
    }
    Ok(labels)
}

/// A label key: a name of up to 63 characters, after an optional DNS prefix and a slash.
fn check_key(key: &str) -> Result<(), String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let dns = |prefix: &str| {
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        (1..=253).contains(&prefix.len()) && prefix.bytes().all(plain)
    };
    if !name.is_empty() && is_label_text(name) && prefix.is_none_or(dns) {
        Ok(())
    } else {
        Err(format!("{key:?} is no label key"))
    }
}

fn check_value(value: &str) -> Result<(), String> {
    if is_label_text(value) {
        Ok(())
    } else {
        Err(format!(
            "{value:?} is no label value: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
        ))
    }
}

fn is_label_text(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    fn read(text: &str) -> Result<Selector, String> {
        let node = yaml::documents(text.as_bytes()).unwrap().remove(0);
        yaml::read::typed(&node, "clusters")
            .map_err(|fault| format!("{}: {}", fault.line, fault.message))
    }

    fn labels_of(pairs: &[(&str, &str)]) -> Labels {
        let owned = |&(key, value): &(&str, &str)| (key.to_owned(), value.to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn every_requirement_must_hold_and_none_selects_everything() {
        let eu_prod = labels_of(&[("region", "eu"), ("stage", "production")]);
        let cases = [
            ("{}", true),
            ("matchLabels: {region: eu}", true),
            ("matchLabels: {region: eu, stage: test}", false),
            ("matchLabels: {zone: a}", false),
            (
                "matchExpressions: [{key: region, operator: In, values: [us, eu]}]",
                true,
            ),
            (
                "matchExpressions: [{key: region, operator: In, values: [us]}]",
                false,
            ),
            (
                "matchExpressions: [{key: region, operator: NotIn, values: [us]}]",
                true,
            ),
            (
                "matchExpressions: [{key: zone, operator: NotIn, values: [a]}]",
                true,
            ),
            (
                "matchExpressions: [{key: zone, operator: In, values: [a]}]",
                false,
            ),
            ("matchExpressions: [{key: zone, operator: Exists}]", false),
            ("matchExpressions: [{key: stage, operator: Exists}]", true),
            (
                "matchExpressions: [{key: stage, operator: DoesNotExist}]",
                false,
            ),
            (
                "{matchLabels: {region: eu}, matchExpressions: [{key: zone, operator: DoesNotExist}]}",
                true,
            ),
        ];
        for (selector, matches) in cases {
            assert_eq!(
                read(selector).unwrap().matches(&eu_prod),
                matches,
                "{selector}"
            );
        }
    }

    #[test]
    fn what_kubernetes_would_refuse_is_refused() {
        let cases = [
            "matchExpressions:\n- {key: a, operator: In}",
            "matchExpressions:\n- {key: a, operator: Exists, values: [b]}",
            "matchExpressions:\n- {key: a, operator: in, values: [b]}",
            "matchLabels:\n  a b: c",
            "matchLabels:\n  a: -c",
            "matchLables: {a: b}",
        ];
        let errors: Vec<String> = cases.iter().map(|text| read(text).unwrap_err()).collect();
        insta::assert_snapshot!(errors.join("\n"), @r#"
        2: clusters.matchExpressions[0]: In needs values
        2: clusters.matchExpressions[0]: Exists takes no values
        2: clusters.matchExpressions[0].operator: "in" is none of In, NotIn, Exists, DoesNotExist
        2: clusters.matchLabels: "a b" is no label key
        2: clusters.matchLabels: "-c" is no label value: at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit
        1: clusters: unknown field "matchLables": did you mean "matchLabels"?
        "#);
    }

    #[test]
    fn a_selector_that_was_stored_reads_back() {
        let selector =
            read("{matchLabels: {a: b}, matchExpressions: [{key: c, operator: Exists}]}").unwrap();
        let stored = serde_json::to_string(&selector).unwrap();
        assert_eq!(serde_json::from_str::<Selector>(&stored).unwrap(), selector);
    }
}
