//! The conformance suite on a real cluster: what it asks of the others, the real one does.

use anyhow::Result;
use muster_tests::cluster::{Cluster, real};

async fn place() -> Result<(kube::Client, String, Cluster)> {
    let cluster = real::shared("one").await?;
    let namespace = cluster.fresh_namespace("conformance").await?;
    Ok((cluster.client()?, namespace, cluster))
}

muster_tests::conformance!(place);
