//! fwknop: single packet authorization.

use std::io;

use toctoc::lab::{CLIENT, SERVER};

use super::{DROP_ALL, Peer, Side};
use crate::daemon::Daemon;
use crate::place::Place;
use crate::policies::{DOOR, Sequence};

const SETTINGS: &str = "the quick start of its manual: keys from `fwknop --key-gen` (AES and HMAC), the \
    address in the packet (`-a`, which it recommends), fwknopd.conf and access.conf of its Debian package \
    (it looks for packets every 100 ms), on iptables-legacy.";

pub(super) fn install(_: &Sequence) -> io::Result<Option<Peer>> {
    let place = Place::new("legacy")?;
    place.feed(&["iptables-restore", "--noflush"], DROP_ALL)?;
    let home = place.home.path().display().to_string();
    let generated = place.run(&place.lab.client, &["fwknop", "--key-gen"])?;
    let key = |name: &str| {
        let line = generated.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim)
            .ok_or_else(|| io::Error::other(format!("fwknop --key-gen told no {name}")))
    };
    let keys = format!(
        "KEY_BASE64 {}\nHMAC_KEY_BASE64 {}\n",
        key("KEY_BASE64:")?,
        key("HMAC_KEY_BASE64:")?
    );
    let (server, client) = (SERVER[0], CLIENT[0]);
    let configuration = place.write(
        "fwknopd.conf",
        &format!("PCAP_INTF eth0;\nFIREWALL_EXE {home}/bin/iptables;\n"),
    )?;
    let access = place.write("access.conf", &format!("SOURCE ANY\n{keys}"))?;
    place.write(
        "fwknoprc",
        &format!(
            "[door]\nSPA_SERVER {server}\nACCESS tcp/{DOOR}\nALLOW_IP {client}\nUSE_HMAC Y\n{keys}"
        ),
    )?;
    let (configuration, access) = (configuration.display(), access.display());
    let daemon = Daemon::start(
        &place,
        &[
            "fwknopd",
            "--foreground",
            "--config",
            &configuration.to_string(),
            "--access-file",
            &access.to_string(),
            "--run-dir",
            &home,
        ],
    )?;
    let peer = Peer {
        name: "fwknop",
        settings: SETTINGS,
        knock: format!("fwknop -n door --rc-file {home}/fwknoprc"),
        close: (Side::Server, "iptables -F FWKNOP_INPUT".to_string()),
        daemons: vec![daemon],
        place,
    };
    peer.tried()
}
