//! `Policy, Automaton --render--> Script`. Pure, and the same text for the same policy.

use crate::automaton::{Automaton, Place, State, Step};
use crate::knock::GrantPrefix;
use crate::policy::file::show;
use crate::policy::{Closed, Door, Interfaces, Key, Log, Opening, Policy};

use super::script::{Chain, Script, Set, SetKind, time};
use super::{ECHO, Family, Kept, classid, counter, door_chain, key_chain, set_name};

/// Matches a TCP packet that starts a connection: SYN set; ACK, RST and FIN clear.
const SYN: &str = "tcp flags & (fin | syn | rst | ack) == syn";

/// How long a connection that used up its grant may repeat its first packet: the third repeat of
/// a SYN comes after 7 s (RFC 6298, 1 s doubled each time).
const PASSING: &str = "10s";

/// Compiles a policy. `automaton` is that of the same policy.
pub fn render(policy: &Policy, automaton: &Automaton) -> Script {
    let mut chains = vec![knocks_tcp(policy)];
    if policy.judges_udp() {
        chains.push(knocks_udp(policy));
    }
    chains.extend([judge(), arrived(), remember(policy), leave()]);
    for door in &policy.doors {
        chains.push(door_of(policy, door));
    }
    chains.push(shut(policy));
    let (opens, numbers) = Opens::of(policy);
    for number in 0..opens.0.len() {
        chains.push(opens.chain(number, policy));
    }
    for (index, number) in policy.key_indices().zip(numbers) {
        let after = automaton.after(index);
        chains.push(key_of(
            policy,
            policy.key(index),
            after,
            &Opens::name(number),
        ));
    }
    let mut sets = kept_sets(policy);
    sets.extend(progress(policy));
    sets.extend([
        ports(policy),
        steps(policy, automaton),
        arrivals(policy, automaton),
    ]);
    Script {
        header: header(policy),
        sets,
        counters: policy.keys.iter().map(|key| counter(&key.name)).collect(),
        chains,
    }
}

fn header(policy: &Policy) -> Vec<String> {
    let mut lines = vec![
        format!(
            "toctoc: {}, {}; knocks at most {} apart.",
            count(policy.doors.len(), "door"),
            count(policy.keys.len(), "key"),
            show(policy.within),
        ),
        "Written from a policy file. Change that, not this.".to_string(),
        String::new(),
        "States, doors and keys are numbers of the type classid, two hexadecimal halves:".into(),
        "0:1 and up are states of the automaton, ffff:0 is an echo, others are names:".into(),
    ];
    for door in &policy.doors {
        lines.push(format!(
            "  {:<9} door {}",
            classid(door.name.id()),
            door.name
        ));
    }
    for key in &policy.keys {
        lines.push(format!("  {:<9} key {}", classid(key.name.id()), key.name));
    }
    lines
}

fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

// --- sets ---------------------------------------------------------------------------------------

fn kept_sets(policy: &Policy) -> Vec<Set> {
    let mut sets = Vec::new();
    let mut add = |kept, comment: &[&str], types: &str| {
        for family in Family::BOTH {
            let first = family == Family::V4;
            let comment: Vec<String> = comment.iter().map(|c| c.to_string()).collect();
            sets.push(Set {
                comment: if first { comment } else { Vec::new() },
                name: set_name(kept, family, prefix(policy.grant, family)),
                types: format!("{} . {types}", family.address_type()),
                kind: SetKind::Kept {
                    size: policy.max_sources,
                },
                elements: Vec::new(),
            });
        }
    };
    add(
        Kept::Opened,
        &["Who opened: source . door . key, for as long as the grant was given."],
        "classid . classid",
    );
    add(
        Kept::Grants,
        &["Grants: source . door. While an element is here, new connections pass."],
        "classid",
    );
    if policy.has_once() {
        add(
            Kept::Once,
            &["Grants that are used up by their first connection."],
            "classid",
        );
        add(
            Kept::Passing,
            &["A first connection, source . port . door, which may repeat its first packet."],
            "inet_service . classid",
        );
    }
    sets
}

fn progress(policy: &Policy) -> Vec<Set> {
    let make = |family: Family, comment: &[&str]| Set {
        comment: comment.iter().map(|c| c.to_string()).collect(),
        name: progress_name(family),
        types: format!("{} : classid", family.address_type()),
        kind: SetKind::Fresh {
            size: policy.max_sources,
            timeout: policy.within,
        },
        elements: Vec::new(),
    };
    vec![
        make(
            Family::V4,
            &["Progress: source -> state, forgotten when the next knock is late."],
        ),
        make(Family::V6, &[]),
    ]
}

fn progress_name(family: Family) -> String {
    format!("progress{}", family.digit())
}

