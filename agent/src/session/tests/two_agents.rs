//! An agent that may not run its cluster: what it tells the hub, and what it goes on with.

use super::*;

/// It says that it waits, over and over when it is not heard, and nothing else.
async fn waits(hub: &mut ScriptedHub, agent: &Agent, why: &str, for_good: bool) -> Visit {
    for _ in 0..3 {
        let visit = hub.visit().await;
        let hello = &visit.hello;
        assert_eq!((&*hello.idle, hello.idle_for_good), (why, for_good));
        assert_eq!(hello.instance, agent.instance);
        visit.end(Status::unavailable("restarting"), "none").await;
    }
    hub.visit().await
}

async fn is_stopped(agent: &mut Agent) {
    match asked(&mut agent.asked).await {
        Request::Stop(why, answer) => {
            assert!(matches!(why, Stop::Because(_)));
            answer.send(()).unwrap();
        }
        Request::Accept(..) | Request::About(..) => panic!("nothing was sent"),
    }
}

async fn begins_anew(mut agent: Agent) {
    let credentials = tokio::time::timeout(DEADLINE, &mut agent.session)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(credentials.cluster.as_str(), "eu-1");
}

#[tokio::test]
async fn an_agent_that_is_superseded_stops_writing_and_begins_anew_when_it_is_alone() {
    let mut hub = ScriptedHub::start().await;
    let mut agent = Agent::of(&hub);
    let newer = Status::aborted("a newer session took over");
    hub.visit().await.end(newer, "superseded").await;
    is_stopped(&mut agent).await;
    let visit = waits(&mut hub, &agent, "a newer session took over", false).await;
    assert_eq!(visit.hello.cluster_uid, "uid-1");
    assert!(!agent.session.is_finished());
    visit.end(Status::unavailable("come in"), "free").await;
    begins_anew(agent).await;
}

#[tokio::test]
async fn an_agent_whose_cluster_was_taken_waits_until_it_is_alone() {
    let mut hub = ScriptedHub::start().await;
    let mut agent = Agent::of(&hub);
    let visit = hub.visit().await;
    let why = "another agent has taken this cluster";
    let stopped = Standing::Stopped(why.to_owned());
    agent.publish.standing.send_replace(stopped);
    is_stopped(&mut agent).await;
    visit.gone().await;
    let visit = waits(&mut hub, &agent, why, false).await;
    visit.end(Status::unavailable("come in"), "free").await;
    begins_anew(agent).await;
}

#[tokio::test]
async fn an_engine_that_may_never_work_here_is_told_to_the_hub() {
    let mut hub = ScriptedHub::start().await;
    let why = "this cluster belongs to another hub";
    let agent = Agent::standing(&hub, Standing::Stopped(why.to_owned()));
    waits(&mut hub, &agent, why, true).await;
    assert!(!agent.session.is_finished());
}

#[tokio::test]
async fn an_agent_in_another_cluster_than_its_credentials_waits_and_its_engine_goes_on() {
    let mut hub = ScriptedHub::start().await;
    let mut agent = Agent::of(&hub);
    let refused = Status::permission_denied("two agents claim eu-1");
    hub.visit().await.end(refused, "other-cluster").await;
    let visit = waits(&mut hub, &agent, "two agents claim eu-1", false).await;
    visit.end(Status::unavailable("come in"), "free").await;
    let visit = hub.visit().await;
    assert_eq!(visit.hello.idle, "");
    send(&visit, &desired(1, &[application("a", "1")]), &[]).await;
    agent.accepts().await;
}
