//! Label and field selectors, as query parameters carry them.
//!
//! In: `labelSelector` (`a=b,c!=d,e in (f,g),h,!i`) and `fieldSelector` (`metadata.name=x`,
//! `metadata.namespace=y`, and dotted paths of scalars). Out: whether an object is meant.

use serde_json::Value;

use super::status::Refusal;

/// What a list or watch asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Selector {
    /// Reads the two parameters.
    pub fn parse(labels: Option<&str>, fields: Option<&str>) -> Result<Self, Refusal> {
        let mut out = Self::default();
        for part in split(labels.unwrap_or_default()) {
            let one = requirement(part)
                .ok_or_else(|| Refusal::bad(format!("unable to parse requirement: {part:?}")))?;
            out.labels.push(one);
        }
        for part in fields
            .unwrap_or_default()
            .split(',')
            .filter(|p| !p.is_empty())
        {
            let (path, equal, value) = match part.split_once("!=") {
                Some((path, value)) => (path, false, value),
                None => {
                    let (path, value) = part
                        .split_once('=')
                        .ok_or_else(|| Refusal::bad(format!("invalid selector: {part:?}")))?;
                    (path, true, value.trim_start_matches('='))
                }
            };
            out.fields.push((path.to_owned(), equal, value.to_owned()));
        }
        Ok(out)
    }

    /// Whether everything matches.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether this object is meant.
    #[must_use]
    pub fn matches(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        let label = |key: &str| labels.and_then(|l| l.get(key)).and_then(Value::as_str);
        let by_label = self.labels.iter().all(|r| match r {
            Requirement::In(key, values) => {
                label(key).is_some_and(|v| values.iter().any(|x| x == v))
            }
            Requirement::NotIn(key, values) => {
                label(key).is_none_or(|v| values.iter().all(|x| x != v))
            }
            Requirement::Exists(key) => label(key).is_some(),
            Requirement::Absent(key) => label(key).is_none(),
        });
        by_label
            && self.fields.iter().all(|(path, equal, wanted)| {
                let found = path.split('.').try_fold(object, |v, key| v.get(key));
                let text = match found {
                    Some(Value::String(text)) => text.clone(),
                    Some(Value::Null) | None => String::new(),
                    Some(other) => other.to_string(),
                };
                (text == *wanted) == *equal
            })
    }
}

/// Splits at commas that stand outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0;
    let outside = move |c: char| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    };
    text.split(outside)
        .map(str::trim)
        .filter(|p| !p.is_empty())
        .collect()
}

fn requirement(part: &str) -> Option<Requirement> {
    let owned = |key: &str| key.trim().to_owned();
    if let Some(key) = part.strip_prefix('!') {
        return Some(Requirement::Absent(owned(key)));
    }
    if let Some((head, values)) = part.strip_suffix(')').and_then(|p| p.split_once('(')) {
        let values = values.split(',').map(owned).collect();
        let (key, word) = head.trim().rsplit_once(' ')?;
        return match word {
            "in" => Some(Requirement::In(owned(key), values)),
            "notin" => Some(Requirement::NotIn(owned(key), values)),
            _ => None,
        };
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Some(Requirement::NotIn(owned(key), vec![owned(value)]));
    }
    if let Some((key, value)) = part.split_once('=') {
        let value = value.trim_start_matches('=');
        return Some(Requirement::In(owned(key), vec![owned(value)]));
    }
    (!part.contains(' ')).then(|| Requirement::Exists(owned(part)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_match_as_their_words_say() {
        let object = json!({"metadata": {"name": "x", "namespace": "ns",
            "labels": {"app": "web", "tier": "front"}}, "spec": {"n": 3}});
        let cases = [
            ("", "", true),
            ("app=web", "", true),
            ("app==web,tier", "", true),
            ("app=other", "", false),
            ("app!=other,missing!=x", "", true),
            ("app in (a, web),tier notin (back)", "", true),
            ("!missing", "", true),
            ("!app", "", false),
            ("", "metadata.name=x,metadata.namespace=ns", true),
            ("", "metadata.name!=x", false),
            ("", "spec.n=3", true),
        ];
        for (labels, fields, expected) in cases {
            let selector = Selector::parse(Some(labels), Some(fields)).unwrap();
            assert_eq!(selector.matches(&object), expected, "{labels} {fields}");
        }
        assert!(Selector::parse(Some("a b c"), None).is_err());
    }
}
