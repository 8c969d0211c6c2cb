//! Sets of field paths, and the algebra that field ownership is made of.
//!
//! In and out: the JSON called FieldsV1 (`{"f:data":{".":{},"f:a":{}}}`), see the documentation of
//! `metadata.managedFields`. A path may be a member without its children, and children without it.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

/// A set of paths, as a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Set(BTreeMap<Step, Node>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    member: bool,
    below: Set,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// A field of a struct, or a key of a map.
    Field(String),
    /// The item of a keyed list with these key fields, sorted by name.
    Key(Vec<(String, Literal)>),
    /// The item of a set.
    Value(Literal),
    /// The item of an atomic list; only ever read, never written.
    Index(i64),
}

/// A scalar inside a step, ordered across its kinds: numbers, text, flags, the rest.
#[derive(Debug, Clone)]
pub struct Literal(pub Value);

impl Set {
    /// Whether it has no member.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.values().all(|n| !n.member && n.below.is_empty())
    }

    /// Adds the path of these steps. The empty path, the whole object, is owned by nobody.
    pub fn insert(&mut self, path: &[Step]) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        let node = self.0.entry(first.clone()).or_default();
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
    }

    /// Adds one child with what is known below it; nothing is added for nothing.
    pub fn attach(&mut self, step: Step, member: bool, below: Self) {
        if member || !below.0.is_empty() {
            let node = self.0.entry(step).or_default();
            node.member |= member;
            if node.below.0.is_empty() {
                node.below = below;
            } else {
                node.below = node.below.union(&below);
            }
        }
    }

    /// Whether the single step is a member.
    #[must_use]
    pub fn has(&self, step: &Step) -> bool {
        self.0.get(step).is_some_and(|n| n.member)
    }

    /// What is below one step.
    #[must_use]
    pub fn below(&self, step: &Step) -> Option<&Self> {
        self.0.get(step).map(|n| &n.below).filter(|s| !s.is_empty())
    }

    /// The steps of this level, each with its membership and what is below.
    pub fn steps(&self) -> impl Iterator<Item = (&Step, bool, &Self)> {
        self.0.iter().map(|(step, n)| (step, n.member, &n.below))
    }

    /// Paths in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        for (step, node) in &other.0 {
            match out.0.get_mut(step) {
                Some(mine) => {
                    mine.member |= node.member;
                    mine.below = mine.below.union(&node.below);
                }
                None => {
                    out.0.insert(step.clone(), node.clone());
                }
            }
        }
        out
    }

    /// Paths in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.filter(|step, node| {
            other.0.get(step).map(|theirs| Node {
                member: node.member && theirs.member,
                below: node.below.intersection(&theirs.below),
            })
        })
    }

    /// Paths in this set only; a member of `other` does not take what is below it along.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.filter(|step, node| {
            Some(match other.0.get(step) {
                None => node.clone(),
                Some(theirs) => Node {
                    member: node.member && !theirs.member,
                    below: node.below.difference(&theirs.below),
                },
            })
        })
    }

    /// Paths that neither are in `other` nor lie below one that is.
    #[must_use]
    pub fn recursive_difference(&self, other: &Self) -> Self {
        self.filter(|step, node| match other.0.get(step) {
            None => Some(node.clone()),
            Some(theirs) if theirs.member => None,
            Some(theirs) => Some(Node {
                member: node.member,
                below: node.below.recursive_difference(&theirs.below),
            }),
        })
    }

    fn filter(&self, keep: impl Fn(&Step, &Node) -> Option<Node>) -> Self {
        let kept = self.0.iter().filter_map(|(step, node)| {
            keep(step, node)
                .filter(|n| n.member || !n.below.0.is_empty())
                .map(|n| (step.clone(), n))
        });
        Self(kept.collect())
    }

    /// All member paths, a level's own members before what is below them.
    #[must_use]
    pub fn paths(&self) -> Vec<Vec<Step>> {
        let mut out = Vec::new();
        self.collect_paths(&mut Vec::new(), &mut out);
        out
    }

    fn collect_paths(&self, prefix: &mut Vec<Step>, out: &mut Vec<Vec<Step>>) {
        for (step, node) in self.0.iter().filter(|(_, n)| n.member) {
            debug_assert!(node.member);
            prefix.push(step.clone());
            out.push(prefix.clone());
            prefix.pop();
        }
        for (step, node) in &self.0 {
            prefix.push(step.clone());
            node.below.collect_paths(prefix, out);
            prefix.pop();
        }
    }

    /// As FieldsV1.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.json(false)
    }

    fn json(&self, also_itself: bool) -> Value {
        let mut out = Map::new();
        if also_itself && !self.0.is_empty() {
            out.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (step, node) in &self.0 {
            out.insert(step.to_key(), node.below.json(node.member));
        }
        Value::Object(out)
    }

    /// From FieldsV1; steps of an unknown sort are dropped, as the real server does.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        let Value::Object(map) = value else {
            return Ok(Self::default());
        };
        let mut out = Self::default();
        for (key, below) in map.iter().filter(|(key, _)| *key != ".") {
            let Some(step) = Step::from_key(key)? else {
                continue;
            };
            let inner = Self::from_json(below)?;
            let member = inner.0.is_empty() || below.get(".").is_some();
            out.attach(step, member, inner);
        }
        Ok(out)
    }
}

