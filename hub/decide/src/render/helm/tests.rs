//! Charts from their documents to the runs they need, and from Helm's output to objects.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use muster_proto::DigestKey;

use crate::placement::{Capabilities, Placed};
use crate::render::{Cache, Tools, Values, Wanted, charts};
use crate::snapshot::{FileContent, Snapshot, Sources};
use crate::{Decision, LastGood, Members, decide, model};

/// A fleet of one application, `web`, whose `spec` is given, with its chart in `web/chart`.
fn snapshot(spec: &str, files: &[(&str, &str)]) -> Snapshot {
    let document = format!(
        "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {{name: web}}\nspec:\n  source: {{path: chart}}\n{spec}"
    );
    let own = [("web/muster.yaml", document.as_str())];
    let mut all: BTreeMap<&str, &str> = [
        ("web/chart/Chart.yaml", "name: shop"),
        ("web/chart/templates/a.yaml", "{{ .Values }}"),
        ("web/chart/.helmignore", "*.md"),
    ]
    .into();
    all.extend(own.into_iter().chain(files.iter().copied()));
    Snapshot::of("r", all)
}

/// Clusters `one` of 1.36, `two` and `three` of 1.37; `new` never came. All were asked about `a/v1`, and only `one` about
/// `b/v1`.
fn placed(sources: &Sources) -> Placed {
    let names = ["one", "two", "three", "new"].map(|name| name.parse().unwrap());
    let members: Members = names.map(|name| (name, Arc::default())).into();
    let can = |kubernetes: &str, serves: &[(&str, bool)]| {
        let serves = serves
            .iter()
            .map(|(text, served)| (text.to_string(), *served));
        Arc::new(Capabilities {
            kubernetes: kubernetes.into(),
            api_versions: serves.collect(),
        })
    };
    let known = [
        ("one", can("1.36", &[("a/v1", true), ("b/v1", false)])),
        ("two", can("1.37", &[("a/v1", true)])),
        ("three", can("1.37", &[("a/v1", false)])),
    ];
    let known = known.map(|(name, can)| (name.parse().unwrap(), can));
    let fleet = model::read(&sources.fleet);
    Placed::new(fleet, &members, &LastGood::default()).knowing(&known.into())
}

fn jobs(snapshot: Snapshot) -> Vec<Wanted> {
    let sources = Sources::from(snapshot);
    Cache::default().jobs(&sources, &placed(&sources))
}

/// What is decided when Helm prints this, each time.
fn decided(snapshot: Snapshot, printed: &'static str) -> Decision {
    let sources = Sources::from(snapshot);
    let placed = placed(&sources);
    let key = DigestKey::new([1; 32]);
    let mut cache = Cache::default();
    for wanted in cache.jobs(&sources, &placed) {
        cache.take(wanted, Ok(printed.into()), &key);
    }
    let last_good = LastGood::default();
    decide(
        &sources,
        &placed,
        &last_good,
        &BTreeSet::new(),
        &key,
        &mut cache,
    )
    .unwrap()
}

