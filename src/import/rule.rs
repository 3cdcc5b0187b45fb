//! A firewall rule, whichever program it is written for, and the judgement: does it let the source into this
//! host, and at which ports?

use std::num::NonZeroU16;

use super::place::{Opened, Place};
use super::ports::PortList;
use crate::knock::{PortRange, Protocol};

/// The operation of a command: it adds a rule, or takes one away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Operation {
    #[default]
    Append,
    /// At the place, from 0.
    Insert(usize),
    /// In the place of another, from 0.
    Replace(usize),
    Remove,
    /// Removes the rule at the place, from 0, whatever it is.
    RemoveAt(usize),
    /// Removes all rules of a chain, or of all chains where none is named.
    Flush,
    /// Neither adds nor removes a rule that matters: `-N`, `-P`, `-C`.
    Other,
}

/// The fate of a packet that a rule matches.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Verdict {
    #[default]
    None,
    Accept,
    /// DROP, REJECT and their like, by name.
    Refuse(String),
    Return,
    /// To another chain of the same table.
    Jump(String),
    Goto(String),
    /// DNAT, with the address and port.
    Translate(String),
    /// REDIRECT, with the port.
    Redirect(String),
    /// MASQUERADE or SNAT, by name.
    Masquerade(String),
    /// LOG, MARK and others, which do not decide.
    Other(String),
}

/// The way of packets that a chain is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// To this host.
    In,
    /// Through it.
    Through,
    /// From it.
    Out,
    /// Before it is known whether they are for this host.
    Before,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Match<T> {
    #[default]
    Any,
    Is(T),
    Not(T),
}

/// A use of a list of addresses (`recent`, or a set of nft) by a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ListUse {
    /// The source must be in the list, and for no longer than this.
    In(String, Option<u64>),
    /// The source must not be in it.
    NotIn(String, Option<u64>),
    /// The source must be in it, and is taken out.
    Leave(String),
    /// The source is put in.
    Enter(String, Option<u64>),
}

/// A rule.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Rule {
    pub operation: Operation,
    pub table: String,
    pub chain: String,
    /// As written: `tcp`, `UDP`, `6`; several where the program takes them.
    pub protocol: Match<String>,
    pub source: Match<String>,
    pub destination: Match<String>,
    pub interface: Match<String>,
    /// The interface by which packets leave.
    pub out: Match<String>,
    pub ports: Match<PortList>,
    /// The states of connections that it is about.
    pub states: Option<Vec<String>>,
    pub lists: Vec<ListUse>,
    pub verdict: Verdict,
    /// Conditions that nothing here understands.
    pub conditions: Vec<String>,
    /// The time that the program keeps it.
    pub seconds: Option<u64>,
    pub remarks: Vec<String>,
}

/// The meaning of a rule for the source that has knocked.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Judgement {
    /// It lets the source in at these ports.
    Opens {
        opens: Vec<Opened>,
        remarks: Vec<String>,
    },
    /// It lets the source in at every port.
    Everything { remarks: Vec<String> },
    /// It takes a rule away that let a source in.
    Closes,
    /// It is nothing of this kind: the reason.
    Not(String),
    /// It has nothing to do with openings (`-N`, `-C`).
    Nothing,
}

/// The source of a rule that stands for the client that has knocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Knocker<'t> {
    /// It is written like this: `%IP%`.
    Written(&'t [&'t str]),
    /// The rule asks a list instead.
    Listed,
}

impl Rule {
    /// Returns whether the command adds it.
    pub fn adds(&self) -> bool {
        matches!(
            self.operation,
            Operation::Append | Operation::Insert(_) | Operation::Replace(_)
        )
    }

    /// The ports that the rule names, with their protocols.
    ///
    /// # Errors
    /// The reason why there are none.
    pub fn ranges(&self) -> Result<(Vec<PortRange>, Vec<String>), String> {
        let mut remarks = Vec::new();
        let protocols = self.protocols()?;
        let ports = match &self.ports {
            Match::Any => {
                return Err(match self.protocol {
                    Match::Is(ref name) if !is_all(name) => format!(
                        "opens all ports of {}: name the door you mean, or write `ports = \"all\"`",
                        name.to_lowercase()
                    ),
                    _ => "opens all ports: name the door you mean".to_string(),
                });
            }
            Match::Not(ports) => {
                return Err(format!(
                    "opens all ports but {ports}: name the door you mean"
                ));
            }
            Match::Is(ports) => ports,
        };
        if protocols.is_empty() && ports.0.iter().any(|word| !word.contains('/')) {
            remarks.push("its rule names ports without a protocol: TCP is meant".to_string());
        }
        let protocols = match protocols.is_empty() {
            true => vec![Protocol::Tcp],
            false => protocols,
        };
        let ranges = ports.ranges(&protocols)?;
        if let Some(all) = ranges.iter().find(|range| is_all_ports(**range)) {
            return Err(format!(
                "opens all ports of {}: name the door you mean, or write `ports = \"all\"`",
                all.protocol()
            ));
        }
        Ok((ranges, remarks))
    }

