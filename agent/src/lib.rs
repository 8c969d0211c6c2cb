//! The agent: makes one cluster match its desired state, keeps it so, and reports.

pub mod engine;
