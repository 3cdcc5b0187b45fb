//! The engine: Redis or Valkey, over two connections, each with a thread of its own. What is slow or hangs
//! there keeps nobody waiting here.
//!
//! One connection listens. The other one asks, does what it is told, and says when it is done: it is told no
//! more before. Both are made anew when they break; whoever hears of it reconciles.

use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use redis::io::tcp::TcpSettings;
use redis::{
    Client, Connection, ConnectionAddr, IntoConnectionInfo, RedisError, TlsCertificates, Value, cmd,
};

use crate::ask::{self, publish, read, words};
use crate::exchange::{Ask, Heard};
use crate::message::{CHANNEL, LONGEST};
use toctoc::policy::{Engine, Password};

/// Where and how to reach it.
#[derive(Debug, Clone)]
pub struct Address {
    pub engine: Engine,
    pub password: Option<Password>,
    /// The certificate (PEM) that the engine's comes from; `None` for those that this host trusts.
    pub authority: Option<Vec<u8>>,
}

/// The longest time for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// For so many times as long as this host takes to say again that it is there
/// ([`beat`](crate::ledger::Ledger::beat)) nobody says anything, not even this host: the connection is broken.
const SILENCE: u32 = 4;

/// The longest time for the engine to let go of a listener.
const GOODBYE: Duration = Duration::from_millis(100);

/// The pause before another try.
const PAUSE: Duration = Duration::from_millis(500);

/// So much may wait to be heard. Then the engine waits too.
const WAITING: usize = 4096;

/// Where what is heard is put: a queue, and a byte that wakes whoever polls.
#[derive(Clone)]
struct Ears {
    queue: SyncSender<Heard>,
    wake: Arc<UnixStream>,
}

impl Ears {
    /// Says whether there is still somebody.
    fn tell(&self, heard: Heard) -> bool {
        let there = self.queue.send(heard).is_ok();
        // When it is full it wakes already.
        let _ = (&*self.wake).write(&[0]);
        there
    }
}

/// The two connections.
pub struct Link {
    pub heard: Receiver<Heard>,
    /// Can be read when something is heard.
    pub woken: UnixStream,
    ask: SyncSender<Ask>,
    wake: Arc<UnixStream>,
    /// Within how many milliseconds this host says again that it is there.
    beat: Arc<AtomicU32>,
}

impl Link {
    /// Begins to connect, and never ceases to.
    ///
    /// # Errors
    /// When the system gives no sockets or threads.
    pub fn start(address: &Address) -> std::io::Result<Link> {
        let (queue, heard) = sync_channel(WAITING);
        let (ask, asked) = sync_channel(1);
        let (woken, wake) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        wake.set_nonblocking(true)?;
        let wake = Arc::new(wake);
        let ears = Ears {
            queue,
            wake: Arc::clone(&wake),
        };
        let (listener, teller) = (address.clone(), address.clone());
        let to_listen = ears.clone();
        let beat = Arc::new(AtomicU32::new(2000));
        let own_beat = Arc::clone(&beat);
        thread::Builder::new()
            .name("listens".to_string())
            .spawn(move || listen(&listener, &to_listen, &own_beat))?;
        thread::Builder::new()
            .name("tells".to_string())
            .spawn(move || tell(&teller, &ears, &asked))?;
        Ok(Link {
            heard,
            woken,
            ask,
            wake,
            beat,
        })
    }

    /// This host will say something again within so many milliseconds, and hear it.
    pub fn expect_a_word_within(&self, milliseconds: i64) {
        let milliseconds = u32::try_from(milliseconds).unwrap_or(u32::MAX);
        self.beat.store(milliseconds, Ordering::Relaxed);
    }

    /// Asks for something, after the answer to what was asked before.
    pub fn ask(&self, ask: Ask) {
        let _ = self.ask.try_send(ask);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.wake.shutdown(Shutdown::Both);
    }
}

/// The connection that listens.
fn listen(address: &Address, ears: &Ears, beat: &AtomicU32) {
    loop {
        let why = match connect(address) {
            Ok(mut connection) => match hear(&mut connection, ears, beat) {
                Ok(()) => return,
                Err(error) => error,
            },
            Err(error) => error,
        };
        if !ears.tell(Heard::Deaf(why)) {
            return;
        }
        thread::sleep(PAUSE);
    }
}

