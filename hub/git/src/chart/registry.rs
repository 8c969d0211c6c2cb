//! An OCI registry that holds charts: tags, manifests and blobs (the OCI distribution specification), and the way in.
//!
//! In: the URL of a repository and the name of a chart. Out: the version to take, by the digest of its layer, and that
//! layer. Who may read is asked as registries ask it: with the password itself, or with a token that the registry's own
//! service gives for it.

use std::collections::BTreeMap;

use bytes::Bytes;
use muster_decide::model::Chart;
use reqwest::blocking::Response;
use reqwest::header::{ACCEPT, HeaderMap, HeaderValue, LINK, WWW_AUTHENTICATE};
use reqwest::{StatusCode, Url};
use serde::Deserialize;

use super::web::{Proof, Web, is_same_server};
use super::{LARGEST_PACKED, Offered, Place};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";
/// The second as the first versions of Helm wrote it.
const LAYERS: [&str; 2] = [
    "application/vnd.cncf.helm.chart.content.v1.tar+gzip",
    "application/tar+gzip",
];
/// What lists and manifests may have.
const LARGEST_ANSWER: usize = 4 << 20;
const LARGEST_TOKEN: usize = 1 << 20;
/// So many pages of tags are read, of a thousand each.
const MOST_PAGES: usize = 20;

/// One repository of a registry.
pub(super) struct Registry<'w> {
    web: &'w Web<'w>,
    reference: Reference,
    proof: Proof,
}

/// Where a chart is.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    /// `HOST` or `HOST:PORT`.
    host: String,
    /// `PATH/NAME`.
    repository: String,
}

#[derive(Deserialize)]
struct Tags {
    #[serde(default)]
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    media_type: String,
    config: Option<Layer>,
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    media_type: String,
    digest: String,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Token {
    token: String,
    access_token: String,
}

impl Reference {
    /// `oci://HOST/PATH/NAME` and the tag after it.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn tagged(url: &str) -> Result<(Self, String), String> {
        let (url, tag) = match url.rsplit_once(':') {
            Some((url, tag)) if !tag.contains('/') => (url, tag),
            _ => return Err(format!("{url} names no version of a chart")),
        };
        let (above, name) = url.rsplit_once('/').unwrap_or((url, ""));
        Ok((Self::of(above, name)?, tag.to_owned()))
    }

    fn of(url: &str, name: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("oci://").unwrap_or(url);
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        // What people write, and who answers.
        let host = match host {
            "docker.io" => "registry-1.docker.io",
            host => host,
        };
        let repository = match path {
            "" => name.to_owned(),
            path => format!("{path}/{name}"),
        };
        let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-/".contains(c);
        if name.is_empty() || !repository.chars().all(good) || repository.contains("..") {
            return Err(format!(
                "{url}/{name} is no name that a registry takes: lower-case letters, digits and . _ - /"
            ));
        }
        Ok(Self {
            host: host.to_owned(),
            repository,
        })
    }

    fn shown(&self) -> String {
        format!("oci://{}/{}", self.host, self.repository)
    }
}

impl<'w> Registry<'w> {
    /// # Errors
    /// When there can't be such a chart.
    pub(super) fn at(web: &'w Web<'w>, url: &str, name: &str) -> Result<Self, String> {
        Ok(Self::of(web, Reference::of(url, name)?))
    }

    pub(super) fn of(web: &'w Web<'w>, reference: Reference) -> Self {
        Self {
            web,
            reference,
            proof: Proof::nothing(),
        }
    }

    /// The version to take.
    ///
    /// # Errors
    /// For people.
    pub(super) fn find(&mut self, chart: &Chart) -> Result<Offered, String> {
        // Tags know no plus.
        let version = match chart.is_exact() {
            true => chart.version.clone(),
            false => {
                let tags = self.tags()?;
                let versions: Vec<String> = tags.iter().map(|tag| tag.replace('_', "+")).collect();
                let picked = chart.pick(versions.iter().map(String::as_str));
                let picked = picked.ok_or_else(|| {
                    let (shown, has) = (self.reference.shown(), versions.len());
                    format!("{shown} has no version {}, among {has} tags", chart.version)
                })?;
                picked.to_owned()
            }
        };
        self.tagged(&version.replace('+', "_"))
    }

