//! What the kernel itself holds a tool to.
//!
//! In: the tool, the folder to read and the one to write. Out: a process that can do no more, or an error where the kernel
//! can't.

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
pub(crate) use elsewhere::{confine, kernel_confines};
#[cfg(target_os = "linux")]
pub(crate) use linux::{confine, kernel_confines};
