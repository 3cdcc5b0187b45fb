//! Somebody who hears of openings where the policy says that they are told, and does so all the time: the kernel
//! keeps only a few hundred lines for those who come late.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use super::line::Claim;
use super::{Group, Ring};
use crate::policy::Log;

/// So many openings wait here to be dealt with. More are dropped, and counted.
pub const MOST_WAITING: usize = 65_536;

/// Room for what an NFLOG group tells meanwhile: some ten thousand openings.
const ROOM: usize = 16 << 20;

/// The result of listening.
#[derive(Debug)]
pub enum Heard {
    Claim(Claim),
    /// There is no more for now.
    Nothing,
    /// Nothing will be heard any more: why.
    Deaf(io::Error),
}

/// A thread that listens, and what it has heard.
pub struct Ear {
    heard: Receiver<io::Result<Claim>>,
    lost: Arc<AtomicU64>,
}

impl Ear {
    /// Listens where a policy says that openings are told, to what comes from now on; `None` if it says nowhere.
    ///
    /// # Errors
    /// When that is not permitted.
    pub fn listen(log: Log) -> io::Result<Option<Ear>> {
        let mut source = match log {
            Log::Kernel => Source::Ring(Ring::open()?),
            Log::Nflog(group) => {
                let group = Group::listen(group)?;
                group.make_room(ROOM);
                Source::Group(group)
            }
            Log::Off => return Ok(None),
        };
        while source.hear()?.is_some() {}
        source.take_lost();
        let (sender, heard) = sync_channel(MOST_WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let own = Arc::clone(&lost);
        thread::Builder::new()
            .name("hears".to_string())
            .spawn(move || listen(source, &sender, &own))?;
        Ok(Some(Ear { heard, lost }))
    }

    /// The next line in the form of an opening, within this time.
    pub fn hear(&self, patience: Duration) -> Heard {
        match self.heard.recv_timeout(patience) {
            Ok(Ok(claim)) => Heard::Claim(claim),
            Ok(Err(error)) => Heard::Deaf(error),
            Err(RecvTimeoutError::Timeout) => Heard::Nothing,
            Err(RecvTimeoutError::Disconnected) => {
                Heard::Deaf(io::Error::other("nobody listens any more"))
            }
        }
    }

    /// The number of records that were lost since this was asked last, because they came too fast. With the kernel's
    /// log these are lines of any kind.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

/// The kernel's log, or a group.
enum Source {
    Ring(Ring),
    Group(Group),
}

impl Source {
    fn hear(&mut self) -> io::Result<Option<Claim>> {
        match self {
            Source::Ring(ring) => ring.hear(),
            Source::Group(group) => group.hear(Timestamp::now()),
        }
    }

    fn take_lost(&mut self) -> u64 {
        match self {
            Source::Ring(ring) => ring.take_lost(),
            Source::Group(group) => group.take_lost(),
        }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Source::Ring(ring) => ring.as_fd(),
            Source::Group(group) => group.as_fd(),
        }
    }
}

/// Until nobody wants to know any more.
fn listen(mut source: Source, to: &SyncSender<io::Result<Claim>>, lost: &AtomicU64) {
    loop {
        let heard = match source.hear() {
            Ok(Some(claim)) => Ok(claim),
            Ok(None) => match poll(
                &mut [PollFd::from_borrowed_fd(source.as_fd(), PollFlags::IN)],
                None,
            ) {
                Ok(_) | Err(Errno::INTR) => continue,
                Err(error) => Err(error.into()),
            },
            Err(error) => Err(error),
        };
        lost.fetch_add(source.take_lost(), Ordering::Relaxed);
        let is_end = heard.is_err();
        match to.try_send(heard) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                lost.fetch_add(1, Ordering::Relaxed);
            }
            Err(TrySendError::Disconnected(_)) => return,
        }
        if is_end {
            return;
        }
    }
}
