//! Which repository a webhook is about, whatever forge sends it.
//!
//! In: a body: JSON, or a form with JSON in it. Out: the URLs that it gives for its repository. Forges name the same
//! repository by several, of which the hub may follow any.

use muster_decide::address::Address;
use serde_json::Value;

/// Where forges put what tells of the repository; at the top of all for whoever sends `{"url": "…"}` by hand.
const PLACES: [&str; 3] = ["", "/repository", "/project"];
/// Under which names they give its URLs: GitHub, Gitea and Forgejo; GitLab; Bitbucket's are below `links`.
const URLS: [&str; 12] = [
    "url",
    "clone_url",
    "ssh_url",
    "html_url",
    "git_url",
    "git_http_url",
    "git_ssh_url",
    "http_url",
    "web_url",
    "homepage",
    "links/html/href",
    "ssh_url_to_repo",
];

/// The repositories that a body names; `None`: it names none.
pub(super) fn repositories(body: &[u8]) -> Option<Vec<Address>> {
    let body: Value = match serde_json::from_slice(body) {
        Ok(body) => body,
        Err(_) => serde_json::from_str(&form(body)?).ok()?,
    };
    let mut found: Vec<Address> = Vec::new();
    for place in PLACES {
        for name in URLS {
            let url = body.pointer(&format!("{place}/{name}"));
            let Some(url) = url.and_then(Value::as_str) else {
                continue;
            };
            if let Ok(address) = Address::parse(url)
                && !found.contains(&address)
            {
                found.push(address);
            }
        }
    }
    (!found.is_empty()).then_some(found)
}

/// The JSON of a form, `payload=…`, as GitHub sends it unless told otherwise.
fn form(body: &[u8]) -> Option<String> {
    let pairs = reqwest::Url::parse("form:///").ok().map(|mut url| {
        url.set_query(std::str::from_utf8(body).ok());
        url
    })?;
    let mut pairs = pairs.query_pairs();
    let payload = pairs.find(|(name, _)| name == "payload")?.1.into_owned();
    Some(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a body names the repository at this URL.
    fn names(body: &str, url: &str) -> bool {
        let url = Address::parse(url).unwrap();
        let found = repositories(body.as_bytes()).unwrap_or_default();
        found.iter().any(|found| found.is_same_repository(&url))
    }

    #[test]
    fn every_forge_names_the_repository_in_its_own_way() {
        // Cut down from what each documents for a push.
        let github = r#"{"ref": "refs/heads/main", "repository": {"full_name": "team/shop", "url": "https://git.example/team/shop",
            "html_url": "https://git.example/team/shop", "git_url": "git://git.example/team/shop.git",
            "ssh_url": "git@git.example:team/shop.git", "clone_url": "https://git.example/team/shop.git"}}"#;
        let gitea = r#"{"ref": "refs/heads/main", "repository": {"html_url": "https://git.example/team/shop",
            "ssh_url": "ssh://git@git.example:2222/team/shop.git", "clone_url": "https://git.example/team/shop.git"}}"#;
        let gitlab = r#"{"object_kind": "push", "project": {"web_url": "https://git.example/team/shop",
            "git_ssh_url": "git@git.example:team/shop.git", "git_http_url": "https://git.example/team/shop.git"},
            "repository": {"url": "git@git.example:team/shop.git", "homepage": "https://git.example/team/shop"}}"#;
        let generic = r#"{"url": "https://git.example/team/shop.git"}"#;
        for body in [github, gitea, gitlab, generic] {
            assert!(names(body, "https://git.example/team/shop"), "{body}");
            assert!(names(body, "git@git.example:team/shop.git"), "{body}");
            assert!(!names(body, "https://git.example/team/other"), "{body}");
            assert!(!names(body, "https://other.example/team/shop"), "{body}");
        }
        let form = "payload=%7B%22url%22%3A+%22https%3A%2F%2Fgit.example%2Fteam%2Fshop%22%7D";
        assert!(names(form, "https://git.example/team/shop"));
    }

    #[test]
    fn a_body_that_names_no_repository_names_none() {
        for body in [
            "",
            "{}",
            "[1]",
            "hello",
            r#"{"repository": {"url": 7}}"#,
            r#"{"url": "nothing"}"#,
        ] {
            assert_eq!(repositories(body.as_bytes()), None, "{body}");
        }
    }
}
