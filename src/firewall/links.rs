//! The interfaces of this network namespace, as the kernel tells them (rtnetlink(7), linux/if_link.h). A name that a
//! policy writes may be one of the alternative names of an interface; rules know the first name alone.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_sys::protocols::NETLINK_ROUTE;
use serde::{Deserialize, Serialize};

use super::netlink::{Attributes, Message, attribute, find, utf8};
use super::netlink_listing::{listing, word};
use super::sighting::Sighting;
use crate::policy::{Interfaces, Policy};

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// The kernel gives no number twice before the machine starts again.
    pub index: u32,
    /// The name that rules see.
    pub name: String,
    /// Alternative names (`ip link property add dev eth0 altname enp2s0`).
    pub alternative_names: Vec<String>,
    pub is_up: bool,
    pub is_loopback: bool,
    /// `bridge`, `bond`, `vrf`, `veth`, ...; empty for hardware.
    pub kind: String,
    /// The bridge, bond, ... that this one is a part of, or the macvlan or macvtap that takes all its packets.
    pub master: Option<u32>,
    /// Set for a macvlan or macvtap that takes all packets of another interface.
    pub passes_through: Option<u32>,
}

/// Kinds of interfaces at which the packets of their parts arrive.
const TAKES_OVER: [&str; 5] = ["bridge", "bond", "team", "vrf", "openvswitch"];

impl Link {
    /// Returns whether the packets of its parts arrive at this one.
    pub fn takes_over(&self) -> bool {
        TAKES_OVER.contains(&self.kind.as_str()) || self.passes_through.is_some()
    }

    /// Returns whether this is its first name or an alternative one.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.alternative_names.iter().any(|other| other == name)
    }
}

/// All interfaces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links(pub Vec<Link>);

impl Links {
    /// Asks the kernel.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn read() -> io::Result<Links> {
        /// `RTM_GETLINK`; `IFLA_EXT_MASK` with `RTEXT_FILTER_SKIP_STATS`: what they count is not asked for.
        const GET_LINKS: u16 = 18;
        const MASK: u16 = 29;
        const NO_COUNTS: u32 = 8;
        // `struct ifinfomsg`
        let question = [&[0; 16][..], &attribute(MASK, &NO_COUNTS.to_ne_bytes())].concat();
        let mut links = Vec::new();
        listing(NETLINK_ROUTE, GET_LINKS, &question, |message| {
            links.extend(link(message))
        })?;
        Ok(Links::of(links))
    }

    /// The interfaces as the kernel lists them, each with what takes its packets.
    pub fn of(mut links: Vec<Link>) -> Links {
        let taken: Vec<(u32, u32)> = links
            .iter()
            .filter_map(|link| Some((link.passes_through?, link.index)))
            .collect();
        for (below, index) in taken {
            if let Some(link) = links.iter_mut().find(|link| link.index == below) {
                link.master = link.master.or(Some(index));
            }
        }
        Links(links)
    }

    /// The interface of a name. A first name goes before an alternative one, as in the kernel.
    pub fn named(&self, name: &str) -> Option<&Link> {
        let first = self.0.iter().find(|link| link.name == name);
        first.or_else(|| self.0.iter().find(|link| link.is_called(name)))
    }

    pub fn numbered(&self, index: u32) -> Option<&Link> {
        self.0.iter().find(|link| link.index == index)
    }

    /// The interface that a policy means by a name. An alternative name that is gone means the interface that had it
    /// when rules were made, as long as that has the name in the rules.
    pub fn meant(&self, written: &str, before: &[NamedInterface]) -> Option<&Link> {
        let had = || {
            let before = before.iter().find(|named| named.written == written)?;
            let link = self.named(&before.real)?;
            (Some(link.index) == before.index).then_some(link)
        };
        self.named(written).or_else(had)
    }

    /// The name in the rules for one that a policy writes. The same name when there is no such interface now.
    fn real_name<'n>(&'n self, written: &'n str, before: &[NamedInterface]) -> &'n str {
        self.meant(written, before)
            .map_or(written, |link| &link.name)
    }

    /// The policy with names that rules see. `before` are its interfaces, as they were when rules were made.
    pub fn resolve<'p>(&self, policy: &'p Policy, before: &[NamedInterface]) -> Cow<'p, Policy> {
        let Interfaces::Only(written) = &policy.interfaces else {
            return Cow::Borrowed(policy);
        };
        let mut names: Vec<String> = Vec::new();
        for name in written.iter().map(|name| self.real_name(name, before)) {
            if !names.iter().any(|seen| seen == name) {
                names.push(name.to_string());
            }
        }
        if names == *written {
            return Cow::Borrowed(policy);
        }
        Cow::Owned(Policy {
            interfaces: Interfaces::Only(names),
            ..policy.clone()
        })
    }
}

