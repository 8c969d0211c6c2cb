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
