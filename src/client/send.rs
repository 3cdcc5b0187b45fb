//! Sending knocks without privileges and without data.
//!
//! A TCP knock is a non-blocking connect whose socket is closed at once: the kernel sends exactly
//! one SYN, does not repeat it, and sends no reset unless the other side answers. A UDP knock is an
//! empty datagram.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol as Ip, Socket, Type};

use crate::knock::{Knock, Protocol};

/// Sends the knocks in their order, `gap` apart. The port of `host` is not used.
///
/// # Errors
/// When a packet could not be sent (no route, forbidden by a local firewall). That nobody answers
/// is no error.
pub fn send(host: SocketAddr, knocks: &[Knock], gap: Duration) -> io::Result<()> {
    for (index, knock) in knocks.iter().enumerate() {
        if index > 0 && !gap.is_zero() {
            thread::sleep(gap);
        }
        let mut address = host;
        address.set_port(knock.port.get());
        match knock.protocol {
            Protocol::Tcp => tcp(address)?,
            Protocol::Udp => udp(address)?,
        }
    }
    Ok(())
}

fn tcp(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Ip::TCP))?;
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => Ok(()),
        Err(error) if sent_anyway(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn udp(address: SocketAddr) -> io::Result<()> {
    let any: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    match socket.send_to(&[], address) {
        Ok(_) => Ok(()),
        Err(error) if sent_anyway(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The connection is under way, or the other side refused it: either way the knock has arrived or is
/// going to.
fn sent_anyway(error: &io::Error) -> bool {
    let under_way = rustix::io::Errno::INPROGRESS.raw_os_error();
    error.raw_os_error() == Some(under_way)
        || matches!(
            error.kind(),
            io::ErrorKind::WouldBlock
                | io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
        )
}
