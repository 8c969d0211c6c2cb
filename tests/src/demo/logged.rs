//! What hub and agents log while the story is played: kept, and told only when a step fails.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Result;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The most different lines that are kept.
const KEPT: usize = 12;

/// The newest different warnings and errors of this process, each with how often it came.
#[derive(Debug, Clone, Default)]
pub(super) struct Logged(Arc<Mutex<VecDeque<(String, usize)>>>);

/// Keeps what is logged from now on.
///
/// # Errors
/// When something else in this process does so already.
pub(super) fn keep() -> Result<Logged> {
    let logged = Logged::default();
    let log = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(
            "muster_hub=warn,muster_git=warn,muster_render=warn,muster_agent=warn",
        ))
        .with_ansi(false)
        .without_time()
        .with_target(false)
        .with_writer(logged.clone());
    log.try_init().map_err(|error| anyhow::anyhow!(error))?;
    Ok(logged)
}

impl Logged {
    /// The lines, oldest first.
    pub(super) fn lines(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = lines.iter();
        lines
            .map(|(line, count)| match count {
                1 => line.clone(),
                count => format!("{line} ({count} times)"),
            })
            .collect()
    }

    fn take_in(&self, line: &str) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lines.iter().position(|(known, _)| known == line);
        let count = known.and_then(|at| lines.remove(at)).map_or(0, |it| it.1);
        lines.push_back((line.to_owned(), count + 1));
        if lines.len() > KEPT {
            lines.pop_front();
        }
    }
}

/// The formatter writes each event at once.
impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.take_in(String::from_utf8_lossy(bytes).trim());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Logged {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_comes_again_is_counted_and_old_ones_go() {
        let mut logged = Logged::default();
        for line in ["one\n", "two\n", "one\n"] {
            logged.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(logged.lines(), ["two", "one (2 times)"]);
        for number in 0..KEPT {
            logged.take_in(&number.to_string());
        }
        assert_eq!(logged.lines().len(), KEPT);
        assert_eq!(logged.lines()[0], "0");
    }
}
