//! The API server in memory against what a real one answers, in process and over HTTP.

mod in_process {
    use anyhow::Result;
    use muster_tests::memory::{Options, Server};
    use std::sync::Arc;

    async fn place() -> Result<(kube::Client, String, Arc<Server>)> {
        let server = Server::new(Options::default());
        Ok((server.client(), "default".to_owned(), server))
    }

    muster_tests::conformance!(place);
}

mod over_http {
    use anyhow::Result;
    use muster_tests::memory::{Options, Server, Serving};
    use tokio::net::TcpListener;

    async fn place() -> Result<(kube::Client, String, Serving)> {
        muster_proto::tls::install_crypto();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let serving = Server::new(Options::default()).serve(listener)?;
        let client = kube::Client::try_from(serving.config())?;
        Ok((client, "default".to_owned(), serving))
    }

    muster_tests::conformance!(place);
}

mod faults {
    use anyhow::{Context, Result, ensure};
    use futures::TryStreamExt;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, ListParams, PostParams, WatchParams};
    use muster_tests::memory::{Fault, Options, Server};
    use std::pin::pin;
    use std::sync::Arc;
    use std::time::Duration;
    use tokio::net::TcpListener;

    fn map(name: &str) -> ConfigMap {
        let mut map = ConfigMap::default();
        map.metadata.name = Some(name.to_owned());
        map
    }

    /// The same look at a server through each kind of client.
    async fn on_both(look: impl AsyncFn(&Arc<Server>, Api<ConfigMap>) -> Result<()>) -> Result<()> {
        muster_proto::tls::install_crypto();
        let server = Server::new(Options::default());
        look(&server, Api::namespaced(server.client(), "default")).await?;
        let server = Server::new(Options::default());
        let serving = server.serve(TcpListener::bind("127.0.0.1:0").await?)?;
        let client = kube::Client::try_from(serving.config())?;
        look(&server, Api::namespaced(client, "default")).await
    }

    fn writes_meet(server: &Server, fault: Fault) {
        server.set_fault(Some(Arc::new(move |call| call.writes().then_some(fault))));
    }

    #[tokio::test]
    async fn a_call_that_is_not_delivered_has_no_effect_and_one_not_answered_has() -> Result<()> {
        on_both(async |server, maps| {
            for (fault, done) in [(Fault::Undelivered, false), (Fault::Unanswered, true)] {
                writes_meet(server, fault);
                let answer = maps.create(&PostParams::default(), &map("a")).await;
                ensure!(
                    !matches!(answer, Ok(_) | Err(kube::Error::Api(_))),
                    "{answer:?}"
                );
                server.set_fault(None);
                ensure!(maps.get_opt("a").await?.is_some() == done, "{fault:?}");
            }
            Ok(())
        })
        .await
    }

    #[tokio::test]
    async fn a_refused_call_says_what_the_real_server_would_say() -> Result<()> {
        // In process only: over HTTP the client itself comes again after 429, 503 and 504.
        let server = Server::new(Options::default());
        let maps: Api<ConfigMap> = Api::namespaced(server.client(), "default");
        for (code, reason) in [
            (409, "Conflict"),
            (429, "TooManyRequests"),
            (500, "InternalError"),
            (503, "ServiceUnavailable"),
        ] {
            writes_meet(&server, Fault::Status(code));
            let answer = maps.create(&PostParams::default(), &map("a")).await;
            let Err(kube::Error::Api(status)) = answer else {
                anyhow::bail!("{answer:?}");
            };
            ensure!(status.code == code && status.reason == reason, "{status:?}");
            let wait = status.details.map_or(0, |d| d.retry_after_seconds);
            ensure!((wait == 1) == (code == 429));
        }
        server.set_fault(None);
        ensure!(maps.get_opt("a").await?.is_none());
        Ok(())
    }

    #[tokio::test]
    async fn a_cut_watch_ends_after_what_came_before() -> Result<()> {
        on_both(async |server, maps| {
            maps.create(&PostParams::default(), &map("a")).await?;
            let start = maps.list(&ListParams::default()).await?.metadata;
            let start = start.resource_version.context("no resourceVersion")?;
            maps.create(&PostParams::default(), &map("b")).await?;
            let cut = Fault::Cut(Duration::from_millis(200));
            server.set_fault(Some(Arc::new(move |call| {
                (call.verb == "watch").then_some(cut)
            })));
            let mut events = pin!(maps.watch(&WatchParams::default(), &start).await?);
            ensure!(events.try_next().await?.is_some());
            // Some clients take it for an error, some for the end.
            ensure!(!matches!(events.try_next().await, Ok(Some(_))));
            Ok(())
        })
        .await
    }

    #[tokio::test]
    async fn a_late_call_is_done_late() -> Result<()> {
        let server = Server::new(Options::default());
        let maps: Api<ConfigMap> = Api::namespaced(server.client(), "default");
        writes_meet(&server, Fault::Late(Duration::from_millis(300)));
        let before = tokio::time::Instant::now();
        maps.create(&PostParams::default(), &map("a")).await?;
        ensure!(before.elapsed() >= Duration::from_millis(300));
        Ok(())
    }

    #[tokio::test]
    async fn a_page_and_a_watch_from_a_forgotten_state_are_gone() -> Result<()> {
        on_both(async |server, maps| {
            for name in ["a", "b"] {
                maps.create(&PostParams::default(), &map(name)).await?;
            }
            let page = ListParams::default().limit(1);
            let first = maps.list(&page).await?.metadata;
            maps.create(&PostParams::default(), &map("c")).await?;
            server.forget_history();
            let token = first.continue_.context("no second page")?;
            match maps.list(&page.continue_token(&token)).await {
                Err(kube::Error::Api(status)) => ensure!(status.code == 410, "{status:?}"),
                other => anyhow::bail!("{other:?}"),
            }
            let revision = first.resource_version.context("no resourceVersion")?;
            let mut events = pin!(maps.watch(&WatchParams::default(), &revision).await?);
            match events.try_next().await? {
                Some(kube::api::WatchEvent::Error(status)) => ensure!(status.code == 410),
                other => anyhow::bail!("{other:?}"),
            }
            Ok(())
        })
        .await
    }

    #[tokio::test]
    async fn held_garbage_is_collected_when_told() -> Result<()> {
        let server = Server::new(Options::default());
        let maps: Api<ConfigMap> = Api::namespaced(server.client(), "default");
        let owner = maps.create(&PostParams::default(), &map("owner")).await?;
        let mut child = map("child");
        let reference = serde_json::from_value(serde_json::json!({
            "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid,
        }))?;
        child.metadata.owner_references = Some(vec![reference]);
        maps.create(&PostParams::default(), &child).await?;
        server.hold_garbage(true);
        maps.delete("owner", &kube::api::DeleteParams::default())
            .await?;
        ensure!(maps.get_opt("child").await?.is_some());
        server.collect_garbage();
        ensure!(maps.get_opt("child").await?.is_none());
        Ok(())
    }
}
