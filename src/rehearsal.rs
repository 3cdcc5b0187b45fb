//! A policy tried before it is applied: on two hosts in namespaces of its own, with each of its keys, by
//! the real client. Nothing of this host's firewall is read or changed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::num::NonZeroU16;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::client::profile::{self, Way};
use crate::client::{
    Door as Met, Outside, Packets, Plan, connect, enter, send_knock, send_signed, send_token,
};
use crate::firewall::apply::apply;
use crate::firewall::tokens::{clocks, note_new};
use crate::firewall::{Failure, Firewall, StateFile, by_hand};
use crate::held::Grant;
use crate::knock::{Knock, Protocol};
use crate::lab::{CLIENT, Lab, SERVER};
use crate::policy::{Door, DoorId, DoorIndex, Interfaces, Key, KeyKind, Policy};
use crate::signed::Binding;

/// The pause after each packet: here no network is slow.
const GAP: Duration = Duration::from_millis(1);

/// The time that a door that should not open is tried.
const SHUT: Duration = Duration::from_millis(200);

/// The longest time to wait for a grant without a connection.
const PATIENCE: Duration = Duration::from_secs(2);

/// So many ports are tried at the same time.
const TOGETHER: usize = 64;

/// Addresses for the client that are nobody's, should a door trust the first of them.
const CLIENTS: [[&str; 4]; 2] = [
    [CLIENT[0], "198.51.100.7", "203.0.113.7", "100.64.0.7"],
    [CLIENT[1], "2001:db8:7::7", "2001:db8:ffff::7", "fd07::7"],
];

/// The result of a rehearsal.
#[derive(Debug, Default, Serialize)]
pub struct Rehearsed {
    /// The number of times that a key has opened all its doors.
    pub opened: usize,
    /// The keys that were tried.
    pub keys: usize,
    /// The differences from the policy, a sentence each.
    pub wrong: Vec<String>,
    /// The parts that could not be tried, a sentence each.
    pub left_out: Vec<String>,
}

/// Why there was no rehearsal.
#[derive(Debug)]
pub enum Stopped {
    /// There are no namespaces to be had.
    Lab(io::Error),
    /// The kernel does not take the policy.
    Refused(Failure),
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Stopped {
        Stopped::Lab(error)
    }
}

/// Applies the policy to a host that exists only for it; tries all doors without a key, then each key that
/// has not expired. `now` is in seconds since 1970.
///
/// # Errors
/// When it could not be tried.
pub fn rehearse(policy: &Policy, now: i64) -> Result<Rehearsed, Stopped> {
    let lab = Lab::with_interface(interface(policy))?;
    let directory = Directory::make()?;
    let mut rehearsed = Rehearsed::default();
    for door in policy.doors.iter().filter(|door| !door.is_served_here()) {
        let what = "it leads to other hosts, and there are none here";
        rehearsed
            .left_out
            .push(format!("the way through door {}: {what}", door.name));
    }
    let clients = clients(&lab, policy, &mut rehearsed)?;
    let stage = Stage {
        policy,
        firewall: Firewall {
            state: StateFile::within(&directory.0),
            ..Firewall::default()
        },
        listeners: listen(&lab, policy)?,
        lab: &lab,
        clients,
        now,
    };
    stage.apply()?;
    stage.try_without(&mut rehearsed)?;
    for key in &policy.keys {
        stage.try_key(key, &mut rehearsed)?;
    }
    Ok(rehearsed)
}

/// An interface that the policy guards.
fn interface(policy: &Policy) -> &str {
    match &policy.interfaces {
        Interfaces::Only(names) => names.first().map_or("eth0", String::as_str),
        Interfaces::AllButLoopback => "eth0",
    }
}

/// An address in each family that no door trusts, and makes it the client's.
fn clients(
    lab: &Lab,
    policy: &Policy,
    rehearsed: &mut Rehearsed,
) -> io::Result<Vec<(IpAddr, IpAddr)>> {
    let mut found = Vec::new();
    for (candidates, server) in CLIENTS.iter().zip(SERVER) {
        let server: IpAddr = server.parse().map_err(io::Error::other)?;
        let trusted = |address: &IpAddr| {
            let mut trust = policy.doors.iter().flat_map(|door| &door.trust);
            trust.any(|network| network.contains(address))
        };
        let addresses = candidates.iter().filter_map(|text| text.parse().ok());
        let Some(client) = addresses.into_iter().find(|address| !trusted(address)) else {
            let family = if server.is_ipv4() { "IPv4" } else { "IPv6" };
            rehearsed.left_out.push(format!(
                "{family}: a door trusts every address that could be tried"
            ));
            continue;
        };
        lab.speak_from(client, server)?;
        found.push((client, server));
    }
    Ok(found)
}

