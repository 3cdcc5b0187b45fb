//! `File --check--> Policy`: what was written, judged as a whole.
//!
//! Everything that any later step could stumble over is refused here, with the place in the file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::time::Duration;

use ipnet::IpNet;

use super::backend;
use super::diagnostic::Diagnostic;
use super::file::{DoorEntry, Entry, File, KeyEntry, Spanned};
use super::nearest;
use super::sweep;
use super::{
    Backend, Closed, Door, DoorIndex, Host, HostFirewall, Interfaces, Key, KeyIndex, KeyKind,
    LONGEST_SEQUENCE, Log, Name, Opening, Policy,
};
use crate::automaton::Automaton;
use crate::knock::{GrantPrefix, Knock, Protocol};
use crate::single_use::Secret;

const DEFAULT_WITHIN: Duration = Duration::from_secs(10);
const DEFAULT_OPEN_FOR: Duration = Duration::from_secs(60);
const DEFAULT_HORIZON: Duration = Duration::from_secs(6 * 3600);

/// Judges a file. Adds to `diagnostics` what is wrong; returns the policy when nothing is.
pub fn check(file: &File, host: &Host, diagnostics: &mut Vec<Diagnostic>) -> Option<Policy> {
    if !file.whole {
        return None;
    }
    let mut checker = Checker { file, diagnostics };
    let guarded = checker.guarded_ports();
    let ignored = checker.ignored_ports(&guarded);
    checker.allowed_ports(&guarded);
    checker.interfaces();
    checker.ids();
    for key in &file.keys {
        checker.opens(key);
        checker.means(key, &guarded, &ignored);
    }
    checker.sequences_apart();
    checker.token_port(&guarded, &ignored);
    let secrets = checker.secrets(host);
    if !checker.diagnostics.is_empty() {
        return None;
    }
    let policy = policy(file, host, secrets)?;
    steps(file, &policy, diagnostics);
    if !diagnostics.is_empty() {
        return None;
    }
    sweeps(file, &policy, diagnostics);
    backend::limits(file, host, &policy, diagnostics);
    diagnostics.is_empty().then_some(policy)
}

struct Checker<'f> {
    file: &'f File,
    diagnostics: &'f mut Vec<Diagnostic>,
}

/// Where each port was first claimed, and by what.
type Claims = HashMap<Knock, (Range<usize>, String)>;

