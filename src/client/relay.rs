//! Bytes between standard input and output and a connection, or the connection itself to who asked.

use std::fs::File;
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::mpsc::channel;
use std::thread;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Relays until both sides have said all they had to say, or one of them is gone. When one side ends,
/// the other is told and may go on. Takes standard output: it is closed afterwards.
///
/// # Errors
/// When the connection broke. That nobody reads standard output any more is no error.
pub fn relay(stream: TcpStream) -> io::Result<()> {
    // Keys that are typed go out at once, and a connection that is dead is noticed some day.
    stream.set_nodelay(true)?;
    socket2::SockRef::from(&stream).set_keepalive(true)?;
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    // So that the copy above is the last one, and who reads sees the end.
    rustix::stdio::dup2_stdout(File::options().write(true).open("/dev/null")?)?;
    let (sender, receiver) = channel();
    let (upward, told) = (stream.try_clone()?, sender.clone());
    thread::spawn(move || {
        let result = copy(stdin, &upward);
        told.send(
            match result.and_then(|()| upward.shutdown(Shutdown::Write)) {
                // The other side was faster.
                Err(error) if error.kind() == io::ErrorKind::NotConnected => End::Told,
                Err(error) => End::Broken(error),
                Ok(()) => End::Told,
            },
        )
    });
    thread::spawn(move || {
        sender.send(match copy(&stream, stdout) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => End::NobodyReads,
            Err(error) => End::Broken(error),
            Ok(()) => End::Told,
        })
    });
    for _ in 0..2 {
        match receiver.recv() {
            Ok(End::Told) => {}
            Ok(End::Broken(error)) => return Err(error),
            Ok(End::NobodyReads) | Err(_) => return Ok(()),
        }
    }
    Ok(())
}

/// The end of one direction.
enum End {
    /// Nothing more comes, and the other side knows.
    Told,
    NobodyReads,
    Broken(io::Error),
}

/// As much as is passed on at once.
const PART: usize = 256 << 10;

/// Until the end of what comes. What is there is passed on at once, not when there is more.
fn copy(mut from: impl Read + AsFd, mut to: impl Write + AsFd) -> io::Result<()> {
    let mut part = vec![0; PART];
    loop {
        let length = match from.read(&mut part) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) => {
                later(error, &from, PollFlags::IN)?;
                continue;
            }
        };
        let mut left = &part[..length];
        while !left.is_empty() {
            match to.write(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => left = &left[written..],
                Err(error) => later(error, &to, PollFlags::OUT)?,
            }
        }
    }
}

/// Waits if an error says no more than "not now": whoever started us may have made our standard input or
/// output so.
fn later(error: io::Error, what: &impl AsFd, ready: PollFlags) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::Interrupted => Ok(()),
        io::ErrorKind::WouldBlock => match poll(&mut [PollFd::new(what, ready)], None) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        },
        _ => Err(error),
    }
}

/// Hands the connection over to who holds the other end of standard output, which has to be a socket:
/// `ProxyUseFdpass` of OpenSSH. Nothing has to be relayed then.
///
/// # Errors
/// When standard output is no such socket.
pub fn hand_over(stream: &TcpStream) -> io::Result<()> {
    let stdout = io::stdout();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let connection = [stream.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&connection));
    sendmsg(
        stdout.as_fd(),
        &[IoSlice::new(&[0])],
        &mut control,
        SendFlags::empty(),
    )?;
    Ok(())
}
