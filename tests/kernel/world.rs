//! The needs of every kernel test: two hosts, a policy applied by the real program, listeners behind
//! real ports, clients that are real programs.
//!
//! Nothing here waits for a fixed time to see something happen: it polls until a deadline. Only
//! "nothing happens" is waited for, with [`SHUT`].

use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use toctoc::client::Door;
use toctoc::firewall::{Exit, run};
use toctoc::lab::{Host, Lab, SERVER};

/// The time for which a door that should not open is tried.
pub const SHUT: Duration = Duration::from_millis(250);

/// The time that something that should happen may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// The tour's own policy.
pub const YVES: &str = r#"
[door.ssh]
ports = [22]

[key.yves]
opens    = ["ssh"]
sequence = [443, 2387, 920, 18357, 50]
"#;

pub const SEQUENCE: [u16; 5] = [443, 2387, 920, 18357, 50];

/// The firewall that a test is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Nftables,
    /// iptables as a face of nftables.
    IptablesNft,
    IptablesLegacy,
}

thread_local! {
    static KIND: Cell<Kind> = const { Cell::new(Kind::Nftables) };
}

/// Runs a test on a firewall: every [`World`] that it makes has this one.
pub fn on_firewall(kind: Kind, test: fn()) {
    KIND.set(kind);
    test();
}

/// Held while hosts are made, and while the library itself changes a firewall: what is started in that
/// moment by another test would hold its lock for as long as it lives.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct World {
    pub lab: Lab,
    pub kind: Kind,
    directory: TempDir,
}

/// Ends those who wait for the end of a trial: they would keep the namespaces for as long.
impl Drop for World {
    fn drop(&mut self) {
        let server = self.lab.server.pid().to_string();
        let of_server = ["--ns", server.as_str(), "--nslist", "net"];
        let mut end = Command::new("pkill");
        end.args(["-KILL", "-f"])
            .args(of_server)
            .arg("rollback --trial");
        let _nobody_waits = end.status();
    }
}

impl World {
    /// Two hosts without a policy.
    pub fn bare() -> World {
        let alone = alone();
        let lab = Lab::new()
            .expect("kernel tests need root, or: unshare --user --map-root-user -- cargo test");
        drop(alone);
        let world = World {
            lab,
            kind: KIND.get(),
            directory: tempfile::tempdir().unwrap(),
        };
        world.install_programs();
        // What is written to it later stays as private.
        world.private_file("policy.toml", "");
        world
    }

    /// Makes `iptables` the variant of this world, and nft and iptables those of another release when
    /// `RELEASE` names the root of one (`make verify`).
    fn install_programs(&self) {
        std::fs::create_dir(self.programs()).unwrap();
        let release = std::env::var("RELEASE").ok();
        let mut programs = vec![("nft".to_string(), "nft".to_string())];
        let variant = match self.kind {
            Kind::Nftables => None,
            Kind::IptablesNft => Some("nft"),
            Kind::IptablesLegacy => Some("legacy"),
        };
        for name in ["iptables", "ip6tables"] {
            for verb in ["", "-save", "-restore"] {
                let variants = variant.map(|variant| {
                    let real = format!("{name}-{variant}{verb}");
                    (format!("{name}{verb}"), real)
                });
                programs.extend(variants);
            }
        }
        for (name, real) in programs {
            let path = self.programs().join(name);
            match &release {
                Some(root) => {
                    // Its lock is in /run; tests do not wait for one another.
                    let script = format!(
                        "#!/bin/sh\nexec unshare --mount sh -c 'mount -t tmpfs run {root}/run && \
                         exec chroot {root} /usr/sbin/{real} \"$@\"' sh \"$@\"\n"
                    );
                    std::fs::write(&path, script).unwrap();
                    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
                }
                None if real == "nft" => {}
                None => std::os::unix::fs::symlink(format!("/usr/sbin/{real}"), path).unwrap(),
            }
        }
    }