impl Checker<'_> {
    fn error(&mut self, diagnostic: Diagnostic) {
        self.diagnostics.push(diagnostic);
    }

    fn guarded_ports(&mut self) -> Claims {
        let mut guarded = Claims::new();
        if self.file.doors.is_empty() && self.diagnostics.is_empty() {
            self.error(
                Diagnostic::new(0..0, "a policy needs a door")
                    .help("write for example:  [door.ssh]  and below it  ports = [22]"),
            );
        }
        for DoorEntry { name, ports, .. } in &self.file.doors {
            let ports = match ports {
                Entry::Wrong => continue,
                Entry::Missing => {
                    self.error(
                        Diagnostic::new(
                            name.at.clone(),
                            format!("door `{}` has no ports", name.value),
                        )
                        .help("write for example `ports = [22]` below it"),
                    );
                    continue;
                }
                Entry::Written(ports) => ports,
            };
            if ports.value.is_empty() && !self.already_wrong(&ports.at) {
                self.error(
                    Diagnostic::new(ports.at.clone(), "a door has at least one port")
                        .help("write for example `ports = [22]`"),
                );
            }
            for Spanned { value: port, at } in &ports.value {
                let owner = format!("door `{}`", name.value);
                if let Some((first, other)) = guarded.get(port) {
                    self.diagnostics.push(
                        Diagnostic::new(at.clone(), format!("port {port} is guarded twice"))
                            .label("again here")
                            .also(first.clone(), format!("guarded by {other}")),
                    );
                } else {
                    guarded.insert(*port, (at.clone(), owner));
                }
            }
        }
        guarded
    }

    fn ignored_ports(&mut self, guarded: &Claims) -> Claims {
        let mut ignored = Claims::new();
        for Spanned { value: port, at } in self.file.ignore.iter().flat_map(|list| &list.value) {
            if let Some((first, door)) = guarded.get(port) {
                self.diagnostics.push(
                    Diagnostic::new(at.clone(), format!("port {port} is guarded and ignored"))
                        .label("ignored here")
                        .help("a door's port is always watched; leave it out of `ignore`")
                        .also(first.clone(), format!("guarded by {door}")),
                );
            }
            if let Some((first, _)) = ignored.get(port) {
                self.diagnostics.push(
                    Diagnostic::new(at.clone(), format!("port {port} is ignored twice"))
                        .label("again here")
                        .also(first.clone(), "first here"),
                );
            }
            ignored.insert(*port, (at.clone(), "`ignore`".to_string()));
        }
        ignored
    }

    fn allowed_ports(&mut self, guarded: &Claims) {
        let mut allowed: HashMap<Knock, Range<usize>> = HashMap::new();
        let file = self.file;
        for Spanned { value: port, at } in file.firewall.iter().flat_map(|f| &f.allow) {
            if let Some((first, door)) = guarded.get(port) {
                self.error(
                    Diagnostic::new(at.clone(), format!("port {port} is guarded and allowed"))
                        .label("allowed here")
                        .help("a door lets in those who knock; leave it out of `allow`")
                        .also(first.clone(), format!("guarded by {door}")),
                );
            }
            if let Some(first) = allowed.insert(*port, at.clone()) {
                self.error(
                    Diagnostic::new(at.clone(), format!("port {port} is allowed twice"))
                        .label("again here")
                        .also(first, "first here"),
                );
            }
        }
    }

    fn interfaces(&mut self) {
        let Some(interfaces) = &self.file.interfaces else {
            return;
        };
        if interfaces.value.is_empty() {
            self.error(
                Diagnostic::new(
                    interfaces.at.clone(),
                    "with no interface nothing is guarded",
                )
                .help("name interfaces, or leave `interfaces` out to guard all but loopback"),
            );
        }
        let mut seen = HashSet::new();
        for name in &interfaces.value {
            if !seen.insert(&name.value) {
                self.diagnostics.push(
                    Diagnostic::new(
                        name.at.clone(),
                        format!("interface `{}` is named twice", name.value),
                    )
                    .label("again here"),
                );
            }
        }
    }

    /// Names become 32-bit ids in the kernel's sets; two names must not share one.
    fn ids(&mut self) {
        let doors: Vec<_> = self.file.doors.iter().map(|d| &d.name).collect();
        let keys: Vec<_> = self.file.keys.iter().map(|k| &k.name).collect();
        for names in [doors, keys] {
            let mut seen: HashMap<u32, &Spanned<Name>> = HashMap::new();
            for name in names {
                let Some(other) = seen.insert(name.value.id(), name) else {
                    continue;
                };
                self.diagnostics.push(
                    Diagnostic::new(
                        name.at.clone(),
                        format!(
                            "`{}` and `{}` get the same number in the kernel",
                            name.value, other.value
                        ),
                    )
                    .help("names are hashed to 32 bits; rename one of the two")
                    .also(other.at.clone(), "the other name"),
                );
            }
        }
    }

    fn opens(&mut self, key: &KeyEntry) {
        let name = &key.name;
        let opens = match &key.opens {
            Entry::Wrong => return,
            Entry::Missing => {
                self.error(
                    Diagnostic::new(
                        name.at.clone(),
                        format!("key `{}` opens nothing", name.value),
                    )
                    .help("write for example `opens = [\"ssh\"]` below it"),
                );
                return;
            }
            Entry::Written(opens) => opens,
        };
        if opens.value.is_empty() {
            self.error(
                Diagnostic::new(opens.at.clone(), "a key opens at least one door")
                    .help("write for example `opens = [\"ssh\"]`"),
            );
        }
        let file = self.file;
        let doors: Vec<&str> = file.doors.iter().map(|d| d.name.value.as_str()).collect();
        let mut seen = HashSet::new();
        for door in &opens.value {
            if doors.is_empty() {
                // That is the mistake, and it has been reported.
                break;
            }
            if !doors.contains(&door.value.as_str()) {
                let help = match nearest(&door.value, &doors) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if doors.len() > 10 => format!("write `[door.{}]`?", door.value),
                    None => format!("the doors are: {}", doors.join(", ")),
                };
                self.error(
                    Diagnostic::new(
                        door.at.clone(),
                        format!("there is no door `{}`", door.value),
                    )
                    .label("unknown door")
                    .help(help),
                );
            } else if !seen.insert(&door.value) {
                self.error(
                    Diagnostic::new(door.at.clone(), format!("`{}` is named twice", door.value))
                        .label("again here"),
                );
            }
        }
    }

    /// What a key opens with: one of three things.
    fn means(&mut self, key: &KeyEntry, guarded: &Claims, ignored: &Claims) {
        let name = &key.name;
        let sequence = match &key.sequence {
            Entry::Written(sequence) => Some(sequence.at.clone()),
            _ => None,
        };
        let written = [
            ("a sequence", sequence),
            (
                "scratch sequences",
                key.scratch.as_ref().map(|s| s.at.clone()),
            ),
            ("a token", key.token.as_ref().map(|s| s.at.clone())),
        ];
        let mut written = written
            .into_iter()
            .filter_map(|(what, at)| Some((what, at?)));
        match (written.next(), written.next()) {
            (Some((one, first)), Some((other, second))) => self.error(
                Diagnostic::new(second, format!("key `{}` has {other} and {one}", name.value))
                    .label(other)
                    .help("make two keys of them, or leave one out")
                    .also(first, one),
            ),
            (None, None) if matches!(key.sequence, Entry::Missing) => self.error(
                Diagnostic::new(
                    name.at.clone(),
                    format!("key `{}` has no sequence", name.value),
                )
                .help(
                    "write for example `sequence = [443, 2387, 920, 18357, 50]` below it, or `token` \
                     with the file of a secret, or `scratch` with a list of sequences that open once",
                ),
            ),
            _ => {}
        }
        if let Some(scratch) = key.scratch.as_ref().filter(|s| s.value.is_empty()) {
            self.error(
                Diagnostic::new(
                    scratch.at.clone(),
                    "a scratch key has at least one sequence",
                )
                .label("empty")
                .help("all used up? Take the key out; `toctoc key new` makes another"),
            );
        }
        for (sequence, whole) in key.sequences() {
            self.sequence(sequence, whole, guarded, ignored);
        }
    }

    fn sequence(
        &mut self,
        sequence: &Spanned<Vec<Spanned<Knock>>>,
        whole: bool,
        guarded: &Claims,
        ignored: &Claims,
    ) {
        let length = sequence.value.len();
        if length == 0 && whole {
            self.error(
                Diagnostic::new(sequence.at.clone(), "a sequence has at least one knock")
                    .label("empty"),
            );
        }
        if length > LONGEST_SEQUENCE {
            self.error(
                Diagnostic::new(
                    sequence.at.clone(),
                    format!("a sequence of {length} knocks is too long"),
                )
                .label(format!("at most {LONGEST_SEQUENCE}")),
            );
        }
        for knock in &sequence.value {
            for (claims, verb) in [(guarded, "guarded"), (ignored, "ignored")] {
                let Some((claim, by)) = claims.get(&knock.value) else {
                    continue;
                };
                self.error(
                    Diagnostic::new(
                        knock.at.clone(),
                        format!("port {} is {verb} and cannot be a knock", knock.value),
                    )
                    .label("in a sequence here")
                    .help("take another port")
                    .also(claim.clone(), format!("{verb} by {by}")),
                );
            }
        }
        if !whole {
            return;
        }
        for pair in sequence.value.windows(2) {
            if pair[0].value == pair[1].value {
                self.error(
                    Diagnostic::new(
                        pair[1].at.clone(),
                        format!("the knock {} comes twice in a row", pair[1].value),
                    )
                    .label("the same again")
                    .help("networks repeat packets, so a repeated knock does not count"),
                );
            }
        }
    }

    /// No two keys share a sequence, and none contains another's whole: it would open both.
    fn sequences_apart(&mut self) {
        let mut whole: HashMap<Vec<Knock>, &KeyEntry> = HashMap::new();
        let mut lengths = HashSet::new();
        let mut readable = Vec::new();
        for key in &self.file.keys {
            for (sequence, is_whole) in key.sequences() {
                if !is_whole || !(1..=LONGEST_SEQUENCE).contains(&sequence.value.len()) {
                    continue;
                }
                let knocks: Vec<Knock> = sequence.value.iter().map(|k| k.value).collect();
                lengths.insert(knocks.len());
                if let Some(other) = whole.get(&knocks) {
                    self.diagnostics.push(same_sequence(key, other, sequence));
                    continue;
                }
                whole.insert(knocks.clone(), key);
                readable.push((key, sequence, knocks));
            }
        }
        for (key, sequence, knocks) in readable {
            let shorter = lengths.iter().filter(|&&length| length < knocks.len());
            let mut inside: Vec<&KeyEntry> = shorter
                .flat_map(|&length| knocks.windows(length))
                .filter_map(|part| whole.get(part).copied())
                .collect();
            inside.sort_by_key(|other| other.name.at.start);
            inside.dedup_by_key(|other| other.name.at.start);
            for other in inside {
                self.diagnostics.push(
                    Diagnostic::new(
                        sequence.at.clone(),
                        format!(
                            "the sequence of `{}` contains that of `{}`",
                            key.name.value, other.name.value
                        ),
                    )
                    .label(format!("would open what `{}` opens too", other.name.value))
                    .help("change one of the two")
                    .also(other.name.at.clone(), "the other key"),
                );
            }
        }
    }

    /// Tokens arrive at a port of their own.
    fn token_port(&mut self, guarded: &Claims, ignored: &Claims) {
        let file = self.file;
        let Some(Spanned { value: port, at }) = &file.token_port else {
            let first = file.keys.iter().find_map(|key| key.token.as_ref());
            if let Some(token) = first {
                self.error(
                    Diagnostic::new(token.at.clone(), "tokens need a port to go to")
                        .label("a token key")
                        .help("write for example `token_port = 40123` at the top of the file"),
                );
            }
            return;
        };
        let port = Knock {
            protocol: Protocol::Udp,
            port: *port,
        };
        let in_sequences = file.keys.iter().flat_map(|key| {
            let sequences = key.sequences();
            sequences.map(move |(sequence, _)| (key, sequence))
        });
        let mut uses: Vec<(Range<usize>, String)> = Vec::new();
        for (key, sequence) in in_sequences {
            let knocks = sequence.value.iter().filter(|knock| knock.value == port);
            let by = format!("a knock of `{}`", key.name.value);
            uses.extend(knocks.map(|knock| (knock.at.clone(), by.clone())));
        }
        let allowed = file.firewall.iter().flat_map(|firewall| &firewall.allow);
        let allowed = allowed.filter(|allowed| allowed.value == port);
        uses.extend(allowed.map(|port| (port.at.clone(), "allowed".to_string())));
        for claims in [guarded, ignored] {
            let claim = claims.get(&port);
            uses.extend(claim.map(|(at, by)| (at.clone(), format!("of {by}"))));
        }
        if let Some((place, by)) = uses.into_iter().next() {
            self.error(
                Diagnostic::new(at.clone(), format!("port {port} cannot be for tokens too"))
                    .label("tokens go here")
                    .help("whatever comes to the port for tokens is dropped; take one of its own")
                    .also(place, by),
            );
        }
    }

    /// The secrets of the token keys, by the places of the keys.
    fn secrets(&mut self, host: &Host) -> BTreeMap<usize, Secret> {
        let mut secrets: BTreeMap<usize, Secret> = BTreeMap::new();
        let file = self.file;
        for (index, key) in file.keys.iter().enumerate() {
            let Some(Spanned { value: path, at }) = &key.token else {
                continue;
            };
            if key.sequences().next().is_some() {
                // That is a mistake, and it has been reported.
                continue;
            }
            let read = match host.secrets.0 {
                Some(read) => read(path),
                None => Err(format!("{path} cannot be read here")),
            };
            let secret = match read {
                Ok(secret) => secret,
                Err(message) => {
                    self.error(
                        Diagnostic::new(at.clone(), message)
                            .label("the file of the secret")
                            .help(
                                "a file of 64 hexadecimal digits that nobody else may read \
                                 (0600), beside the policy; `toctoc key new` makes it",
                            ),
                    );
                    continue;
                }
            };
            let same = secrets.iter().find(|(_, other)| other.id() == secret.id());
            if let Some((&other, _)) = same {
                let other = &file.keys[other];
                self.diagnostics.push(
                    Diagnostic::new(
                        at.clone(),
                        format!(
                            "`{}` and `{}` have the same secret",
                            other.name.value, key.name.value
                        ),
                    )
                    .label("the same secret")
                    .help("the log could not tell them apart; make a new one")
                    .also(other.name.at.clone(), "the other key"),
                );
                continue;
            }
            secrets.insert(index, secret);
        }
        secrets
    }

    /// Whether an error was reported inside this range, so that a follow-up would only repeat it.
    fn already_wrong(&self, at: &Range<usize>) -> bool {
        self.diagnostics
            .iter()
            .any(|d| at.contains(&d.at.start) && d.at.end <= at.end)
    }
}

