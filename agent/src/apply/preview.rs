//! What would an apply make of one object? Asked by a dry run, with the very body that an apply would send. Changes
//! nothing, and says more than [`super::compare_with`]: it is for people who ask, not for the engine.

use serde_json::Value;

use super::order::Order;
use super::{Error, Failure, failure, misses_namespace, replace};
use crate::{body, ignore};

/// What is there changes all the time: how often it is looked at again until look and dry run speak of the same.
const LOOKS: usize = 3;

/// One object as it is, as Git states it, and as an apply would leave it.
pub(crate) struct Preview {
    /// As it is there; `None` when it is not.
    pub(crate) live: Option<Value>,
    /// As Git states it, made fit for server-side apply.
    pub(crate) stated: Value,
    /// What would be sent: the same without what is left to others.
    pub(crate) sent: Value,
    /// What the API server says to that.
    pub(crate) outcome: Outcome,
}

/// What the API server says to an apply.
pub(crate) enum Outcome {
    /// It would be so.
    Applied(Value),
    /// It would be deleted and made anew.
    Replaced,
    /// It does not take it, and why.
    Refused(Failure),
}

/// Asks.
///
/// # Errors
/// When the API server does not answer, or is too busy.
pub(crate) async fn preview(order: &Order) -> Result<Preview, Failure> {
    let (writer, wanted, key) = (&order.writer, &order.wanted, &*order.key);
    let bytes = body::of(&wanted.object, key, &wanted.application).bytes;
    let stated: Value = serde_json::from_slice(&bytes).expect("we wrote it");
    let mut looks = 0;
    loop {
        looks += 1;
        let live = super::get_whole(&writer.client, &wanted.kind, key).await?;
        let sent = match &live {
            Some(live) => ignore::fit(stated.clone(), live, wanted.ignore.as_deref()),
            None => stated.clone(),
        };
        let fitted = muster_proto::object::canonical(&sent);
        let dry = super::try_dry(writer, &wanted.kind, key, fitted).await;
        let outcome = match dry {
            Ok(then) if looks < LOOKS && moved(live.as_ref(), &then) => continue,
            Ok(then) => Outcome::Applied(then),
            // It would be made before, or on the way.
            Err(Error::Api(status)) if live.is_none() && misses_namespace(&status, key) => {
                Outcome::Applied(sent.clone())
            }
            Err(Error::Api(status)) if live.is_some() && status.code == 422 => {
                match replace::may_be_replaced(order, &bytes, &status).await {
                    Ok(_) => Outcome::Replaced,
                    Err(failure) if failure.passing => return Err(failure),
                    Err(failure) => Outcome::Refused(failure),
                }
            }
            Err(error) => match failure(key, &error) {
                failure if failure.passing => return Err(failure),
                failure => Outcome::Refused(failure),
            },
        };
        return Ok(Preview {
            live,
            stated,
            sent,
            outcome,
        });
    }
}

/// Somebody wrote between look and dry run: a dry run keeps the version of what is there.
fn moved(live: Option<&Value>, then: &Value) -> bool {
    let version = |object: &Value| object.pointer("/metadata/resourceVersion").cloned();
    live.is_some_and(|live| version(live) != version(then))
}
