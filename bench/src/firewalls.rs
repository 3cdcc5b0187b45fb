//! The firewalls whose cost is measured, each as its users would have it.

use std::io;
use std::net::Ipv4Addr;

use toctoc::lab::CLIENT;

use crate::frames::{SYN, tcp};
use crate::place::{Place, until};
use crate::policies::{DOOR, Sequence, TOKEN_PORT, classic_script, policy, secrets, sequences};
use crate::sender::Sender;

/// The rules that decide about packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firewall {
    /// No rules.
    Nothing,
    /// toctoc on nftables: doors alone.
    Nftables,
    /// The same with a whole host firewall around them (`[firewall]`), which is what the classic script is.
    NftablesWhole,
    /// The same doors, and a signed key besides: its BPF program looks at every packet, as a link of tcx.
    NftablesSigned,
    /// The same as a filter of clsact, as on kernels before 6.6.
    NftablesSignedFilter,
    /// toctoc on iptables-legacy, doors alone.
    Iptables,
    /// The classic script on iptables-legacy.
    Classic,
}

impl Firewall {
    pub const ALL: [Firewall; 7] = [
        Firewall::Nothing,
        Firewall::Nftables,
        Firewall::NftablesWhole,
        Firewall::NftablesSigned,
        Firewall::NftablesSignedFilter,
        Firewall::Iptables,
        Firewall::Classic,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Firewall::Nothing => "no rules",
            Firewall::Nftables => "toctoc, nftables",
            Firewall::NftablesWhole => "toctoc, nftables, [firewall]",
            Firewall::NftablesSigned => "toctoc, nftables, a signed key",
            Firewall::NftablesSignedFilter => "the same with clsact",
            Firewall::Iptables => "toctoc, iptables",
            Firewall::Classic => "classic script",
        }
    }

    /// The most keys that it is measured with: beyond, it refuses, or takes minutes.
    pub fn most_keys(self) -> usize {
        match self {
            Firewall::Nothing => 1,
            Firewall::Nftables
            | Firewall::NftablesWhole
            | Firewall::NftablesSigned
            | Firewall::NftablesSignedFilter => 10_000,
            Firewall::Iptables | Firewall::Classic => 100,
        }
    }

    /// Makes two hosts with this firewall and so many keys on one of them, and tries it: the first and the
    /// last sequence open, and nothing is open before.
    pub fn install(self, keys: usize) -> io::Result<Place> {
        let place = Place::new("legacy")?;
        let sequences = sequences(keys);
        let _listener = place
            .lab
            .server
            .inside(|| std::net::TcpListener::bind(("0.0.0.0", DOOR)))??;
        match self {
            Firewall::Nothing => return Ok(place),
            Firewall::Nftables => place.apply(&policy("", &sequences))?,
            Firewall::NftablesWhole => place.apply(&format!(
                "{}\n[firewall]\ndefault = \"drop\"\n",
                policy("", &sequences)
            ))?,
            Firewall::NftablesSigned | Firewall::NftablesSignedFilter => {
                let secret = secrets(1).remove(0);
                place.write("signed.secret", &secret.hex())?;
                let text = format!(
                    "{}\n[key.signed]\nopens = [\"ssh\"]\nsigned = \"signed.secret\"\n",
                    policy(&format!("token_port = {TOKEN_PORT}\n"), &sequences)
                );
                match self {
                    Firewall::NftablesSigned => place.apply(&text)?,
                    _ => without_links(&place, &text)?,
                }
            }
            Firewall::Iptables => place.apply(&policy("backend = \"iptables\"\n", &sequences))?,
            Firewall::Classic => place.feed(
                &["iptables-restore", "--noflush"],
                &classic_script(&sequences),
            )?,
        };
        let works = |sequence: &Sequence, last: bool| {
            if place.connects(DOOR)? {
                return Err(io::Error::other(format!(
                    "{}: open without a knock",
                    self.name()
                )));
            }
            knock(&place, sequence)?;
            until("the door is open", || place.connects(DOOR))?;
            if !last {
                self.close(&place)?;
            }
            Ok(())
        };
        if let [first, .., last] = &sequences[..] {
            works(first, false)?;
            works(last, true)?;
        } else {
            works(&sequences[0], true)?;
        }
        self.close(&place)?;
        Ok(place)
    }

    /// Ends what was granted.
    fn close(self, place: &Place) -> io::Result<()> {
        match self {
            Firewall::Nothing => {}
            Firewall::Nftables
            | Firewall::NftablesWhole
            | Firewall::NftablesSigned
            | Firewall::NftablesSignedFilter
            | Firewall::Iptables => {
                place.on_server(&["toctoc", "close"])?;
            }
            Firewall::Classic => {
                place.on_server(&[
                    "sh",
                    "-c",
                    "for list in /proc/net/xt_recent/*; do echo / >$list; done",
                ])?;
            }
        }
        Ok(())
    }
}

/// Applies a policy where there is no BPF file system.
fn without_links(place: &Place, policy: &str) -> io::Result<String> {
    let file = place.write("policy.toml", policy)?.display().to_string();
    let hidden = "umount /sys/fs/bpf && exec toctoc apply \"$0\"";
    place.on_server(&["unshare", "--mount", "sh", "-c", hidden, &file])
}

/// Knocks once from the client's own address, all at once.
pub fn knock(place: &Place, sequence: &Sequence) -> io::Result<()> {
    let source: Ipv4Addr = CLIENT[0].parse().map_err(io::Error::other)?;
    let frames: Vec<_> = sequence
        .iter()
        .map(|port| tcp(source, 40_000, *port, SYN))
        .collect();
    place.lab.client.inside(|| Sender::new()?.send(&frames))?
}
