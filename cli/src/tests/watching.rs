//! Output that somebody reads while the run goes on.

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;

use super::*;

/// Output that the test reads while the run goes on. Refuses, as a closed pipe does, once `limit` documents are out.
#[derive(Clone)]
struct Pipe {
    text: watch::Sender<String>,
    closed: Arc<Mutex<bool>>,
}

impl Pipe {
    fn new() -> Self {
        Self {
            text: watch::Sender::new(String::new()),
            closed: Arc::default(),
        }
    }

    fn close(&self) {
        *self.closed.lock().unwrap() = true;
    }

    /// Waits until so many lines are out.
    async fn lines(&self, count: usize) -> Vec<String> {
        let mut text = self.text.subscribe();
        let seen = text.wait_for(|text| text.lines().count() >= count);
        let seen = tokio::time::timeout(Duration::from_secs(30), seen).await;
        let seen = seen.expect("in time").unwrap();
        seen.lines().map(str::to_owned).collect()
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if *self.closed.lock().unwrap() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let text = std::str::from_utf8(bytes).unwrap();
        self.text.send_modify(|all| all.push_str(text));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure() {
    let hub = Stub::start().await;
    let (mut pipe, mut err) = (Pipe::new(), Vec::new());
    pipe.close();
    for line in [
        &["muster", "clusters"][..],
        &["muster", "completion", "bash"],
        &["muster", "--help"],
    ] {
        let code = run_in(&hub.environment(), line, &mut pipe, &mut err).await;
        assert_eq!(code, ExitCode::Ok, "{line:?}");
    }
    assert!(err.is_empty());
}

#[tokio::test]
async fn watching_prints_each_change_and_outlives_a_restart_of_the_hub() {
    let mut hub = Stub::start().await;
    let environment = hub.environment();
    let (pipe, complaints) = (Pipe::new(), Pipe::new());
    let (mut out, mut err) = (pipe.clone(), complaints.clone());
    let run = tokio::spawn(async move {
        let line = ["muster", "clusters", "--watch", "-o", "json"];
        run_in(&environment, line, &mut out, &mut err).await
    });
    let connection = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["clusters"][0]["connection"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let say = |connection: &str| {
        let change = |fleet: &mut v1::Fleet| fleet.clusters[0].connection = connection.into();
        hub.fleet.send_modify(change);
    };
    pipe.lines(1).await;
    say("unknown");
    pipe.lines(2).await;
    hub.restart().await;
    complaints.lines(1).await;
    hub.fleet
        .send_modify(|fleet| fleet.clusters[0].connection = "removed".into());
    let lines = pipe.lines(3).await;
    let seen: Vec<String> = lines.iter().map(|line| connection(line)).collect();
    assert_eq!(seen, ["connected", "unknown", "removed"]);
    pipe.close();
    hub.fleet
        .send_modify(|fleet| fleet.clusters[0].connection = "connected".into());
    let code = tokio::time::timeout(Duration::from_secs(30), run).await;
    assert_eq!(code.unwrap().unwrap(), ExitCode::Ok);
}

#[tokio::test]
async fn watching_one_cluster_asks_again_when_the_fleet_changes() {
    let hub = Stub::start().await;
    let environment = hub.environment();
    let pipe = Pipe::new();
    let mut out = pipe.clone();
    let run = tokio::spawn(async move {
        let line = ["muster", "get", "cluster", "eu-1", "--watch", "-o", "json"];
        run_in(&environment, line, &mut out, &mut Vec::new()).await
    });
    pipe.lines(1).await;
    hub.fleet
        .send_modify(|fleet| fleet.clusters[0].generation = 43);
    let lines = pipe.lines(2).await;
    assert!(lines[1].contains("\"generation\":43"), "{}", lines[1]);
    run.abort();
}
