//! How the text of one setting becomes a value. Each says what is wrong so that `"TEXT" PROBLEM` is a sentence.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

/// `IP:PORT`, `localhost:PORT`, or `:PORT` for every address.
pub(super) fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let problem =
        || "is no address to listen on: write IP:PORT, or :PORT for every address".to_owned();
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(problem)?;
    let ip = match host {
        "" => Ipv4Addr::UNSPECIFIED,
        "localhost" => Ipv4Addr::LOCALHOST,
        _ => return Err(problem()),
    };
    Ok(SocketAddr::new(
        IpAddr::V4(ip),
        port.parse().map_err(|_| problem())?,
    ))
}

/// `HOST:PORT` that others can dial.
pub(super) fn host_and_port(text: &str) -> Result<String, String> {
    let problem = || "is no address to dial: write HOST:PORT".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(problem)?;
    let port: u16 = port.parse().map_err(|_| problem())?;
    let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let is_ip = text.parse::<SocketAddr>().is_ok();
    if port == 0 || host.is_empty() || !(is_ip || host.bytes().all(name)) {
        return Err(problem());
    }
    if text
        .parse::<SocketAddr>()
        .is_ok_and(|address| address.ip().is_unspecified())
    {
        return Err("can't be dialled: write a host name or a real IP".to_owned());
    }
    Ok(text.to_owned())
}

/// A URL that Git can fetch from, without credentials in it.
pub(super) fn repository_url(text: &str) -> Result<String, String> {
    let known = ["https://", "http://", "ssh://", "file://"];
    let Some(scheme) = known.iter().find(|scheme| text.starts_with(**scheme)) else {
        // `git@host:path`, as forges show it.
        let scp = text.split_once(':').is_some_and(|(host, path)| {
            host.contains('@') && !host.contains('/') && !path.is_empty() && !path.starts_with("//")
        });
        return match scp {
            true => Ok(text.to_owned()),
            false => Err(
                "is no repository: write https://…, http://…, ssh://…, git@HOST:PATH or file:///…"
                    .to_owned(),
            ),
        };
    };
    let rest = &text[scheme.len()..];
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if *scheme == "file://" {
        return match host.is_empty() && !path.is_empty() {
            true => Ok(text.to_owned()),
            false => Err("needs an absolute path: write file:///…".to_owned()),
        };
    }
    if host.is_empty() {
        return Err("has no host".to_owned());
    }
    match host.rsplit_once('@') {
        Some((user, _)) if scheme.starts_with("http") || user.contains(':') => {
            Err("must not hold credentials: put the token into a file and name it with --repo-token-file".to_owned())
        }
        _ => Ok(text.to_owned()),
    }
}

/// A branch's name, without `refs/heads/`.
pub(super) fn branch(text: &str) -> Result<String, String> {
    let name = text.strip_prefix("refs/heads/").unwrap_or(text);
    let broken = |c: char| c.is_whitespace() || c.is_control() || "~^:?*[\\".contains(c);
    if name.is_empty()
        || name.starts_with(['-', '/'])
        || name.ends_with(['/', '.'])
        || name.contains("..")
        || name.contains(broken)
    {
        return Err("is no branch name".to_owned());
    }
    Ok(name.to_owned())
}

/// A folder of this machine, which is there.
pub(super) fn existing_folder(text: &str) -> Result<PathBuf, String> {
    match std::fs::read_dir(text) {
        Ok(_) => Ok(PathBuf::from(text)),
        Err(error) => Err(format!("can't be read as a folder: {error}")),
    }
}

/// A folder below the repository's root, without `./`, slashes at its ends, or steps up; empty for the root.
pub(super) fn folder(text: &str) -> Result<String, String> {
    if text.starts_with('/') || text.split('/').any(|part| part == "..") {
        return Err("must be a folder inside the repository".to_owned());
    }
    let parts: Vec<&str> = text
        .split('/')
        .filter(|part| !matches!(*part, "" | "."))
        .collect();
    Ok(parts.join("/"))
}

/// `500ms`, `60s`, `5m` or `1h`; at least 100 ms.
pub(super) fn poll_interval(text: &str) -> Result<Duration, String> {
    match time(text)? {
        time if time < Duration::from_millis(100) => Err("is too often: at least 100ms".to_owned()),
        time => Ok(time),
    }
}

/// As [`poll_interval`]; at least a second, at most an hour.
pub(super) fn render_timeout(text: &str) -> Result<Duration, String> {
    match time(text)? {
        time if time < Duration::from_secs(1) => Err("is too short: at least 1s".to_owned()),
        time if time > Duration::from_secs(3600) => Err("is too long: at most 1h".to_owned()),
        time => Ok(time),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let problem = || "is no time: write a number and a unit, such as 30s, 5m or 1h".to_owned();
    let (number, unit) = number_and_unit(text).ok_or_else(problem)?;
    let unit = match unit {
        "ms" => Duration::from_millis(1),
        "s" => Duration::from_secs(1),
        "m" => Duration::from_secs(60),
        "h" => Duration::from_secs(3600),
        _ => return Err(problem()),
    };
    Ok(number * unit)
}

/// `64MiB` or `2GiB`, as bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let problem = || "is no size: write a number and a unit, such as 512MiB or 2GiB".to_owned();
    let (number, unit) = number_and_unit(text).ok_or_else(problem)?;
    let unit: u64 = match unit {
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(problem()),
    };
    Ok(u64::from(number) * unit)
}

fn number_and_unit(text: &str) -> Option<(u32, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

/// A number of things of which there must be some.
pub(super) fn at_least_one(text: &str) -> Result<NonZeroUsize, String> {
    text.parse()
        .map_err(|_| "is no number of at least 1".to_owned())
}

/// `yes` or `no`.
pub(super) fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("is neither `yes` nor `no`".to_owned()),
    }
}

/// Filter directives of `tracing`.
pub(super) fn log_filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map_err(|error| {
        format!("is no log filter: {error}; write such as info,muster_hub=debug")
    })?;
    Ok(text.to_owned())
}