fn same_sequence<T>(key: &KeyEntry, other: &KeyEntry, at: &Spanned<T>) -> Diagnostic {
    Diagnostic::new(
        at.at.clone(),
        format!(
            "`{}` and `{}` have the same sequence",
            other.name.value, key.name.value
        ),
    )
    .label("the same knocks")
    .help("the log could not tell them apart; change one")
    .also(other.name.at.clone(), "the other key")
}

/// The meaning of a file in which nothing is wrong.
fn policy(file: &File, host: &Host, mut secrets: BTreeMap<usize, Secret>) -> Option<Policy> {
    let written = file.backend.as_ref().map(|backend| backend.value);
    let backend = host.backend.or(written).or(host.default);
    let backend = backend.unwrap_or(Backend::Nftables);
    let doors: Vec<Door> = file
        .doors
        .iter()
        .map(|door| {
            Some(Door {
                name: door.name.value.clone(),
                ports: values(&door.ports)?,
                // Overlapping networks become one; nft would refuse them side by side.
                trust: IpNet::aggregate(&door.trust),
            })
        })
        .collect::<Option<_>>()?;
    let keys = file
        .keys
        .iter()
        .enumerate()
        .map(|(index, key)| {
            let kind = match secrets.remove(&index) {
                Some(secret) => KeyKind::Token(secret),
                None => match &key.scratch {
                    Some(list) => {
                        let sequences = list.value.iter().map(|s| knocks_of(&s.knocks));
                        KeyKind::Scratch(sequences.collect())
                    }
                    None => KeyKind::Sequence(values(&key.sequence)?),
                },
            };
            Some(Key {
                name: key.name.value.clone(),
                opens: openings(file, key)?,
                kind,
                once: key.once,
                expires: key.expires.as_ref().map(|s| s.value),
            })
        })
        .collect::<Option<_>>()?;
    let interfaces = match &file.interfaces {
        None => Interfaces::AllButLoopback,
        Some(list) => Interfaces::Only(list.value.iter().map(|i| i.value.clone()).collect()),
    };
    let ignore = file.ignore.iter().flat_map(|list| &list.value);
    Some(Policy {
        backend,
        within: file.within.as_ref().map_or(DEFAULT_WITHIN, |s| s.value),
        interfaces,
        ignore: ignore.map(|port| port.value).collect(),
        closed: file.closed.as_ref().map_or(Closed::Drop, |s| s.value),
        log: file.log.as_ref().map_or(Log::Kernel, |s| s.value),
        max_sources: backend::sources(backend, host, file.max_sources.as_ref().map(|s| s.value)),
        grant: GrantPrefix {
            v4: file
                .prefix4
                .as_ref()
                .map_or(GrantPrefix::SINGLE.v4, |s| s.value),
            v6: file
                .prefix6
                .as_ref()
                .map_or(GrantPrefix::SINGLE.v6, |s| s.value),
        },
        token_port: file.token_port.as_ref().map(|port| port.value),
        token_horizon: file
            .token_horizon
            .as_ref()
            .map_or(DEFAULT_HORIZON, |s| s.value),
        firewall: file.firewall.as_ref().map(|written| HostFirewall {
            allow: written.allow.iter().map(|port| port.value).collect(),
            ping: written.ping,
            drop_forwarded: written.drop_forwarded,
        }),
        doors,
        keys,
    })
}

