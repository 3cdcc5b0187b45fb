//! Programs that people use in place of toctoc, each set up as its own documentation recommends.

mod classic;
mod fwknop;
mod knockd;
mod letmein;

pub use classic::{nc_loop, nmap_loop, with_knock};
pub use letmein::client as letmein_client;

use std::fs;
use std::io;

use crate::daemon::Daemon;
use crate::place::{Place, until};
use crate::policies::{DOOR, Sequence};
use crate::program::{self, Ended};

/// One of them, on two hosts of its own. Nothing of it runs any more when this is dropped.
pub struct Peer {
    pub name: &'static str,
    /// The way in which it is set up, and why.
    pub settings: &'static str,
    /// The command that the client's user types to knock.
    pub knock: String,
    /// The command that ends the grant of the client, and where it is typed.
    close: (Side, String),
    daemons: Vec<Daemon>,
    pub place: Place,
}

/// A host of the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Server,
    Client,
}

/// Sets one of them up, with this sequence if it has sequences; `None` when it is not installed.
pub type Install = fn(&Sequence) -> io::Result<Option<Peer>>;

/// All of them, by name.
pub const ALL: [(&str, Install); 4] = [
    ("classic script", classic::install),
    ("knockd", knockd::install),
    ("fwknop", fwknop::install),
    ("letmein", letmein::install),
];

impl Peer {
    /// Knocks as its user would; the door opens then or a little later.
    pub fn knock(&self) -> io::Result<Ended> {
        self.shell(Side::Client, &self.knock)
    }

    /// Shuts the door again, as its own daemon or its user would.
    pub fn close(&self) -> io::Result<()> {
        let (side, line) = &self.close;
        self.shell(*side, line)?.succeeded(&[line]).map(drop)
    }

    /// The processes that it keeps running.
    pub fn pids(&self) -> Vec<u32> {
        self.daemons.iter().map(|daemon| daemon.pid).collect()
    }

    /// Memory that all of them hold, in bytes, as they stand.
    pub fn resident(&self) -> io::Result<u64> {
        let of = |pid: u32| -> io::Result<u64> {
            let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            Ok(kib.unwrap_or(0) * 1024)
        };
        self.pids().into_iter().map(of).sum()
    }

    fn shell(&self, side: Side, line: &str) -> io::Result<Ended> {
        let host = match side {
            Side::Server => &self.place.lab.server,
            Side::Client => &self.place.lab.client,
        };
        host.inside(|| program::run(&mut self.place.command(&["sh", "-c", line])))?
    }

    /// Only a peer that works is one: shut before a knock, open after it, and shut when it was closed.
    fn tried(self) -> io::Result<Option<Peer>> {
        let place = &self.place;
        let _listener = place
            .lab
            .server
            .inside(|| std::net::TcpListener::bind(("0.0.0.0", DOOR)))??;
        let shut = |when: &str| match place.connects(DOOR)? {
            true => Err(io::Error::other(format!("{}: open {when}", self.name))),
            false => Ok(()),
        };
        shut("without a knock")?;
        // A daemon that has just been started may not hear yet.
        until("it opens", || {
            self.knock()?;
            place.connects(DOOR)
        })
        .map_err(|error| io::Error::other(format!("{}: {error}", self.name)))?;
        self.close()?;
        shut("after it was closed")?;
        Ok(Some(self))
    }
}

/// Everything but what belongs to connections is dropped, on iptables-legacy: what each of those that
/// add a rule of iptables to open says that there has to be.
const DROP_ALL: &str = "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n\
                        -A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT\n\
                        -A INPUT -i lo -j ACCEPT\nCOMMIT\n";

/// The ports of a sequence, one after the other.
fn joined(ports: &[u16], by: &str) -> String {
    let words: Vec<String> = ports.iter().map(u16::to_string).collect();
    words.join(by)
}
