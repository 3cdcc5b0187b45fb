//! Names of services as `/etc/services`, iptables, ufw and firewalld know them. A name counts however it is
//! written (`SSH`).

use crate::knock::{Knock, Protocol};

/// A service and its ports, first to last.
struct Service {
    name: &'static str,
    ports: (u16, u16),
    over: Over,
}

#[derive(Clone, Copy, PartialEq)]
enum Over {
    Tcp,
    Udp,
    Both,
}

const fn service(name: &'static str, port: u16, over: Over) -> Service {
    Service {
        name,
        ports: (port, port),
        over,
    }
}

/// The first of those with the same port names a door.
const SERVICES: &[Service] = &[
    service("ftp", 21, Over::Tcp),
    service("ssh", 22, Over::Tcp),
    service("telnet", 23, Over::Tcp),
    service("smtp", 25, Over::Tcp),
    service("mail", 25, Over::Tcp),
    service("domain", 53, Over::Both),
    service("dns", 53, Over::Both),
    service("bootps", 67, Over::Udp),
    service("tftp", 69, Over::Udp),
    service("http", 80, Over::Tcp),
    service("www", 80, Over::Tcp),
    service("kerberos", 88, Over::Both),
    service("pop3", 110, Over::Tcp),
    service("sunrpc", 111, Over::Both),
    service("rpc-bind", 111, Over::Both),
    service("ntp", 123, Over::Udp),
    service("netbios-ns", 137, Over::Udp),
    service("netbios-ssn", 139, Over::Tcp),
    service("imap2", 143, Over::Tcp),
    service("imap", 143, Over::Tcp),
    service("snmp", 161, Over::Udp),
    service("ldap", 389, Over::Tcp),
    service("https", 443, Over::Tcp),
    service("microsoft-ds", 445, Over::Tcp),
    service("smb", 445, Over::Tcp),
    service("submissions", 465, Over::Tcp),
    service("smtps", 465, Over::Tcp),
    service("ssmtp", 465, Over::Tcp),
    service("isakmp", 500, Over::Udp),
    service("syslog", 514, Over::Udp),
    service("submission", 587, Over::Tcp),
    service("smtp-submission", 587, Over::Tcp),
    service("ipp", 631, Over::Both),
    service("ldaps", 636, Over::Tcp),
    service("rsync", 873, Over::Tcp),
    service("rsyncd", 873, Over::Tcp),
    service("imaps", 993, Over::Tcp),
    service("pop3s", 995, Over::Tcp),
    service("socks", 1080, Over::Tcp),
    service("openvpn", 1194, Over::Udp),
    service("ms-sql-s", 1433, Over::Tcp),
    service("mssql", 1433, Over::Tcp),
    service("l2tp", 1701, Over::Udp),
    service("pptp", 1723, Over::Tcp),
    service("mqtt", 1883, Over::Tcp),
    service("nfs", 2049, Over::Both),
    service("cvspserver", 2401, Over::Tcp),
    service("iscsi-target", 3260, Over::Tcp),
    service("mysql", 3306, Over::Tcp),
    service("rdp", 3389, Over::Tcp),
    service("ms-wbt-server", 3389, Over::Tcp),
    service("svn", 3690, Over::Tcp),
    service("ipsec-nat-t", 4500, Over::Udp),
    service("sip", 5060, Over::Both),
    service("xmpp-client", 5222, Over::Tcp),
    service("postgresql", 5432, Over::Tcp),
    service("postgres", 5432, Over::Tcp),
    service("vnc", 5900, Over::Tcp),
    service("rfb", 5900, Over::Tcp),
    Service {
        name: "vnc-server",
        ports: (5900, 5903),
        over: Over::Tcp,
    },
    service("x11", 6000, Over::Tcp),
    service("redis", 6379, Over::Tcp),
    service("ircd", 6667, Over::Tcp),
    service("http-alt", 8080, Over::Tcp),
    service("webcache", 8080, Over::Tcp),
    service("mqtt-tls", 8883, Over::Tcp),
    service("secure-mqtt", 8883, Over::Tcp),
    service("cockpit", 9090, Over::Tcp),
    service("git", 9418, Over::Tcp),
    service("webmin", 10000, Over::Tcp),
    service("wireguard", 51820, Over::Udp),
    Service {
        name: "mosh",
        ports: (60000, 61000),
        over: Over::Udp,
    },
];

impl Over {
    fn has(self, protocol: Protocol) -> bool {
        match self {
            Over::Tcp => protocol == Protocol::Tcp,
            Over::Udp => protocol == Protocol::Udp,
            Over::Both => true,
        }
    }
}

/// The ports of a service by name, first to last.
pub(super) fn ports(name: &str) -> Option<(u16, u16)> {
    let mut found = SERVICES
        .iter()
        .filter(|service| service.name.eq_ignore_ascii_case(name));
    found.next().map(|service| service.ports)
}

/// The protocols that a service speaks.
pub(super) fn protocols(name: &str) -> Vec<Protocol> {
    let found = SERVICES
        .iter()
        .find(|service| service.name.eq_ignore_ascii_case(name));
    let both = [Protocol::Tcp, Protocol::Udp];
    let speaks = |protocol: &Protocol| found.is_none_or(|service| service.over.has(*protocol));
    both.into_iter().filter(speaks).collect()
}

/// The service at a port. Both ports of `over` both, and it has the name for each.
pub(super) fn name(port: Knock) -> Option<&'static str> {
    let number = port.port.get();
    let mut found = SERVICES
        .iter()
        .filter(|service| service.ports == (number, number) && service.over.has(port.protocol));
    found.next().map(|service| service.name)
}

/// The protocols of the service that is known at a port; both where none is.
pub(super) fn protocols_at(first: u16, last: u16) -> Vec<Protocol> {
    let mut found = SERVICES
        .iter()
        .filter(|service| service.ports == (first, last));
    match found.next() {
        Some(service) => protocols(service.name),
        None => vec![Protocol::Tcp, Protocol::Udp],
    }
}
