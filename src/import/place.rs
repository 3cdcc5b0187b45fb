//! The host behind the ports that a rule opens: this one, one that packets are routed to, or one that connections are
//! passed on to. Several rules may be about one connection: its translation, the rule of FORWARD that lets it through,
//! and the one that changes its sender. They are joined here.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::rule::{Match, Rule, Verdict, Way};
use crate::knock::{Knock, PortRange, display_source};
use crate::policy::{KnockAt, Sender, Target, is_routed, target_of};

/// The place behind a port.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Place {
    Here,
    /// A host behind this one, or a network of them.
    Behind(IpNet, KnockAt),
    /// A host behind this one. The rule does not say which.
    Unnamed(String),
    /// Connections to this host are passed on there.
    PassedOn(Target, Sender),
}

/// Ports that a rule opens.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Opened {
    pub ports: PortRange,
    pub place: Place,
}

impl Opened {
    pub fn here(ports: PortRange) -> Opened {
        Opened {
            ports,
            place: Place::Here,
        }
    }

    /// Returns whether packets to these ports are addressed to this host.
    pub fn is_at_this_host(&self) -> bool {
        matches!(self.place, Place::Here | Place::PassedOn(..))
    }

    /// Returns whether no policy can have a door for each of the two.
    pub fn clashes(&self, other: &Opened) -> bool {
        if !self.ports.overlaps(other.ports) {
            return false;
        }
        match (&self.place, &other.place) {
            (Place::Behind(one, _), Place::Behind(two, _)) => {
                one != two && (one.contains(two) || two.contains(one))
            }
            (Place::PassedOn(one, _), Place::PassedOn(two, _)) => {
                let is_same_family = one.host.is_ipv4() == two.host.is_ipv4();
                (is_same_family && one != two) || (!is_same_family && self.ports != other.ports)
            }
            (Place::Here, Place::PassedOn(..)) | (Place::PassedOn(..), Place::Here) => true,
            _ => false,
        }
    }

    /// The ports at the place to which connections are passed on.
    fn translated(&self) -> Option<(Target, PortRange)> {
        let Place::PassedOn(target, _) = self.place else {
            return None;
        };
        let ports = match target.port {
            Some(port) => Knock {
                protocol: self.ports.protocol(),
                port,
            }
            .into(),
            None => self.ports,
        };
        Some((target, ports))
    }

    /// Returns whether a translation and this rule of FORWARD are about the same connections.
    fn belongs_to(&self, translation: &Opened) -> bool {
        let Some((target, ports)) = translation.translated() else {
            return false;
        };
        let is_for_the_host = match &self.place {
            Place::Behind(network, _) => *network == IpNet::from(target.host),
            Place::Unnamed(_) => true,
            Place::Here | Place::PassedOn(..) => false,
        };
        is_for_the_host && self.ports.shared(ports) == Some(self.ports)
    }
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Here => write!(f, "{}", self.ports),
            Place::Behind(network, _) => write!(f, "{} at {}", self.ports, display_source(network)),
            Place::Unnamed(_) => write!(f, "{} at a host behind this one", self.ports),
            Place::PassedOn(target, _) => write!(f, "{} to {target}", self.ports),
        }
    }
}

impl Rule {
    /// The places behind the ports of a rule that accepts or translates.
    ///
    /// # Errors
    /// The reason why no door has such a place.
    pub fn places(&self, ports: &[PortRange]) -> Result<Vec<Place>, String> {
        match &self.verdict {
            Verdict::Translate(to) => Ok(vec![self.passed_on(to, ports)?]),
            Verdict::Redirect(to) => Ok(vec![self.redirected(to)?]),
            _ if self.way() == Way::Through => self.hosts_behind(),
            _ => Ok(vec![Place::Here]),
        }
    }

