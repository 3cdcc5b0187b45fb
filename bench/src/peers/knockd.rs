//! knockd, and `knock` that comes with it.

use std::io;

use toctoc::lab::{CLIENT, SERVER};

use super::{DROP_ALL, Peer, Side, joined};
use crate::daemon::Daemon;
use crate::place::Place;
use crate::policies::{DOOR, Sequence};

const SETTINGS: &str = "/etc/knockd.conf of its Debian package (one sequence opens, the same backwards \
    closes, seq_timeout 5, tcpflags syn) with five ports in place of three, on iptables-legacy, whose \
    program starts a little faster than the other one.";

pub(super) fn install(sequence: &Sequence) -> io::Result<Option<Peer>> {
    let place = Place::new("legacy")?;
    place.feed(&["iptables-restore", "--noflush"], DROP_ALL)?;
    let mut back = *sequence;
    back.reverse();
    let file = place.write("knockd.conf", &configuration(sequence, &back))?;
    let file = file.display().to_string();
    let daemon = Daemon::start(&place, &["knockd", "-i", "eth0", "-c", &file])?;
    let peer = Peer {
        name: "knockd",
        settings: SETTINGS,
        knock: format!("knock {} {}", SERVER[0], joined(sequence, " ")),
        close: (Side::Server, format!("iptables -D {}", rule(CLIENT[0]))),
        daemons: vec![daemon],
        place,
    };
    peer.tried()
}

fn configuration(open: &Sequence, close: &Sequence) -> String {
    let event = |name: &str, sequence: &Sequence, verb: &str| {
        format!(
            "\n[{name}]\n\tsequence    = {}\n\tseq_timeout = 5\n\tcommand     = iptables {verb} {}\n\ttcpflags    = syn\n",
            joined(sequence, ","),
            rule("%IP%")
        )
    };
    format!(
        "[options]\n\tUseSyslog\n{}{}",
        event("openSSH", open, "-A"),
        event("closeSSH", close, "-D")
    )
}

fn rule(address: &str) -> String {
    format!("INPUT -s {address} -p tcp --dport {DOOR} -j ACCEPT")
}
