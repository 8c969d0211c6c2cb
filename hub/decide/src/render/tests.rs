//! What plain YAML is, and what is said of everything else.

use muster_proto::DigestKey;

use super::*;
use crate::snapshot::FileContent;

fn render(snapshot: &Snapshot, folder: &str, homes: &[&str]) -> Rendered {
    let homes = homes.iter().map(|home| (*home).to_owned()).collect();
    let place = Location::new("muster.yaml", 3);
    let key = DigestKey::new([1; 32]);
    Cache::default().render(snapshot, &homes, &place, folder, "shop", &key)
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
            ("chart/Chart.yaml", "name: c"),
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
        "chart",
        "file.yaml",
        "link/deep",
        "linked",
        "module",
        "big",
        "nowhere",
    ];
    let said = folders.map(|folder| shown(&render(&snapshot, folder, &[])));
    insta::assert_snapshot!(said.join("\n"), @r"
    kust/kustomization.yaml: kustomize is not supported yet: the application keeps what it had
    chart/Chart.yaml: Helm is not supported yet: the application keeps what it had
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
            .key(namespace)
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
        let place = Location::new("muster.yaml", 0);
        let key = DigestKey::new([1; 32]);
        let rendered = cache.render(&snapshot, &BTreeSet::new(), &place, "a", "", &key);
        cache.end_of_commit();
        rendered.unwrap()
    };
    let first = render("r1", &one);
    assert!(Arc::ptr_eq(&first, &render("r2", &one)));
    let other = render("r3", &object("two"));
    assert!(!Arc::ptr_eq(&other, &render("r4", &one)));
}
