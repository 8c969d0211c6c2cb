//! Helm's hooks, as stages of an application.
//!
//! In: a document that a chart made. Out: the same as an object that stays, in a stage of its own before or after all
//! others, and made anew when it changes; nothing for a test; an error for what can't be kept as a state.

use std::collections::BTreeSet;

use crate::yaml::{Key, Node, Value};

const HOOK: &str = "helm.sh/hook";
const WEIGHT: &str = "helm.sh/hook-weight";
const STAGE: &str = "muster.dev/stage";
const REPLACE: &str = "muster.dev/replace";

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    Before,
    After,
}

/// Makes stages of hooks. What is wrong is told with the place of its document in the list.
pub(super) fn stages(documents: Vec<Node>) -> Vec<Result<Node, (u32, String)>> {
    let found: Vec<_> = documents
        .into_iter()
        .map(|document| {
            let hook = hook(&document);
            (document, hook)
        })
        .collect();
    let ranks = |when: When| -> Vec<i64> {
        let hooks = found
            .iter()
            .filter_map(|(_, hook)| hook.as_ref().ok()?.as_ref());
        let weights = hooks.filter_map(|hook| match hook {
            Hook::Runs(at, weight) if *at == when => Some(*weight),
            _ => None,
        });
        weights.collect::<BTreeSet<_>>().into_iter().collect()
    };
    let (before, after) = (ranks(When::Before), ranks(When::After));
    let staged = found.into_iter().filter_map(|(document, hook)| match hook {
        Ok(None) => Some(Ok(document)),
        Ok(Some(Hook::Test)) => None,
        Ok(Some(Hook::Runs(when, weight))) => {
            let ranks = match when {
                When::Before => &before,
                When::After => &after,
            };
            let rank = ranks.partition_point(|other| *other < weight);
            let rank = i64::try_from(rank).unwrap_or_default();
            let stage = match when {
                When::Before => rank - i64::try_from(before.len()).unwrap_or_default(),
                When::After => rank + 1,
            };
            let mut document = document;
            annotate(&mut document, STAGE, &stage.to_string());
            annotate(&mut document, REPLACE, "enabled");
            Some(Ok(document))
        }
        Err(message) => Some(Err((document.line, message))),
    });
    staged.collect()
}

/// What a document says of itself.
enum Hook {
    Test,
    Runs(When, i64),
}

fn hook(document: &Node) -> Result<Option<Hook>, String> {
    let Some(text) = document.text(&["metadata", "annotations", HOOK]) else {
        return Ok(None);
    };
    let mut whens = BTreeSet::new();
    let mut is_test = false;
    for event in text
        .split(',')
        .map(str::trim)
        .filter(|event| !event.is_empty())
    {
        match event {
            "pre-install" | "pre-upgrade" => _ = whens.insert(When::Before),
            "post-install" | "post-upgrade" => _ = whens.insert(When::After),
            "test" | "test-success" | "test-failure" => is_test = true,
            // As Helm 2 said it: before everything, as any definition is.
            "crd-install" => {}
            "pre-delete" | "post-delete" | "pre-rollback" | "post-rollback" => {
                return Err(format!(
                    "a hook of {event} can't be kept: Git is the state, and nothing is run when it leaves; take it out of the chart, or turn it off by the chart's values"
                ));
            }
            _ => return Err(format!("Helm has no hook {event:?}")),
        }
    }
    let weight = match document.text(&["metadata", "annotations", WEIGHT]) {
        None => 0,
        Some(text) => text
            .trim()
            .parse()
            .map_err(|_| format!("{WEIGHT} is no whole number"))?,
    };
    // One that runs before and after is there before.
    Ok(match whens.first() {
        Some(when) => Some(Hook::Runs(*when, weight)),
        None if is_test => Some(Hook::Test),
        None => None,
    })
}

/// States an annotation, unless the chart does.
fn annotate(document: &mut Node, name: &str, text: &str) {
    let Value::Map(entries) = &mut document.value else {
        return;
    };
    let metadata = entries.iter_mut().find(|(key, _)| key.text == "metadata");
    let Some((
        _,
        Node {
            value: Value::Map(metadata),
            ..
        },
    )) = metadata
    else {
        return;
    };
    let annotations = metadata
        .iter_mut()
        .find(|(key, _)| key.text == "annotations");
    let Some((
        _,
        Node {
            value: Value::Map(annotations),
            line,
        },
    )) = annotations
    else {
        return;
    };
    if annotations.iter().any(|(key, _)| key.text == name) {
        return;
    }
    let key = Key {
        line: *line,
        text: name.to_owned(),
    };
    let node = Node {
        line: *line,
        value: Value::Text(text.to_owned()),
    };
    annotations.push((key, node));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::yaml;

    /// `NAME STAGE` of each document, or what is wrong.
    fn staged(hooks: &[(&str, &str, &str)]) -> Vec<String> {
        let text: String = hooks
            .iter()
            .map(|(name, hook, weight)| {
                format!("---\nmetadata:\n  name: {name}\n  annotations: {{helm.sh/hook: \"{hook}\", helm.sh/hook-weight: \"{weight}\"}}\n")
            })
            .collect();
        let documents = yaml::documents(text.as_bytes()).unwrap();
        let shown = stages(documents)
            .into_iter()
            .map(|document| match document {
                Ok(node) => {
                    let annotation = |name| node.text(&["metadata", "annotations", name]);
                    let name = node.text(&["metadata", "name"]).unwrap();
                    let replaced = annotation(REPLACE).is_some();
                    assert_eq!(annotation(STAGE).is_some(), replaced);
                    format!("{name} {}", annotation(STAGE).unwrap_or("-"))
                }
                Err((line, message)) => format!("{line}: {}", message.split(':').next().unwrap()),
            });
        shown.collect()
    }

    #[test]
    fn hooks_stand_in_stages_around_all_others_by_weight() {
        let hooks = [
            ("late", "pre-install,pre-upgrade", "5"),
            ("early", "pre-install", "-5"),
            ("early-too", "pre-upgrade, post-upgrade", "-5"),
            ("after", "post-install,post-upgrade", "1"),
            ("last", "post-upgrade", "20"),
            ("test", "test", "0"),
            ("old-test", "test-success", "0"),
            ("definition", "crd-install", "0"),
        ];
        assert_eq!(
            staged(&hooks),
            [
                "late -1",
                "early -2",
                "early-too -2",
                "after 1",
                "last 2",
                "definition -"
            ]
        );
    }

    #[test]
    fn what_can_not_be_a_state_is_refused() {
        for (hook, weight, message) in [
            ("pre-delete", "0", "a hook of pre-delete can't be kept"),
            (
                "post-install,post-rollback",
                "0",
                "a hook of post-rollback can't be kept",
            ),
            ("pre-instal", "0", "Helm has no hook \"pre-instal\""),
            (
                "pre-install",
                "first",
                "helm.sh/hook-weight is no whole number",
            ),
        ] {
            assert_eq!(
                staged(&[("x", hook, weight)]),
                [format!("2: {message}")],
                "{hook}"
            );
        }
    }
}
