//! Warns of what is allowed and not wise: `File, Policy, what is known of the host --lint--> warnings`. Pure.
//!
//! Each warning has a name, which the setting `silence` takes: at the top of the file for all, in a
//! door or key for that one.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU16;
use std::time::Duration;

use super::diagnostic::Diagnostic;
use super::file::{File, KeyEntry, Spanned};
use super::published::is_published;
use super::scanned_ports;
use super::strength::{A_MILLION, Strength, time_to_guess};
use super::values::port_at_the_end;
use super::ways::{Program, Way, beside, translated};
use super::{Interfaces, KeyKind, Policy, nearest, show};
use crate::knock::{Knock, PortRange, Protocol};
use crate::signed::Binding;

/// A kind of warning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// As `silence` names it.
    pub name: &'static str,
    /// Why it matters.
    pub reason: &'static str,
}

/// Every kind there is.
pub const RULES: &[Rule] = &[
    rule(
        "first-knock-public",
        "Strangers knock at public ports all day, so they are always midway with this key: the first knock keeps \
         nobody out.",
    ),
    rule(
        "knock-listening",
        "Clients of a service here knock at its port whenever they use it, and so lose their progress or \
         repeat a knock.",
    ),
    rule(
        "sequence-weak",
        "Somebody who sends a million packets per second would find it within a month.",
    ),
    rule(
        "every-port-weak",
        "The sequence guards every port of this host, also those that nobody thinks of.",
    ),
    rule(
        "sequence-patterned",
        "Ports in order are what is tried first.",
    ),
    rule(
        "sequence-published",
        "Everybody can read it, here or in another manual: it is no secret, and is tried before any other.",
    ),
    rule(
        "signed-unbound",
        "Whoever holds such a datagram back can use it from an address of his own.",
    ),
    rule(
        "within-long",
        "The longer a pause may be, the longer strangers midway are remembered, and the easier a slow guess.",
    ),
    rule(
        "open-long",
        "A grant is for an address, and addresses change hands; sessions live on after it.",
    ),
    rule("key-expired", "It opens nothing any more."),
    rule("key-expires-soon", "Who uses it will stand outside."),
    rule(
        "door-without-key",
        "Nobody can open it, except by `toctoc open`.",
    ),
    rule(
        "trust-everyone",
        "Who is trusted need not knock: so many are hardly anybody in particular.",
    ),
    rule(
        "trust-one-label",
        "Which host it is depends on the search domain of this host, and that may come from the network.",
    ),
    rule(
        "forward-port",
        "Without brackets the last group of an IPv6 address and a port look alike.",
    ),
    rule(
        "door-silent",
        "Nothing listens there on this host, so there is nothing to guard, or the port is another.",
    ),
    rule(
        "door-beside",
        "Whoever comes to the other port needs no knock: where it is the same service, the door keeps nobody out.",
    ),
    rule(
        "door-translated",
        "Who looks for the ways to a service has to know this one too.",
    ),
    rule(
        "fleet-unsigned",
        "Whoever can write to the engine can open the doors that `accept` names.",
    ),
    rule(
        "interface-unguarded",
        "What comes in by another interface reaches the door without knocking.",
    ),
    rule(
        "interface-missing",
        "Until it is there, nothing is let in by it.",
    ),
];

const fn rule(name: &'static str, reason: &'static str) -> Rule {
    Rule { name, reason }
}

/// The facts that are known of the host that the policy is for.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The ports that something listens at for others than this host; `None` when that is not known, or
    /// the policy is for another host.
    pub listening: Option<Vec<Knock>>,
    /// The interfaces of the host, without loopback: all names of each, the first one first.
    pub interfaces: Vec<Vec<String>>,
    /// Other ports of programs that listen at more than one.
    pub programs: Vec<Program>,
    /// Ports that rules of others translate.
    pub translations: Vec<Way>,
    /// In seconds since 1970.
    pub now: i64,
}

