//! The store on real files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use muster_decide::last_good::{Changes, RenderingKey, RenderingRow};
use muster_proto::{
    ApplicationStatus, ClusterName, Digest, HealthStatus, Removals, Rows, Settings, SyncStatus,
};

use super::*;

mod memory;

async fn open(directory: &Path) -> Result<Store> {
    Store::open(directory, None, Timestamp(1)).await
}

fn name(text: &str) -> ClusterName {
    text.parse().unwrap()
}

fn audit(at: i64) -> Audit {
    Audit {
        at: Timestamp(at),
        who: "alice".into(),
        action: "token.create",
        what: "eu-1".into(),
    }
}

async fn invite(store: &Store, cluster: &str, hash: [u8; 32], expires: i64) {
    let cluster = Cluster::invited(name(cluster), BTreeMap::new(), Timestamp(1));
    store
        .put_token(&hash, &cluster, Timestamp(expires), &audit(1))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_hub_is_who_it_was_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    let before = store.hub().clone();
    assert!(before.trust_domain.starts_with("muster-"));
    drop(store);
    let store = open(folder.path()).await.unwrap();
    assert_eq!(store.hub().trust_domain, before.trust_domain);
    assert_eq!(
        store.hub().digest_key.digest(b"x"),
        before.digest_key.digest(b"x")
    );
}

#[tokio::test]
async fn a_data_directory_belongs_to_one_hub_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path()).await.unwrap();
    let Err(error) = open(folder.path()).await else {
        panic!("two hubs share a folder");
    };
    assert!(
        error.to_string().contains("another hub works with"),
        "{error}"
    );
    drop(first);
    open(folder.path()).await.unwrap();
}

#[tokio::test]
async fn another_trust_domain_than_the_stored_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let open = |domain| Store::open(folder.path(), Some(domain), Timestamp(1));
    drop(open("one.example").await.unwrap());
    let Err(error) = open("two.example").await else {
        panic!("the trust domain changed");
    };
    assert!(error.to_string().contains("one.example"), "{error}");
    open("one.example").await.unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_named_and_left_as_it_is() {
    let good = tempfile::tempdir().unwrap();
    let store = open(good.path()).await.unwrap();
    store.close().await;
    drop(store);
    let mut truncated = std::fs::read(good.path().join(FILE)).unwrap();
    truncated.truncate(6000);
    for damaged in [b"this is no database at all".to_vec(), truncated] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(FILE);
        std::fs::write(&file, &damaged).unwrap();
        let Err(error) = open(folder.path()).await else {
            panic!("a damaged file was opened");
        };
        assert!(matches!(error, StoreError::Corrupt(..)), "{error:?}");
        assert!(
            error.to_string().contains(file.to_str().unwrap()),
            "{error}"
        );
        assert_eq!(std::fs::read(&file).unwrap(), damaged);
    }
}

#[tokio::test]
async fn a_newer_file_is_named_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = Database::open(folder.path(), None, Timestamp(1));
    let store = store.await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'later', TRUE, x'00', 0)",
    )
    .execute(&store.pool)
    .await
    .unwrap();
    store.close().await;
    drop(store);
    let before = std::fs::read(folder.path().join(FILE)).unwrap();
    let Err(error) = open(folder.path()).await else {
        panic!("a newer file was opened");
    };
    assert!(matches!(error, StoreError::Newer(_, 9999)), "{error:?}");
    assert_eq!(std::fs::read(folder.path().join(FILE)).unwrap(), before);
}

#[tokio::test]
async fn a_folder_that_can_not_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data"), "a file").unwrap();
    let Err(error) = open(&folder.path().join("data")).await else {
        panic!("a file was used as a folder");
    };
    assert!(matches!(error, StoreError::Directory(..)), "{error:?}");
}

#[tokio::test]
async fn of_two_who_show_one_token_at_once_one_gets_in() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    invite(&store, "eu-1", [1; 32], 100).await;
    let (one, two) = tokio::join!(
        store.redeem(&[1; 32], "uid-a", Timestamp(50), certificate("01", 500)),
        store.redeem(&[1; 32], "uid-b", Timestamp(50), certificate("02", 500)),
    );
    let (one, two) = (one.unwrap(), two.unwrap());
    let won = |redeemed: &Redeemed| matches!(redeemed, Redeemed::Now(_));
    let lost = |redeemed: &Redeemed| *redeemed == Redeemed::Before(name("eu-1"));
    assert!(
        won(&one) && lost(&two) || lost(&one) && won(&two),
        "{one:?} {two:?}"
    );
    let cluster = store.clusters().await.unwrap().remove(0);
    assert_eq!(cluster.state, ClusterState::Member);
    assert_eq!(cluster.uid, if won(&one) { "uid-a" } else { "uid-b" });
    let certificates = store.certificates(Timestamp(50)).await.unwrap();
    let [kept] = &certificates[..] else {
        panic!("{certificates:?}");
    };
    assert!([one, two].contains(&Redeemed::Now(kept.clone())));
}

