//! Names of services as `/etc/services`, iptables, ufw and firewalld know them. A name counts however it is
//! written (`SSH`).

use crate::knock::{Knock, Protocol};
use crate::services::{self, Over};

/// A service and its ports, first to last.
#[derive(Clone, Copy)]
struct Service {
    name: &'static str,
    ports: (u16, u16),
    over: Over,
}

const fn service(name: &'static str, port: u16, over: Over) -> Service {
    Service {
        name,
        ports: (port, port),
        over,
    }
}

/// Names that policies do not know, and services that these programs open for other protocols than policies do. The first
/// of those with the same port names a door.
const OTHERS: &[Service] = &[
    service("mail", 25, Over::Tcp),
    service("dns", 53, Over::Both),
    service("www", 80, Over::Tcp),
    service("rpc-bind", 111, Over::Both),
    service("netbios-ns", 137, Over::Udp),
    service("netbios-ssn", 139, Over::Tcp),
    service("imap2", 143, Over::Tcp),
    service("https", 443, Over::Tcp),
    service("smb", 445, Over::Tcp),
    service("smtps", 465, Over::Tcp),
    service("ssmtp", 465, Over::Tcp),
    service("smtp-submission", 587, Over::Tcp),
    service("ipp", 631, Over::Both),
    service("rsyncd", 873, Over::Tcp),
    service("socks", 1080, Over::Tcp),
    service("openvpn", 1194, Over::Udp),
    service("ms-sql-s", 1433, Over::Tcp),
    service("mssql", 1433, Over::Tcp),
    service("pptp", 1723, Over::Tcp),
    service("nfs", 2049, Over::Both),
    service("cvspserver", 2401, Over::Tcp),
    service("iscsi-target", 3260, Over::Tcp),
    service("rdp", 3389, Over::Tcp),
    service("ms-wbt-server", 3389, Over::Tcp),
    service("postgres", 5432, Over::Tcp),
    service("vnc", 5900, Over::Tcp),
    Service {
        name: "vnc-server",
        ports: (5900, 5903),
        over: Over::Tcp,
    },
    service("x11", 6000, Over::Tcp),
    service("ircd", 6667, Over::Tcp),
    service("webcache", 8080, Over::Tcp),
    service("mqtt-tls", 8883, Over::Tcp),
    service("cockpit", 9090, Over::Tcp),
    service("webmin", 10000, Over::Tcp),
    service("wireguard", 51820, Over::Udp),
    Service {
        name: "mosh",
        ports: (60000, 61000),
        over: Over::Udp,
    },
];

/// Names for doors where nobody says what the registry does.
const SAID: [&str; 2] = ["rdp", "vnc"];

/// All services: the others first.
fn all() -> impl Iterator<Item = Service> {
    let known = services::SERVICES.iter();
    let known = known.map(|known| service(known.name, known.port, known.over));
    OTHERS.iter().copied().chain(known)
}

fn named(name: &str) -> Option<Service> {
    all().find(|service| service.name.eq_ignore_ascii_case(name))
}

/// The ports of a service by name, first to last.
pub(super) fn ports(name: &str) -> Option<(u16, u16)> {
    named(name).map(|service| service.ports)
}

/// The protocols that a service speaks; both where it is not known.
pub(super) fn protocols(name: &str) -> Vec<Protocol> {
    let over = named(name).map_or(Over::Both, |service| service.over);
    let both = [Protocol::Tcp, Protocol::Udp];
    both.into_iter()
        .filter(|protocol| over.has(*protocol))
        .collect()
}

/// The service at a port, as a policy names it, or as people do. Both ports of `over` both, and it has the name for each.
pub(super) fn name(port: Knock) -> Option<&'static str> {
    let number = port.port.get();
    let known = services::SERVICES.iter();
    let known = known.map(|known| service(known.name, known.port, known.over));
    let others = || OTHERS.iter().copied();
    let mut found = others()
        .filter(|service| SAID.contains(&service.name))
        .chain(known)
        .chain(others())
        .filter(|service| service.ports == (number, number) && service.over.has(port.protocol));
    found.next().map(|service| service.name)
}

/// The protocols of the service that is known at a port; both where none is.
pub(super) fn protocols_at(first: u16, last: u16) -> Vec<Protocol> {
    match all().find(|service| service.ports == (first, last)) {
        Some(service) => protocols(service.name),
        None => vec![Protocol::Tcp, Protocol::Udp],
    }
}
