//! The way out through an HTTP proxy: CONNECT (RFC 9110, section 9.3.6), then TLS with the hub inside.
//!
//! In: what `HTTPS_PROXY` and `NO_PROXY` say (the program's `config` reads them). Out: a TCP stream to the hub. The
//! proxy sees the hub's address and ciphertext.

use std::fmt;
use std::io;
use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Which addresses are dialled through which proxy.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    proxy: Option<Proxy>,
    exceptions: Vec<Exception>,
}

/// One HTTP proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// `host:port`.
    address: String,
    /// Value of `Proxy-Authorization`; a secret.
    authorization: Option<String>,
}

/// What `NO_PROXY` may list. The rules are those of Go's `golang.org/x/net/http/httpproxy`, which curl shares.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Exception {
    matches: Matches,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Matches {
    Everything,
    /// The domain itself (unless written with a leading dot) and everything below it.
    Domain {
        name: String,
        only_below: bool,
    },
    Network {
        address: IpAddr,
        prefix: u32,
    },
}

/// A proxy setting that can't be used. A password in it is not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a proxy ({0}): write http://[USER:PASSWORD@]HOST:PORT")]
pub struct InvalidProxy(&'static str);

impl Proxies {
    /// From the values of `HTTPS_PROXY` and `NO_PROXY`; empty ones say nothing.
    ///
    /// # Errors
    /// When the proxy is no `http://` URL.
    pub fn parse(https_proxy: &str, no_proxy: &str) -> Result<Self, InvalidProxy> {
        Ok(Self {
            proxy: match https_proxy.trim() {
                "" => None,
                url => Some(Proxy::parse(url)?),
            },
            exceptions: no_proxy.split(',').filter_map(exception).collect(),
        })
    }

    /// The proxy on the way to `address` (`host:port`); `None` is straight. The machine itself is always straight.
    pub fn on_the_way_to(&self, address: &str) -> Option<&Proxy> {
        let (host, port) = host_and_port(address)?;
        let ip: Option<IpAddr> = host.parse().ok();
        let local = host.eq_ignore_ascii_case("localhost") || ip.is_some_and(|ip| ip.is_loopback());
        let excepted = |exception: &Exception| {
            exception.port.is_none_or(|only| only == port) && exception.matches.covers(host, ip)
        };
        if local || self.exceptions.iter().any(excepted) {
            return None;
        }
        self.proxy.as_ref()
    }

    /// A TCP stream to `address`, through the proxy where there is one on the way.
    pub(super) async fn open(&self, address: &str) -> io::Result<TcpStream> {
        match self.on_the_way_to(address) {
            Some(proxy) => proxy.open(address).await,
            None => TcpStream::connect(address).await,
        }
    }
}

impl Proxy {
    fn parse(url: &str) -> Result<Self, InvalidProxy> {
        let rest = match url.split_once("://") {
            None => url,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err(InvalidProxy("only http:// proxies are spoken to")),
        };
        let rest = rest.trim_end_matches('/');
        let (user, address) = match rest.rsplit_once('@') {
            Some((user, address)) => (Some(user), address),
            None => (None, rest),
        };
        host_and_port(address).ok_or(InvalidProxy("it needs a host and a port"))?;
        let authorization = user.map(|user| {
            let plain = percent_decoded(user).ok_or(InvalidProxy("its password is cut"))?;
            Ok(format!("Basic {}", STANDARD.encode(plain)))
        });
        Ok(Self {
            address: address.to_owned(),
            authorization: authorization.transpose()?,
        })
    }

    async fn open(&self, address: &str) -> io::Result<TcpStream> {
        let failed = |what: String| io::Error::other(format!("proxy {}: {what}", self.address));
        let mut stream = TcpStream::connect(&self.address)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let authorization = match &self.authorization {
            Some(value) => format!("Proxy-Authorization: {value}\r\n"),
            None => String::new(),
        };
        let request =
            format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n{authorization}\r\n");
        stream.write_all(request.as_bytes()).await?;
        let head = head(&mut stream)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let status = head.lines().next().unwrap_or_default();
        match status.split(' ').nth(1) {
            Some(code) if code.len() == 3 && code.starts_with('2') => Ok(stream),
            _ => Err(failed(format!(
                "it answered {status:?} to CONNECT {address}"
            ))),
        }
    }
}

/// The answer up to its empty line. Read byte by byte: what follows belongs to TLS.
async fn head(stream: &mut TcpStream) -> io::Result<String> {
    const LONGEST: usize = 8 * 1024;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == LONGEST {
            return Err(io::Error::other("its answer has no end"));
        }
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.address)
    }
}

impl Matches {
    fn covers(&self, host: &str, ip: Option<IpAddr>) -> bool {
        match self {
            Self::Everything => true,
            Self::Domain { name, only_below } => {
                let host = host.to_ascii_lowercase();
                (!only_below && host == *name)
                    || host
                        .strip_suffix(name.as_str())
                        .is_some_and(|left| left.ends_with('.'))
            }
            Self::Network { address, prefix } => {
                ip.is_some_and(|ip| same_network(ip, *address, *prefix))
            }
        }
    }
}

