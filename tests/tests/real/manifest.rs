//! What `muster cluster join NAME --manifest` prints, applied to a real API server by kubectl as a person does. The
//! agent then runs as its Pod would: with exactly the manifest's arguments, variables, ServiceAccount and RBAC.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Namespace, Pod, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use muster_tests::cluster::{Cluster, real};
use muster_tests::supervisor::{Folder, Process, testbed};
use muster_tests::wait;
use muster_tests::world::{SOON, World};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::scenario::objects;

const APPLICATION: &str = "apiVersion: muster.dev/v1alpha1
kind: Application
metadata:
  name: shop
spec:
  namespace: shop
";
const SETTINGS: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {colour: blue}\n";
const SPARE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: spare}\n";
/// A kind of its own and one of it; rights for others that the agent itself only has by its ClusterRole.
const PLATFORM: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: boards.shop.example}
spec:
  group: shop.example
  scope: Namespaced
  names: {kind: Board, plural: boards, singular: board}
  versions:
    - name: v1
      served: true
      storage: true
      schema:
        openAPIV3Schema:
          type: object
          properties: {spec: {type: object, properties: {length: {type: integer}}}}
---
apiVersion: shop.example/v1
kind: Board
metadata: {name: left}
spec: {length: 4}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: shop-reader}
rules:
  - {apiGroups: [shop.example], resources: [boards], verbs: [get, list, watch]}
  - {nonResourceURLs: [/metrics], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: shop-reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: shop-reader}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: shopkeepers}]
";

#[tokio::test]
async fn a_cluster_that_joined_by_its_manifests_is_kept_with_no_more_than_their_rights()
-> Result<()> {
    let cluster = real::start("manifest").await?;
    let world = World::start(&[
        ("shop/muster.yaml", APPLICATION),
        ("shop/settings.yaml", SETTINGS),
        ("shop/spare.yaml", SPARE),
        ("shop/platform.yaml", PLATFORM),
    ])
    .await?;
    let folder = Folder::new("manifest")?;
    kubectl_apply(&cluster, &manifests(&world).await?).await?;
    its_pod_is_admitted(&cluster, "muster-system", "muster-agent").await?;
    let agent = as_its_pod(&cluster, &folder).await?;

    told(world.synced("shop", 1).await, &agent)?;
    let look = cluster.client()?;
    let settings = Api::<ConfigMap>::namespaced(look.clone(), "shop");
    let boards = objects(&cluster, "shop.example/v1", "Board", "shop")?;
    ensure!(boards.get("left").await?.data["spec"]["length"] == 4);
    let reader = Api::<ClusterRole>::all(look.clone())
        .get("shop-reader")
        .await?;
    ensure!(reader.rules.unwrap_or_default().len() == 2);
    Api::<RoleBinding>::namespaced(look.clone(), "shop")
        .get("shop-reader")
        .await?;

    let edit = Patch::Merge(json!({"data": {"colour": "pink"}}));
    let by_hand = PatchParams::default();
    let edited = settings.patch("settings", &by_hand, &edit).await?;
    let repaired = wait::until("the edit is undone", SOON, async || {
        let live = settings.get("settings").await?;
        ensure!(
            live.data
                .as_ref()
                .is_some_and(|data| data["colour"] == "blue")
        );
        Ok(live)
    });
    ensure!(
        told(repaired.await, &agent)?.metadata.resource_version != edited.metadata.resource_version
    );

    world
        .push_removal("Clear out", &["shop/spare.yaml", "shop/platform.yaml"])
        .await?;
    let pruned = wait::until("what left Git is gone", SOON, async || {
        ensure!(settings.get_opt("spare").await?.is_none());
        let roles = Api::<ClusterRole>::all(look.clone());
        ensure!(roles.get_opt("shop-reader").await?.is_none());
        let definitions = Api::<CustomResourceDefinition>::all(look.clone());
        let definition = definitions.get_opt("boards.shop.example").await?;
        ensure!(definition.is_none());
        Ok(())
    });
    told(pruned.await, &agent)?;
    Ok(())
}

