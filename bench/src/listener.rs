//! A program on the server that takes connections, and knows when.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};

use rustix::net::{Shutdown, shutdown};
use toctoc::lab::{Host, SERVER};

/// It takes connections, one after the other, until it is dropped.
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    socket: Arc<TcpListener>,
    first: Arc<First>,
    thread: Option<JoinHandle<()>>,
}

/// When the first connection was taken since somebody asked.
#[derive(Default)]
struct First(Mutex<Option<Instant>>, Condvar);

impl Listener {
    /// Closes each connection at once.
    pub fn at(server: &Host, port: u16) -> io::Result<Listener> {
        Listener::with(server, port, drop)
    }

    /// Does this with each connection.
    pub fn with(server: &Host, port: u16, serve: fn(TcpStream)) -> io::Result<Listener> {
        Listener::begin(server, SERVER[0], port, serve)
    }

    /// Closes each connection at once, at this address of the server.
    pub fn on(server: &Host, address: &str, port: u16) -> io::Result<Listener> {
        Listener::begin(server, address, port, drop)
    }

    fn begin(
        server: &Host,
        address: &str,
        port: u16,
        serve: fn(TcpStream),
    ) -> io::Result<Listener> {
        let address: IpAddr = address.parse().map_err(io::Error::other)?;
        let address = SocketAddr::new(address, port);
        let socket = Arc::new(server.inside(|| TcpListener::bind(address))??);
        let first = Arc::new(First::default());
        let (taker, told) = (socket.clone(), first.clone());
        let thread = spawn(move || {
            while let Ok((stream, _)) = taker.accept() {
                told.tell(Instant::now());
                serve(stream);
            }
        });
        Ok(Listener {
            address,
            socket,
            first,
            thread: Some(thread),
        })
    }

    /// Connections that were taken until now do not count.
    pub fn forget(&self) {
        *self.first.lock() = None;
    }

    /// When the first connection was taken, which may be still to come.
    pub fn taken(&self, limit: Duration) -> Option<Instant> {
        let nothing = |first: &mut Option<Instant>| first.is_none();
        let First(_, changed) = &*self.first;
        let waited = changed.wait_timeout_while(self.first.lock(), limit, nothing);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl First {
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, now: Instant) {
        self.lock().get_or_insert(now);
        self.1.notify_all();
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Linux wakes who waits in `accept`.
        let _ = shutdown(&*self.socket, Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
