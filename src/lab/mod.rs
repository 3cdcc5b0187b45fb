//! A network in a bottle: hosts as network namespaces, joined by a virtual cable.
//!
//! For the demo and the tests. Everything is reached through threads that move into a host's
//! namespace; when the last handle is dropped the kernel takes the namespaces away, cable and all.
//!
//! ```text
//!   server                                    client
//!   192.0.2.1/24      eth0 ------------ eth0  192.0.2.7/24, .9 (a stranger at the same cable)
//!   2001:db8::1/64                            2001:db8::7/64, ::9
//! ```

use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::firewall::run;

/// One host: a network namespace of its own.
#[derive(Debug)]
pub struct Host {
    namespace: File,
    /// A process that does nothing but keep the namespace reachable by its number. It ends when its
    /// standard input does, which is when we do.
    holder: Child,
}

impl Host {
    /// Makes a host with nothing but loopback.
    ///
    /// # Errors
    /// When namespaces are not permitted: a sentence says what to do.
    pub fn new() -> io::Result<Host> {
        let named = format!("toctoc-lab-{}", std::process::id());
        let mut holder = Command::new("unshare")
            .args(["--net", "--", "sh", "-c", "echo && read -r _", &named])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("`unshare`: {error}")))?;
        let mut ready = [0];
        let started = holder.stdout.as_mut().map(|out| out.read_exact(&mut ready));
        if !matches!(started, Some(Ok(()))) {
            let mut said = String::new();
            if let Some(mut stderr) = holder.stderr.take() {
                let _ = stderr.read_to_string(&mut said);
            }
            let _ = holder.wait();
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!("no network namespace can be made here: {}", said.trim()),
            ));
        }
        let namespace = File::open(format!("/proc/{}/ns/net", holder.id()))?;
        let host = Host { namespace, holder };
        host.ip("link set lo up")?;
        Ok(host)
    }

    /// Runs a function on this host: in a thread inside its namespace. Programs that it starts are
    /// on this host too.
    pub fn inside<T: Send>(&self, function: impl FnOnce() -> T + Send) -> io::Result<T> {
        let namespace = &self.namespace;
        thread::scope(|scope| {
            let worker = scope.spawn(move || {
                move_into_link_name_space(
                    std::os::fd::AsFd::as_fd(namespace),
                    Some(LinkNameSpaceType::Network),
                )?;
                Ok(function())
            });
            match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs `ip` with these words on this host.
    pub fn ip(&self, words: &str) -> io::Result<()> {
        let command: Vec<&str> = std::iter::once("ip").chain(words.split(' ')).collect();
        let ended = self.inside(|| run(&command, ""))?;
        let ended =
            ended.map_err(|error| io::Error::new(error.kind(), format!("`ip`: {error}")))?;
        if ended.succeeded() {
            return Ok(());
        }
        let said = ended.stderr.trim();
        Err(io::Error::other(format!("ip {words}: {said}")))
    }

    /// The number of the process that holds the namespace, for `nsenter` and `ip ... netns`.
    pub fn pid(&self) -> u32 {
        self.holder.id()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// Two hosts and the cable between them, as drawn above.
#[derive(Debug)]
pub struct Lab {
    pub server: Host,
    pub client: Host,
    /// The name of the server's end of the cable.
    interface: String,
}

/// Addresses of the [`Lab`], IPv4 and IPv6.
pub const SERVER: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
pub const CLIENT: [&str; 2] = ["192.0.2.7", "2001:db8::7"];
pub const STRANGER: [&str; 2] = ["192.0.2.9", "2001:db8::9"];

/// Hardware addresses of the server's and the client's end of the cable.
const MAC: [&str; 2] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];

impl Lab {
    /// Makes both hosts and joins them.
    ///
    /// # Errors
    /// As for [`Host::new`], or when `ip` is missing.
    pub fn new() -> io::Result<Lab> {
        Lab::with_interface("eth0")
    }

    /// The same; the server's end of the cable has this name.
    ///
    /// # Errors
    /// As for [`Lab::new`], or when that is no name for an interface.
    pub fn with_interface(name: &str) -> io::Result<Lab> {
        let lab = Lab {
            server: Host::new()?,
            client: Host::new()?,
            interface: name.to_string(),
        };
        let client = lab.client.pid();
        lab.server.ip(&format!(
            "link add {name} address {} type veth peer name eth0 address {} netns {client}",
            MAC[0], MAC[1]
        ))?;
        let (ours, theirs) = ([SERVER].as_slice(), [CLIENT, STRANGER].as_slice());
        for (host, name, own, other, mac) in [
            (&lab.server, name, ours, theirs, MAC[1]),
            (&lab.client, "eth0", theirs, ours, MAC[0]),
        ] {
            for [v4, v6] in own {
                host.ip(&format!("addr add {v4}/24 dev {name}"))?;
                host.ip(&format!("addr add {v6}/64 dev {name} nodad"))?;
            }
            host.ip(&format!("link set {name} up"))?;
            // Nobody has to be asked who is who: no packet waits for an answer.
            for address in other.iter().flatten() {
                host.ip(&format!(
                    "neigh add {address} lladdr {mac} dev {name} nud permanent"
                ))?;
            }
        }
        lab.wait_until_joined()?;
        Ok(lab)
    }

    /// The client speaks to the server from this address, which may be a new one.
    ///
    /// # Errors
    /// When `ip` refuses.
    pub fn speak_from(&self, client: IpAddr, server: IpAddr) -> io::Result<()> {
        let length = match client {
            IpAddr::V4(_) => 32,
            IpAddr::V6(_) => 128,
        };
        let (name, [_, mac]) = (&self.interface, MAC);
        let nodad = if client.is_ipv6() { " nodad" } else { "" };
        self.client
            .ip(&format!("addr replace {client}/{length} dev eth0{nodad}"))?;
        self.client
            .ip(&format!("route replace {server} dev eth0 src {client}"))?;
        self.server
            .ip(&format!("route replace {client} dev {name}"))?;
        self.server.ip(&format!(
            "neigh replace {client} lladdr {mac} dev {name} nud permanent"
        ))
    }

    /// A cable takes a moment after it is plugged in, IPv6 a moment more: until a closed port of the
    /// server says so in both families.
    fn wait_until_joined(&self) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(10);
        for address in SERVER {
            let address: IpAddr = address.parse().map_err(io::Error::other)?;
            let closed = SocketAddr::new(address, 1);
            let wait = Duration::from_millis(50);
            let answer = || TcpStream::connect_timeout(&closed, wait).map(drop);
            loop {
                match self.client.inside(answer)? {
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => break,
                    Ok(()) => break,
                    Err(error) if Instant::now() > deadline => return Err(error),
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        }
        Ok(())
    }
}
