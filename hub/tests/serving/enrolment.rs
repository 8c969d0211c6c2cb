//! Join tokens: one cluster, once, before they expire.

use muster_proto::tls::Identity;
use rcgen::{CertificateParams, KeyPair, SanType};
use tonic::Code;

use crate::bed::{Bed, Member, enrol, enrol_with, reason};

#[tokio::test]
async fn a_token_used_twice_at_once_lets_one_in() {
    let bed = Bed::start().await;
    let token = bed.join_token("eu-1").await;
    let (one, two) = tokio::join!(enrol(&token), enrol(&token));
    let (won, lost): (Vec<_>, Vec<_>) = [one, two].into_iter().partition(Result::is_ok);
    assert_eq!((won.len(), lost.len()), (1, 1));
    let status = lost.into_iter().next().unwrap().err().unwrap();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().contains("used already"),
        "{}",
        status.message()
    );
    assert!(
        status.message().contains("muster cluster join eu-1"),
        "{}",
        status.message()
    );
}

#[tokio::test]
async fn a_token_that_nobody_made_lets_nobody_in() {
    let bed = Bed::start().await;
    let mut token = bed.join_token("eu-1").await;
    token.secret = "0".repeat(64);
    let status = enrol(&token).await.err().unwrap();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().contains("muster cluster join"),
        "{}",
        status.message()
    );
}

#[tokio::test]
async fn an_expired_token_lets_nobody_in() {
    let bed = Bed::start().await;
    let token = bed.join_token("eu-1").await;
    bed.move_clock(1);
    let status = enrol(&token).await.err().unwrap();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(
        status.message().contains("has expired"),
        "{}",
        status.message()
    );
}

#[tokio::test]
async fn a_request_that_asks_for_another_name_gets_the_name_of_its_token() {
    let bed = Bed::start().await;
    let token = bed.join_token("eu-1").await;
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI("spiffe://x/cluster/eu-2".try_into().unwrap())];
    let request = params.serialize_request(&key).unwrap().der().to_vec();
    let answer = enrol_with(&token, request.into())
        .await
        .unwrap()
        .into_inner();
    let identity = Identity::of_certificate(&answer.certificates_der[0]).unwrap();
    assert!(
        identity.to_string().ends_with("/cluster/eu-1"),
        "{identity}"
    );
}

#[tokio::test]
async fn a_broken_request_does_not_use_the_token_up() {
    let bed = Bed::start().await;
    let token = bed.join_token("eu-1").await;
    let status = enrol_with(&token, b"garbage".to_vec().into())
        .await
        .err()
        .unwrap();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(enrol(&token).await.unwrap().cluster, "eu-1");
}

#[tokio::test]
async fn an_address_may_guess_only_so_often() {
    let bed = Bed::start().await;
    let good = bed.join_token("eu-1").await;
    let mut wrong = good.clone();
    wrong.secret = "0".repeat(64);
    for _ in 0..10 {
        assert_eq!(
            enrol(&wrong).await.err().unwrap().code(),
            Code::PermissionDenied
        );
    }
    assert_eq!(
        enrol(&good).await.err().unwrap().code(),
        Code::ResourceExhausted
    );
    bed.move_clock(0);
    bed.ahead.store(61_000, std::sync::atomic::Ordering::SeqCst);
    assert!(enrol(&good).await.is_ok());
}

#[tokio::test]
async fn of_two_tokens_of_one_cluster_used_at_once_one_certificate_is_good() {
    let bed = Bed::start().await;
    let first = bed.joined("eu-1").await;
    let mut open = bed.session(&first).await;
    let (one, two) = (bed.join_token("eu-1").await, bed.join_token("eu-1").await);
    let (one, two) = tokio::join!(enrol(&one), enrol(&two));
    let members = [first, one.unwrap(), two.unwrap()];
    assert_eq!(reason(&open.ended().await), "revoked");
    let good = who_is_let_in(&bed, &members).await;
    assert!(matches!(good[..], [1] | [2]), "{good:?}");

    let restarted = bed.restart().await;
    assert_eq!(who_is_let_in(&restarted, &members).await, good);
}

/// Which of them get a session. To those the hub says that their certificates are old.
async fn who_is_let_in(bed: &Bed, members: &[Member]) -> Vec<usize> {
    bed.move_clock(11);
    let mut good = Vec::new();
    for (number, member) in members.iter().enumerate() {
        match bed.session(member).await.hear_beside_state().await {
            Ok(_) => good.push(number),
            Err(status) => assert_eq!(reason(&status), "revoked"),
        }
    }
    good
}
