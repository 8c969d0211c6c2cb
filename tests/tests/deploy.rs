//! What `deploy/` hands to people is understood by the programs it is for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use muster_decide::render::Tool;
use muster_decide::{File, FileContent, Snapshot, model, snapshot};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(deploy().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn the_hub_understands_the_configuration_of_its_manifests() {
    let manifests = read("hub/hub.yaml");
    let (_, from) = manifests.split_once("\n  hub.yaml: |\n").unwrap();
    let (settings, _) = from.split_once("\n---").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hub.yaml");
    std::fs::write(&file, settings.replace("\n    ", "\n").trim_start()).unwrap();
    let config =
        muster_hub::config::Config::from_arguments(["--config", file.to_str().unwrap()]).unwrap();

    // The rest of the manifests counts on these.
    let mount = format!("mountPath: {}\n", config.data.display());
    assert!(manifests.contains(&mount), "{mount}");
    for (name, address) in [
        ("agents", config.agents_listen),
        ("enrolment", config.enrolment_listen),
        ("api", config.api_listen),
    ] {
        let port = format!(
            "- name: {name}\n              containerPort: {}\n",
            address.port()
        );
        assert!(manifests.contains(&port), "{port}");
    }
}

/// How each program that the hub runs is tried, and the package of Debian that has it; tools are built.
const RUN_BY_THE_HUB: [(&str, &str); 3] = [
    ("ssh -V", "openssh-client"),
    ("command -v ssh-keygen", "openssh-client"),
    ("gpg --version", "gpg"),
];

#[test]
fn the_image_of_the_hub_holds_what_the_hub_runs_at_the_versions_that_are_tested() {
    let root = deploy().join("..");
    let text = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let image = read("Containerfile");
    let (_, hub) = image.split_once(" AS hub\n").unwrap();
    let installed = hub.split_once("--no-install-recommends ").unwrap().1;
    let installed: Vec<&str> = installed.split_once(" \\").unwrap().0.split(' ').collect();
    for (tried, package) in RUN_BY_THE_HUB {
        assert!(installed.contains(&package), "`{tried}` takes {package}");
        // A build without it fails.
        assert!(hub.contains(tried), "{tried}");
    }
    for tool in Tool::ALL.map(Tool::name) {
        assert!(
            hub.contains(&format!("{tool} version")),
            "{tool} is not tried"
        );
        let line = image
            .lines()
            .find(|line| line.contains("/src/build "))
            .unwrap();
        assert!(
            line.split(' ').any(|word| word == tool),
            "{tool} is not built"
        );
    }
    // The same folder pins what tests run.
    assert!(image.contains("COPY tests/kubernetes /src\n"));
    let go = text("tests/kubernetes/render/go.mod");
    let go = go
        .lines()
        .find_map(|line| line.strip_prefix("go "))
        .unwrap();
    let (go, _) = go.rsplit_once('.').unwrap();
    assert!(image.contains(&format!("/golang:{go}-")), "Go {go}");
    let rust = env!("CARGO_PKG_RUST_VERSION");
    assert!(image.contains(&format!("/rust:{rust}-")), "Rust {rust}");

    let version = env!("CARGO_PKG_VERSION");
    let manifests = read("hub/hub.yaml");
    for name in ["muster-hub", "muster-agent"] {
        assert!(
            image.contains(&format!("-t {name}:{version} .\n")),
            "{name}"
        );
    }
    assert!(manifests.contains(&format!("image: muster-hub:{version}\n")));
    // Who the Pod runs as is somebody in the image, as ssh demands.
    let user = manifests.split_once("runAsUser: ").unwrap().1;
    let user = user.split_once('\n').unwrap().0;
    assert!(hub.contains(&format!("muster:x:{user}:{user}:")), "{user}");
    assert!(hub.contains(&format!("USER {user}:{user}\n")), "{user}");
}

#[test]
fn the_manifests_of_an_agent_have_no_placeholder_that_is_not_explained() {
    let text = read("agent.yaml");
    let placeholder = |part: &&str| part.starts_with('@') && part.ends_with('@') && part.len() > 2;
    let words = |line: &str| -> BTreeSet<String> {
        let words = line.split([' ', '"']).filter(placeholder);
        words.map(str::to_owned).collect()
    };
    let (explained, used): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with("#   @"));
    let explained: BTreeSet<String> = explained.into_iter().flat_map(words).collect();
    let used: BTreeSet<String> = used.into_iter().flat_map(words).collect();
    assert_eq!(explained, used);
    assert_eq!(used.len(), 4, "{used:?}");
}

#[test]
fn the_example_fleet_is_read_without_a_problem() {
    let root = deploy().join("example-fleet");
    let mut files = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let name = path
                .strip_prefix(&root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let content = match snapshot::is_read(&name) {
                true => FileContent::Bytes(std::fs::read(&path).unwrap().into()),
                false => FileContent::Unread,
            };
            let file = File {
                oid: name.clone(),
                content,
            };
            files.insert(name, file);
        }
    }
    let fleet = model::read(&Snapshot {
        repository: None,
        revision: "0".repeat(40),
        files,
    });
    assert_eq!(fleet.problems, []);
    let names: Vec<&str> = fleet
        .applications
        .keys()
        .map(|name| name.as_str())
        .collect();
    assert_eq!(names, ["monitoring", "platform", "web"]);
    let names: Vec<&str> = fleet.clusters.keys().map(|name| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "dev-1",
            "eu-prod-1",
            "eu-staging-1",
            "us-prod-1",
            "us-staging-1"
        ]
    );
}