    fn protocols(&self) -> Result<Vec<Protocol>, String> {
        let name = match &self.protocol {
            Match::Any => return Ok(Vec::new()),
            Match::Not(name) => return Err(format!("is for all protocols but {name}")),
            Match::Is(name) => name,
        };
        let mut protocols = Vec::new();
        for name in name.split(',') {
            match name.to_ascii_lowercase().as_str() {
                "tcp" | "6" => protocols.push(Protocol::Tcp),
                "udp" | "17" => protocols.push(Protocol::Udp),
                "all" | "any" | "0" => {}
                other => {
                    let other = match other {
                        "1" => "icmp",
                        "47" => "gre",
                        "50" => "esp",
                        "51" => "ah",
                        "58" | "icmpv6" | "ipv6-icmp" => "icmpv6",
                        "112" => "vrrp",
                        "132" => "sctp",
                        other => other,
                    };
                    return Err(format!(
                        "is for the protocol {other}: knocks and doors are of tcp or udp"
                    ));
                }
            }
        }
        Ok(protocols)
    }

    /// The way of packets that the rule's chain is about, told by the chain's name.
    pub fn way(&self) -> Way {
        let name = self.chain.to_ascii_uppercase();
        let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
        if has(&["FORWARD", "FWD", "DOCKER"]) {
            Way::Through
        } else if has(&["OUTPUT", "POSTROUTING"]) || name.starts_with("OUT_") {
            Way::Out
        } else if has(&["PREROUTING"]) {
            Way::Before
        } else {
            Way::In
        }
    }

    /// Judges what the rule means.
    pub fn judge(&self, knocker: Knocker<'_>) -> Judgement {
        match self.operation {
            Operation::Other | Operation::Flush => return Judgement::Nothing,
            Operation::Remove if matches!(self.verdict, Verdict::Refuse(_)) => {
                let all =
                    "takes a rule away that refuses packets, which lets no source in by itself";
                return Judgement::Not(all.to_string());
            }
            Operation::Remove | Operation::RemoveAt(_) => return Judgement::Closes,
            Operation::Append | Operation::Insert(_) | Operation::Replace(_) => {}
        }
        match self.opening(knocker) {
            Ok((opens, remarks)) => Judgement::Opens { opens, remarks },
            Err(reason) => match self.opens_everything(knocker) {
                Some(remarks) => Judgement::Everything { remarks },
                None => Judgement::Not(reason),
            },
        }
    }

    /// Returns what there is to say of a rule that names neither ports nor a protocol, and lets the source in otherwise.
    fn opens_everything(&self, knocker: Knocker<'_>) -> Option<Vec<String>> {
        let any_protocol = match &self.protocol {
            Match::Any => true,
            Match::Is(name) => is_all(name),
            Match::Not(_) => false,
        };
        let one_port = Rule {
            ports: Match::Is(PortList::of("1")),
            protocol: Match::Is("tcp".to_string()),
            ..self.clone()
        };
        let (opens, mut remarks) = one_port.opening(knocker).ok()?;
        let is_here = opens.iter().all(|opened| opened.place == Place::Here);
        remarks.push("opens all ports: name the door you mean, if it is one".to_string());
        (any_protocol && is_here && self.ports == Match::Any).then_some(remarks)
    }

    fn opening(&self, knocker: Knocker<'_>) -> Result<(Vec<Opened>, Vec<String>), String> {
        self.lets_in()?;
        let mut remarks = Vec::new();
        match (knocker, &self.source) {
            (Knocker::Written(words), _) => remarks.extend(self.source_remark(words)?),
            (Knocker::Listed, Match::Any) => {}
            (Knocker::Listed, Match::Is(source)) => {
                remarks.push(format!("no counterpart: only for the source {source}"));
            }
            (Knocker::Listed, Match::Not(source)) => {
                remarks.push(format!("no counterpart: for all sources but {source}"));
            }
        }
        let (ranges, said) = self.ranges().map_err(|reason| self.elsewhere(&reason))?;
        remarks.extend(said);
        let places = self.places(&ranges)?;
        let opens = places.iter().flat_map(|place| {
            let opened = |ports: &PortRange| Opened {
                ports: *ports,
                place: place.clone(),
            };
            ranges.iter().map(opened)
        });
        let opens: Vec<Opened> = opens.collect();
        if self.table == "nat" && places.contains(&Place::Here) {
            remarks.push(
                "its rule is one of the table nat, which translates: the port is taken as it is"
                    .to_string(),
            );
        }
        let says_a_place = match self.verdict {
            Verdict::Translate(_) => false,
            Verdict::Redirect(_) => true,
            _ => self.way() == Way::Through,
        };
        if let Match::Is(address) | Match::Not(address) = &self.destination
            && !says_a_place
        {
            remarks.push(format!("no counterpart: only at the address {address}"));
        }
        if let Match::Is(name) | Match::Not(name) = &self.interface {
            remarks.push(format!(
                "only at the interface {name}: `interfaces` says it for all doors"
            ));
        }
        let is_named = |place: &Place| !matches!(place, Place::Unnamed(_));
        if let Match::Is(name) | Match::Not(name) = &self.out
            && places.iter().all(is_named)
        {
            remarks.push(format!("no counterpart: only out by the interface {name}"));
        }
        let others = self.conditions.iter();
        remarks.extend(others.map(|condition| format!("no counterpart: {condition}")));
        remarks.extend(self.remarks.iter().cloned());
        Ok((opens, remarks))
    }

