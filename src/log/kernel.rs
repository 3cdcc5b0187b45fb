//! The kernel's own log, `/dev/kmsg`: who writes a record there is in it, and nobody but the kernel is "kernel".

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use jiff::Timestamp;

use super::line::{Claim, Format, in_line, number};

/// The longest record that the kernel hands out, and more.
const LONGEST: usize = 16 << 10;

/// Whose log rules write to the kernel's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    /// Those of the first network namespace, which is this one.
    Own,
    /// Those of every namespace (`nf_log_all_netns`). In some kernels' default any user can make one.
    All,
    /// This namespace is not the first: its rules write there if those of all do.
    NotOwn,
}

impl Writers {
    /// Looks how it is now.
    pub fn look() -> Writers {
        /// Only the first namespace has it.
        const SETTING: &str = "/proc/sys/net/netfilter/nf_log_all_netns";
        /// The same, and it is there whatever is loaded.
        const FIRST: &str = "/proc/sys/net/core/netdev_max_backlog";
        match std::fs::read_to_string(SETTING) {
            Ok(text) if text.trim() == "0" => Writers::Own,
            Ok(_) => Writers::All,
            Err(_) if std::path::Path::new(FIRST).exists() => Writers::Own,
            Err(_) => Writers::NotOwn,
        }
    }
}

/// The log in the kernel's memory: what it still has, and what comes.
#[derive(Debug)]
pub struct Ring {
    file: File,
    start: Timestamp,
    /// The number of the record that was read last.
    last: Option<u64>,
    lost: u64,
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
        Ok(Ring {
            file,
            start,
            last: None,
            lost: 0,
        })
    }

    /// The next line in the form of an opening that is there already; `None` when there is no more for now.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn hear(&mut self) -> io::Result<Option<Claim>> {
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
            if let Some(number) = number(&text) {
                let last = self.last.replace(number);
                self.lost += last.map_or(0, |last| number.saturating_sub(last + 1));
            }
            if let Some(claim) = in_line(&text, Format::Ring(self.start)) {
                return Ok(Some(claim));
            }
        }
    }

    /// The number of records that were written over before they were read, since this was asked last.
    pub fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
