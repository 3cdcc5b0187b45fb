//! Names of services, after IANA's registry (RFC 6335).
//!
//! `/etc/services` is not read: it differs between machines, and a policy that is checked on one must mean the same on
//! another. What is not in this table is written as a number.

use crate::protocol::Protocol;

/// A service that has a port of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Service {
    pub name: &'static str,
    pub port: u16,
    pub over: Over,
}

/// The protocols that a service is used with. (The registry gives most ports to both.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Tcp,
    Udp,
    Both,
}

use Over::{Both, Tcp, Udp};

const fn service(name: &'static str, port: u16, over: Over) -> Service {
    Service { name, port, over }
}

/// All names, in the order of their ports.
#[rustfmt::skip]
pub const SERVICES: &[Service] = &[
    service("ftp", 21, Tcp), service("ssh", 22, Tcp), service("telnet", 23, Tcp), service("smtp", 25, Tcp),
    service("domain", 53, Both), service("bootps", 67, Udp), service("bootpc", 68, Udp), service("tftp", 69, Udp),
    service("http", 80, Tcp), service("kerberos", 88, Both), service("pop3", 110, Tcp), service("sunrpc", 111, Both),
    service("ntp", 123, Udp), service("imap", 143, Tcp), service("snmp", 161, Udp), service("snmptrap", 162, Udp),
    service("bgp", 179, Tcp), service("ldap", 389, Tcp), service("https", 443, Both), service("microsoft-ds", 445, Tcp),
    service("submissions", 465, Tcp), service("isakmp", 500, Udp), service("syslog", 514, Udp), service("rtsp", 554, Tcp),
    service("submission", 587, Tcp), service("ipp", 631, Tcp), service("ldaps", 636, Tcp), service("domain-s", 853, Both),
    service("rsync", 873, Tcp), service("imaps", 993, Tcp), service("pop3s", 995, Tcp), service("openvpn", 1194, Both),
    service("l2tp", 1701, Udp), service("radius", 1812, Udp), service("radius-acct", 1813, Udp), service("mqtt", 1883, Tcp),
    service("nfs", 2049, Tcp), service("mysql", 3306, Tcp), service("ms-wbt-server", 3389, Both), service("stun", 3478, Both),
    service("svn", 3690, Tcp), service("ipsec-nat-t", 4500, Udp), service("sip", 5060, Both), service("sips", 5061, Tcp),
    service("xmpp-client", 5222, Tcp), service("xmpp-server", 5269, Tcp), service("mdns", 5353, Udp),
    service("postgresql", 5432, Tcp), service("amqps", 5671, Tcp), service("amqp", 5672, Tcp), service("rfb", 5900, Tcp),
    service("redis", 6379, Tcp), service("ircs-u", 6697, Tcp), service("http-alt", 8080, Tcp),
    service("secure-mqtt", 8883, Tcp), service("git", 9418, Tcp),
];

impl Over {
    pub fn has(self, protocol: Protocol) -> bool {
        match self {
            Tcp => protocol == Protocol::Tcp,
            Udp => protocol == Protocol::Udp,
            Both => true,
        }
    }
}

impl Service {
    /// The service of this name.
    pub fn named(name: &str) -> Option<Service> {
        SERVICES
            .iter()
            .copied()
            .find(|service| service.name == name)
    }

    /// Returns whether the service is used with a protocol.
    pub fn is_over(self, protocol: Protocol) -> bool {
        self.over.has(protocol)
    }

    /// As a policy writes it: with the protocol where that is not TCP.
    pub fn words(self) -> String {
        match self.over {
            Tcp => self.name.to_string(),
            Udp => format!("{}/udp", self.name),
            Both => format!("{0}, {0}/udp", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knock::{Knock, KnockError};

    #[test]
    fn each_name_and_each_port_is_there_once() {
        for pair in SERVICES.windows(2) {
            assert!(pair[0].port < pair[1].port, "{}", pair[1].name);
        }
        for service in SERVICES {
            assert_eq!(Service::named(service.name), Some(*service));
            assert!(service.name.starts_with(|c: char| c.is_ascii_lowercase()));
        }
    }

    #[test]
    fn a_name_means_its_port_with_the_protocol_of_the_service() {
        for (text, port) in [
            ("ssh", "22/tcp"),
            ("ssh/tcp", "22/tcp"),
            ("https", "443/tcp"),
            ("https/udp", "443/udp"),
            ("domain", "53/tcp"),
            ("domain/udp", "53/udp"),
            ("ntp/udp", "123/udp"),
            ("ms-wbt-server", "3389/tcp"),
        ] {
            assert_eq!(text.parse::<Knock>().unwrap().to_string(), port, "{text}");
        }
        let error = |text: &str| text.parse::<Knock>().unwrap_err();
        for text in [
            "sshd",
            "SSH",
            "wireguard",
            "x",
            "ssh22",
            "ssh-",
            "http-https",
        ] {
            assert_eq!(error(text), KnockError::Name(text.into()), "{text}");
        }
        assert_eq!(
            error("ntp").to_string(),
            "`ntp` is a service over udp: write `ntp/udp`, or 123/tcp if you mean that port"
        );
        assert_eq!(
            error("ssh/udp").to_string(),
            "`ssh` is a service over tcp: write `ssh`, or 22/udp if you mean that port"
        );
        assert_eq!(error("ssh/icmp"), KnockError::Protocol("icmp".into()));
    }
}
