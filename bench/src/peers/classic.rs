//! The script of rules with `-m recent` that toctoc grew from, and the two loops of its page.

use std::io;

use toctoc::lab::SERVER;

use super::{Peer, Side, joined};
use crate::place::Place;
use crate::policies::{DOOR, Sequence, classic_script, unrelated};

const SETTINGS: &str = "one door of five knocks, on iptables-legacy. The loop has a bogus port in front, as \
    its page says. `nmap` is given `-n` besides, since it would wait for name servers.";

pub(super) fn install(sequence: &Sequence) -> io::Result<Option<Peer>> {
    let place = Place::new("legacy")?;
    place.feed(
        &["iptables-restore", "--noflush"],
        &classic_script(&[*sequence]),
    )?;
    let forget = "for list in /proc/net/xt_recent/*; do echo / >$list; done".to_string();
    let peer = Peer {
        name: "classic script",
        settings: SETTINGS,
        knock: nmap_loop(sequence),
        close: (Side::Server, forget),
        daemons: Vec::new(),
        place,
    };
    peer.tried()
}

pub fn nmap_loop(sequence: &Sequence) -> String {
    let (ports, server) = (ports(sequence), SERVER[0]);
    format!("for p in {ports}; do nmap -n -Pn --max-retries 0 -p $p {server}; done >/dev/null")
}

pub fn nc_loop(sequence: &Sequence) -> String {
    let (ports, server) = (ports(sequence), SERVER[0]);
    format!("for p in {ports}; do nc -w 1 -z {server} $p; done")
}

/// The same knocks by a program that does not wait for answers.
pub fn with_knock(sequence: &Sequence) -> String {
    format!("knock {} {}", SERVER[0], ports(sequence))
}

/// A bogus port puts the caret at the start.
fn ports(sequence: &Sequence) -> String {
    let bogus = unrelated(u32::from(DOOR));
    format!("{bogus} {}", joined(sequence, " "))
}