fn ports(policy: &Policy) -> Set {
    let mut elements = Vec::new();
    for door in &policy.doors {
        for port in &door.ports {
            let target = door_chain(&door.name);
            let element = format!("{} . {} : goto {target}", port.protocol, port.port);
            elements.push((element, String::new()));
        }
    }
    for port in &policy.ignore {
        let element = format!("{} . {} : accept", port.protocol, port.port);
        elements.push((element, "ignored".to_string()));
    }
    Set {
        comment: vec!["Ports that are not knocks: doors and ignored ones.".to_string()],
        name: "ports".to_string(),
        types: "inet_proto . inet_service : verdict".to_string(),
        kind: SetKind::Fixed,
        elements,
    }
}

fn steps(policy: &Policy, automaton: &Automaton) -> Set {
    let elements = automaton
        .table()
        .map(|(state, knock, step)| {
            let (next, note) = match step {
                Step::Echo => (ECHO, "echo".to_string()),
                Step::To(next) => (next.0, place_note(policy, automaton, next)),
                Step::Complete(key) => (
                    completed(automaton, key.0),
                    format!("{} complete", policy.key(key).name),
                ),
            };
            let element = format!(
                "{} . {} . {} : {}",
                classid(state.0),
                knock.protocol,
                knock.port,
                classid(next)
            );
            (element, note)
        })
        .collect();
    Set {
        comment: vec![
            "The automaton: state . protocol . port -> next state. What is not here leads nowhere."
                .to_string(),
        ],
        name: "steps".to_string(),
        types: "classid . inet_proto . inet_service : classid".to_string(),
        kind: SetKind::Fixed,
        elements,
    }
}

/// The number that stands for "this key's sequence is complete": after those of the states.
fn completed(automaton: &Automaton, key: usize) -> u32 {
    (automaton.len() + key) as u32
}

fn place_note(policy: &Policy, automaton: &Automaton, state: State) -> String {
    match automaton.place(state) {
        Some(Place::Midway { knocks, keys }) => {
            let first = policy.key(keys[0]);
            let more = match keys.len() {
                1 => String::new(),
                n => format!(" and {} more", n - 1),
            };
            format!("{} {knocks}/{}{more}", first.name, first.sequence.len())
        }
        _ => String::new(),
    }
}

fn arrivals(policy: &Policy, automaton: &Automaton) -> Set {
    let mut elements = vec![(
        format!("{} : goto leave", classid(ECHO)),
        "echo".to_string(),
    )];
    for index in policy.key_indices() {
        let element = format!(
            "{} : goto {}",
            classid(completed(automaton, index.0)),
            key_chain(&policy.key(index).name)
        );
        elements.push((element, String::new()));
    }
    Set {
        comment: vec!["What a step can be besides progress.".to_string()],
        name: "arrivals".to_string(),
        types: "classid : verdict".to_string(),
        kind: SetKind::Fixed,
        elements,
    }
}

// --- chains -------------------------------------------------------------------------------------

/// The match for "arrives on a guarded interface".
fn guarded(interfaces: &Interfaces) -> String {
    match interfaces {
        Interfaces::AllButLoopback => "iifname != \"lo\"".to_string(),
        Interfaces::Only(names) => match names.as_slice() {
            [name] => format!("iifname \"{name}\""),
            names => {
                let quoted: Vec<String> = names.iter().map(|n| format!("\"{n}\"")).collect();
                format!("iifname {{ {} }}", quoted.join(", "))
            }
        },
    }
}

fn knocks_tcp(policy: &Policy) -> Chain {
    let here = format!("{} fib daddr type local", guarded(&policy.interfaces));
    let mut chain = Chain::new(
        "knocks-tcp",
        &[
            "First packets of TCP connections to this host, before connection tracking and before",
            "any port is translated. All other TCP leaves at the first rule.",
        ],
    )
    .base("type filter hook prerouting priority raw; policy accept;");
    chain.rule("tcp flags & (fin | syn | rst | ack) != syn accept");
    chain.rule(format!("{SYN} {here} goto judge"));
    chain.note(
        "A first fragment too short to hold the flags would be put together behind our back.",
    );
    chain.rule(format!(
        "ip frag-off & 0x3fff == 0x2000 ip protocol tcp {here} drop"
    ));
    chain.rule(format!(
        "meta nfproto ipv6 frag frag-off 0 frag more-fragments 1 meta l4proto tcp {here} drop"
    ));
    chain
}

fn knocks_udp(policy: &Policy) -> Chain {
    let here = guarded(&policy.interfaces);
    let mut chain = Chain::new(
        "knocks-udp",
        &["UDP datagrams to this host that belong to no established flow."],
    )
    .base("type filter hook prerouting priority mangle; policy accept;");
    chain.rule(format!(
        "meta l4proto udp ct state != {{ established, related }} {here} fib daddr type local goto judge"
    ));
    chain
}

