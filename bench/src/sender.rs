//! Puts frames onto a cable as fast as one processor can, and says what that cost.
//!
//! A packet socket without a queue (`PACKET_QDISC_BYPASS`) runs the whole way of a packet in the
//! sender's own context: sending, the cable (veth), and what the receiver's kernel does with it. So the
//! processor time of the sending thread is the cost of all of that; differences between rulesets are
//! the rulesets.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

use crate::frames::Frame;

/// Frames that are handed to the kernel at once.
const BATCH: usize = 64;

/// A packet socket on the `eth0` of the namespace it was opened in.
pub struct Sender {
    socket: OwnedFd,
}

/// The packets that were sent, and the time that they took.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub packets: u64,
    /// Processor time of the sending thread.
    pub cpu: Duration,
}

impl Sent {
    /// Nanoseconds of processor time for one packet.
    pub fn ns_per_packet(self) -> f64 {
        self.cpu.as_nanos() as f64 / self.packets as f64
    }
}

impl Sender {
    /// Opens the socket. On the client, in the thread that will send.
    pub fn new() -> io::Result<Sender> {
        // SAFETY: plain system calls; the name and the address live on this stack for their duration.
        unsafe {
            let index = libc::if_nametoindex(c"eth0".as_ptr());
            if index == 0 {
                return Err(io::Error::last_os_error());
            }
            let socket = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            if socket < 0 {
                return Err(io::Error::last_os_error());
            }
            let socket = OwnedFd::from_raw_fd(socket);
            let mut address: libc::sockaddr_ll = std::mem::zeroed();
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_ifindex = index as i32;
            let length = size_of::<libc::sockaddr_ll>() as u32;
            succeeded(libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                length,
            ))?;
            let yes: i32 = 1;
            succeeded(libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                (&raw const yes).cast(),
                size_of::<i32>() as u32,
            ))?;
            Ok(Sender { socket })
        }
    }

    /// Sends all of them, in their order.
    pub fn send(&self, frames: &[Frame]) -> io::Result<()> {
        for batch in frames.chunks(BATCH) {
            self.batch(batch)?;
        }
        Ok(())
    }

    /// Sends the frames in turn, from the beginning again if need be, until so many packets have gone or
    /// so much processor time was used.
    pub fn measure(&self, frames: &[Frame], packets: u64, most: Duration) -> io::Result<Sent> {
        let (start, mut sent) = (cpu_time(), 0);
        for batch in frames.chunks(BATCH).cycle() {
            self.batch(batch)?;
            sent += batch.len() as u64;
            if sent >= packets || cpu_time() - start >= most {
                break;
            }
        }
        Ok(Sent {
            packets: sent,
            cpu: cpu_time() - start,
        })
    }

    /// Sends the frames in turn at so many a second (`None`: as fast as it can) until told to stop.
    pub fn flood(
        &self,
        frames: &[Frame],
        rate: Option<f64>,
        go_on: impl Fn() -> bool,
    ) -> io::Result<Sent> {
        let (began, start, mut sent) = (Instant::now(), cpu_time(), 0u64);
        for batch in frames.chunks(BATCH).cycle() {
            while rate.is_some_and(|rate| sent as f64 >= began.elapsed().as_secs_f64() * rate)
                && go_on()
            {
                std::thread::sleep(Duration::from_micros(200));
            }
            if !go_on() {
                break;
            }
            self.batch(batch)?;
            sent += batch.len() as u64;
        }
        Ok(Sent {
            packets: sent,
            cpu: cpu_time() - start,
        })
    }

    fn batch(&self, frames: &[Frame]) -> io::Result<()> {
        let mut parts: Vec<libc::iovec> = frames
            .iter()
            .map(|frame| libc::iovec {
                iov_base: frame.as_ptr().cast_mut().cast(),
                iov_len: frame.len(),
            })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = parts
            .iter_mut()
            .map(|part| {
                // SAFETY: a message header of zeros names nothing.
                let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
                message.msg_hdr.msg_iov = part;
                message.msg_hdr.msg_iovlen = 1;
                message
            })
            .collect();
        let mut left = &mut messages[..];
        while !left.is_empty() {
            // SAFETY: each header names one part, which names a frame; all outlive the call, which only
            // reads them and writes the lengths sent into the headers.
            let sent = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    left.as_mut_ptr(),
                    left.len() as u32,
                    0,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) => left = &mut left[sent..],
                // The cable or its receiver is full.
                Err(_) if is_full(&io::Error::last_os_error()) => std::thread::yield_now(),
                Err(_) => return Err(io::Error::last_os_error()),
            }
        }
        Ok(())
    }
}

fn succeeded(result: i32) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN))
}

/// Keeps this thread on one processor.
pub fn stay_on(processor: usize) {
    let mut set = CpuSet::new();
    set.set(processor);
    // Where that is not allowed, figures are a little less steady.
    let _ = sched_setaffinity(None, &set);
}

/// Processor time of this thread so far.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
