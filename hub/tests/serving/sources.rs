//! A hub whose fleet names other repositories: over HTTPS with a CA of its own, over SSH, with credentials that the hub
//! holds; and who makes it look.

use std::path::Path;

use muster_hub::{Config, Hub};
use muster_proto::wire::v1;
use tempfile::TempDir;

use crate::api::{browser, url as url_of};
use crate::bed::{Bed, commit, config, git, repository, until};
use crate::git_server::GitServer;
use crate::ssh_server::SshServer;

const TOKEN: &str = "good-token-4711";

/// Credentials that a hub holds.
pub(crate) struct Held(TempDir);

impl Held {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn put(&self, credential: &str, file: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = self.0.path().join(credential);
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(file);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) async fn bed(&self) -> Bed {
        Bed::start_with(&["--credentials", self.0.path().to_str().unwrap()]).await
    }
}

/// A repository with a ConfigMap.
fn shop() -> TempDir {
    let folder = repository();
    manifest(folder.path(), "one");
    folder
}

fn manifest(folder: &Path, text: &str) -> String {
    let map = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: shop, namespace: shop}}\ndata: {{text: {text}}}\n"
    );
    std::fs::create_dir_all(folder.join("deploy")).unwrap();
    std::fs::write(folder.join("deploy/map.yaml"), map).unwrap();
    commit(folder, text)
}

/// Documents of repositories, each with an application of its name from it; a cluster takes them.
fn documents(bed: &Bed, repositories: &[(&str, &str)]) -> String {
    let mut text =
        "apiVersion: muster.dev/v1alpha1\nkind: Cluster\nmetadata: {name: eu-1}\n".to_owned();
    for (name, spec) in repositories {
        text.push_str(&format!(
            "---\napiVersion: muster.dev/v1alpha1\nkind: Repository\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n\
             ---\napiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}}}\n\
             spec: {{source: {{repository: {name}, path: deploy}}}}\n"
        ));
    }
    std::fs::write(bed.repository.path().join("muster.yaml"), text).unwrap();
    commit(bed.repository.path(), "documents")
}

/// Waits until a repository looks so; looks at Git each time.
pub(crate) async fn seen(
    bed: &Bed,
    name: &str,
    is: impl Fn(&v1::Repository) -> bool,
) -> v1::Repository {
    let last = std::cell::RefCell::new(None);
    until(&format!("{name} as expected"), async || {
        bed.sync().await.unwrap();
        let found = bed.fleet().await.repositories;
        let found = found.into_iter().find(|repository| repository.name == name);
        let so = found.as_ref().is_some_and(&is);
        *last.borrow_mut() = found;
        so
    })
    .await;
    last.into_inner().unwrap()
}

/// Waits until an application runs at a commit.
async fn rendered(bed: &Bed, application: &str, revision: &str) {
    until(&format!("{application} at {revision}"), async || {
        let fleet = bed.fleet().await;
        let mut applications = fleet.applications.into_iter();
        applications.any(|it| it.name == application && it.revision == revision)
    })
    .await;
}

