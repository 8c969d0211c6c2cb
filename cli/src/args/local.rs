//! What is asked of a checkout instead of a hub.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ClapArgs, ValueEnum};
use muster_decide::placement::minor;
use muster_render::ToolFile;

use super::{Output, duration};
use crate::failure::Failure;

#[derive(ClapArgs)]
pub(crate) struct CheckArgs {
    /// Where the fleet begins in a checkout
    #[arg(default_value = ".", hide_default_value = true)]
    pub(crate) path: PathBuf,
    /// Look at this commit instead of at the files as they are now
    #[arg(long, value_name = "REVISION")]
    pub(crate) at: Option<String>,
    /// How to print the answer
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Output,
    #[command(flatten)]
    pub(crate) without: WithoutHubArgs,
}

#[derive(ClapArgs)]
pub(crate) struct RenderArgs {
    /// Name of the application
    pub(crate) app: String,
    /// For which cluster
    #[arg(long, value_name = "NAME")]
    pub(crate) cluster: String,
    /// From a checkout instead of a hub: the folder in it where the fleet begins, else this folder
    #[arg(long, value_name = "PATH", num_args = 0..=1, require_equals = true, default_missing_value = ".")]
    pub(crate) local: Option<PathBuf>,
    /// What the cluster would get after merging this, as `plan` takes it: a branch, a whole commit id, a ref, #7. With
    /// --local: a commit of the checkout instead of the files as they are now
    #[arg(long, value_name = "REVISION")]
    pub(crate) at: Option<String>,
    /// What is at --at as it is, not merged
    #[arg(long, requires = "at", conflicts_with = "local")]
    pub(crate) as_is: bool,
    /// How to print the objects
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Data,
    #[command(flatten)]
    pub(crate) without: WithoutHubArgs,
}

/// A format of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Data {
    /// Documents, one an object
    #[default]
    Yaml,
    /// One List
    Json,
}

/// What a hub would know or be told.
#[derive(ClapArgs)]
#[command(next_help_heading = "For a checkout")]
pub(crate) struct WithoutHubArgs {
    /// What `muster clusters -o json` printed: clusters that only the hub knows, and their versions; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) clusters_from: Option<PathBuf>,
    /// Kubernetes version that charts see of a cluster whose own is not known, such as 1.37 [default: Helm's own]
    #[arg(long, value_name = "VERSION", value_parser = kube_version)]
    pub(crate) kube_version: Option<String>,
    /// API versions that charts see, of those that they ask about in helm.apiVersions
    #[arg(long, value_name = "VERSIONS", value_delimiter = ',')]
    pub(crate) api_versions: Vec<String>,
    /// Folder with a folder for each credential that a Repository may name
    #[arg(long, value_name = "DIR")]
    pub(crate) credentials: Option<PathBuf>,
    /// The program kustomize, or `none`; without it, the one on the PATH
    #[arg(long, value_name = "FILE")]
    pub(crate) kustomize: Option<ToolFile>,
    /// The program helm, or `none`; without it, the one on the PATH
    #[arg(long, value_name = "FILE")]
    pub(crate) helm: Option<ToolFile>,
    /// How long a program may render [default: 1m]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) render_timeout: Option<Duration>,
    /// Also render where the kernel can't confine programs
    #[arg(long)]
    pub(crate) allow_unconfined_render: bool,
}

impl WithoutHubArgs {
    /// A flag that was given: it says nothing to a hub.
    fn given(&self) -> Option<&'static str> {
        let flags = [
            ("clusters-from", self.clusters_from.is_some()),
            ("kube-version", self.kube_version.is_some()),
            ("api-versions", !self.api_versions.is_empty()),
            ("credentials", self.credentials.is_some()),
            ("kustomize", self.kustomize.is_some()),
            ("helm", self.helm.is_some()),
            ("render-timeout", self.render_timeout.is_some()),
            ("allow-unconfined-render", self.allow_unconfined_render),
        ];
        let mut given = flags.into_iter().filter(|(_, given)| *given);
        given.next().map(|(name, _)| name)
    }

    /// Nothing of it was given.
    ///
    /// # Errors
    /// When something was, though a hub is asked.
    pub(crate) fn are_not_given(&self) -> Result<(), Failure> {
        match self.given() {
            None => Ok(()),
            Some(flag) => Err(Failure::Usage(format!(
                "--{flag} is for a checkout, and a hub is asked: add --local, or leave it out"
            ))),
        }
    }
}

fn kube_version(text: &str) -> Result<String, String> {
    minor(text).ok_or_else(|| "write a version such as 1.37".to_owned())
}
