//! A plan as a comment of a pull request: short at first sight, each diff folded away, never longer than a forge takes.
//!
//! What users wrote (names of branches, messages, values) stands in code, where no forge reads markup, mentions or HTML.

use muster_decide::plan::{Diff, Plan};

use super::{asked, body, count, headline, named, summary};
use crate::text::{Paper, clean};

/// GitHub takes 65,536 characters; Gitea, Forgejo and GitLab take more. Counted in bytes, which are no fewer.
const LONGEST: usize = 65_000;
/// Of one diff.
const LONGEST_DIFF: usize = 16_000;
/// Of one line of a diff, and of one message.
const LONGEST_LINE: usize = 400;
/// Problems and what waits; of more, only how many.
const MOST_MESSAGES: usize = 40;
/// What the last sentence takes.
const RESERVE: usize = 200;

/// All of it, as far as it fits; `of` says what is planned.
pub(crate) fn markdown(of: &str, plan: &Plan) -> String {
    let mut text = format!("### Plan of {}\n\n**{}.**\n", code(of), summary(plan));
    let waiting = plan.waiting.iter().map(|it| {
        let clusters = named(&it.clusters);
        format!("{}: {clusters}", code(&it.message))
    });
    list(&mut text, "Would wait for approval", waiting.collect());
    let unheard = plan.unheard.iter().map(|it| {
        let clusters = named(&it.clusters);
        format!("{}: {clusters}", code(&asked(it)))
    });
    list(&mut text, "Not known", unheard.collect());
    let problems = plan.problems.iter().map(|problem| {
        let location = problem.location.as_ref();
        let location = location.map(|at| format!("{}: ", code(&at.to_string())));
        let message = code(&problem.message);
        format!("{}{message}", location.unwrap_or_default())
    });
    list(&mut text, "Problems", problems.collect());
    let mut left_out = 0;
    for diff in &plan.diffs {
        let short = format!("\n- {}\n", headline(diff));
        let fits = |more: &str| text.len() + more.len() + RESERVE <= LONGEST;
        match [folded(diff), short].into_iter().find(|more| fits(more)) {
            Some(more) => text.push_str(&more),
            None => left_out += 1,
        }
    }
    if left_out > 0 {
        let left_out = count(left_out, "more diff");
        text.push_str(&format!(
            "\n_{left_out} left out for want of room: `muster plan` shows all._\n"
        ));
    }
    text
}

fn list(text: &mut String, title: &str, items: Vec<String>) {
    if items.is_empty() {
        return;
    }
    text.push_str(&format!("\n**{title}**\n\n"));
    for item in items.iter().take(MOST_MESSAGES) {
        text.push_str(&format!("- {item}\n"));
    }
    match items.len().saturating_sub(MOST_MESSAGES) {
        0 => {}
        more => text.push_str(&format!("- and {more} more\n")),
    }
}

fn folded(diff: &Diff) -> String {
    let mut lines = String::new();
    for line in body(diff).paint(Paper::default()).lines() {
        if lines.len() + LONGEST_LINE > LONGEST_DIFF {
            lines.push_str("  ... and more: `muster plan` shows all\n");
            break;
        }
        lines.push_str(cut(line));
        lines.push('\n');
    }
    let fence = "`".repeat(longest_run(&lines).max(2) + 1);
    let (headline, clusters) = (headline(diff), named(&diff.clusters));
    format!(
        "\n<details>\n<summary>{headline}</summary>\n\nOn {clusters}\n\n{fence}diff\n{lines}{fence}\n\n</details>\n"
    )
}

/// A text as code on one line, whatever it holds.
fn code(text: &str) -> String {
    let text = clean(text);
    let text = cut(&text);
    let ticks = "`".repeat(longest_run(text) + 1);
    let space = match text.starts_with('`') || text.ends_with('`') {
        true => " ",
        false => "",
    };
    format!("{ticks}{space}{text}{space}{ticks}")
}

