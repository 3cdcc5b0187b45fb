//! An address that is not always at the same host: one that moves when its host dies, and one that many have.

use std::fs::File;
use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use toctoc::firewall::run;
use toctoc::single_use::{Window, token};

use super::bottle::{DOORS, Fleet, SEQUENCE, until};
use crate::token_world::{SECRET, now, secret};
use crate::world::{PATIENCE, SHUT};

/// The address that is handed over.
const SHARED: &str = "192.0.2.1";

const FIRST: &str = "192.0.2.101";
const STRANGER: &str = "192.0.2.109";

const TOKENS: &str =
    "token_port = 40123\n[key.alice]\nopens = [\"ssh\"]\ntoken = \"alice.secret\"\n";

/// Two hosts with a sequence and a token key each, the same ones.
fn pair() -> Fleet {
    let mut fleet = Fleet::bare(2);
    fleet.start_engine(&[]);
    for place in 0..2 {
        fleet.file(place, "alice.secret", SECRET);
        let (port, key) = TOKENS.split_once('\n').unwrap();
        let policy = fleet.policy(place, &format!("{port}\n{DOORS}\n{key}"));
        fleet.apply(place, &policy);
        fleet.start_agent(place);
        fleet.listen(place, 22);
        let host = &fleet.members[place].host;
        host.ip(&format!("link set eth0 address 02:00:00:00:00:0{place}"))
            .unwrap();
    }
    fleet.until_all_know_each_other();
    fleet
}

fn gets_in(fleet: &Fleet, from: &str) -> bool {
    fleet.connect(SHARED, from, 22, SHUT).is_ok()
}

/// The network brings what is for the shared address to this host.
fn route_to(fleet: &Fleet, place: usize) {
    let to =
        format!("neigh replace {SHARED} lladdr 02:00:00:00:00:0{place} nud permanent dev eth0");
    fleet.client.ip(&to).unwrap();
}

fn knock(fleet: &Fleet, sequence: &[&str]) {
    for port in sequence {
        let _ = fleet.connect(SHARED, FIRST, port.parse().unwrap(), PATIENCE);
    }
}

/// keepalived on a host, until it is dropped.
struct Keepalived(Child);

impl Keepalived {
    /// As the guide sets it up.
    fn start(fleet: &Fleet, place: usize) -> Keepalived {
        let guide = std::fs::read_to_string("docs/fleet.md").unwrap();
        let (_, behind) = guide.split_once("```\nvrrp_instance").unwrap();
        let (inner, _) = behind.split_once("```").unwrap();
        let priority = ["150", "100"][place];
        let text = format!("vrrp_instance{}", inner.replace("150", priority));
        let path = fleet.file(place, "keepalived.conf", &text);
        let beside = |name: &str| path.with_file_name(name).display().to_string();
        let mut command = fleet.command(place, "keepalived");
        command
            .args(["--dont-fork", "--vrrp", "--log-console", "--use-file"])
            .arg(&path)
            .args(["--pid", &beside("keepalived.pid")])
            .args(["--vrrp_pid", &beside("vrrp.pid")])
            .stdout(File::create(beside("keepalived.log")).unwrap())
            .stderr(Stdio::null())
            .process_group(0);
        let host = &fleet.members[place].host;
        Keepalived(host.inside(|| command.spawn().unwrap()).unwrap())
    }
}

impl Drop for Keepalived {
    fn drop(&mut self) {
        let group = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

#[test]
fn who_was_let_in_is_in_at_the_host_that_takes_over_the_address() {
    let mut fleet = pair();
    let has_it = |fleet: &Fleet, place: usize| {
        let host = &fleet.members[place].host;
        let addresses = host.inside(|| run(&["ip", "-brief", "address"], "").unwrap());
        addresses.unwrap().stdout.contains(&format!("{SHARED}/24"))
    };
    let _keepalived = [0, 1].map(|place| Keepalived::start(&fleet, place));
    until("the first host has it", || has_it(&fleet, 0));
    until("and it alone", || !has_it(&fleet, 1));
    assert!(!gets_in(&fleet, FIRST));
    knock(&fleet, &SEQUENCE);
    until("the first host lets in", || gets_in(&fleet, FIRST));
    fleet.until_open(1, FIRST, 22);
    // Neither the host that died is needed, nor the engine.
    fleet.plug(0, false);
    fleet.kill_engine();
    until("the other one has it", || has_it(&fleet, 1));
    until("the other one lets in", || gets_in(&fleet, FIRST));
    assert!(!gets_in(&fleet, STRANGER));
}

#[test]
fn of_an_address_that_many_hosts_have_tokens_open_and_split_sequences_do_not() {
    let fleet = pair();
    for member in &fleet.members {
        let host = &member.host;
        host.ip(&format!("addr add {SHARED}/24 dev eth0")).unwrap();
    }
    // A sequence that is split between two hosts is whole at none.
    route_to(&fleet, 0);
    knock(&fleet, &SEQUENCE[..1]);
    route_to(&fleet, 1);
    knock(&fleet, &SEQUENCE[1..]);
    // A token comes to one host, and the connection to the other one.
    let token = token(&secret(SECRET), Window(Window::at(now()).0 + 5), 0);
    let send = |from: &str| {
        let sent = fleet.client.inside(|| {
            let socket = UdpSocket::bind((from, 0)).unwrap();
            socket.send_to(&token.0, (SHARED, 40_123)).unwrap()
        });
        assert_eq!(sent.unwrap(), 16);
    };
    route_to(&fleet, 0);
    assert!(!gets_in(&fleet, FIRST), "after the split sequence");
    route_to(&fleet, 1);
    assert!(!gets_in(&fleet, FIRST), "after the split sequence");
    route_to(&fleet, 0);
    send(FIRST);
    route_to(&fleet, 1);
    until("the other host lets in", || gets_in(&fleet, FIRST));
    // Whoever recorded it has nothing, at either.
    until("the other host knows that it is spent", || {
        fleet.list(1, "spent-elsewhere").contains("elements")
    });
    for place in 0..2 {
        route_to(&fleet, place);
        send(STRANGER);
        assert!(!gets_in(&fleet, STRANGER), "{place}");
    }
}
