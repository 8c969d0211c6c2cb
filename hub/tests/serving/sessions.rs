//! Sessions: who may have one, what hostile messages do, how they end.

use muster_proto::wire::v1;
use muster_proto::wire::v1::agent_message::Message as ToHub;
use muster_proto::wire::v1::hub_message::Message as FromHub;
use muster_proto::{
    ApplicationStatus, Digest, HealthStatus, ObjectKey, ObjectStatus, Report, Rows, SyncStatus,
    Timestamp,
};
use tonic::Code;

use crate::bed::{Agent, Bed, commit, reason, signing_request, until};

fn rows(message: &str) -> Rows {
    let application = ApplicationStatus {
        application: "shop".parse().unwrap(),
        digest: Digest::of(["d"]),
        revision: "abc".into(),
        sync: SyncStatus::Failed,
        health: HealthStatus::Current,
        message: message.into(),
        objects: 1,
        synced: 0,
        healthy: 1,
        waiting: 0,
        unapproved: 0,
        since: Timestamp(1),
    };
    let key = ObjectKey {
        group: String::new(),
        kind: "ConfigMap".into(),
        namespace: "n".into(),
        name: "o".into(),
    };
    let object = ObjectStatus {
        key,
        application: application.application.clone(),
        sync: SyncStatus::Failed,
        health: HealthStatus::Current,
        message: message.into(),
        since: Timestamp(1),
        last_drift: None,
    };
    Rows::new(0, [application], [object])
}

fn report(report: &Report) -> ToHub {
    ToHub::Report(report.into())
}

#[tokio::test]
async fn an_agent_that_says_hello_is_shown_as_connected() {
    let bed = Bed::start().await;
    let member = bed.joined("eu-1").await;
    let _agent = bed.session(&member).await;
    until("connected", async || {
        bed.cluster("eu-1").await.summary.unwrap().connection == "connected"
    })
    .await;
    let summary = bed.cluster("eu-1").await.summary.unwrap();
    assert_eq!(summary.kubernetes_version, "v1.37.2");
}

#[tokio::test]
async fn a_removed_cluster_is_told_so_now_and_whenever_it_comes_back() {
    let bed = Bed::start().await;
    let member = bed.joined("eu-1").await;
    let mut agent = bed.session(&member).await;
    until("connected", async || {
        bed.cluster("eu-1").await.summary.unwrap().connection == "connected"
    })
    .await;
    let removal = v1::RemoveClusterRequest {
        name: "eu-1".into(),
        delete_objects: false,
    };
    bed.api()
        .await
        .remove_cluster(bed.ask(removal))
        .await
        .unwrap();
    for _ in 0..2 {
        let status = agent.ended().await;
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::PermissionDenied, "removed-keep")
        );
        agent = bed.session(&member).await;
    }
}

#[tokio::test]
async fn of_two_agents_with_one_name_the_newer_wins_and_the_older_is_told() {
    let bed = Bed::start().await;
    let member = bed.joined("eu-1").await;
    let mut older = bed.session(&member).await;
    until("connected", async || {
        bed.cluster("eu-1").await.summary.unwrap().connection == "connected"
    })
    .await;
    let mut newer = bed.dial(Some(member.credentials())).await.unwrap();
    let hello = v1::Hello {
        instance: "two".into(),
        ..member.hello()
    };
    newer.say(ToHub::Hello(hello)).await;
    let status = older.ended().await;
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::Aborted, "superseded")
    );
}

#[tokio::test]
async fn an_agent_that_waits_is_shown_and_is_told_when_it_may_run_the_cluster() {
    let bed = Bed::start().await;
    let member = bed.joined("eu-1").await;
    let newer = bed.session(&member).await;
    until("connected", async || {
        bed.cluster("eu-1").await.summary.unwrap().connection == "connected"
    })
    .await;
    let hello = |instance: &str| {
        ToHub::Hello(v1::Hello {
            instance: instance.into(),
            idle: format!("a newer one\nis {}", "very ".repeat(1000)),
            ..member.hello()
        })
    };
    let mut waits = bed.dial(Some(member.credentials())).await.unwrap();
    waits.say(hello("two")).await;
    until("both are shown", async || {
        let message = bed.cluster("eu-1").await.summary.unwrap().message;
        message.starts_with("two agents claim eu-1")
            && message.contains("(a newer one is very")
            && message.len() < 2000
    })
    .await;

    let mut talks = bed.dial(Some(member.credentials())).await.unwrap();
    talks.say(hello("three")).await;
    talks.say(report(&rows("mine").full_report())).await;
    assert_eq!(talks.ended().await.code(), Code::InvalidArgument);
    assert_eq!(bed.cluster("eu-1").await.objects, []);

    drop(newer);
    bed.move_clock(1);
    let status = waits.ended().await;
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::Unavailable, "free")
    );
}

