//! `muster plan`: what a commit would change on the whole fleet, clusters with the same change together.
//!
//! In: a [`Plan`] and what it is of. Out: text for a terminal, or a comment for a pull request ([`markdown`]). Nothing
//! of a Secret is in a plan.

use std::collections::BTreeSet;

use muster_decide::plan::{
    Action, Diff, DiffKind, DryRun, FieldChange, ObjectChange, Outcome, Plan, Unheard,
};
use muster_proto::ClusterName;

use super::values;
use crate::text::{Cell, Text, Tone};

pub(crate) mod markdown;

/// Clusters that are named; of more, only how many.
const NAMED: usize = 5;

/// All of it; `of` says what is planned.
pub(crate) fn text(of: &str, plan: &Plan) -> Text {
    let mut text = Text::default();
    text.line([format!("Plan of {of}").into()]);
    for diff in &plan.diffs {
        let mut shown = Text::default();
        let clusters = named(&diff.clusters);
        shown.line([format!("{}: {clusters}", headline(diff)).into()]);
        shown.append(body(diff));
        text.paragraph(shown);
    }
    text.paragraph(waiting(plan));
    text.paragraph(unheard(plan));
    text.paragraph(problems(plan));
    let mut last = Text::default();
    last.line([format!("{}.", summary(plan)).into()]);
    text.paragraph(last);
    text
}

/// `shop would change on 3 clusters`.
fn headline(diff: &Diff) -> String {
    let what = match diff.kind {
        DiffKind::Gained => "would come to",
        DiffKind::Lost => "would leave",
        DiffKind::Changed => "would change on",
    };
    let clusters = count(diff.clusters.len(), "cluster");
    format!("{} {what} {clusters}", diff.application)
}

/// The change itself. Lines begin as those of a `diff` do.
fn body(diff: &Diff) -> Text {
    let mut text = Text::default();
    if !diff.settings.is_empty() {
        text.line(["~ settings of the application".into()]);
        text.append(fields(&diff.settings));
    }
    for change in &diff.objects {
        let (mark, what, tone) = action(change);
        text.line([Cell::new(format!("{mark} {}: {what}", change.object), tone)]);
        text.append(fields(&change.fields));
    }
    if let Some(why) = &diff.removals_wait {
        text.line([Cell::new(format!("! removals wait: {why}"), Tone::Busy)]);
    }
    if let Some(dry_run) = &diff.dry_run {
        text.append(tried(dry_run));
    }
    text
}

/// `dry run on eu-1: 3 objects are taken`, and those that are not.
fn tried(dry_run: &DryRun) -> Text {
    let mut text = Text::default();
    if let Some(cluster) = &dry_run.cluster {
        let taken = count(dry_run.taken, "object");
        let verb = match dry_run.taken {
            1 => "is",
            _ => "are",
        };
        text.line([format!("  dry run on {cluster}: {taken} {verb} taken").into()]);
    }
    for tried in &dry_run.objects {
        let (mark, word, tone) = match tried.outcome {
            Outcome::Refused => ("!", "refused", Tone::Bad),
            Outcome::NotTried => (" ", "not tried", Tone::Busy),
            Outcome::Unknown => ("!", "not known", Tone::Bad),
        };
        let line = format!("{mark} {}: {word}: {}", tried.object, tried.message);
        text.line([Cell::new(line, tone)]);
    }
    if let Some(why) = &dry_run.incomplete {
        let line = match dry_run.cluster {
            Some(_) => format!("! {why}"),
            None => format!("! no dry run: {why}"),
        };
        text.line([Cell::new(line, Tone::Bad)]);
    }
    text
}

fn action(change: &ObjectChange) -> (&'static str, &'static str, Tone) {
    match change.action {
        Action::Create => ("+", "would be created", Tone::Good),
        Action::Change => ("~", "would be changed", Tone::Plain),
        Action::Replace => (
            "!",
            "can't be changed, would be deleted and made anew",
            Tone::Bad,
        ),
        Action::Refused => (
            "!",
            "can't be changed: the API server will refuse it, unless sync.replace lets it be made anew",
            Tone::Bad,
        ),
        Action::Prune => ("-", "would be removed", Tone::Bad),
        Action::Leave => (" ", "leaves Git and stays in the cluster", Tone::Busy),
    }
}

