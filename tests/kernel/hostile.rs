//! The client where others decide: networks that answer for everybody, names with many addresses, homes of others.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Output;

use tempfile::TempDir;
use toctoc::lab::{CLIENT, Host, SERVER};

use crate::person::{Person, SEQUENCE, said};
use crate::world::{World, YVES};

/// Everything that comes in by TCP is answered by one listener, as by a captive portal; what goes to the sequence's
/// ports is counted.
fn answer_everything(world: &World) {
    world.listen(9999);
    world.nft(
        "table ip between { chain n { type nat hook prerouting priority -100; tcp dport 1-65535 redirect to :9999\n\
         }\n}\ntable inet beside { counter knocks { }\n chain c { type filter hook prerouting priority -400; tcp \
         flags syn tcp dport { 443, 2387, 920, 18357, 50 } counter name knocks\n}\n}",
    );
}

/// Nothing is said that was not seen, and the knocks are sent all the same.
#[test]
fn where_everything_answers_the_door_is_not_called_open() {
    let world = World::bare();
    answer_everything(&world);
    let person = Person::with_profile(&world);
    for (times, arguments) in [
        &["knock", "server"][..],
        &["knock", "server", "--always"],
        &["knock", "server", "--gap", "30ms"],
        &["connect", "server"],
    ]
    .into_iter()
    .enumerate()
    {
        let output = person.toctoc(arguments);
        let said = said(&output);
        assert!(
            said.contains("something answers every connection"),
            "{said}"
        );
        assert!(!said.contains("is open"), "{said}");
        let wanted = if arguments[0] == "connect" { 0 } else { 2 };
        assert_eq!(output.status.code(), Some(wanted), "{said}");
        assert!(
            world.counted("knocks") >= 5 * (times as u64 + 1),
            "{arguments:?}"
        );
    }
}

/// Hosts of others between the client and the server, each with an answer of its own for connections that the server does
/// not take.
struct Between<'w> {
    world: &'w World,
    far: Host,
    home: TempDir,
}

impl Between<'_> {
    /// The client of `world` becomes a router in front of `far`, which has the profile.
    fn new(world: &World) -> Between<'_> {
        let far = Host::new().unwrap();
        let (router, server, pid) = (&world.lab.client, &world.lab.server, far.pid());
        for words in [
            &format!("link add far type veth peer name eth0 netns {pid}") as &str,
            "addr add 198.51.100.1/24 dev far",
            "link set far up",
        ] {
            router.ip(words).unwrap();
        }
        for words in [
            "addr add 198.51.100.7/24 dev eth0",
            "link set eth0 up",
            "route add default via 198.51.100.1",
        ] {
            far.ip(words).unwrap();
        }
        server
            .ip("route add 198.51.100.0/24 via 192.0.2.7")
            .unwrap();
        for switch in [
            "net.ipv4.ip_forward=1",
            "net.netfilter.nf_conntrack_tcp_loose=0",
        ] {
            assert!(world.client(&["sysctl", "-qw", switch]).succeeded());
        }
        let home = tempfile::tempdir().unwrap();
        let between = Between { world, far, home };
        let add = format!(
            "profile add server --host {} --door 22 --sequence {SEQUENCE}",
            SERVER[0]
        );
        let added = between.toctoc(&add.split(' ').collect::<Vec<_>>());
        assert_eq!(added.status.code(), Some(0), "{}", said(&added));
        between
    }

    fn toctoc(&self, arguments: &[&str]) -> Output {
        let mut command = Person::on(self.world).command("toctoc");
        command.env("HOME", self.home.path()).args(arguments);
        self.far.inside(|| command.output().unwrap()).unwrap()
    }
}