/// The policy with the names that rules see now. Where the kernel cannot be asked, names of interfaces stay as they are
/// written.
pub fn named(policy: &Policy) -> Cow<'_, Policy> {
    match policy.interfaces {
        Interfaces::AllButLoopback => Cow::Borrowed(policy),
        Interfaces::Only(_) => {
            let before = Sighting::last().map(|last| last.interfaces);
            let links = Links::read().unwrap_or_default();
            links.resolve(policy, &before.unwrap_or_default())
        }
    }
}

/// An interface that a policy names, as it was when rules were made for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedInterface {
    pub written: String,
    /// The name in the rules.
    pub real: String,
    /// `None` when there was no such interface.
    pub index: Option<u32>,
}

impl NamedInterface {
    /// Looks up the interfaces that a policy names. One that is not there now keeps the number that it had `before`.
    pub fn look_up(policy: &Policy, before: &[NamedInterface]) -> Vec<NamedInterface> {
        let Interfaces::Only(written) = &policy.interfaces else {
            return Vec::new();
        };
        let links = Links::read().unwrap_or_default();
        let had = |written: &String| {
            let mut before = before.iter();
            before.find(|named| named.written == *written)?.index
        };
        let look_up = |written: &String| NamedInterface {
            written: written.clone(),
            real: links.real_name(written, before).to_string(),
            index: links
                .meant(written, before)
                .map(|link| link.index)
                .or_else(|| had(written)),
        };
        written.iter().map(look_up).collect()
    }

    /// Returns whether rules would be made for the same names now. `true` where the kernel cannot be asked.
    pub fn names_unchanged(interfaces: &[NamedInterface]) -> bool {
        if interfaces.is_empty() {
            return true;
        }
        let Ok(links) = Links::read() else {
            return true;
        };
        let mut each = interfaces.iter();
        each.all(|named| links.real_name(&named.written, interfaces) == named.real)
    }
}

/// Addresses of this host (but loopback's) that are up, with the number of their interface.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn addresses() -> io::Result<Vec<(IpAddr, u32)>> {
    let networks = with_networks()?.into_iter();
    Ok(networks
        .map(|(address, _, index)| (address, index))
        .collect())
}

/// Networks at the interfaces of this host (but loopback), with the number of the interface.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn networks() -> io::Result<Vec<(IpNet, u32)>> {
    let networks = with_networks()?.into_iter();
    Ok(networks
        .map(|(_, network, index)| (network, index))
        .collect())
}

fn with_networks() -> io::Result<Vec<(IpAddr, IpNet, u32)>> {
    /// `RTM_GETADDR`; `IFA_ADDRESS`, `_LOCAL`; `IFA_F_TENTATIVE | IFA_F_DADFAILED`
    const GET_ADDRESSES: u16 = 22;
    const ADDRESS: u16 = 1;
    const LOCAL: u16 = 2;
    const NOT_YET: u8 = 0x48;
    let mut found = Vec::new();
    listing(NETLINK_ROUTE, GET_ADDRESSES, &[0; 8], |message| {
        let (flags, attributes) = (message.body().get(2), message.body().get(8..));
        let length = message.body().get(1);
        let (Some(flags), Some(attributes), Some(index), Some(length)) =
            (flags, attributes, word(message.body(), 4), length)
        else {
            return;
        };
        // The other end of a point-to-point link is in that network.
        let peer = find(attributes, ADDRESS).and_then(address_of);
        let network = |address| IpNet::new(peer.unwrap_or(address), *length).ok();
        let address = find(attributes, LOCAL).or_else(|| find(attributes, ADDRESS));
        let address = address
            .and_then(address_of)
            .filter(|_| flags & NOT_YET == 0);
        found.extend(
            address
                .filter(|address| !address.is_loopback())
                .and_then(|address| Some((address, network(address)?.trunc(), index))),
        );
    })?;
    Ok(found)
}