    pub fn is_nftables(&self) -> bool {
        self.kind == Kind::Nftables
    }

    /// A directory that comes first where programs are looked for.
    pub fn programs(&self) -> PathBuf {
        self.directory.path().join("bin")
    }

    /// A program that finds this world's iptables.
    pub fn command(&self, program: &str) -> Command {
        let mut command = command_among(&self.programs(), program);
        command.env("STATE_DIRECTORY", self.state_directory());
        // Tests do not wait for one another, and an ordinary user has no lock in /run.
        if std::env::var_os("RELEASE").is_none() {
            command.env("XTABLES_LOCKFILE", self.lock());
        }
        command
    }

    /// Where this world remembers which tokens were spent.
    pub fn state_directory(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Nothing is noted of what was applied, as after an apply elsewhere.
    pub fn forget_what_was_applied(&self) {
        std::fs::remove_file(self.record()).unwrap();
        // Root of a user namespace has none.
        let _ = std::fs::remove_file(self.sighting());
    }

    /// Nothing is noted of what was found to be the policy's: all is compared anew.
    pub fn forget_what_was_compared(&self) {
        let files = std::fs::read_dir(self.state_directory()).unwrap();
        let paths = files.map(|file| file.unwrap().path());
        for note in paths.filter(|path| path.to_str().unwrap().contains("verified")) {
            std::fs::remove_file(note).unwrap();
        }
    }

    /// Where it is noted what was applied: a file for each network namespace.
    pub fn record(&self) -> PathBuf {
        let files = std::fs::read_dir(self.state_directory()).unwrap();
        let mut paths = files.map(|file| file.unwrap().path());
        let applied = |path: &PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("applied") && name.ends_with(".json")
        };
        paths.find(applied).unwrap()
    }

    /// The file of what was seen last.
    pub fn sighting(&self) -> PathBuf {
        let number = self
            .lab
            .server
            .inside(|| std::fs::metadata("/proc/thread-self/ns/net").unwrap().ino());
        PathBuf::from(format!("/run/toctoc/{}.seen", number.unwrap()))
    }