    /// The reason why it names no ports, and where they would be.
    fn elsewhere(&self, reason: &str) -> String {
        match &self.verdict {
            Verdict::Translate(to) => format!("translates to {to}: {reason}"),
            _ if self.way() == Way::Through => {
                let reason = match self.ports {
                    Match::Any => "opens all ports: name the door you mean",
                    _ => reason,
                };
                match &self.destination {
                    Match::Is(address) => format!(
                        "is a rule of {} for {address}: {reason}, with `to = [\"{address}\"]`",
                        self.chain
                    ),
                    _ => format!("is a rule of {}: {reason}, with `to`", self.chain),
                }
            }
            _ => reason.to_string(),
        }
    }

    /// Judges whether it lets new connections into this host; the error is the reason why not.
    fn lets_in(&self) -> Result<(), String> {
        match self.way() {
            Way::Out => return Err(format!("is about packets that leave ({})", self.chain)),
            Way::Through | Way::In | Way::Before => {}
        }
        match &self.verdict {
            Verdict::Accept => {}
            Verdict::Jump(name) | Verdict::Goto(name) if is_accepting(name) => {}
            Verdict::Translate(_) | Verdict::Redirect(_) => {}
            Verdict::Refuse(name) => return Err(format!("shuts the source out ({name})")),
            Verdict::Return => return Err("decides nothing (RETURN)".to_string()),
            Verdict::Jump(name) | Verdict::Goto(name) => {
                return Err(format!("goes to the chain {name}, which is not known"));
            }
            Verdict::Other(name) | Verdict::Masquerade(name) => {
                return Err(format!("lets nobody in ({name})"));
            }
            Verdict::None => return Err("lets nobody in".to_string()),
        }
        if matches!(self.table.as_str(), "mangle" | "raw" | "security") {
            return Err(format!(
                "is of the table {}, which lets nobody in",
                self.table
            ));
        }
        if let Some(states) = &self.states
            && !states.iter().any(|state| state.eq_ignore_ascii_case("new"))
        {
            return Err("is for connections that exist already".to_string());
        }
        match &self.interface {
            Match::Is(name) if name == "lo" => Err("is about this host alone (lo)".to_string()),
            _ => Ok(()),
        }
    }

    /// A remark about a source that is wider than the client, or the reason why it is another one.
    fn source_remark(&self, knocker: &[&str]) -> Result<Option<String>, String> {
        let source = match &self.source {
            Match::Any => {
                return Ok(Some(
                    "its rule was for everybody; here only the source that has knocked enters"
                        .to_string(),
                ));
            }
            Match::Not(source) => return Err(format!("is for all sources but {source}")),
            Match::Is(source) => source,
        };
        let Some(rest) = knocker.iter().find_map(|word| source.strip_prefix(word)) else {
            return Err(format!(
                "is for the source {source}, not for the one that has knocked"
            ));
        };
        match rest {
            "" | "/32" | "/128" | "/255.255.255.255" => Ok(None),
            length => Ok(Some(format!(
                "its rule was for the network {source}: `[grant]` says how much of an address a grant covers ({length})"
            ))),
        }
    }
}

fn is_all_ports(range: PortRange) -> bool {
    range.first().port == NonZeroU16::MIN && range.last().port == NonZeroU16::MAX
}

fn is_all(name: &str) -> bool {
    matches!(name.to_ascii_lowercase().as_str(), "all" | "any" | "0")
}

/// Returns whether a chain that is not in the file accepts, by its name: `ACCEPT`, `LOGACCEPT`, `zone_wan_ACCEPT`.
pub(super) fn is_accepting(chain: &str) -> bool {
    let name = chain.to_ascii_uppercase();
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let denies = |word: &str| {
        let before = word.strip_suffix("ACCEPT").unwrap_or(word);
        ["NO", "NOT", "NON", "DONT"].contains(&before)
    };
    words.clone().any(|word| word.ends_with("ACCEPT")) && !words.any(denies)
}
