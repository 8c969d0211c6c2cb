//! How a hub starts, what stops it from starting, and the program itself.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use muster_hub::Hub;
use muster_proto::wire::v1;

use crate::bed::{Bed, config, repository};

async fn problem(data: &std::path::Path, flags: &[&str]) -> String {
    let repository = repository();
    let config = config(data, repository.path(), flags).unwrap();
    format!("{:#}", Hub::start(config).await.unwrap_err())
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_flag_to_change() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for flag in ["--agents-listen", "--enrolment-listen", "--api-listen"] {
        let data = tempfile::tempdir().unwrap();
        // A flag given twice is refused, so the free ports of the bed are left out here.
        let (data, repository) = (data.path().display().to_string(), repository());
        let repo = format!("file://{}", repository.path().display());
        let mut arguments = vec!["--data", &data, "--repo", &repo];
        for listener in ["--agents-listen", "--enrolment-listen", "--api-listen"] {
            arguments.extend([
                listener,
                if listener == flag {
                    &address
                } else {
                    "127.0.0.1:0"
                },
            ]);
        }
        let config = muster_hub::Config::from_arguments(arguments).unwrap();
        let told = format!("{:#}", Hub::start(config).await.unwrap_err());
        assert!(
            told.starts_with(&format!("can't listen on {address}")),
            "{told}"
        );
        assert!(told.contains(flag), "{told}");
    }
}

#[tokio::test]
async fn a_damaged_authority_stops_the_start_with_what_to_do() {
    let data = tempfile::tempdir().unwrap();
    muster_hub::ca::Ca::open(data.path()).unwrap();
    std::fs::write(data.path().join("ca/ca.pem"), "garbage").unwrap();
    let told = problem(data.path(), &[]).await;
    assert!(told.contains("restore the folder from a backup"), "{told}");
}

#[tokio::test]
async fn a_second_hub_on_the_same_data_is_refused() {
    let bed = Bed::start().await;
    let told = problem(bed.data.path(), &[]).await;
    assert!(
        told.contains(&bed.data.path().display().to_string()),
        "{told}"
    );
    bed.hub.stop().await.unwrap();
}

#[tokio::test]
async fn a_restarted_hub_is_the_same_hub() {
    let bed = Bed::start().await;
    let (ca, token) = (bed.ca(), bed.token());
    bed.joined("eu-1").await;
    let Bed {
        data,
        repository,
        hub,
        ahead,
    } = bed;
    hub.stop().await.unwrap();
    let hub = Hub::start(config(data.path(), repository.path(), &[]).unwrap())
        .await
        .unwrap();
    let bed = Bed {
        data,
        repository,
        hub,
        ahead,
    };
    assert_eq!((bed.ca(), bed.token()), (ca, token));
    assert_eq!(bed.fleet().await.clusters[0].name, "eu-1");
}

#[tokio::test]
async fn the_admin_token_stays_good_when_its_file_is_gone_and_no_other_is_written() {
    let bed = Bed::start().await;
    let token = bed.token();
    let Bed {
        data,
        repository,
        hub,
        ..
    } = bed;
    hub.stop().await.unwrap();
    std::fs::remove_file(data.path().join("admin-token")).unwrap();
    let hub = Hub::start(config(data.path(), repository.path(), &[]).unwrap())
        .await
        .unwrap();
    assert!(!hub.admin_token_file.exists());
    let bed = Bed {
        data,
        repository,
        hub,
        ahead: Default::default(),
    };
    let request = crate::bed::with_token(v1::GetVersionRequest {}, &token);
    let version = bed
        .api()
        .await
        .get_version(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(version.version, env!("CARGO_PKG_VERSION"));
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_muster-hub");

#[test]
fn the_program_serves_until_it_is_told_to_stop() {
    let (data, repository) = (tempfile::tempdir().unwrap(), repository());
    let mut program = Command::new(PROGRAM)
        .args([
            "serve",
            "--repo",
            &format!("file://{}", repository.path().display()),
        ])
        .args([
            "--agents-listen",
            "127.0.0.1:0",
            "--enrolment-listen",
            "127.0.0.1:0",
            "--api-listen",
            "127.0.0.1:0",
        ])
        .env("MUSTER_HUB_DATA", data.path())
        .env("MUSTER_HUB_LOG_FORMAT", "json")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(program.stderr.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let serving = log
        .find(|line| line.contains("the hub serves"))
        .expect("it says where it serves");
    let serving: serde_json::Value = serde_json::from_str(&serving).unwrap();
    assert!(
        serving["fields"]["api"]
            .as_str()
            .unwrap()
            .starts_with("127.0.0.1:"),
        "{serving}"
    );
    let stop = Command::new("kill")
        .arg(program.id().to_string())
        .status()
        .unwrap();
    assert!(stop.success());
    let rest: Vec<String> = log.collect();
    assert!(program.wait().unwrap().success(), "{rest:?}");
}

#[test]
fn the_program_says_its_version_and_what_is_wrong() {
    let version = Command::new(PROGRAM).arg("version").output().unwrap();
    assert!(
        String::from_utf8(version.stdout)
            .unwrap()
            .starts_with("muster-hub 0.")
    );
    let wrong = Command::new(PROGRAM)
        .args(["serve", "--data", "/d"])
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(2));
    assert_eq!(
        String::from_utf8(wrong.stderr).unwrap(),
        "muster-hub: --repo is missing: give it as a flag, as MUSTER_HUB_REPO or in the --config file\n"
    );
}