impl<'a> FromIterator<&'a [&'a str]> for Set {
    /// From paths of field names.
    fn from_iter<T: IntoIterator<Item = &'a [&'a str]>>(paths: T) -> Self {
        let mut out = Self::default();
        for path in paths {
            let steps: Vec<Step> = path.iter().map(|s| Step::Field((*s).to_owned())).collect();
            out.insert(&steps);
        }
        out
    }
}

impl Step {
    fn to_key(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Value(literal) => format!("v:{}", literal.json()),
            Self::Index(index) => format!("i:{index}"),
            Self::Key(fields) => {
                let fields: Vec<String> = fields
                    .iter()
                    .map(|(name, v)| format!("{}:{}", Value::from(name.as_str()), v.json()))
                    .collect();
                format!("k:{{{}}}", fields.join(","))
            }
        }
    }

    fn from_key(key: &str) -> Result<Option<Self>, String> {
        let Some((sort, rest)) = key.split_once(':') else {
            return Err(format!("missing colon: {key}"));
        };
        let json = |text: &str| {
            serde_json::from_str::<Value>(text).map_err(|e| format!("field path {key}: {e}"))
        };
        Ok(Some(match sort {
            "f" => Self::Field(rest.to_owned()),
            "v" => Self::Value(Literal(json(rest)?)),
            "i" => Self::Index(rest.parse().map_err(|_| format!("bad index: {key}"))?),
            "k" => match json(rest)? {
                Value::Object(map) => {
                    let mut fields: Vec<_> =
                        map.into_iter().map(|(k, v)| (k, Literal(v))).collect();
                    fields.sort();
                    Self::Key(fields)
                }
                _ => return Err(format!("bad key: {key}")),
            },
            _ => return Ok(None),
        }))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Value(literal) => write!(f, "[={}]", literal.0),
            Self::Index(index) => write!(f, "[{index}]"),
            Self::Key(fields) => {
                let fields: Vec<String> =
                    fields.iter().map(|(k, v)| format!("{k}={}", v.0)).collect();
                write!(f, "[{}]", fields.join(","))
            }
        }
    }
}

/// A path as messages print it: `.spec.containers[name="web"].image`.
#[must_use]
pub fn print_path(path: &[Step]) -> String {
    path.iter().map(ToString::to_string).collect()
}

impl Literal {
    /// JSON with `<`, `>` and `&` escaped, as Go writes it.
    fn json(&self) -> String {
        let plain = self.0.to_string();
        if plain.contains(['<', '>', '&']) {
            plain
                .replace('<', "\\u003c")
                .replace('>', "\\u003e")
                .replace('&', "\\u0026")
        } else {
            plain
        }
    }