/// The way to a sequence that nobody knows.
const DRAWN: &str = "`toctoc key new NAME --sequence 5` draws ports that nobody knows.";
const DRAWN_SCRATCH: &str = "`toctoc key new NAME --scratch 10` draws ports that nobody knows.";

/// A first knock that everybody knows.
const SCANNED_FIRST: usize = 20;
const LONG_PAUSE: Duration = Duration::from_secs(60);
const LONG_OPEN: Duration = Duration::from_secs(3600);
const SOON: i64 = 14 * 86_400;
/// Four ports that nobody tries first have 63 bits.
const STRONG: Strength = Strength(60.0);
const MONTH: Duration = Duration::from_secs(30 * 86_400);

/// All warnings that are not silenced, in the order of the file.
pub fn lint(file: &File, policy: &Policy, around: &Surroundings) -> Vec<Diagnostic> {
    let mut linter = Linter {
        file,
        policy,
        around,
        found: Vec::new(),
    };
    linter.times();
    linter.doors();
    for (index, key) in file.keys.iter().enumerate() {
        linter.key(index, key);
    }
    linter.fleet();
    linter.interfaces();
    linter.allowed_interfaces();
    linter.found.sort_by_key(|warning| warning.at.start);
    linter.found
}

struct Linter<'p> {
    file: &'p File,
    policy: &'p Policy,
    around: &'p Surroundings,
    found: Vec<Diagnostic>,
}

type Silence = Option<Spanned<Vec<Spanned<&'static str>>>>;

