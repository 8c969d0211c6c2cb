//! `muster diff`: each object that differs, field by field, as it is (`-`) and as Git says (`+`).

use muster_proto::Timestamp;
use muster_proto::wire::v1;

use super::{values, words};
use crate::text::{Cell, Text, Tone};

/// Characters of a value that is no line of its own.
const LONGEST: usize = 40;

/// All of it.
pub(crate) fn diff(application: &str, comparison: &v1::Comparison, now: Timestamp) -> Text {
    let mut text = Text::default();
    if !comparison.message.is_empty() {
        text.line([Cell::new(&comparison.message, Tone::Busy)]);
    }
    for told in &comparison.objects {
        text.paragraph(object(told, now));
    }
    text.paragraph(summary(application, comparison));
    text
}

/// Does anything differ that is not left so on purpose?
pub(crate) fn differs(comparison: &v1::Comparison) -> bool {
    comparison.objects.iter().any(is_different)
}

/// Objects of which nobody knows.
pub(crate) fn not_compared(comparison: &v1::Comparison) -> u32 {
    let unknown = comparison
        .objects
        .iter()
        .filter(|it| it.change == "unknown");
    comparison.left_out + u32::try_from(unknown.count()).unwrap_or(u32::MAX)
}

fn is_different(told: &v1::ObjectComparison) -> bool {
    let kept = told.status.as_ref().is_some_and(|it| it.sync == "Kept");
    !kept && !matches!(told.change.as_str(), "none" | "unknown")
}

fn object(told: &v1::ObjectComparison, now: Timestamp) -> Text {
    let key = told.status.as_ref().and_then(|status| status.key.clone());
    let key = key.unwrap_or_default();
    let place = match key.namespace.as_str() {
        "" => String::new(),
        namespace => format!(" in {namespace}"),
    };
    let mut text = Text::default();
    text.line([format!("{}{place}: {}", words::object(&key), verdict(told)).into()]);
    if !told.held.is_empty() && told.change != "none" {
        text.line([Cell::new(format!("  not now: {}", told.held), Tone::Busy)]);
    }
    if told.change == "create" {
        text.append(values::side(
            Some(told.desired.as_str()).filter(|it| !it.is_empty()),
            "+",
            Tone::Good,
        ));
    }
    if told.cut {
        text.line([Cell::new("  ... too large to be shown", Tone::Busy)]);
    }
    for field in told.fields.iter().filter(|field| field.how != "same") {
        text.append(self::field(field, now));
    }
    if told.more_fields > 0 {
        text.line([format!("  ... and {} more fields", told.more_fields).into()]);
    }
    text
}

/// What would become of an object.
pub(crate) fn verdict(told: &v1::ObjectComparison) -> String {
    match told.change.as_str() {
        "none" if told.fields.iter().any(|field| field.how == "ignored") => {
            "as Git says, but for what is left to others".into()
        }
        "none" => "as Git says".into(),
        "create" => "not there, would be created".into(),
        "update" => "would be changed".into(),
        "replace" => "can't be changed, would be deleted and made anew".into(),
        "delete" => "left Git, would be deleted".into(),
        "refused" => format!("can't be as Git says: {}", told.error),
        "unknown" => format!("could not be compared: {}", told.error),
        other => other.to_owned(),
    }
}

fn field(field: &v1::FieldComparison, now: Timestamp) -> Text {
    let ago = match field.at_ms {
        0 => String::new(),
        at => format!(", {} ago", words::age(at, now)),
    };
    let note = match (field.how.as_str(), field.manager.as_str()) {
        ("ignored", manager) => ignored(field, manager),
        ("added", manager) => format!("added by {manager}{ago}"),
        (_, "" | "muster") => String::new(),
        (_, manager) => format!("by {manager}{ago}"),
    };
    let mut text = Text::default();
    let mut line: Vec<Cell> = vec![format!("  {}", field.path).into()];
    if !note.is_empty() {
        line.push(Cell::new(format!("   ({note})"), Tone::Busy));
    }
    text.line(line);
    if field.how == "ignored" {
        return text;
    }
    text.append(values::change(
        field.live.as_deref(),
        field.desired.as_deref(),
    ));
    if field.cut {
        text.line(["  ... cut".into()]);
    }
    text
}