fn knocks_of(written: &Spanned<Vec<Spanned<Knock>>>) -> Vec<Knock> {
    written.value.iter().map(|knock| knock.value).collect()
}

fn values<T: Clone>(entry: &Entry<Vec<Spanned<T>>>) -> Option<Vec<T>> {
    match entry {
        Entry::Written(list) => Some(list.value.iter().map(|s| s.value.clone()).collect()),
        Entry::Missing | Entry::Wrong => None,
    }
}

/// How long a grant lasts: what the key says, else the door, else the policy.
fn openings(file: &File, key: &KeyEntry) -> Option<Vec<Opening>> {
    let names: Vec<String> = values(&key.opens)?;
    names
        .iter()
        .map(|name| {
            let index = file
                .doors
                .iter()
                .position(|door| door.name.value.as_str() == name)?;
            let open_for = key
                .open_for
                .as_ref()
                .or(file.doors[index].open_for.as_ref())
                .or(file.open_for.as_ref())
                .map_or(DEFAULT_OPEN_FOR, |s| s.value);
            Some(Opening {
                door: DoorIndex(index),
                open_for,
            })
        })
        .collect()
}

/// Far more than ten thousand ordinary keys need; nft takes some seconds for as many.
const MOST_STEPS: u64 = 1_000_000;