/// Addresses of this host that the routing table `local` lacks. `fib daddr type local` does not know them, so knocks
/// are not heard there.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn addresses_without_knocks() -> io::Result<Vec<IpAddr>> {
    let (addresses, links, known) = (addresses()?, Links::read()?, local_addresses()?);
    let is_up = |index: u32| links.numbered(index).is_some_and(|link| link.is_up);
    let unknown = addresses
        .into_iter()
        .filter(|(address, index)| is_up(*index) && !known.contains(address));
    Ok(unknown.map(|(address, _)| address).collect())
}

/// The single addresses of the routing table `local`.
fn local_addresses() -> io::Result<HashSet<IpAddr>> {
    /// `RTM_GETROUTE`, `RT_TABLE_LOCAL`, `RTA_DST`
    const GET_ROUTES: u16 = 26;
    const LOCAL_TABLE: u8 = 255;
    const TO: u16 = 1;
    let mut known = HashSet::new();
    // `struct rtmsg` of that table: other tables may have a million routes, and are left out by kernels since 4.20.
    let question = [0, 0, 0, 0, LOCAL_TABLE, 0, 0, 0, 0, 0, 0, 0];
    listing(NETLINK_ROUTE, GET_ROUTES, &question, |message| {
        if message.body().get(4) == Some(&LOCAL_TABLE) {
            let to = message
                .body()
                .get(12..)
                .and_then(|attributes| find(attributes, TO));
            known.extend(to.and_then(address_of));
        }
    })?;
    Ok(known)
}

fn address_of(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

fn link(message: &Message<'_>) -> Option<Link> {
    /// `IFF_UP`, `IFF_LOOPBACK`
    const UP: u32 = 1;
    const LOOPBACK: u32 = 8;
    /// `IFLA_IFNAME`, `_LINK`, `_MASTER`, `_LINKINFO` with `IFLA_INFO_KIND` and `_DATA`, `_PROP_LIST` with
    /// `IFLA_ALT_IFNAME`
    const NAME: u16 = 3;
    const BELOW: u16 = 5;
    const MASTER: u16 = 10;
    const INFO: u16 = 18;
    const KIND: u16 = 1;
    const DATA: u16 = 2;
    /// `IFLA_MACVLAN_MODE`, `MACVLAN_MODE_PASSTHRU`
    const MODE: u16 = 1;
    const PASSTHRU: u32 = 8;
    const PROPERTIES: u16 = 52;
    const ALTERNATIVE_NAME: u16 = 53;
    // `struct ifinfomsg`
    let (index, flags) = (word(message.body(), 4)?, word(message.body(), 8)?);
    let attributes = message.body().get(16..)?;
    let info = find(attributes, INFO).unwrap_or_default();
    let kind = find(info, KIND).and_then(utf8).unwrap_or_default();
    let properties = Attributes(find(attributes, PROPERTIES).unwrap_or_default());
    let names = properties.filter(|(kind, _)| *kind == ALTERNATIVE_NAME);
    let number = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.try_into().ok()?));
    let mode = find(info, DATA)
        .and_then(|data| find(data, MODE))
        .and_then(number);
    let is_passthru = matches!(kind, "macvlan" | "macvtap") && mode == Some(PASSTHRU);
    let below = find(attributes, BELOW).and_then(number);
    Some(Link {
        index,
        name: utf8(find(attributes, NAME)?)?.to_string(),
        alternative_names: names
            .filter_map(|(_, name)| Some(utf8(name)?.to_string()))
            .collect(),
        is_up: flags & UP != 0,
        is_loopback: flags & LOOPBACK != 0,
        kind: kind.to_string(),
        master: find(attributes, MASTER).and_then(number),
        passes_through: below.filter(|_| is_passthru),
    })
}
