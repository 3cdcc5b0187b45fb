//! Random policies and traces for property tests, over few ports, so that much happens.

use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;
use toctoc::knock::{GrantPrefix, Knock, PortRange, Protocol};
use toctoc::policy::*;
use toctoc::trace::Packet;

/// Hosts behind this one, of each family.
const HOSTS: [&str; 2] = ["10.1.0.5/32", "2001:db8:1::5/128"];

/// The times of a policy here: `within` and how long grants last.
pub const WITHIN: Duration = Duration::from_secs(10);

fn knock() -> impl Strategy<Value = Knock> {
    let protocol = prop_oneof![3 => Just(Protocol::Tcp), 1 => Just(Protocol::Udp)];
    (protocol, 1u16..=4).prop_map(|(protocol, port)| Knock::new(protocol, port).unwrap())
}

fn tcp(port: u16) -> Knock {
    Knock::new(Protocol::Tcp, port).unwrap()
}

/// Sequences that may stand together: no knock twice in a row, none inside another.
fn sequences() -> impl Strategy<Value = Vec<Vec<Knock>>> {
    let one = prop::collection::vec(knock(), 1..=5);
    prop::collection::vec(one, 0..=5).prop_map(|candidates| {
        let mut chosen: Vec<Vec<Knock>> = Vec::new();
        for mut sequence in candidates {
            sequence.dedup();
            let apart = |other: &Vec<Knock>| !inside(other, &sequence) && !inside(&sequence, other);
            if chosen.iter().all(apart) {
                chosen.push(sequence);
            }
        }
        chosen
    })
}

fn inside(part: &[Knock], whole: &[Knock]) -> bool {
    whole.windows(part.len()).any(|window| window == part)
}

/// Longer or shorter than grants, at random: nothing here depends on what the checker wants of both.
fn extension() -> impl Strategy<Value = Option<Extension>> {
    let seconds = Duration::from_secs;
    let times = (1u64..30, 1u64..60);
    prop::option::of(times.prop_map(move |(extend, at_most)| Extension {
        extend: seconds(extend),
        at_most: seconds(extend + at_most),
    }))
}

pub fn policy() -> impl Strategy<Value = Policy> {
    let key = (
        any::<[bool; 2]>(),
        1u64..40,
        prop::bool::weighted(0.3),
        any::<bool>(),
    );
    let keys = prop::collection::vec(key, 5);
    (sequences(), keys, any::<[bool; 8]>(), extension()).prop_map(
        |(
            sequences,
            keys,
            [
                by_prefix,
                ignores,
                udp_door,
                has_range,
                everything,
                behind,
                hears,
                forwards,
            ],
            extension,
        )| {
            let name = |text: String| Name::new(&text).unwrap();
            let second = if udp_door {
                Knock::new(Protocol::Udp, 23).unwrap()
            } else {
                tcp(23)
            };
            let doors = vec![
                Door {
                    name: name("first".into()),
                    reach: Reach::Ports,
                    ports: match has_range {
                        true => vec![PortRange::new(Protocol::Tcp, 20, 22).unwrap()],
                        false => vec![tcp(22).into()],
                    },
                    place: Place::Here,
                    forward: forwards.then(|| Forward {
                        to: vec![Target {
                            host: [10, 1, 0, 5].into(),
                            port: None,
                        }],
                        sender: Sender::Client,
                    }),
                    trust: vec!["10.0.0.9/32".parse().unwrap()],
                    trusted_names: Vec::new(),
                    open_for: Duration::from_secs(60),
                    extension,
                },
                Door {
                    name: name("second".into()),
                    reach: match everything {
                        true => Reach::EveryPort,
                        false => Reach::Ports,
                    },
                    ports: match everything {
                        true => Vec::new(),
                        false => vec![second.into()],
                    },
                    place: match behind && !everything {
                        true => Place::Behind(Behind {
                            to: HOSTS.map(|host| host.parse().unwrap()).to_vec(),
                            knock_at: if hears {
                                KnockAt::Both
                            } else {
                                KnockAt::ThisHost
                            },
                        }),
                        false => Place::Here,
                    },
                    forward: None,
                    trust: Vec::new(),
                    trusted_names: Vec::new(),
                    open_for: Duration::from_secs(60),
                    extension: None,
                },
            ];
            let keys = sequences.into_iter().zip(keys).enumerate();
            let keys = keys.map(
                |(index, (sequence, ([first, second], seconds, once, past)))| {
                    let open_for = Duration::from_secs(seconds);
                    let both = [(first || !second, 0), (second, 1)];
                    let opens = both.iter().filter(|(opens, _)| *opens);
                    Key {
                        name: name(format!("key{index}")),
                        opens: opens
                            .map(|&(_, door)| Opening {
                                door: DoorIndex(door),
                                open_for: open_for * (1 + door as u32),
                            })
                            .collect(),
                        kind: match seconds % 3 {
                            0 => KeyKind::Scratch(vec![sequence]),
                            _ => KeyKind::Sequence(sequence),
                        },
                        ping: false,
                        once,
                        expires: past.then_some(30),
                    }
                },
            );
            Policy {
                token_port: None,
                signed_mark: toctoc::policy::SIGNED_MARK,
                token_horizon: Duration::from_secs(3600),
                backend: toctoc::policy::Backend::Nftables,
                firewall: None,
                within: WITHIN,
                interfaces: Interfaces::AllButLoopback,
                ignore: if ignores { vec![tcp(80)] } else { Vec::new() },
                closed: Closed::Drop,
                log: Log::Off,
                max_sources: 1024,
                fleet: None,
                grant: if by_prefix {
                    GrantPrefix { v4: 31, v6: 127 }
                } else {
                    GrantPrefix::SINGLE
                },
                doors,
                keys: keys.collect(),
            }
        },
    )
}

/// An address behind this host, in the family of another.
fn behind(number: u16, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => [10, 1, 0, number as u8].into(),
        IpAddr::V6(_) => [0x2001, 0xdb8, 1, 0, 0, 0, 0, number].into(),
    }
}

/// Up to 60 packets of up to four sources. Most come soon, some late; pieces of real sequences are
/// likely, since the ports are few.
pub fn trace() -> impl Strategy<Value = Vec<Packet>> {
    let to = prop_oneof![
        12 => knock(),
        1 => Just(tcp(22)),
        1 => Just(tcp(21)),
        1 => Just(tcp(19)),
        1 => Just(tcp(23)),
        1 => Just(Knock::new(Protocol::Udp, 23).unwrap()),
        1 => Just(tcp(80)),
        1 => Just(tcp(5)),
    ];
    let pause = prop_oneof![8 => 0u64..100, 2 => 4_000u64..9_900, 1 => 10_100u64..30_000];
    let source = prop_oneof![
        8 => Just("10.0.0.2"), 4 => Just("10.0.0.3"), 1 => Just("10.0.0.9"), 2 => Just("2001:db8::2"),
    ];
    let host = prop_oneof![4 => Just(None), 3 => Just(Some(5)), 1 => Just(Some(6))];
    prop::collection::vec((pause, source, host, to), 0..60).prop_map(|steps| {
        let mut at = Duration::ZERO;
        let step = |(pause, source, host, to): (u64, &str, Option<u16>, Knock)| {
            at += Duration::from_millis(pause);
            let source: IpAddr = source.parse().unwrap();
            Packet {
                at,
                source,
                host: host.map(|number| behind(number, source)),
                to,
            }
        };
        steps.into_iter().map(step).collect()
    })
}