fn problems(decision: &Decision) -> String {
    let problems = decision.problems.iter().map(ToString::to_string);
    problems.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_chart_is_run_once_for_clusters_that_are_alike_in_what_it_may_ask() {
    let asks = |spec: &str| -> Vec<String> {
        let jobs = jobs(snapshot(spec, &[]));
        let shown = jobs.iter().map(|wanted| {
            let release = wanted.job.release.as_ref().unwrap();
            format!("{} {}", release.kubernetes, release.api_versions.join(","))
        });
        shown.collect()
    };
    assert_eq!(asks(""), ["1.36 ", "1.37 "]);
    assert_eq!(
        asks("  helm: {apiVersions: [a/v1]}"),
        ["1.36 a/v1", "1.37 ", "1.37 a/v1"]
    );
    // Nothing is run for clusters whose agents have not answered yet.
    assert_eq!(asks("  helm: {apiVersions: [b/v1]}"), ["1.36 "]);
    assert_eq!(asks("  helm: {apiVersions: [a/v1, b/v1]}"), ["1.36 a/v1"]);
    // What stays once it is rendered is the same for all.
    assert_eq!(
        asks("  helm: {keepFirst: true, apiVersions: [a/v1]}").len(),
        1
    );
}

#[test]
fn a_cluster_that_never_came_gets_a_chart_when_its_agent_has_said_what_it_can() {
    let printed = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let decision = decided(snapshot("", &[]), printed);
    assert_eq!(problems(&decision), "");
    assert!(decision.complete);
    let placements = |name: &str| decision.clusters[name].placements.len();
    assert_eq!(["one", "two", "three", "new"].map(placements), [1, 1, 1, 0]);
    let asks = "  helm: {apiVersions: [b/v1]}";
    let decision = decided(snapshot(asks, &[]), printed);
    let placements = |name: &str| decision.clusters[name].placements.len();
    assert_eq!(["one", "two", "three", "new"].map(placements), [1, 0, 0, 0]);
}

#[test]
fn values_of_a_target_are_laid_over_those_of_its_application_files_first() {
    let spec = "  helm: {releaseName: shop, valueFiles: [values/all.yaml], values: {a: 1}}
  targets:
  - name: test
    helm: {valueFiles: [../values.yaml, values/test.yaml], values: {a: null, b: [2]}}
";
    let files = [
        ("values.yaml", "c: 1"),
        ("web/values/all.yaml", "d: 1"),
        ("web/values/test.yaml", "e: 1"),
    ];
    let jobs = jobs(snapshot(spec, &files));
    let release = jobs[0].job.release.as_ref().unwrap();
    assert_eq!(release.name, "shop");
    let shown = release.values.iter().map(|values| match values {
        Values::File { path, content, .. } => {
            format!("{path} {}", String::from_utf8_lossy(content))
        }
        Values::Stated(json) => json.clone(),
    });
    assert_eq!(
        shown.collect::<Vec<_>>(),
        [
            "web/values/all.yaml d: 1",
            r#"{"a":1}"#,
            "values.yaml c: 1",
            "web/values/test.yaml e: 1",
            r#"{"a":null,"b":[2]}"#,
        ]
    );
}

#[test]
fn the_key_of_a_run_follows_all_that_it_hangs_on() {
    let tools = Tools::default();
    let key = |spec: &str, files: &[(&str, &str)]| jobs(snapshot(spec, files))[0].key(&tools);
    let base = key("", &[]);
    assert_eq!(base, key("", &[("web/other.yaml", "x: y")]));
    let with_file = "  helm: {valueFiles: [v.yaml]}";
    let mut keys = vec![
        base,
        key("", &[("web/chart/files/x.txt", "text")]),
        key("  namespace: shop", &[]),
        key("  helm: {releaseName: other}", &[]),
        key("  helm: {values: {a: 1}}", &[]),
        key("  helm: {values: {a: 2}}", &[]),
        key("  helm: {keepFirst: true}", &[]),
        key("  helm: {apiVersions: [a/v1]}", &[]),
        key(with_file, &[("web/v.yaml", "a: 1")]),
        key(with_file, &[("web/v.yaml", "a: 2")]),
    ];
    let all = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), all);
}

#[test]
fn charts_beside_are_taken_along_and_those_elsewhere_must_be_there() {
    let chart = "name: shop
dependencies:
- {name: lib, repository: 'file://../../lib'}
- {name: packed, repository: 'https://charts.example.org'}
- {name: unpacked, repository: 'oci://charts.example.org'}
- {name: renamed}
";
    let files = [
        ("web/chart/Chart.yaml", chart),
        ("web/chart/charts/packed-1.2.3.tgz", "packed"),
        ("web/chart/charts/unpacked/Chart.yaml", "name: unpacked"),
        ("web/chart/charts/folder/Chart.yaml", "name: renamed"),
        (
            "lib/Chart.yaml",
            "name: lib\ndependencies: [{name: base, repository: 'file://../base'}]",
        ),
        ("lib/templates/_x.tpl", "x"),
        ("lib/muster.yaml", ""),
        ("base/Chart.yaml", "name: base"),
    ];
    let jobs = jobs(snapshot("", &files));
    let files: Vec<_> = jobs[0]
        .job
        .files
        .keys()
        .map(|path| &path["web/chart/".len()..])
        .collect();
    assert_eq!(
        files,
        [
            ".helmignore",
            "Chart.yaml",
            "charts/folder/Chart.yaml",
            "charts/lib/Chart.yaml",
            "charts/lib/charts/base/Chart.yaml",
            "charts/lib/templates/_x.tpl",
            "charts/packed-1.2.3.tgz",
            "charts/unpacked/Chart.yaml",
            "templates/a.yaml",
        ]
    );
}