    /// Writes a file beside the policy that only its owner may read.
    pub fn private_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    }

    /// The lock of this world's iptables-legacy.
    pub fn lock(&self) -> PathBuf {
        self.directory.path().join("xtables.lock")
    }

    /// `toctoc` with its arguments, those about the policy included.
    pub fn toctoc_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(env!("CARGO_BIN_EXE_toctoc"));
        command.args(arguments);
        if matches!(
            arguments[0],
            "apply" | "refill" | "status" | "render" | "check"
        ) {
            // Tokens are of nftables alone.
            if !self.is_nftables() && arguments[0] != "refill" {
                command.args(["--backend", "iptables"]);
            }
            command.arg(self.path());
        }
        command
    }

    /// Two hosts, and a policy applied on the server.
    pub fn with(policy: &str) -> World {
        let world = World::bare();
        world.apply(policy);
        world
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("policy.toml")
    }

    /// Writes the policy and applies it with a backend of its own; it must succeed.
    pub fn apply_with(&self, backend: &str, policy: &str) -> String {
        std::fs::write(self.path(), policy).unwrap();
        let mut command = self.command(env!("CARGO_BIN_EXE_toctoc"));
        command
            .args(["apply", "--backend", backend])
            .arg(self.path());
        let output = self
            .lab
            .server
            .inside(|| command.output().unwrap())
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Writes the policy and applies it; it must succeed.
    pub fn apply(&self, policy: &str) -> String {
        std::fs::write(self.path(), policy).unwrap();
        self.yes(&["apply"])
    }

    /// Runs `toctoc` on the server. `apply`, `status`, ... get the policy's path.
    pub fn toctoc(&self, arguments: &[&str]) -> Output {
        let mut command = self.toctoc_command(arguments);
        self.lab
            .server
            .inside(|| command.output().unwrap())
            .unwrap()
    }

    /// The same where the kernel takes no messages from the program itself, as one that does not know them: nft has to do.
    pub fn toctoc_by_nft(&self, arguments: &[&str]) -> Output {
        let mut command = by_nft(&self.toctoc_command(arguments));
        self.lab
            .server
            .inside(|| command.output().unwrap())
            .unwrap()
    }

    /// Runs `toctoc` on the server; the answer must be yes.
    pub fn yes(&self, arguments: &[&str]) -> String {
        let output = self.toctoc(arguments);
        let said = [output.stderr.as_slice(), output.stdout.as_slice()].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn status(&self) -> Value {
        let output = self.toctoc(&["status", "--json"]);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
    }

    /// The sources that hold a grant for a door, with who opened it.
    pub fn holders(&self, door: &str) -> Vec<(String, Option<String>)> {
        let status = self.status();
        let doors = status["doors"].as_array().unwrap().iter();
        let mut door = doors.filter(|d| d["name"] == door);
        let grants = door.next().unwrap()["grants"].as_array().unwrap();
        let text = |value: &Value| value.as_str().map(str::to_string);
        let holder = |grant: &Value| (text(&grant["source"]).unwrap(), text(&grant["key"]));
        grants.iter().map(holder).collect()
    }

    pub fn nobody_is_in(&self) -> bool {
        let status = self.status();
        let mut doors = status["doors"].as_array().unwrap().iter();
        doors.all(|door| door["grants"].as_array().unwrap().is_empty())
    }

    /// A program on the server that accepts everyone on a port and sends back what it is sent.
    pub fn listen(&self, port: u16) {
        listen(&self.lab.server, port);
    }

    /// A program on the server that sends back every datagram.
    pub fn listen_udp(&self, port: u16) {
        let socket = self.lab.server.inside(|| UdpSocket::bind(("::", port)));
        let socket = socket.unwrap().unwrap();
        thread::spawn(move || {
            let mut buffer = [0; 5000];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..length], from);
            }
        });
    }

    /// Connects from an address of the client to a port of the server.
    pub fn connect(&self, from: &str, port: u16) -> Door {
        match self.try_session(from, port, SHUT) {
            Ok(_) => Door::Open,
            Err(error) => match error.kind() {
                io::ErrorKind::TimedOut => Door::Silent,
                io::ErrorKind::ConnectionRefused => Door::Refused,
                _ => panic!("{error}"),
            },
        }
    }

    /// Opens a session from an address of the client.
    pub fn session(&self, from: &str, port: u16) -> TcpStream {
        self.try_session(from, port, PATIENCE).unwrap()
    }

    fn try_session(&self, from: &str, port: u16, patience: Duration) -> io::Result<TcpStream> {
        let from: IpAddr = from.parse().unwrap();
        let to = SocketAddr::new(server_like(from), port);
        self.lab.client.inside(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(from, 0).into())?;
            socket.connect_timeout(&to.into(), patience)?;
            Ok(socket.into())
        })?
    }

    /// Sends TCP knocks from an address of the client, one SYN each.
    pub fn knock(&self, from: &str, ports: &[u16]) {
        let from: IpAddr = from.parse().unwrap();
        self.inject(|injector| {
            for &port in ports {
                injector.tcp(from, 40_001, port, crate::inject::SYN);
            }
        });
    }

    /// Makes packets by hand on the client.
    pub fn inject(&self, send: impl FnOnce(&crate::inject::Injector) + Send) {
        let client = &self.lab.client;
        let injected = client.inside(|| send(&crate::inject::Injector::new().unwrap()));
        injected.unwrap();
    }

    /// Runs a program on the client.
    pub fn client(&self, command: &[&str]) -> Exit {
        on(&self.lab.client, command)
    }

    /// Runs a program on the server; it must succeed.
    pub fn server(&self, command: &[&str]) -> String {
        let mut started = self.command(command[0]);
        started.args(&command[1..]);
        let output = self
            .lab
            .server
            .inside(|| started.output().expect(command[0]));
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// All rules on the server, counters left out: ours and those of others, in any order.
    pub fn all_rules(&self) -> String {
        let all = match self.kind {
            Kind::Nftables => self.server(&["nft", "-s", "-t", "list", "ruleset"]),
            _ => ["iptables-save", "ip6tables-save"]
                .map(|save| self.server(&[save]))
                .concat(),
        };
        let rules = all
            .lines()
            .filter(|line| !line.starts_with("# ") && !line.starts_with(':'));
        let mut rules: Vec<&str> = rules.collect();
        rules.sort_unstable();
        rules.join("\n")
    }

    /// Loads an nft script on the server, beside ours.
    pub fn nft(&self, script: &str) {
        // An nft need not read what another release has made.
        let release = self.programs().join("nft");
        let nft = match release.exists() {
            true => release.to_str().unwrap(),
            false => "nft",
        };
        let ended = self.lab.server.inside(|| run(&[nft, "-f", "-"], script));
        let ended = ended.unwrap().unwrap();
        assert!(ended.succeeded(), "{}", ended.stderr);
    }

    /// Polls until something holds.
    pub fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "not in time: {what}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The packets that a counter of the test's own table has seen.
    pub fn counted(&self, counter: &str) -> u64 {
        let listing = self.server(&["nft", "-j", "list", "counter", "inet", "beside", counter]);
        let value: Value = serde_json::from_str(&listing).unwrap();
        let objects = value["nftables"].as_array().unwrap();
        let packets = objects
            .iter()
            .find_map(|o| o["counter"]["packets"].as_u64());
        packets.unwrap()
    }
}

