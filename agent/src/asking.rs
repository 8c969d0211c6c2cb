//! Answers what people ask of this cluster: what an apply would change now, field by field, and who wrote what is there;
//! or whether the API server would take what nobody has merged ([`trying`]).
//!
//! In: a question, copies of what the engine knows. Out: an answer without any value of a Secret, of a bounded size, in
//! bounded time. Nothing is written: objects are looked at, and applied by dry runs. What is there is told of what Git
//! states or the inventory holds only.

mod comparison;
mod difference;
mod size;
mod subject;
mod trying;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use kube::Client;
use muster_proto::wire::v1;
use tokio::time::Instant;

use crate::apply::{self, Failure, Order};
use crate::discovery;
use crate::engine::{About, Engine, Known};
use crate::prune;
use comparison::Extra;

pub(crate) use subject::Subject;

/// What is not answered by then is left out, and said to be.
const DEADLINE: Duration = Duration::from_secs(15);
/// Objects that are looked at and tried at once: the engine's own calls go first.
const CONCURRENCY: usize = 4;

/// Answers one question.
pub async fn answer(engine: Engine, client: Client, mut ask: v1::Ask) -> v1::Answer {
    let deadline = Instant::now() + DEADLINE;
    match ask.dry_run.take() {
        Some(dry_run) => trying::answer(client, ask.id, dry_run, deadline).await,
        None => answer_by(engine, ask, deadline).await,
    }
}

/// [`answer`] with what is known at a deadline.
async fn answer_by(engine: Engine, ask: v1::Ask, deadline: Instant) -> v1::Answer {
    let id = ask.id;
    let refused = |error: String| v1::Answer {
        id,
        error,
        ..v1::Answer::default()
    };
    let subject = match Subject::of(ask) {
        Ok(subject) => subject,
        Err(why) => return refused(why),
    };
    let whole = matches!(subject, Subject::Object(_));
    let about = match tokio::time::timeout_at(deadline, engine.about(subject)).await {
        Ok(Ok(about)) => about,
        Ok(Err(why)) => return refused(why),
        Err(_) => return refused("the agent is too busy to answer: try again".into()),
    };
    compare(id, about, whole, deadline).await
}

/// Compares the objects, a few at once, and tells of them in their order.
async fn compare(id: u64, about: About, whole: bool, deadline: Instant) -> v1::Answer {
    let mut answer = v1::Answer {
        id,
        revision: about.revision,
        message: about.message,
        ..v1::Answer::default()
    };
    let mut left = u32::try_from(about.objects.len()).unwrap_or(u32::MAX);
    let client = about.client;
    let mut compared = futures::stream::iter(about.objects.into_iter().enumerate())
        .map(|(place, known)| {
            let compared = look(client.clone(), known, whole);
            compared.map(move |compared| (place, compared))
        })
        .buffer_unordered(CONCURRENCY);
    let mut room = size::LARGEST;
    let mut objects = BTreeMap::new();
    while left > 0 {
        let next = tokio::time::timeout_at(deadline, compared.next()).await;
        let Ok(Some((place, mut object))) = next else {
            break;
        };
        left -= 1;
        if !whole && comparison::says_nothing(&object) {
            answer.equal += 1;
        } else if size::fit(&mut object, &mut room) {
            objects.insert(place, object);
        } else {
            answer.left_out += 1;
        }
    }
    answer.left_out += left;
    answer.objects = objects.into_values().collect();
    answer
}

/// Looks at one object and tries to apply it.
async fn look(client: Client, known: Known, whole: bool) -> v1::ObjectComparison {
    let looked = match &known.wanted {
        Some(wanted) => {
            let key = known.key.clone();
            let order = Order::new(client, key, wanted, &known.sight, false);
            let preview = apply::preview(&order).await;
            preview.map(|preview| comparison::of_wanted(&known, wanted, &preview, whole))
        }
        None if known.entry.is_some() => {
            let extra = extra(&client, &known).await;
            extra.map(|extra| comparison::of_extra(&known, &extra, whole))
        }
        None => return comparison::of_unplaced(&known),
    };
    looked.unwrap_or_else(|failure| comparison::unknown(&known, &failure))
}

/// Looks at an object that left Git, and whether its removal would take others along.
async fn extra(client: &Client, known: &Known) -> Result<Extra, Failure> {
    let version = known.entry.as_ref().map(|entry| entry.api_version.as_str());
    let kind = match &known.kind {
        Some(kind) => Some(kind.clone()),
        None => {
            let found = discovery::find(client, version.unwrap_or_default(), &known.key.kind);
            found.await.map_err(|error| Failure {
                message: format!("its kind can't be read: {error}"),
                passing: true,
                ..Failure::default()
            })?
        }
    };
    let Some(kind) = kind else {
        return Ok(Extra::default());
    };
    let live = apply::get_whole(client, &kind, &known.key).await?;
    let blocked = match live.is_some() && known.held.is_empty() {
        true => prune::in_use(client, &known.key).await,
        false => None,
    };
    Ok(Extra { live, blocked })
}