/// Refuses sequences whose machine is too large before anything builds it.
fn steps(file: &File, policy: &Policy, diagnostics: &mut Vec<Diagnostic>) {
    let (steps, most) = Automaton::size(policy.sequences());
    if steps <= MOST_STEPS {
        return;
    }
    let at = most.map_or(0..0, |KeyIndex(index)| file.keys[index].name.at.clone());
    diagnostics.push(
        Diagnostic::new(
            at,
            format!("the sequences of this policy make {steps} steps, at most {MOST_STEPS} are taken"),
        )
        .label("most of them at keys like this one")
        .help(
            "many sequences have in their middle what many others begin with, and each pair of them \
             makes a step; let sequences begin with knocks that are in no other",
        ),
    );
}

fn sweeps(file: &File, policy: &Policy, diagnostics: &mut Vec<Diagnostic>) {
    for (index, sweep) in sweep::opened_by_sweeps(policy) {
        let key = &file.keys[index.key.0];
        if let Some((sequence, _)) = key.sequences().nth(index.number) {
            diagnostics.push(
                Diagnostic::new(
                    sequence.at.clone(),
                    format!("{sweep} knocks the sequence of `{}`", key.name.value),
                )
                .label("found by any scanner")
                .help("take ports without order, three or more"),
            );
        }
    }
}