    /// The hosts of a rule of FORWARD.
    fn hosts_behind(&self) -> Result<Vec<Place>, String> {
        let out = match &self.out {
            Match::Any => String::new(),
            Match::Is(name) => format!(", out by {name}"),
            Match::Not(name) => format!(", not out by {name}"),
        };
        let unnamed = |address: &str| {
            let reason = format!("is a rule of {}{address}{out}", self.chain);
            vec![Place::Unnamed(by_hand(&reason, "to"))]
        };
        let text = match &self.destination {
            Match::Any => return Ok(unnamed("")),
            Match::Not(address) => return Ok(unnamed(&format!(" for all but {address}"))),
            Match::Is(text) => text,
        };
        let networks: Option<Vec<IpNet>> = text.split(',').map(network).collect();
        match networks {
            None => Ok(unnamed(&format!(" for {text}"))),
            Some(networks) if networks.iter().any(|network| network.prefix_len() == 0) => {
                Ok(unnamed(""))
            }
            Some(networks) => match networks.iter().find(|network| !is_routed(**network)) {
                Some(odd) => Err(format!("no host forwards packets to {odd}")),
                None => Ok(networks
                    .into_iter()
                    .map(|network| Place::Behind(network, KnockAt::ThisHost))
                    .collect()),
            },
        }
    }

    /// The place of `--to-destination`.
    fn passed_on(&self, to: &str, ports: &[PortRange]) -> Result<Place, String> {
        let what = format!("translates to {to}");
        if let Some(port) = to.strip_prefix(':') {
            return self.redirected(port);
        }
        // A range of ports that are the same on both sides.
        let (host, range) = match to.rsplit_once(':') {
            Some((host, range)) if range.contains('-') => (host, Some(range)),
            _ => (to, None),
        };
        let target = target_of(host).or_else(|| {
            let inside = host.strip_prefix('[')?.strip_suffix(']')?;
            target_of(inside)
        });
        let Some(target) = target else {
            // An address of this host alone, to which nobody's packets are passed on.
            return match host
                .strip_prefix("127.")
                .and_then(|rest| rest.split_once(':'))
            {
                Some((_, port)) => self.redirected(port),
                None => Err(by_hand(&what, "forward")),
            };
        };
        match (range, ports) {
            (None, _) => {}
            (Some(range), [same]) if same.numbers('-') == range => {}
            (Some(_), _) => {
                return Err(format!(
                    "{what}: a door passes on to one port, or keeps the ports"
                ));
            }
        }
        Ok(Place::PassedOn(target, Sender::Client))
    }

    /// Another port of this host. A door can name it by an address of this host alone.
    fn redirected(&self, port: &str) -> Result<Place, String> {
        let own = match &self.destination {
            Match::Is(address) => network(address).filter(|own| own.hosts().count() == 1),
            Match::Any | Match::Not(_) => None,
        };
        let target = own.and_then(|own| match own.addr() {
            IpAddr::V4(host) => target_of(&format!("{host}:{port}")),
            IpAddr::V6(host) => target_of(&format!("[{host}]:{port}")),
        });
        match target {
            Some(target) => Ok(Place::PassedOn(target, Sender::Client)),
            None => Err(format!(
                "translates a port to port {port} of this host: make a door of {port}, or write by hand a door with \
                 `forward = \"ADDRESS:{port}\"` and this host's own address"
            )),
        }
    }
}

/// The reason why it is left out, and the setting that does the same.
fn by_hand(what: &str, setting: &str) -> String {
    format!("{what}: a door of a host behind this one; write it by hand, with `{setting}`")
}

/// An address, or a network with its length or its mask.
fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.into());
    }
    if let Ok(network) = text.parse::<IpNet>() {
        return Some(network.trunc());
    }
    let (address, mask) = text.split_once('/')?;
    let network = IpNet::with_netmask(address.parse().ok()?, mask.parse().ok()?);
    network.ok().map(|network| network.trunc())
}

/// Rules beside those that open something.
#[derive(Debug, Default)]
pub(super) struct Beside {
    /// Those that change the sender of connections.
    pub masquerades: Vec<Rule>,
    /// Translations for everybody.
    pub translations: Vec<Opened>,
}

/// Things to say of rules that were joined.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// The reasons why rules open nothing after all.
    pub reasons: Vec<String>,
    pub remarks: Vec<String>,
    /// `true` for each masquerade that is a setting of a door now.
    pub used: Vec<bool>,
}