impl Linter<'_> {
    fn warn(&mut self, name: &'static str, own: Option<&Silence>, warning: Diagnostic) {
        let names = |list: &Silence| {
            let list = list.iter().flat_map(|list| &list.value);
            list.map(|name| name.value).any(|silenced| silenced == name)
        };
        if names(&self.file.silence) || own.is_some_and(names) {
            return;
        }
        let rule = RULES.iter().find(|rule| rule.name == name);
        self.found.extend(rule.map(|rule| warning.warning(rule)));
    }

    fn times(&mut self) {
        if let Some(within) = self.file.within.as_ref().filter(|t| t.value > LONG_PAUSE) {
            let text = format!("a pause between two knocks may last {}", show(within.value));
            self.warn(
                "within-long",
                None,
                Diagnostic::new(within.at.clone(), text),
            );
        }
        let file = self.file;
        let top = file.open_for.iter().map(|time| (time, None));
        let doors = file.doors.iter();
        let doors = doors.filter_map(|d| Some((d.open_for.as_ref()?, Some(&d.silence))));
        let keys = file.keys.iter();
        let keys = keys.filter_map(|k| Some((k.open_for.as_ref()?, Some(&k.silence))));
        let all: Vec<_> = top.chain(doors).chain(keys).collect();
        for (time, silence) in all {
            if time.value > LONG_OPEN {
                let text = format!("a grant lasts {}", show(time.value));
                self.warn("open-long", silence, Diagnostic::new(time.at.clone(), text));
            }
        }
    }

    fn doors(&mut self) {
        for (index, entry) in self.file.doors.iter().enumerate() {
            let door = &self.policy.doors[index];
            let own = Some(&entry.silence);
            let keys = self.policy.keys.iter();
            let opened = keys.flat_map(|key| &key.opens).any(|o| o.door.0 == index);
            if !opened && door.trust.is_empty() && door.trusted_names.is_empty() {
                let text = format!("no key opens `{}`", door.name);
                let warning = Diagnostic::new(entry.name.at.clone(), text);
                self.warn("door-without-key", own, warning);
            }
            let everyone = door.trust.iter().find(|network| {
                let enough = if network.addr().is_ipv4() { 8 } else { 20 };
                network.prefix_len() < enough
            });
            if let Some(network) = everyone {
                let text = format!("`{}` trusts all of {network}", door.name);
                let warning = Diagnostic::new(entry.name.at.clone(), text);
                self.warn("trust-everyone", own, warning);
            }
            for name in door.trusted_names.iter().filter(|name| !name.contains('.')) {
                let text = format!("`{}` trusts `{name}`, a name without a domain", door.name);
                let warning = Diagnostic::new(entry.name.at.clone(), text)
                    .help(format!("write the whole name: `\"{name}.example.org\"`"));
                self.warn("trust-one-label", own, warning);
            }
            for Spanned { value: text, at } in &entry.unclear_forward {
                let Some((host, port)) = port_at_the_end(text) else {
                    continue;
                };
                let told = format!("`{text}` is read as an address without a port");
                let warning = Diagnostic::new(at.clone(), told).help(format!(
                    "write `\"[{text}]\"` for that address, or `\"[{host}]:{port}\"` for port {port} of {host}"
                ));
                self.warn("forward-port", own, warning);
            }
            let Some(listening) = self
                .around
                .listening
                .as_ref()
                .filter(|_| door.is_served_here())
            else {
                continue;
            };
            let ways = &self.around.translations;
            for &ports in &door.ports {
                let at = || place_of(&entry.ports, ports).unwrap_or(entry.name.at.clone());
                for port in asked_about(ports, listening, ways) {
                    for text in beside(self.policy, &self.around.programs, port) {
                        self.warn("door-beside", own, Diagnostic::new(at(), text));
                    }
                    for text in translated(self.policy, door.name.as_str(), ways, port) {
                        self.warn("door-translated", own, Diagnostic::new(at(), text));
                    }
                }
            }
            let goes_on = |port: Knock| ways.iter().any(|way| way.is_from(port));
            // Programs behind a range come and go.
            let single = door.ports.iter().filter_map(|ports| ports.only());
            let silent = single.filter(|port| !listening.contains(port) && !goes_on(*port));
            for port in silent {
                let at = place_of(&entry.ports, port.into()).unwrap_or(entry.name.at.clone());
                let warning = Diagnostic::new(at, format!("nothing listens at {port} here"));
                self.warn("door-silent", own, warning);
            }
        }
    }

    fn key(&mut self, index: usize, entry: &KeyEntry) {
        let key = &self.policy.keys[index];
        let own = Some(&entry.silence);
        if let (Some(end), Some(expires)) = (&entry.expires, key.expires) {
            let left = expires.saturating_sub(self.around.now);
            let at = end.at.clone();
            if left <= 0 {
                let text = format!("key `{}` has expired", key.name);
                self.warn("key-expired", own, Diagnostic::new(at, text));
            } else if left < SOON {
                let text = match u64::try_from(left).unwrap_or(0).div_ceil(86_400) {
                    1 => format!("key `{}` expires within a day", key.name),
                    days => format!("key `{}` expires within {days} days", key.name),
                };
                self.warn("key-expires-soon", own, Diagnostic::new(at, text));
            }
        }
        let strength = Strength::of_key(key, self.policy);
        let every_port = self.policy.every_port();
        let opens_all = key
            .opens
            .iter()
            .any(|opening| every_port == Some(opening.door));
        if opens_all && strength < STRONG {
            let text = format!("key `{}` opens every port, and has {strength}", key.name);
            let warning = Diagnostic::new(entry.name.at.clone(), text)
                .help("Take five ports or more, or a token: `toctoc key new NAME`.");
            self.warn("every-port-weak", own, warning);
        }
        if let Some(binding) = &entry.binding
            && binding.value == Binding::Nothing
        {
            let text = format!("datagrams of `{}` open from any address", key.name);
            self.warn(
                "signed-unbound",
                own,
                Diagnostic::new(binding.at.clone(), text)
                    .help("a profile can name the address that a client has outside (`from = \"192.0.2.7\"`)"),
            );
        }
        for (number, (written, _)) in (1..).zip(entry.sequences()) {
            let knocks: Vec<Knock> = written.value.iter().map(|knock| knock.value).collect();
            let flaw = Flaw::of(&knocks);
            if flaw != Some(Flaw::Published) {
                self.sequence(entry, &knocks, &written.value);
            }
            let Some(flaw) = flaw else { continue };
            let which = match key.kind {
                KeyKind::Scratch(_) => format!("scratch sequence {number} of `{}`", key.name),
                _ => format!("the sequence of `{}`", key.name),
            };
            let help = match (&flaw, &key.kind) {
                (Flaw::Weak(_), _) => "Take four ports or more.",
                (_, KeyKind::Scratch(_)) => DRAWN_SCRATCH,
                _ => DRAWN,
            };
            let warning = Diagnostic::new(written.at.clone(), format!("{which} {flaw}"));
            self.warn(flaw.rule(), own, warning.help(help));
        }
    }

    fn sequence(&mut self, entry: &KeyEntry, knocks: &[Knock], written: &[Spanned<Knock>]) {
        let own = Some(&entry.silence);
        let listening = self.around.listening.as_deref().unwrap_or_default();
        let firewall = self.policy.firewall.as_ref();
        let is_open = |knock: &Knock| {
            listening.contains(knock) || firewall.is_some_and(|firewall| firewall.allows(*knock))
        };
        let common = |knock: &Knock| {
            let first = &scanned_ports::TCP[..SCANNED_FIRST];
            knock.protocol == Protocol::Tcp && first.contains(&knock.port.get())
        };
        for (index, (knock, place)) in knocks.iter().zip(written).enumerate() {
            let text = match (index, is_open(knock)) {
                (0, true) => {
                    format!("the first knock, {knock}, is at a port that is open to everyone")
                }
                (0, false) if common(knock) => {
                    format!("the first knock, {knock}, is at a port that every scan tries")
                }
                (1.., true) => format!("something listens at {knock} here"),
                _ => continue,
            };
            let name = match index {
                0 => "first-knock-public",
                _ => "knock-listening",
            };
            self.warn(name, own, Diagnostic::new(place.at.clone(), text));
        }
    }

    fn fleet(&mut self) {
        if let Some(fleet) = self
            .file
            .fleet
            .as_ref()
            .filter(|fleet| fleet.secret.is_none())
        {
            let warning = Diagnostic::new(fleet.at.clone(), "what the hosts tell each other is not signed")
                .help("`toctoc fleet --new-secret fleet.secret` at one host, the file copied to all, and `secret = \"fleet.secret\"`.");
            self.warn("fleet-unsigned", None, warning);
        }
    }

    /// Interfaces that an element of `allow` names.
    fn allowed_interfaces(&mut self) {
        if self.around.listening.is_none() {
            return;
        }
        let known: Vec<&str> = self
            .around
            .interfaces
            .iter()
            .flatten()
            .map(String::as_str)
            .collect();
        let partly = self
            .file
            .firewall
            .iter()
            .flat_map(|firewall| &firewall.partly);
        let named = partly.flat_map(|entry| entry.interfaces.iter().flat_map(|list| &list.value));
        let missing: Vec<&Spanned<String>> = named
            .filter(|name| !known.contains(&name.value.as_str()))
            .collect();
        for name in missing {
            let help = match nearest(&name.value, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`ip link` lists the interfaces.".to_string(),
            };
            let text = format!("there is no interface `{}` on this host", name.value);
            let warning = Diagnostic::new(name.at.clone(), text).help(help);
            self.warn("interface-missing", None, warning);
        }
    }

    fn interfaces(&mut self) {
        let (Interfaces::Only(guarded), Some(written)) =
            (&self.policy.interfaces, &self.file.interfaces)
        else {
            return;
        };
        let others = self.around.interfaces.iter();
        let others: Vec<&str> = others
            .filter(|names| !names.iter().any(|name| guarded.contains(name)))
            .filter_map(|names| names.first().map(String::as_str))
            .collect();
        if self.around.listening.is_some() && !others.is_empty() {
            let text = format!("not guarded: {}", others.join(", "));
            let warning = Diagnostic::new(written.at.clone(), text);
            self.warn("interface-unguarded", None, warning);
        }
    }
}