    /// What a tag names.
    ///
    /// # Errors
    /// For people.
    pub(super) fn tagged(&mut self, tag: &str) -> Result<Offered, String> {
        let shown = format!("{}:{tag}", self.reference.shown());
        let response = self.ask(&format!("manifests/{tag}"), Some(MANIFEST))?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(format!("{shown} is not there"));
        }
        let body = self.answer(response, LARGEST_ANSWER, "a manifest")?;
        let manifest: Manifest = serde_json::from_slice(&body)
            .map_err(|_| format!("{shown} is no manifest of a chart"))?;
        let config = manifest.config.map(|config| config.media_type);
        if config.as_deref() != Some(CONFIG) {
            let found = config.unwrap_or(manifest.media_type);
            return Err(format!("{shown} is no Helm chart, but {found:?}"));
        }
        let mut layers = manifest.layers.into_iter();
        let layer = layers.find(|layer| LAYERS.contains(&layer.media_type.as_str()));
        let layer = layer.ok_or_else(|| format!("{shown} holds no packed chart"))?;
        let sha256 = layer.digest.strip_prefix("sha256:");
        let sha256 =
            sha256.filter(|hex| hex.len() == 64 && hex.bytes().all(|it| it.is_ascii_hexdigit()));
        let sha256 = sha256.ok_or_else(|| format!("{shown} names its content by no sha256"))?;
        Ok(Offered {
            version: tag.replace('_', "+"),
            sha256: Some(sha256.to_ascii_lowercase()),
            place: Place::Blob,
        })
    }

    /// The layer of a version, and from where it came.
    ///
    /// # Errors
    /// For people.
    pub(super) fn blob(&mut self, offered: &Offered) -> Result<(String, Bytes), String> {
        let sha256 = offered.sha256.as_deref().unwrap_or_default();
        let response = self.ask(&format!("blobs/sha256:{sha256}"), None)?;
        let bytes = self.answer(response, LARGEST_PACKED, "a chart")?;
        let shown = format!("{}:{}", self.reference.shown(), offered.version);
        Ok((shown, bytes.into()))
    }

    fn tags(&mut self) -> Result<Vec<String>, String> {
        let mut tags = Vec::new();
        let mut next = "tags/list?n=1000".to_owned();
        for _ in 0..MOST_PAGES {
            let response = self.ask(&next, None)?;
            if response.status() == StatusCode::NOT_FOUND {
                return Err(format!("{} is not there", self.reference.shown()));
            }
            let more = following(response.headers());
            let body = self.answer(response, LARGEST_ANSWER, "a list of tags")?;
            let page: Tags = serde_json::from_slice(&body)
                .map_err(|_| format!("{} answers with no list of tags", self.reference.shown()))?;
            tags.extend(page.tags.unwrap_or_default());
            match more {
                // Only the question is theirs: where it is asked is not.
                Some(query) => next = format!("tags/list?{query}"),
                None => break,
            }
        }
        Ok(tags)
    }

    /// Asks below the chart's place; once more when the registry says how to get in.
    fn ask(&mut self, path: &str, accept: Option<&'static str>) -> Result<Response, String> {
        let Reference { host, repository } = &self.reference;
        let url = format!("https://{host}/v2/{repository}/{path}");
        let url = Url::parse(&url).map_err(|error| format!("{url} is no URL: {error}"))?;
        let accept = accept.map(|accept| (ACCEPT, HeaderValue::from_static(accept)));
        let headers: HeaderMap = accept.into_iter().collect();
        let response = self.web.get(&url, self.proof.clone(), headers.clone())?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenges: Vec<String> = challenges
            .filter_map(|challenge| challenge.to_str().ok().map(str::to_owned))
            .collect();
        let Some(proof) = self.way_in(&challenges)? else {
            return Ok(response);
        };
        self.proof = proof;
        self.web.get(&url, self.proof.clone(), headers)
    }

    /// What lets us in, as the registry asks for it; `None` when it asks for nothing that we know.
    fn way_in(&self, challenges: &[String]) -> Result<Option<Proof>, String> {
        let bearer = challenges
            .iter()
            .find_map(|text| parameters(text, "bearer"));
        if let Some(service) = bearer {
            return self.token(&service).map(Some);
        }
        let basic = challenges
            .iter()
            .any(|text| parameters(text, "basic").is_some());
        let may = self.web.is_for(&self.reference.shown());
        Ok(basic.then(|| self.web.proof_if(may)))
    }

    /// A token to read this one repository.
    fn token(&self, service: &BTreeMap<String, String>) -> Result<Proof, String> {
        let Reference { host, repository } = &self.reference;
        let shown = self.reference.shown();
        let realm = service.get("realm").map(String::as_str).unwrap_or_default();
        let mut url = Url::parse(realm)
            .ok()
            .filter(|url| url.scheme() == "https")
            .ok_or_else(|| {
                format!("{shown} names {realm:?} for its tokens, which is no https:// URL")
            })?;
        url.set_query(None);
        let may = self.web.is_for(&shown);
        let own = is_same_server(&format!("https://{host}"), url.as_str());
        let named = self.web.is_for(url.as_str());
        if may && !own && !named {
            return Err(format!(
                "{shown} wants the password of credential {} to be sent to {url}: if that is the registry's own service, add this URL to the credential's file `url`",
                self.web.credential()
            ));
        }
        let proof = self.web.proof_if(may || named);
        let scope = format!("repository:{repository}:pull");
        let mut question = url.query_pairs_mut();
        if let Some(service) = service.get("service") {
            question.append_pair("service", service);
        }
        question.append_pair("scope", &scope);
        drop(question);
        let response = self.web.get(&url, proof, HeaderMap::new())?;
        let body = self.answer(response, LARGEST_TOKEN, "a token")?;
        let token: Token = serde_json::from_slice(&body).unwrap_or_default();
        let token = match token.token.is_empty() {
            true => token.access_token,
            false => token.token,
        };
        match token.is_empty() {
            true => Err(format!("{realm} gives no token for {shown}")),
            false => Proof::token(&token).map_err(|problem| format!("{realm} {problem}")),
        }
    }

    fn answer(&self, response: Response, most: usize, what: &str) -> Result<Vec<u8>, String> {
        self.web.body(self.web.well(response)?, most, what)
    }
}

