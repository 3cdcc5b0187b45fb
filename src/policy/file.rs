//! `text --parse--> File`: what was written, value by value, and where it stands.
//!
//! A leaf that is wrong by itself (a port of 70000, a string where a list belongs) is reported here
//! and left out of the [`File`]; what only makes sense together is judged by
//! [`check`](super::check). Reading never stops at a mistake.

use std::num::{NonZeroU16, NonZeroU32};
use std::ops::Range;
use std::time::Duration;

use ipnet::IpNet;
use toml::Spanned as Located;
use toml::de::DeTable;

use super::diagnostic::Diagnostic;
use super::section::Section;
use super::syntax::Readable;
use super::values::{MAX_HORIZON, MAX_WITHIN, MIN_HORIZON, MIN_MAX_SOURCES, MIN_WITHIN, Reader};
use super::{Backend, Closed, Engine, KnockAt, Log, Name, Portless, Target};
use crate::knock::{Knock, PortRange};
use crate::signed::Binding;

/// A value and the bytes of the file it was read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Spanned<T> {
    pub value: T,
    pub at: Range<usize>,
}

/// A policy file as written. `None` is "not written", or "written wrongly and reported".
#[derive(Debug, Default)]
pub struct File {
    pub backend: Option<Spanned<Backend>>,
    pub within: Option<Spanned<Duration>>,
    pub open_for: Option<Spanned<Duration>>,
    pub interfaces: Option<Spanned<Vec<Spanned<String>>>>,
    pub ignore: Option<Spanned<Vec<Spanned<Knock>>>>,
    pub closed: Option<Spanned<Closed>>,
    pub log: Option<Spanned<Log>>,
    pub max_sources: Option<Spanned<u32>>,
    pub token_port: Entry<NonZeroU16>,
    pub token_horizon: Option<Spanned<Duration>>,
    pub signed_mark: Option<Spanned<NonZeroU32>>,
    /// Names of warnings.
    pub silence: Option<Spanned<Vec<Spanned<&'static str>>>>,
    pub prefix4: Option<Spanned<u8>>,
    pub prefix6: Option<Spanned<u8>>,
    pub firewall: Option<FirewallEntry>,
    pub fleet: Option<FleetEntry>,
    pub doors: Vec<DoorEntry>,
    pub keys: Vec<KeyEntry>,
    /// False when the text is not TOML: then what is missing may only have been lost.
    pub whole: bool,
    /// Names of sections that are no names. They are reported.
    pub misnamed: Vec<String>,
    /// The places of values that are not TOML. They are reported; the rest could be read.
    pub mended: Vec<Range<usize>>,
}

/// `[firewall]`
#[derive(Debug)]
pub struct FirewallEntry {
    pub allow: Vec<Spanned<Traffic>>,
    /// Elements of `allow` that are sections.
    pub partly: Vec<AllowanceEntry>,
    pub ping: bool,
    pub drop_forwarded: bool,
}

/// An element of `allow`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Traffic {
    Ports(PortRange),
    Protocol(Portless),
}

/// `{ ports = [5432, "vrrp"], from = ["10.0.0.0/8"], interfaces = ["eth1"] }` in `allow`
#[derive(Debug)]
pub struct AllowanceEntry {
    pub at: Range<usize>,
    pub traffic: Vec<Spanned<Traffic>>,
    pub from: Option<Spanned<Vec<IpNet>>>,
    pub interfaces: Option<Spanned<Vec<Spanned<String>>>>,
}

/// `[fleet]`
#[derive(Debug)]
pub struct FleetEntry {
    /// Where the section stands.
    pub at: Range<usize>,
    pub url: Entry<Engine>,
    pub name: Entry<Name>,
    pub share: Option<Spanned<Vec<Spanned<String>>>>,
    pub accept: Option<Spanned<Vec<Spanned<String>>>>,
    /// The file of the password.
    pub password: Option<Spanned<String>>,
    /// The file of the secret that the hosts sign with.
    pub secret: Option<Spanned<String>>,
    pub authority: Option<Spanned<String>>,
    pub group: Option<Spanned<u16>>,
}

