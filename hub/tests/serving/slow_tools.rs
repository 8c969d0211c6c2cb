//! A tool that takes its time holds up its own application and no other.

use crate::bed::{Bed, commit, config_with, repository, until};

/// In the place of kustomize.
const SCRIPT: &str = "#!/bin/bash
if [ \"$1\" = version ]; then echo v0.0.0; exit; fi
while ((SECONDS < 6)); do :; done
printf 'apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: slow}\\n'
";

#[tokio::test]
async fn what_is_still_being_rendered_is_said_and_follows_while_others_move() {
    let (data, repository) = (tempfile::tempdir().unwrap(), repository());
    let config = config_with(data.path(), repository.path(), "kustomize", SCRIPT);
    let bed = Bed::of(config, data, repository).await;
    bed.joined("eu-1").await;
    for (path, text) in [
        ("slow/kustomization.yaml", "resources: []\n"),
        (
            "quick/x.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: quick}\n",
        ),
    ] {
        let file = bed.repository.path().join(path);
        let folder = file.parent().unwrap();
        std::fs::create_dir_all(folder).unwrap();
        std::fs::write(&file, text).unwrap();
        let name = folder.file_name().unwrap().display();
        let document = format!(
            "apiVersion: muster.dev/v1alpha1\nkind: Application\nmetadata: {{name: {name}}}\nspec: {{namespace: shop}}\n"
        );
        std::fs::write(folder.join("muster.yaml"), document).unwrap();
    }
    let revision = commit(bed.repository.path(), "both");
    bed.sync().await.unwrap();

    until("one is placed, the other is being rendered", async || {
        let fleet = bed.fleet().await;
        let placed = |name: &str| {
            fleet
                .applications
                .iter()
                .any(|it| it.name == name && it.clusters == 1)
        };
        let rendering = "kustomize is rendering it: until then it stays as it was";
        placed("quick")
            && !placed("slow")
            && fleet.problems.iter().any(|it| it.message == rendering)
    })
    .await;
    until("all is adopted", async || {
        let fleet = bed.fleet().await;
        fleet.problems.is_empty() && fleet.source.unwrap().adopted_revision == revision
    })
    .await;
}
