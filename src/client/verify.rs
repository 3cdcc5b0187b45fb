//! Whether a door is open: by connecting to it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What a connection to a door met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Open,
    /// No answer in time: shut, or the host is down, or the network swallows packets.
    Silent,
    /// Refused: shut by a policy that rejects, or open with nothing listening behind it.
    Refused,
}

/// Connects and closes again at once.
///
/// # Errors
/// When the connection could not even be tried (no route, forbidden by a local firewall).
pub fn connect(address: SocketAddr, wait: Duration) -> io::Result<Door> {
    match TcpStream::connect_timeout(&address, wait) {
        Ok(_) => Ok(Door::Open),
        Err(error) => match error.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Ok(Door::Silent),
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Ok(Door::Refused),
            _ => Err(error),
        },
    }
}
