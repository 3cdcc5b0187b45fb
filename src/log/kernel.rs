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
        if line.len() == LONGEST && line.last() != Some(&b'\n') {
            // No line of the kernel. What comes after it is not the beginning of one.
            reader.skip_until(b'\n')?;
            continue;
        }
        let text = String::from_utf8_lossy(&line);
        if let Some(opening) = in_line(text.trim_end(), Format::Syslog)
            && !tell(opening)
        {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What begins in the middle of a line is not told by the kernel.
    #[test]
    fn the_rest_of_a_long_line_is_no_line() {
        let told =
            "Jul  6 14:02:00 host kernel: toctoc: opened door=ssh key=yves IN=eth0 SRC=192.0.2.7\n";
        let count = |text: String| {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("log");
            std::fs::write(&path, text).unwrap();
            let mut found = 0;
            in_file(&path, |_| {
                found += 1;
                true
            })
            .unwrap();
            found
        };
        assert_eq!(count(told.repeat(3)), 3);
        let long = format!("{:A<LONGEST$}", "Jul  6 14:02:00 host app: ");
        assert_eq!(count(format!("{long}{told}{told}")), 1);
        let fits = &long[1..];
        assert_eq!(count(format!("{fits}\n{told}")), 1);
    }
}