/// A program behind each TCP port of each door, in both families; of a range, behind its ends.
fn listen(lab: &Lab, policy: &Policy) -> io::Result<Vec<TcpListener>> {
    let ports = policy.doors.iter().flat_map(tried);
    let ports: BTreeSet<u16> = ports.map(|port| port.port.get()).collect();
    lab.server.inside(|| {
        let listener = |port| {
            let listener = TcpListener::bind(("::", port))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        ports.into_iter().map(listener).collect()
    })?
}

/// The TCP ports of a door that are tried: all, but of a range only the first and the last.
fn tried(door: &Door) -> BTreeSet<Knock> {
    let tcp = door.ports.iter().filter(|_| door.is_served_here());
    let tcp = tcp.filter(|ports| ports.protocol() == Protocol::Tcp);
    tcp.flat_map(|ports| [ports.first(), ports.last()])
        .collect()
}

struct Stage<'p> {
    policy: &'p Policy,
    firewall: Firewall,
    listeners: Vec<TcpListener>,
    lab: &'p Lab,
    /// Addresses of the client and of the server, by family.
    clients: Vec<(IpAddr, IpAddr)>,
    now: i64,
}

impl Stage<'_> {
    fn apply(&self) -> Result<(), Stopped> {
        let done = self.lab.server.inside(|| {
            for (_, secret) in self.policy.token_keys() {
                // Otherwise its tokens would be waited for.
                note_new(&self.firewall.state, secret, clocks())?;
            }
            apply(&self.firewall, self.policy, clocks())
        })?;
        done.map(|_| ()).map_err(Stopped::Refused)
    }

    /// Nobody has knocked: all doors are shut.
    fn try_without(&self, rehearsed: &mut Rehearsed) -> io::Result<()> {
        let doors = self.policy.doors.iter();
        let ports =
            doors.flat_map(|door| tried(door).into_iter().map(move |port| (&door.name, port)));
        let mut open: Vec<_> = ports
            .flat_map(|(name, port)| self.clients.iter().map(move |c| (name, port, c.1)))
            .collect();
        let mut found = Vec::new();
        self.lab.client.inside(|| {
            for some in open.chunks_mut(TOGETHER) {
                let met = thread::scope(|scope| {
                    let tries: Vec<_> = some
                        .iter()
                        .map(|(name, port, server)| {
                            let to = SocketAddr::new(*server, port.port.get());
                            (name, port, scope.spawn(move || connect(to, SHUT)))
                        })
                        .collect();
                    let joined = tries.into_iter().filter_map(|(name, port, met)| {
                        let met = met.join().ok()?;
                        matches!(met, Ok(Met::Open)).then(|| (name.to_string(), *port))
                    });
                    joined.collect::<Vec<_>>()
                });
                found.extend(met);
            }
        })?;
        found.dedup();
        rehearsed
            .wrong
            .extend(found.into_iter().map(|(door, port)| {
                format!("door {door} is open to everyone at {port}, though nobody has knocked")
            }));
        Ok(())
    }

    fn try_key(&self, key: &Key, rehearsed: &mut Rehearsed) -> Result<(), Stopped> {
        if key.expired(self.now) {
            rehearsed
                .left_out
                .push(format!("key {} has expired", key.name));
            return Ok(());
        }
        rehearsed.keys += 1;
        let burns = matches!(key.kind, KeyKind::Scratch(_));
        for (number, way) in self.ways(key).iter().enumerate() {
            for (client, server) in &self.clients {
                let shown = match burns {
                    true => format!("sequence {} of key {}", number + 1, key.name),
                    false => format!("key {}", key.name),
                };
                match self.try_way(key, way, *client, *server)? {
                    Ok(()) => rehearsed.opened += 1,
                    Err(what) => rehearsed.wrong.push(format!("{shown} {what}")),
                }
                if burns {
                    break;
                }
            }
        }
        Ok(())
    }

    fn ways(&self, key: &Key) -> Vec<Way> {
        match (&key.kind, self.policy.token_port) {
            (KeyKind::Token(secret), Some(port)) => vec![Way::Token(secret.clone(), port)],
            (KeyKind::Signed(signed), Some(port)) => vec![Way::Signed(profile::Signed {
                secret: signed.secret.clone(),
                port,
                binding: Binding::Address,
                from: Outside::Own,
            })],
            _ => key.sequences().iter().cloned().map(Way::Sequence).collect(),
        }
    }

    /// Knocks as the client does, and goes through each door of the key.
    fn try_way(
        &self,
        key: &Key,
        way: &Way,
        client: IpAddr,
        server: IpAddr,
    ) -> Result<Result<(), String>, Stopped> {
        for listener in &self.listeners {
            while listener.accept().is_ok() {}
        }
        let plan = Plan::new(way, GAP, None, self.now, &[]);
        let doors: Vec<DoorIndex> = key.opens.iter().map(|opening| opening.door).collect();
        let tcp = |door: &DoorIndex| {
            let door = self.policy.door(*door);
            let ports = door.ports.iter().filter(|_| door.is_served_here());
            let mut tcp = ports.filter(|ports| ports.protocol() == Protocol::Tcp);
            tcp.next().map(|ports| ports.last().port)
        };
        let mut by_tcp: Vec<(DoorIndex, NonZeroU16)> = doors
            .iter()
            .filter_map(|door| Some((*door, tcp(door)?)))
            .collect();
        let name = |door: &DoorIndex| &self.policy.door(*door).name;
        let stop = AtomicBool::new(false);
        match by_tcp.pop() {
            Some((door, port)) => {
                let to = SocketAddr::new(server, port.get());
                let entered = self.lab.client.inside(|| enter(to, port, &plan, &stop))??;
                if entered.is_err() {
                    return Ok(Err(format!("does not open door {}", name(&door))));
                }
            }
            None => {
                let to = SocketAddr::new(server, 0);
                let packets = plan.next(0).map(|first| &first.packets);
                self.lab.client.inside(|| match packets {
                    Some(Packets::Knocks(knocks)) => knocks.iter().try_for_each(|knock| {
                        thread::sleep(GAP);
                        send_knock(to, *knock)
                    }),
                    Some(Packets::Token(token, port)) => send_token(to, *port, token),
                    Some(Packets::Signed(signed)) => send_signed(to, signed),
                    None => Ok(()),
                })??;
            }
        }
        let deadline = Instant::now() + PATIENCE;
        let held = loop {
            let held = self.held_by(client)?;
            let all = doors
                .iter()
                .all(|door| held.contains(&name(door).door_id()));
            if all || key.once || Instant::now() > deadline {
                break held;
            }
            thread::sleep(Duration::from_millis(20));
        };
        for door in &doors {
            if !key.once && !held.contains(&name(door).door_id()) {
                return Ok(Err(format!("gives no grant for door {}", name(door))));
            }
        }
        let own: BTreeSet<DoorId> = doors.iter().map(|door| name(door).door_id()).collect();
        if let Some(other) = held.difference(&own).next() {
            let mut all = self.policy.doors.iter();
            let door = all.find(|door| door.name.door_id() == *other);
            let door = door.map_or("of no name", |door| door.name.as_str());
            return Ok(Err(format!("opens door {door} too")));
        }
        for (door, port) in by_tcp {
            let to = SocketAddr::new(server, port.get());
            let met = self.lab.client.inside(|| connect(to, PATIENCE))??;
            if met != Met::Open {
                return Ok(Err(format!("does not open door {}", name(&door))));
            }
        }
        let closed = self
            .lab
            .server
            .inside(|| by_hand::close(&self.firewall, None, None, None))?;
        closed.map_err(Stopped::Refused)?;
        Ok(Ok(()))
    }

    /// The doors that an address holds grants for.
    fn held_by(&self, client: IpAddr) -> Result<BTreeSet<DoorId>, Stopped> {
        let grants = self.lab.server.inside(|| self.firewall.grants())?;
        let grants = grants.map_err(Stopped::Refused)?;
        let own = |grant: &&Grant| grant.source.contains(&client);
        Ok(grants.iter().filter(own).map(|grant| grant.door).collect())
    }
}

/// Where the host that exists only for this remembers things.
struct Directory(PathBuf);

impl Directory {
    fn make() -> io::Result<Directory> {
        let number = getrandom::u64().map_err(io::Error::other)?;
        let path = std::env::temp_dir().join(format!("toctoc-rehearsal-{number:016x}"));
        fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Directory(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