/// A SYN proxy takes each connection and looks at the server afterwards; another one does so for the ports of services
/// alone. The door is shut, so nothing is called open before a knock; the knocks open it all the same.
#[test]
fn behind_a_proxy_that_takes_connections_a_shut_door_is_not_called_open() {
    const SYN_PROXY: [&str; 2] = [
        "iptables -t raw -A PREROUTING -i far -p tcp --syn PORTS -j CT --notrack",
        "iptables -A FORWARD -i far -p tcp PORTS -m conntrack --ctstate INVALID,UNTRACKED -j SYNPROXY --sack-perm \
         --timestamp --wscale 7 --mss 1460",
    ];
    for ports in ["", "--dport 1:1023"] {
        let world = World::with(YVES);
        world.listen(22);
        let between = Between::new(&world);
        for rule in SYN_PROXY {
            let rule = rule.replace("PORTS", ports);
            let words: Vec<&str> = rule.split_whitespace().collect();
            assert!(world.client(&words).succeeded(), "{rule}");
        }
        let output = between.toctoc(&["knock", "server"]);
        let told = said(&output);
        assert!(
            told.contains("something answers every connection"),
            "{ports}: {told}"
        );
        assert!(!told.contains("is open"), "{ports}: {told}");
        assert_eq!(output.status.code(), Some(2), "{ports}: {told}");
        assert_eq!(world.holders("ssh")[0].0, "198.51.100.7", "{ports}");
        world.yes(&["close"]);
        for arguments in [
            &["connect", "server"][..],
            &["connect", "server", "--always"],
        ] {
            let output = between.toctoc(arguments);
            let told = said(&output);
            let is_told = told.contains("something answers every connection");
            assert_eq!(is_told, arguments.len() == 2, "{ports}: {told}");
            assert_eq!(output.status.code(), Some(0), "{ports}: {told}");
            let holder = &world.holders("ssh")[0].0;
            assert_eq!(holder, "198.51.100.7", "{ports} {arguments:?}");
            world.yes(&["close"]);
        }
    }
    // The twin: a router that only routes.
    let world = World::with(YVES);
    world.listen(22);
    let output = Between::new(&world).toctoc(&["knock", "server"]);
    assert!(
        said(&output).contains("22/tcp at 192.0.2.1 is open, after"),
        "{}",
        said(&output)
    );
}

