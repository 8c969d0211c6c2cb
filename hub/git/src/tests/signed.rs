//! Whose commits are taken.

use muster_decide::model::repository::Verify;

use super::others::{Shop, origin, put, revision, run};
use super::*;

/// Keys that sign: an SSH one, with the line that allows it.
fn ssh_key(folder: &Path, name: &str) -> (String, String) {
    let file = folder.join(name);
    let path = file.display().to_string();
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", &path])
        .status();
    assert!(made.unwrap().success());
    let public = std::fs::read_to_string(file.with_extension("pub")).unwrap();
    (path, format!("{name}@example.org {public}"))
}

fn signed(folder: &Path, key: &str, text: &str) -> String {
    std::fs::write(folder.join("a.yaml"), text).unwrap();
    run(folder, &["add", "-A"]);
    let (format, key) = match key.contains('/') {
        true => ("gpg.format=ssh", format!("user.signingkey={key}")),
        false => ("gpg.format=openpgp", format!("user.signingkey={key}")),
    };
    run(
        folder,
        &["-c", format, "-c", &key, "commit", "-q", "-S", "-m", text],
    );
    run(folder, &["rev-parse", "HEAD"])
}

#[tokio::test]
async fn only_commits_that_a_trusted_ssh_key_signed_are_taken() {
    let shop = Shop::new();
    let keys = tempfile::tempdir().unwrap();
    let (alice, allowed) = ssh_key(keys.path(), "alice");
    let (eve, _) = ssh_key(keys.path(), "eve");
    let document = model::Repository {
        verify: Some(Verify {
            allowed_signers: Some(allowed),
            gpg_keys: None,
        }),
        ..shop.document()
    };
    let good = signed(&shop.folder, &alice, "good");
    let running = shop.place.follow(shop.place.repository());
    let of = origin(None);
    running.wants(&[(of.clone(), document.clone())]);
    running.until(&of, |it| revision(it) == good).await;

    let refused = async |commit: String, says: &str| {
        let of_commit = |it: &Tracked| {
            let error = it.error.as_deref().unwrap_or_default();
            error.contains(&commit[..7]) && error.contains(says)
        };
        let tracked = running.until(&of, of_commit).await;
        assert_eq!(revision(&tracked), good);
    };
    refused(put(&shop.folder, "a.yaml", "unsigned"), "it is not signed").await;
    refused(signed(&shop.folder, &eve, "of eve"), "is not trusted").await;
    running.stop().await;
    // A restart does not take what was refused.
    let running = shop.place.follow(shop.place.repository());
    running.wants(&[(of.clone(), document)]);
    let tracked = running.until(&of, |it| it.error.is_some()).await;
    assert_eq!(revision(&tracked), good);
    let better = signed(&shop.folder, &alice, "better");
    let tracked = running.until(&of, |it| revision(it) == better).await;
    assert_eq!(tracked.error, None);
    running.stop().await;
}

#[tokio::test]
async fn the_fleet_repository_takes_only_commits_that_a_trusted_gpg_key_signed() {
    let place = Place::new();
    // gpg's agent has its socket in there, whose path may not be long.
    let home = tempfile::Builder::new()
        .prefix("g")
        .tempdir_in("/tmp")
        .unwrap();
    let gpg = |arguments: &[&str]| {
        let output = Command::new("gpg")
            .env("GNUPGHOME", home.path())
            .args([
                "--batch",
                "--quiet",
                "--pinentry-mode",
                "loopback",
                "--passphrase",
                "",
            ])
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    gpg(&[
        "--quick-generate-key",
        "alice@example.org",
        "ed25519",
        "sign",
        "never",
    ]);
    gpg(&[
        "--quick-generate-key",
        "eve@example.org",
        "ed25519",
        "sign",
        "never",
    ]);
    let keys = home.path().join("alice.asc");
    std::fs::write(&keys, gpg(&["--armor", "--export", "alice@example.org"])).unwrap();
    let sign = |who: &str, text: &str| {
        std::fs::write(place.work().join("x.yaml"), text).unwrap();
        place.git(&["add", "-A"]);
        let program = home.path().join("sign");
        let home = home.path().display();
        let script = format!(
            "#!/bin/sh\nGNUPGHOME={home} exec gpg --batch --pinentry-mode loopback --passphrase '' \"$@\"\n"
        );
        std::fs::write(&program, script).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&program, mode).unwrap();
        let program = format!("gpg.program={}", program.display());
        let key = format!("user.signingkey={who}@example.org");
        place.git(&["-c", &program, "-c", &key, "commit", "-q", "-S", "-m", text]);
    };
    sign("alice", "good");
    let running = place.follow(Repository {
        gpg_keys_file: Some(keys),
        ..place.repository()
    });
    let taken = running.git.fetch_now().await.unwrap();
    assert_eq!(
        (taken.error.as_deref(), taken.subject.as_str()),
        (None, "good")
    );
    sign("eve", "bad");
    let refused = running.git.fetch_now().await.unwrap();
    let error = refused.error.clone().unwrap();
    assert!(error.contains("is not trusted"), "{error}");
    assert_eq!(text(&refused, "x.yaml").as_deref(), Some("good"));
    place.commit(&[("x.yaml", "unsigned")], "unsigned");
    let refused = running.git.fetch_now().await.unwrap();
    let error = refused.error.clone().unwrap();
    assert!(error.contains("it is not signed"), "{error}");
    assert_eq!(refused.subject, "good");
    running.stop().await;
    let ended = Command::new("gpgconf")
        .env("GNUPGHOME", home.path())
        .args(["--kill", "all"])
        .status();
    assert!(ended.unwrap().success());
}
