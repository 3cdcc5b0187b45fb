//! Which port is whose: doors, ignored and allowed ones, that of the tokens. Interfaces and ids, too.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use ipnet::IpNet;

use super::{Checker, Claims};
use crate::browser::sends_tokens_to;
use crate::knock::{Knock, PortRange, Protocol, display_source};
use crate::policy::behind::overlap;
use crate::policy::diagnostic::Diagnostic;
use crate::policy::file::{AllowanceEntry, DoorEntry, Entry, Spanned, Traffic};
use crate::policy::{Name, Portless};

/// So many hosts may be trusted by name.
const MOST_NAMES: usize = 100;

/// The beginning of a sentence about the ports that are in both: "port 22/tcp is", "ports 8005-8010/tcp are".
fn shared(ports: PortRange, claim: PortRange) -> String {
    let both = ports.shared(claim).unwrap_or(ports);
    match both.is_several() {
        true => format!("ports {both} are"),
        false => format!("port {both} is"),
    }
}

fn owner(door: &Spanned<Name>) -> String {
    format!("door `{}`", door.value)
}

impl Checker<'_> {
    pub(super) fn guarded_ports(&mut self) -> Claims {
        let mut guarded = Claims::default();
        if self.file.doors.is_empty() && self.diagnostics.is_empty() {
            self.error(
                Diagnostic::new(0..0, "a policy needs a door")
                    .help("write for example:  [door.ssh]  and below it  ports = [22]"),
            );
        }
        for DoorEntry {
            name,
            ports,
            every_port,
            to,
            ..
        } in &self.file.doors
        {
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
            if *every_port {
                continue;
            }
            if ports.value.is_empty() && !self.already_wrong(&ports.at) {
                self.error(
                    Diagnostic::new(ports.at.clone(), "a door has at least one port")
                        .help("write for example `ports = [22]`"),
                );
            }
            for Spanned { value: ports, at } in &ports.value {
                let owner = owner(name);
                if to.is_some() {
                    continue;
                }
                if let Some((claim, first, other)) = guarded.find(*ports) {
                    let what = shared(*ports, claim);
                    self.diagnostics.push(
                        Diagnostic::new(at.clone(), format!("{what} guarded twice"))
                            .label("again here")
                            .also(first.clone(), format!("guarded by {other}")),
                    );
                } else {
                    guarded.add(*ports, at, &owner);
                }
            }
        }
        guarded
    }

    /// Each healing asks for all names at the same time.
    pub(super) fn trusted_names(&mut self) {
        let mut names = HashSet::new();
        for door in &self.file.doors {
            let before = names.len() <= MOST_NAMES;
            names.extend(&door.trusted_names);
            if before && names.len() > MOST_NAMES {
                self.diagnostics.push(
                    Diagnostic::new(
                        door.name.at.clone(),
                        format!("more than {MOST_NAMES} hosts are trusted by name"),
                    )
                    .label("the last of them are trusted here")
                    .help("write their addresses or a network, or give them a key"),
                );
            }
        }
    }

    /// The ports of all doors, those in front of other hosts too: none of them is a knock. Two doors may have the same
    /// port at different hosts.
    pub(super) fn ports_of_any_door(&mut self, here: &Claims) -> Claims {
        let mut all = here.clone();
        let file = self.file;
        let mut before: Vec<(&DoorEntry, &[IpNet])> = Vec::new();
        for door in &file.doors {
            if door.every_port {
                self.every_port_is_here(door);
                continue;
            }
            self.forward(door);
            let Some(to) = &door.to else {
                if let Some(at) = door.knock_at.as_ref().map(|knock_at| &knock_at.at) {
                    self.error(
                        Diagnostic::new(
                            at.clone(),
                            format!("door `{}` is a door of this host", door.name.value),
                        )
                        .label("knocks are heard at this host anyway")
                        .help("leave it out, or write `to` with the addresses that the door stands in front of"),
                    );
                }
                continue;
            };
            if to.value.is_empty() && !self.already_wrong(&to.at) {
                self.error(
                    Diagnostic::new(to.at.clone(), "a door in front of no host")
                        .label("empty")
                        .help("write for example `to = [\"192.0.2.50\"]`, or leave it out for a door of this host"),
                );
            }
            let ports = door.ports.written().map_or(&[][..], |ports| &ports.value);
            for Spanned { value: ports, at } in ports {
                let both = before.iter().find_map(|(other, hosts)| {
                    let network = overlap(hosts, &to.value)?;
                    let mut others = other.ports.written()?.value.iter();
                    let claim = others.find(|claim| claim.value.overlaps(*ports))?;
                    Some((*other, network, claim))
                });
                if let Some((other, network, claim)) = both {
                    let what = shared(*ports, claim.value);
                    self.error(
                        Diagnostic::new(
                            at.clone(),
                            format!("{what} guarded twice at {}", display_source(&network)),
                        )
                        .label("again here")
                        .also(
                            claim.at.clone(),
                            format!("guarded by {}", owner(&other.name)),
                        ),
                    );
                }
                all.add_rest(*ports, at, &owner(&door.name));
            }
            before.push((door, &to.value));
        }
        all
    }

    /// Checks where a door passes connections on to.
    fn forward(&mut self, door: &DoorEntry) {
        if let (Some(forward), Some(to)) = (&door.forward, &door.to) {
            self.error(
                Diagnostic::new(forward.at.clone(), format!("door `{}` is a door of other hosts", door.name.value))
                    .label("passed on here")
                    .help("`forward` is for a port of this host, `to` for addresses behind it: leave out one of the two")
                    .also(to.at.clone(), "their addresses"),
            );
        }
        if let (Some(masquerade), None) = (&door.masquerade, &door.forward) {
            self.error(
                Diagnostic::new(
                    masquerade.at.clone(),
                    format!("door `{}` passes nothing on", door.name.value),
                )
                .label("says how a connection is passed on")
                .help("leave it out, or write for example `forward = \"192.168.1.5:22\"`"),
            );
        }
    }

    pub(super) fn ignored_ports(&mut self, guarded: &Claims) -> Claims {
        let mut ignored = Claims::default();
        for Spanned { value: port, at } in self.file.ignore.iter().flat_map(|list| &list.value) {
            if let Some((_, first, door)) = guarded.find(*port) {
                self.diagnostics.push(
                    Diagnostic::new(at.clone(), format!("port {port} is guarded and ignored"))
                        .label("ignored here")
                        .help("a door's port is always watched; leave it out of `ignore`")
                        .also(first.clone(), format!("guarded by {door}")),
                );
            }
            if let Some((_, first, _)) = ignored.find(*port) {
                self.diagnostics.push(
                    Diagnostic::new(at.clone(), format!("port {port} is ignored twice"))
                        .label("again here")
                        .also(first.clone(), "first here"),
                );
            }
            ignored.add(*port, at, "`ignore`");
        }
        ignored
    }

    pub(super) fn allowed_ports(&mut self, guarded: &Claims) {
        let mut allowed = Claims::default();
        let file = self.file;
        let mut protocols: Vec<(Portless, &Range<usize>)> = Vec::new();
        for Spanned { value, at } in file.firewall.iter().flat_map(|f| &f.allow) {
            let ports = match value {
                Traffic::Ports(ports) => ports,
                Traffic::Protocol(protocol) => {
                    let same = protocols.iter().find(|(known, _)| known == protocol);
                    match same {
                        Some((_, first)) => self.error(
                            Diagnostic::new(at.clone(), format!("`{protocol}` is allowed twice"))
                                .label("again here")
                                .also((*first).clone(), "first here"),
                        ),
                        None => protocols.push((*protocol, at)),
                    }
                    continue;
                }
            };
            if let Some((claim, first, door)) = guarded.find(*ports) {
                let what = shared(*ports, claim);
                self.error(
                    Diagnostic::new(at.clone(), format!("{what} guarded and allowed"))
                        .label("allowed here")
                        .help("a door lets in those who knock; leave it out of `allow`")
                        .also(first.clone(), format!("guarded by {door}")),
                );
            }
            if let Some((claim, first, _)) = allowed.find(*ports) {
                let what = shared(*ports, claim);
                self.error(
                    Diagnostic::new(at.clone(), format!("{what} allowed twice"))
                        .label("again here")
                        .also(first.clone(), "first here"),
                );
            } else {
                allowed.add(*ports, at, "`allow`");
            }
        }
        for entry in file.firewall.iter().flat_map(|f| &f.partly) {
            self.allowance(entry, guarded, &allowed, &protocols);
        }
    }

    /// Checks an element of `allow` that is for some sources, or some interfaces.
    fn allowance(
        &mut self,
        entry: &AllowanceEntry,
        guarded: &Claims,
        allowed: &Claims,
        protocols: &[(Portless, &Range<usize>)],
    ) {
        let empty = [
            entry
                .from
                .as_ref()
                .is_some_and(|list| list.value.is_empty()),
            entry
                .interfaces
                .as_ref()
                .is_some_and(|list| list.value.is_empty()),
            entry.traffic.is_empty() && !self.already_wrong(&entry.at),
        ];
        if empty.contains(&true) {
            self.error(
                Diagnostic::new(entry.at.clone(), "this allows nothing")
                    .label("an empty list")
                    .help("leave out `from` for all sources, and `interfaces` for all interfaces"),
            );
        }
        if entry.from.is_none() && entry.interfaces.is_none() {
            self.error(
                Diagnostic::new(entry.at.clone(), "this is for everyone")
                    .label("neither `from` nor `interfaces`")
                    .help("write its ports in `allow` itself: `allow = [80, \"vrrp\"]`"),
            );
        }
        for Spanned { value, at } in &entry.traffic {
            let (what, first) = match value {
                Traffic::Ports(ports) => match (guarded.find(*ports), allowed.find(*ports)) {
                    (Some((claim, first, door)), _) => {
                        let what = format!("{} guarded and allowed", shared(*ports, claim));
                        self.error(
                            Diagnostic::new(at.clone(), what)
                                .label("allowed here")
                                .help("`trust` in the door names sources that need not knock")
                                .also(first.clone(), format!("guarded by {door}")),
                        );
                        continue;
                    }
                    (None, Some((claim, first, _))) => (shared(*ports, claim), first),
                    (None, None) => continue,
                },
                Traffic::Protocol(protocol) => {
                    match protocols.iter().find(|(known, _)| known == protocol) {
                        Some((_, first)) => (format!("`{protocol}` is"), *first),
                        None => continue,
                    }
                }
            };
            self.error(
                Diagnostic::new(at.clone(), format!("{what} allowed to everyone already"))
                    .label("for some here")
                    .help("leave out one of the two")
                    .also(first.clone(), "for everyone here"),
            );
        }
    }

    pub(super) fn interfaces(&mut self) {
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
    pub(super) fn ids(&mut self) {
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

    /// Tokens arrive at a port of their own.
    pub(super) fn token_port(&mut self, guarded: &Claims, ignored: &Claims) {
        let file = self.file;
        let Spanned { value: port, at } = match &file.token_port {
            Entry::Written(port) => port,
            Entry::Wrong => return,
            Entry::Missing => {
                let tokens = file.keys.iter().filter_map(|key| key.token.as_ref());
                let mut signed = file.keys.iter().filter_map(|key| key.signed.as_ref());
                if let Some(token) = tokens.take(1).next().or_else(|| signed.next()) {
                    self.error(
                        Diagnostic::new(token.at.clone(), "tokens need a port to go to")
                            .label("a token key")
                            .help("write for example `token_port = 40123` at the top of the file"),
                    );
                }
                return;
            }
        };
        let mut browsers = file.keys.iter().filter_map(|key| key.browser.as_ref());
        if let Some(browser) = browsers.find(|browser| browser.value)
            && !sends_tokens_to(*port)
        {
            self.error(
                Diagnostic::new(
                    at.clone(),
                    format!("no browser sends tokens to port {port}"),
                )
                .label("tokens go here")
                .help(
                    "take one from 1024 to 32767 that browsers do not block (10080 is one that they do)",
                )
                .also(browser.at.clone(), "a browser shall send them"),
            );
        }
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
        let firewall = file.firewall.iter();
        let allowed = firewall.flat_map(|firewall| {
            let partly = firewall.partly.iter().flat_map(|entry| &entry.traffic);
            firewall.allow.iter().chain(partly)
        });
        let is_of =
            |traffic: Traffic| matches!(traffic, Traffic::Ports(ports) if ports.contains(port));
        let allowed = allowed.filter(|allowed| is_of(allowed.value));
        uses.extend(allowed.map(|port| (port.at.clone(), "allowed".to_string())));
        for claims in [guarded, ignored] {
            let claim = claims.find(port);
            uses.extend(claim.map(|(_, at, by)| (at.clone(), format!("of {by}"))));
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
}
