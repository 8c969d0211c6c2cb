//! Follows Git, decides what every cluster should run, serves agents and people.

pub mod ca;
pub mod clock;
pub mod config;
pub mod fleet;
pub mod git;
mod nearest;
pub mod store;
pub mod view;