/// The longest run of backticks: what stands around a text in code must have more.
fn longest_run(text: &str) -> usize {
    let runs = text.split(|c| c != '`').map(str::len);
    runs.max().unwrap_or(0)
}

fn cut(line: &str) -> &str {
    &line[..line.floor_char_boundary(LONGEST_LINE)]
}

#[cfg(test)]
mod tests {
    use muster_decide::Location;
    use muster_decide::problem::Problem;

    use super::*;
    use crate::show::example;

    #[test]
    fn a_comment_says_the_sum_first_and_folds_the_diffs() {
        insta::assert_snapshot!(markdown(example::OF, &example::plan()), @r#"
        ### Plan of `the merge of raise-replicas (4be1c2a) into main (1fe08d3)`

        **3 distinct diffs over 12,000 of 12,431 clusters: 2 objects created, 2 changed, 1 replaced, 1 refused, 2 removed, 1 left behind; 1 removal would wait for approval; 1 problem.**

        **Would wait for approval**

        - `` application logging would leave 40 of 40 clusters: it stays until `muster approve logging` ``: eu-00001, eu-00002, eu-00003, eu-00004, eu-00005 and 35 more

        **Problems**

        - `apps/web/muster.yaml:8`: `the repository has no folder dev`

        <details>
        <summary>shop would change on 12,000 clusters</summary>

        On eu-00001, eu-00002, eu-00003, eu-00004, eu-00005 and 11,995 more

        ```diff
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
        ```

        </details>

        <details>
        <summary>monitoring would come to 2 clusters</summary>

        On eu-00001, eu-00002

        ```diff
        + DaemonSet.apps shop/agent: would be created
        ```

        </details>

        <details>
        <summary>old would leave 1 cluster</summary>

        On eu-00001

        ```diff
        - ConfigMap shop/old: would be removed
        ```

        </details>
        "#);
    }

    #[test]
    fn what_users_wrote_never_becomes_markup() {
        let mut plan = example::plan();
        plan.diffs.truncate(1);
        plan.diffs[0].objects[0].fields[0].after =
            Some("\"```\\n</details> @everyone <img src=x>\"".into());
        plan.problems = vec![Problem {
            variants: Vec::new(),
            application: None,
            cluster: None,
            location: Some(Location::new("a`b/muster.yaml", 1)),
            message: "`` @team\n# <script>".into(),
        }];
        let text = markdown("branch `x` <b>", &plan);
        assert!(
            text.starts_with("### Plan of ``branch `x` <b>``\n"),
            "{text}"
        );
        assert!(
            text.contains("- ``a`b/muster.yaml:1``: ``` `` @team # <script> ```\n"),
            "{text}"
        );
        let (_, block) = text.split_once("````diff\n").unwrap();
        let (block, after) = block.split_once("````\n").unwrap();
        assert!(block.contains("</details> @everyone"), "{block}");
        assert_eq!(after.trim(), "</details>");
    }

    #[test]
    fn a_comment_is_never_longer_than_a_forge_takes() {
        let mut plan = example::plan();
        let mut diff = plan.diffs[0].clone();
        diff.clusters.truncate(6);
        let change = diff.objects[0].clone();
        plan.diffs = vec![diff; 3_000];
        plan.diffs[0].objects = vec![change; 10_000];
        plan.problems = (0..10_000)
            .map(|at| Problem {
                variants: Vec::new(),
                application: None,
                cluster: None,
                location: Some(Location::new("ä".repeat(5_000), at)),
                message: "ö".repeat(5_000),
            })
            .collect();
        let text = markdown(example::OF, &plan);
        assert!(text.len() <= 65_536, "{}", text.len());
        assert!(text.contains("- and 9960 more\n"), "{text}");
        assert!(text.contains("  ... and more: `muster plan` shows all\n"));
        assert!(
            text.ends_with("more diffs left out for want of room: `muster plan` shows all._\n"),
            "{text}"
        );
        assert_eq!(
            text.matches("<details>").count(),
            text.matches("</details>").count()
        );
    }
}
