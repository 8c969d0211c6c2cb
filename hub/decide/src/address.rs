//! Where a repository is, taken apart: to tell whether two URLs mean one server or one repository.
//!
//! In: a URL as people write it, also `git@host:path`. Out: an [`Address`]. Nothing here asks the network.

/// A repository's URL, or the beginning of some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    scheme: Scheme,
    /// Empty when there is none.
    user: String,
    /// In lower case; empty for a file.
    host: String,
    port: Option<u16>,
    /// Without a slash at its ends.
    path: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Https,
    Http,
    Ssh,
    File,
    Oci,
}

impl Address {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// When it is none that the hub may fetch from: `URL PROBLEM` is a sentence.
    pub fn parse(url: &str) -> Result<Self, String> {
        let known = [
            ("https://", Scheme::Https),
            ("http://", Scheme::Http),
            ("ssh://", Scheme::Ssh),
            ("file://", Scheme::File),
            ("oci://", Scheme::Oci),
        ];
        let known = known
            .into_iter()
            .find_map(|(start, scheme)| Some((scheme, url.strip_prefix(start)?)));
        let (scheme, authority, path) = match known {
            Some((scheme, rest)) => {
                let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
                (scheme, authority, path)
            }
            // `git@host:path`, as forges show it.
            None => match url.split_once(':') {
                Some((host, path)) if host.contains('@') && !host.contains('/') => {
                    (Scheme::Ssh, host, path)
                }
                _ => {
                    return Err(
                        "is no repository: write https://…, ssh://… or git@HOST:PATH".into(),
                    );
                }
            },
        };
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if user.contains(':') || (scheme != Scheme::Ssh && !user.is_empty()) {
            return Err(
                "must not hold a user name or a password: name a credential that the hub holds"
                    .into(),
            );
        }
        let (host, port) = match host.rsplit_once(':') {
            Some((host, port)) if known.is_some() && !host.ends_with(':') => {
                let port = port.parse().map_err(|_| "has no good port".to_owned())?;
                (host, Some(port))
            }
            _ => (host, None),
        };
        if host.is_empty() != (scheme == Scheme::File) {
            return Err("has no host".into());
        }
        let bad = |c: char| c.is_whitespace() || c.is_control() || "?#\\".contains(c);
        // What a server may take for another path than we do.
        let steps = |part: &str| {
            let plain = part.to_ascii_lowercase().replace("%2e", ".");
            plain == "." || plain == ".."
        };
        if url.contains(bad)
            || path.split('/').any(steps)
            || user.starts_with('-')
            || host.starts_with('-')
        {
            return Err("is no plain URL of a repository".into());
        }
        let default = match scheme {
            Scheme::Https | Scheme::Oci => Some(443),
            Scheme::Http => Some(80),
            Scheme::Ssh => Some(22),
            Scheme::File => None,
        };
        Ok(Self {
            scheme,
            user: user.to_owned(),
            host: host.to_ascii_lowercase(),
            port: port.filter(|port| Some(*port) != default),
            path: path.trim_matches('/').to_owned(),
        })
    }

    /// Whether it is a folder of the hub's own machine.
    pub fn is_file(&self) -> bool {
        self.scheme == Scheme::File
    }

    /// Whether what is sent there can be read on the way.
    pub fn is_clear(&self) -> bool {
        self.scheme == Scheme::Http
    }

    /// Whether it is reached by ssh.
    pub fn is_ssh(&self) -> bool {
        self.scheme == Scheme::Ssh
    }

    /// Whether it is in an OCI registry, which is asked by HTTPS.
    pub fn is_oci(&self) -> bool {
        self.scheme == Scheme::Oci
    }

    /// Whether the same server answers, asked in the same way.
    pub fn is_at(&self, other: &Self) -> bool {
        self.scheme == other.scheme && self.host == other.host && self.port == other.port
    }

    /// Whether it begins with this prefix, in whole parts of the path.
    pub fn is_below(&self, prefix: &Self) -> bool {
        let user = prefix.user.is_empty() || prefix.user == self.user;
        let rest = self.path.strip_prefix(&prefix.path);
        let below = rest
            .is_some_and(|rest| prefix.path.is_empty() || rest.is_empty() || rest.starts_with('/'));
        self.is_at(prefix) && user && below
    }

    /// Whether both may well be one repository: with or without `.git`, by https or by ssh. Ports of different schemes
    /// can't be compared.
    pub fn is_same_repository(&self, other: &Self) -> bool {
        let path = |of: &Self| {
            let path = of.path.strip_suffix(".git").unwrap_or(&of.path);
            path.trim_end_matches('/').to_owned()
        };
        let ports = self.is_ssh() != other.is_ssh() || self.port == other.port;
        self.is_file() == other.is_file()
            && self.host == other.host
            && ports
            && path(self) == path(other)
    }
}

