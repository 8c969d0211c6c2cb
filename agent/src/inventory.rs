//! The inventory: what the agent created or took over in this cluster, so that it can remove it again and only it.
//!
//! One [`Entry`] an object; kept in the ledger as `inventory/GROUP/KIND/NAMESPACE/NAME`. An entry is there before the
//! object is (then without UID), and goes when the deletion is confirmed or the object is deliberately left.

use bytes::Bytes;
use muster_proto::{ApplicationName, Digest, Drift, ObjectKey};
use serde::{Deserialize, Serialize};

const PREFIX: &str = "inventory/";
const DRIFT_PREFIX: &str = "drift/";

/// What we know of one object of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Entry {
    /// The version we applied it in.
    pub(crate) api_version: String,
    /// Whose it is.
    pub(crate) application: ApplicationName,
    /// None until the API server answered: a crash may have come between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<String>,
    /// Of the bytes we last applied; none is unknown and means: apply again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) digest: Option<Digest>,
    /// The fields that were ours after that, as `fieldsV1` of our managedFields entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fields: Option<String>,
    /// Of what stood in them then, see [`crate::live::LiveObject::values`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) values: Option<Digest>,
    /// What it was applied after, by name; [`crate::graph::removal`] goes back the same way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) needs: Vec<ObjectKey>,
    /// Its stage in its application.
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) stage: i32,
    /// Applications that its own depended on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) after: Vec<ApplicationName>,
    /// Whom it was applied as, and is removed as: `namespace/name` of a ServiceAccount; empty: the agent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) service_account: String,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Entry {
    /// The entry of an object that is about to be applied for the first time.
    pub(crate) fn planned(api_version: &str, application: &ApplicationName) -> Self {
        Self {
            api_version: api_version.to_owned(),
            application: application.clone(),
            uid: None,
            digest: None,
            fields: None,
            values: None,
            needs: Vec::new(),
            stage: 0,
            after: Vec::new(),
            service_account: String::new(),
        }
    }

    /// Takes over how `other` is removed; true when that is news.
    pub(crate) fn take_order(&mut self, other: &Self) -> bool {
        let news = self.needs != other.needs
            || self.stage != other.stage
            || self.after != other.after
            || self.service_account != other.service_account;
        if news {
            self.needs.clone_from(&other.needs);
            self.stage = other.stage;
            self.after.clone_from(&other.after);
            self.service_account.clone_from(&other.service_account);
        }
        news
    }

    pub(crate) fn write(&self) -> Bytes {
        serde_json::to_vec(self)
            .expect("an entry can be written")
            .into()
    }
}

/// Where an object's entry is kept.
pub(crate) fn item(key: &ObjectKey) -> String {
    format!("{PREFIX}{}", path(key))
}

/// Where an object's last drift is kept.
pub(crate) fn drift_item(key: &ObjectKey) -> String {
    format!("{DRIFT_PREFIX}{}", path(key))
}

/// A last drift as the ledger keeps it.
pub(crate) fn write_drift(drift: &Drift) -> Bytes {
    serde_json::to_vec(drift)
        .expect("a drift can be written")
        .into()
}

/// Reads an entry out of the ledger; `None` when the item is none.
///
/// # Errors
/// When the item is an entry and can't be read.
pub(crate) fn read(item: &str, value: &[u8]) -> Option<Result<(ObjectKey, Entry), String>> {
    read_under(PREFIX, item, value)
}

/// Reads a last drift out of the ledger; `None` when the item is none.
///
/// # Errors
/// When the item is a drift and can't be read.
pub(crate) fn read_drift(item: &str, value: &[u8]) -> Option<Result<(ObjectKey, Drift), String>> {
    read_under(DRIFT_PREFIX, item, value)
}

fn read_under<T: for<'de> Deserialize<'de>>(
    prefix: &str,
    item: &str,
    value: &[u8],
) -> Option<Result<(ObjectKey, T), String>> {
    let path = item.strip_prefix(prefix)?;
    let read = || {
        let key = key_of(path)?;
        let value = serde_json::from_slice(value).map_err(|error| format!("{item:?}: {error}"))?;
        Ok((key, value))
    };
    Some(read())
}

/// The identity that [`path`] wrote.
///
/// # Errors
/// When it is none.
pub(crate) fn key_of(path: &str) -> Result<ObjectKey, String> {
    let mut parts = path.splitn(4, '/').map(str::to_owned);
    let mut part = || {
        parts
            .next()
            .ok_or_else(|| format!("{path:?} is no identity"))
    };
    Ok(ObjectKey {
        group: part()?,
        kind: part()?,
        namespace: part()?,
        name: part()?,
    })
}

/// An identity as the ledger's items name it.
pub(crate) fn path(key: &ObjectKey) -> String {
    format!("{}/{}/{}/{}", key.group, key.kind, key.namespace, key.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_with_names_that_hold_colons() {
        let key = ObjectKey {
            group: "rbac.authorization.k8s.io".into(),
            kind: "ClusterRole".into(),
            namespace: String::new(),
            name: "system:shop:reader".into(),
        };
        let mut entry = Entry::planned("rbac.authorization.k8s.io/v1", &"shop".parse().unwrap());
        entry.uid = Some("u".into());
        assert_eq!(
            read(&item(&key), &entry.write()),
            Some(Ok((key.clone(), entry.clone())))
        );
        assert_eq!(read(&drift_item(&key), &entry.write()), None);
    }

    #[test]
    fn what_is_no_entry_says_so() {
        assert!(read("inventory/a/b", b"{}").unwrap().is_err());
        assert!(read("inventory/a/b/c/d", b"{}").unwrap().is_err());
    }
}
