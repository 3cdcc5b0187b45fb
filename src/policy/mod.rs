//! The policy: what the administrator wrote, checked.
//!
//! `text --parse--> File --check--> Policy`. A [`Policy`] that exists is valid: nothing after
//! [`check`](check::check) refuses anything that the file says. `File` keeps what was written and
//! where; `Policy` keeps what it means and nothing of the text.

mod allow;
mod allowances;
mod backend;
mod behind;
pub mod check;
pub mod choose;
pub mod diagnostic;
pub mod differences;
mod door_words;
pub mod edit;
mod engine;
pub mod file;
mod interfaces;
pub mod lint;
pub mod load;
pub mod manual;
mod name;
pub mod published;
mod scanned_ports;
mod section;
pub mod strength;
mod sweep;
mod syntax;
mod terms;
mod values;
mod way_in;
pub mod ways;
pub mod writers;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use ipnet::IpNet;

pub use crate::knock::{DoorIndex, KeyIndex, SequenceIndex};
use crate::knock::{GrantPrefix, Knock, PortRange, Protocol};
use crate::signed::Binding;
use crate::single_use::{Form, Secret};
pub use allow::{Allowance, Portless};
pub use behind::{Behind, Forward, KnockAt, Place, Sender, Target};
pub use diagnostic::{Diagnostic, Report};
pub use door_words::and;
pub use engine::{Engine, EngineError, Password};
pub use interfaces::is_interface_name;
pub use name::{DoorId, KeyId, Name, scratch_id};
pub use values::{is_routed, nearest, show, target_of};
pub use way_in::Shut;

/// The longest sequence a key may have.
pub const LONGEST_SEQUENCE: usize = 32;

/// The largest policy file that is read, in bytes. 10,000 keys take about 1 MB.
pub const LARGEST_FILE: u64 = 8 << 20;

/// Reads a policy from text. `path` names it in error messages.
///
/// # Errors
/// Every mistake of the file at once, in the order of the file.
pub fn read(path: &str, text: &str) -> Result<Policy, Report> {
    read_for(path, text, &Host::default())
}

/// The host that a policy is read for, and the readers of its files.
#[derive(Debug, Clone, Copy, Default)]
pub struct Host<'f> {
    /// Instead of what the file says.
    pub backend: Option<Backend>,
    /// Where neither the file nor this says which; otherwise nftables.
    pub default: Option<Backend>,
    /// The number of sources that a list of the kernel holds (the parameter `ip_list_tot` of `xt_recent`), where
    /// that is known. Only the iptables backend asks.
    pub ip_list_tot: Option<u32>,
    /// Reads the files that a policy names. Without it, they cannot be read.
    pub secrets: Secrets<'f>,
    /// Reads the file of the engine's password. Without it, there is none.
    pub passwords: Passwords<'f>,
}

/// Reads the file of a secret, by its name in the policy; or gives a sentence why not.
#[derive(Clone, Copy, Default)]
pub struct Secrets<'f>(pub Option<&'f ReadSecret<'f>>);

/// See [`Secrets`].
pub type ReadSecret<'f> = dyn Fn(&str) -> Result<Secret, String> + 'f;

/// Reads the file of a password, as [`Secrets`] does.
#[derive(Clone, Copy, Default)]
pub struct Passwords<'f>(pub Option<&'f ReadPassword<'f>>);

/// See [`Passwords`].
pub type ReadPassword<'f> = dyn Fn(&str) -> Result<Password, String> + 'f;

impl fmt::Debug for Passwords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passwords(..)")
    }
}

impl fmt::Debug for Secrets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

/// Reads a policy from text, for a host. `path` names it in error messages.
///
/// # Errors
/// As for [`read`].
pub fn read_for(path: &str, text: &str, host: &Host) -> Result<Policy, Report> {
    read_with_file(path, text, host).map(|(policy, _)| policy)
}

