//! Waiting for a condition with a deadline: what tests do instead of sleeping.

use anyhow::{Context, Result};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

/// Looks again and again, 40 times a second, until `look` is `Ok`; returns what it saw.
///
/// # Errors
/// After `within`: what was waited for, and the error of the last look.
pub async fn until<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    let mut ticks = interval(Duration::from_millis(25));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = anyhow::anyhow!("no look came to an end");
    loop {
        ticks.tick().await;
        match timeout_at(deadline, look()).await {
            Ok(Ok(seen)) => return Ok(seen),
            Ok(Err(error)) if Instant::now() < deadline => last = error,
            Ok(Err(error)) => last = error,
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            return Err(last).with_context(|| format!("waited {within:?} for: {what}"));
        }
    }
}
