//! What is applied: ConfigMaps of half a kilobyte, and one Deployment among five objects.
//!
//! Deployments want no replicas: Pods would be the work of the scheduler and of kubelets, and noise here.

use serde_json::{Value, json};

/// Objects of one application.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) count: usize,
}

impl Load {
    /// Object number `index`, with nothing but what Git states; `version` is a value that may change.
    pub(super) fn object(&self, index: usize, version: &str) -> Value {
        let name = name(index);
        if is_deployment(index) {
            json!({
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": name, "annotations": {"example.com/version": version}},
                "spec": {
                    "replicas": 0,
                    "selector": {"matchLabels": {"app": name}},
                    "template": {
                        "metadata": {"labels": {"app": name}},
                        "spec": {"containers": [{
                            "name": "main",
                            "image": "registry.invalid/app:1",
                            "env": [{"name": "PLACE", "value": "here"}],
                            "ports": [{"containerPort": 8080}],
                        }]},
                    },
                },
            })
        } else {
            json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name},
                "data": {"version": version, "content": format!("{index:05} ").repeat(64)},
            })
        }
    }

    /// A file for each object, in the folder of `application`, and the application itself.
    pub(super) fn files(&self, application: &str) -> Vec<(String, String)> {
        let document = json!({
            "apiVersion": "muster.dev/v1alpha1",
            "kind": "Application",
            "metadata": {"name": application},
            "spec": {"namespace": application},
        });
        let mut files = vec![(format!("{application}/muster.yaml"), document.to_string())];
        files.extend((0..self.count).map(|index| self.file(application, index, "1")));
        files
    }

    /// The file of one object: JSON, which is YAML, under a name that Flux reads, too.
    pub(super) fn file(&self, application: &str, index: usize, version: &str) -> (String, String) {
        let path = format!("{application}/{}.yaml", name(index));
        (path, self.object(index, version).to_string())
    }

    /// Numbers of ConfigMaps, spread evenly over all of them.
    pub(super) fn some_config_maps(&self, count: usize) -> Vec<usize> {
        let all: Vec<usize> = (0..self.count)
            .filter(|index| !is_deployment(*index))
            .collect();
        (0..count).map(|nth| all[nth * all.len() / count]).collect()
    }
}

pub(super) fn name(index: usize) -> String {
    format!("object-{index:05}")
}

fn is_deployment(index: usize) -> bool {
    index % 5 == 4
}