#[tokio::test]
async fn an_expired_or_unknown_token_lets_nobody_in() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    invite(&store, "eu-1", [1; 32], 100).await;
    let redeem = |hash, now| store.redeem(hash, "uid", Timestamp(now), certificate("01", 500));
    assert_eq!(redeem(&[2; 32], 50).await.unwrap(), Redeemed::Unknown);
    assert_eq!(
        redeem(&[1; 32], 100).await.unwrap(),
        Redeemed::Expired(name("eu-1"))
    );
    let cluster = store.clusters().await.unwrap().remove(0);
    assert_eq!(cluster.state, ClusterState::Invited);
}

#[tokio::test]
async fn joining_again_revokes_what_was_issued_before() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    invite(&store, "eu-1", [1; 32], 100).await;
    let redeem = async |hash, now, certify| {
        let redeemed = store.redeem(hash, "uid", Timestamp(now), certify).await;
        assert!(matches!(redeemed, Ok(Redeemed::Now(_))), "{redeemed:?}");
    };
    redeem(&[1; 32], 2, certificate("01", 500)).await;
    let renewed = certificate("02", 10)(name("eu-1"));
    store.put_certificate(&renewed, Timestamp(3)).await.unwrap();
    invite(&store, "eu-1", [2; 32], 100).await;
    redeem(&[2; 32], 20, certificate("03", 500)).await;
    let certificates = store.certificates(Timestamp(20)).await.unwrap();
    let left: Vec<_> = certificates
        .iter()
        .map(|certificate| (certificate.serial.as_str(), certificate.revoked))
        .collect();
    assert_eq!(left, [("01", true), ("03", false)]);
}

/// A certificate for whatever name.
fn certificate(
    serial: &'static str,
    not_after: i64,
) -> impl FnOnce(ClusterName) -> StoredCertificate {
    move |cluster| StoredCertificate {
        serial: serial.into(),
        cluster,
        not_after: Timestamp(not_after),
        revoked: false,
    }
}

fn rendering(application: &str) -> (RenderingKey, RenderingRow) {
    let key = RenderingKey {
        application: application.parse().unwrap(),
        digest: Digest::of([application]),
    };
    let row = RenderingRow {
        revision: "abc".into(),
        settings: Settings::default(),
        objects: vec![(Digest::of(["object"]), "{}".into())],
    };
    (key, row)
}

#[tokio::test]
async fn what_was_decided_comes_back_and_a_generation_never_decreases() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    invite(&store, "eu-1", [1; 32], 100).await;
    let (key, row) = rendering("web");
    let (other, _) = rendering("old");
    let mut changes = Changes::default();
    changes.put.renderings = [rendering("web"), rendering("old")].into();
    let stamp = |generation, removals| Stamp {
        cluster: name("eu-1"),
        generation,
        digest: Digest::of([[generation as u8]]),
        removals,
    };
    let commit = Commit {
        at: Timestamp(5),
        revision: "abc".into(),
        subject: "First".into(),
        complete: true,
    };
    let held = Removals::Held("why".into());
    store
        .put_decided(&changes, &[stamp(7, held.clone())], Some(&commit), &[])
        .await
        .unwrap();
    let gone = Changes {
        removed_renderings: vec![other],
        ..Changes::default()
    };
    store
        .put_decided(&gone, &[stamp(3, Removals::Released)], None, &[])
        .await
        .unwrap();
    drop(store);
    let store = open(folder.path()).await.unwrap();
    assert_eq!(
        store.decided().await.unwrap().renderings,
        [(key, row)].into()
    );
    let cluster = store.clusters().await.unwrap().remove(0);
    assert_eq!(
        (cluster.generation, cluster.desired_digest, cluster.removals),
        (7, Some(Digest::of([[7]])), held)
    );
    assert_eq!(store.history().await.unwrap(), [("abc".to_owned(), 1)]);
}

#[tokio::test]
async fn what_agents_said_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    invite(&store, "eu-1", [1; 32], 100).await;
    let row = ApplicationStatus {
        application: "web".parse().unwrap(),
        digest: Digest::of(["web"]),
        revision: "abc".into(),
        sync: SyncStatus::Synced,
        health: HealthStatus::Current,
        message: String::new(),
        objects: 1,
        synced: 1,
        healthy: 1,
        waiting: 0,
        unapproved: 0,
        since: Timestamp(3),
    };
    let rows = Rows::new(4, [row], []);
    let report = StoredReport {
        cluster: name("eu-1"),
        reported_at: Timestamp(5),
        rows: Arc::new(rows.clone()),
        last_seen: Timestamp(6),
        accepted_generation: 4,
        agent_version: "1.2.3".into(),
        kubernetes_version: "v1.37.2".into(),
        api_versions: Arc::new([("example.com/v1".into(), true)].into()),
    };
    store.put_reports(&[report]).await.unwrap();
    assert_eq!(
        store.reports().await.unwrap(),
        [(name("eu-1"), Timestamp(5), rows)]
    );
    let cluster = store.clusters().await.unwrap().remove(0);
    assert_eq!(
        (
            cluster.last_seen,
            cluster.accepted_generation,
            cluster.agent_version.as_str()
        ),
        (Timestamp(6), 4, "1.2.3")
    );
}

#[tokio::test]
async fn what_people_did_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    invite(&store, "eu-1", [1; 32], 100).await;
    let log = store.audit_log().await.unwrap();
    assert_eq!(
        log,
        [(
            "alice".to_owned(),
            "token.create".to_owned(),
            "eu-1".to_owned()
        )]
    );
}
