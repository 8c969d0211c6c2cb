//! What plain YAML is, and what is said of everything else.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_proto::DigestKey;

use super::*;
use crate::model;
use crate::placement::ClusterSelector;
use crate::snapshot::FileContent;

fn render(snapshot: &Snapshot, folder: &str, homes: &[&str]) -> Rendered {
    let homes = homes.iter().map(|home| (*home).to_owned()).collect();
    let key = DigestKey::new([1; 32]);
    let target = target(folder);
    Cache::default().render(&subject(snapshot, &homes, &target, "shop"), &key)
}

fn target(folder: &str) -> Target {
    Target {
        name: "default".into(),
        clusters: ClusterSelector::default(),
        path: folder.to_owned(),
        location: Location::new("muster.yaml", 3),
        release: model::Release {
            name: "app".into(),
            values: Vec::new(),
            api_versions: BTreeSet::new(),
            keep_first: false,
            stated: None,
        },
        patches: Vec::new(),
        variables: None,
    }
}

/// A target that sees no cluster.
fn subject<'s>(
    snapshot: &'s Snapshot,
    homes: &'s BTreeSet<String>,
    target: &'s Target,
    namespace: &'s str,
) -> Subject<'s> {
    static NOTHING: BTreeMap<Origin, Result<Arc<Snapshot>, String>> = BTreeMap::new();
    static NONE: BTreeMap<String, Repository> = BTreeMap::new();
    Subject {
        snapshot,
        fleet: snapshot,
        others: &NOTHING,
        repositories: &NONE,
        homes,
        target,
        seen: &Seen::Any,
        namespace,
    }
}

fn shown(rendered: &Rendered) -> String {
    let lines: Vec<String> = match rendered {
        Ok(manifests) => manifests
            .iter()
            .map(|manifest| format!("{}: {}", manifest.location, manifest.object.key))
            .collect(),
        Err(wrong) => wrong
            .iter()
            .map(|wrong| format!("{}: {}", wrong.location, wrong.message))
            .collect(),
    };
    lines.join("\n")
}

fn object(name: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n")
}

#[test]
fn every_manifest_below_the_folder_is_taken_and_nothing_else() {
    let (one, two, three) = (object("one"), object("two"), object("three"));
    let both = format!("# first\n{one}---\n# nothing\n---\n{two}");
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  metadata: {name: s}\n- {apiVersion: v1, kind: Secret, metadata: {name: t}}\n";
    let snapshot = Snapshot::of(
        "r",
        [
            ("a/both.yaml", both.as_str()),
            ("a/deep/er/three.yml", &three),
            (
                "a/four.json",
                r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "four"}}"#,
            ),
            ("a/list.yaml", list),
            ("a/muster.yaml", "no manifest"),
            ("a/README.md", "no manifest"),
            ("a/.hidden/x.yaml", "no manifest"),
            ("a/.gitlab-ci.yml", "stages: []"),
            ("a/child/muster.yaml", "an application of its own"),
            ("a/child/x.yaml", "no manifest"),
            ("a/child/deep/x.yaml", "no manifest"),
            ("ab/x.yaml", "no manifest"),
        ],
    );
    insta::assert_snapshot!(shown(&render(&snapshot, "a", &["a", "a/child"])), @r"
    a/both.yaml:2: ConfigMap one
    a/both.yaml:8: ConfigMap two
    a/deep/er/three.yml:1: ConfigMap three
    a/four.json:1: ConfigMap four
    a/list.yaml:4: Secret s
    a/list.yaml:7: Secret t
    ");
}

