//! A fleet in a bottle: hosts, an engine (the real redis-server) and clients at one switch.
//!
//! ```text
//!   engine 192.0.2.10    a 192.0.2.11   b 192.0.2.12   c ...      client 192.0.2.101, .102, ...
//!        |                   |              |              |          |
//!   -----+-------------------+--------------+--------------+----------+---- switch
//! ```

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use toctoc::firewall::run;
use toctoc::lab::Host;

use crate::fleet_program::fleet_program;
use crate::world::{PATIENCE, SHUT, alone};

pub const ENGINE: &str = "192.0.2.10";
pub const PASSWORD: &str = "correct-horse-battery";
pub const SEQUENCE: [&str; 3] = ["4431", "2387", "920"];

/// The doors and keys of every host, if a test says nothing else.
pub const DOORS: &str = r#"
[door.ssh]
ports = [22]
[door.web]
ports = [443]
[key.yves]
opens    = ["ssh", "web"]
sequence = [4431, 2387, 920]
"#;

pub struct Member {
    pub name: String,
    pub host: Host,
    pub address: String,
    directory: PathBuf,
    agent: Option<Child>,
}

pub struct Fleet {
    pub switch: Host,
    pub engine: Host,
    pub client: Host,
    pub members: Vec<Member>,
    redis: Option<Child>,
    directory: TempDir,
}

impl Fleet {
    /// So many hosts with [`DOORS`] that share and accept `ssh`, an engine, and an agent on each host that
    /// is connected.
    pub fn of(number: usize) -> Fleet {
        Fleet::with(number, DOORS)
    }

    /// The same with other doors and keys.
    pub fn with(number: usize, doors: &str) -> Fleet {
        let mut fleet = Fleet::bare(number);
        fleet.start_engine(&[]);
        for place in 0..number {
            let policy = fleet.policy(place, doors);
            fleet.apply(place, &policy);
            fleet.start_agent(place);
        }
        fleet.until_all_know_each_other();
        fleet
    }

    /// Hosts, engine and clients, and nothing runs.
    pub fn bare(number: usize) -> Fleet {
        let _alone = alone();
        let directory = tempfile::tempdir().unwrap();
        let switch = Host::new().unwrap();
        switch.ip("link add br0 type bridge").unwrap();
        switch.ip("link set br0 up").unwrap();
        let plug = |host: &Host, port: &str, address: &str| {
            let pid = host.pid();
            switch
                .ip(&format!(
                    "link add {port} type veth peer name eth0 netns {pid}"
                ))
                .unwrap();
            switch
                .ip(&format!("link set {port} master br0 up"))
                .unwrap();
            host.ip(&format!("addr add {address}/24 dev eth0")).unwrap();
            host.ip("link set eth0 up").unwrap();
        };
        let (engine, client) = (Host::new().unwrap(), Host::new().unwrap());
        plug(&engine, "engine", ENGINE);
        plug(&client, "client", "192.0.2.101");
        for last in 102..110 {
            client
                .ip(&format!("addr add 192.0.2.{last}/24 dev eth0"))
                .unwrap();
        }
        let members = (0..number).map(|place| {
            let name = char::from(b'a' + place as u8).to_string();
            let address = format!("192.0.2.{}", 11 + place);
            let host = Host::new().unwrap();
            plug(&host, &format!("host-{name}"), &address);
            let directory = directory.path().join(&name);
            std::fs::create_dir(&directory).unwrap();
            Member {
                name,
                host,
                address,
                directory,
                agent: None,
            }
        });
        let members: Vec<Member> = members.collect();
        Fleet {
            switch,
            engine,
            client,
            members,
            redis: None,
            directory,
        }
    }

    /// The policy of a host: what it shares and accepts, and these doors.
    pub fn policy(&self, place: usize, doors: &str) -> String {
        let name = &self.members[place].name;
        format!(
            "{doors}\n[fleet]\nurl = \"redis://{ENGINE}:6379\"\nname = \"{name}\"\n\
             password = \"fleet.password\"\nshare = [\"ssh\"]\naccept = [\"ssh\"]\n"
        )
    }