    fn rank(&self) -> u8 {
        match &self.0 {
            Value::Number(_) => 0,
            Value::String(_) => 1,
            Value::Bool(_) => 2,
            Value::Array(_) => 3,
            Value::Object(_) => 4,
            Value::Null => 5,
        }
    }
}

impl Ord for Literal {
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Value::Number(a), Value::Number(b)) => match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => {
                    let (a, b) = (a.as_f64(), b.as_f64());
                    a.partial_cmp(&b).unwrap_or(Ordering::Equal)
                }
            },
            (Value::String(a), Value::String(b)) => a.cmp(b),
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (a, b) => self
                .rank()
                .cmp(&other.rank())
                .then_with(|| a.to_string().cmp(&b.to_string())),
        }
    }
}

impl PartialOrd for Literal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Literal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Literal {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn set(value: Value) -> Set {
        Set::from_json(&value).unwrap()
    }

    #[test]
    fn fields_v1_reads_and_writes_back_the_same() {
        let cases = [
            json!({"f:data": {".": {}, "f:a": {}, "f:b": {}}}),
            json!({"f:spec": {"f:ports": {".": {}, "k:{\"port\":80,\"protocol\":\"TCP\"}":
                {".": {}, "f:port": {}}}}}),
            json!({"f:metadata": {"f:finalizers": {".": {}, "v:\"a/b\"": {}}}}),
            json!({}),
        ];
        for case in cases {
            assert_eq!(set(case.clone()).to_json(), case);
        }
    }

    #[test]
    fn unknown_steps_are_dropped_and_broken_ones_named() {
        assert_eq!(
            set(json!({"x:y": {}, "f:a": {}})).to_json(),
            json!({"f:a": {}})
        );
        assert!(
            Set::from_json(&json!({"nocolon": {}}))
                .unwrap_err()
                .contains("nocolon")
        );
    }

    #[test]
    fn difference_keeps_children_of_members_and_recursive_difference_does_not() {
        let whole = set(json!({"f:a": {".": {}, "f:b": {}}, "f:c": {}}));
        let parent = set(json!({"f:a": {}}));
        assert_eq!(
            whole.difference(&parent).to_json(),
            json!({"f:a": {"f:b": {}}, "f:c": {}})
        );
        assert_eq!(
            whole.recursive_difference(&parent).to_json(),
            json!({"f:c": {}})
        );
    }

    #[test]
    fn paths_print_as_the_server_prints_them() {
        let all = set(
            json!({"f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {"f:image": {}}}},
            "f:metadata": {"f:finalizers": {"v:\"x\"": {}}}, "f:data": {"f:a": {}}}),
        );
        let printed: Vec<String> = all.paths().iter().map(|p| print_path(p)).collect();
        assert_eq!(
            printed,
            [
                ".data.a",
                ".metadata.finalizers[=\"x\"]",
                ".spec.containers[name=\"web\"].image"
            ]
        );
    }

    fn arbitrary() -> impl Strategy<Value = Set> {
        let path = prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4);
        prop::collection::vec(path, 0..8).prop_map(|paths| {
            let mut set = Set::default();
            for path in paths {
                let steps: Vec<Step> = path.into_iter().map(|s| Step::Field(s.into())).collect();
                set.insert(&steps);
            }
            set
        })
    }

    proptest! {
        #[test]
        fn the_algebra_agrees_with_sets_of_paths(a in arbitrary(), b in arbitrary()) {
            use std::collections::BTreeSet;
            let flat = |s: &Set| s.paths().into_iter().collect::<BTreeSet<_>>();
            let (x, y) = (flat(&a), flat(&b));
            prop_assert_eq!(flat(&a.union(&b)), x.union(&y).cloned().collect::<BTreeSet<_>>());
            prop_assert_eq!(
                flat(&a.intersection(&b)),
                x.intersection(&y).cloned().collect::<BTreeSet<_>>()
            );
            prop_assert_eq!(
                flat(&a.difference(&b)),
                x.difference(&y).cloned().collect::<BTreeSet<_>>()
            );
            prop_assert_eq!(Set::from_json(&a.to_json()).unwrap(), a);
        }
    }
}
