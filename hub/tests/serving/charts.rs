//! A hub whose fleet names charts: to whom it shows the password of a credential, and what it says of a chart.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::bed::{Bed, commit};
use crate::chart_server::{ChartServer, linked, packed, sha256};
use crate::sources::{Held, seen};

const PASSWORD: &str = "good-password-4711";

/// The chart `web`, of a repository at this URL.
fn document(bed: &Bed, url: &str, version: &str) {
    let text = format!(
        "apiVersion: muster.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: eu-1}}\n\
         ---\napiVersion: muster.dev/v1alpha1\nkind: Repository\nmetadata: {{name: charts}}\n\
         spec: {{url: \"{url}\", credential: team}}\n\
         ---\napiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {{name: web}}\n\
         spec: {{source: {{chart: {{repository: charts, name: web, version: \"{version}\"}}}}}}\n"
    );
    std::fs::write(bed.repository.path().join("muster.yaml"), text).unwrap();
    commit(bed.repository.path(), version);
}

/// A credential for a place, and the hub that holds it.
async fn holding(server: &ChartServer, place: &str) -> (Held, Bed) {
    let held = Held::new();
    held.put("team", "url", place);
    held.put("team", "username", "robot");
    held.put("team", "password", PASSWORD);
    held.put("team", "ca.crt", &server.ca_pem);
    let bed = held.bed().await;
    (held, bed)
}

fn basic() -> String {
    format!("Basic {}", STANDARD.encode(format!("robot:{PASSWORD}")))
}

