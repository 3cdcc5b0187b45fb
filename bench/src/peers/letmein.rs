//! letmein: a challenge and an answer over TCP, then a rule of nftables.

use std::fs::create_dir;
use std::io;
use std::path::PathBuf;

use toctoc::lab::SERVER;

use super::{Peer, Side};
use crate::daemon::Daemon;
use crate::place::{Place, until};
use crate::policies::{DOOR, Sequence};

const SETTINGS: &str = "its example nftables.conf, and what its configuration guide recommends: \
    control-error-policy basic-auth, seccomp kill, the path of nft in full, timeout 60; else its defaults, \
    TCP among them.";

/// Its example, without the chains for what is forwarded or leaves, which are not asked here.
const RULES: &str = "table inet filter {
 chain LETMEIN-INPUT {
 }
 chain INPUT {
  type filter hook input priority filter; policy drop;
  iifname lo accept
  ct state invalid drop
  ct state related,established accept
  meta l4proto ipv6-icmp accept
  meta l4proto icmp accept
  jump LETMEIN-INPUT
  meta l4proto udp drop
  reject
 }
}
";

/// Its daemons want a user of that name. Where they run, it is another name of root.
const WITH_USER: &str = "mount --bind $HOME/passwd /etc/passwd && mount --bind $HOME/group /etc/group && \
    exec \"$@\"";

pub(super) fn install(_: &Sequence) -> io::Result<Option<Peer>> {
    let programs = programs()?;
    let program = |name: &str| programs.join(name).display().to_string();
    if !programs.join("letmeind").exists() {
        return Ok(None);
    }
    let place = Place::new("legacy")?;
    place.feed(&["nft", "-f", "-"], RULES)?;
    let key = place.run(
        &place.lab.client,
        &[&program("letmein"), "gen-key", "-u", "00000001"],
    )?;
    let both = format!(
        "[GENERAL]\ndebug = false\nport = 5800\ncontrol-error-policy = basic-auth\nseccomp = kill\n\
         [CLIENT]\ndefault-user = 00000001\n\
         [NFTABLES]\nexe = /usr/sbin/nft\nfamily = inet\ntable = filter\nchain-input = LETMEIN-INPUT\n\
         timeout = 60\n[KEYS]\n{}\n[RESOURCES]\n00000022 = port: {DOOR}\n",
        key.trim()
    );
    let file = place.write("letmein.conf", &both)?.display().to_string();
    let home = place.home.path().display().to_string();
    place.write(
        "passwd",
        "root:x:0:0::/:/bin/sh\nletmeind:x:0:0::/:/bin/false\n",
    )?;
    place.write("group", "root:x:0:\nletmeind:x:0:\n")?;
    let daemon = |name: &str| {
        create_dir(place.path(name))?;
        let (program, unshare) = (
            program(name),
            ["unshare", "--mount", "sh", "-c", WITH_USER, "sh"],
        );
        let words = [
            &program,
            "--config",
            &file,
            "--rundir",
            &home,
            "--no-systemd",
        ];
        Daemon::start(&place, &[&unshare[..], &words[..]].concat())
    };
    let firewall = daemon("letmeinfwd")?;
    until("letmeinfwd listens", || {
        Ok(place.path("letmeinfwd/letmeinfwd.sock").exists())
    })?;
    let daemons = vec![firewall, daemon("letmeind")?];
    let client = format!("{} --config {file}", program("letmein"));
    let peer = Peer {
        name: "letmein",
        settings: SETTINGS,
        knock: format!("{client} knock {} {DOOR}", SERVER[0]),
        close: (
            Side::Client,
            format!("{client} revoke {} {DOOR}", SERVER[0]),
        ),
        daemons,
        place,
    };
    peer.tried()
}

/// Its client, if it is installed.
pub fn client() -> io::Result<Option<String>> {
    let client = programs()?.join("letmein");
    Ok(client.exists().then(|| client.display().to_string()))
}

/// Where `cargo install --root` has put it.
fn programs() -> io::Result<PathBuf> {
    if let Some(named) = std::env::var_os("LETMEIN") {
        return Ok(PathBuf::from(named));
    }
    let own = std::env::current_exe()?;
    Ok(own.with_file_name("../letmein/bin"))
}
