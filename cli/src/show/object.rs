//! `muster get object`: how one object stands, and each field that Git states, as it is.

use muster_proto::Timestamp;
use muster_proto::wire::v1;

use super::{Look, diff, rows, values, words};
use crate::text::{Cell, Text, Tone};

/// Characters of one value in the table.
const LONGEST: usize = 40;

/// All of it.
pub(crate) fn object(
    comparison: &v1::Comparison,
    told: &v1::ObjectComparison,
    now: Timestamp,
) -> Text {
    let look = Look {
        wide: false,
        headers: true,
        now,
    };
    let status = told.status.clone().unwrap_or_default();
    let key = status.key.clone().unwrap_or_default();
    let mut fields: Vec<(&'static str, Cell)> = vec![
        ("Object", words::object(&key).into()),
        ("Namespace", words::or_dash(&key.namespace).into()),
        ("Cluster", comparison.cluster.as_str().into()),
        ("Application", status.application.as_str().into()),
        ("Revision", words::revision(&comparison.revision).into()),
        ("Sync", words::status(&status.sync)),
        ("Health", words::status(&status.health)),
    ];
    if status.since_ms != 0 {
        fields.push(("Since", words::age(status.since_ms, now).into()));
    }
    for (name, text) in [
        ("Message", status.message.clone()),
        ("Last drift", rows::last_drift(&status, look)),
    ] {
        if !text.is_empty() {
            fields.push((name, text.into()));
        }
    }
    let tone = match told.change.as_str() {
        "none" => Tone::Good,
        _ => Tone::Bad,
    };
    fields.push(("Now", Cell::new(diff::verdict(told), tone)));
    if !told.held.is_empty() && told.change != "none" {
        fields.push(("Not done", told.held.as_str().into()));
    }
    let mut text = Text::fields(fields);
    text.paragraph(table(told, now));
    if told.more_fields > 0 {
        text.line([format!("... and {} more fields", told.more_fields).into()]);
    }
    text
}

fn table(told: &v1::ObjectComparison, now: Timestamp) -> Text {
    let rows = told.fields.iter().map(|field| {
        let (word, tone) = match field.how.as_str() {
            "same" => ("", Tone::Plain),
            "ignored" => ("ignored", Tone::Busy),
            how => (how, Tone::Bad),
        };
        vec![
            field.path.as_str().into(),
            values::short(field.desired.as_deref(), LONGEST).into(),
            Cell::new(values::short(field.live.as_deref(), LONGEST), tone),
            Cell::new(word, tone),
            words::or_dash(&field.manager).into(),
            words::age(field.at_ms, now).into(),
        ]
    });
    let columns = ["FIELD", "GIT", "CLUSTER", "DIFFERS", "BY", "WROTE"];
    Text::table(true, &columns, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::example;
    use crate::text::Paper;

    #[test]
    fn an_object_is_told_of_with_each_field_that_git_states() {
        let comparison = example::comparison();
        let text = object(&comparison, &comparison.objects[0], example::look().now);
        insta::assert_snapshot!(text.paint(Paper::default()), @r#"
        Object:        deployment.apps/web
        Namespace:     shop
        Cluster:       eu-1
        Application:   shop
        Revision:      4be1c2a
        Sync:          Drifted
        Health:        InProgress
        Since:         5m
        Message:       repair is off
        Last drift:    .spec.replicas and 1 more changed by kubectl-edit
        Now:           would be changed
        Not done:      self-heal is off (sync.selfHeal)

        FIELD                                          GIT     CLUSTER                              DIFFERS   BY             WROTE
        .spec.paused                                   false   false                                          muster         5m
        .spec.replicas                                 3       5                                    changed   kubectl-edit   5m
        .spec.template.spec.containers[name="debug"]   -       {"image":"busybox","name":"debug"}   added     kubectl-edit   5m
        .spec.minReadySeconds                          1       9                                    ignored   tuner          5m
        "#);
    }
}
