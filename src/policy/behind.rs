//! Doors in front of other hosts: their packets are routed through this one.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;

use ipnet::IpNet;

use super::values::port_at_the_end;
use super::{Door, DoorIndex, Policy};
use crate::knock::{Knock, display_source};

/// The place of the service behind a door.
#[derive(Debug, Clone, PartialEq)]
pub enum Place {
    /// This host.
    Here,
    /// Hosts behind this one.
    Behind(Behind),
}

/// The hosts that a door stands in front of.
#[derive(Debug, Clone, PartialEq)]
pub struct Behind {
    /// Never empty.
    pub to: Vec<IpNet>,
    pub knock_at: KnockAt,
}

/// The hosts to which a door of this host passes connections on, by a translation of their addresses.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    /// At most one of each family; never empty.
    pub to: Vec<Target>,
    pub sender: Sender,
}

/// The place to which connections are passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub host: IpAddr,
    /// `None`: the port that the client has connected to.
    pub port: Option<NonZeroU16>,
}

/// The address that a connection seems to come from, at the host to which it is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    Client,
    ThisHost,
}

impl Forward {
    /// The place for clients of the family of an address.
    pub fn target_for(&self, client: IpAddr) -> Option<Target> {
        let mut all = self.to.iter().copied();
        all.find(|target| target.host.is_ipv4() == client.is_ipv4())
    }
}

/// As the policy writes it: "192.168.1.5:22", "[fd00::5]:22", "192.168.1.5".
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.host, self.port) {
            (host, None) if port_at_the_end(&host.to_string()).is_some() => write!(f, "[{host}]"),
            (host, None) => write!(f, "{host}"),
            (IpAddr::V4(host), Some(port)) => write!(f, "{host}:{port}"),
            (IpAddr::V6(host), Some(port)) => write!(f, "[{host}]:{port}"),
        }
    }
}

/// The addresses at which knocks are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnockAt {
    /// Those of this host alone.
    ThisHost,
    /// Those too, and the ones of the hosts behind.
    Both,
}

impl Behind {
    pub fn contains(&self, host: IpAddr) -> bool {
        self.to.iter().any(|network| network.contains(&host))
    }

    /// The first network that both have in part.
    pub fn shared(&self, other: &Behind) -> Option<IpNet> {
        overlap(&self.to, &other.to)
    }

    /// The addresses as people write them.
    pub fn shown(&self) -> Vec<String> {
        self.to.iter().map(display_source).collect()
    }
}

/// The smaller one of the first two networks that have addresses in common.
pub(super) fn overlap(some: &[IpNet], others: &[IpNet]) -> Option<IpNet> {
    some.iter().find_map(|one| {
        let mut others = others.iter();
        others.find_map(|other| match (one.contains(other), other.contains(one)) {
            (true, _) => Some(*other),
            (_, true) => Some(*one),
            _ => None,
        })
    })
}

impl Door {
    pub fn is_here(&self) -> bool {
        self.behind().is_none()
    }

    /// The hosts behind this one that it stands in front of.
    pub fn behind(&self) -> Option<&Behind> {
        match &self.place {
            Place::Here => None,
            Place::Behind(behind) => Some(behind),
        }
    }

    /// Returns whether a program of this host serves it, as far as the policy says.
    pub fn is_served_here(&self) -> bool {
        self.is_here() && self.forward.is_none()
    }

    /// Returns whether nobody of a family of addresses can be let in, since there is nowhere to pass its connections on.
    pub fn leads_nowhere_for(&self, client: IpAddr) -> bool {
        let forward = self.forward.as_ref();
        forward.is_some_and(|forward| forward.target_for(client).is_none())
    }
}

impl Policy {
    /// The doors of this host itself.
    pub fn doors_here(&self) -> impl Iterator<Item = &Door> {
        self.doors.iter().filter(|door| door.is_here())
    }

    /// The doors in front of other hosts.
    pub fn doors_behind(&self) -> impl Iterator<Item = (&Door, &Behind)> {
        let doors = self.doors.iter();
        doors.filter_map(|door| Some((door, door.behind()?)))
    }

    /// The door of a host, `None` for this one, that guards a port.
    pub fn door_of(&self, host: Option<IpAddr>, port: Knock) -> Option<DoorIndex> {
        let is_of = |door: &Door| match (host, &door.place) {
            (None, Place::Here) => true,
            (Some(host), Place::Behind(behind)) => behind.contains(host),
            _ => false,
        };
        let mut doors = self.door_indices();
        doors.find(|&index| is_of(self.door(index)) && self.door(index).guards(port))
    }

    /// Returns whether knocks are heard at an address of a host behind this one.
    pub fn hears_at(&self, host: IpAddr) -> bool {
        self.heard_behind().any(|network| network.contains(&host))
    }

    /// The networks behind this host at which knocks are heard.
    pub fn heard_behind(&self) -> impl Iterator<Item = IpNet> {
        let heard = self
            .doors_behind()
            .filter(|(_, behind)| behind.knock_at == KnockAt::Both);
        let all: Vec<IpNet> = heard.flat_map(|(_, behind)| behind.to.clone()).collect();
        IpNet::aggregate(&all).into_iter()
    }
}