/// The ports of a door that the host shows something of: a single one, and of a range those at which something listens,
/// and the first of those that are translated or translated to.
fn asked_about(ports: PortRange, listening: &[Knock], ways: &[Way]) -> BTreeSet<Knock> {
    if let Some(port) = ports.only() {
        return BTreeSet::from([port]);
    }
    let ends = ways.iter().flat_map(|way| {
        let from = PortRange::new(way.protocol, way.from.0, way.from.1);
        let from = from.and_then(|from| Some(from.shared(ports)?.first()));
        let to = way.port.and_then(|port| Knock::new(way.protocol, port));
        [from, to]
    });
    let shown = listening.iter().copied().chain(ends.flatten());
    shown.filter(|port| ports.contains(*port)).collect()
}

fn place_of(
    entry: &super::file::Entry<Vec<Spanned<PortRange>>>,
    ports: PortRange,
) -> Option<std::ops::Range<usize>> {
    match entry {
        super::file::Entry::Written(list) => {
            let found = list.value.iter().find(|written| written.value == ports)?;
            Some(found.at.clone())
        }
        _ => None,
    }
}

/// The flaw of a sequence's ports, whatever the host: the first of these that is true.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    /// Other flaws do not matter any more.
    Published,
    Weak(Strength),
    /// The ports only go up, or only down.
    Ordered,
    /// The ports after the first are one after the other: a scan knocks them, and in a flood of first knocks the first is
    /// worth nothing.
    InARow,
}