/// Joins the rules about one connection.
pub(super) fn join(opens: &mut Vec<Opened>, beside: &Beside) -> Joined {
    let mut joined = Joined {
        used: vec![false; beside.masquerades.len()],
        ..Joined::default()
    };
    let mut say = |remark: String| {
        if !joined.remarks.contains(&remark) {
            joined.remarks.push(remark);
        }
    };
    for translation in &beside.translations {
        let is_for_it = |opened: &&Opened| {
            matches!(opened.place, Place::Behind(..)) && opened.belongs_to(translation)
        };
        if opens.iter().any(|opened| is_for_it(&opened)) && !opens.contains(translation) {
            say(format!(
                "its translation ({translation}) was for everybody; here for guests alone: take that rule away"
            ));
            opens.push(translation.clone());
        }
    }
    let translations: Vec<Opened> = opens
        .iter()
        .filter(|opened| opened.translated().is_some())
        .cloned()
        .collect();
    opens.retain(|opened| {
        let mut all = translations.iter();
        !all.any(|translation| opened.belongs_to(translation))
    });
    for opened in opens.iter_mut() {
        let Some((target, ports)) = opened.translated() else {
            continue;
        };
        let mut conditions = Vec::new();
        for (rule, used) in beside.masquerades.iter().zip(&mut joined.used) {
            match rule.masks(target.host, ports) {
                Masks::No => continue,
                Masks::Perhaps(when) => conditions.push(when),
                Masks::Yes => opened.place = Place::PassedOn(target, Sender::ThisHost),
            }
            *used = true;
        }
        if opened.place == Place::PassedOn(target, Sender::Client) {
            for when in conditions {
                say(format!(
                    "masquerades {when}: where that is so for {}, write `masquerade = true` into the door",
                    target.host
                ));
            }
        }
    }
    opens.retain(|opened| match &opened.place {
        Place::Unnamed(reason) => {
            joined.reasons.push(reason.clone());
            false
        }
        _ => true,
    });
    joined.reasons.dedup();
    joined
}

/// The answer whether a rule changes the sender of connections to a host.
enum Masks {
    Yes,
    No,
    /// Under a condition.
    Perhaps(String),
}

impl Rule {
    /// Returns whether it changes the sender of connections.
    pub fn is_masquerade(&self) -> bool {
        self.adds() && matches!(self.verdict, Verdict::Masquerade(_))
    }

    fn masks(&self, host: IpAddr, ports: PortRange) -> Masks {
        let networks =
            |text: &str| -> Option<Vec<IpNet>> { text.split(',').map(network).collect() };
        let is_at = |text: &str| networks(text).map(|all| all.iter().any(|n| n.contains(&host)));
        let is_to = match &self.destination {
            Match::Any => true,
            Match::Is(text) => is_at(text) == Some(true),
            Match::Not(text) => is_at(text) == Some(false),
        };
        let is_at_port = match &self.ports {
            Match::Any => true,
            Match::Not(_) => false,
            Match::Is(_) => self.ranges().is_ok_and(|(own, _)| {
                let mut own = own.iter();
                own.any(|own| own.overlaps(ports))
            }),
        };
        if !is_to || !is_at_port {
            return Masks::No;
        }
        // A rule for what inner hosts send is not about guests from outside.
        match &self.source {
            Match::Is(source) if networks(source).is_some() => {
                let is_inside = is_at(source) == Some(true);
                return match &self.out {
                    Match::Any if is_inside => {
                        Masks::Perhaps(format!("for clients of {source} alone"))
                    }
                    _ => Masks::No,
                };
            }
            _ => {}
        }
        match (&self.out, &self.destination) {
            (Match::Any, _) | (_, Match::Is(_)) => Masks::Yes,
            (Match::Is(name), _) => Masks::Perhaps(format!("what leaves by {name}")),
            (Match::Not(name), _) => Masks::Perhaps(format!("what does not leave by {name}")),
        }
    }
}
