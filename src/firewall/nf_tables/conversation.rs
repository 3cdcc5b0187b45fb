//! A conversation with the kernel about nf_tables.

use std::io;

use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_NETFILTER;

use super::super::netlink::{DONE, ERROR, Message, NEW_GENERATION, find, messages, number};
use super::super::netlink::{GET_GENERATION, request};

/// More than the kernel puts into one part of a list. The more it may, the faster a long list is: it goes through a
/// set from the beginning for each part.
const ROOM: usize = 128 << 10;

/// Room for the answers to a transaction, of which each part that is refused has one.
const ANSWERS: usize = 4 << 20;

/// `NFTA_GEN_ID`
const GENERATION: u16 = 1;

/// In the network namespace of this thread.
pub struct Conversation {
    socket: Socket,
    bytes: Vec<u8>,
}

impl Conversation {
    /// Begins one.
    ///
    /// # Errors
    /// When that is not permitted, or this is a kernel without netfilter.
    pub fn begin() -> io::Result<Conversation> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        Ok(Conversation {
            socket,
            bytes: Vec::with_capacity(ROOM),
        })
    }

    /// Asks for a list, and hands over what is in it.
    ///
    /// # Errors
    /// What the kernel says; `Interrupted` when the list was changed meanwhile.
    pub fn list(&mut self, request: &[u8], mut each: impl FnMut(Message<'_>)) -> io::Result<()> {
        self.socket.send(request, 0)?;
        let mut is_interrupted = false;
        loop {
            self.receive(0)?;
            let mut any = false;
            for message in messages(&self.bytes) {
                any = true;
                is_interrupted |= message.is_interrupted();
                match message.kind {
                    DONE | ERROR => {
                        refusal(&message)?;
                        return match is_interrupted {
                            true => Err(io::ErrorKind::Interrupted.into()),
                            false => Ok(()),
                        };
                    }
                    _ => each(message),
                }
            }
            if !any {
                return Err(strange());
            }
        }
    }

    /// Asks for one thing, and hands over the answer.
    ///
    /// # Errors
    /// What the kernel says; `NotFound` when there is no such thing.
    pub fn ask<T>(
        &mut self,
        request: &[u8],
        read: impl FnOnce(Message<'_>) -> Option<T>,
    ) -> io::Result<T> {
        self.socket.send(request, 0)?;
        self.receive(0)?;
        let message = messages(&self.bytes).next().ok_or_else(strange)?;
        if message.kind == ERROR {
            refusal(&message)?;
        }
        read(message).ok_or_else(strange)
    }

    /// Commits a [`batch`](super::super::netlink::batch): all of it or nothing.
    ///
    /// # Errors
    /// What the kernel says. Nothing was changed then, unless it is `InvalidData`: nobody knows.
    pub fn commit(&mut self, batch: &[u8]) -> io::Result<()> {
        let room = batch.len() + ROOM;
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&self.socket, room);
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&self.socket, ANSWERS);
        self.socket.send(batch, 0)?;
        // The kernel has answered before it comes back from that.
        self.socket.set_non_blocking(true)?;
        let (mut refused, mut is_acknowledged) = (Ok(()), false);
        loop {
            match self.receive(0) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    refused = refused.and(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
                    break;
                }
            }
            for message in messages(&self.bytes).filter(|message| message.kind == ERROR) {
                is_acknowledged = true;
                refused = refused.and(refusal(&message));
            }
        }
        self.socket.set_non_blocking(false)?;
        match is_acknowledged {
            true => refused,
            false => refused.and(Err(strange())),
        }
    }

    /// The number of the last transaction in this network namespace, of whomever.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn generation(&mut self) -> io::Result<u32> {
        self.ask(&request(GET_GENERATION, &[]), |message| {
            let of_kind = message.kind == NEW_GENERATION;
            find(message.attributes(), GENERATION)
                .filter(|_| of_kind)
                .and_then(number)
        })
    }

    fn receive(&mut self, flags: i32) -> io::Result<()> {
        self.bytes.clear();
        loop {
            match self.socket.recv(&mut self.bytes, flags) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => return received.map(|_| ()),
            }
        }
    }
}

/// What an answer refuses, if it does.
fn refusal(message: &Message<'_>) -> io::Result<()> {
    match message.error() {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code)),
        None => Err(strange()),
    }
}

fn strange() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer is none")
}