#[tokio::test]
async fn an_agent_in_a_cluster_keeps_its_credentials_in_the_secret_and_needs_the_token_once()
-> Result<()> {
    let cluster = real::start("credentials").await?;
    let world = World::start(&[
        ("shop/muster.yaml", APPLICATION),
        ("shop/settings.yaml", SETTINGS),
    ])
    .await?;
    let folder = Folder::new("credentials")?;
    kubectl_apply(&cluster, &manifests(&world).await?).await?;
    let agent = as_its_pod(&cluster, &folder).await?;
    told(world.synced("shop", 1).await, &agent)?;
    let secrets = Api::<Secret>::namespaced(cluster.client()?, "muster-system");
    let joined = kept(&secrets).await?;
    ensure!(joined["cluster"] == "eu-1");

    // As the manifests say: once it is in, the Secret with the token may go.
    ensure!(
        agent.stop().await? == "exit status: 0",
        "{}",
        agent.log_tail()
    );
    let token = "muster-agent-join";
    secrets.delete(token, &DeleteParams::default()).await?;
    let rights = without_its_rights(&cluster).await?;
    let agent = as_its_pod(&cluster, &folder).await?;
    let waits = wait::until("it says what it waits for", SOON, async || {
        let said = agent.log_tail();
        ensure!(said.contains("the agent can't begin before it knows who it is"));
        ensure!(
            said.contains("the credentials in Secret muster-system/muster-agent can't be read")
        );
        Ok(())
    });
    told(waits.await, &agent)?;
    let bindings = Api::<ClusterRoleBinding>::all(cluster.client()?);
    bindings.create(&PostParams::default(), &rights).await?;
    world
        .push(
            "Paint it",
            &[("shop/settings.yaml", &SETTINGS.replace("blue", "gold"))],
        )
        .await?;
    let settings = Api::<ConfigMap>::namespaced(cluster.client()?, "shop");
    let painted = wait::until("it is painted", SOON, async || {
        let live = settings.get("settings").await?;
        ensure!(live.data.is_some_and(|data| data["colour"] == "gold"));
        Ok(())
    });
    told(painted.await, &agent)?;
    ensure!(
        kept(&secrets).await? == joined,
        "nothing was to be renewed yet"
    );

    world.pass(Duration::from_secs(11 * 24 * 3600));
    let renewed = wait::until(
        "the renewed certificate is in the Secret",
        SOON,
        async || {
            let now = kept(&secrets).await?;
            ensure!(now["certificates"][0] != joined["certificates"][0]);
            Ok(now)
        },
    );
    let renewed = told(renewed.await, &agent)?;
    ensure!(renewed["key"] != joined["key"], "the key is the old one");
    ensure!(renewed["certificates"][1] == joined["certificates"][1]);
    Ok(())
}

#[tokio::test]
async fn a_narrowed_agent_applies_what_it_may_and_says_what_it_may_not() -> Result<()> {
    let cluster = real::start("narrowed").await?;
    let world = World::start(&[
        ("shop/muster.yaml", APPLICATION),
        ("shop/settings.yaml", SETTINGS),
        ("cellar/muster.yaml", &APPLICATION.replace("shop", "cellar")),
        (
            "cellar/account.yaml",
            "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: keeper}\n",
        ),
    ])
    .await?;
    let folder = Folder::new("narrowed")?;
    kubectl_apply(&cluster, &manifests(&world).await?).await?;
    kubectl_apply(
        &cluster,
        include_str!("../../../deploy/agent-narrowed.yaml"),
    )
    .await?;
    let agent = as_its_pod(&cluster, &folder).await?;

    told(world.synced("shop", 1).await, &agent)?;
    let refused = wait::until("the refusal is shown", SOON, async || {
        let detail = world.ask(&["get", "app", "cellar"]).await?;
        let placement = &detail["placements"][0]["status"];
        let words = placement["message"].as_str().unwrap_or_default();
        ensure!(
            placement["sync"] == "Failed"
                && words.contains("cannot list resource \"serviceaccounts\""),
            "{detail:#}"
        );
        Ok(())
    });
    told(refused.await, &agent)
}

