//! Asks `muster` for the fleet whenever it changes, as anybody may, for the picture to show.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use muster_cli::Environment;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::world::ask;

/// How often the hub is asked at most, also when it is away.
const AGAIN: Duration = Duration::from_millis(100);

/// A cluster and an application.
pub(super) type Place = (String, String);

/// The fleet as `muster` told it last.
#[derive(Debug, Clone, Default)]
pub(super) struct Fleet {
    /// `muster status -o json`.
    pub(super) status: Value,
    /// Whether the hub can't be asked: then all else is what it said before.
    pub(super) away: bool,
    /// The placements of every `muster get app NAME -o json`.
    pub(super) placements: BTreeMap<Place, Value>,
    /// How often a change by hand was repaired, from `muster drift -o json`.
    pub(super) repairs: BTreeMap<Place, u64>,
    /// When a place was seen to hold something else than before.
    pub(super) changed: BTreeMap<Place, Instant>,
}

/// Keeps the newest fleet in `fleets`, until it is dropped.
pub(super) async fn follow(environment: Environment, fleets: watch::Sender<Fleet>) {
    let heard = watch::Sender::new((Value::Null, false));
    let watching = async {
        let mut statuses = Statuses::new(&heard);
        let mut complaints = Complaints(&heard);
        let mut ticks = interval(AGAIN);
        loop {
            ticks.tick().await;
            // It ends with its first complaint.
            let line = ["muster", "status", "--watch", "-o", "json"];
            muster_cli::run_in(&environment, line, &mut statuses, &mut complaints).await;
        }
    };
    let mut news = heard.subscribe();
    let telling = async {
        let mut ticks = interval(AGAIN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while news.changed().await.is_ok() {
            ticks.tick().await;
            let (status, away) = news.borrow_and_update().clone();
            let told = match away {
                true => None,
                false => details(&environment, &status).await,
            };
            fleets.send_modify(|fleet| {
                fleet.status = status;
                fleet.away = away;
                if let Some((placements, repairs)) = told {
                    fleet.take_in(placements, repairs, Instant::now());
                }
            });
        }
    };
    tokio::join!(watching, telling);
}

type Details = (BTreeMap<Place, Value>, BTreeMap<Place, u64>);

/// What `status` leaves out. `None` when the hub went away in between.
async fn details(environment: &Environment, status: &Value) -> Option<Details> {
    let asked = async |arguments: &[&str]| ask(environment, arguments).await.ok()?.json().ok();
    let mut placements = BTreeMap::new();
    for application in rows(&status["applications"]) {
        let name = text(application, "name");
        let detail = asked(&["get", "app", name, "-o", "json"]).await?;
        for placement in rows(&detail["placements"]) {
            let place = (text(placement, "cluster").to_owned(), name.to_owned());
            placements.insert(place, placement.clone());
        }
    }
    let mut repairs = BTreeMap::new();
    let drift = asked(&["drift", "-o", "json"]).await?;
    for row in rows(&drift["rows"]) {
        let object = &row["object"];
        let place = (
            text(row, "cluster").to_owned(),
            text(object, "application").to_owned(),
        );
        if object["lastDrift"]["repairedAtMs"].as_i64() > Some(0) {
            *repairs.entry(place).or_default() += object["lastDrift"]["count"].as_u64()?;
        }
    }
    Some((placements, repairs))
}

impl Fleet {
    fn take_in(
        &mut self,
        placements: BTreeMap<Place, Value>,
        repairs: BTreeMap<Place, u64>,
        at: Instant,
    ) {
        for (place, placement) in &placements {
            let before = (self.placements.get(place)).map(|it| &it["desiredRevision"]);
            let as_before = before == Some(&placement["desiredRevision"])
                && self.repairs.get(place) == repairs.get(place);
            if !as_before {
                self.changed.insert(place.clone(), at);
            }
        }
        self.placements = placements;
        self.repairs = repairs;
    }
}

/// The rows of a list; none of what is no list.
pub(super) fn rows(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A field's text; empty when it has none.
pub(super) fn text<'a>(row: &'a Value, field: &str) -> &'a str {
    row[field].as_str().unwrap_or_default()
}

/// Takes the lines of `muster status --watch -o json` apart.
struct Statuses<'a> {
    unfinished: Vec<u8>,
    heard: &'a watch::Sender<(Value, bool)>,
}

impl<'a> Statuses<'a> {
    fn new(heard: &'a watch::Sender<(Value, bool)>) -> Self {
        Self {
            unfinished: Vec::new(),
            heard,
        }
    }
}

impl Write for Statuses<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unfinished.extend_from_slice(bytes);
        while let Some(end) = self.unfinished.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unfinished.drain(..=end).collect();
            let status = serde_json::from_slice(&line)?;
            self.heard.send_replace((status, false));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whatever is said on standard error says that the hub can't be asked. `muster` would wait longer and longer for it;
/// nobody listening ends it.
struct Complaints<'a>(&'a watch::Sender<(Value, bool)>);

impl Write for Complaints<'_> {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        self.0
            .send_if_modified(|(_, away)| !std::mem::replace(away, true));
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn statuses_are_read_line_by_line_however_they_come() {
        let heard = watch::Sender::new((Value::Null, true));
        let mut statuses = Statuses::new(&heard);
        for part in ["{\"a\"", ": 1}\n{\"a\": 2}\n{\"a\"", ": 3"] {
            statuses.write_all(part.as_bytes()).unwrap();
        }
        assert_eq!(*heard.borrow(), (json!({"a": 2}), false));
        statuses.write_all(b"}\n").unwrap();
        assert_eq!(*heard.borrow(), (json!({"a": 3}), false));
    }

    #[test]
    fn a_hub_that_is_away_leaves_what_it_said_before() {
        let heard = watch::Sender::new((json!("before"), false));
        let mut news = heard.subscribe();
        Complaints(&heard).write_all(b"muster: away").unwrap_err();
        assert_eq!(*news.borrow_and_update(), (json!("before"), true));
        Complaints(&heard).write_all(b"muster: away").unwrap_err();
        assert!(!news.has_changed().unwrap(), "it is known already");
    }

    #[test]
    fn a_place_changed_when_its_revision_or_its_repairs_did() {
        let place = |cluster: &str| (cluster.to_owned(), "web".to_owned());
        let holding = |revision: &str| json!({"desiredRevision": revision});
        let mut fleet = Fleet::default();
        let begun = Instant::now();
        let first = BTreeMap::from(["a", "b", "c"].map(|it| (place(it), holding("1"))));
        fleet.take_in(first.clone(), BTreeMap::new(), begun);
        assert_eq!(fleet.changed.len(), 3);
        let later = begun + Duration::from_secs(1);
        let mut second = first;
        second.insert(place("a"), holding("2"));
        fleet.take_in(second, BTreeMap::from([(place("b"), 1)]), later);
        assert_eq!(fleet.changed[&place("a")], later);
        assert_eq!(fleet.changed[&place("b")], later);
        assert_eq!(fleet.changed[&place("c")], begun);
    }
}