    pub fn start_engine(&mut self, more: &[&str]) {
        let log = File::create(self.directory.path().join("redis.log")).unwrap();
        let mut command = Command::new("redis-server");
        command
            .args([
                "--port",
                "6379",
                "--bind",
                ENGINE,
                "127.0.0.1",
                "--save",
                "",
            ])
            .args(["--appendonly", "no", "--requirepass", PASSWORD])
            .args(more)
            .current_dir(self.directory.path())
            .stdout(log)
            .stdin(Stdio::null());
        let child = self.engine.inside(|| command.spawn().unwrap()).unwrap();
        self.redis = Some(child);
        until("the engine answers", || {
            self.redis(&["PING"]).contains("PONG")
        });
    }

    /// A Sentinel in the place of the engine.
    pub fn start_sentinel(&mut self, settings: &str) {
        let file = self.directory.path().join("sentinel.conf");
        std::fs::write(&file, format!("port 6379\nprotected-mode no\n{settings}\n")).unwrap();
        let log = File::create(self.directory.path().join("redis.log")).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(&file).arg("--sentinel");
        command.stdout(log).stdin(Stdio::null());
        let child = self.engine.inside(|| command.spawn().unwrap()).unwrap();
        self.redis = Some(child);
        until("the Sentinel answers", || {
            self.redis(&["PING"]).contains("PONG")
        });
    }

    /// Something between hosts and engine, at another port of it: what the engine says goes on one byte at a time
    /// while `drips`.
    pub fn start_dripping(&self, port: u16, drips: &Arc<AtomicBool>) {
        let bind = || TcpListener::bind((ENGINE, port)).unwrap();
        let listener = self.engine.inside(bind).unwrap();
        let connect = || TcpStream::connect((ENGINE, 6379)).unwrap();
        let engines: Vec<TcpStream> = (0..8)
            .map(|_| self.engine.inside(connect).unwrap())
            .collect();
        let drips = Arc::clone(drips);
        thread::spawn(move || {
            for (agent, engine) in listener.incoming().flatten().zip(engines) {
                let (back, forth) = (agent.try_clone().unwrap(), engine.try_clone().unwrap());
                thread::spawn(move || std::io::copy(&mut { agent }, &mut { forth }));
                let drips = Arc::clone(&drips);
                thread::spawn(move || drip(engine, back, &drips));
            }
        });
    }

