//! `toctoc open` and `toctoc close`

use std::net::IpAddr;
use std::time::Duration;

use clap::Args;
use clap_complete::ArgValueCandidates;
use ipnet::IpNet;

use super::completions::doors;
use super::duration::between;
use super::{Answer, complain, count, reported, say};
use crate::firewall::by_hand::EveryPort;
use crate::firewall::{Failure, Firewall, by_hand};
use crate::knock::{display_source, unmapped};
use crate::policy::{Backend, Name, show};

#[derive(Args)]
pub(in crate::cli) struct Open {
    /// The door, as the policy names it.
    #[arg(add = ArgValueCandidates::new(doors), value_parser = name)]
    door: Name,
    /// An address, or a network of the length that grants on this host have.
    #[arg(value_parser = source)]
    source: IpNet,
    /// For how long.
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = lasting)]
    open_for: Duration,
}

#[derive(Args)]
pub(in crate::cli) struct Close {
    /// A door [default: all].
    #[arg(value_name = "DOOR", add = ArgValueCandidates::new(doors))]
    door: Option<String>,
    /// An address or network [default: all].
    #[arg(value_parser = source)]
    source: Option<IpNet>,
    /// Only those in `nftables`, or in `iptables` [default: both].
    #[arg(long, value_name = "BACKEND", value_parser = super::backend)]
    backend: Option<Backend>,
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text).ok_or_else(|| {
        format!("`{text}` is not a name of a door: `toctoc status` shows the doors and their ports")
    })
}

fn source(text: &str) -> Result<IpNet, String> {
    text.parse::<IpAddr>()
        .map(IpNet::from)
        .or_else(|_| text.parse::<IpNet>().map(|net| net.trunc()))
        .map(unmapped)
        .map_err(|_| format!("`{text}` is neither an address nor a network"))
}

fn lasting(text: &str) -> Result<Duration, String> {
    between(
        text,
        Duration::from_secs(1),
        Duration::from_secs(30 * 86_400),
    )
}

pub(super) fn open(arguments: &Open) -> Answer {
    let Open {
        door,
        source,
        open_for,
    } = arguments;
    match by_hand::open(&Firewall::default(), door, *source, *open_for) {
        Ok(opening) => {
            let (source, lasting) = (display_source(&opening.network), show(*open_for));
            let mut text = format!("{door} is open to {source} for {lasting}\n");
            for end in &opening.ended {
                let left = match end.left.is_zero() {
                    true => String::new(),
                    false => format!(", with {} left,", show(end.left)),
                };
                text += &format!(
                    "there was no room: the grant of {} for {}{left} has ended\n",
                    display_source(&end.source),
                    end.door
                );
            }
            reported(&text)
        }
        Err(failure) => could_not(&failure),
    }
}

pub(super) fn close(arguments: &Close) -> Answer {
    // `toctoc close 192.0.2.7`: one word that is an address is the source.
    let first = arguments.door.as_deref();
    let (door, source) = match (first.map(self::source), arguments.source) {
        (Some(Ok(source)), None) => (None, Some(source)),
        _ => (first.map(name), arguments.source),
    };
    let door = match door.transpose() {
        Ok(door) => door,
        Err(message) => {
            complain(&format!("{message}\nthe running firewall was not changed"));
            return Answer::CouldNot;
        }
    };
    match by_hand::close(
        &Firewall::default(),
        door.as_ref(),
        source,
        arguments.backend,
    ) {
        Ok(closed) => {
            let mut text = match (closed.ended, closed.told) {
                (0, true) => {
                    "no such grant was here; the hosts of the fleet that share the door are told\n"
                        .to_string()
                }
                (0, false) => "no such grant was there\n".to_string(),
                (ended, _) => format!("ended {}\n", count(ended, "grant")),
            };
            if let Some(held) = &closed.every_port {
                text += &still_in(held);
            }
            match closed.ended {
                0 => {
                    say(&text);
                    Answer::Yes
                }
                _ => reported(&text),
            }
        }
        Err(failure) => could_not(&failure),
    }
}

/// "192.0.2.7 still gets in: ..."
fn still_in(held: &EveryPort) -> String {
    let door = &held.door;
    match held.sources.as_slice() {
        [source] => {
            let source = display_source(source);
            format!(
                "{source} still gets in: it has every port (`toctoc close {door} {source}` ends that)\n"
            )
        }
        sources => format!(
            "{} still get in: they have every port (`toctoc close {door}` ends that)\n",
            count(sources.len(), "source")
        ),
    }
}

fn could_not(failure: &Failure) -> Answer {
    complain(&failure.to_string());
    Answer::CouldNot
}
