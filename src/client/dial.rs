//! A TCP connection under way, which can be waited for in parts and given up.
//!
//! Giving it up before the other side has answered sends nothing: what was sent is exactly one SYN,
//! as long as that is within the second after which the kernel repeats it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

/// A connection that nobody has answered yet, or that is over.
#[derive(Debug)]
pub struct Dial {
    socket: Option<Socket>,
    /// The result that the kernel knew at once.
    at_once: Option<Met>,
    started: Instant,
}

/// The fate of a connection.
#[derive(Debug)]
pub enum Met {
    /// The other side took it, that long after the SYN.
    Open(TcpStream, Duration),
    /// A reset came back.
    Refused,
    /// It was taken, and reset at once: so do proxies that answer first and look later.
    Reset,
    /// A network on the way, or this host, said no.
    Failed(io::Error),
}

impl Dial {
    /// Sends the SYN.
    ///
    /// # Errors
    /// When it cannot even be sent: no route, forbidden here, no sockets left.
    pub fn start(address: SocketAddr) -> io::Result<Dial> {
        let kind = Type::STREAM;
        let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        let started = Instant::now();
        let under_way = |error: &io::Error| {
            error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error())
                || error.kind() == io::ErrorKind::WouldBlock
        };
        match socket.connect(&address.into()) {
            Ok(()) => {}
            Err(error) if under_way(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                return Ok(Dial {
                    socket: None,
                    at_once: Some(Met::Refused),
                    started,
                });
            }
            Err(error) => return Err(error),
        }
        Ok(Dial {
            socket: Some(socket),
            at_once: None,
            started,
        })
    }

    /// Waits for an answer as long as `patience`, but not when there was one before. `None` when none
    /// came: then exactly that time is over.
    pub fn wait(&mut self, patience: Duration) -> Option<Met> {
        wait_for(std::slice::from_mut(self), patience)
    }

    /// The result, once the socket has one.
    fn met(&mut self) -> Option<Met> {
        let after = self.started.elapsed();
        let socket = self.socket.take()?;
        let error = match socket.take_error() {
            Ok(None) => match socket.set_nonblocking(false) {
                Ok(()) => return Some(Met::Open(socket.into(), after)),
                Err(error) => error,
            },
            Ok(Some(error)) | Err(error) => error,
        };
        Some(match error.kind() {
            io::ErrorKind::ConnectionRefused => Met::Refused,
            io::ErrorKind::ConnectionReset => Met::Reset,
            _ => Met::Failed(error),
        })
    }
}

/// Waits until one of these is taken, or none can be any more: then the last answer counts. `None` when `patience` is
/// over before.
pub fn wait_for(dials: &mut [Dial], patience: Duration) -> Option<Met> {
    let deadline = Instant::now() + patience;
    let mut last = None;
    for dial in &mut *dials {
        match dial.at_once.take() {
            Some(open @ Met::Open(..)) => return Some(open),
            Some(met) => last = Some(met),
            None => {}
        }
    }
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        let waiting = dials.iter().filter_map(|dial| dial.socket.as_ref());
        let mut waiting: Vec<PollFd<'_>> = waiting
            .map(|socket| PollFd::new(socket, PollFlags::OUT))
            .collect();
        if waiting.is_empty() {
            if last.is_none() {
                thread::sleep(left);
            }
            return last;
        }
        match poll(&mut waiting, Some(&timeout)) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Some(Met::Failed(error.into())),
        }
        let ready: Vec<bool> = waiting.iter().map(|fd| !fd.revents().is_empty()).collect();
        let under_way = dials.iter_mut().filter(|dial| dial.socket.is_some());
        for (dial, _) in under_way.zip(ready).filter(|(_, is_ready)| *is_ready) {
            match dial.met() {
                Some(open @ Met::Open(..)) => return Some(open),
                met => last = met.or(last),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::{Domain, Socket, Type};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A connection that nobody answers, or that was refused, does not hide one that is taken.
    #[test]
    fn the_first_of_two_that_is_taken_counts() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap();
        let closed = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let here = SocketAddr::from(([127, 0, 0, 1], 0));
        closed.bind(&here.into()).unwrap();
        let refuses = closed.local_addr().unwrap().as_socket().unwrap();
        for order in [[refuses, taken], [taken, refuses]] {
            let mut two = order.map(|address| Dial::start(address).unwrap());
            assert!(matches!(wait_for(&mut two, PATIENCE), Some(Met::Open(..))));
        }
        let mut two = [refuses, refuses].map(|address| Dial::start(address).unwrap());
        assert!(matches!(wait_for(&mut two, PATIENCE), Some(Met::Refused)));
        assert!(wait_for(&mut two, Duration::ZERO).is_none());
    }

    #[test]
    fn an_open_port_takes_the_connection_and_a_closed_one_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut dial = Dial::start(address).unwrap();
        assert!(matches!(dial.wait(PATIENCE), Some(Met::Open(..))));
        // A result is not given again.
        assert!(dial.wait(Duration::ZERO).is_none());
        // Taken by somebody who does not listen: a port that is free could be anybody's a moment later, even the
        // one that we connect from.
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        silent
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        let address = silent.local_addr().unwrap().as_socket().unwrap();
        let mut dial = Dial::start(address).unwrap();
        assert!(matches!(dial.wait(PATIENCE), Some(Met::Refused)));
        assert!(dial.wait(Duration::ZERO).is_none());
    }
}
