//! `muster cluster join`: a token that lets one new cluster in, once, and what to do with it.

use std::io::Write;

use muster_proto::Digest;
use muster_proto::wire::v1;

use crate::ExitCode;
use crate::answer::{now, print_data};
use crate::args::{JoinArgs, Output};
use crate::config::Hub;
use crate::failure::Failure;
use crate::hub::{self, call};
use crate::show::words;

/// What runs an agent inside its cluster.
const TEMPLATE: &str = include_str!("../../deploy/agent.yaml");

/// Asks for a token and prints what to run where.
pub(crate) async fn join(
    hub: &Hub,
    args: JoinArgs,
    out: &mut (dyn Write + Send),
    err: &mut (dyn Write + Send),
) -> Result<ExitCode, Failure> {
    let name = args.name;
    let request = v1::CreateJoinTokenRequest {
        cluster: name.to_string(),
        labels: args.labels.into_iter().collect(),
        valid_seconds: args.valid.map_or(0, |valid| valid.as_secs() as i64),
    };
    let mut session = hub::connect(hub).await?;
    let answer = session.client.create_join_token(call(request)).await;
    let token = session.answer(answer)?;
    match args.output {
        _ if args.manifest => {
            out.write_all(manifest(name.as_str(), &token.token, &args.image).as_bytes())?;
            // Not into the pipe to kubectl.
            let until = words::moment(token.expires_ms);
            writeln!(err, "muster: {name} may join once, until {until}")?;
        }
        Output::Json | Output::Yaml => print_data(&token, args.output, out)?,
        Output::Table | Output::Wide => {
            out.write_all(instructions(name.as_str(), &token, now().0).as_bytes())?;
        }
    }
    Ok(ExitCode::Ok)
}

/// The agent's manifests, filled in.
fn manifest(name: &str, token: &str, image: &str) -> String {
    // The comment at the top explains the placeholders; filled in it would only repeat the token.
    let begin = TEMPLATE.lines().take_while(|line| line.starts_with('#'));
    let begin: usize = begin.map(|line| line.len() + 1).sum();
    TEMPLATE[begin..]
        .replace("@CLUSTER@", name)
        .replace("@JOIN_TOKEN@", token)
        .replace("@JOIN_DIGEST@", &Digest::of([token]).short())
        .replace("@IMAGE@", image)
}

/// What to run on a machine that reaches the new cluster.
fn instructions(name: &str, token: &v1::JoinTokenResponse, now_ms: i64) -> String {
    // Up to the next minute: an hour is an hour, although a moment of it has passed.
    let minutes = ((token.expires_ms - now_ms).max(0) + 59_999) / 60_000;
    let left = words::span(minutes * 60);
    let until = words::moment(token.expires_ms);
    let token = &token.token;
    format!(
        r#"{name} may join once, within {left} (until {until}). Run this where its API server can be reached:

(umask 077; echo '{token}' > {name}.join)
muster-agent run --join-token-file {name}.join --data ./muster-{name} --kubeconfig "${{KUBECONFIG:-$HOME/.kube/config}}"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifests_are_filled_in_and_the_token_stands_in_the_secret_alone() {
        let yaml = manifest("eu-1", "muster-join-abc", "registry.example/muster-agent:1");
        assert!(
            yaml.starts_with("apiVersion: v1\nkind: Namespace\n"),
            "{yaml}"
        );
        assert!(!yaml.contains('@'), "{yaml}");
        assert_eq!(yaml.matches("muster-join-abc").count(), 1, "{yaml}");
        assert!(
            yaml.contains("image: registry.example/muster-agent:1")
                || yaml.contains("image: \"registry.example/muster-agent:1\""),
            "{yaml}"
        );
        let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(&yaml).unwrap();
        let kinds = documents.iter().map(|d| d["kind"].as_str().unwrap());
        let kinds: Vec<&str> = kinds.collect();
        for kind in [
            "Namespace",
            "ServiceAccount",
            "ClusterRole",
            "ClusterRoleBinding",
            "Secret",
            "Deployment",
        ] {
            assert!(kinds.contains(&kind), "{kind} is missing");
        }
        let deployment = documents
            .iter()
            .find(|d| d["kind"] == "Deployment")
            .unwrap();
        assert_eq!(deployment["spec"]["strategy"]["type"], "Recreate");
    }

    #[test]
    fn the_lines_to_run_are_ready_to_paste() {
        let token = v1::JoinTokenResponse {
            token: "muster-join-abc".into(),
            expires_ms: 1_795_435_600_000,
        };
        insta::assert_snapshot!(instructions("eu-1", &token, 1_795_432_000_012), @r#"
        eu-1 may join once, within 1h (until 2026-11-23T12:06:40Z). Run this where its API server can be reached:

        (umask 077; echo 'muster-join-abc' > eu-1.join)
        muster-agent run --join-token-file eu-1.join --data ./muster-eu-1 --kubeconfig "${KUBECONFIG:-$HOME/.kube/config}"
        "#);
    }
}
