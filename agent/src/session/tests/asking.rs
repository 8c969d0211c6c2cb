//! What people ask, on the session that is there anyway.

use muster_proto::wire::v1::hub_message::Message as FromHub;

use super::*;
use crate::asking::Subject;

/// The subject of the next question that reaches the engine, which knows nothing of it.
async fn engine_is_asked(agent: &mut Agent) -> Subject {
    match asked(&mut agent.asked).await {
        Request::About(subject, answer) => {
            answer.send(Err("nothing is known of it".into())).unwrap();
            subject
        }
        _ => panic!("not a question"),
    }
}

async fn answer(visit: &mut Visit) -> v1::Answer {
    match visit.hear().await {
        agent_message::Message::Answer(answer) => answer,
        other => panic!("expected an answer, heard {other:?}"),
    }
}

fn ask(id: u64, application: &str) -> FromHub {
    FromHub::Ask(v1::Ask {
        id,
        application: application.into(),
        object: None,
        ..v1::Ask::default()
    })
}

#[tokio::test]
async fn a_question_is_answered_on_the_session_it_came_by_also_while_a_state_is_half_there() {
    let mut hub = ScriptedHub::start().await;
    let mut agent = Agent::of(&hub);
    let mut visit = hub.visit().await;
    assert!(visit.hello.answers);
    visit.say(ask(7, "shop")).await;
    assert_eq!(
        engine_is_asked(&mut agent).await,
        Subject::Application("shop".into())
    );
    let expected = |id| v1::Answer {
        id,
        error: "nothing is known of it".into(),
        ..v1::Answer::default()
    };
    assert_eq!(answer(&mut visit).await, expected(7));

    let state = desired(1, &[application("a", "1")]);
    visit
        .say(FromHub::Begin(muster_proto::wire::begin(&state, |_| false)))
        .await;
    visit.say(ask(8, "shop")).await;
    engine_is_asked(&mut agent).await;
    assert_eq!(answer(&mut visit).await, expected(8));
    send(&visit, &state, &[]).await;
    assert_eq!(agent.accepts().await, state);
    assert_eq!(accepted(&mut visit).await.generation, 1);
}

#[tokio::test]
async fn a_question_that_means_nothing_is_refused_without_the_engine() {
    let mut hub = ScriptedHub::start().await;
    let mut agent = Agent::of(&hub);
    let mut visit = hub.visit().await;
    visit.say(ask(1, "")).await;
    assert!(
        answer(&mut visit)
            .await
            .error
            .starts_with("name an application")
    );
    assert!(agent.asked.try_recv().is_err());
}
