//! The store in memory beside the one on disk.

use muster_proto::Pause;

use super::*;

/// Everything that a store can be asked.
async fn all(store: &Store) -> String {
    format!(
        "{:#?}",
        (
            store.clusters().await.unwrap(),
            store.certificates(Timestamp(20)).await.unwrap(),
            store.audit_log().await.unwrap(),
            store.approvals().await.unwrap(),
            store.decided().await.unwrap(),
            (
                store.last_decided().await.unwrap(),
                store.last_adopted().await.unwrap(),
                store.history().await.unwrap(),
            ),
            store.reports().await.unwrap(),
            store.pauses().await.unwrap(),
            store.api_tokens().await.unwrap(),
        )
    )
}

fn stamp(generation: u64) -> Stamp {
    Stamp {
        cluster: name("eu-1"),
        generation,
        digest: Digest::of([[generation as u8]]),
        removals: Removals::Held("why".into()),
    }
}

/// One deed of each kind, and those that must change nothing.
async fn step(store: &Store, number: usize) -> Option<String> {
    let said = |audit_at| Audit {
        at: Timestamp(audit_at),
        who: "bob".into(),
        action: "approve",
        what: "web".into(),
    };
    let word = |application: &str| Approval {
        application: application.parse().unwrap(),
        digest: Digest::of([application]),
    };
    let pause = |until| Pause {
        application: "web".parse().unwrap(),
        until: Timestamp(until),
        since: Timestamp(1),
        by: "bob".into(),
        reason: "why not".into(),
    };
    let certificate = |serial, not_after| super::certificate(serial, not_after)(name("eu-1"));
    let commit = |revision: &str, complete, at| Commit {
        at: Timestamp(at),
        revision: revision.into(),
        subject: "First".into(),
        complete,
    };
    let redeem = async |hash: u8, at| {
        let certify = super::certificate(if hash == 1 { "00" } else { "03" }, 500);
        let hash = [hash; 32];
        let redeemed = store.redeem(&hash, "uid", Timestamp(at), certify).await;
        format!("{:?}", redeemed.unwrap())
    };
    let mut invited = Cluster::invited(name("eu-1"), BTreeMap::new(), Timestamp(1));
    invited.labels = Arc::new([("tier".to_owned(), "one".to_owned())].into());
    let written = match number {
        0 => return Some(redeem(1, 50).await),
        1 => {
            store
                .put_token(&[1; 32], &invited, Timestamp(100), &said(1))
                .await
        }
        2 => return Some(redeem(1, 100).await),
        3 => return Some(redeem(1, 50).await),
        4 => return Some(redeem(1, 51).await),
        5 => {
            store
                .put_certificate(&certificate("01", 500), Timestamp(3))
                .await
        }
        6 => {
            store
                .put_certificate(&certificate("02", 10), Timestamp(3))
                .await
        }
        7 => {
            store
                .put_token(&[2; 32], &invited, Timestamp(100), &said(2))
                .await
        }
        8 => return Some(redeem(2, 30).await),
        9 => {
            let mut changes = Changes::default();
            changes.put.renderings = [rendering("web"), rendering("old")].into();
            let first = commit("abc", true, 5);
            store
                .put_decided(&changes, &[stamp(7)], Some(&first), &[])
                .await
        }
        10 => {
            store
                .put_approvals(&[word("web"), word("old")], &said(6))
                .await
        }
        11 => {
            let changes = Changes {
                removed_renderings: vec![rendering("old").0],
                ..Changes::default()
            };
            let second = commit("def", false, 7);
            let lower = [stamp(3)];
            let spent = [word("old")];
            store
                .put_decided(&changes, &lower, Some(&second), &spent)
                .await
        }
        12 => {
            store
                .put_pauses(
                    &[(name("eu-1"), pause(9))],
                    &[],
                    &[stamp(8)],
                    Some(&said(8)),
                )
                .await
        }
        13 => {
            store
                .put_pauses(&[(name("eu-1"), pause(12))], &[], &[], None)
                .await
        }
        14 => {
            let ended = [(name("eu-1"), "web".parse().unwrap())];
            store.put_pauses(&[], &ended, &[stamp(9)], None).await
        }
        15 => {
            let report = StoredReport {
                cluster: name("eu-1"),
                reported_at: Timestamp(5),
                rows: Arc::new(Rows::new(4, [], [])),
                last_seen: Timestamp(6),
                accepted_generation: 4,
                agent_version: "1.2.3".into(),
                kubernetes_version: "v1.37.2".into(),
                api_versions: Arc::new([("example.com/v1".into(), true)].into()),
            };
            store.put_reports(&[report]).await
        }
        16 => {
            let token = ApiToken {
                name: "admin".into(),
                hash: [3; 32],
            };
            store.put_api_token(&token, Timestamp(1)).await
        }
        17 => {
            store
                .put_token(&[4; 32], &invited, Timestamp(100), &said(9))
                .await
        }
        18 => {
            let mut removed = store.clusters().await.unwrap().remove(0);
            removed.state = ClusterState::Removed;
            store.put_cluster(&removed, true, Some(&said(10))).await
        }
        19 => return Some(redeem(4, 50).await),
        20 => store.audit(&said(4)).await,
        _ => return None,
    };
    Some(format!("{written:?}"))
}

#[tokio::test]
async fn memory_answers_as_the_disk_does() {
    let folder = tempfile::tempdir().unwrap();
    let disk = open(folder.path()).await.unwrap();
    let memory = Store::Memory(Memory::new(disk.hub().clone()));
    for number in 0.. {
        let (one, other) = (step(&disk, number).await, step(&memory, number).await);
        assert_eq!(one, other, "the answer of step {number}");
        assert_eq!(all(&disk).await, all(&memory).await, "after step {number}");
        if one.is_none() {
            assert_eq!(number, 21);
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_not_acknowledged_may_be_forgotten_and_those_of_a_dead_hub_never_come() {
    let memory = Memory::new(HubIdentity {
        trust_domain: "muster-test".into(),
        digest_key: DigestKey::new([5; 32]),
        created: Timestamp(0),
    });
    let token = |name: &str| ApiToken {
        name: name.into(),
        hash: [3; 32],
    };
    let within = async |time: u64, name: &str| {
        let token = token(name);
        let write = memory.put_api_token(&token, Timestamp(1));
        let time = std::time::Duration::from_millis(time);
        tokio::time::timeout(time, write).await.is_ok()
    };
    assert!(!within(1, "lost").await);
    assert!(!within(3, "written").await);
    assert!(within(5, "known").await);
    let names = async |memory: &Memory| -> Vec<String> {
        let tokens = memory.api_tokens().await.unwrap();
        tokens.into_iter().map(|token| token.name).collect()
    };
    assert_eq!(names(&memory).await, ["known", "written"]);
    let next = memory.next_life();
    assert!(!within(60_000, "late").await);
    assert_eq!(names(&next).await, ["known", "written"]);
    let backup = next.backup();
    next.put_api_token(&token("new"), Timestamp(1))
        .await
        .unwrap();
    assert_eq!(names(&backup).await, ["known", "written"]);
}
