//! The first policy of a host, for `toctoc init`: which door it proposes, and the text that explains each line. Pure;
//! `files` writes it.

mod files;

use std::net::IpAddr;

pub use files::{Files, First, write};

use crate::firewall::caller::Connection;
use crate::firewall::listening::Service;
use crate::knock::{Knock, Protocol};
use crate::policy::manual::POLICY_MANUAL;
use crate::policy::{Backend, Name};

/// Programs that serve ssh.
const SSH: [&str; 2] = ["sshd", "dropbear"];

/// Where ssh is unless somebody has moved it.
const SSH_PORT: u16 = 22;

/// The ports of the door that is proposed: that of the caller's own ssh connection, else of an ssh server, else port 22,
/// else the only port that other hosts reach. Of an ssh server these are all its ports: one that stays open would make the
/// door useless.
pub fn door(services: &[Service], connection: Option<Connection>) -> Option<Vec<Knock>> {
    let own = connection.and_then(|there| Knock::new(Protocol::Tcp, there.to.port()));
    if let Some(port) = own {
        let mut ports = of_same_program(services, port);
        // The client is told the first one.
        ports.retain(|other| *other != port);
        ports.insert(0, port);
        return Some(ports);
    }
    // Anybody can call a program so.
    let is_ssh =
        |service: &&Service| service.is_roots && service.program.as_deref().is_some_and(is_ssh);
    let mut found = services.iter().filter(is_ssh).map(|service| service.port);
    let ssh = found.next().or_else(|| {
        let mut ports = services.iter().map(|service| service.port);
        ports.find(|port| port.port.get() == SSH_PORT)
    });
    match (ssh, services) {
        (Some(port), _) => Some(of_same_program(services, port)),
        (None, [only]) => Some(vec![only.port]),
        (None, _) => None,
    }
}

fn is_ssh(program: &str) -> bool {
    SSH.contains(&program)
}

/// A port, and all the others of the same ssh server. (A proxy has ports of other services.)
fn of_same_program(services: &[Service], port: Knock) -> Vec<Knock> {
    let behind = services.iter().find(|service| service.port == port);
    let program = behind.and_then(|service| service.program.as_ref());
    let program = program.filter(|program| is_ssh(program));
    let same = |service: &&Service| {
        service.port == port || (program.is_some() && service.program.as_ref() == program)
    };
    services
        .iter()
        .filter(same)
        .map(|service| service.port)
        .collect()
}

/// The name of a door: `ssh`, or as the program behind its first port is called.
pub fn door_name(services: &[Service], ports: &[Knock], connection: Option<Connection>) -> String {
    let first = ports.first();
    let behind = services.iter().find(|service| Some(&service.port) == first);
    let program = behind.and_then(|service| service.program.as_deref());
    let own = connection.map(|there| there.to.port());
    let is_ssh = program.is_some_and(is_ssh)
        || first.is_some_and(|port| {
            let number = port.port.get();
            port.protocol == Protocol::Tcp && (Some(number) == own || number == SSH_PORT)
        });
    let program = program.filter(|name| Name::new(name).is_some());
    match (is_ssh, program) {
        (true, _) => "ssh",
        (false, Some(program)) => program,
        (false, None) => "door",
    }
    .to_string()
}

