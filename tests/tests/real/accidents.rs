//! What users of other tools lost sleep over, one scenario each on a real API server: what went wrong there, and what
//! happens here. Named after what happened to whom; the numbers are those of the projects' issues.

mod believing;
mod correcting;
mod false_drift;
mod fighting;
mod removing;
mod replacing;
mod sharing;
mod taking_over;
mod waiting;