fn fields(changes: &[FieldChange]) -> Text {
    let mut text = Text::default();
    for change in changes {
        let mut line: Vec<Cell> = vec![format!("  {}", change.path).into()];
        if change.immutable {
            line.push(Cell::new("   (can't be changed in place)", Tone::Bad));
        }
        text.line(line);
        let (before, after) = (change.before.as_deref(), change.after.as_deref());
        text.append(values::change(before, after));
    }
    text
}

fn waiting(plan: &Plan) -> Text {
    let mut text = Text::default();
    for waiting in &plan.waiting {
        let clusters = named(&waiting.clusters);
        let line = format!("Would wait: {}: {clusters}", waiting.message);
        text.line([Cell::new(line, Tone::Busy)]);
    }
    text
}

fn unheard(plan: &Plan) -> Text {
    let mut text = Text::default();
    for unheard in &plan.unheard {
        let line = format!(
            "Not known: {}: {}",
            asked(unheard),
            named(&unheard.clusters)
        );
        text.line([Cell::new(line, Tone::Busy)]);
    }
    text
}

/// What is not known of clusters, and when it will be.
fn asked(unheard: &Unheard) -> String {
    let Unheard {
        application,
        variant,
        api_versions,
        clusters,
    } = unheard;
    let versions = api_versions.join(", ");
    let clusters = count(clusters.len(), "cluster");
    format!(
        "charts of application {application}, target {variant}, ask whether {versions} is served, which {clusters} did not say yet: they are asked once it is merged, and {application} stays there as it is until they have answered"
    )
}

fn problems(plan: &Plan) -> Text {
    let rows = plan.problems.iter().map(|problem| {
        let location = problem.location.as_ref().map(ToString::to_string);
        let whose = problem.application.as_ref().map(ToString::to_string);
        vec![
            location.unwrap_or_else(|| "-".to_owned()).into(),
            whose.unwrap_or_else(|| "-".to_owned()).into(),
            Cell::new(&problem.message, Tone::Bad),
        ]
    });
    Text::table(
        true,
        &["PROBLEM AT", "APPLICATION", "MESSAGE"],
        rows.collect(),
    )
}

/// `3 distinct diffs over 12,400 of 12,431 clusters: 2 objects created, 1 changed; 1 problem`: objects of a diff count
/// once, on however many clusters they are.
fn summary(plan: &Plan) -> String {
    let all = count(plan.clusters, "cluster");
    let mut line = match plan.diffs.len() {
        0 if plan.unheard.is_empty() => format!("Nothing would change on {all}"),
        0 => format!("Nothing else would change on {all}"),
        diffs => {
            let clusters = plan.diffs.iter().flat_map(|diff| &diff.clusters);
            let clusters = clusters.collect::<BTreeSet<_>>().len();
            let on = match clusters == plan.clusters {
                true => all,
                false => format!("{} of {all}", thousands(clusters)),
            };
            format!("{} over {on}", count(diffs, "distinct diff"))
        }
    };
    let actions = plan.diffs.iter().flat_map(|diff| &diff.objects);
    let actions: Vec<Action> = actions.map(|change| change.action).collect();
    let mut counts = Vec::new();
    for (action, word) in [
        (Action::Create, "created"),
        (Action::Change, "changed"),
        (Action::Replace, "replaced"),
        (Action::Refused, "refused"),
        (Action::Prune, "removed"),
        (Action::Leave, "left behind"),
    ] {
        let found = actions.iter().filter(|it| **it == action).count();
        match (found, counts.is_empty()) {
            (0, _) => {}
            (found, true) => counts.push(format!("{} {word}", count(found, "object"))),
            (found, false) => counts.push(format!("{} {word}", thousands(found))),
        }
    }
    if !counts.is_empty() {
        line.push_str(&format!(": {}", counts.join(", ")));
    }
    if !plan.waiting.is_empty() {
        let waiting = count(plan.waiting.len(), "removal");
        line.push_str(&format!("; {waiting} would wait for approval"));
    }
    let dry_runs = plan.diffs.iter().filter_map(|diff| diff.dry_run.as_ref());
    let dry_runs: Vec<&DryRun> = dry_runs.collect();
    let tried = dry_runs.iter().flat_map(|dry_run| &dry_run.objects);
    let refused = tried.filter(|it| it.outcome == Outcome::Refused).count();
    if refused > 0 {
        let refused = count(refused, "object");
        line.push_str(&format!("; API servers refuse {refused}"));
    }
    let left = dry_runs.iter().filter(|it| {
        it.incomplete.is_some() || it.objects.iter().any(|it| it.outcome == Outcome::Unknown)
    });
    let left = left.count();
    if left > 0 {
        let left = count(left, "diff");
        line.push_str(&format!("; {left} could not be tried, or not all of it"));
    }
    let unheard = plan.unheard.iter().flat_map(|it| &it.clusters);
    let unheard = unheard.collect::<BTreeSet<_>>().len();
    if unheard > 0 {
        let unheard = count(unheard, "cluster");
        line.push_str(&format!("; not known on {unheard}"));
    }
    if !plan.problems.is_empty() {
        line.push_str(&format!("; {}", count(plan.problems.len(), "problem")));
    }
    line
}