#[tokio::test]
async fn another_kubernetes_cluster_with_the_same_credentials_is_refused() {
    let bed = Bed::start().await;
    let member = bed.joined("eu-1").await;
    let mut agent = bed.dial(Some(member.credentials())).await.unwrap();
    agent
        .say(ToHub::Hello(v1::Hello {
            cluster_uid: "another".into(),
            ..member.hello()
        }))
        .await;
    let status = agent.ended().await;
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::PermissionDenied, "other-cluster")
    );
    assert!(
        status.message().contains("two agents claim eu-1"),
        "{}",
        status.message()
    );
}

#[tokio::test]
async fn a_session_writes_only_its_own_clusters_state() {
    let bed = Bed::start().await;
    let (one, two) = (bed.joined("eu-1").await, bed.joined("eu-2").await);
    let (mut first, mut second) = (bed.session(&one).await, bed.session(&two).await);
    first.say(report(&rows("mine").full_report())).await;
    until("the first report", async || {
        bed.cluster("eu-1").await.objects.len() == 1
    })
    .await;
    // There is no field to name another cluster by: a report of eu-2 stays with eu-2.
    second.say(report(&rows("of eu-2").full_report())).await;
    until("the second report", async || {
        bed.cluster("eu-2").await.objects.len() == 1
    })
    .await;
    assert_eq!(bed.cluster("eu-1").await.objects[0].message, "mine");
    assert_eq!(bed.cluster("eu-2").await.objects[0].message, "of eu-2");
}

#[tokio::test]
async fn a_report_that_does_not_add_up_is_asked_for_in_full_once() {
    let bed = Bed::start().await;
    let member = bed.joined("eu-1").await;
    let mut agent = bed.session(&member).await;
    let newest = rows("new");
    let delta = Report {
        digest: Digest::of(["other"]),
        ..Rows::default().report(&newest).unwrap()
    };
    agent.say(report(&delta)).await;
    assert!(matches!(
        agent.hear_beside_state().await,
        Ok(FromHub::FullReportWanted(_))
    ));
    agent.say(report(&newest.full_report())).await;
    until("the full report", async || {
        bed.cluster("eu-1").await.objects.len() == 1
    })
    .await;
}

#[tokio::test]
async fn hostile_messages_end_the_session_with_the_reason_and_lose_nothing() {
    let bed = Bed::start().await;
    let member = bed.joined("eu-1").await;
    let mut agent = bed.session(&member).await;
    agent.say(report(&rows("kept").full_report())).await;
    until("the report", async || {
        bed.cluster("eu-1").await.objects.len() == 1
    })
    .await;

    let accepted = || {
        ToHub::Accepted(v1::Accepted {
            generation: 1,
            ..Default::default()
        })
    };
    let hostile: [(bool, ToHub, &str); 6] = [
        (false, accepted(), "the first message of a session is Hello"),
        (
            false,
            ToHub::Hello(v1::Hello {
                desired_digest: vec![1].into(),
                ..member.hello()
            }),
            "hello.desired_digest",
        ),
        (
            false,
            ToHub::Hello(v1::Hello {
                agent_version: "x".repeat(300),
                ..member.hello()
            }),
            "hello.agent_version",
        ),
        (true, accepted(), "Accepted answers a Done"),
        (
            true,
            ToHub::Renew(v1::RenewRequest::default()),
            "RenewRequest answers RenewalDue",
        ),
        (
            true,
            ToHub::Report(v1::Report {
                digest: vec![1].into(),
                ..Default::default()
            }),
            "digest",
        ),
    ];
    for (after_hello, message, said) in hostile {
        let mut agent = bed.dial(Some(member.credentials())).await.unwrap();
        if after_hello {
            agent.say(ToHub::Hello(member.hello())).await;
        }
        agent.say(message).await;
        let status = agent.ended().await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert!(status.message().contains(said), "{}", status.message());
    }
    assert_eq!(bed.cluster("eu-1").await.objects[0].message, "kept");
}

#[tokio::test]
async fn an_old_certificate_is_renewed_over_the_session() {
    let bed = Bed::start().await;
    let member = bed.joined("eu-1").await;
    bed.move_clock(11);
    let mut agent = bed.session(&member).await;
    assert!(matches!(
        agent.hear_beside_state().await,
        Ok(FromHub::RenewalDue(_))
    ));
    let csr_der = signing_request(&member.key).into();
    agent.say(ToHub::Renew(v1::RenewRequest { csr_der })).await;
    let Ok(FromHub::Renewed(renewed)) = agent.hear_beside_state().await else {
        panic!("a renewed certificate is next");
    };
    assert_eq!(renewed.certificates_der.len(), 2);
    assert_ne!(
        renewed.certificates_der[0].as_ref(),
        member.chain[0].as_ref()
    );
}

#[tokio::test]
async fn a_session_ends_with_its_certificate() {
    let bed = Bed::start().await;
    let member = bed.joined("eu-1").await;
    bed.move_clock(31);
    let mut agent = bed.session(&member).await;
    let status = agent.ended().await;
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::Unauthenticated, "certificate-ended")
    );
}