impl Flaw {
    fn of(knocks: &[Knock]) -> Option<Flaw> {
        let strength = Strength::of_sequence(knocks);
        if is_published(knocks) {
            Some(Flaw::Published)
        } else if time_to_guess(strength, A_MILLION) < MONTH {
            Some(Flaw::Weak(strength))
        } else {
            let ordered = is_ordered(knocks).then_some(Flaw::Ordered);
            ordered.or_else(|| is_in_a_row(knocks.get(1..)?).then_some(Flaw::InARow))
        }
    }

    /// The name of its warning.
    fn rule(self) -> &'static str {
        match self {
            Flaw::Published => "sequence-published",
            Flaw::Weak(_) => "sequence-weak",
            Flaw::Ordered | Flaw::InARow => "sequence-patterned",
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Published => f.write_str("is published"),
            Flaw::Weak(strength) => {
                let time = about(time_to_guess(*strength, A_MILLION));
                write!(
                    f,
                    "has {strength}: found within {time} at a million packets per second"
                )
            }
            Flaw::Ordered => f.write_str("goes up or down all the way"),
            Flaw::InARow => f.write_str("has all ports but the first in a row"),
        }
    }
}

/// Returns whether no warning applies to the ports of a sequence, whatever the host.
pub fn is_wise(knocks: &[Knock]) -> bool {
    Flaw::of(knocks).is_none()
}

fn is_ordered(knocks: &[Knock]) -> bool {
    let ports = || knocks.iter().map(|knock| knock.port);
    let goes = |by: fn(&NonZeroU16, &NonZeroU16) -> bool| ports().is_sorted_by(by);
    goes(|one, next| one < next) || goes(|one, next| one > next)
}

/// Returns whether these ports of one protocol, two or more, follow one another.
fn is_in_a_row(knocks: &[Knock]) -> bool {
    let follow = |one: &Knock, next: &Knock| {
        one.protocol == next.protocol && next.port.get() == one.port.get().wrapping_add(1)
    };
    let pairs = || knocks.windows(2);
    knocks.len() >= 2
        && (pairs().all(|pair| follow(&pair[0], &pair[1]))
            || pairs().all(|pair| follow(&pair[1], &pair[0])))
}

/// A time in the largest unit that fits.
pub fn about(time: Duration) -> String {
    let seconds = time.as_secs();
    for (unit, length) in [
        ("year", 31_557_600),
        ("day", 86_400),
        ("hour", 3600),
        ("minute", 60),
        ("second", 1),
    ] {
        let number = seconds / length;
        if number > 0 {
            return match number {
                1 => format!("1 {unit}"),
                1_000_000.. if unit == "year" => "more than a million years".to_string(),
                _ => format!("{number} {unit}s"),
            };
        }
    }
    "less than a second".to_string()
}