/// The first few, and how many more there are.
fn named(clusters: &[ClusterName]) -> String {
    let names = clusters.iter().take(NAMED).map(ClusterName::as_str);
    let names = names.collect::<Vec<_>>().join(", ");
    match clusters.len().saturating_sub(NAMED) {
        0 => names,
        more => format!("{names} and {} more", thousands(more)),
    }
}

/// `1 cluster`, `12,431 clusters`.
fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        number => format!("{} {what}s", thousands(number)),
    }
}

/// `12,431`.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::example;
    use crate::text::Paper;

    #[test]
    fn clusters_with_the_same_change_stand_together_and_every_kind_of_change_is_told() {
        let text = text(example::OF, &example::plan());
        let text = text.paint(Paper::default());
        insta::assert_snapshot!(text, @r#"
        Plan of the merge of raise-replicas (4be1c2a) into main (1fe08d3)

        shop would change on 12,000 clusters: eu-00001, eu-00002, eu-00003, eu-00004, eu-00005 and 11,995 more
        ~ settings of the application
          .prune
        - true
        + false
        ~ Deployment.apps shop/web: would be changed
          .spec.replicas
        - 3
        + 5
          .metadata.labels.tier
        + "front"
        ~ Secret shop/token: would be changed
          .data.token
        ~ (secret)
        + ConfigMap shop/settings: would be created
        - ConfigMap shop/old: would be removed
          ConfigMap shop/kept: leaves Git and stays in the cluster
        ! StatefulSet.apps shop/db: can't be changed: the API server will refuse it, unless sync.replace lets it be made anew
          .spec.serviceName   (can't be changed in place)
        - "a"
        + "b"
        ! Job.batch shop/migrate: can't be changed, would be deleted and made anew
        ! removals wait: application web does not render

        monitoring would come to 2 clusters: eu-00001, eu-00002
        + DaemonSet.apps shop/agent: would be created

        old would leave 1 cluster: eu-00001
        - ConfigMap shop/old: would be removed

        Would wait: application logging would leave 40 of 40 clusters: it stays until `muster approve logging`: eu-00001, eu-00002, eu-00003, eu-00004, eu-00005 and 35 more

        PROBLEM AT               APPLICATION   MESSAGE
        apps/web/muster.yaml:8   web           the repository has no folder dev

        3 distinct diffs over 12,000 of 12,431 clusters: 2 objects created, 2 changed, 1 replaced, 1 refused, 2 removed, 1 left behind; 1 removal would wait for approval; 1 problem.
        "#);
        let page = include_str!("../../../docs/behaviour/planning.md");
        assert!(page.contains(&text), "docs/behaviour/planning.md shows it");
    }

    #[test]
    fn what_api_servers_say_stands_below_each_diff() {
        let text = text(example::OF, &example::tried());
        let text = text.paint(Paper::default());
        let (_, text) = text.split_once("would be created\n").unwrap();
        insta::assert_snapshot!(text, @r#"
        ! removals wait: application web does not render
          dry run on eu-00002: 1 object is taken
        ! Deployment.apps shop/web: refused: deployments.apps "web" is forbidden: ValidatingAdmissionPolicy 'replicas' with binding 'all' denied request: at most 4 replicas
          ConfigMap shop/settings: not tried: its Namespace shop is created by this plan

        monitoring would come to 2 clusters: eu-00001, eu-00002
        + DaemonSet.apps shop/agent: would be created
        ! no dry run: none of its 2 clusters is connected

        old would leave 1 cluster: eu-00001
        - ConfigMap shop/old: would be removed

        Would wait: application logging would leave 40 of 40 clusters: it stays until `muster approve logging`: eu-00001, eu-00002, eu-00003, eu-00004, eu-00005 and 35 more

        3 distinct diffs over 12,000 of 12,431 clusters: 2 objects created, 2 changed, 1 removed; 1 removal would wait for approval; API servers refuse 1 object; 1 diff could not be tried, or not all of it.
        "#);
        let page = include_str!("../../../docs/behaviour/planning.md");
        for line in text.lines().filter(|line| {
            line.starts_with("  dry run")
                || line.starts_with("! no dry run")
                || line.contains("tried: ")
                || line.contains(": refused: ")
        }) {
            assert!(
                page.contains(line),
                "docs/behaviour/planning.md shows {line}"
            );
        }
    }

    /// The form is promised: what the page shows is whole, and nothing of it is called otherwise.
    #[test]
    fn the_json_of_the_page_is_a_plan() {
        let page = include_str!("../../../docs/behaviour/planning.md");
        let (_, json) = page.split_once("```json\n").unwrap();
        let (json, _) = json.split_once("```").unwrap();
        let mut shown: serde_json::Value = serde_json::from_str(json).unwrap();
        let plan: Plan = serde_json::from_value(shown.clone()).unwrap();
        let fields = shown.as_object_mut().unwrap();
        assert_eq!(fields.remove("of"), Some(example::OF.into()));
        assert_eq!(serde_json::to_value(plan).unwrap(), shown);
    }

    #[test]
    fn a_plan_without_a_change_says_so_and_of_how_many_clusters() {
        let plan = Plan {
            clusters: 12_431,
            ..Plan::default()
        };
        let text = text("commit 4be1c2a", &plan).paint(Paper::default());
        assert_eq!(
            text,
            "Plan of commit 4be1c2a\n\nNothing would change on 12,431 clusters.\n"
        );
    }

    #[test]
    fn what_goes_is_red_and_what_comes_is_green() {
        let paper = Paper {
            colour: true,
            size: None,
        };
        let text = text(example::OF, &example::plan()).paint(paper);
        for line in [
            "\u{1b}[32m+ ConfigMap shop/settings: would be created\u{1b}[0m",
            "\u{1b}[31m- ConfigMap shop/old: would be removed\u{1b}[0m",
            "\u{1b}[32m+ 5\u{1b}[0m",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn what_no_cluster_was_asked_yet_is_not_called_unchanged() {
        let plan = Plan {
            clusters: 3,
            unheard: vec![Unheard {
                application: "shop".parse().unwrap(),
                variant: "prod".into(),
                api_versions: vec!["example.com/v1".into()],
                clusters: vec!["eu-1".parse().unwrap(), "eu-2".parse().unwrap()],
            }],
            ..Plan::default()
        };
        assert!(!plan.is_empty() && !plan.is_broken());
        let told = text("commit 4be1c2a", &plan).paint(Paper::default());
        insta::assert_snapshot!(told, @"
        Plan of commit 4be1c2a

        Not known: charts of application shop, target prod, ask whether example.com/v1 is served, which 2 clusters did not say yet: they are asked once it is merged, and shop stays there as it is until they have answered: eu-1, eu-2

        Nothing else would change on 3 clusters; not known on 2 clusters.
        ");
        let comment = markdown::markdown("commit 4be1c2a", &plan);
        assert!(
            comment.contains("ask whether example.com/v1 is served"),
            "{comment}"
        );
    }

    #[test]
    fn large_numbers_are_grouped() {
        let shown = [0, 999, 1_000, 12_431, 1_000_000].map(thousands);
        assert_eq!(shown, ["0", "999", "1,000", "12,431", "1,000,000"]);
    }
}
