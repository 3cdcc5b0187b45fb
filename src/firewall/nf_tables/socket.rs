//! The socket to nf_tables.

use std::io;
use std::ops::ControlFlow;

use netlink_sys::protocols::NETLINK_NETFILTER;

use super::super::netlink::{
    DONE, ERROR, GET_GENERATION, Message, NEW_GENERATION, find_number, messages, request,
};
use super::attributes::{about_ours, generation};

/// More than the kernel puts into one part of a listing. The more it may, the faster a long one is: it goes through a set
/// from the beginning for each part.
const ROOM: usize = 128 << 10;

/// Room for the answers to a transaction, of which each part that is refused has one.
const ANSWERS: usize = 4 << 20;

/// A socket to nf_tables, in the network namespace of the thread that opened it.
pub struct Socket(netlink_sys::Socket);

impl Socket {
    /// # Errors
    /// When the kernel has no netlink, or it is not permitted.
    pub fn open() -> io::Result<Socket> {
        let mut socket = netlink_sys::Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        Ok(Socket(socket))
    }

    /// Asks for one thing, and hands over the answer.
    ///
    /// # Errors
    /// An error of the kernel; `NotFound` when there is no such thing.
    pub fn ask_for<T>(
        &self,
        question: &[u8],
        read: impl FnOnce(Message<'_>) -> Option<T>,
    ) -> io::Result<T> {
        self.0.send(question, 0)?;
        let mut bytes = Vec::with_capacity(ROOM);
        self.receive(&mut bytes)?;
        answer(&bytes, read)
    }

    /// Hands over every message of a listing about our table.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or refuses.
    pub fn list(&self, question: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
        self.list_until(question, |told| {
            each(told);
            ControlFlow::Continue(())
        })
    }

    /// The same, until `each` breaks it off. Do not use this socket afterwards.
    ///
    /// # Errors
    /// As for [`list`](Socket::list).
    pub fn list_until(
        &self,
        question: &[u8],
        mut each: impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let each = |message: Message<'_>| match about_ours(&message) {
            Some(told) => each(told),
            None => ControlFlow::Continue(()),
        };
        self.hear(question, each).map(|_| ())
    }

    /// Hands over every message of a listing that nobody has changed meanwhile.
    ///
    /// # Errors
    /// An error of the kernel; `Interrupted` when somebody has.
    pub fn list_at_once(
        &self,
        request: &[u8],
        mut each: impl FnMut(Message<'_>),
    ) -> io::Result<()> {
        let each = |message: Message<'_>| {
            each(message);
            ControlFlow::Continue(())
        };
        match self.hear(request, each)? {
            Told::AtOnce => Ok(()),
            Told::Interrupted => Err(io::ErrorKind::Interrupted.into()),
        }
    }

    /// Commits a [`batch`](super::super::netlink::batch): all of it or nothing. Do not use this socket afterwards.
    ///
    /// # Errors
    /// `InvalidData`: whether anything was changed is unknown. Any other error: nothing was changed.
    pub fn commit(&self, batch: &[u8]) -> io::Result<()> {
        let room = batch.len() + ROOM;
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&self.0, room);
        let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&self.0, ANSWERS);
        self.0.send(batch, 0)?;
        // The kernel has answered before it comes back from that.
        self.0.set_non_blocking(true)?;
        let mut bytes = Vec::with_capacity(ROOM);
        let (mut refused, mut is_answered) = (Ok(()), false);
        loop {
            match self.receive(&mut bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
            for message in messages(&bytes).filter(|message| message.kind == ERROR) {
                is_answered = true;
                refused = refused.and(refusal(&message));
            }
        }
        match is_answered {
            true => refused,
            false => Err(strange()),
        }
    }

    /// The number of the last transaction in this network namespace, of whomever.
    ///
    /// # Errors
    /// An error of the kernel.
    pub fn generation(&self) -> io::Result<u64> {
        self.ask_for(&request(GET_GENERATION, &[]), |message| {
            let told = (message.kind == NEW_GENERATION).then_some(message.attributes())?;
            find_number(told, generation::ID)
        })
    }

    fn hear(
        &self,
        request: &[u8],
        mut each: impl FnMut(Message<'_>) -> ControlFlow<()>,
    ) -> io::Result<Told> {
        self.0.send(request, 0)?;
        let mut bytes = Vec::with_capacity(ROOM);
        let mut told = Told::AtOnce;
        loop {
            self.receive(&mut bytes)?;
            let mut any = false;
            for message in messages(&bytes) {
                any = true;
                if message.is_interrupted() {
                    told = Told::Interrupted;
                }
                match message.kind {
                    DONE | ERROR => {
                        refusal(&message)?;
                        return Ok(told);
                    }
                    _ if each(message).is_break() => return Ok(told),
                    _ => {}
                }
            }
            if !any {
                return Err(strange());
            }
        }
    }

    fn receive(&self, bytes: &mut Vec<u8>) -> io::Result<()> {
        bytes.clear();
        loop {
            match self.0.recv(bytes, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => return received.map(|_| ()),
            }
        }
    }
}

/// The way in which a listing was told.
enum Told {
    AtOnce,
    /// Something was changed meanwhile.
    Interrupted,
}

/// Reads the first message of an answer.
pub(super) fn answer<T>(
    bytes: &[u8],
    read: impl FnOnce(Message<'_>) -> Option<T>,
) -> io::Result<T> {
    let message = messages(bytes).next().ok_or_else(strange)?;
    if message.kind == ERROR {
        refusal(&message)?;
    }
    read(message).ok_or_else(strange)
}

/// The refusal in an answer, if there is one.
fn refusal(message: &Message<'_>) -> io::Result<()> {
    match message.error() {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code)),
        None => Err(strange()),
    }
}

fn strange() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the kernel's answer could not be understood",
    )
}
