//! Where the hub's time comes from: one function, handed to the tasks that stamp what they see.
//!
//! Everything below the tasks takes a [`Timestamp`] as an argument.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use muster_proto::Timestamp;

/// Tells the time. Tests hand in their own.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The machine's clock.
pub fn system() -> Clock {
    Arc::new(|| {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp(since.as_millis().try_into().unwrap_or(i64::MAX))
    })
}
