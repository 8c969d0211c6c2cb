//! A whole hub in this process, asked over its three listeners as agents, new clusters and people do.

mod api;
mod asking;
mod bad_commits;
mod bad_data;
mod bed;
mod chart_server;
mod charts;
mod dry_runs;
mod enrolment;
mod git_server;
mod https;
mod pauses;
mod plan_limits;
mod plans;
mod script;
mod served;
mod sessions;
mod slow_tools;
mod sources;
mod ssh_server;
mod start;
mod wire;
