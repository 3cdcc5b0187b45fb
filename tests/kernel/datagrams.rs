//! Datagrams in odd shapes: sizes, lengths that lie, addresses. What is one is one knock, and none slips
//! through a closed door.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use toctoc::lab::{CLIENT, STRANGER};

use crate::packets::{ALL_NODES, link};
use crate::world::{SHUT, World, server_like};

const DATAGRAMS: &str = r#"
open_for = "5m"

[door.vpn]
ports = ["5180/udp"]

[key.k]
opens    = ["vpn"]
sequence = ["2001/udp", "2003/udp", "2002/udp"]
"#;

/// Datagrams to everyone on the link are no knocks; the same ones to this host are.
fn datagrams_to_everyone_are_no_knocks() {
    let world = World::with(DATAGRAMS);
    world
        .lab
        .client
        .ip("route add 224.0.0.0/4 dev eth0")
        .unwrap();
    let index = link(&world);
    let send = |from: &str, to: IpAddr| {
        let all = || {
            let socket = UdpSocket::bind((from, 0)).unwrap();
            socket.set_broadcast(true).unwrap();
            for port in [2001, 2003, 2002] {
                let mut to = SocketAddr::new(to, port);
                if let SocketAddr::V6(v6) = &mut to {
                    v6.set_scope_id(if *v6.ip() == ALL_NODES { index } else { 0 });
                }
                socket.send_to(b"hello", to).unwrap();
            }
        };
        world.lab.client.inside(all).unwrap();
    };
    send(CLIENT[0], [192, 0, 2, 255].into());
    send(CLIENT[0], [255, 255, 255, 255].into());
    send(CLIENT[0], [224, 0, 0, 1].into());
    send(CLIENT[1], ALL_NODES.into());
    assert!(world.nobody_is_in());
    assert_eq!(world.status()["progress"], serde_json::json!([]));
    for client in CLIENT {
        send(client, server_like(client.parse().unwrap()));
    }
    assert_eq!(world.holders("vpn").len(), 2);
}

/// From nothing to the largest there is: each is one knock, and a closed door lets none through.
fn datagrams_of_every_size_are_one_knock_each() {
    let world = World::with(DATAGRAMS);
    let server = world.lab.server.inside(|| UdpSocket::bind(("::", 5180)));
    let server = server.unwrap().unwrap();
    server.set_read_timeout(Some(SHUT)).unwrap();
    let arrives = || server.recv(&mut vec![0; 70_000]).ok();
    let send = |from: &str, port: u16, size: usize| {
        let to = (server_like(from.parse().unwrap()), port);
        let send = || UdpSocket::bind((from, 0))?.send_to(&vec![1; size], to);
        assert_eq!(world.lab.client.inside(send).unwrap().unwrap(), size);
    };
    let most = [0, 1500, 65_507];
    for (client, stranger) in CLIENT.into_iter().zip(STRANGER) {
        for size in most {
            send(client, 5180, size);
        }
        assert_eq!(arrives(), None, "{client}");
        for (port, size) in [2001, 2003, 2002].into_iter().zip(most) {
            assert!(
                world
                    .holders("vpn")
                    .iter()
                    .all(|(source, _)| source != client)
            );
            send(client, port, size);
            // Put together from its parts, it is seen a moment later.
            if port != 2002 {
                let knocks = || {
                    let status = world.status();
                    let progress = status["progress"].as_array().unwrap().clone();
                    let mut own = progress.iter().filter(|entry| entry["source"] == client);
                    own.next().map(|entry| entry["knocks"].as_u64().unwrap())
                };
                let want = if port == 2001 { 1 } else { 2 };
                world.until("the knock counts", || knocks() == Some(want));
            }
        }
        world.until("the door opens", || {
            world
                .holders("vpn")
                .iter()
                .any(|(source, _)| source == client)
        });
        for size in most {
            send(client, 5180, size);
            assert_eq!(arrives(), Some(size), "{client}");
            send(stranger, 5180, size);
        }
        assert_eq!(arrives(), None, "{stranger}");
    }
}

/// Datagrams whose length lies, or that end in mid-header: none arrives through a closed door, and the
/// firewall does its work after them.
fn broken_datagrams_do_nothing() {
    let world = World::with(DATAGRAMS);
    let server = world.lab.server.inside(|| UdpSocket::bind(("::", 5180)));
    let server = server.unwrap().unwrap();
    server.set_read_timeout(Some(SHUT)).unwrap();
    let [high, low] = 5180u16.to_be_bytes();
    let header = |length: u16, sum: u16| {
        let (length, sum) = (length.to_be_bytes(), sum.to_be_bytes());
        vec![0, 7, high, low, length[0], length[1], sum[0], sum[1]]
    };
    let mut broken = vec![
        vec![],
        vec![0],
        vec![0, 7, high],
        header(8, 0)[..4].to_vec(),
    ];
    broken.push(header(8, 0)[..7].to_vec());
    for (length, sum) in [(0, 0), (7, 0), (9, 0), (u16::MAX, 0), (8, 1)] {
        broken.push(header(length, sum));
    }
    world.nft(
        "table inet beside { counter seen { }\n chain c { type filter hook input priority filter; \
         meta l4proto udp th dport 5180 counter name seen\n}\n}",
    );
    for source in [CLIENT, STRANGER].concat() {
        let source: IpAddr = source.parse().unwrap();
        world.inject(|injector| {
            for payload in &broken {
                injector.ip(source, 17, payload);
            }
        });
    }
    assert!(server.recv(&mut [0; 64]).is_err());
    assert_eq!(world.counted("seen"), 0);
    assert!(world.nobody_is_in());
    assert_eq!(world.status()["matches_policy"], true);
    // The twin: whole ones knock, and arrive.
    for client in CLIENT {
        let client: IpAddr = client.parse().unwrap();
        world.inject(|injector| {
            for port in [2001, 2003, 2002, 5180] {
                injector.udp(client, 7, port);
            }
        });
        assert_eq!(server.recv(&mut [0; 64]).unwrap(), 0);
    }
}

on_every_firewall!(
    datagrams_to_everyone_are_no_knocks,
    datagrams_of_every_size_are_one_knock_each,
    broken_datagrams_do_nothing,
);