/// `[door.NAME]`
#[derive(Debug)]
pub struct DoorEntry {
    pub name: Spanned<Name>,
    pub ports: Entry<Vec<Spanned<PortRange>>>,
    /// `true` for `ports = "all"`, which names none.
    pub every_port: bool,
    /// The hosts behind this one that it stands in front of.
    pub to: Option<Spanned<Vec<IpNet>>>,
    pub knock_at: Option<Spanned<KnockAt>>,
    /// Where its connections are passed on to.
    pub forward: Option<Spanned<Vec<Target>>>,
    /// Addresses in `forward` whose last group may be meant as a port.
    pub unclear_forward: Vec<Spanned<String>>,
    pub masquerade: Option<Spanned<bool>>,
    pub open_for: Option<Spanned<Duration>>,
    pub extend: Option<Spanned<Duration>>,
    pub at_most: Option<Spanned<Duration>>,
    pub trust: Vec<IpNet>,
    pub trusted_names: Vec<String>,
    pub silence: Option<Spanned<Vec<Spanned<&'static str>>>>,
}

/// `[key.NAME]`
#[derive(Debug)]
pub struct KeyEntry {
    pub name: Spanned<Name>,
    pub opens: Entry<Vec<Spanned<String>>>,
    pub sequence: Entry<Vec<Spanned<Knock>>>,
    /// `true` if each element of the list could be read: a list with holes proves nothing.
    pub sequence_whole: bool,
    /// The sequences of a scratch key.
    pub scratch: Option<Spanned<Vec<WrittenSequence>>>,
    /// The file of a token key's secret.
    pub token: Option<Spanned<String>>,
    /// The file of a signed key's secret.
    pub signed: Option<Spanned<String>>,
    /// The datagrams of a signed key that count.
    pub binding: Option<Spanned<Binding>>,
    /// `true` if a browser can send its tokens.
    pub browser: Option<Spanned<bool>>,
    /// `true` if its tokens may come in a ping.
    pub ping: Option<Spanned<bool>>,
    pub open_for: Option<Spanned<Duration>>,
    pub once: bool,
    pub expires: Option<Spanned<i64>>,
    pub silence: Option<Spanned<Vec<Spanned<&'static str>>>>,
}

/// A sequence of a key, and whether each element of the list could be read.
#[derive(Debug)]
pub struct WrittenSequence {
    pub knocks: Spanned<Vec<Spanned<Knock>>>,
    pub whole: bool,
}

impl KeyEntry {
    /// All sequences of the key, each with whether it could be read whole.
    pub fn sequences(&self) -> impl Iterator<Item = (&Spanned<Vec<Spanned<Knock>>>, bool)> {
        let own = match &self.sequence {
            Entry::Written(knocks) => Some((knocks, self.sequence_whole)),
            Entry::Missing | Entry::Wrong => None,
        };
        let scratch = self.scratch.iter().flat_map(|list| &list.value);
        own.into_iter().chain(scratch.map(|s| (&s.knocks, s.whole)))
    }
}

/// A setting that must be there.
#[derive(Debug, Default)]
pub enum Entry<T> {
    #[default]
    Missing,
    /// Written, wrong, and reported.
    Wrong,
    Written(Spanned<T>),
}

impl<T> Entry<T> {
    pub fn written(&self) -> Option<&Spanned<T>> {
        match self {
            Entry::Written(written) => Some(written),
            Entry::Missing | Entry::Wrong => None,
        }
    }
}

/// Reads the text. The diagnostics are those of the syntax and of single values.
pub fn parse(text: &str) -> (File, Vec<Diagnostic>) {
    let read = DeTable::parse_recoverable(text);
    let readable = Readable::of(text, &read.1);
    let again = readable.mended_text().map(DeTable::parse_recoverable);
    let (table, errors) = again.unwrap_or(read);
    let syntax = readable.judge(&errors);
    let mut reader = Reader::default();
    let mut file = reader.policy(&table);
    file.whole = syntax.is_whole;
    let mut diagnostics = reader.diagnostics;
    diagnostics.retain(|found| !syntax.is_guess(found.at.start));
    diagnostics.extend(syntax.diagnostics);
    file.mended = readable.mended();
    file.misnamed = reader.misnamed;
    (file, diagnostics)
}