#[test]
fn everything_that_is_wrong_is_said_at_once_with_its_line() {
    let (one, twice) = (
        object("one"),
        format!("{}---\n{}", object("two"), object("one")),
    );
    let in_namespace = one.replace("{name: one}", "{name: one, namespace: shop}");
    let snapshot = Snapshot::of(
        "r",
        [
            ("a/1.yaml", one.as_str()),
            ("a/2.yaml", &twice),
            ("a/3.yaml", &in_namespace),
            ("a/4.yaml", "- a list\n"),
            (
                "a/5.yaml",
                "kind: ConfigMap\n---\n\napiVersion: v1\nkind: Job\nmetadata: {generateName: j-}\n",
            ),
            ("a/6.yaml", "a: 1\n---\nb: [hunter2\n"),
            ("a/7.json", "{\"a\":\n hunter2}"),
            (
                "a/8.yaml",
                "apiVersion: v1\nkind: List\nitems:\n- kind: Secret\n",
            ),
            (
                "a/app.yaml",
                "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {name: b}\n",
            ),
        ],
    );
    insta::assert_snapshot!(shown(&render(&snapshot, "a", &[])), @r"
    a/2.yaml:5: ConfigMap shop/one is at a/1.yaml:1 already
    a/3.yaml:1: ConfigMap shop/one is at a/1.yaml:1 already
    a/4.yaml:1: a manifest must be a mapping, found a list
    a/5.yaml:1: a manifest needs an apiVersion
    a/5.yaml:4: metadata.generateName can't be applied again and again: give it a metadata.name
    a/6.yaml:3: not YAML: unclosed bracket '['
    a/7.json:2: not JSON: Syntax error
    a/8.yaml:4: a manifest needs an apiVersion
    a/app.yaml:1: documents of muster.dev/v1alpha1 stand in files called muster.yaml
    ");
}

#[test]
fn a_folder_that_can_not_be_rendered_says_why() {
    let one = object("one");
    let mut snapshot = Snapshot::of(
        "r",
        [
            ("kust/kustomization.yaml", "resources: [x.yaml]"),
            ("file.yaml", one.as_str()),
            ("link", "kust"),
            ("linked/x.yaml", "kust"),
            ("linked/docs.md", "kust"),
            ("linked/more", "kust"),
            ("module/sub", ""),
            ("big/x.yaml", ""),
        ],
    );
    let mut put = |path: &str, content| snapshot.files.get_mut(path).unwrap().content = content;
    for link in ["link", "linked/x.yaml", "linked/docs.md", "linked/more"] {
        put(link, FileContent::Symlink);
    }
    put("module/sub", FileContent::Submodule);
    put("big/x.yaml", FileContent::Unread);
    let folders = [
        "kust",
        "file.yaml",
        "link/deep",
        "linked",
        "module",
        "big",
        "nowhere",
    ];
    let said = folders.map(|folder| shown(&render(&snapshot, folder, &[])));
    insta::assert_snapshot!(said.join("\n"), @r"
    kust/kustomization.yaml:1: the repository has no file or folder kust/x.yaml
    muster.yaml:3: file.yaml is a file, not a folder
    muster.yaml:3: link is a symbolic link, not a folder
    linked/more: is a symbolic link: put the manifests themselves here
    linked/x.yaml: is a symbolic link: put the manifests themselves here
    module/sub: is a submodule: put the manifests themselves here
    big/x.yaml: the hub did not read this file
    muster.yaml:3: the repository has no folder nowhere
    ");
}

#[test]
fn the_key_of_a_closure_follows_exactly_the_files_that_are_read() {
    let (one, two) = (object("one"), object("two"));
    let key = |files: &[(&str, &str)], namespace: &str| {
        let snapshot = Snapshot::of("r", files.iter().copied());
        closure(&snapshot, &BTreeSet::new(), "a")
            .unwrap()
            .key(namespace, &Tools::default())
    };
    let base = key(
        &[("a/x.yaml", &one), ("a/README.md", "1"), ("b/y.yaml", &one)],
        "shop",
    );
    assert_eq!(
        base,
        key(
            &[("a/x.yaml", &one), ("a/README.md", "2"), ("b/y.yaml", &two)],
            "shop"
        )
    );
    assert_ne!(base, key(&[("a/x.yaml", &two)], "shop"));
    assert_ne!(base, key(&[("a/z.yaml", &one)], "shop"));
    assert_ne!(base, key(&[("a/x.yaml", &one)], "other"));
}

#[test]
fn a_folder_is_rendered_once_for_as_long_as_its_files_stay() {
    let one = object("one");
    let mut cache = Cache::default();
    let mut render = |revision: &str, text: &str| {
        let snapshot = Snapshot::of(revision, [("a/x.yaml", text)]);
        let key = DigestKey::new([1; 32]);
        let (homes, target) = (BTreeSet::new(), target("a"));
        let rendered = cache.render(&subject(&snapshot, &homes, &target, ""), &key);
        cache.end_of_commit();
        rendered.unwrap()
    };
    let first = render("r1", &one);
    assert!(Arc::ptr_eq(&first, &render("r2", &one)));
    let other = render("r3", &object("two"));
    assert!(!Arc::ptr_eq(&other, &render("r4", &one)));
}

/// What is wrong with a kustomization, or the files that it reads.
fn reads(files: &[(&str, &str)]) -> String {
    let snapshot = Snapshot::of("r", files.iter().copied());
    match closure(&snapshot, &BTreeSet::new(), "a") {
        Ok(Closure::Tool(job)) => job.files.into_keys().collect::<Vec<_>>().join(" "),
        Ok(Closure::Plain(_)) => panic!("a kustomization is no plain YAML"),
        Err(wrong) => shown(&Err(Arc::new(wrong))),
    }
}

#[test]
fn kustomize_is_given_every_file_that_it_names_and_no_other() {
    let overlay = r#"
resources: [one.yaml, ../base]
bases: [../old]
components: [../parts/tls]
crds: [crd.json]
configurations: [names.yaml]
patchesStrategicMerge: [merge.yaml, "kind: Deployment\nmetadata: {name: x}"]
patchesJson6902: [{path: ops.json, target: {kind: Deployment, name: x}}]
patches: [{path: patch.yaml}, {patch: "- {op: remove, path: /a}"}]
replacements: [{path: replace.yaml}]
openapi: {path: schema.json}
configMapGenerator: [{name: c, files: [notes.txt, key=deep/other.txt], envs: [settings.env]}]
secretGenerator: [{name: s, env: one.env}]
generators: [plugin.yaml, "kind: ConfigMapGenerator\nfiles: [inline.txt]"]
transformers: [../transform]
"#;
    let files = [
        ("a/kustomization.yaml", overlay),
        ("a/one.yaml", ""),
        ("a/crd.json", ""),
        ("a/names.yaml", ""),
        ("a/merge.yaml", ""),
        ("a/ops.json", ""),
        ("a/patch.yaml", ""),
        ("a/replace.yaml", ""),
        ("a/schema.json", ""),
        ("a/notes.txt", ""),
        ("a/deep/other.txt", ""),
        ("a/settings.env", ""),
        ("a/one.env", ""),
        (
            "a/plugin.yaml",
            "kind: PatchTransformer\npath: by-plugin.yaml",
        ),
        ("a/by-plugin.yaml", ""),
        ("a/inline.txt", ""),
        ("a/not-named.yaml", ""),
        ("base/kustomization.yml", "resources: [two.yaml]"),
        ("base/two.yaml", ""),
        ("base/not-named.yaml", ""),
        ("old/Kustomization", "resources: [../base]"),
        (
            "parts/tls/kustomization.yaml",
            "patches: [{path: tls.yaml}]",
        ),
        ("parts/tls/tls.yaml", ""),
        ("transform/kustomization.yaml", "resources: [labels.yaml]"),
        ("transform/labels.yaml", ""),
    ];
    let named = files.iter().map(|(path, _)| *path);
    let mut named: Vec<_> = named.filter(|path| !path.contains("not-named")).collect();
    named.sort_unstable();
    assert_eq!(reads(&files), named.join(" "));
}

#[test]
fn what_kustomize_could_not_read_is_said_before_it_runs() {
    let overlay = "resources:
- https://example.com/base?ref=v1
- github.com/example/base//deploy
- git@example.com:base.git
- missing.yaml
- ../../out.yaml
- /etc/passwd
- ../cycle
- ../empty
patches:
- path: ../folder
helmCharts: [{name: x}]
";
    let files = [
        ("a/kustomization.yaml", overlay),
        ("cycle/kustomization.yaml", "resources: [../a]"),
        ("empty/x.yaml", ""),
        ("folder/x.yaml", ""),
    ];
    insta::assert_snapshot!(reads(&files), @r"
    a/kustomization.yaml:12: helmCharts would fetch charts while rendering: make an Application of the chart instead
    a/kustomization.yaml:2: https://example.com/base?ref=v1 is remote, and nothing is fetched while rendering: declare a Repository and let spec.source.repository of the application name it, or put the files here
    a/kustomization.yaml:3: github.com/example/base//deploy is remote, and nothing is fetched while rendering: declare a Repository and let spec.source.repository of the application name it, or put the files here
    a/kustomization.yaml:4: git@example.com:base.git is remote, and nothing is fetched while rendering: declare a Repository and let spec.source.repository of the application name it, or put the files here
    a/kustomization.yaml:5: the repository has no file or folder a/missing.yaml
    a/kustomization.yaml:6: ../../out.yaml leads out of the repository
    a/kustomization.yaml:7: /etc/passwd must be relative to the folder of this file
    cycle/kustomization.yaml:1: ../a leads back to the folder a
    a/kustomization.yaml:9: empty holds no kustomization.yaml
    a/kustomization.yaml:11: ../folder is a folder, not a file
    ");
    let one_file = |text| reads(&[("a/kustomization.yaml", text)]);
    assert_eq!(
        one_file("a: 1\n---\nb: 2"),
        "a/kustomization.yaml: must hold one document, found 2"
    );
    assert!(one_file("a: [").starts_with("a/kustomization.yaml:1: not YAML"));
}

#[test]
fn a_commit_parses_the_files_that_it_touches_and_no_other() {
    let key = DigestKey::new([1; 32]);
    let (homes, target) = (BTreeSet::new(), target("a"));
    let mut cache = Cache::default();
    let mut render = |snapshot: &Snapshot| {
        let rendered = cache.render(&subject(snapshot, &homes, &target, "shop"), &key);
        cache.end_of_commit();
        (shown(&rendered), cache.files.len())
    };
    let commit = |files: &[(&str, &str)]| {
        let files = files.iter().map(|(path, name)| (*path, object(name)));
        let files: Vec<_> = files.collect();
        Snapshot::of("r", files.iter().map(|(path, text)| (*path, text.as_str())))
    };
    let first = commit(&[("a/1.yaml", "one"), ("a/2.yaml", "two")]);
    assert_eq!(
        render(&first),
        (
            "a/1.yaml:1: ConfigMap one\na/2.yaml:1: ConfigMap two".into(),
            2
        )
    );
    let mut second = commit(&[("a/1.yaml", "one"), ("a/2.yaml", "other")]);
    // Bytes that no parser takes, under the id of what was read before.
    let unread = second.files.get_mut("a/1.yaml").unwrap();
    unread.content = FileContent::Bytes("[".into());
    assert_eq!(
        render(&second),
        (
            "a/1.yaml:1: ConfigMap one\na/2.yaml:1: ConfigMap other".into(),
            2
        )
    );
    let third = commit(&[("a/2.yaml", "other")]);
    assert_eq!(render(&third), ("a/2.yaml:1: ConfigMap other".into(), 1));
}

#[test]
fn a_run_is_wanted_once_and_again_when_a_file_of_it_changed_or_it_was_unlucky() {
    let key = DigestKey::new([1; 32]);
    let application = |name: &str| {
        format!(
            "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}}}\nspec: {{source: {{path: k}}, namespace: shop}}\n"
        )
    };
    let documents = format!("{}---\n{}", application("one"), application("two"));
    let commit = |text: &str| {
        let files = [
            ("muster.yaml", documents.as_str()),
            ("k/kustomization.yaml", "resources: [x.yaml]"),
            ("k/x.yaml", text),
            ("k/README.md", text),
        ];
        let snapshot = Snapshot::of("r", files);
        let members = [("c1".parse().unwrap(), Arc::default())].into();
        let fleet = crate::model::read(&snapshot);
        let placed = Placed::new(fleet, &members, &crate::LastGood::default());
        (Sources::from(snapshot), placed)
    };
    let mut cache = Cache::default();
    let render = |cache: &mut Cache, commit: &(Sources, Placed)| {
        let homes = BTreeSet::new();
        let target = target("k");
        let subject = subject(&commit.0.fleet, &homes, &target, "shop");
        let rendered = cache.render(&subject, &key);
        cache.end_of_commit();
        shown(&rendered)
    };
    let wanted = |cache: &Cache, commit: &(Sources, Placed)| cache.jobs(&commit.0, &commit.1);

    let first = commit("1");
    let [job] = &wanted(&cache, &first)[..] else {
        panic!("both applications need the same run")
    };
    assert_eq!(
        (job.job.folder.as_str(), job.job.tool),
        ("k", Tool::Kustomize)
    );
    assert_eq!(
        render(&mut cache, &first),
        "k/kustomization.yaml: kustomize is rendering it: until then it stays as it was"
    );

    let unlucky = Failure {
        message: "it took too long".into(),
        again: true,
    };
    cache.take(job.clone(), Err(unlucky), &key);
    assert_eq!(
        render(&mut cache, &first),
        "k/kustomization.yaml: it took too long"
    );
    assert_eq!(wanted(&cache, &first).len(), 1, "it may go well now");

    cache.take(job.clone(), Ok(object("x").into()), &key);
    assert_eq!(
        render(&mut cache, &first),
        "k/kustomization.yaml: ConfigMap x"
    );
    assert_eq!(wanted(&cache, &first), []);

    let second = commit("2");
    let [job] = &wanted(&cache, &second)[..] else {
        panic!("a file changed")
    };
    let refused = Failure {
        message: "no such field".into(),
        again: false,
    };
    cache.take(job.clone(), Err(refused), &key);
    assert_eq!(
        render(&mut cache, &second),
        "k/kustomization.yaml: no such field"
    );
    assert_eq!(wanted(&cache, &second), [], "the same files fail again");
}
