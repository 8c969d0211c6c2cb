//! Tests against real API servers, in one binary so that they share them. Each asks `cluster::real::shared` for its
//! clusters, keeps to names of its own, and looks at what came of it through a client of its own.
//!
//! All of them stand below `real::`, which is how `tests/run` counts them.

mod real {
    mod accidents;
    mod approving;
    mod asking;
    mod away;
    mod bad_commits;
    mod bed;
    mod checkout;
    mod conformance;
    mod crash;
    mod damage;
    mod demo;
    mod differential;
    mod dry_runs;
    mod engine;
    mod health;
    mod killed;
    mod manifest;
    mod members;
    mod merge_table;
    mod pauses;
    mod planning;
    mod pruning;
    mod readme;
    mod rendering;
    mod scenario;
    mod secrets;
    mod shapes;
    mod supervision;
    mod syncing;
    mod the_cluster;
    mod two_agents;
    mod unwritable;
}