/// The same, with what was written and where.
///
/// # Errors
/// As for [`read`].
pub fn read_with_file(path: &str, text: &str, host: &Host) -> Result<(Policy, file::File), Report> {
    let (file, mut diagnostics) = file::parse(text);
    let reported = diagnostics.len();
    if let Some(policy) = check::check(&file, host, &mut diagnostics) {
        return Ok((policy, file));
    }
    // The value in the place of a wrong one is wrong in no other way.
    let is_follow_up = |found: &Diagnostic| {
        file.mended
            .iter()
            .any(|place| place.contains(&found.at.start))
    };
    let mut follow_ups = diagnostics.split_off(reported.min(diagnostics.len()));
    follow_ups.retain(|found| !is_follow_up(found));
    diagnostics.extend(follow_ups);
    Err(Report::new(path, text, diagnostics))
}

/// A checked policy. See the manual's table of settings for what each field is called in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    pub backend: Backend,
    /// The longest pause between two counted knocks.
    pub within: Duration,
    pub interfaces: Interfaces,
    /// Ports whose packets are never knocks. In the order of the file, no duplicates.
    pub ignore: Vec<Knock>,
    pub closed: Closed,
    pub log: Log,
    /// The most sources that may be midway, and that may hold grants, per family.
    pub max_sources: u32,
    pub grant: GrantPrefix,
    /// Where tokens arrive, as UDP datagrams. Always there when a key has a token.
    pub token_port: Option<NonZeroU16>,
    /// The time that tokens are loaded ahead.
    pub token_horizon: Duration,
    /// The mark by which the kernel tells the rules of a good datagram of a signed key.
    pub signed_mark: NonZeroU32,
    /// `None` when what is no door stays as it is.
    pub firewall: Option<HostFirewall>,
    /// `None` when this host has its doors for itself.
    pub fleet: Option<Fleet>,
    /// In the order of the file; never empty. Indexed by [`DoorIndex`].
    pub doors: Vec<Door>,
    /// In the order of the file. Indexed by [`KeyIndex`].
    pub keys: Vec<Key>,
}

/// Ports that are closed to new connections except for sources that hold a grant.
#[derive(Debug, Clone, PartialEq)]
pub struct Door {
    pub name: Name,
    pub reach: Reach,
    /// No port of a host belongs to two doors. Empty for the door of every port, and for no other.
    pub ports: Vec<PortRange>,
    pub place: Place,
    /// `None` where a program of this host, or the host behind, gets the connections.
    pub forward: Option<Forward>,
    /// Sources that never need to knock.
    pub trust: Vec<IpNet>,
    /// Hosts that never need to knock, by name, in small letters. Their addresses are no matter of the policy.
    pub trusted_names: Vec<String>,
    /// The time that a grant lasts where no key says otherwise.
    pub open_for: Duration,
    /// `None` when a grant ends in its time, however much it is used.
    pub extension: Option<Extension>,
}

/// The connections that a grant for a door lets in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Those to its ports.
    Ports,
    /// All that `[firewall]` drops, and those to each door of this host. There is `[firewall]` then, and one door of this kind at most.
    EveryPort,
}

/// A grant that connections extend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Extension {
    /// The time that it lasts from each new connection.
    pub extend: Duration,
    /// The time after the opening at which it ends at the latest. No less than `extend`, and more than any `open_for`.
    pub at_most: Duration,
}

/// The key of one person or device for some doors.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    pub name: Name,
    /// Never empty, each door once.
    pub opens: Vec<Opening>,
    pub kind: KeyKind,
    /// Its tokens may come in an echo request too.
    pub ping: bool,
    /// Each grant of this key is used up by its first connection.
    pub once: bool,
    /// From this moment on (seconds since 1970, UTC) the key opens nothing.
    pub expires: Option<i64>,
}

/// The means by which a key opens doors.
#[derive(Debug, Clone, PartialEq)]
pub enum KeyKind {
    /// 1 to [`LONGEST_SEQUENCE`] knocks, again and again.
    Sequence(Vec<Knock>),
    /// Tokens made of a secret, each good for one opening.
    Token(Secret),
    /// Sequences, each good for one opening. Never empty.
    Scratch(Vec<Vec<Knock>>),
    /// Signed datagrams, each good for one opening.
    Signed(Signed),
}

/// A signed key: the secret, and the datagrams that count.
#[derive(Debug, Clone, PartialEq)]
pub struct Signed {
    pub secret: Secret,
    pub binding: Binding,
}

