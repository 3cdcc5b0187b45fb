//! Two hosts, one of them with a firewall that is to be measured.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use toctoc::lab::{Host, Lab, SERVER};

use crate::program::{self, Ended};

/// The program under measurement: beside this one.
pub fn toctoc() -> PathBuf {
    let own = std::env::current_exe().expect("this program has a path");
    own.with_file_name("toctoc")
}

/// Two hosts on a cable, a directory for what belongs to them, and the variant of iptables they use.
pub struct Place {
    pub lab: Lab,
    pub home: TempDir,
}

impl Place {
    /// Makes the hosts. `iptables` is "legacy" or "nft".
    pub fn new(iptables: &str) -> io::Result<Place> {
        let place = Place {
            lab: Lab::new()?,
            home: tempfile::tempdir()?,
        };
        let programs = place.home.path().join("bin");
        fs::create_dir(&programs)?;
        for family in ["iptables", "ip6tables"] {
            for verb in ["", "-save", "-restore"] {
                let real = format!("/usr/sbin/{family}-{iptables}{verb}");
                symlink(real, programs.join(format!("{family}{verb}")))?;
            }
        }
        symlink(toctoc(), programs.join("toctoc"))?;
        Ok(place)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    /// Writes a file that nobody else may read.
    pub fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, text)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        Ok(path)
    }

    /// A command that finds this place's programs and keeps what it knows here.
    pub fn command(&self, words: &[&str]) -> Command {
        let home = self.home.path();
        let path = std::env::var("PATH").unwrap_or_default();
        let path = format!("{}:{path}", home.join("bin").display());
        // By its whole path: looking it up in another one than ours, the library would copy this process
        // first (fork), which takes milliseconds when it is large.
        let whole = std::env::split_paths(&path).map(|directory| directory.join(words[0]));
        let program = whole.into_iter().find(|program| program.exists());
        let mut command = Command::new(program.unwrap_or_else(|| words[0].into()));
        command
            .args(&words[1..])
            .env("PATH", path)
            .env("HOME", home)
            .env("XTABLES_LOCKFILE", home.join("xtables.lock"))
            .env("STATE_DIRECTORY", home.join("state"))
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("XDG_CACHE_HOME")
            .stdin(Stdio::null());
        command
    }

    /// Runs a program on a host, to its end; what it printed.
    ///
    /// # Errors
    /// When it cannot be started, or fails: with what it said.
    pub fn run(&self, host: &Host, words: &[&str]) -> io::Result<String> {
        Ok(self.measure(host, words)?.stdout)
    }

    /// The same; also what it took.
    pub fn measure(&self, host: &Host, words: &[&str]) -> io::Result<Ended> {
        let ended = host.inside(|| program::run(&mut self.command(words)))??;
        ended.succeeded(words)
    }

    pub fn on_server(&self, words: &[&str]) -> io::Result<String> {
        self.run(&self.lab.server, words)
    }

    /// Feeds a text to a program on the server.
    pub fn feed(&self, words: &[&str], text: &str) -> io::Result<String> {
        let file = self.write("fed", text)?;
        let input = fs::File::open(file)?;
        let mut command = self.command(words);
        command.stdin(input);
        let ended = self.lab.server.inside(|| program::run(&mut command))??;
        Ok(ended.succeeded(words)?.stdout)
    }

    /// Puts a policy into the server's firewall.
    pub fn apply(&self, policy: &str) -> io::Result<String> {
        let file = self.write("policy.toml", policy)?;
        let file = file.display().to_string();
        self.on_server(&["toctoc", "apply", &file])
    }

    /// Returns whether a connection from the client's own address gets through, after half a second at the most.
    pub fn connects(&self, port: u16) -> io::Result<bool> {
        let server: IpAddr = SERVER[0].parse().map_err(io::Error::other)?;
        let to = SocketAddr::new(server, port);
        let connect = || TcpStream::connect_timeout(&to, Duration::from_millis(500));
        match self.lab.client.inside(connect)? {
            Ok(_) => Ok(true),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::TimedOut | ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }
}

/// Looks again and again until something is so.
///
/// # Errors
/// When it is not so after ten seconds, or the look itself fails.
pub fn until(what: &str, mut is_so: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so()? {
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("never: {what}")));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
