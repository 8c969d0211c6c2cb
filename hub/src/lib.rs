//! Follows Git, decides what every cluster should run, serves agents and people.

pub mod config;
mod nearest;
