//! Follows Git, decides what every cluster should run, serves agents and people.

pub mod agents;
pub mod api;
pub mod ca;
pub mod clock;
pub mod config;
pub mod enrolment;
pub mod fleet;
pub mod git;
pub mod listen;
mod nearest;
pub mod store;
pub mod view;
pub mod webhook;