/// The twin: a door that is open alone is called open, before and after.
#[test]
fn where_only_the_door_answers_it_is_called_open() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    for (arguments, wanted) in [
        (&["knock", "server"][..], "is open, after"),
        (&["knock", "server"], "is open already"),
        (
            &["knock", "server", "--always"],
            "is open; it may have been before",
        ),
    ] {
        let output = person.yes(arguments);
        assert!(output.contains(wanted), "{output}");
    }
    let output = person.toctoc(&["connect", "--always", "server"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(said(&output), "");
}

/// Any address of the machine itself, and any command that tells of a door.
#[test]
fn knocking_at_oneself_is_told() {
    let world = World::with(YVES);
    let person = Person::on(&world);
    for (addresses, listens) in [
        (["127.0.0.1", "::1"], false),
        (CLIENT, false),
        (CLIENT, true),
    ] {
        let _listener = listens.then(|| {
            let client = &world.lab.client;
            let listener = client.inside(|| std::net::TcpListener::bind(("::", 22)));
            listener.unwrap().unwrap()
        });
        for address in addresses {
            for door in [&["--door", "22"][..], &[]] {
                let output = person.toctoc(&[&["knock", address, "443", "2387"], door].concat());
                let said = said(&output);
                let wanted = format!("{address} is this machine, and loopback is never guarded");
                assert!(said.contains(&wanted), "{said}");
                assert!(!said.contains("open already"), "{said}");
            }
        }
    }
    let other = person.toctoc(&["knock", SERVER[0], "443", "--door", "22"]);
    assert!(
        !said(&other).contains("this machine, and"),
        "{}",
        said(&other)
    );
}

#[test]
fn too_many_knocks_and_addresses_are_told() {
    let world = World::bare();
    let person = Person::on(&world);
    let many: Vec<String> = (1..=33).map(|port| port.to_string()).collect();
    let mut words = vec!["knock", SERVER[0]];
    words.extend(many.iter().map(String::as_str));
    let list = many.join(",");
    let add = [
        "profile",
        "add",
        "a",
        "--host",
        SERVER[0],
        "--sequence",
        &list,
    ];
    for arguments in [&words[..], &add] {
        let output = person.toctoc(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains("at most 32"), "{}", said(&output));
    }
    let hosts: String = (1..=12)
        .map(|n| format!("192.0.2.{n} many.example\n"))
        .collect();
    let file = person.home.path().join("hosts");
    fs::write(&file, hosts).unwrap();
    let script = format!(
        "mount --bind {} /etc/hosts && toctoc knock -4 many.example 443",
        file.display()
    );
    let output = person.run(&["unshare", "--mount", "sh", "-c", &script]);
    let wanted = "many.example has 12 addresses: the first 8 are tried";
    assert!(said(&output).contains(wanted), "{}", said(&output));
}

/// Root with the home of another user, who has put links where files of ours would be.
#[test]
fn nothing_is_written_through_links_of_another_user() {
    let world = World::with(YVES);
    world.listen(22);
    let user = 65534;
    let own = |path: &Path| chown(path, Some(user), Some(user)).unwrap();
    for (place, file) in [
        (".cache/toctoc/round-trip", "192.0.2.1"),
        (".config/toctoc", "new.toml"),
    ] {
        for link_at in [0, 1, 2, 3] {
            let person = Person::on(&world);
            let home = person.home.path();
            let victim = home.join("victim");
            fs::create_dir(&victim).unwrap();
            fs::set_permissions(&victim, PermissionsExt::from_mode(0o755)).unwrap();
            fs::write(victim.join("file"), "precious").unwrap();
            // Directories of the user, and then a link to what is root's.
            let mut path = home.to_path_buf();
            for (depth, part) in Path::new(place).iter().enumerate() {
                path.push(part);
                if depth == link_at {
                    symlink(&victim, &path).unwrap();
                    break;
                }
                fs::create_dir(&path).unwrap();
                own(&path);
            }
            if path.ends_with(place) && !path.is_symlink() {
                symlink(victim.join("file"), path.join(file)).unwrap();
            } else if path.is_symlink() {
                let link = std::process::Command::new("chown")
                    .args(["-h", "65534"])
                    .arg(&path)
                    .status();
                assert!(link.unwrap().success());
            }
            own(home);
            world.yes(&["close"]);
            let knocked = person.toctoc(&[
                "knock", SERVER[0], "443", "2387", "920", "18357", "50", "--door", "22",
            ]);
            assert_eq!(knocked.status.code(), Some(0), "{}", said(&knocked));
            let added = person.toctoc(&["profile", "add", "new", "--host", "a", "--sequence", "5"]);
            assert_eq!(added.status.code(), Some(2), "{}", said(&added));
            let removed = person.toctoc(&["profile", "remove", "file"]);
            assert_eq!(removed.status.code(), Some(2), "{}", said(&removed));
            let left: Vec<_> = fs::read_dir(&victim).unwrap().flatten().collect();
            assert_eq!(left.len(), 1, "{place} {link_at}: {left:?}");
            assert_eq!(fs::read_to_string(victim.join("file")).unwrap(), "precious");
        }
    }
    // The twin: in a home of one's own it is remembered.
    let person = Person::with_profile(&world);
    world.yes(&["close"]);
    person.yes(&["knock", "server"]);
    let remembered = person
        .home
        .path()
        .join(".cache/toctoc/round-trip/192.0.2.1");
    assert!(fs::read_to_string(remembered).is_ok());
}

/// Without a profile for a host, only where that is asked for.
#[test]
fn hosts_without_a_profile_are_connected_to_directly_when_asked_for() {
    let world = World::bare();
    world.listen(2222);
    let person = Person::on(&world);
    let output = person.toctoc(&["connect", SERVER[0], "2222"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("there is no profile 192.0.2.1"));
    let output = person.toctoc_reading(&["connect", "--direct", SERVER[0], "2222"], b"x");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    for (arguments, wanted) in [
        (
            &["connect", "--direct", SERVER[0], "2223"][..],
            "192.0.2.1 refuses",
        ),
        (&["connect", "--direct", SERVER[0]], "name a port"),
        (&["connect", "--direct", "-x", "22"], ""),
        (
            &["connect", "--direct", "a;b", "22"],
            "there is no profile a;b",
        ),
    ] {
        let output = person.toctoc(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        assert!(said(&output).contains(wanted), "{}", said(&output));
    }
}

#[test]
fn a_host_with_a_profile_is_knocked_at_also_where_others_are_not() {
    let world = World::with(YVES);
    world.listen(22);
    let person = Person::with_profile(&world);
    let output = person.toctoc(&["connect", "--direct", SERVER[0], "22"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(world.holders("ssh").len(), 1);
}
