//! Doors beside Docker's and libvirt's chains, with the rules that these programs make (`neighbour_rules/`; each file says
//! whether it was recorded or written).
//!
//! ```text
//!   client, stranger        server                                  guest (a container, a virtual machine)
//!   192.0.2.7, .9   eth0 - eth0  192.0.2.1, 172.17.0.1     docker0 - eth0  172.17.0.2
//!                                           192.168.122.1  virbr0  - eth0  192.168.122.10
//! ```

use std::net::SocketAddr;

use socket2::{Domain, Socket, Type};
use toctoc::client::Door;
use toctoc::firewall::run;
use toctoc::lab::{CLIENT, Host, SERVER, STRANGER};

use crate::world::{SEQUENCE, SHUT, World, alive, listen, on};

const DOCKER: [&str; 3] = ["docker-20.rules", "docker-28.rules", "docker-29.nft"];
const LIBVIRT: [&str; 2] = ["libvirt-9.rules", "libvirt-10.nft"];
const CONTAINER: &str = "172.17.0.2";
const MACHINE: &str = "192.168.122.10";

struct Site {
    world: World,
    inner: Host,
}

impl Site {
    /// A bridge of the server with a guest behind it, and the rules of a file.
    fn with(rules: &str) -> Site {
        let (bridge, own, guest) = match rules.starts_with("docker") {
            true => ("docker0", "172.17.0.1", CONTAINER),
            false => ("virbr0", "192.168.122.1", MACHINE),
        };
        let world = World::bare();
        let inner = Host::new().unwrap();
        let server = &world.lab.server;
        let pid = inner.pid();
        for words in [
            &format!("link add {bridge} type bridge"),
            &format!("link add veth1 type veth peer name eth0 netns {pid}"),
            &format!("link set veth1 master {bridge} up"),
            &format!("addr add {own}/24 dev {bridge}"),
            &format!("link set {bridge} up"),
        ] {
            server.ip(words).unwrap();
        }
        for words in [
            &format!("addr add {guest}/24 dev eth0"),
            "link set eth0 up",
            &format!("route add default via {own}"),
        ] {
            inner.ip(words).unwrap();
        }
        world.server(&["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
        let route = format!("route add {guest} via {}", SERVER[0]);
        world.lab.client.ip(&route).unwrap();
        listen(&inner, 22);
        listen(&inner, 80);
        let site = Site { world, inner };
        site.world.until("the way is there", || {
            site.connect(CLIENT[0], guest, 80) == Door::Open
        });
        let path = format!(
            "{}/tests/kernel/neighbour_rules/{rules}",
            env!("CARGO_MANIFEST_DIR")
        );
        let text = std::fs::read_to_string(path).unwrap();
        let command = match rules.ends_with(".nft") {
            true => &["nft", "-f", "-"][..],
            false => &["iptables-restore"],
        };
        let ended = site.world.lab.server.inside(|| run(command, &text));
        let ended = ended.unwrap().unwrap();
        assert!(ended.succeeded(), "{}", ended.stderr);
        site
    }

    fn connect(&self, from: &str, to: &str, port: u16) -> Door {
        let address = |host: &str, port| SocketAddr::new(host.parse().unwrap(), port);
        let (from, to) = (address(from, 0), address(to, port));
        let connected = self.world.lab.client.inside(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            socket.bind(&from.into())?;
            socket.connect_timeout(&to.into(), SHUT)
        });
        match connected.unwrap() {
            Ok(()) => Door::Open,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Door::Refused,
            Err(_) => Door::Silent,
        }
    }

    fn told(&self) -> String {
        String::from_utf8(self.world.toctoc(&["check"]).stderr).unwrap()
    }

    /// Runs the line that the program names.
    fn follow(&self, told: &str) {
        let line = told
            .split('`')
            .find(|part| part.contains("accept") || part.contains("ACCEPT"));
        let line = line.unwrap_or_else(|| panic!("no line: {told}"));
        let line = line.replace('\n', " ");
        self.world.server(&["sh", "-c", &line]);
    }

    /// The rules of others, without counters.
    fn others(&self) -> String {
        let all = self.world.server(&["nft", "list", "ruleset"]);
        let ours = all.find("table inet toctoc").unwrap_or(all.len());
        let end = all[ours..]
            .find("\n}\n")
            .map_or(all.len(), |end| ours + end + 3);
        let lines = all[..ours].lines().chain(all[end..].lines());
        let plain = |line: &str| match line.split_once("counter packets") {
            Some((before, after)) => format!(
                "{before}{}",
                after.split(' ').skip(4).collect::<Vec<_>>().join(" ")
            ),
            None => line.to_string(),
        };
        lines.map(plain).collect::<Vec<_>>().join("\n")
    }
}

fn door(setting: &str) -> String {
    format!(
        "open_for = \"60s\"\n[door.it]\n{setting}\n[key.yves]\nopens = [\"it\"]\nsequence = [443, 2387, 920, 18357, 50]\n"
    )
}

/// A published port is a door of the host's port: Docker's rules translate and let on, and are as before.
#[test]
fn a_published_port_is_a_door() {
    for rules in DOCKER {
        let site = Site::with(rules);
        assert_eq!(site.world.connect(STRANGER[0], 8080), Door::Open, "{rules}");
        let before = site.others();
        site.world.apply(&door("ports = [8080]"));
        for client in [CLIENT[0], STRANGER[0]] {
            assert_eq!(site.world.connect(client, 8080), Door::Silent, "{rules}");
        }
        site.world.knock(CLIENT[0], &SEQUENCE);
        let mut session = site.world.session(CLIENT[0], 8080);
        assert!(alive(&mut session), "{rules}");
        assert_eq!(
            site.world.connect(STRANGER[0], 8080),
            Door::Silent,
            "{rules}"
        );
        assert!(!site.told().contains("another firewall"), "{}", site.told());
        assert_eq!(site.others(), before, "{rules}");
    }
}

/// A port that Docker has not published: its chain drops what the door passes on, the program names the line that helps, and
/// that line lets in nobody without a grant.
#[test]
fn connections_to_a_container_are_passed_on_behind_the_named_line() {
    for rules in ["docker-20.rules", "docker-28.rules"] {
        let site = Site::with(rules);
        let policy = door("ports = [2222]\nforward = \"172.17.0.2:22\"");
        std::fs::write(site.world.path(), &policy).unwrap();
        let output = site.world.toctoc(&["apply"]);
        let said = String::from_utf8(output.stderr).unwrap();
        let line = "iptables -I DOCKER-USER -d 172.17.0.2 -p tcp --dport 22 -j ACCEPT";
        assert!(said.contains(line), "{rules}: {said}");
        let status = String::from_utf8(site.world.toctoc(&["status"]).stdout).unwrap();
        assert!(status.contains(line), "{rules}: {status}");
        site.world.knock(CLIENT[0], &SEQUENCE);
        assert_eq!(site.world.connect(CLIENT[0], 2222), Door::Silent, "{rules}");
        site.follow(&site.told());
        assert!(!site.told().contains("another firewall"), "{}", site.told());
        let mut session = site.world.session(CLIENT[0], 2222);
        assert!(alive(&mut session), "{rules}");
        assert_eq!(
            site.world.connect(STRANGER[0], 2222),
            Door::Silent,
            "{rules}"
        );
        // The published port is as before.
        assert_eq!(site.world.connect(STRANGER[0], 8080), Door::Open, "{rules}");
    }
}

/// Docker's own table of nft lets on a port that is published, whoever translated, and drops all others.
#[test]
fn connections_to_a_container_with_dockers_own_table_need_a_published_port() {
    let site = Site::with("docker-29.nft");
    site.world
        .apply(&door("ports = [2222]\nforward = \"172.17.0.2:80\""));
    site.world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(site.world.connect(CLIENT[0], 2222), Door::Open);
    assert_eq!(site.world.connect(STRANGER[0], 2222), Door::Silent);
    site.world
        .apply(&door("ports = [2222]\nforward = \"172.17.0.2:22\""));
    site.world.knock(CLIENT[0], &SEQUENCE);
    assert_eq!(site.world.connect(CLIENT[0], 2222), Door::Silent);
    let told = site.told();
    assert!(
        told.contains("docker-bridges, chain filter-forward-in__docker0) drops 22/tcp"),
        "{told}"
    );
}

/// A door in front of a container guards its port however packets come: by a route, where Docker lets them, and by the
/// published port.
#[test]
fn a_door_in_front_of_a_container_guards_the_published_port_too() {
    for rules in DOCKER {
        let site = Site::with(rules);
        site.world
            .apply(&door("ports = [80]\nto = [\"172.17.0.2\"]"));
        assert_eq!(site.world.connect(CLIENT[0], 8080), Door::Silent, "{rules}");
        assert_eq!(
            site.connect(CLIENT[0], CONTAINER, 80),
            Door::Silent,
            "{rules}"
        );
        site.world.knock(CLIENT[0], &SEQUENCE);
        assert_eq!(site.world.connect(CLIENT[0], 8080), Door::Open, "{rules}");
        let is_routed = rules == "docker-20.rules";
        let routed = if is_routed { Door::Open } else { Door::Silent };
        assert_eq!(site.connect(CLIENT[0], CONTAINER, 80), routed, "{rules}");
        let told = site.told();
        assert_eq!(
            told.contains("drops 80/tcp on the way to 172.17.0.2"),
            !is_routed,
            "{told}"
        );
        assert_eq!(told.contains("publish the port"), !is_routed, "{told}");
        assert_eq!(
            site.world.connect(STRANGER[0], 8080),
            Door::Silent,
            "{rules}"
        );
        assert_eq!(
            site.connect(STRANGER[0], CONTAINER, 80),
            Door::Silent,
            "{rules}"
        );
    }
}

/// libvirt rejects what comes to its network `default`. The line that is named lets guests through a door, and strangers not.
#[test]
fn a_virtual_machine_is_reached_behind_the_named_line() {
    for rules in LIBVIRT {
        for setting in [
            "ports = [2222]\nforward = \"192.168.122.10:22\"",
            "ports = [22]\nto = [\"192.168.122.10\"]",
        ] {
            let site = Site::with(rules);
            let connect = |from: &str| match setting.contains("forward") {
                true => site.connect(from, SERVER[0], 2222),
                false => site.connect(from, MACHINE, 22),
            };
            site.world.apply(&door(setting));
            site.world.knock(CLIENT[0], &SEQUENCE);
            assert_ne!(connect(CLIENT[0]), Door::Open, "{rules}");
            let told = site.told();
            let chain = match rules.ends_with(".nft") {
                true => "table ip libvirt_network, chain guest_input) drops 22/tcp",
                false => "chain LIBVIRT_FWI) drops 22/tcp",
            };
            assert!(told.contains(chain), "{rules}: {told}");
            let status = String::from_utf8(site.world.toctoc(&["status"]).stdout).unwrap();
            assert!(status.contains(chain), "{rules}: {status}");
            site.follow(&told);
            assert!(!site.told().contains("another firewall"), "{}", site.told());
            assert_eq!(connect(CLIENT[0]), Door::Open, "{rules}: {setting}");
            assert_eq!(connect(STRANGER[0]), Door::Silent, "{rules}: {setting}");
            // The machine's other ports stay as they were.
            assert_ne!(site.connect(CLIENT[0], MACHINE, 80), Door::Open, "{rules}");
        }
    }
}

/// A virtual machine that goes out by the host is translated by libvirt as before, doors or not.
#[test]
fn what_a_guest_of_the_host_begins_goes_out_as_before() {
    for rules in ["docker-20.rules", "libvirt-9.rules", "libvirt-10.nft"] {
        let site = Site::with(rules);
        listen(&site.world.lab.client, 8000);
        let guest = if rules.starts_with("docker") {
            CONTAINER
        } else {
            MACHINE
        };
        let setting = format!("ports = [2222]\nforward = \"{guest}:22\"\nmasquerade = true");
        site.world.apply(&door(&setting));
        let to = SocketAddr::new(CLIENT[0].parse().unwrap(), 8000);
        let connected = site
            .inner
            .inside(|| std::net::TcpStream::connect_timeout(&to, crate::world::PATIENCE));
        let _open = connected
            .unwrap()
            .unwrap_or_else(|error| panic!("{rules}: {error}"));
        let seen = on(
            &site.world.lab.client,
            &["ss", "-Htn", "state", "established", "( sport = :8000 )"],
        );
        assert!(seen.stdout.contains(SERVER[0]), "{rules}: {}", seen.stdout);
    }
}
