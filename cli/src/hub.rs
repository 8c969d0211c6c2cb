//! Speaks with a hub: TLS by its CA, the token with every call, failures as [`Failure`].

use std::time::Duration;

use muster_proto::tls::connector::{self, ConnectError, Trust};
use muster_proto::wire::v1::fleet_service_client::FleetServiceClient;
use tonic::codec::CompressionEncoding;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::config::Hub;
use crate::failure::Failure;

/// A call that has no answer by then is given up.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// A fleet of 100,000 clusters is far below this.
const LARGEST_ANSWER: usize = 1 << 30;

/// The generated client, showing the token.
pub(crate) type Client = FleetServiceClient<InterceptedService<Channel, Bearer>>;

/// A connection to a hub.
pub(crate) struct Session {
    /// Which hub: `host:port`.
    pub(crate) server: String,
    /// What calls go through.
    pub(crate) client: Client,
}

impl Session {
    /// The answer, or the failure that names the hub.
    pub(crate) fn answer<T>(&self, answer: Result<Response<T>, Status>) -> Result<T, Failure> {
        match answer {
            Ok(response) => Ok(response.into_inner()),
            Err(status) => Err(Failure::hub(&self.server, status)),
        }
    }
}

/// A call that is given up when there is no answer in time.
pub(crate) fn call<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER_TIMEOUT);
    request
}

/// Connects to a hub.
pub(crate) async fn connect(hub: &Hub) -> Result<Session, Failure> {
    let bearer = Bearer::new(&hub.token)?;
    let trust = Trust::Ca(hub.ca.clone());
    let channel = connector::connect_through(&hub.proxies, &hub.server, trust, None)
        .await
        .map_err(|error| unreachable(&hub.server, error))?;
    let client = FleetServiceClient::with_interceptor(channel, bearer)
        .accept_compressed(CompressionEncoding::Zstd)
        .max_decoding_message_size(LARGEST_ANSWER);
    Ok(Session {
        server: hub.server.clone(),
        client,
    })
}

/// A hub that is away may come back; one of another CA won't.
fn unreachable(server: &str, error: ConnectError) -> Failure {
    match error {
        ConnectError::Dial(_, why) => Failure::Unreachable {
            server: server.to_owned(),
            why,
        },
        ConnectError::NotTheHub(_, why) => Failure::told(format!(
            "whoever answers at {server} is not the hub of this CA ({why}): compare the context's CA with the hub's ca.pem"
        )),
        error => Failure::told(error.to_string()),
    }
}

/// Puts the token into every call.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Bearer {
    fn new(token: &str) -> Result<Self, Failure> {
        let mut value: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| {
            Failure::told("the token has characters that no token has; copy it again")
        })?;
        value.set_sensitive(true);
        Ok(Self(value))
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request
            .metadata_mut()
            .insert("authorization", self.0.clone());
        Ok(request)
    }
}
