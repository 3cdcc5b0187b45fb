//! From a file in which nothing is wrong to the policy that it means.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;

use super::fleet::Private;
use crate::knock::{GrantPrefix, Knock, PortRange};
use crate::policy::backend;
use crate::policy::file::{
    AllowanceEntry, DoorEntry, Entry, File, FleetEntry, KeyEntry, Spanned, Traffic,
};
use crate::policy::{
    Allowance, Backend, Behind, Closed, Door, DoorIndex, Extension, Fleet, Forward, Host,
    HostFirewall, Interfaces, Key, KeyKind, KnockAt, Log, Opening, Place, Policy, Portless, Reach,
    SIGNED_MARK, Sender, Signed,
};
use crate::single_use::Secret;

const DEFAULT_WITHIN: Duration = Duration::from_secs(10);
const DEFAULT_OPEN_FOR: Duration = Duration::from_secs(60);
const DEFAULT_HORIZON: Duration = Duration::from_secs(6 * 3600);

/// The meaning of a file in which nothing is wrong.
pub(super) fn policy(
    file: &File,
    host: &Host,
    mut secrets: BTreeMap<usize, Secret>,
    private: Private,
) -> Option<Policy> {
    let written = file.backend.as_ref().map(|backend| backend.value);
    let backend = host.backend.or(written).or(host.default);
    let backend = backend.unwrap_or(Backend::Nftables);
    let doors: Vec<Door> = file
        .doors
        .iter()
        .map(|door| {
            Some(Door {
                name: door.name.value.clone(),
                reach: match door.every_port {
                    true => Reach::EveryPort,
                    false => Reach::Ports,
                },
                ports: values(&door.ports)?,
                place: place(door),
                forward: forward(door),
                // Overlapping networks become one; nft would refuse them side by side.
                trust: IpNet::aggregate(&door.trust),
                trusted_names: door.trusted_names.clone(),
                open_for: door
                    .open_for
                    .as_ref()
                    .or(file.open_for.as_ref())
                    .map_or(DEFAULT_OPEN_FOR, |s| s.value),
                extension: match (&door.extend, &door.at_most) {
                    (Some(extend), Some(at_most)) => Some(Extension {
                        extend: extend.value,
                        at_most: at_most.value,
                    }),
                    _ => None,
                },
            })
        })
        .collect::<Option<_>>()?;
    let keys = file
        .keys
        .iter()
        .enumerate()
        .map(|(index, key)| {
            let kind = match secrets.remove(&index) {
                Some(secret) if key.signed.is_some() => KeyKind::Signed(Signed {
                    secret,
                    binding: key.binding.as_ref().map(|b| b.value).unwrap_or_default(),
                }),
                Some(secret) => KeyKind::Token(secret),
                None => match &key.scratch {
                    Some(list) => {
                        let sequences = list.value.iter().map(|s| knocks_of(&s.knocks));
                        KeyKind::Scratch(sequences.collect())
                    }
                    None => KeyKind::Sequence(values(&key.sequence)?),
                },
            };
            Some(Key {
                name: key.name.value.clone(),
                opens: openings(file, key)?,
                kind,
                ping: key.ping.as_ref().is_some_and(|ping| ping.value),
                once: key.once,
                expires: key.expires.as_ref().map(|s| s.value),
            })
        })
        .collect::<Option<_>>()?;
    let interfaces = match &file.interfaces {
        None => Interfaces::AllButLoopback,
        Some(list) => Interfaces::Only(list.value.iter().map(|i| i.value.clone()).collect()),
    };
    let ignore = file.ignore.iter().flat_map(|list| &list.value);
    Some(Policy {
        backend,
        within: file.within.as_ref().map_or(DEFAULT_WITHIN, |s| s.value),
        interfaces,
        ignore: ignore.map(|port| port.value).collect(),
        closed: file.closed.as_ref().map_or(Closed::Drop, |s| s.value),
        log: file.log.as_ref().map_or(Log::Kernel, |s| s.value),
        max_sources: backend::sources(backend, host, file.max_sources.as_ref().map(|s| s.value)),
        grant: GrantPrefix {
            v4: file
                .prefix4
                .as_ref()
                .map_or(GrantPrefix::SINGLE.v4, |s| s.value),
            v6: file
                .prefix6
                .as_ref()
                .map_or(GrantPrefix::SINGLE.v6, |s| s.value),
        },
        token_port: file.token_port.written().map(|port| port.value),
        signed_mark: file.signed_mark.as_ref().map_or(SIGNED_MARK, |m| m.value),
        token_horizon: file
            .token_horizon
            .as_ref()
            .map_or(DEFAULT_HORIZON, |s| s.value),
        firewall: file.firewall.as_ref().map(|written| HostFirewall {
            allow: ports_of(&written.allow),
            protocols: protocols_of(&written.allow),
            partly: written.partly.iter().map(allowance).collect(),
            ping: written.ping,
            drop_forwarded: written.drop_forwarded,
        }),
        fleet: match &file.fleet {
            Some(written) => Some(fleet(written, &doors, private)?),
            None => None,
        },
        doors,
        keys,
    })
}