/// It is no line of the difference: nobody would change it.
fn ignored(field: &v1::FieldComparison, manager: &str) -> String {
    let value = |value: &Option<String>| values::short(value.as_deref(), LONGEST);
    let whose = match manager {
        "" => "left as it is".to_owned(),
        manager => format!("left to {manager}"),
    };
    format!(
        "ignored, {whose}: {}, in Git {}",
        value(&field.live),
        value(&field.desired)
    )
}

fn summary(application: &str, comparison: &v1::Comparison) -> Text {
    let count = |is: &dyn Fn(&&v1::ObjectComparison) -> bool| {
        comparison.objects.iter().filter(|it| is(it)).count()
    };
    let different = count(&|told| is_different(told));
    let kept = count(&|told| !is_different(told) && !matches!(&*told.change, "none" | "unknown"));
    let equal = comparison.equal as usize + count(&|told| told.change == "none");
    let revision = words::revision(&comparison.revision);
    let objects = |count: usize| match count {
        1 => "1 object".to_owned(),
        count => format!("{count} objects"),
    };
    let mut parts = Vec::new();
    match different {
        0 => {}
        1 => parts.push("1 object differs".to_owned()),
        many => parts.push(format!("{many} objects differ")),
    }
    if kept > 0 {
        parts.push(format!("{} left so on purpose", objects(kept)));
    }
    parts.push(format!("{} as Git says", objects(equal)));
    let mut text = Text::default();
    text.line([format!(
        "{application} on {}, Git at {revision}: {}.",
        comparison.cluster,
        parts.join(", ")
    )
    .into()]);
    if comparison.left_out > 0 {
        let left_out = format!(
            "{} left out: there was no time or no room; `muster get object` asks for one.",
            objects(comparison.left_out as usize)
        );
        text.line([Cell::new(left_out, Tone::Bad)]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::example;
    use crate::text::Paper;

    #[test]
    fn each_object_that_differs_is_shown_field_by_field() {
        let text = diff("shop", &example::comparison(), example::look().now);
        insta::assert_snapshot!(text.paint(Paper::default()), @r#"
        deployment.apps/web in shop: would be changed
          not now: self-heal is off (sync.selfHeal)
          .spec.replicas   (by kubectl-edit, 5m ago)
        - 5
        + 3
          .spec.template.spec.containers[name="debug"]   (added by kubectl-edit, 5m ago)
        - image: busybox
        - name: debug
          .spec.minReadySeconds   (ignored, left to tuner: 9, in Git 1)

        configmap/settings in shop: not there, would be created
        + data:
        +   a: "1"
        + kind: ConfigMap

        secret/login in shop: would be changed
          .data.password   (by kubectl-edit, 5m ago)
        ~ (secret)

        configmap/old in shop: left Git, would be deleted

        service/web in shop: can't be as Git says: spec.ports: Required value

        shop on eu-1, Git at 4be1c2a: 5 objects differ, 8 objects as Git says.
        2 objects left out: there was no time or no room; `muster get object` asks for one.
        "#);
    }

    #[test]
    fn what_goes_is_red_and_what_comes_is_green() {
        let paper = Paper {
            colour: true,
            size: None,
        };
        let text = diff("shop", &example::comparison(), example::look().now).paint(paper);
        assert!(text.contains("\u{1b}[31m- 5\u{1b}[0m"), "{text}");
        assert!(text.contains("\u{1b}[32m+ 3\u{1b}[0m"), "{text}");
    }

    #[test]
    fn what_is_left_so_on_purpose_is_no_difference_and_what_nobody_knows_is_not_equal() {
        let with = |change: &str, sync: &str| v1::Comparison {
            objects: vec![v1::ObjectComparison {
                change: change.into(),
                status: Some(v1::ObjectStatus {
                    sync: sync.into(),
                    ..v1::ObjectStatus::default()
                }),
                ..v1::ObjectComparison::default()
            }],
            ..v1::Comparison::default()
        };
        for (change, sync, different, unknown) in [
            ("none", "Synced", false, 0),
            ("update", "Drifted", true, 0),
            ("refused", "Failed", true, 0),
            ("delete", "PruneBlocked", true, 0),
            ("delete", "Kept", false, 0),
            ("unknown", "Failed", false, 1),
        ] {
            let comparison = with(change, sync);
            assert_eq!(
                (differs(&comparison), not_compared(&comparison)),
                (different, unknown),
                "{change}, {sync}"
            );
        }
        let left_out = v1::Comparison {
            left_out: 3,
            ..v1::Comparison::default()
        };
        assert_eq!(not_compared(&left_out), 3);
    }
}
