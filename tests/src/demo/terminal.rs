//! A terminal that is all the demo's for a while: another screen to draw on, single keys, and everything as it was
//! before when it is given back, however the demo ends.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result};
use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use tokio::sync::mpsc;

/// The other screen, its cursor hidden; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[2J";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The terminal, until it is dropped.
pub(super) struct Held {
    before: Termios,
    over: Arc<AtomicBool>,
    listening: Option<JoinHandle<()>>,
}

/// Takes the terminal of this process; what is typed from now on comes one key at a time.
///
/// # Errors
/// When standard input is no terminal.
pub(super) fn hold() -> Result<(Held, mpsc::Receiver<u8>)> {
    let before = tcgetattr(io::stdin()).context("standard input is no terminal")?;
    let mut single_keys = before.clone();
    single_keys.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
    // A read returns after a tenth of a second with whatever there is, so that the listener can end.
    single_keys.special_codes[SpecialCodeIndex::VMIN] = 0;
    single_keys.special_codes[SpecialCodeIndex::VTIME] = 1;
    // Being suspended would leave the shell on the other screen.
    single_keys.special_codes[SpecialCodeIndex::VSUSP] = 0;
    tcsetattr(io::stdin(), OptionalActions::Now, &single_keys)?;
    write(ENTER);
    let (keys, typed) = mpsc::channel(16);
    let over = Arc::new(AtomicBool::new(false));
    let seen_over = Arc::clone(&over);
    let listening = thread::spawn(move || listen(&keys, &seen_over));
    let held = Held {
        before,
        over,
        listening: Some(listening),
    };
    Ok((held, typed))
}

fn listen(keys: &mpsc::Sender<u8>, over: &AtomicBool) {
    let mut key = [0];
    while !over.load(Ordering::Relaxed) {
        match io::stdin().read(&mut key) {
            Ok(0) => {}
            // Nobody waits for a key that comes while so many are waiting.
            Ok(_) => drop(keys.try_send(key[0])),
            Err(_) => return,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        // It must not take a key that is meant for the shell.
        let _ended = self.listening.take().map(JoinHandle::join);
        write(LEAVE);
        let _a_terminal_that_is_gone = tcsetattr(io::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Puts `drawing` in the place of what the screen shows, in one write, so that nothing half drawn is seen.
pub(super) fn draw(drawing: &str) {
    let lines = drawing.trim_end_matches('\n').replace('\n', "\x1b[K\r\n");
    write(&format!("\x1b[?2026h\x1b[H{lines}\x1b[K\x1b[J\x1b[?2026l"));
}

/// A terminal that is gone takes nothing; the story ends by its signal then.
pub(super) fn write(text: &str) {
    let mut out = io::stdout().lock();
    let _gone = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
