//! `muster render`: objects as a cluster gets them.

use std::io::Write;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::args::Data;
use crate::failure::Failure;

/// Prints objects: as documents of YAML, or as one List of JSON.
pub(crate) fn print(
    objects: &[Value],
    format: Data,
    out: &mut (dyn Write + Send),
) -> Result<(), Failure> {
    let unprintable = |error: String| Failure::told(format!("can't be printed: {error}"));
    match format {
        Data::Yaml => {
            for object in objects {
                let text = serde_saphyr::to_string(&Document::of(object));
                let text = text.map_err(|error| unprintable(error.to_string()))?;
                out.write_all(b"---\n")?;
                out.write_all(text.as_bytes())?;
            }
        }
        Data::Json => {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
            let text = serde_json::to_string_pretty(&list);
            let text = text.map_err(|error| unprintable(error.to_string()))?;
            writeln!(out, "{text}")?;
        }
    }
    Ok(())
}

/// An object with what it is at its beginning.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'o> {
    api_version: &'o Value,
    kind: &'o Value,
    metadata: &'o Value,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl<'o> Document<'o> {
    fn of(object: &'o Value) -> Self {
        let head = ["apiVersion", "kind", "metadata"];
        let fields = object.as_object().into_iter().flatten();
        let rest = fields.filter(|(name, _)| !head.contains(&name.as_str()));
        Self {
            api_version: &object["apiVersion"],
            kind: &object["kind"],
            metadata: &object["metadata"],
            rest: rest
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
        }
    }
}