    pub fn kill_engine(&mut self) {
        let mut child = self.redis.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Stops the engine without ending it, or lets it go on.
    pub fn freeze_engine(&self, freeze: bool) {
        stop(self.redis.as_ref().unwrap(), freeze);
    }

    /// The same with an agent.
    pub fn freeze_agent(&self, place: usize, freeze: bool) {
        stop(self.members[place].agent.as_ref().unwrap(), freeze);
    }

    /// The engine's answer to a command.
    pub fn redis(&self, command: &[&str]) -> String {
        let begin = ["redis-cli", "--no-auth-warning", "-a", PASSWORD];
        let all = [&begin[..], command].concat();
        self.engine
            .inside(|| run(&all, "").unwrap())
            .unwrap()
            .stdout
    }

    /// Pulls a host's cable out, or puts it in.
    pub fn plug(&self, place: usize, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        let name = &self.members[place].name;
        self.switch
            .ip(&format!("link set host-{name} {state}"))
            .unwrap();
    }

    pub fn file(&self, place: usize, name: &str, text: &str) -> PathBuf {
        let path = self.members[place].directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    }

    /// Where the engine's files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Where a file of a host is.
    pub fn path(&self, place: usize, name: &str) -> String {
        let path = self.members[place].directory.join(name);
        path.display().to_string()
    }

    pub fn apply(&self, place: usize, policy: &str) {
        self.file(place, "fleet.password", PASSWORD);
        let path = self.file(place, "policy.toml", policy);
        self.yes(place, &["apply", &path.display().to_string()]);
    }

    pub fn command(&self, place: usize, program: &str) -> Command {
        let directory = &self.members[place].directory;
        let mut command = Command::new(program);
        command
            .env("STATE_DIRECTORY", directory.join("state"))
            .env("RUNTIME_DIRECTORY", directory.join("run"))
            .stdin(Stdio::null());
        command
    }

    pub fn toctoc(&self, place: usize, arguments: &[&str]) -> Output {
        let mut command = self.command(place, env!("CARGO_BIN_EXE_toctoc"));
        command.args(arguments);
        let host = &self.members[place].host;
        host.inside(|| command.output().unwrap()).unwrap()
    }

    /// The listing that nft prints of a set of our table.
    pub fn list(&self, place: usize, set: &str) -> String {
        let mut command = self.command(place, "nft");
        command.args(["list", "set", "inet", "toctoc", set]);
        let host = &self.members[place].host;
        let output = host.inside(|| command.output().unwrap()).unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn yes(&self, place: usize, arguments: &[&str]) -> String {
        let output = self.toctoc(place, arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn start_agent(&mut self, place: usize) {
        let said = File::options()
            .create(true)
            .append(true)
            .open(self.members[place].directory.join("agent.log"))
            .unwrap();
        fleet_program();
        let mut command = self.command(place, env!("CARGO_BIN_EXE_toctoc"));
        command
            .arg("fleet")
            .arg(self.members[place].directory.join("policy.toml"))
            .stdout(said.try_clone().unwrap())
            .stderr(said);
        let member = &mut self.members[place];
        let child = member.host.inside(|| command.spawn().unwrap()).unwrap();
        member.agent = Some(child);
    }

    /// `kill -9`
    pub fn kill_agent(&mut self, place: usize) {
        let mut child = self.members[place].agent.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// The number of the agent's process.
    pub fn agent(&self, place: usize) -> u32 {
        self.members[place].agent.as_ref().unwrap().id()
    }

    /// All that an agent has said.
    pub fn said(&self, place: usize) -> String {
        std::fs::read_to_string(self.members[place].directory.join("agent.log")).unwrap()
    }

    pub fn until_said(&self, place: usize, text: &str) {
        let heard = || self.said(place).contains(text);
        until_or(&format!("{text:?} is said"), heard, || self.said(place));
    }

    pub fn status(&self, place: usize) -> Value {
        let path = self.members[place].directory.join("policy.toml");
        let output = self.toctoc(place, &["status", "--json", &path.display().to_string()]);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    pub fn until_connected(&self, place: usize) {
        let connected = || {
            let fleet = &self.status(place)["fleet"];
            let report = &fleet["report"];
            // Not what an agent has said that is no more.
            fleet["running"] == true && report["connected"] == true && report["why"].is_null()
        };
        until_or("the agent is connected", connected, || self.said(place));
    }

    pub fn until_all_know_each_other(&self) {
        for place in 0..self.members.len() {
            self.until_connected(place);
            let knows_all = || {
                let status = self.status(place);
                let hosts = status["fleet"]["report"]["hosts"].as_array();
                hosts.is_some_and(|hosts| hosts.len() + 1 >= self.members.len())
            };
            until_or("the hosts know each other", knows_all, || self.said(place));
        }
    }

    /// The grants for a door, of this host or of others: source, and the seconds that are left.
    pub fn grants(&self, place: usize, door: &str) -> Vec<(String, f64)> {
        let status = self.status(place);
        let doors = status["doors"].as_array().unwrap().iter();
        let mut door = doors.filter(|d| d["name"] == door);
        let grants = door.next().unwrap()["grants"].as_array().unwrap().clone();
        let grants = grants.iter().map(|grant| {
            let source = grant["source"].as_str().unwrap().to_string();
            (source, grant["expires_in"].as_f64().unwrap())
        });
        grants.collect()
    }

    /// Returns whether a source has a grant for `ssh`, of this host or of another.
    pub fn is_in(&self, place: usize, source: &str) -> bool {
        self.grants(place, "ssh").iter().any(|(s, _)| s == source)
    }

    /// Knocks at a host, from an address.
    pub fn knock(&self, place: usize, from: &str) {
        self.knock_with(place, from, &SEQUENCE);
    }

    pub fn knock_with(&self, place: usize, from: &str, sequence: &[&str]) {
        for port in sequence {
            // A closed port answers at once.
            let _ = self.try_connect(place, from, port.parse().unwrap(), PATIENCE);
        }
    }

    /// A program on a host that accepts everyone.
    pub fn listen(&self, place: usize, port: u16) {
        let host = &self.members[place].host;
        let listener = host.inside(|| TcpListener::bind(("0.0.0.0", port)).unwrap());
        let listener = listener.unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let _ = stream.write_all(b"hello");
            }
        });
    }

    pub fn try_connect(
        &self,
        place: usize,
        from: &str,
        port: u16,
        patience: Duration,
    ) -> std::io::Result<TcpStream> {
        self.connect(&self.members[place].address, from, port, patience)
    }

    /// The same with any address: hosts may have more than one.
    pub fn connect(
        &self,
        to: &str,
        from: &str,
        port: u16,
        patience: Duration,
    ) -> std::io::Result<TcpStream> {
        let from: IpAddr = from.parse().unwrap();
        let to = SocketAddr::new(to.parse().unwrap(), port);
        self.client.inside(|| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
            socket.connect_timeout(&to.into(), patience)?;
            Ok(socket.into())
        })?
    }

    pub fn is_open(&self, place: usize, from: &str, port: u16) -> bool {
        let Ok(mut stream) = self.try_connect(place, from, port, SHUT) else {
            return false;
        };
        let mut hello = [0; 5];
        stream.read_exact(&mut hello).is_ok()
    }

    pub fn until_open(&self, place: usize, from: &str, port: u16) {
        let name = &self.members[place].name;
        let what = format!("port {port} of {name} is open to {from}");
        until_or(
            &what,
            || self.is_open(place, from, port),
            || self.said(place),
        );
    }

    pub fn until_shut(&self, place: usize, from: &str, port: u16) {
        let name = &self.members[place].name;
        let what = format!("port {port} of {name} is shut to {from}");
        until_or(
            &what,
            || !self.is_open(place, from, port),
            || self.said(place),
        );
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let agents = self.members.iter_mut().filter_map(|m| m.agent.take());
        for mut child in agents.chain(self.redis.take()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn drip(mut from: TcpStream, mut to: TcpStream, drips: &AtomicBool) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        for byte in &bytes[..count] {
            if drips.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_secs(1));
            }
            if to.write_all(&[*byte]).is_err() {
                return;
            }
        }
    }
}

fn stop(child: &Child, stop: bool) {
    let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
    let signal = match stop {
        true => rustix::process::Signal::STOP,
        false => rustix::process::Signal::CONT,
    };
    rustix::process::kill_process(pid, signal).unwrap();
}

pub fn until(what: &str, holds: impl FnMut() -> bool) {
    until_or(what, holds, String::new);
}

pub fn until_or(what: &str, holds: impl FnMut() -> bool, else_say: impl Fn() -> String) {
    wait(2 * PATIENCE, what, holds, else_say);
}

/// For what has a limit of its own.
pub fn until_within(patience: Duration, what: &str, holds: impl FnMut() -> bool) {
    wait(patience, what, holds, String::new);
}

fn wait(
    patience: Duration,
    what: &str,
    mut holds: impl FnMut() -> bool,
    else_say: impl Fn() -> String,
) {
    let deadline = Instant::now() + patience;
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "not in time: {what}\n{}",
            else_say()
        );
        thread::sleep(Duration::from_millis(20));
    }
}