fn judge() -> Chain {
    let mut chain = Chain::new(
        "judge",
        &["One knock. `meta priority` carries the source's state; nobody else's value gets in."],
    );
    let step = "meta priority set meta priority . meta l4proto . th dport map @steps goto arrived";
    chain.rule("meta l4proto . th dport vmap @ports");
    chain.rule("meta priority set 0:0");
    for family in Family::BOTH {
        let (saddr, progress) = (family.saddr(), progress_name(family));
        chain.rule(format!("meta priority set {saddr} map @{progress}"));
    }
    chain.rule(step);
    chain.note("No step from here. Without progress that is all there is to say.");
    chain.rule("meta priority 0:0 accept");
    chain.note("With progress it is lost, but the knock may be a first one.");
    forget(&mut chain);
    chain.rule("meta priority set 0:0");
    chain.rule(step);
    chain
}

fn forget(chain: &mut Chain) {
    for family in Family::BOTH {
        let (saddr, progress) = (family.saddr(), progress_name(family));
        chain.rule(format!("delete @{progress} {{ {saddr} : meta priority }}"));
    }
}

fn arrived() -> Chain {
    let mut chain = Chain::new(
        "arrived",
        &["`meta priority` is what the knock led to: an echo, a complete sequence, or progress."],
    );
    chain.rule("meta priority vmap @arrivals");
    chain.rule("goto remember");
    chain
}

fn remember(policy: &Policy) -> Chain {
    let mut chain = Chain::new(
        "remember",
        &["Store the state. `update` alone would keep the old one and only renew its time."],
    );
    let within = format!("comment \"within {}\"", show(policy.within));
    for family in Family::BOTH {
        let (saddr, progress) = (family.saddr(), progress_name(family));
        let element = format!("@{progress} {{ {saddr} : meta priority }}");
        chain.rule(format!("delete {element} update {element} {within}"));
    }
    chain.rule("goto leave");
    chain
}

fn leave() -> Chain {
    let mut chain = Chain::new("leave", &["The packet goes on as it came."]);
    chain.rule("meta priority set 0:0 accept");
    chain
}

fn door_of(policy: &Policy, door: &Door) -> Chain {
    let ports: Vec<String> = door.ports.iter().map(|p| p.to_string()).collect();
    let about = format!("Door {}: {}.", door.name, ports.join(", "));
    let mut chain = Chain::new(door_chain(&door.name), &[&about]);
    for family in Family::BOTH {
        let trusted: Vec<String> = door
            .trust
            .iter()
            .filter(|network| Family::of(network.addr()) == family)
            .map(crate::knock::display_source)
            .collect();
        if !trusted.is_empty() {
            let saddr = family.saddr();
            let list = trusted.join(", ");
            chain.rule(format!("{saddr} {{ {list} }} accept comment \"trust\""));
        }
    }
    chain.rule(format!("meta priority set {}", classid(door.name.id())));
    for family in Family::BOTH {
        let source = source(policy.grant, family);
        let grants = set_name(Kept::Grants, family, prefix(policy.grant, family));
        chain.rule(format!("{source} . meta priority @{grants} goto leave"));
    }
    if policy.has_once() {
        for family in Family::BOTH {
            once(&mut chain, policy, family);
        }
    }
    chain.rule("goto shut");
    chain
}

/// A grant for one connection: the connection that uses it up is remembered for a few seconds, in
/// case its first packet was lost on the way back and comes again.
fn once(chain: &mut Chain, policy: &Policy, family: Family) {
    let prefix = prefix(policy.grant, family);
    let grant = format!("{} . meta priority", source(policy.grant, family));
    let flow = format!("{} . th sport . meta priority", family.saddr());
    let once = set_name(Kept::Once, family, prefix);
    let passing = set_name(Kept::Passing, family, prefix);
    chain.rule(format!("{flow} @{passing} goto leave"));
    chain.rule(format!(
        "{grant} @{once} update @{passing} {{ {flow} timeout {PASSING} }} \
         delete @{once} {{ {grant} }} goto leave"
    ));
}

fn shut(policy: &Policy) -> Chain {
    let mut chain = Chain::new(
        "shut",
        &["A door without a grant: a knock that leads nowhere."],
    );
    forget(&mut chain);
    match policy.closed {
        Closed::Drop => chain.rule("drop"),
        Closed::Reject => {
            chain.rule("meta l4proto tcp reject with tcp reset");
            chain.rule("reject");
        }
    }
    chain
}

