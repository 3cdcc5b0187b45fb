//! Chains of others that drop the packets of doors, whatever is knocked. Pure.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::super::links::Link;
use super::rules::{Base, Destination, Fate, Packet, Table, Work};
use crate::knock::{Knock, PortRange, display_source};
use crate::policy::{Door, Policy};
use crate::ruleset::Family;

/// So many ports of each door are looked at.
const MANY: usize = 64;

/// This host, as far as it decides by which interfaces packets come and go.
pub struct Around<'l> {
    /// Those by which packets come to a door.
    pub interfaces: Vec<&'l Link>,
    /// The families that somebody outside could use.
    pub families: Vec<Family>,
    /// The networks at the interfaces.
    pub networks: Vec<(IpNet, &'l str)>,
}

impl<'l> Around<'l> {
    /// The interface by which packets go on to a host, if it is at one.
    fn out(&self, host: Option<IpNet>) -> Option<&'l str> {
        let host = host?;
        let at = self.networks.iter();
        let at = at.filter(|(network, _)| network.contains(&host));
        at.max_by_key(|(network, _)| network.prefix_len())
            .map(|(_, name)| *name)
    }

    /// The interfaces by which guests come to a host behind this one: not the one by which they go on, and no bridge of
    /// containers or virtual machines, unless there is no other.
    fn comes_by(&self, out: Option<&str>) -> Vec<&'l str> {
        let others = self.interfaces.iter();
        let others = others.filter(|link| Some(link.name.as_str()) != out);
        let (bridges, rest): (Vec<&Link>, Vec<&Link>) =
            others.partition(|link| link.kind == "bridge");
        let some = if rest.is_empty() { bridges } else { rest };
        some.into_iter().map(|link| link.name.as_str()).collect()
    }
}

/// Ports that packets are for, at a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Arrivals {
    ports: PortRange,
    way: Destination,
    host: Option<IpNet>,
}

/// The packets of doors that come to filters of a kind.
fn comes_to(policy: &Policy, work: Work) -> BTreeSet<Arrivals> {
    let own = |door: &Door, way: Destination, host: Option<IpNet>| -> Vec<Arrivals> {
        let ports = door.ports.iter().take(MANY);
        let arrivals = |ports: &PortRange| Arrivals {
            ports: *ports,
            way,
            host,
        };
        ports.map(arrivals).collect()
    };
    let doors = policy.doors.iter();
    let behind = || {
        let behind = policy.doors_behind();
        behind.flat_map(|(door, behind)| {
            let hosts = behind.to.iter();
            hosts.flat_map(move |host| own(door, Destination::Behind, Some(*host)))
        })
    };
    match work {
        Work::Filter => {
            let doors = doors.filter(|door| door.is_served_here());
            doors
                .flat_map(|door| own(door, Destination::ThisHost, None))
                .collect()
        }
        Work::FilterArriving => {
            let here = doors.filter(|door| door.is_here());
            let here = here.flat_map(|door| own(door, Destination::ThisHost, None));
            here.chain(behind()).collect()
        }
        Work::FilterForwarded => {
            let forwards = policy.forwards().flat_map(|(door, forward)| {
                let targets = forward.to.iter();
                targets.flat_map(move |target| {
                    let mut arrivals = own(door, Destination::PassedOn, Some(target.host.into()));
                    if let Some(port) = target.port {
                        for one in &mut arrivals {
                            let protocol = one.ports.protocol();
                            one.ports = Knock { protocol, port }.into();
                        }
                    }
                    arrivals
                })
            });
            behind().chain(forwards).collect()
        }
        Work::Translate => BTreeSet::new(),
    }
}

/// Something that others drop: the chain, its family where it matters, and the host behind this one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    who: String,
    fate: Fate,
    over: &'static str,
    host: Option<IpNet>,
    /// What helps there.
    help: Help,
}

/// Says what others drop of the doors' packets.
pub fn drops(policy: &Policy, tables: &[Table], around: &Around<'_>) -> Vec<String> {
    let mut found: BTreeMap<Finding, Vec<PortRange>> = BTreeMap::new();
    for table in tables {
        let filters = table.bases.iter();
        for base in filters.filter(|base| base.work != Work::Translate) {
            // Of a range, the ends are asked about.
            for arrivals in comes_to(policy, base.work) {
                let ends = [arrivals.ports.first(), arrivals.ports.last()];
                for port in BTreeSet::from(ends) {
                    for finding in findings(table, base, arrivals, port, around) {
                        let told = found.entry(finding).or_default();
                        let ports = arrivals.ports;
                        match told.last() {
                            Some(first) if *first == ports.first().into() && ports.is_several() => {
                                told.pop();
                                told.push(ports);
                            }
                            _ => told.push(port.into()),
                        }
                    }
                }
            }
        }
    }
    found
        .iter()
        .map(|(finding, ports)| told(finding, ports))
        .collect()
}