/// The mark where the policy names none: "tctc".
pub const SIGNED_MARK: NonZeroU32 = NonZeroU32::new(0x7463_7463).unwrap();

/// A door that a key opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Opening {
    pub door: DoorIndex,
    pub open_for: Duration,
}

/// The part of the kernel that a policy is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Backend {
    Nftables,
    Iptables,
}

impl Backend {
    pub const ALL: [Backend; 2] = [Backend::Nftables, Backend::Iptables];

    /// The backend of this name.
    pub fn named(name: &str) -> Option<Backend> {
        Backend::ALL.into_iter().find(|b| b.name() == name)
    }

    /// The other one.
    pub fn other(self) -> Backend {
        match self {
            Backend::Nftables => Backend::Iptables,
            Backend::Iptables => Backend::Nftables,
        }
    }

    /// As the policy file and the command line write it.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Nftables => "nftables",
            Backend::Iptables => "iptables",
        }
    }
}

/// A whole firewall for the host: what comes in is dropped unless it is let in here, by a door, or
/// belongs to what the host itself began.
#[derive(Debug, Clone, PartialEq)]
pub struct HostFirewall {
    /// Ports that are open to everyone. In the order of the file, none twice, none of a door.
    pub allow: Vec<PortRange>,
    /// Protocols without ports that everyone may send.
    pub protocols: Vec<Portless>,
    /// Traffic from some sources, or by some interfaces.
    pub partly: Vec<Allowance>,
    /// `true` if the host answers echo requests.
    pub ping: bool,
    /// `true` if packets on their way to other hosts are dropped too.
    pub drop_forwarded: bool,
}

/// Other hosts that let in whom this one lets in, and the other way round.
#[derive(Debug, Clone, PartialEq)]
pub struct Fleet {
    pub engine: Engine,
    /// `None` where the engine asks for none.
    pub password: Option<Password>,
    /// The secret that the hosts sign with; `None` where they believe whatever the engine says.
    pub secret: Option<Secret>,
    /// The file, beside the policy, of the authority that the engine's certificate comes from; `None`
    /// for those that this host trusts.
    pub authority: Option<String>,
    /// The name of this host for the others.
    pub name: Name,
    /// The doors whose grants the others are told of. In the order of the file, each once.
    pub share: Vec<DoorIndex>,
    /// The doors for which the grants of others count. The same.
    pub accept: Vec<DoorIndex>,
    /// The NFLOG group in which the kernel tells `toctoc fleet` of openings.
    pub group: u16,
}

/// Where packets are judged.
#[derive(Debug, Clone, PartialEq)]
pub enum Interfaces {
    AllButLoopback,
    Only(Vec<String>),
}

/// The fate of a stranger's connection to a door.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Closed {
    Drop,
    Reject,
}

/// Where openings are logged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Log {
    Kernel,
    Nflog(u16),
    Off,
}

impl Policy {
    pub fn door(&self, index: DoorIndex) -> &Door {
        &self.doors[index.0]
    }

    pub fn key(&self, index: KeyIndex) -> &Key {
        &self.keys[index.0]
    }

    pub fn door_indices(&self) -> impl Iterator<Item = DoorIndex> + use<> {
        (0..self.doors.len()).map(DoorIndex)
    }

    pub fn key_indices(&self) -> impl Iterator<Item = KeyIndex> + use<> {
        (0..self.keys.len()).map(KeyIndex)
    }

    /// The sequences of the keys, in their order.
    pub fn sequences(&self) -> impl Iterator<Item = (SequenceIndex, &[Knock])> {
        let keys = self.key_indices().zip(&self.keys);
        keys.flat_map(|(index, key)| {
            let sequences = key.sequences().iter().enumerate();
            sequences.map(move |(number, knocks)| {
                let index = SequenceIndex { key: index, number };
                (index, knocks.as_slice())
            })
        })
    }

    /// The keys whose secrets make tokens, with them.
    pub fn token_keys(&self) -> impl Iterator<Item = (&Key, &Secret)> {
        self.keys.iter().filter_map(|key| match &key.kind {
            KeyKind::Token(secret) => Some((key, secret)),
            KeyKind::Sequence(_) | KeyKind::Scratch(_) | KeyKind::Signed(_) => None,
        })
    }