/// A command whose messages the kernel refuses. Programs that it starts are not concerned.
pub fn by_nft(command: &Command) -> Command {
    let mut refused = Command::new("strace");
    refused.args(["-o", "/dev/null", "-e", "trace=sendto"]);
    refused.args(["-e", "inject=sendto:error=EINVAL", "--"]);
    refused.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => refused.env(name, value),
            None => refused.env_remove(name),
        };
    }
    refused
}

/// The address of the server in the family of another address.
pub fn server_like(other: IpAddr) -> IpAddr {
    SERVER[usize::from(other.is_ipv6())].parse().unwrap()
}

pub fn on(host: &Host, command: &[&str]) -> Exit {
    host.inside(|| run(command, "")).unwrap().expect(command[0])
}

pub fn listen(host: &Host, port: u16) {
    let listener = host
        .inside(|| TcpListener::bind(("::", port)))
        .unwrap()
        .unwrap();
    thread::spawn(move || {
        for session in listener.incoming().flatten() {
            thread::spawn(move || {
                let _ = io::copy(&mut &session, &mut &session);
            });
        }
    });
}

/// Returns whether a line makes it through a session and back.
pub fn alive(session: &mut TcpStream) -> bool {
    session.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut back = [0; 5];
    session.write_all(b"alive").is_ok()
        && session.read_exact(&mut back).is_ok()
        && &back == b"alive"
}

/// A program that is looked for in a folder first, and so are those that it starts. By its whole path: otherwise the library
/// would copy this process to look it up (fork), and it is large.
pub fn command_among(folder: &Path, program: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", folder.display());
    let mut places = path.split(':').map(|part| Path::new(part).join(program));
    let can_run = |place: &PathBuf| {
        let found = std::fs::metadata(place);
        found.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let whole = places.find(can_run);
    let mut command = Command::new(whole.unwrap_or_else(|| program.into()));
    command.env("PATH", path);
    command
}

/// Starts a program on a host and leaves it running.
pub fn start(host: &Host, command: &[&str]) -> Running {
    let mut program = Command::new(command[0]);
    program.args(&command[1..]);
    start_command(host, program)
}

/// The same, of a command that is made up already.
pub fn start_command(host: &Host, mut command: Command) -> Running {
    let child = host.inside(|| {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
    });
    Running(child.unwrap().expect("the program starts"))
}

/// A program that is ended with the test.
pub struct Running(pub std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
