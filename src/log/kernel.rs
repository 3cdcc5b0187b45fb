//! The kernel's own log: `/dev/kmsg`, and files that were written from it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;

use super::{Format, Opening, in_line};

/// The longest record that the kernel hands out, and more.
const LONGEST: usize = 16 << 10;

/// The log in the kernel's memory: what it still has, and what comes.
#[derive(Debug)]
pub struct Ring {
    file: File,
    start: Timestamp,
}

impl Ring {
    /// Opens it, at its beginning.
    ///
    /// # Errors
    /// When it may not be read.
    pub fn open() -> io::Result<Ring> {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let file = File::options()
            .read(true)
            .custom_flags(nonblocking)
            .open("/dev/kmsg")?;
        // Its times are those of the clock that stands still while the machine sleeps.
        let awake = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let awake = jiff::SignedDuration::new(awake.tv_sec, awake.tv_nsec as i32);
        let start = Timestamp::now().checked_sub(awake).unwrap_or_default();
        Ok(Ring { file, start })
    }

    /// The next opening that is there already; `None` when there is no more for now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn hear(&mut self) -> io::Result<Option<Opening>> {
        let mut record = [0; LONGEST];
        loop {
            let read = match self.file.read(&mut record) {
                Ok(0) => return Ok(None),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // The oldest were written over, or somebody has interrupted: the next one is there.
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::BrokenPipe | io::ErrorKind::Interrupted
                    ) =>
                {
                    continue;
                }
                // A record that has no room in here.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => continue,
                Err(error) => return Err(error),
            };
            let text = String::from_utf8_lossy(&record[..read]);
            if let Some(opening) = in_line(&text, Format::Ring(self.start)) {
                return Ok(Some(opening));
            }
        }
    }
}

/// The openings in a file of syslog, or in what journalctl prints; `-` is standard input. `tell` says
/// whether to go on.
///
/// # Errors
/// When it cannot be read.
pub fn in_file(path: &Path, mut tell: impl FnMut(Opening) -> bool) -> io::Result<()> {
    let source: Box<dyn Read> = match path.as_os_str().as_encoded_bytes() {
        b"-" => Box::new(io::stdin()),
        _ => Box::new(File::open(path)?),
    };
    let mut reader = BufReader::new(source);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut reader)
            .take(LONGEST as u64)
            .read_until(b'\n', &mut line)?
            == 0
        {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        if let Some(opening) = in_line(text.trim_end(), Format::Syslog)
            && !tell(opening)
        {
            return Ok(());
        }
    }
}
