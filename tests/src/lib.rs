//! The test bed: everything the scenario tests, the benchmarks and the demo are made of.
//!
//! In come the programs of this workspace and the machine they run on; out come clusters, processes and folders that
//! never outlive the process that asked for them.

pub mod cluster;
pub mod conformance;
pub mod crash;
pub mod damage;
pub mod demo;
pub mod git;
pub mod measure;
pub mod memory;
pub mod programs;
pub mod proxy;
pub mod simulation;
pub mod supervisor;
pub mod tidy;
pub mod wait;
pub mod world;