fn exception(text: &str) -> Option<Exception> {
    let text = text.trim().to_ascii_lowercase();
    let network = |matches| {
        Some(Exception {
            matches,
            port: None,
        })
    };
    if text.is_empty() {
        return None;
    }
    if text == "*" {
        return network(Matches::Everything);
    }
    if let Some((address, prefix)) = text.split_once('/')
        && let (Ok(address), Ok(prefix)) = (address.parse(), prefix.parse())
    {
        return network(Matches::Network { address, prefix });
    }
    if let Ok(address) = text.parse() {
        return network(Matches::Network {
            address,
            prefix: 128,
        });
    }
    let (host, port) = match host_and_port(&text) {
        Some((host, port)) => (host, Some(port)),
        None => (text.as_str(), None),
    };
    if let Ok(address) = host.parse() {
        return Some(Exception {
            matches: Matches::Network {
                address,
                prefix: 128,
            },
            port,
        });
    }
    let host = host.strip_prefix('*').unwrap_or(host);
    let below = host.strip_prefix('.');
    Some(Exception {
        matches: Matches::Domain {
            name: below.unwrap_or(host).to_owned(),
            only_below: below.is_some(),
        },
        port,
    })
}

/// Whether the first `prefix` bits agree; a prefix past the end compares all of them.
fn same_network(a: IpAddr, b: IpAddr, prefix: u32) -> bool {
    let agree = |a: u128, b: u128, bits: u32| {
        let past = bits.saturating_sub(prefix);
        a.checked_shr(past) == b.checked_shr(past)
    };
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => agree(u32::from(a).into(), u32::from(b).into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => agree(a.into(), b.into(), 128),
        _ => false,
    }
}

/// `host:port` or `[v6]:port`, without the brackets.
fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6.strip_suffix(']')?,
        None if host.contains(':') => return None,
        None => host,
    };
    (!host.is_empty()).then_some((host, port.parse().ok()?))
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            plain => plain,
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn no_proxy_says_what_is_dialled_straight() {
        let cases = [
            ("", "hub.example:7443", true),
            ("*", "hub.example:7443", false),
            ("example", "hub.example:7443", false),
            ("hub.example", "HUB.example:7443", false),
            (".example", "example:7443", true),
            (".example", "hub.example:7443", false),
            ("*.example", "hub.example:7443", false),
            ("other.example, hub.example:7443", "hub.example:7443", false),
            ("hub.example:80", "hub.example:7443", true),
            ("ub.example", "hub.example:7443", true),
            ("10.0.0.0/8", "10.2.3.4:7443", false),
            ("10.0.0.0/8", "11.2.3.4:7443", true),
            ("10.2.3.4", "10.2.3.4:7443", false),
            ("10.2.3.4:80", "10.2.3.4:7443", true),
            ("0.0.0.0/0", "10.2.3.4:7443", false),
            ("fd00::/8", "[fd12::1]:7443", false),
            ("fd00::/8", "[fe12::1]:7443", true),
            ("", "localhost:7443", false),
            ("", "127.0.0.1:7443", false),
            ("", "[::1]:7443", false),
        ];
        for (no_proxy, address, through) in cases {
            let proxies = Proxies::parse("http://proxy:3128", no_proxy).unwrap();
            let found = proxies.on_the_way_to(address).is_some();
            assert_eq!(found, through, "NO_PROXY={no_proxy:?} {address}");
        }
    }

    #[test]
    fn a_setting_that_is_no_proxy_is_refused_without_its_password() {
        for url in [
            "https://u:hunter2@proxy:1",
            "http://u:hunter2@proxy",
            "http://u:hunter2%2@p:1",
        ] {
            let error = Proxies::parse(url, "").unwrap_err().to_string();
            assert!(error.starts_with("not a proxy"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let proxies = Proxies::parse("http://u:hunter2@proxy:1/", "").unwrap();
        assert!(!format!("{proxies:?}").contains("hunter2"));
    }

    /// A proxy that answers one CONNECT; gives back what it was asked.
    async fn proxy_that_answers(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let asked = head(&mut stream).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            asked
        });
        (address, asked)
    }

    #[tokio::test]
    async fn the_proxy_is_asked_for_a_tunnel_and_bytes_after_its_answer_stay_in_the_stream() {
        let (address, asked) = proxy_that_answers("HTTP/1.1 200 OK\r\nVia: x\r\n\r\nhello").await;
        let proxy = Proxy::parse(&format!("http://me:p%40ss@{address}")).unwrap();
        let mut stream = proxy.open("hub.example:7443").await.unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "hello");
        assert_eq!(
            asked.await.unwrap(),
            "CONNECT hub.example:7443 HTTP/1.1\r\nHost: hub.example:7443\r\n\
             Proxy-Authorization: Basic bWU6cEBzcw==\r\n\r\n"
        );
    }

    #[tokio::test]
    async fn a_refusal_of_the_proxy_is_told_with_its_words() {
        let (address, _asked) = proxy_that_answers("HTTP/1.1 407 Who are you\r\n\r\n").await;
        let proxy = Proxy::parse(&address).unwrap();
        let error = proxy.open("hub.example:7443").await.unwrap_err();
        let expected = format!(
            "proxy {address}: it answered \"HTTP/1.1 407 Who are you\" to CONNECT hub.example:7443"
        );
        assert_eq!(error.to_string(), expected);
    }
}
