//! From files to objects.

/// What was read and rendered at earlier commits, by content. Losing it costs time, nothing else.
#[derive(Debug, Default)]
pub struct Cache {}
