//! Other people's rules on the same host, in odd shapes, and what reloads all of them.

use std::fs::File;
use toctoc::client::Door;
use toctoc::lab::{CLIENT, STRANGER};

use crate::lifecycle::TWO;
use crate::world::{Kind, SEQUENCE, World};

/// The administrator's own rules, loaded as distributions do at boot: everything else is flushed.
fn reload_everything(world: &World) {
    if world.is_nftables() {
        world.nft(
            "flush ruleset\ntable inet host { chain c { type filter hook input priority filter; \
             tcp dport 99 drop\n}\n}",
        );
        return;
    }
    let rules = world.path().with_file_name("rules");
    let saved =
        "*raw\nCOMMIT\n*mangle\nCOMMIT\n*filter\n-A INPUT -p tcp --dport 99 -j DROP\nCOMMIT\n";
    std::fs::write(&rules, saved).unwrap();
    for program in ["iptables-restore", "ip6tables-restore"] {
        let mut command = world.command(program);
        command.stdin(File::open(&rules).unwrap());
        let status = world.lab.server.inside(|| command.status().unwrap());
        assert!(status.unwrap().success(), "{program}");
    }
}

/// A reload of the host's whole ruleset takes ours along: `status` says so, and that the doors are open;
/// the next apply, as the boot unit's, brings it back beside the host's rules.
fn a_reload_of_the_whole_ruleset_is_named_and_healed() {
    let world = World::with(TWO);
    world.listen(22);
    world.knock(CLIENT[0], &SEQUENCE);
    let mut reloads: Vec<fn(&World)> = vec![reload_everything];
    if world.kind == Kind::IptablesNft {
        reloads.push(|world| world.nft("flush ruleset"));
    }
    for reload in reloads {
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
        reload(&world);
        let others = world.all_rules();
        assert!(!others.contains("toctoc"), "{others}");
        assert_eq!(world.connect(STRANGER[0], 22), Door::Open);
        let output = world.toctoc(&["status"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        let missing = match world.kind {
            Kind::Nftables => &["table inet toctoc is missing"][..],
            _ => &[
                "iptables: our chains are missing",
                "ip6tables: our chains are missing",
            ],
        };
        for named in missing {
            assert!(said.contains(named), "{said}");
        }
        assert!(said.contains("OPEN TO EVERYONE"), "{said}");
        for by_hand in [&["open", "ssh", CLIENT[0]][..], &["close"]] {
            let output = world.toctoc(by_hand);
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{said}");
            assert!(
                said.contains("somebody has flushed them: `toctoc heal` restores them"),
                "{said}"
            );
        }
        let said = world.yes(&["apply"]);
        assert!(
            said.contains("the kernel holds what the policy says"),
            "{said}"
        );
        world.yes(&["status"]);
        assert_eq!(world.connect(STRANGER[0], 22), Door::Silent);
        // Grants went with the rules.
        assert_eq!(world.connect(CLIENT[0], 22), Door::Silent);
        world.knock(CLIENT[0], &SEQUENCE);
        assert_eq!(world.connect(CLIENT[0], 22), Door::Open);
        let all = world.all_rules();
        assert!(others.lines().all(|line| all.contains(line)), "{all}");
    }
}

/// Whatever nft lets others make: all hooks and families, all sorts of sets and objects, names like ours.
/// Each is a table and something in it.
const ODD: &[(&str, &str)] = &[
    ("inet empty", ""),
    ("ip6 toctoc", "set grants4 { type ipv6_addr\n }"),
    ("ip6 toctoc", "chain judge {\n }"),
    (
        "arp toctoc",
        "chain c { type filter hook input priority 0; policy accept;\n }",
    ),
    (
        "bridge toctoc",
        "chain knocks-tcp { type filter hook prerouting priority -300; policy accept;\n }",
    ),
    (
        "netdev toctoc",
        "chain c { type filter hook ingress device \"eth0\" priority 0; ip saddr 203.0.113.9 drop\n }",
    ),
    ("inet odd", "counter opened-yves { comment \"not ours\"\n }"),
    ("inet odd", "quota much { over 5 mbytes\n }"),
    ("inet odd", "limit slow { rate 5/minute\n }"),
    (
        "inet odd",
        "ct helper ftp { type \"ftp\" protocol tcp\n l3proto inet\n }",
    ),
    (
        "inet odd",
        "ct timeout long { protocol tcp\n l3proto ip\n policy = { established: 120 }\n }",
    ),
    (
        "inet odd",
        "flowtable ft { hook ingress priority 0\n devices = { eth0 }\n }",
    ),
    (
        "inet odd",
        "synproxy sp { mss 1460\n wscale 7\n timestamp sack-perm\n }",
    ),
    (
        "inet odd",
        "set addresses { type ipv4_addr . inet_service\n flags interval,timeout\n \
         elements = { 10.0.0.0/8 . 1-1000 timeout 1h comment \"ä \\ € { }\" }\n }",
    ),
    (
        "inet odd",
        "set texts { type ifname\n elements = { \"eth0\", \"with space\" }\n }",
    ),
    (
        "inet odd",
        "set typed { typeof ip saddr . tcp dport . meta mark\n flags dynamic,timeout\n \
         timeout 1d\n counter\n }",
    ),
    (
        "inet odd",
        "map verdicts { type ipv4_addr . inet_proto . inet_service : verdict\n \
         elements = { 10.0.0.9 . tcp . 22 : accept }\n }",
    ),
    (
        "inet odd",
        "map objects { type inet_service : quota\n elements = { 5 : \"much\" }\n }",
    ),
    (
        "inet odd",
        "chain eager { type filter hook prerouting priority -400; policy accept;\n \
         ip protocol tcp accept\n tcp dport 22 accept\n }",
    ),
    (
        "inet odd",
        "chain late { type filter hook input priority 500; policy accept;\n \
         tcp dport 22 accept comment \"table inet toctoc { mine }\"\n }",
    ),
    (
        "inet odd",
        "chain answers { type route hook output priority -150; policy accept;\n meta mark set 5\n }",
    ),
    (
        "inet odd",
        "chain shut { limit name \"slow\" accept\n quota name tcp dport map @objects\n }",
    ),
    (
        "inet odd",
        "chain judge { ip saddr vmap { 10.0.0.1 : drop, 10.0.0.2 : goto shut }\n }",
    ),
];

#[test]
fn odd_tables_of_others_do_no_harm() {
    let world = World::bare();
    world.listen(22);
    // Not every kernel or nft has all of it: what is not known is left out, and most is known.
    let load = |(table, odd): &&(&str, &str)| {
        let script = world.path().with_file_name("odd.nft");
        std::fs::write(&script, format!("table {table} {{\n{odd}\n}}\n")).unwrap();
        let mut command = world.command("nft");
        // By its content: an nft of another release does not see this place.
        command.args(["-f", "-"]);
        command.stdin(File::open(&script).unwrap());
        let output = world.lab.server.inside(|| command.output().unwrap());
        output.unwrap().status.success()
    };
    let loaded = ODD.iter().filter(load).count();
    assert!(loaded >= 19, "{loaded} of {}", ODD.len());
    // And rules that nft itself cannot print.
    for words in [
        "iptables-nft -A INPUT -m recent --name theirs --set -m comment --comment x",
        "iptables-nft -t raw -A PREROUTING -p tcp --dport 22 -m u32 --u32 0=1 -j ACCEPT",
        "ip6tables-nft -t mangle -A PREROUTING -p udp -j TEE --gateway 2001:db8::99",
    ] {
        world.server(&words.split(' ').collect::<Vec<_>>());
    }
    let mut many = String::new();
    for number in 0..600 {
        many += &format!("add chain inet empty c{number}\n");
    }
    world.nft(&many);
    let others = || {
        let all = world.server(&["nft", "-s", "-t", "list", "ruleset"]);
        match all.find("\ntable inet toctoc {\n") {
            None => all,
            Some(start) => {
                let start = start + 1;
                let end = start + all[start..].find("\n}\n").unwrap() + 3;
                format!("{}{}", &all[..start], &all[end..])
            }
        }
    };
    let before = others();
    assert!(before.contains("table netdev toctoc") && before.contains("xt match"));
    world.apply(TWO);
    for (client, stranger) in CLIENT.into_iter().zip(STRANGER) {
        assert_eq!(world.connect(client, 22), Door::Silent);
        world.knock(client, &SEQUENCE);
        assert_eq!(world.connect(client, 22), Door::Open);
        assert_eq!(world.connect(stranger, 22), Door::Silent);
    }
    let said = world.apply(TWO);
    assert!(said.contains("2 live grants kept, 0 ended"), "{said}");
    assert_eq!(world.status()["matches_policy"], true);
    world.yes(&["close"]);
    assert_eq!(others(), before);
    world.yes(&["remove"]);
    assert_eq!(others(), before);
}

on_every_firewall!(a_reload_of_the_whole_ruleset_is_named_and_healed);