#[test]
fn what_helm_could_not_read_is_said_before_it_runs() {
    let chart = "name: shop
dependencies:
- {name: redis, repository: 'https://charts.example.org'}
- {name: out, repository: 'file://../../../out'}
- {name: none, repository: 'file://../none'}
- {name: again, repository: 'file://../again'}
";
    let files = [
        ("web/chart/Chart.yaml", chart),
        ("web/chart/requirements.yaml", "dependencies: [{name: old}]"),
        ("web/chart/link", ""),
        (
            "web/again/Chart.yaml",
            "name: again\ndependencies:\n- {name: shop, repository: 'file://../chart'}",
        ),
        ("web/values.txt", "a: 1"),
    ];
    let mut broken = snapshot("  helm: {valueFiles: [missing.yaml, values.txt]}\n", &files);
    broken.files.get_mut("web/chart/link").unwrap().content = FileContent::Symlink;
    broken.files.get_mut("web/values.txt").unwrap().content = FileContent::Unread;
    insta::assert_snapshot!(problems(&decided(broken, "")), @r"
    web/again/Chart.yaml:3: file://../chart leads back to the chart in web/chart
    web/chart/Chart.yaml:3: the chart redis is not in charts/, and no Chart.lock pins it: run `helm dependency update` and commit Chart.lock
    web/chart/Chart.yaml:4: file://../../../out leads out of the repository
    web/chart/Chart.yaml:5: the repository has no chart in web/none
    web/chart/link: is a symbolic link: put the file itself here
    web/chart/requirements.yaml:1: the chart old is not in charts/, and no requirements.lock pins it: run `helm dependency update` and commit requirements.lock
    web/muster.yaml:6: the repository has no file web/missing.yaml
    web/muster.yaml:6: web/values.txt is no value file: name it .yaml, .yml or .json
    ");

    let plain = snapshot("  helm: {values: {a: 1}}\n", &[]);
    let mut plain = plain;
    plain.files.remove("web/chart/Chart.yaml");
    insta::assert_snapshot!(problems(&decided(plain, "")), @"web/muster.yaml:6: helm is for charts, and web/chart holds no Chart.yaml");

    let out = snapshot("  helm: {valueFiles: [../../values.yaml]}\n", &[]);
    insta::assert_snapshot!(problems(&decided(out, "")), @"web/muster.yaml:6: spec.helm.valueFiles.0: leads out of the repository");
}

#[test]
fn what_is_wrong_in_the_output_names_the_template_and_hooks_that_can_not_be_are_refused() {
    let printed = "---
# Source: shop/templates/a.yaml
apiVersion: v1
kind: ConfigMap
metadata: {name: a}
---
# Source: shop/charts/sub/templates/b.yaml
kind: Nothing
---
# Source: shop/templates/c.yaml
apiVersion: batch/v1
kind: Job
metadata: {name: c, annotations: {helm.sh/hook: pre-delete}}
";
    insta::assert_snapshot!(problems(&decided(snapshot("", &[]), printed)), @r"
    web/chart/charts/sub/templates/b.yaml: a manifest needs an apiVersion
    web/chart/templates/c.yaml: a hook of pre-delete can't be kept: Git is the state, and nothing is run when it leaves; take it out of the chart, or turn it off by the chart's values
    ");
}

/// A chart that names charts of others, and what `helm dependency update` finds for it.
const LIST: &str = "name: shop
dependencies:
- name: redis
  version: '>=1.2 <2'
  repository: https://charts.example.org/a
  condition: redis.enabled
  tags: [a&b]
  import-values: [{parent: inner, child: outer}, z]
  alias: cache
- {name: lib, version: 1.0.0, repository: 'oci://registry.example.org/team'}
- {name: shop, version: ~2, repository: '@shop'}
- {name: there, version: '1', repository: 'https://charts.example.org/a'}
";
const LOCK: &str = "dependencies:
- {name: redis, version: 1.4.0, repository: https://charts.example.org/a}
- {name: lib, version: 1.0.0, repository: 'oci://registry.example.org/team'}
- {name: shop, version: 2.1.0, repository: '@shop'}
- {name: there, version: 1.0.0, repository: https://charts.example.org/a}
digest: DIGEST
generated: \"2026-01-01T00:00:00Z\"
";
const DIGEST: &str = "sha256:b1d4fe50eb2db2db3bbef0d89e8d36caba5995d9fc7593540e25cb225e0c42c3";
/// As Helm 2 wrote it.
const OLD_DIGEST: &str = "sha256:647e3e842721e0b77ea2ffa619641e09760ecef1be99b59b67847e95454d6f22";

/// The chart with its lock, and a repository by the name of the alias.
fn pinned(digest: &str, shop: &str) -> Snapshot {
    let lock = LOCK.replace("DIGEST", digest);
    let shop = format!(
        "apiVersion: muster.dev/v1alpha1\nkind: Repository\nmetadata: {{name: {shop}}}\nspec: {{url: 'https://charts.example.org/', credential: team}}\n"
    );
    let files = [
        ("web/chart/Chart.yaml", LIST),
        ("web/chart/Chart.lock", lock.as_str()),
        ("web/chart/charts/there-1.0.0.tgz", "there"),
        // Another one whose name begins as one that is asked for.
        ("web/chart/charts/redis-cluster-1.0.0.tgz", "other"),
        ("muster.yaml", shop.as_str()),
    ];
    snapshot("", &files)
}

#[test]
fn charts_that_a_lock_pins_are_asked_for_and_given_packed() {
    let sources = Sources::from(pinned(DIGEST, "shop"));
    let places = placed(&sources);
    let asked = charts(&sources, &places);
    let shown: Vec<String> = asked
        .iter()
        .map(|(origin, repository)| {
            let chart = origin.chart.as_ref().unwrap();
            let credential = repository.credential.as_deref().unwrap_or("nothing");
            assert_eq!(origin.repository, repository.url);
            assert!(chart.packed && chart.is_exact());
            format!(
                "{} {} of {} by {credential}",
                chart.name, chart.version, repository.url
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            "shop 2.1.0 of https://charts.example.org by team",
            "redis 1.4.0 of https://charts.example.org/a by team",
            "lib 1.0.0 of oci://registry.example.org/team by nothing",
        ]
    );
    // What is not there yet, or can't be had, is said where it is named.
    let mut waiting = sources.clone();
    let mut others = asked.keys().cloned();
    let (shop, redis, lib) = (
        others.next().unwrap(),
        others.next().unwrap(),
        others.next().unwrap(),
    );
    waiting
        .others
        .insert(lib.clone(), Err("it answers 500".into()));
    let decision = decide(
        &waiting,
        &places,
        &LastGood::default(),
        &BTreeSet::new(),
        &DigestKey::new([1; 32]),
        &mut Cache::default(),
    );
    insta::assert_snapshot!(problems(&decision.unwrap()), @r"
    web/chart/Chart.yaml:3: the chart redis 1.4.0 of https://charts.example.org/a is not fetched yet
    web/chart/Chart.yaml:10: the chart lib 1.0.0 of oci://registry.example.org/team: it answers 500
    web/chart/Chart.yaml:11: the chart shop 2.1.0 of https://charts.example.org is not fetched yet
    ");

    let mut all = sources.clone();
    for (origin, file, text) in [
        (shop, "shop-2.1.0.tgz", "s"),
        (redis, "redis-1.4.0.tgz", "r"),
        (lib, "lib-1.0.0.tgz", "l"),
    ] {
        let snapshot = Snapshot::of("r", [(file, text)]);
        all.others.insert(origin, Ok(Arc::new(snapshot)));
    }
    let key = |sources: &Sources| {
        let jobs = Cache::default().jobs(sources, &places);
        let given: Vec<_> = jobs[0].job.given.keys().cloned().collect();
        assert_eq!(
            given,
            ["lib-1.0.0.tgz", "redis-1.4.0.tgz", "shop-2.1.0.tgz"]
                .map(|name| format!("web/chart/charts/{name}"))
        );
        jobs[0].key(&Tools::default())
    };
    let one = key(&all);
    // What is in them is a part of what the output follows from.
    let last = all.others.keys().next().unwrap().clone();
    let other = Snapshot::of("r", [("shop-2.1.0.tgz", "other")]);
    all.others.insert(last, Ok(Arc::new(other)));
    assert_ne!(key(&all), one);
}

#[test]
fn a_lock_for_another_list_and_a_repository_that_nobody_knows_are_refused() {
    let said = |digest: &str, shop: &str| problems(&decided(pinned(digest, shop), ""));
    let waits = said(DIGEST, "shop");
    assert_eq!(said(OLD_DIGEST, "shop"), waits);
    let said = [said("sha256:00", "shop"), said(DIGEST, "another")];
    insta::assert_snapshot!(said.join("\n"), @r"
    web/chart/Chart.lock: does not fit what the chart depends on: run `helm dependency update` and commit it
    web/chart/Chart.yaml:3: the chart redis 1.4.0 of https://charts.example.org/a is not fetched yet
    web/chart/Chart.yaml:10: the chart lib 1.0.0 of oci://registry.example.org/team is not fetched yet
    web/chart/Chart.yaml:11: the chart shop is of @shop, which whoever ran `helm repo add` knows: write its URL, or declare a Repository shop
    ");
}