/// The query of the next page.
fn following(headers: &HeaderMap) -> Option<String> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let (target, rest) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = rest.contains("rel=\"next\"") || rest.contains("rel=next");
    let (_, query) = target.split_once('?').filter(|_| is_next)?;
    Some(query.to_owned())
}

/// What a challenge of this scheme says: `Bearer realm="…",service="…"`.
fn parameters(challenge: &str, scheme: &str) -> Option<BTreeMap<String, String>> {
    let (own, mut rest) = challenge.split_once(' ').unwrap_or((challenge, ""));
    if !own.eq_ignore_ascii_case(scheme) {
        return None;
    }
    let mut found = BTreeMap::new();
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ',']).to_ascii_lowercase();
        let value;
        (value, rest) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        found.insert(name, value.to_owned());
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_names_the_service_for_tokens() {
        let said = "Bearer realm=\"https://auth.example/token\", service=registry.example,scope=\"repository:a/b:pull,push\"";
        let found = parameters(said, "bearer").unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        assert_eq!(
            found,
            [
                "realm https://auth.example/token",
                "scope repository:a/b:pull,push",
                "service registry.example"
            ]
        );
        assert!(parameters("Basic realm=\"a\"", "bearer").is_none());
        assert!(parameters("basic", "basic").is_some());
    }

    #[test]
    fn the_next_page_is_asked_of_the_same_registry() {
        let page = |link: &'static str| {
            following(
                &[(LINK, HeaderValue::from_static(link))]
                    .into_iter()
                    .collect(),
            )
        };
        let next = "<https://evil.example/v2/a/tags/list?last=1.0.0&n=2>; rel=\"next\"";
        assert_eq!(page(next).as_deref(), Some("last=1.0.0&n=2"));
        assert_eq!(page("</v2/a/tags/list?n=2>; rel=\"prev\""), None);
    }

    #[test]
    fn a_chart_is_named_as_a_registry_names_it() {
        let shown = |url: &str, name: &str| Reference::of(url, name).map(|it| it.shown());
        assert_eq!(
            shown("oci://h:5000/a/b", "web").as_deref(),
            Ok("oci://h:5000/a/b/web")
        );
        assert_eq!(
            shown("oci://docker.io/a", "web").as_deref(),
            Ok("oci://registry-1.docker.io/a/web")
        );
        assert_eq!(shown("oci://h", "web").as_deref(), Ok("oci://h/web"));
        assert!(shown("oci://h/a", "Web").is_err());
        let (at, tag) = Reference::tagged("oci://h:5000/a/web:1.0.0").unwrap();
        assert_eq!(
            (at.shown().as_str(), tag.as_str()),
            ("oci://h:5000/a/web", "1.0.0")
        );
        assert!(Reference::tagged("oci://h:5000/a/web").is_err());
    }
}