/// The URL that a submodule's `url` means, seen from its repository's own. Git's rule: one that begins with `./` or
/// `../` is relative to the repository, as if that were a folder.
///
/// # Errors
/// When it leads out of the server: a sentence.
pub fn relative(base: &str, url: &str) -> Result<String, String> {
    if !url.starts_with("./") && !url.starts_with("../") {
        return Ok(url.to_owned());
    }
    let mut base = base.trim_end_matches('/').to_owned();
    // What must stay: everything up to the path.
    let least = match base.find("://") {
        Some(at) => {
            let authority = at + 3;
            base[authority..]
                .find('/')
                .map_or(base.len(), |slash| authority + slash)
        }
        None => base.find(':').unwrap_or_default(),
    };
    let mut rest = url;
    loop {
        if let Some(next) = rest.strip_prefix("./") {
            rest = next;
        } else if let Some(next) = rest.strip_prefix("../") {
            let cut = base.rfind(['/', ':']).filter(|cut| *cut >= least);
            let Some(cut) = cut else {
                return Err(format!("{url} leads out of {base}"));
            };
            // `git@host:path` keeps its colon.
            let keep = if base.as_bytes()[cut] == b':' {
                cut + 1
            } else {
                cut
            };
            if keep == base.len() {
                return Err(format!("{url} leads out of {base}"));
            }
            base.truncate(keep);
            rest = next;
        } else {
            break;
        }
    }
    let between = if base.ends_with(':') { "" } else { "/" };
    Ok(format!("{base}{between}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(url: &str) -> Address {
        Address::parse(url).unwrap()
    }

    #[test]
    fn a_prefix_ends_where_a_part_of_the_path_does() {
        for (url, prefix, below) in [
            (
                "https://git.example/team/a.git",
                "https://git.example/team",
                true,
            ),
            (
                "https://git.example/team/a.git",
                "https://git.example/team/",
                true,
            ),
            (
                "https://git.example/team",
                "https://git.example/team/",
                true,
            ),
            (
                "https://GIT.example:443/team/a",
                "https://git.example/",
                true,
            ),
            (
                "https://git.example/teams/a",
                "https://git.example/team",
                false,
            ),
            (
                "https://git.example:8443/team/a",
                "https://git.example/team",
                false,
            ),
            (
                "http://git.example/team/a",
                "https://git.example/team",
                false,
            ),
            (
                "https://git.example.evil.example/team/a",
                "https://git.example/",
                false,
            ),
            (
                "git@git.example:team/a.git",
                "ssh://git@git.example/team",
                true,
            ),
            (
                "ssh://eve@git.example/team/a",
                "ssh://git@git.example/team",
                false,
            ),
            (
                "ssh://eve@git.example/team/a",
                "ssh://git.example/team",
                true,
            ),
            ("oci://h.example:443/team/a", "oci://h.example/team", true),
            ("oci://h.example/team/a", "https://h.example/team", false),
        ] {
            assert_eq!(
                address(url).is_below(&address(prefix)),
                below,
                "{url} below {prefix}"
            );
        }
    }

    #[test]
    fn one_repository_has_many_urls() {
        for (one, other, same) in [
            ("https://git.example/a/b.git", "git@git.example:a/b", true),
            (
                "https://git.example/a/b/",
                "https://GIT.example/a/b.git",
                true,
            ),
            (
                "ssh://git@git.example:2222/a/b.git",
                "https://git.example/a/b",
                true,
            ),
            (
                "ssh://git@git.example:2222/a/b.git",
                "git@git.example:a/b",
                false,
            ),
            (
                "https://git.example:8443/a/b",
                "https://git.example/a/b",
                false,
            ),
            ("https://git.example/a/b", "https://git.example/a/c", false),
            (
                "https://git.example/a/b",
                "https://other.example/a/b",
                false,
            ),
        ] {
            assert_eq!(
                address(one).is_same_repository(&address(other)),
                same,
                "{one} {other}"
            );
        }
    }

    #[test]
    fn what_is_no_plain_url_is_refused() {
        for url in [
            "shop",
            "/srv/git/shop",
            "ext::sh -c id",
            "https:///shop",
            "https://user@h/shop",
            "ssh://git:hunter2@h/shop",
            "https://h/team/../other",
            "https://h/team/%2E%2e/other",
            "https://h/shop?x",
            "ssh://-oProxyCommand=id/shop",
            "https://h:port/shop",
        ] {
            let refused = Address::parse(url).unwrap_err();
            assert!(!refused.contains("hunter2"), "{refused}");
        }
    }

    #[test]
    fn a_submodule_may_be_named_relative_to_its_repository() {
        for (base, url, found) in [
            ("https://h/a/b.git", "../c.git", Ok("https://h/a/c.git")),
            ("https://h/a/b.git", "../../x/c", Ok("https://h/x/c")),
            ("https://h/a/b/", "./c", Ok("https://h/a/b/c")),
            ("git@h:a/b.git", "../c.git", Ok("git@h:a/c.git")),
            ("git@h:b.git", "../c.git", Ok("git@h:c.git")),
            ("https://h/a", "https://other/c", Ok("https://other/c")),
            ("https://h/a", "../../../c", Err(())),
            ("git@h:b", "../../c", Err(())),
        ] {
            let got = relative(base, url);
            assert_eq!(got.as_deref().map_err(|_| ()), found, "{url} of {base}");
        }
    }
}