fn place(door: &DoorEntry) -> Place {
    match &door.to {
        None => Place::Here,
        Some(to) => Place::Behind(Behind {
            to: apart(&to.value),
            knock_at: door
                .knock_at
                .as_ref()
                .map_or(KnockAt::ThisHost, |s| s.value),
        }),
    }
}

fn forward(door: &DoorEntry) -> Option<Forward> {
    let masquerade = door
        .masquerade
        .as_ref()
        .is_some_and(|written| written.value);
    door.forward.as_ref().map(|written| Forward {
        to: written.value.clone(),
        sender: match masquerade {
            true => Sender::ThisHost,
            false => Sender::Client,
        },
    })
}

/// The networks that are in no other one, each once.
fn apart(networks: &[IpNet]) -> Vec<IpNet> {
    let mut apart: Vec<IpNet> = Vec::new();
    for network in networks {
        let mut all = networks.iter();
        let is_inside = all.any(|other| other != network && other.contains(network));
        if !is_inside && !apart.contains(network) {
            apart.push(*network);
        }
    }
    apart
}

const DEFAULT_GROUP: u16 = 7;

fn fleet(written: &FleetEntry, doors: &[Door], private: Private) -> Option<Fleet> {
    let (Entry::Written(engine), Entry::Written(name)) = (&written.url, &written.name) else {
        return None;
    };
    let indices = |list: &Option<Spanned<Vec<Spanned<String>>>>| {
        let names = list.iter().flat_map(|list| &list.value);
        let index = |name: &Spanned<String>| {
            let mut names = doors.iter().map(|door| door.name.as_str());
            names.position(|door| door == name.value).map(DoorIndex)
        };
        names.map(index).collect::<Option<Vec<DoorIndex>>>()
    };
    Some(Fleet {
        engine: engine.value.clone(),
        password: private.password,
        secret: private.secret,
        authority: written.authority.as_ref().map(|file| file.value.clone()),
        name: name.value.clone(),
        share: indices(&written.share)?,
        accept: indices(&written.accept)?,
        group: written.group.as_ref().map_or(DEFAULT_GROUP, |s| s.value),
    })
}

pub(super) fn knocks_of(written: &Spanned<Vec<Spanned<Knock>>>) -> Vec<Knock> {
    written.value.iter().map(|knock| knock.value).collect()
}

pub(super) fn values<T: Clone>(entry: &Entry<Vec<Spanned<T>>>) -> Option<Vec<T>> {
    match entry {
        Entry::Written(list) => Some(list.value.iter().map(|s| s.value.clone()).collect()),
        Entry::Missing | Entry::Wrong => None,
    }
}

fn ports_of(written: &[Spanned<Traffic>]) -> Vec<PortRange> {
    let ports = written.iter().filter_map(|element| match element.value {
        Traffic::Ports(ports) => Some(ports),
        Traffic::Protocol(_) => None,
    });
    ports.collect()
}

fn protocols_of(written: &[Spanned<Traffic>]) -> Vec<Portless> {
    let protocols = written.iter().filter_map(|element| match element.value {
        Traffic::Ports(_) => None,
        Traffic::Protocol(protocol) => Some(protocol),
    });
    protocols.collect()
}

fn allowance(written: &AllowanceEntry) -> Allowance {
    let interfaces = written.interfaces.iter().flat_map(|list| &list.value);
    Allowance {
        ports: ports_of(&written.traffic),
        protocols: protocols_of(&written.traffic),
        from: IpNet::aggregate(
            &written
                .from
                .iter()
                .flat_map(|list| list.value.clone())
                .collect(),
        ),
        interfaces: interfaces.map(|name| name.value.clone()).collect(),
    }
}

/// The openings of a key, each with its time: that of the key, else the door's, else the policy's.
pub(super) fn openings(file: &File, key: &KeyEntry) -> Option<Vec<Opening>> {
    let names: Vec<String> = values(&key.opens)?;
    names
        .iter()
        .map(|name| {
            let index = file
                .doors
                .iter()
                .position(|door| door.name.value.as_str() == name)?;
            let open_for = key
                .open_for
                .as_ref()
                .or(file.doors[index].open_for.as_ref())
                .or(file.open_for.as_ref())
                .map_or(DEFAULT_OPEN_FOR, |s| s.value);
            Some(Opening {
                door: DoorIndex(index),
                open_for,
            })
        })
        .collect()
}