#[tokio::test]
async fn the_hub_s_manifests_are_taken_and_its_pod_is_let_in() -> Result<()> {
    let cluster = real::shared("one").await?;
    kubectl_apply(&cluster, include_str!("../../../deploy/hub/hub.yaml")).await?;
    let namespaces = Api::<Namespace>::all(cluster.client()?);
    let rules = namespaces.get("muster-hub").await?.metadata.labels;
    ensure!(rules.context("labels")?["pod-security.kubernetes.io/enforce"] == "restricted");
    its_pod_is_admitted(&cluster, "muster-hub", "muster-hub").await
}

/// `muster cluster join eu-1 --manifest`.
async fn manifests(world: &World) -> Result<String> {
    let image = "registry.example/muster-agent:1";
    let line = ["cluster", "join", "eu-1", "--manifest", "--image", image];
    let answer = world.muster(&line).await?;
    ensure!(
        answer.out.contains("kind: Deployment"),
        "{}{}",
        answer.out,
        answer.err
    );
    Ok(answer.out)
}

/// `| kubectl apply -f -`, by the cluster's administrator.
async fn kubectl_apply(cluster: &Cluster, manifests: &str) -> Result<()> {
    let mut kubectl = tokio::process::Command::new(real::kubectl().await?)
        .args(["apply", "--warnings-as-errors", "-f", "-", "--kubeconfig"])
        .arg(&cluster.kubeconfig)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()?;
    let mut stdin = kubectl.stdin.take().context("it is piped")?;
    stdin.write_all(manifests.as_bytes()).await?;
    drop(stdin);
    let applied = kubectl.wait_with_output().await?;
    let said = String::from_utf8_lossy(&applied.stderr);
    ensure!(applied.status.success(), "{said}");
    Ok(())
}

/// The agent, started as the kubelet starts the Deployment's Pod: its arguments, its variables, a token of its
/// ServiceAccount in a folder, and the address of the API server. Only the image is the one that was just built.
async fn as_its_pod(cluster: &Cluster, folder: &Folder) -> Result<Process> {
    let deployment = Api::<Deployment>::namespaced(cluster.client()?, "muster-system")
        .get("muster-agent")
        .await?;
    let pod = deployment.spec.template.spec.context("a Pod")?;
    let container = pod.containers.first().context("a container")?;
    let mount = folder.path.join("serviceaccount");
    let account = pod.service_account_name.context("a ServiceAccount")?;
    mount_service_account(cluster, &account, &mount).await?;

    let mut variables = variables(cluster, container).await?;
    let server = &cluster.config.cluster_url;
    let host = server.host().context("a host")?.to_owned();
    let port = server.port_u16().unwrap_or(443).to_string();
    variables.extend([
        ("KUBERNETES_SERVICE_HOST".to_owned(), host),
        ("KUBERNETES_SERVICE_PORT".to_owned(), port),
        // Pods have it in /var/run, where this test may not write.
        (
            "MUSTER_AGENT_SERVICE_ACCOUNT".to_owned(),
            mount.display().to_string(),
        ),
    ]);
    let variables: Vec<_> = variables
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let arguments = container.args.clone().context("arguments")?;
    let line = std::iter::once("agent".to_owned()).chain(arguments);
    Process::spawn(
        &testbed()?,
        line,
        &variables,
        &folder.path.join("agent.log"),
    )
}