    /// The signed keys.
    pub fn signed_keys(&self) -> impl Iterator<Item = (&Key, &Signed)> {
        self.keys.iter().filter_map(|key| match &key.kind {
            KeyKind::Signed(signed) => Some((key, signed)),
            KeyKind::Sequence(_) | KeyKind::Scratch(_) | KeyKind::Token(_) => None,
        })
    }

    /// Returns whether some key is signed.
    pub fn has_signed(&self) -> bool {
        self.signed_keys().next().is_some()
    }

    /// The door that guards this port of this host.
    pub fn door_at(&self, port: Knock) -> Option<DoorIndex> {
        self.door_of(None, port)
    }

    /// Returns whether UDP datagrams are judged at all. They are when a door or a sequence has a UDP port;
    /// otherwise connection tracking, which judging them needs, stays out of the way and no
    /// datagram is a knock.
    pub fn judges_udp(&self) -> bool {
        let guarded = |ports: &PortRange| ports.protocol() == Protocol::Udp;
        let knocked = |knock: &Knock| knock.protocol == Protocol::Udp;
        self.doors.iter().any(|door| door.ports.iter().any(guarded))
            || self
                .sequences()
                .any(|(_, knocks)| knocks.iter().any(knocked))
    }

    /// The ports of all doors of this host.
    pub fn guarded(&self) -> impl Iterator<Item = PortRange> {
        self.doors_here()
            .flat_map(|door| door.ports.iter().copied())
    }

    /// Returns whether grants of other hosts count for this door.
    pub fn accepts(&self, door: DoorIndex) -> bool {
        let fleet = self.fleet.as_ref();
        fleet.is_some_and(|fleet| fleet.accept.contains(&door))
    }

    /// Returns whether a browser may send the tokens of some key.
    pub fn has_letters(&self) -> bool {
        self.token_keys()
            .any(|(_, secret)| secret.form() == Form::Letters)
    }

    /// Returns whether the tokens of some key may come in an echo request.
    pub fn has_pings(&self) -> bool {
        self.keys.iter().any(|key| key.ping)
    }

    /// Returns whether some key has tokens.
    pub fn has_tokens(&self) -> bool {
        self.token_keys().next().is_some()
    }

    /// Returns whether some key has sequences that open once.
    pub fn has_scratch(&self) -> bool {
        let scratch = |key: &Key| matches!(key.kind, KeyKind::Scratch(_));
        self.keys.iter().any(scratch)
    }

    /// The numbers of all scratch sequences.
    pub fn scratch_ids(&self) -> BTreeSet<u32> {
        let scratch = self.keys.iter().filter_map(|key| match &key.kind {
            KeyKind::Scratch(sequences) => Some(sequences),
            KeyKind::Sequence(_) | KeyKind::Token(_) | KeyKind::Signed(_) => None,
        });
        scratch.flatten().map(|knocks| scratch_id(knocks)).collect()
    }

    /// Returns whether some key has what opens once: then it matters what was spent before.
    pub fn is_single_use(&self) -> bool {
        self.has_scratch() || self.has_tokens()
    }

    /// The names of all hosts that some door trusts.
    pub fn trusted_names(&self) -> impl Iterator<Item = &str> {
        let names = self.doors.iter().flat_map(|door| &door.trusted_names);
        names.map(String::as_str)
    }

    /// The door of every port, if there is one.
    pub fn every_port(&self) -> Option<DoorIndex> {
        let mut doors = self.door_indices();
        doors.find(|&index| self.door(index).reach == Reach::EveryPort)
    }

    /// The doors whose grants let a source in at a door, in the order in which the kernel asks them. A grant for every port
    /// is for this host alone.
    pub fn asked_for(&self, door: DoorIndex) -> impl Iterator<Item = DoorIndex> + use<> {
        let is_here = self.door(door).is_here();
        let every_port = self.every_port().filter(|_| is_here);
        every_port.into_iter().chain([door])
    }

