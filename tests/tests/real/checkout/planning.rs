//! `muster plan --local`: between commits, and to the files as they are.

use anyhow::{Result, ensure};
use muster_tests::git::{Repository, git};

use super::{FLEET, Place};

/// Without what differs from run to run.
fn without_ids(said: &str, revisions: &[&str]) -> String {
    let short = |said: String, (at, revision): (usize, &&str)| {
        said.replace(&revision[..7], ["COMMIT-1", "COMMIT-2", "COMMIT-3"][at])
    };
    revisions.iter().enumerate().fold(said.to_owned(), short)
}

#[tokio::test]
async fn a_change_is_planned_between_two_commits_and_the_files_as_they_are() -> Result<()> {
    let place = Place::with(FLEET).await?;
    let main = place.repository.head()?;
    place.put(
        "shop/base/settings.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: red, size: 'on'}\n",
    )?;
    place.put("shop/overlays/production/key", "hunter3")?;
    let chart = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: back}\n";
    place.put("front/chart/templates/settings.yaml", chart)?;
    let tree = place.muster("plan --local").await?;
    let change = place.repository.commit_all("A change")?;
    let ids = [main.as_str(), change.as_str()];
    insta::assert_snapshot!(without_ids(&(tree.out + &tree.err), &ids), @r#"
    Plan of COMMIT-1 to the working tree

    front would change on 1 cluster: eu-1
    + ConfigMap front/back: would be created
    - ConfigMap front/front: would be removed

    shop would change on 1 cluster: eu-1
    ~ ConfigMap shop/settings: would be changed
      .data.colour
    - "white"
    + "red"
    ~ Secret shop/door: would be changed
      .data.key
    ~ (secret)

    shop would change on 1 cluster: test-1
    ~ ConfigMap shop/settings-test: would be changed
      .data.colour
    - "white"
    + "red"

    3 distinct diffs over 2 clusters: 1 object created, 3 changed, 1 removed.
    "#);
    assert_eq!(tree.code, Some(2));

    // Committed, it is the same; from where they parted, too, though the other side has moved on.
    let commits = place.muster("plan --local HEAD~1..HEAD").await?;
    assert_eq!(commits.code, Some(2));
    let shown = |out: &str| out.split_once('\n').map(|(_, rest)| rest.to_owned());
    let again = place.muster(&format!("plan --local {main}")).await?;
    assert_eq!(shown(&commits.out), shown(&again.out));
    git(
        &place.work(),
        ["checkout", "--quiet", "-b", "other", "HEAD~1"],
    )?;
    place.repository.commit(
        "Aside",
        &[(
            "shop/base/kustomization.yaml",
            "resources: [settings.yaml]\nnamePrefix: x-\n",
        )],
    )?;
    let parted = place
        .muster(&format!("plan --local other...{change}"))
        .await?;
    assert_eq!(shown(&commits.out), shown(&parted.out));
    // With one less.
    let narrow = place.muster("plan --local main..main --app shop").await?;
    insta::assert_snapshot!(without_ids(&narrow.out, &ids), @r"
    Plan of COMMIT-2 to COMMIT-2

    Nothing would change on 2 clusters.
    ");
    assert_eq!(narrow.code, Some(0));
    let line = format!("plan --local {main}..{change} --cluster test-1 -o markdown");
    let markdown = place.muster(&line).await?;
    insta::assert_snapshot!(without_ids(&markdown.out, &ids), @r#"
    ### Plan of `COMMIT-1 to COMMIT-2`

    **1 distinct diff over 1 cluster: 1 object changed.**

    <details>
    <summary>shop would change on 1 cluster</summary>

    On test-1

    ```diff
    ~ ConfigMap shop/settings-test: would be changed
      .data.colour
    - "white"
    + "red"
    ```

    </details>
    "#);
    let json = place
        .muster(&format!("plan --local {main}..{change} -o json"))
        .await?;
    let plan: serde_json::Value = serde_json::from_str(&json.out)?;
    assert_eq!(plan["diffs"].as_array().map(Vec::len), Some(3));
    ensure!(!json.out.contains("hunter"), "{}", json.out);
    Ok(())
}

#[tokio::test]
async fn clusters_come_and_go_in_a_plan_and_what_is_broken_is_told() -> Result<()> {
    let place = Place::with(FLEET).await?;
    // The document goes, and the cluster stays: it joined by a token.
    let clusters = "apiVersion: muster.dev/v1alpha1
kind: Cluster
metadata: {name: test-1}
spec: {labels: {stage: production}, values: {host: test.example}}
";
    place.put("clusters/muster.yaml", clusters)?;
    place.put(
        "shop/overlays/test/kustomization.yaml",
        "resources: [gone.yaml]\n",
    )?;
    let head = place.repository.head()?;
    let plan = place.muster("plan --local").await?;
    insta::assert_snapshot!(without_ids(&(plan.out + &plan.err), &[&head]), @r"
    Plan of COMMIT-1 to the working tree

    front would come to 1 cluster: test-1
    + ConfigMap front/front: would be created

    front would leave 1 cluster: eu-1
    - ConfigMap front/front: would be removed

    shop would leave 1 cluster: eu-1
    - ConfigMap shop/settings: would be removed
    - Secret shop/door: would be removed

    shop would change on 1 cluster: test-1
    + ConfigMap shop/settings: would be created
    - ConfigMap shop/settings-test: would be removed
    + Secret shop/door: would be created

    4 distinct diffs over 2 clusters: 3 objects created, 4 removed.
    ");
    assert_eq!(plan.code, Some(2));
    // Where it is broken before and after, nothing is known to change.
    place.put(
        "shop/overlays/production/kustomization.yaml",
        "resources: [gone.yaml]\n",
    )?;
    let broken = place.repository.commit_all("Break it")?;
    let plan = place.muster("plan --local").await?;
    insta::assert_snapshot!(without_ids(&(plan.out + &plan.err), &[&broken]), @r"
    Plan of COMMIT-1 to the working tree

    PROBLEM AT                                      APPLICATION   MESSAGE
    shop/overlays/production/kustomization.yaml:1   shop          the repository has no file or folder shop/overlays/production/gone.yaml

    Nothing would change on 1 cluster; 1 problem.
    muster: COMMIT-1 has 1 problem of its own, and what does not render there is told as new: shop/overlays/production/kustomization.yaml:1: the repository has no file or folder shop/overlays/production/gone.yaml
    ");
    assert_eq!(plan.code, Some(1));

    let emptied = Repository::with(&[("README.md", "Nothing.\n")])?;
    let run = place.muster_in(&emptied.work(), "plan --local").await?;
    assert_eq!(run.code, Some(1));
    let flag = place.muster("plan main --helm none").await?;
    assert_eq!(flag.code, Some(1));
    insta::assert_snapshot!(run.err + &flag.err, @r"
    muster: no cluster is known here: Git declares none, and those of the hub come with --clusters-from FILE (`muster clusters -o json > FILE`)
    muster: --helm is for a checkout, and a hub is asked: add --local, or leave it out
    ");
    Ok(())
}