/// What becomes of packets to a port at a base chain, in each family if that is not the same.
fn findings(
    table: &Table,
    base: &Base,
    arrivals: Arrivals,
    port: Knock,
    around: &Around<'_>,
) -> Vec<Finding> {
    let out = around.out(arrivals.host);
    let interfaces = match arrivals.host {
        Some(_) => around.comes_by(out),
        None => around.comes_by_all(),
    };
    let packet = |family, interface| Packet {
        family,
        port,
        interface,
        way: arrivals.way,
        host: arrivals.host,
        out,
    };
    // Passing by one interface is a choice.
    let fate = |family| {
        let fates = interfaces.iter();
        let fates = fates.map(|interface| table.fate(base, &packet(family, interface)));
        fates.min().unwrap_or(Fate::Passes)
    };
    let is_of = |family: &Family| {
        let host = arrivals.host.map(|host| Family::of(host.addr()));
        table.family.is_none_or(|of| of == *family) && host.is_none_or(|of| of == *family)
    };
    let families = around.families.iter().copied().filter(is_of);
    let fates: Vec<(Family, Fate)> = families.map(|family| (family, fate(family))).collect();
    let same = fates.iter().all(|(_, fate)| *fate == fates[0].1);
    let told: &[_] = if same {
        &fates[..fates.len().min(1)]
    } else {
        &fates
    };
    let told = told.iter().filter(|(_, fate)| *fate != Fate::Passes);
    told.map(|(family, fate)| {
        let chain = match (base.work, interfaces.first()) {
            (Work::FilterForwarded, Some(interface)) if *fate == Fate::Drops => {
                table.dropper(base, &packet(*family, interface))
            }
            _ => &base.chain,
        };
        Finding {
            who: format!("{}, chain {chain}", table.title),
            fate: *fate,
            over: match (same && table.family.is_none(), arrivals.host, family) {
                (true, _, _) | (_, Some(_), _) => "",
                (false, None, Family::V4) => " over IPv4",
                (false, None, Family::V6) => " over IPv6",
            },
            host: arrivals.host,
            help: help(table, base, arrivals.host),
        }
    })
    .collect()
}

impl<'l> Around<'l> {
    fn comes_by_all(&self) -> Vec<&'l str> {
        let links = self.interfaces.iter();
        links.map(|link| link.name.as_str()).collect()
    }
}

/// The place where a rule lets packets through that a chain of others drops.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Help {
    /// Anywhere in it.
    There,
    /// In front of this chain of iptables.
    Iptables(&'static str, &'static str),
    /// Docker lets nobody go to an address of a container by a route, before any other rule.
    ByTheHost,
    /// In this chain of libvirt's own table.
    Libvirt(&'static str),
    /// Docker's table of nft: a port that is published, or a mark.
    Mark,
}

fn help(table: &Table, base: &Base, host: Option<IpNet>) -> Help {
    let Some(host) = host else {
        return Help::There;
    };
    let family = Family::of(host.addr());
    let program = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    let is_iptables = table.title.starts_with(program);
    match base.work {
        Work::FilterForwarded if is_iptables && table.chains.contains_key("DOCKER-USER") => {
            Help::Iptables(program, "DOCKER-USER")
        }
        Work::FilterForwarded if is_iptables => Help::Iptables(program, "FORWARD"),
        Work::FilterForwarded if table.title == "table ip libvirt_network" => Help::Libvirt("ip"),
        Work::FilterForwarded if table.title == "table ip6 libvirt_network" => Help::Libvirt("ip6"),
        _ if table.title.ends_with(" docker-bridges") => Help::Mark,
        // A rule of Docker for one container, in front of everything else.
        Work::FilterArriving if is_iptables => Help::ByTheHost,
        _ => Help::There,
    }
}

fn told(finding: &Finding, ports: &[PortRange]) -> String {
    let Finding {
        who, fate, over, ..
    } = finding;
    let shown = ports.iter().take(4).map(PortRange::to_string);
    let mut shown = shown.collect::<Vec<_>>().join(" ");
    if ports.len() > 4 {
        shown.push_str(&format!(" and {} more", ports.len() - 4));
    }
    let on_the_way = finding.host.map_or(String::new(), |host| {
        format!(" on the way to {}", display_source(&host))
    });
    let said = match fate {
        Fate::Drops => {
            format!("another firewall ({who}) drops {shown}{on_the_way}{over}, whatever is knocked")
        }
        _ => {
            return format!(
                "another firewall ({who}) may drop {shown}{on_the_way}{over}, whatever is knocked: it lets in some \
                 sources alone, or by rules that are not understood here"
            );
        }
    };
    let host = finding
        .host
        .map_or(String::new(), |host| display_source(&host));
    let tests = |port: &PortRange| {
        let protocol = port.protocol();
        (protocol, port.numbers(':'), port.numbers('-'))
    };
    let first = ports.first().map(tests);
    let help = match (&finding.help, first) {
        (Help::Iptables(program, chain), Some((protocol, port, _))) => format!(
            "let it through there (`{program} -I {chain} -d {host} -p {protocol} --dport {port} -j ACCEPT`; toctoc only takes away)"
        ),
        (Help::Libvirt(family), Some((protocol, _, port))) => format!(
            "let it through there (`nft insert rule {family} libvirt_network guest_input {family} daddr {host} {protocol} \
             dport {port} accept`, in /etc/libvirt/hooks/network so that it stays; toctoc only takes away)"
        ),
        (Help::ByTheHost, _) => "Docker does so for containers that are not routed to: publish the port and make a door of the \
                                 host's port, or one with `forward`"
            .to_string(),
        (Help::Mark, _) => "publish the port and make a door of the host's port (toctoc only takes away)".to_string(),
        _ => "let it in there (toctoc only takes away)".to_string(),
    };
    format!("{said}: {help}")
}