#[tokio::test]
async fn a_repository_with_a_ca_of_its_own_and_a_token_is_followed_and_shown() {
    let shop = shop();
    let server = GitServer::start(shop.path(), TOKEN).await;
    let held = Held::new();
    let beginning = server.url().replace(".git", "");
    held.put("team", "url", &format!("{beginning}\n"));
    held.put("team", "password", &format!("{TOKEN}\n"));
    held.put("team", "ca.crt", &server.ca_pem);
    let bed = held.bed().await;
    let spec = format!(
        "url: \"{}\", credential: team, ref: {{branch: main}}",
        server.url()
    );
    documents(&bed, &[("shop", &spec)]);
    let revision = git(shop.path(), &["rev-parse", "HEAD"]);
    let shown = seen(&bed, "shop", |it| it.revision == revision).await;
    assert_eq!(
        (shown.url, shown.r#ref, shown.error),
        (server.url(), "main".into(), "".into())
    );
    assert_eq!(shown.subject, "one");
    assert!(shown.since_ms > 0 && shown.fetched_at_ms >= shown.since_ms);
    rendered(&bed, "shop", &revision).await;

    // What the server does not take any more is said; what was fetched stays.
    server.take_only("another");
    let later = manifest(shop.path(), "two");
    let shown = seen(&bed, "shop", |it| !it.error.is_empty()).await;
    assert!(
        shown
            .error
            .contains("refused the password of credential team"),
        "{}",
        shown.error
    );
    assert!(!shown.error.contains(TOKEN));
    assert_eq!(shown.revision, revision);
    rendered(&bed, "shop", &revision).await;
    held.put("team", "password", "another");
    seen(&bed, "shop", |it| {
        it.error.is_empty() && it.revision == later
    })
    .await;
    rendered(&bed, "shop", &later).await;

    // Another CA than the server's.
    let stranger = GitServer::start(shop.path(), TOKEN).await;
    held.put("team", "ca.crt", &stranger.ca_pem);
    let shown = seen(&bed, "shop", |it| !it.error.is_empty()).await;
    assert!(
        shown
            .error
            .contains("`ca.crt` of credential team do not vouch for"),
        "{}",
        shown.error
    );
    bed.hub.stop().await.unwrap();
}

#[tokio::test]
async fn a_credential_of_the_environment_lets_the_hub_in() {
    let shop = shop();
    let server = GitServer::start(shop.path(), TOKEN).await;
    let beginning = server.url().replace(".git", "");
    let environment = [
        ("URL", beginning.as_str()),
        ("PASSWORD", TOKEN),
        ("CA_CRT", &server.ca_pem),
    ];
    let variable = |(file, text): (&str, &str)| {
        let name = format!("MUSTER_HUB_CREDENTIAL_MY_TEAM_{file}");
        (name, text.to_owned())
    };
    let serve = ["muster-hub", "serve", "--data", "/d", "--repo", "file:///f"];
    let flags = muster_hub::config::command().get_matches_from(serve);
    let flags = flags.subcommand_matches("serve").unwrap();
    let given = Config::read(flags, &environment.map(variable).into()).unwrap();

    let (data, repository) = (tempfile::tempdir().unwrap(), repository());
    let mut config = config(data.path(), repository.path(), &[]).unwrap();
    config.given_credentials = given.given_credentials;
    let bed = Bed {
        hub: Hub::start(config).await.unwrap(),
        data,
        repository,
        ahead: Default::default(),
    };
    let spec = format!(
        "url: \"{}\", credential: my-team, ref: {{branch: main}}",
        server.url()
    );
    documents(&bed, &[("shop", &spec)]);
    let revision = git(shop.path(), &["rev-parse", "HEAD"]);
    seen(&bed, "shop", |it| it.revision == revision).await;
    rendered(&bed, "shop", &revision).await;
}

#[tokio::test]
async fn a_document_sends_no_credential_to_a_server_that_it_is_not_for() {
    let shop = shop();
    let stranger = GitServer::start(shop.path(), TOKEN).await;
    let held = Held::new();
    held.put("team", "url", "https://git.example/team/");
    held.put("team", "password", TOKEN);
    held.put("team", "ca.crt", &stranger.ca_pem);
    let bed = held.bed().await;
    let url = stranger.url();
    documents(
        &bed,
        &[
            ("thief", &format!("url: \"{url}\", credential: team")),
            ("typo", &format!("url: \"{url}\", credential: taem")),
        ],
    );
    let shown = seen(&bed, "thief", |it| !it.error.is_empty()).await;
    assert!(
        shown
            .error
            .contains(&format!("credential team is not for {url}")),
        "{}",
        shown.error
    );
    let shown = seen(&bed, "typo", |it| !it.error.is_empty()).await;
    assert!(
        shown
            .error
            .contains("the hub holds no credential \"taem\": it has team"),
        "{}",
        shown.error
    );
    assert_eq!(stranger.shown(), Vec::<String>::new());
    // Its application says so, too, where it names the repository.
    let said = |problem: &v1::Problem| {
        problem.application == "thief"
            && problem
                .message
                .starts_with("Repository thief: credential team is not for")
    };
    until("its application says why", async || {
        bed.fleet().await.problems.iter().any(said)
    })
    .await;
    bed.hub.stop().await.unwrap();
}

#[tokio::test]
async fn a_repository_is_followed_over_ssh_and_each_mistake_has_its_own_words() {
    let shop = shop();
    let server = SshServer::start().await;
    let url = server.url(shop.path());
    let held = Held::new();
    let key = |file: std::path::PathBuf| std::fs::read_to_string(file).unwrap();
    let put = |name: &str, identity: std::path::PathBuf, hosts: &str| {
        held.put(name, "url", &url);
        held.put(name, "identity", &key(identity));
        held.put(name, "known_hosts", hosts);
    };
    put("good", server.identity(), &server.known_hosts());
    put("stranger", server.wrong_identity(), &server.known_hosts());
    put("moved", server.identity(), &server.wrong_hosts());
    put(
        "unknown",
        server.identity(),
        "[127.0.0.1]:1 ssh-ed25519 AAAA\n",
    );
    let bed = held.bed().await;
    let names = ["good", "stranger", "moved", "unknown"];
    let specs = names.map(|name| format!("url: \"{url}\", credential: {name}"));
    let all: Vec<_> = names
        .into_iter()
        .zip(specs.iter().map(String::as_str))
        .collect();
    documents(&bed, &all);
    let revision = git(shop.path(), &["rev-parse", "HEAD"]);
    seen(&bed, "good", |it| it.revision == revision).await;
    rendered(&bed, "good", &revision).await;
    for (name, says) in [
        (
            "stranger",
            "refused the key in the file `identity` of credential stranger",
        ),
        (
            "moved",
            "shows another host key than the file `known_hosts` of credential moved says",
        ),
        (
            "unknown",
            "is not known: put it into the file `known_hosts` of credential unknown",
        ),
    ] {
        let shown = seen(&bed, name, |it| !it.error.is_empty()).await;
        assert!(shown.error.contains(says), "{name}: {}", shown.error);
    }
    let later = manifest(shop.path(), "two");
    seen(&bed, "good", |it| it.revision == later).await;
    bed.hub.stop().await.unwrap();
}

#[tokio::test]
async fn a_webhook_fetches_the_repositories_that_it_names_and_no_others() {
    let (shop, library) = (shop(), shop());
    let held = Held::new();
    let bed = held.bed().await;
    let url = |folder: &TempDir| format!("file://{}", folder.path().display());
    let fleet_url = url(&bed.repository);
    documents(
        &bed,
        &[
            ("shop", &format!("url: \"{}\"", url(&shop))),
            ("library", &format!("url: \"{}\"", url(&library))),
        ],
    );
    let revision = |folder: &TempDir| git(folder.path(), &["rev-parse", "HEAD"]);
    let (old_shop, old_library) = (revision(&shop), revision(&library));
    seen(&bed, "shop", |it| it.revision == old_shop).await;
    seen(&bed, "library", |it| it.revision == old_library).await;
    let old_fleet = bed.fleet().await.source.unwrap().revision;

    let pushed = [
        manifest(shop.path(), "two"),
        manifest(library.path(), "two"),
        commit(bed.repository.path(), "again"),
    ];
    let call = async |named: String| {
        let body = format!("{{\"repository\": {{\"clone_url\": \"{named}\"}}}}");
        let post = browser(&bed).post(url_of(&bed, "/webhook")).body(body);
        let answer = post.send().await.unwrap();
        assert_eq!(answer.status(), 202);
    };
    let all = async || {
        let fleet = bed.fleet().await;
        let of = |name: &str| {
            let mut found = fleet.repositories.iter();
            found.find(|it| it.name == name).unwrap().revision.clone()
        };
        [
            of("shop"),
            of("library"),
            fleet.source.clone().unwrap().revision,
        ]
    };
    let [new_shop, new_library, new_fleet] = pushed;
    call("https://git.example/nobody/knows.git".into()).await;
    call(format!("{}.git/", url(&shop))).await;
    let now = [new_shop.clone(), old_library, old_fleet.clone()];
    until("the shop alone is new", async || all().await[0] == new_shop).await;
    assert_eq!(all().await, now);
    call(url(&library)).await;
    until("the library is new", async || all().await[1] == new_library).await;
    assert_eq!(
        all().await,
        [new_shop.clone(), new_library.clone(), old_fleet]
    );
    call(fleet_url).await;
    until("all are new", async || {
        all().await == [new_shop.clone(), new_library.clone(), new_fleet.clone()]
    })
    .await;
    bed.hub.stop().await.unwrap();
}

#[tokio::test]
async fn a_document_that_moves_a_repository_waits_for_the_new_one_and_loses_nothing() {
    let (old, new) = (shop(), shop());
    let newest = manifest(new.path(), "of the new one");
    let held = Held::new();
    let bed = held.bed().await;
    let url = |folder: &TempDir| format!("url: \"file://{}\"", folder.path().display());
    documents(&bed, &[("shop", &url(&old))]);
    let revision = git(old.path(), &["rev-parse", "HEAD"]);
    seen(&bed, "shop", |it| it.revision == revision).await;
    rendered(&bed, "shop", &revision).await;
    documents(&bed, &[("shop", "url: \"file:///does/not/exist\"")]);
    let shown = seen(&bed, "shop", |it| !it.error.is_empty()).await;
    assert_eq!(shown.revision, "");
    rendered(&bed, "shop", &revision).await;
    documents(&bed, &[("shop", &url(&new))]);
    seen(&bed, "shop", |it| it.revision == newest).await;
    rendered(&bed, "shop", &newest).await;
    bed.hub.stop().await.unwrap();
}