/// Takes the agent's rights from it, its Secret's too; to be given back.
async fn without_its_rights(cluster: &Cluster) -> Result<ClusterRoleBinding> {
    let bindings = Api::<ClusterRoleBinding>::all(cluster.client()?);
    let mut rights = bindings.get("muster-agent").await?;
    rights.metadata.resource_version = None;
    bindings
        .delete("muster-agent", &DeleteParams::default())
        .await?;
    let question = serde_json::from_value(json!({"metadata": {}, "spec": {
        "user": "system:serviceaccount:muster-system:muster-agent",
        "resourceAttributes":
            {"namespace": "muster-system", "verb": "get", "resource": "secrets", "name": "muster-agent"}}}))?;
    let reviews = Api::<SubjectAccessReview>::all(cluster.client()?);
    wait::until("its rights are gone", SOON, async || {
        let review = reviews.create(&PostParams::default(), &question).await?;
        ensure!(review.status.is_some_and(|status| !status.allowed));
        Ok(())
    })
    .await?;
    Ok(rights)
}

/// `token` and `ca.crt`, as the kubelet mounts them.
async fn mount_service_account(cluster: &Cluster, account: &str, mount: &Path) -> Result<()> {
    let request = TokenRequest {
        spec: Some(TokenRequestSpec::default()),
        ..TokenRequest::default()
    };
    let answer = Api::<ServiceAccount>::namespaced(cluster.client()?, "muster-system")
        .create_token_request(account, &PostParams::default(), &request)
        .await?;
    std::fs::create_dir_all(mount)?;
    let token = answer.status.and_then(|status| status.token);
    std::fs::write(mount.join("token"), token.context("a token")?)?;
    let kubeconfig: Value = serde_json::from_slice(&std::fs::read(&cluster.kubeconfig)?)?;
    let ca = kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"].as_str();
    let ca = STANDARD.decode(ca.context("a CA")?)?;
    Ok(std::fs::write(mount.join("ca.crt"), ca)?)
}

/// Whether a Pod of this Deployment is let in, by the namespace's own rules for Pods too. Asked, not made.
async fn its_pod_is_admitted(cluster: &Cluster, namespace: &str, deployment: &str) -> Result<()> {
    let deployment = Api::<Deployment>::namespaced(cluster.client()?, namespace)
        .get(deployment)
        .await?;
    let template = deployment.spec.template;
    let mut metadata = template.metadata.unwrap_or_default();
    metadata.name = Some("asked-for".into());
    let pod = Pod {
        metadata,
        spec: template.spec,
        ..Pod::default()
    };
    let ask = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let pods = Api::<Pod>::namespaced(cluster.client()?, namespace);
    pods.create(&ask, &pod).await?;
    Ok(())
}

/// The container's variables, read from the Secrets that they name, as the kubelet does.
async fn variables(cluster: &Cluster, container: &Container) -> Result<Vec<(String, String)>> {
    let secrets = Api::<Secret>::namespaced(cluster.client()?, "muster-system");
    let mut variables = Vec::new();
    for variable in container.env.clone().unwrap_or_default() {
        let key = variable.value_from.and_then(|from| from.secret_key_ref);
        let key = key.context("every variable comes from a Secret")?;
        let data = secrets
            .get_opt(&key.name)
            .await?
            .and_then(|secret| secret.data);
        match data.and_then(|mut data| data.remove(&key.key)) {
            Some(value) => variables.push((variable.name, String::from_utf8(value.0)?)),
            None => ensure!(
                key.optional == Some(true),
                "the Pod would not start: no {}",
                key.name
            ),
        }
    }
    Ok(variables)
}

/// What the agent kept in its Secret.
async fn kept(secrets: &Api<Secret>) -> Result<Value> {
    let data = secrets.get("muster-agent").await?.data.unwrap_or_default();
    let bytes = data.get("credentials.json").context("no credentials")?;
    Ok(serde_json::from_slice(&bytes.0)?)
}

/// With the end of the agent's log when it went wrong.
fn told<T>(outcome: Result<T>, agent: &Process) -> Result<T> {
    outcome.with_context(|| format!("the agent's log ends:\n{}", agent.log_tail()))
}