#[tokio::test]
async fn a_registry_is_entered_by_a_token_of_its_own_service() {
    let server = ChartServer::start().await;
    let chart = packed("1.2.0");
    server.push("team/web", "1.2.0", &chart, &server);
    let url = format!("oci://{}/team", server.address);
    let (held, bed) = holding(&server, &url).await;
    document(&bed, &url, "^1");
    let shown = seen(&bed, "charts", |it| !it.revision.is_empty()).await;
    assert_eq!(shown.error, "");
    assert_eq!(
        (shown.url, shown.r#ref, shown.picked, shown.revision),
        (url, "web ^1".into(), "1.2.0".into(), sha256(&chart))
    );
    let token = "Bearer of-the-service";
    let blob = format!("/v2/team/web/blobs/sha256:{}", sha256(&chart));
    assert_eq!(
        server.asked()[..5],
        [
            "/v2/team/web/tags/list?n=1000 nothing".to_owned(),
            format!(
                "/token?service=charts&scope=repository%3Ateam%2Fweb%3Apull {}",
                basic()
            ),
            format!("/v2/team/web/tags/list?n=1000 {token}"),
            format!("/v2/team/web/manifests/1.2.0 {token}"),
            format!("{blob} {token}"),
        ]
    );

    // Each mistake has its own words, and what was fetched stays.
    let said = async |part: &str| {
        let shown = seen(&bed, "charts", |it| it.error.contains(part)).await;
        assert_eq!(shown.revision, sha256(&chart));
        assert!(!shown.error.contains(PASSWORD), "{}", shown.error);
    };
    server.close();
    said("refused the password of credential team, of user robot").await;
    held.put("team", "ca.crt", &ChartServer::start().await.ca_pem);
    said("the CAs in `ca.crt` of credential team do not vouch for").await;
    bed.hub.stop().await.unwrap();
}

#[tokio::test]
async fn a_chart_that_could_do_harm_is_told_by_its_name_and_every_other_one_moves() {
    let server = ChartServer::start().await;
    let index = |version: &str| {
        format!(
            "entries: {{web: [{{name: web, version: {version}, urls: [web-{version}.tgz]}}]}}\n"
        )
    };
    server.put("/bad/index.yaml", index("1.0.0"));
    server.put("/bad/web-1.0.0.tgz", linked());
    server.put("/good/index.yaml", index("1.0.0"));
    server.put("/good/web-1.0.0.tgz", packed("1.0.0"));
    let held = Held::new();
    held.put("team", "url", &format!("https://{}/", server.address));
    held.put("team", "ca.crt", &server.ca_pem);
    let bed = held.bed().await;
    let document = |name: &str| {
        format!(
            "---\napiVersion: muster.dev/v1alpha1\nkind: Repository\nmetadata: {{name: {name}}}\n\
             spec: {{url: \"https://{}/{name}\", credential: team}}\n\
             ---\napiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}}}\n\
             spec: {{source: {{chart: {{repository: {name}, name: web, version: 1.0.0}}}}}}\n",
            server.address
        )
    };
    let cluster = "apiVersion: muster.dev/v1alpha1\nkind: Cluster\nmetadata: {name: eu-1}\n";
    let text = [cluster, &document("bad"), &document("good")].concat();
    std::fs::write(bed.repository.path().join("muster.yaml"), text).unwrap();
    commit(bed.repository.path(), "documents");
    let good = sha256(&packed("1.0.0"));
    seen(&bed, "good", |it| {
        it.revision == good && it.error.is_empty()
    })
    .await;
    let culprit = format!(
        "https://{}/bad/web-1.0.0.tgz holds \"web/passwd\", which is a symbolic link",
        server.address
    );
    let shown = seen(&bed, "bad", |it| !it.error.is_empty()).await;
    assert_eq!(
        (shown.error.as_str(), shown.revision.as_str()),
        (culprit.as_str(), "")
    );
    bed.hub.stop().await.unwrap();
}

#[tokio::test]
async fn a_password_goes_to_no_service_that_its_credential_does_not_name() {
    let (server, service) = (ChartServer::start().await, ChartServer::start().await);
    server.push("team/web", "1.2.0", &packed("1.2.0"), &service);
    let url = format!("oci://{}/team", server.address);
    let (held, bed) = holding(&server, &url).await;
    let both = format!("{}{}", server.ca_pem, service.ca_pem);
    held.put("team", "ca.crt", &both);
    document(&bed, &url, "1.2.0");
    let shown = seen(&bed, "charts", |it| !it.error.is_empty()).await;
    let realm = format!("https://{}/token", service.address);
    let wants = format!("wants the password of credential team to be sent to {realm}");
    assert!(shown.error.contains(&wants), "{}", shown.error);
    assert_eq!(service.asked(), Vec::<String>::new());
    assert!(!server.asked().concat().contains("Basic"));

    held.put("team", "url", &format!("{url}\n{realm}\n"));
    seen(&bed, "charts", |it| {
        it.error.is_empty() && !it.revision.is_empty()
    })
    .await;
    assert!(service.asked()[0].ends_with(&basic()));
    assert!(!server.asked().concat().contains("Basic"));
    bed.hub.stop().await.unwrap();
}

#[tokio::test]
async fn an_index_that_names_another_server_brings_it_no_password() {
    let (server, other) = (ChartServer::start().await, ChartServer::start().await);
    let chart = packed("1.0.0");
    let index = format!(
        "apiVersion: v1\nentries: {{web: [{{name: web, version: 1.0.0, urls: ['https://{}/web.tgz']}}]}}\n",
        other.address
    );
    server.put("/team/index.yaml", index);
    other.put("/web.tgz", chart.clone());
    let url = format!("https://{}/team", server.address);
    let (held, bed) = holding(&server, &url).await;
    let both = format!("{}{}", server.ca_pem, other.ca_pem);
    held.put("team", "ca.crt", &both);
    document(&bed, &url, "1.0.0");
    let sum = sha256(&chart);
    seen(&bed, "charts", |it| it.revision == sum).await;
    assert_eq!(server.asked()[0], format!("/team/index.yaml {}", basic()));
    assert_eq!(other.asked(), ["/web.tgz nothing"]);

    // Nor does a redirect, which stays encrypted.
    let place = format!("https://{}/web.tgz?signature=4711", other.address);
    let index = "entries: {web: [{name: web, version: 1.1.0, urls: [web-1.1.0.tgz]}]}\n";
    server.put("/team/index.yaml", index);
    server.redirect("/team/web-1.1.0.tgz", place);
    other.put("/web.tgz", packed("1.1.0"));
    server.asked();
    document(&bed, &url, "1.1.0");
    let sum = sha256(&packed("1.1.0"));
    seen(&bed, "charts", |it| it.revision == sum).await;
    let own = format!("/team/web-1.1.0.tgz {}", basic());
    assert!(server.asked().contains(&own));
    assert_eq!(other.asked(), ["/web.tgz?signature=4711 nothing"]);
    let clear = format!("http://{}/index.yaml?signature=4711", other.address);
    server.redirect("/team/index.yaml", clear);
    let shown = seen(&bed, "charts", |it| !it.error.is_empty()).await;
    assert!(
        shown.error.contains("it redirects to clear text"),
        "{}",
        shown.error
    );
    assert!(!shown.error.contains("4711"), "{}", shown.error);
    bed.hub.stop().await.unwrap();
}