/// A key's own chain: who it is, what it may open, and what is counted and logged when that worked.
fn key_of(policy: &Policy, key: &Key, after: State, opens: &str) -> Chain {
    let doors: Vec<&str> = key
        .opens
        .iter()
        .map(|o| policy.door(o.door).name.as_str())
        .collect();
    let about = format!("Key {}: opens {}.", key.name, doors.join(" and "));
    let mut chain = Chain::new(key_chain(&key.name), &[&about]);
    let done = format!("meta priority set {} goto remember", classid(after.0));
    if let Some(end) = key.expires {
        chain.note(format!("Expired from {} on.", moment(end)));
        chain.rule(format!("meta time >= {end} {done}"));
    }
    let id = classid(key.name.id());
    chain.rule(format!("meta priority set {id} jump {opens}"));
    let logs: String = doors.iter().map(|door| logged(policy, door, key)).collect();
    let counter = counter(&key.name);
    chain.rule(format!("counter name \"{counter}\"{logs} {done}"));
    chain
}

/// What keys open, and how: keys with the same rights share one chain.
struct Opens<'p>(Vec<(&'p [Opening], bool)>);

impl<'p> Opens<'p> {
    fn of(policy: &'p Policy) -> (Opens<'p>, Vec<usize>) {
        let mut kinds: Vec<(&[Opening], bool)> = Vec::new();
        let numbers = policy
            .keys
            .iter()
            .map(|key| {
                let kind = (key.opens.as_slice(), key.once);
                kinds.iter().position(|k| *k == kind).unwrap_or_else(|| {
                    kinds.push(kind);
                    kinds.len() - 1
                })
            })
            .collect();
        (Opens(kinds), numbers)
    }

    fn name(number: usize) -> String {
        format!("opens-{}", number + 1)
    }

    /// `meta priority` is the key. Returns when the grants are given; when there is no room for them
    /// (a full set ends a rule) nothing is counted or logged.
    fn chain(&self, number: usize, policy: &Policy) -> Chain {
        let (opens, once) = self.0[number];
        let rights: Vec<String> = opens
            .iter()
            .map(|o| format!("{} for {}", policy.door(o.door).name, show(o.open_for)))
            .collect();
        let rights = rights.join(", ");
        let single = if once { ", one connection each" } else { "" };
        let mut chain = Chain::new(Opens::name(number), &[&format!("Grants {rights}{single}.")]);
        let granted = if once { Kept::Once } else { Kept::Grants };
        for family in Family::BOTH {
            let prefix = prefix(policy.grant, family);
            let (opened, grants) = (
                set_name(Kept::Opened, family, prefix),
                set_name(granted, family, prefix),
            );
            let saddr = family.saddr();
            let source = source(policy.grant, family);
            let updates: Vec<String> = opens
                .iter()
                .map(|opening| {
                    let door = classid(policy.door(opening.door).name.id());
                    let lasting = time(opening.open_for);
                    format!(
                        "update @{opened} {{ {saddr} . {door} . meta priority timeout {lasting} }} \
                         update @{grants} {{ {source} . {door} timeout {lasting} }}"
                    )
                })
                .collect();
            let comment: String = rights.chars().take(LONGEST_COMMENT).collect();
            chain.rule(format!(
                "{} return comment \"{comment}\"",
                updates.join(" ")
            ));
        }
        chain.note("No room: nothing is granted.");
        forget(&mut chain);
        chain.rule("goto leave");
        chain
    }
}

/// nft's limit for a comment is 128 bytes.
const LONGEST_COMMENT: usize = 120;

fn logged(policy: &Policy, door: &str, key: &Key) -> String {
    let prefix = format!("toctoc: opened door={door} key={} ", key.name);
    match policy.log {
        Log::Kernel => format!(" log prefix \"{prefix}\" level info"),
        Log::Nflog(group) => format!(" log prefix \"{prefix}\" group {group}"),
        Log::Off => String::new(),
    }
}

fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |t| t.to_string())
}

fn prefix(grant: GrantPrefix, family: Family) -> u8 {
    match family {
        Family::V4 => grant.v4,
        Family::V6 => grant.v6,
    }
}

/// The source as grants hold it: the address, or its network.
fn source(grant: GrantPrefix, family: Family) -> String {
    let length = prefix(grant, family);
    if length == family.longest_prefix() {
        return family.saddr().to_string();
    }
    let mask = match family {
        Family::V4 => std::net::IpAddr::from(std::net::Ipv4Addr::from(
            u32::MAX << (32 - u32::from(length)),
        )),
        Family::V6 => std::net::IpAddr::from(std::net::Ipv6Addr::from(
            u128::MAX << (128 - u32::from(length)),
        )),
    };
    format!("{} & {mask}", family.saddr())
}
