//! A hub whose data directory is damaged: one error that names the file and what to do, nothing is written over, and
//! with the file put back it is the same hub.

use std::path::Path;

use muster_hub::Hub;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::bed::{Bed, config};

/// Runs a statement in the database of a stopped hub.
async fn tamper(data: &Path, statement: &str) {
    let options = SqliteConnectOptions::new().filename(data.join("muster.db"));
    let mut database = SqliteConnection::connect_with(&options).await.unwrap();
    // The statements are written below.
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned()))
        .execute(&mut database)
        .await
        .unwrap();
    database.close().await.unwrap();
}

fn half(file: &Path) {
    let bytes = std::fs::read(file).unwrap();
    std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap();
}

fn garbage(file: &Path) {
    std::fs::write(file, "sEcReT garbage").unwrap();
}

#[tokio::test]
async fn a_damaged_data_directory_stops_the_start_with_what_to_do_and_is_left_as_it_is() {
    let bed = Bed::start().await;
    bed.joined("eu-1").await;
    let ca = bed.ca();
    let Bed {
        data,
        repository,
        hub,
        ahead,
    } = bed;
    hub.stop().await.unwrap();
    let put_back = "put back a backup of it";
    let restore = "restore the folder from a backup";
    for (name, file, says) in [
        ("database cut off", "muster.db", put_back),
        ("database garbage", "muster.db", put_back),
        ("no digest key", "muster.db", put_back),
        ("short digest key", "muster.db", put_back),
        ("a cluster that is none", "muster.db", put_back),
        ("authority's key garbage", "ca/ca-key.pem", restore),
        ("authority's key gone", "ca/ca-key.pem", restore),
        ("authority cut off", "ca/ca.pem", restore),
    ] {
        let damaged = data.path().join(file);
        let good = std::fs::read(&damaged).unwrap();
        match name {
            "database cut off" | "authority cut off" => half(&damaged),
            "no digest key" => tamper(data.path(), "DELETE FROM hub").await,
            "short digest key" => tamper(data.path(), "UPDATE hub SET digest_key = x'00'").await,
            "a cluster that is none" => {
                tamper(data.path(), "UPDATE cluster SET name = 'Not A Name'").await;
            }
            "authority's key gone" => std::fs::remove_file(&damaged).unwrap(),
            _ => garbage(&damaged),
        }
        let left = std::fs::read(&damaged).ok();
        let config = || config(data.path(), repository.path(), &[]).unwrap();
        let Err(told) = Hub::start(config()).await else {
            panic!("{name}: the hub started");
        };
        let told = format!("{told:#}");
        let folder = damaged.parent().unwrap().display().to_string();
        assert!(
            told.contains(&folder) && told.contains(says),
            "{name}: {told}"
        );
        assert!(!told.contains("sEcReT"), "{name}: {told}");
        assert_eq!(
            std::fs::read(&damaged).ok(),
            left,
            "{name}: it is left as it is"
        );

        std::fs::write(&damaged, good).unwrap();
        for beside in ["muster.db-wal", "muster.db-shm"] {
            std::fs::remove_file(data.path().join(beside)).ok();
        }
    }
    let hub = Hub::start(config(data.path(), repository.path(), &[]).unwrap());
    let bed = Bed {
        hub: hub.await.unwrap(),
        data,
        repository,
        ahead,
    };
    assert_eq!(bed.ca(), ca);
    assert_eq!(bed.fleet().await.clusters[0].name, "eu-1");
    bed.hub.stop().await.unwrap();
}