/// Returns when nobody is there any more.
fn hear(connection: &mut Connection, ears: &Ears, beat: &AtomicU32) -> Result<(), String> {
    // The library takes a refusal for a yes.
    let asked = cmd("SUBSCRIBE").arg(CHANNEL).get_packed_command();
    let answer = connection
        .send_packed_command(&asked)
        .and_then(|()| connection.recv_response())
        .map_err(|error| words(&error))?;
    if let Value::ServerError(error) = answer {
        return Err(words(&RedisError::from(error)));
    }
    let mut subscribed = connection.as_pubsub();
    let heard = subscribed
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| subscribed.subscribe(CHANNEL));
    heard.map_err(|error| words(&error))?;
    if !ears.tell(Heard::Listening) {
        return Ok(());
    }
    let mut within = 0;
    loop {
        let now = beat.load(Ordering::Relaxed);
        if now != within {
            within = now;
            let silence = Duration::from_millis(u64::from(within)) * SILENCE;
            let set = subscribed.set_read_timeout(Some(silence));
            set.map_err(|error| words(&error))?;
        }
        let message = match subscribed.get_message() {
            Ok(message) => message,
            Err(error) => {
                // To end, it waits once more for as long.
                let _ = subscribed.set_read_timeout(Some(GOODBYE));
                return Err(words(&error));
            }
        };
        let bytes = message.get_payload_bytes();
        // One byte more tells that it is too long.
        let bytes = &bytes[..bytes.len().min(LONGEST + 1)];
        if !ears.tell(Heard::Message(bytes.to_vec())) {
            return Ok(());
        }
    }
}

/// The connection that asks.
fn tell(address: &Address, ears: &Ears, asked: &Receiver<Ask>) {
    loop {
        let why = match connect(address) {
            Ok(mut connection) => match answer(&mut connection, ears, asked) {
                Ok(()) => return,
                Err(error) => error,
            },
            Err(error) => error,
        };
        // Questions that came meanwhile are asked again by the agent that hears of this.
        let _ = asked.try_recv();
        if !ears.tell(Heard::Mute(why)) {
            return;
        }
        if let Err(RecvTimeoutError::Disconnected) = asked.recv_timeout(PAUSE) {
            return;
        }
    }
}

/// Returns when nobody is there any more.
fn answer(connection: &mut Connection, ears: &Ears, asked: &Receiver<Ask>) -> Result<(), String> {
    let look = ask::look(connection).map_err(|error| ask::why(connection, error))?;
    if !ears.tell(Heard::Ready(look)) {
        return Ok(());
    }
    loop {
        let Ok(ask) = asked.recv() else {
            return Ok(());
        };
        match ask {
            Ask::Read => {
                if !read(connection, |texts, last, cut| {
                    ears.tell(Heard::Kept { texts, last, cut })
                })? {
                    return Ok(());
                }
            }
            Ask::Tell(tellings) => {
                let (refused, why) = publish(connection, &tellings)?;
                let look = ask::look(connection)?;
                if !ears.tell(Heard::Told { look, refused, why }) {
                    return Ok(());
                }
            }
        }
    }
}

fn connect(address: &Address) -> Result<Connection, String> {
    let engine = &address.engine;
    let to = match engine.tls {
        false => ConnectionAddr::Tcp(engine.host.clone(), engine.port),
        true => ConnectionAddr::TcpTls {
            host: engine.host.clone(),
            port: engine.port,
            insecure: false,
            tls_params: None,
        },
    };
    let info = to.into_connection_info().map_err(|error| words(&error))?;
    // Neither user nor password nor database: they are sent below, and kept by nobody.
    let quiet = info.redis_settings().clone().set_skip_set_lib_name();
    // Data that is not acknowledged in time is not sent any more: it would come late.
    let lasting = TcpSettings::default()
        .set_nodelay(true)
        .set_user_timeout(PATIENCE);
    let info = info.set_redis_settings(quiet).set_tcp_settings(lasting);
    let certificates = TlsCertificates {
        client_tls: None,
        root_cert: address.authority.clone(),
    };
    let client = match engine.tls {
        false => Client::open(info),
        true => Client::build_with_tls(info, certificates),
    };
    let mut connection = client
        .and_then(|client| client.get_connection_with_timeout(PATIENCE))
        .map_err(|error| words(&error))?;
    connection
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| connection.set_write_timeout(Some(PATIENCE)))
        .map_err(|error| words(&error))?;
    if let Some(password) = &address.password {
        let mut auth = cmd("AUTH");
        if let Some(user) = &engine.user {
            auth.arg(user);
        }
        auth.arg(password.reveal());
        auth.exec(&mut connection)
            .map_err(|error| ask::why(&mut connection, words(&error)))?;
    }
    if engine.database != 0 {
        let mut select = cmd("SELECT");
        select.arg(engine.database);
        select
            .exec(&mut connection)
            .map_err(|error| ask::why(&mut connection, words(&error)))?;
    }
    Ok(connection)
}