impl Reader {
    fn policy(&mut self, table: &Located<DeTable<'_>>) -> File {
        let mut section = Section::new(table.as_ref(), "a policy");
        let mut file = File {
            backend: section.take(self, "backend", Reader::backend),
            within: section.take(self, "within", |r, v| {
                r.duration(v, MIN_WITHIN, MAX_WITHIN, "10s")
            }),
            open_for: section.take(self, "open_for", Reader::open_for),
            interfaces: section.take(self, "interfaces", Reader::interfaces),
            ignore: section.take(self, "ignore", |r, v| r.ports(v).0),
            closed: section.take(self, "closed", Reader::closed),
            log: section.take(self, "log", Reader::log),
            max_sources: section.take(self, "max_sources", |r, v| {
                r.integer(v, MIN_MAX_SOURCES, 1 << 20, "max_sources")
            }),
            token_port: section.entry(self, "token_port", Reader::token_port),
            token_horizon: section.take(self, "token_horizon", |r, v| {
                r.duration(v, MIN_HORIZON, MAX_HORIZON, "6h")
            }),
            signed_mark: section.take(self, "signed_mark", |r, v| {
                let mark = r.integer(v, 1, u32::MAX.into(), "signed_mark");
                mark.and_then(NonZeroU32::new)
            }),
            silence: section.take(self, "silence", Reader::warnings),
            ..File::default()
        };
        if let Some(grant) = section.table(self, "grant", "prefix4 = 24") {
            let mut section = Section::new(grant, "[grant]");
            file.prefix4 = section.take(self, "prefix4", |r, v| r.integer(v, 8, 32, "prefix4"));
            file.prefix6 = section.take(self, "prefix6", |r, v| r.integer(v, 32, 128, "prefix6"));
            section.finish(self);
        }
        for (name, table) in section.named(self, "door") {
            file.doors.push(self.door(name, table));
        }
        for (name, table) in section.named(self, "key") {
            file.keys.push(self.key(name, table));
        }
        if let Some(table) = section.table(self, "firewall", "default = \"drop\"") {
            file.firewall = Some(self.firewall(table));
        }
        let at = table.as_ref().get_key_value("fleet");
        if let Some(table) = section.table(self, "fleet", "url = \"redis://192.0.2.10\"") {
            let at = at.map_or(0..0, |(name, _)| name.span());
            file.fleet = Some(self.fleet(at, table));
        }
        section.finish(self);
        file
    }

    fn firewall(&mut self, table: &DeTable<'_>) -> FirewallEntry {
        let mut section = Section::new(table, "[firewall]");
        section.take(self, "default", |r, v| r.only(v, "default", "drop"));
        let allow = section.take(self, "allow", Reader::allow);
        let ping = section.take(self, "ping", |r, v| r.boolean(v, "ping"));
        let forward = section.take(self, "forward", Reader::forward);
        section.finish(self);
        let (allow, partly) = allow.map(|list| list.value).unwrap_or_default();
        FirewallEntry {
            allow,
            partly,
            ping: ping.is_some_and(|ping| ping.value),
            drop_forwarded: forward.is_some_and(|drop| drop.value),
        }
    }