    /// Returns whether some door extends its grants.
    pub fn has_extensions(&self) -> bool {
        self.doors.iter().any(|door| door.extension.is_some())
    }

    /// The longest time that a grant of an opening can last.
    pub fn longest(&self, opening: &Opening) -> Duration {
        let extension = self.door(opening.door).extension;
        extension.map_or(opening.open_for, |extension| extension.at_most)
    }

    /// The doors whose connections are passed on to other places.
    pub fn forwards(&self) -> impl Iterator<Item = (&Door, &Forward)> {
        let doors = self.doors.iter();
        doors.filter_map(|door| Some((door, door.forward.as_ref()?)))
    }

    /// Returns whether some key has `once`.
    pub fn has_once(&self) -> bool {
        self.keys.iter().any(|key| key.once)
    }
}

impl Door {
    /// Returns whether this port is one of the door's.
    pub fn guards(&self, port: Knock) -> bool {
        self.ports.iter().any(|ports| ports.contains(port))
    }
}

impl HostFirewall {
    /// Returns whether everyone may come to this port.
    pub fn allows(&self, port: Knock) -> bool {
        self.allow.iter().any(|ports| ports.contains(port))
    }

    /// Returns whether a source may come to this port, by some interface at least.
    pub fn admits(&self, from: IpAddr, port: Knock) -> bool {
        let mut partly = self.partly.iter();
        self.allows(port) || partly.any(|allowance| allowance.admits(from, port))
    }

    /// All ports that somebody may come to.
    pub fn ports(&self) -> impl Iterator<Item = PortRange> {
        let partly = self.partly.iter().flat_map(|allowance| &allowance.ports);
        self.allow.iter().chain(partly).copied()
    }

    /// The traffic that is let in, in words: "80/tcp", "vrrp", "5432/tcp from 10.0.0.0/8".
    pub fn words(&self) -> Vec<String> {
        let ports = self.allow.iter().map(PortRange::to_string);
        let protocols = self.protocols.iter().map(Portless::to_string);
        let partly = self.partly.iter().map(Allowance::to_string);
        ports.chain(protocols).chain(partly).collect()
    }
}

impl Key {
    /// The sequences that this key opens with.
    pub fn sequences(&self) -> &[Vec<Knock>] {
        match &self.kind {
            KeyKind::Sequence(sequence) => std::slice::from_ref(sequence),
            KeyKind::Token(_) | KeyKind::Signed(_) => &[],
            KeyKind::Scratch(sequences) => sequences,
        }
    }

    /// The number of scratch sequences left, if that is what it opens with. `used_up` are the
    /// [ids](scratch_id) of those that open no more.
    pub fn scratch_left(&self, used_up: &BTreeSet<u32>) -> Option<usize> {
        let KeyKind::Scratch(all) = &self.kind else {
            return None;
        };
        let left = all
            .iter()
            .filter(|knocks| !used_up.contains(&scratch_id(knocks)));
        Some(left.count())
    }