#[tokio::test]
async fn a_new_join_revokes_the_certificates_before_it() {
    let bed = Bed::start().await;
    let old = bed.joined("eu-1").await;
    let new = bed.joined("eu-1").await;
    let status = bed.session(&old).await.ended().await;
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::PermissionDenied, "revoked")
    );
    let _agent = bed.session(&new).await;
    until("connected", async || {
        bed.cluster("eu-1").await.summary.unwrap().connection == "connected"
    })
    .await;
}

#[tokio::test]
async fn a_hub_that_stops_says_so() {
    let bed = Bed::start().await;
    let member = bed.joined("eu-1").await;
    let mut agent = bed.session(&member).await;
    until("connected", async || {
        bed.cluster("eu-1").await.summary.unwrap().connection == "connected"
    })
    .await;
    let (stopped, status) = tokio::join!(bed.hub.stop(), agent.ended());
    stopped.unwrap();
    assert_eq!(status.code(), Code::Unavailable);
}

/// An application for one cluster only, whose one object says `text`.
fn declare(bed: &Bed, cluster: &str, text: &str) {
    let folder = bed.repository.path().join(cluster);
    std::fs::create_dir_all(&folder).unwrap();
    let document = format!(
        "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata:\n  name: of-{cluster}\nspec:\n  source:\n    path: .\n  \
         namespace: default\n  targets:\n  - name: one\n    clusters:\n      names: [{cluster}]\n"
    );
    std::fs::write(folder.join("muster.yaml"), document).unwrap();
    let object = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: of-{cluster}\ndata:\n  text: {text}\n"
    );
    std::fs::write(folder.join("object.yaml"), object).unwrap();
}

/// Listens to one whole desired state: its announcement and the bodies that were sent.
async fn receive(agent: &mut Agent) -> (v1::Begin, Vec<String>) {
    let Ok(FromHub::Begin(begin)) = agent.hear().await else {
        panic!("a desired state begins with Begin");
    };
    let mut bodies = Vec::new();
    loop {
        match agent.hear().await.unwrap() {
            FromHub::Objects(frame) => {
                let texts = frame.objects.iter().map(|object| object.body.to_vec());
                bodies.extend(texts.map(|body| String::from_utf8(body).unwrap()));
            }
            FromHub::Done(done) => {
                let generation = begin.generation;
                let accepted = v1::Accepted {
                    generation,
                    desired_digest: done.digest,
                    refused: String::new(),
                };
                agent.say(ToHub::Accepted(accepted)).await;
                return (begin, bodies);
            }
            other => panic!("not a part of a desired state: {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_session_reads_its_own_clusters_state_and_no_others() {
    let bed = Bed::start().await;
    let (one, two) = (bed.joined("eu-1").await, bed.joined("eu-2").await);
    declare(&bed, "eu-1", "first");
    declare(&bed, "eu-2", "second");
    commit(bed.repository.path(), "two applications");
    bed.sync().await.unwrap();
    let others = [(&one, "of-eu-1", "first"), (&two, "of-eu-2", "second")];
    for (member, name, text) in others {
        until("the decision", async || {
            bed.cluster(&member.cluster).await.placements.len() == 1
        })
        .await;
        let mut agent = bed.session(member).await;
        let (begin, bodies) = receive(&mut agent).await;
        let names: Vec<_> = begin.applications.iter().map(|one| &one.name).collect();
        assert_eq!(names, [name]);
        assert_eq!(bodies.len(), 1);
        assert!(bodies[0].contains(text), "{bodies:?}");
    }
}

#[tokio::test]
async fn a_commit_sends_a_connected_agent_only_the_object_that_changed() {
    let bed = Bed::start().await;
    let member = bed.joined("eu-1").await;
    declare(&bed, "eu-1", "before");
    let stays = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: stays\n";
    std::fs::write(bed.repository.path().join("eu-1/stays.yaml"), stays).unwrap();
    let mut agent = bed.session(&member).await;
    let mut generation = 0;
    for (text, expected) in [("before", 2), ("after", 1)] {
        declare(&bed, "eu-1", text);
        commit(bed.repository.path(), text);
        bed.sync().await.unwrap();
        // A cluster that has just joined is first told that it should run nothing.
        let (begin, bodies) = loop {
            let (begin, bodies) = receive(&mut agent).await;
            assert!(begin.generation > generation);
            generation = begin.generation;
            if !begin.applications.is_empty() {
                break (begin, bodies);
            }
        };
        assert_eq!(begin.applications.len(), 1);
        assert_eq!(bodies.len(), expected, "{bodies:?}");
        assert!(bodies.iter().any(|body| body.contains(text)), "{bodies:?}");
        until("the agent's answer", async || {
            let summary = bed.cluster("eu-1").await.summary.unwrap();
            summary.accepted_generation == generation
        })
        .await;
    }
}
