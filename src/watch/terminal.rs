//! The terminal that the screen is drawn on: taken, asked for keys, and given back as it was.

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal, Stdout, Write};
use std::os::fd::AsFd;
use std::panic;
use std::thread;
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TermionBackend;
use ratatui::style::Color;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::screen::{View, draw};

/// Another screen, which is empty; and back to the first one with the cursor on it.
const TAKE: &[u8] = b"\x1b[?1049h\x1b[2J";
const GIVE_BACK: &[u8] = b"\x1b[?1049l\x1b[?25h";

/// The time between two looks at the window's size: no signal tells of it.
const LOOK: Duration = Duration::from_millis(100);

const CONTROL_C: u8 = 3;
const ESCAPE: u8 = 27;

/// A terminal that is drawn on. It is given back at the end, also after a panic.
pub struct Screen {
    terminal: Terminal<TermionBackend<Stdout>>,
    keys: File,
    before: Termios,
    /// Colours are not wanted (<https://no-color.org>).
    is_plain: bool,
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    /// When there is none.
    pub fn take() -> io::Result<Screen> {
        let stdin = io::stdin();
        let keys = match stdin.is_terminal() {
            true => File::from(stdin.as_fd().try_clone_to_owned()?),
            false => File::open("/dev/tty")?,
        };
        let before = tcgetattr(&keys)?;
        let terminal = Terminal::new(TermionBackend::new(io::stdout()))?;
        let of_panics = (keys.try_clone()?, before.clone());
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            give_back(&of_panics.0, &of_panics.1);
            hook(panic);
        }));
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&keys, OptionalActions::Now, &raw)?;
        let screen = Screen {
            terminal,
            keys,
            before,
            is_plain: env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
        };
        // Ratatui's own way asks the terminal where its cursor is, and not every one answers.
        let mut stdout = io::stdout();
        stdout.write_all(TAKE)?;
        stdout.flush()?;
        Ok(screen)
    }

    /// Draws a state.
    ///
    /// # Errors
    /// When the terminal does not take it.
    pub fn show(&mut self, view: &View<'_>) -> io::Result<()> {
        let is_plain = self.is_plain;
        self.terminal.draw(|frame| {
            draw(frame, view);
            for cell in &mut frame.buffer_mut().content {
                if is_plain {
                    (cell.fg, cell.bg) = (Color::Reset, Color::Reset);
                }
            }
        })?;
        Ok(())
    }

    /// Waits for a key, and says whether it is one that ends it. A change of the window's size ends the wait.
    ///
    /// # Errors
    /// When the terminal cannot be read.
    pub fn quits(&self, patience: Duration) -> io::Result<bool> {
        let until = Instant::now() + patience;
        let size = tcgetwinsize(&self.keys)?;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if has_keys(&self.keys, left.min(LOOK))? {
                let mut keys = [0; 256];
                let read = rustix::io::read(&self.keys, &mut keys)?;
                return Ok(ends(&keys[..read]));
            }
            let new = tcgetwinsize(&self.keys)?;
            let same = (new.ws_row, new.ws_col) == (size.ws_row, size.ws_col);
            if left.is_zero() || !same {
                return Ok(false);
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back(&self.keys, &self.before);
        if !thread::panicking() {
            let _ = panic::take_hook();
        }
    }
}

fn give_back(keys: &File, before: &Termios) {
    let _ = tcsetattr(keys, OptionalActions::Now, before);
    let mut stdout = io::stdout();
    let _ = stdout.write_all(GIVE_BACK);
    let _ = stdout.flush();
}

fn has_keys(keys: &File, patience: Duration) -> io::Result<bool> {
    let time = Timespec {
        tv_sec: 0,
        tv_nsec: patience.min(LOOK).subsec_nanos().into(),
    };
    let mut all = [PollFd::new(keys, PollFlags::IN)];
    match poll(&mut all, Some(&time)) {
        Ok(number) => Ok(number > 0),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Returns whether these bytes end it: `q`, Escape, Ctrl-C, or none, since nobody is there any more. Keys with a name, such
/// as the arrows, begin with an Escape too.
fn ends(keys: &[u8]) -> bool {
    match keys {
        [] | [ESCAPE] => true,
        [ESCAPE, ..] => false,
        keys => keys.contains(&b'q') || keys.contains(&CONTROL_C) || keys.contains(&ESCAPE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_escape_and_control_c_end_it_and_arrows_do_not() {
        for keys in [&b"q"[..], b"\x1b", b"\x03", b"aq", b""] {
            assert!(ends(keys), "{keys:?}");
        }
        for keys in [&b"a"[..], b"\x1b[A", b"\x1b[15~", b"\x1bOq"] {
            assert!(!ends(keys), "{keys:?}");
        }
    }
}