    fn fleet(&mut self, at: Range<usize>, table: &DeTable<'_>) -> FleetEntry {
        let mut section = Section::new(table, "[fleet]");
        let fleet = FleetEntry {
            at,
            url: section.entry(self, "url", Reader::engine),
            name: section.entry(self, "name", Reader::host_name),
            share: section.take(self, "share", |r, v| r.doors(v, "share = [\"ssh\"]")),
            accept: section.take(self, "accept", |r, v| r.doors(v, "accept = [\"ssh\"]")),
            password: section.take(self, "password", |r, v| {
                r.string(v, "password = \"fleet.password\"")
                    .map(str::to_string)
            }),
            secret: section.take(self, "secret", |r, v| {
                r.string(v, "secret = \"fleet.secret\"").map(str::to_string)
            }),
            authority: section.take(self, "authority", |r, v| {
                r.string(v, "authority = \"engine-ca.pem\"")
                    .map(str::to_string)
            }),
            group: section.take(self, "group", |r, v| r.integer(v, 0, 65_535, "group")),
        };
        section.finish(self);
        fleet
    }

    fn door(&mut self, name: Spanned<Name>, table: &DeTable<'_>) -> DoorEntry {
        let mut section = Section::new(table, "a door");
        let mut every_port = false;
        let (mut trusted_names, mut unclear_forward) = (Vec::new(), Vec::new());
        let door = DoorEntry {
            name,
            ports: section.entry(self, "ports", |r, v| {
                every_port = v.get_ref().as_str() == Some("all");
                match every_port {
                    true => Some(Vec::new()),
                    false => r.ranges(v),
                }
            }),
            every_port: false,
            to: section.take(self, "to", Reader::hosts_behind),
            knock_at: section.take(self, "knock_at", Reader::knock_at),
            forward: section.take(self, "forward", |r, v| r.targets(v, &mut unclear_forward)),
            unclear_forward: Vec::new(),
            masquerade: section.take(self, "masquerade", |r, v| r.boolean(v, "masquerade")),
            open_for: section.take(self, "open_for", Reader::open_for),
            extend: section.take(self, "extend", Reader::extend),
            at_most: section.take(self, "at_most", Reader::at_most),
            trusted_names: Vec::new(),
            trust: section
                .take(self, "trust", |r, v| {
                    let (networks, names) = r.trusted(v)?;
                    trusted_names = names;
                    Some(networks)
                })
                .map(|list| list.value)
                .unwrap_or_default(),
            silence: section.take(self, "silence", Reader::warnings),
        };
        section.finish(self);
        DoorEntry {
            every_port,
            unclear_forward,
            trusted_names,
            ..door
        }
    }

    fn key(&mut self, name: Spanned<Name>, table: &DeTable<'_>) -> KeyEntry {
        let mut section = Section::new(table, "a key");
        let mut sequence_whole = true;
        let key = KeyEntry {
            name,
            opens: section.entry(self, "opens", Reader::door_names),
            sequence: section.entry(self, "sequence", |r, v| {
                let (ports, whole) = r.ports(v);
                sequence_whole = whole;
                ports
            }),
            scratch: section.take(self, "scratch", Reader::sequences),
            token: section.take(self, "token", |r, v| {
                r.string(v, "token = \"alice.secret\"").map(str::to_string)
            }),
            signed: section.take(self, "signed", |r, v| {
                r.string(v, "signed = \"alice.secret\"").map(str::to_string)
            }),
            binding: section.take(self, "binding", Reader::binding),
            browser: section.take(self, "browser", |r, v| r.boolean(v, "browser")),
            ping: section.take(self, "ping", |r, v| r.boolean(v, "ping")),
            open_for: section.take(self, "open_for", Reader::open_for),
            once: section
                .take(self, "once", |r, v| r.boolean(v, "once"))
                .is_some_and(|once| once.value),
            expires: section.take(self, "expires", Reader::end_of),
            silence: section.take(self, "silence", Reader::warnings),
            sequence_whole: true,
        };
        // A key that was to have a token, or scratch sequences, lacks no sequence.
        let has_another = |name, read: bool| !read && section.is_written(name);
        let sequence = match key.sequence {
            Entry::Missing
                if has_another("token", key.token.is_some())
                    || has_another("signed", key.signed.is_some())
                    || has_another("scratch", key.scratch.is_some()) =>
            {
                Entry::Wrong
            }
            sequence => sequence,
        };
        section.finish(self);
        KeyEntry {
            sequence,
            sequence_whole,
            ..key
        }
    }
}
