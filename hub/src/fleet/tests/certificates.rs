//! Whose certificate is good when tokens and renewals come at once. Requests are answered in the order in which they are
//! polled for the first time.

use super::*;

async fn invite(hub: &Hub) -> String {
    let hour = Duration::from_secs(3600);
    let name = "eu-1".parse().unwrap();
    let token = hub
        .fleet
        .create_join_token("alice", name, BTreeMap::new(), hour);
    token.await.unwrap().secret
}

/// Joins by a token, for a certificate of that serial number.
async fn joins(hub: &Hub, secret: String, serial: &str) {
    let uid = "uid of eu-1".to_owned();
    let redeemed = hub.fleet.redeem_token(secret, uid, certified(serial)).await;
    assert_eq!(redeemed.unwrap().1.serial, serial);
}

async fn connects(hub: &Hub, serial: &str) -> Result<Grant, Refused> {
    let mut hello = hello(serial, None);
    hello.certificate.serial = serial.into();
    hub.fleet.connect(hello).await
}

#[tokio::test]
async fn of_two_tokens_used_at_once_only_the_certificate_of_the_last_is_good_also_after_a_restart()
{
    for (first, last) in [("02", "03"), ("03", "02")] {
        let bed = Bed::new();
        let hub = bed.start().await;
        joins(&hub, invite(&hub).await, "01").await;
        let open = connects(&hub, "01").await.unwrap();
        let (one, two) = (invite(&hub).await, invite(&hub).await);
        tokio::join!(joins(&hub, one, first), joins(&hub, two, last));
        assert_eq!(open.closed.await, Ok(Closed::Revoked));
        let expect = async |hub: &Hub| {
            for serial in ["01", first] {
                let refused = connects(hub, serial).await.err();
                assert_eq!(refused, Some(Refused::Revoked), "{serial}");
            }
            connects(hub, last).await.unwrap();
        };
        expect(&hub).await;
        hub.stop().await;
        let hub = bed.start().await;
        expect(&hub).await;
        hub.stop().await;
    }
}

#[tokio::test]
async fn a_session_that_a_newer_token_ends_gets_no_newer_certificate() {
    let bed = Bed::new();
    let hub = bed.start().await;
    joins(&hub, invite(&hub).await, "01").await;
    let open = connects(&hub, "01").await.unwrap();
    let renewal = |serial: &str| open.session.renewed(Certificate::from(&issued(serial)));
    renewal("02").await.unwrap();
    let token = invite(&hub).await;
    let ((), renewed) = tokio::join!(joins(&hub, token, "03"), renewal("04"));
    assert!(matches!(renewed, Err(CommandFailed::Refused(_))));
    for serial in ["01", "02"] {
        let refused = connects(&hub, serial).await.err();
        assert_eq!(refused, Some(Refused::Revoked), "{serial}");
    }
    hub.stop().await;
}

/// An agent that could not save the renewed one comes with this one after a restart.
#[tokio::test]
async fn the_certificate_before_a_renewal_stays_good() {
    let bed = Bed::new();
    let hub = bed.start().await;
    joins(&hub, invite(&hub).await, "01").await;
    let open = connects(&hub, "01").await.unwrap();
    let renewed = Certificate::from(&issued("02"));
    open.session.renewed(renewed).await.unwrap();
    connects(&hub, "02").await.unwrap();
    connects(&hub, "01").await.unwrap();
    hub.stop().await;
    let hub = bed.start().await;
    connects(&hub, "01").await.unwrap();
    hub.stop().await;
}

#[tokio::test]
async fn a_certificate_that_an_agent_can_not_keep_is_shown_until_it_is_kept() {
    let bed = Bed::new();
    let hub = bed.start().await;
    joins(&hub, invite(&hub).await, "01").await;
    let mut told = hello("a", None);
    told.unkept = "the vault is shut".into();
    let _grant = hub.fleet.connect(told).await.unwrap();
    let expected = "the agent of eu-1 uses a renewed certificate that it can't keep; a restart comes with the one before, for as long as that is good: the vault is shut";
    hub.shows_cluster("why", |cluster| cluster.message == expected)
        .await;
    let _grant = hub.fleet.connect(hello("a", None)).await.unwrap();
    hub.shows_cluster("nothing", |cluster| cluster.message.is_empty())
        .await;
    hub.stop().await;
}