    /// Returns whether the key has expired at `now`, in seconds since 1970.
    pub fn expired(&self, now: i64) -> bool {
        self.expires.is_some_and(|end| now >= end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_is_found_by_its_port() {
        let text = "[door.ssh]\nports = [22]\n[door.vpn]\nports = [\"51820/udp\"]\n";
        let policy = read("p", text).unwrap();
        let at = |port: &str| {
            let index = policy.door_at(port.parse().unwrap());
            index.map(|index| policy.door(index).name.as_str())
        };
        assert_eq!(
            [at("22"), at("51820/udp"), at("51820")],
            [Some("ssh"), Some("vpn"), None]
        );
    }

    /// The door that both kinds of single-use keys open.
    const DOOR: &str = "token_port = 4000\n[door.ssh]\nports = [22]\n";
    const SCRATCH: &str =
        "[key.paper]\nopens = [\"ssh\"]\nscratch = [[2387, 920, 18357], [7101, 640, 5223]]\n";
    const TOKEN: &str = "[key.alice]\nopens = [\"ssh\"]\ntoken = \"alice\"\n";

    /// A policy with the door and these keys. Files of another length have another secret.
    fn try_keys(keys: &[&str]) -> Result<Policy, Report> {
        let secret = |file: &str| {
            let digits = "0123456789abcdef".repeat(5);
            let digits = &digits[file.len()..][..64];
            Secret::parse(digits).map_err(|error| error.to_string())
        };
        let host = Host {
            secrets: Secrets(Some(&secret)),
            ..Host::default()
        };
        assert_eq!(format!("{:?}", host.secrets), "Secrets(..)");
        read_for("p", &format!("{DOOR}{}", keys.concat()), &host)
    }

    fn with_keys(keys: &[&str]) -> Policy {
        try_keys(keys).unwrap_or_else(|report| panic!("{report}"))
    }

    #[test]
    fn each_token_key_has_a_secret_of_its_own() {
        let bob = |file: &str| {
            TOKEN
                .replace("key.alice", "key.bob")
                .replace("\"alice\"", file)
        };
        let both = with_keys(&[TOKEN, &bob("\"bob\"")]);
        assert_eq!(both.token_keys().count(), 2);
        let said = try_keys(&[TOKEN, &bob("\"other\"")])
            .unwrap_err()
            .to_string();
        assert!(
            said.contains("`alice` and `bob` have the same secret"),
            "{said}"
        );
    }

    /// Of two secrets that differ the number can be the same: about one pair in 2^32.
    #[test]
    fn keys_whose_secrets_have_the_same_number_are_refused() {
        let secret = |number: u64| {
            let mut bytes = [7; 32];
            bytes[..8].copy_from_slice(&number.to_be_bytes());
            Secret::new(bytes.into())
        };
        let mut numbers = std::collections::HashMap::new();
        let pair = (0..).find_map(|number| {
            let before = numbers.insert(secret(number).id(), number)?;
            Some([before, number])
        });
        let [one, other] = pair.unwrap();
        let third = other + 1;
        let read = |two: u64, kinds: [&str; 2]| {
            let key = |name: &str, kind: &str, number: u64| {
                format!("[key.{name}]\nopens = [\"ssh\"]\n{kind} = \"{number}\"\n")
            };
            let keys = key("alice", kinds[0], one) + &key("bob", kinds[1], two);
            let file = |number: &str| Ok(secret(number.parse().unwrap()));
            let host = Host {
                secrets: Secrets(Some(&file)),
                ..Host::default()
            };
            read_for("p", &format!("{DOOR}{keys}"), &host)
        };
        for kinds in [
            ["signed", "signed"],
            ["token", "signed"],
            ["token", "token"],
        ] {
            let said = read(other, kinds).unwrap_err().to_string();
            assert!(
                said.contains(
                    "`alice` and `bob` have the same number, which is made of their secrets"
                ),
                "{said}"
            );
            assert!(
                said.contains("make another secret: `toctoc key new`"),
                "{said}"
            );
            assert!(read(third, kinds).is_ok());
            let said = read(one, kinds).unwrap_err().to_string();
            assert!(said.contains("have the same secret"), "{said}");
        }
    }

    #[test]
    fn keys_that_open_once_are_known() {
        let known = |keys: &[&str]| {
            let policy = with_keys(keys);
            let tokens = policy.token_keys().map(|(key, _)| key.name.to_string());
            let tokens: Vec<String> = tokens.collect();
            assert_eq!(policy.has_tokens(), !tokens.is_empty());
            assert_eq!(policy.has_scratch(), !policy.scratch_ids().is_empty());
            (tokens, policy.scratch_ids().len(), policy.is_single_use())
        };
        let alice = || vec!["alice".to_string()];
        assert_eq!(known(&[]), (vec![], 0, false));
        assert_eq!(known(&[SCRATCH]), (vec![], 2, true));
        assert_eq!(known(&[TOKEN]), (alice(), 0, true));
        assert_eq!(known(&[TOKEN, SCRATCH]), (alice(), 2, true));
        assert_eq!(with_keys(&[TOKEN]).token_horizon.as_secs(), 6 * 3600);
        // Known by its knocks alone.
        let ports = ["7101", "640", "5223"].map(|port| port.parse().unwrap());
        assert!(
            with_keys(&[SCRATCH])
                .scratch_ids()
                .contains(&scratch_id(&ports))
        );
    }
}