/// Returns whether an address is one that only its own network knows.
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_link_local() || v4.is_loopback(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

/// A policy with a door and no key. Every line is explained.
pub fn policy(door: &str, ports: &[Knock], backend: Option<Backend>) -> String {
    let ports: Vec<String> = ports.iter().map(written).collect();
    let ports = ports.join(", ");
    let backend = backend.map_or(String::new(), |backend| {
        let name = backend.name();
        format!("\n# The program that holds the rules: \"nftables\" or \"iptables\".\nbackend = \"{name}\"\n")
    });
    format!(
        "\
# What toctoc guards on this host. `toctoc init` has written it.
# A change in this file does nothing by itself. Afterwards:
#   toctoc check                 finds mistakes
#   toctoc apply --confirm 10m   tries it; without `toctoc confirm` it goes back
# All settings: {POLICY_MANUAL}
{backend}
# The longest pause between two knocks. After a longer one, the client begins anew.
within = \"10s\"

# For how long after the knock a client can begin connections. Connections that are
# open by then stay open.
open_for = \"60s\"

# A door: these ports are shut for everybody who has not knocked.
# Addresses that need not knock can stand below it: trust = [\"198.51.100.0/24\"]
[door.{door}]
ports = [{ports}]
"
    )
}

fn written(port: &Knock) -> String {
    match port.protocol {
        Protocol::Tcp => port.port.to_string(),
        Protocol::Udp => format!("\"{port}\""),
    }
}

/// The comments above a key with a sequence.
const SEQUENCE: &str = "\
# A key: it opens the doors of `opens`. The client knocks at the ports of `sequence`, in
# this order. They are a secret: nobody else may read this file.
# Another key: toctoc key new NAME    Take this one away: toctoc key revoke NAME
";

/// The comments above a key with tokens.
const TOKEN: &str = "\
# A key: it opens the doors of `opens`. The client sends a token, which opens once.
# Server and client make the tokens from a secret. `token` names its file.
# Another key: toctoc key new NAME    Take this one away: toctoc key revoke NAME
";

/// The comments above a signed key.
const SIGNED: &str = "\
# A key: it opens the doors of `opens`. The client sends a signed datagram, which opens
# once, from the address that it was signed for. `signed` names the file of the secret.
# Another key: toctoc key new NAME    Take this one away: toctoc key revoke NAME
";

const TOKEN_PORT: &str = "# The UDP port at which tokens arrive. Nothing needs to listen there.\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy;

    fn service(port: u16, program: Option<&str>) -> Service {
        Service {
            port: Knock::new(Protocol::Tcp, port).unwrap(),
            program: program.map(str::to_string),
            is_roots: true,
        }
    }

    fn connection(port: u16) -> Option<Connection> {
        Some(Connection {
            from: "198.51.100.7:40022".parse().unwrap(),
            to: format!("192.0.2.1:{port}").parse().unwrap(),
        })
    }

    fn proposed(services: &[Service], connection: Option<Connection>) -> Option<(String, String)> {
        let ports = door(services, connection)?;
        let shown: Vec<String> = ports.iter().map(|port| port.port.to_string()).collect();
        Some((shown.join(" "), door_name(services, &ports, connection)))
    }

    #[test]
    fn the_ssh_server_is_proposed_wherever_it_listens() {
        let nginx = || service(80, Some("nginx"));
        for (services, through, wanted) in [
            (vec![service(22, Some("sshd")), nginx()], None, "22 ssh"),
            (vec![nginx(), service(2222, Some("sshd"))], None, "2222 ssh"),
            (
                vec![nginx(), service(2222, Some("dropbear"))],
                None,
                "2222 ssh",
            ),
            // All its ports: the one that is left would be a way around the door.
            (
                vec![
                    service(22, Some("sshd")),
                    nginx(),
                    service(2222, Some("sshd")),
                ],
                None,
                "22 2222 ssh",
            ),
            // A proxy in front of sshd, and of the web site, which nobody wants to hide.
            (
                vec![service(22, Some("haproxy")), service(80, Some("haproxy"))],
                None,
                "22 ssh",
            ),
            // The port that is in use comes first: the client is told that one.
            (
                vec![service(22, Some("sshd")), service(2222, Some("sshd"))],
                connection(2222),
                "2222 22 ssh",
            ),
            // systemd listens for sshd, so the program is not known.
            (vec![nginx(), service(22, None)], None, "22 ssh"),
            (
                vec![nginx(), service(2022, None)],
                connection(2022),
                "2022 ssh",
            ),
            // In a container that nothing of may be looked at.
            (vec![], connection(2022), "2022 ssh"),
            (vec![nginx()], None, "80 nginx"),
            (vec![service(8080, Some("Weird Name"))], None, "8080 door"),
        ] {
            let (ports, name) = proposed(&services, through).unwrap();
            assert_eq!(format!("{ports} {name}"), wanted, "{services:?}");
        }
        // A program of somebody who calls it so.
        let mut forged = service(2222, Some("sshd"));
        forged.is_roots = false;
        let (ports, _) = proposed(&[service(22, None), forged.clone()], None).unwrap();
        assert_eq!(ports, "22");
        assert_eq!(proposed(&[nginx(), forged], None), None);
        assert_eq!(proposed(&[], None), None);
        assert_eq!(proposed(&[nginx(), service(443, None)], None), None);
    }

    #[test]
    fn the_text_is_a_policy_without_a_key() {
        let ports = [
            Knock::new(Protocol::Tcp, 22),
            Knock::new(Protocol::Udp, 51_820),
        ];
        let ports: Vec<Knock> = ports.into_iter().flatten().collect();
        for backend in [None, Some(Backend::Nftables), Some(Backend::Iptables)] {
            let text = super::policy("ssh", &ports, backend);
            let read = policy::read("p", &text).unwrap_or_else(|report| panic!("{report}"));
            assert_eq!(read.doors[0].ports.len(), 2);
            assert_eq!(read.backend, backend.unwrap_or(Backend::Nftables));
            assert!(text.lines().all(|line| line.len() <= 90), "{text}");
        }
    }

    #[test]
    fn addresses_of_one_network_are_known() {
        for address in [
            "192.168.1.2",
            "10.0.0.1",
            "::ffff:10.0.0.1",
            "fd00::1",
            "fe80::1",
        ] {
            assert!(is_private(address.parse().unwrap()), "{address}");
        }
        for address in ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1"] {
            assert!(!is_private(address.parse().unwrap()), "{address}");
        }
    }
}
