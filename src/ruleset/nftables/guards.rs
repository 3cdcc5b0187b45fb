//! Which doors a running table guards.

use serde_json::Value;

use super::{Listing, RANGES, SetId, door_chain};
use crate::knock::{Knock, PortRange, Protocol};
use crate::policy::Door;

/// The chains whose rules are read here.
pub(super) const ASKING: [&str; 5] = [RANGES, "judge", "glance", "incoming", "forwarded"];

impl Listing {
    /// Returns whether packets to these ports of a door come to it, at this host or on the way to others.
    pub fn guards_door(&self, door: &Door, ports: PortRange) -> bool {
        let Some(behind) = door.behind() else {
            return self.guards(ports);
        };
        let (chain, hosts) = (door_chain(&door.name), behind.to.len());
        let rules = self.chains.get("forwarded").map(|chain| &chain.rules);
        let asks = |rule: &&Value| {
            let mut statements = rule[0].as_array().into_iter().flatten();
            statements.any(|statement| statement["goto"]["target"] == *chain) && is_to(rule, ports)
        };
        let asked = rules.map_or(0, |rules| rules.iter().filter(asks).count());
        !self.dormant && self.is_hooked("forwarded") && self.holds(&chain) && asked >= hosts
    }

    /// Returns whether packets to these ports come to a door of ours, at the first place where doors are asked or at the
    /// second.
    pub fn guards(&self, ports: PortRange) -> bool {
        let door = match ports.only() {
            Some(port) => self.door_of(port),
            None => self.door_of_range(ports),
        };
        let Some(door) = door.filter(|door| self.holds(door)) else {
            return false;
        };
        !self.dormant && (self.asks_first(ports) || self.asks_again(ports, door))
    }

    /// The chain of the door that a port belongs to.
    fn door_of(&self, port: Knock) -> Option<&str> {
        let concat = serde_json::json!([port.protocol.name(), port.port.get()]);
        let elements = self.set(SetId::Ports)?.elements.iter();
        let mut own = elements.filter(|element| element[0]["concat"] == concat);
        let target = own.next()?[1]["goto"]["target"].as_str()?;
        target.starts_with("door-").then_some(target)
    }

    /// The chain of the door that a range belongs to.
    fn door_of_range(&self, ports: PortRange) -> Option<&str> {
        let mut rules = self.chains.get(RANGES)?.rules.iter();
        let own = rules.find(|rule| covers(rule, ports))?;
        let mut statements = own[0].as_array()?.iter();
        let target = statements.find_map(|statement| statement["goto"]["target"].as_str())?;
        target.starts_with("door-").then_some(target)
    }

    fn holds(&self, chain: &str) -> bool {
        let chain = self.chains.get(chain);
        chain.is_some_and(|chain| !chain.rules.is_empty())
    }

    fn is_hooked(&self, chain: &str) -> bool {
        let chain = self.chains.get(chain);
        chain.is_some_and(|chain| chain.base.is_some() && !chain.rules.is_empty())
    }

    /// Returns whether a door is asked where packets arrive.
    fn asks_first(&self, ports: PortRange) -> bool {
        self.is_hooked(&format!("knocks-{}", ports.protocol()))
            && self.holds("judge")
            && (!ports.is_several() || self.calls_ranges("judge"))
            && (ports.protocol() == Protocol::Udp
                || !self.holds("glance")
                || self.hears(ports).unwrap_or(true))
    }

    /// Returns whether a chain asks for doors with ranges.
    fn calls_ranges(&self, chain: &str) -> bool {
        let calls = |rule: &Value| {
            let mut statements = rule[0].as_array().into_iter().flatten();
            statements.any(|statement| statement["jump"]["target"] == RANGES)
        };
        let chain = self.chains.get(chain);
        chain.is_some_and(|chain| chain.rules.iter().any(calls))
    }

    /// Returns whether a door is asked on the way to the host's programs.
    fn asks_again(&self, ports: PortRange, door: &str) -> bool {
        let rules = self
            .chains
            .get("incoming")
            .map_or(&[][..], |chain| &chain.rules);
        let protocol = format!("\"{}\"", ports.protocol());
        let names_door = format!("\"{door}\"");
        let all = match ports.is_several() {
            true => format!("\"{RANGES}\""),
            false => format!("\"@{}\"", SetId::Ports),
        };
        let asks = rules.iter().any(|rule| {
            let text = rule.to_string();
            let is_own = match (ports.protocol(), ports.only()) {
                (Protocol::Udp, _) => true,
                (Protocol::Tcp, None) => covers(rule, ports),
                // Few doors have a rule for each port; many are found in the set.
                (Protocol::Tcp, Some(port)) => {
                    let heard = self.hears(ports).unwrap_or(true);
                    asked_port(rule).is_none_or(|asked| {
                        *asked == port.port.get() || *asked == format!("@{}", SetId::Heard) && heard
                    })
                }
            };
            text.contains(&protocol)
                && is_own
                && (text.contains(&all) || text.contains(&names_door))
        });
        self.is_hooked("incoming") && asks
    }

    /// Returns whether ports are among those that mean something from anybody. `None` in a table of an earlier release, which has
    /// no such set, and judges all that comes.
    fn hears(&self, ports: PortRange) -> Option<bool> {
        let Some(port) = ports.only() else {
            let rules = &self.chains.get("glance")?.rules;
            return Some(rules.iter().any(|rule| covers(rule, ports)));
        };
        let number = serde_json::json!(port.port.get());
        let heard = self.set(SetId::Heard)?;
        Some(heard.elements.contains(&number))
    }
}

/// The port of TCP, or the set of ports, that a rule is for. `None` where it names none.
fn asked_port(rule: &Value) -> Option<&Value> {
    let mut statements = rule[0].as_array()?.iter();
    statements.find_map(|statement| {
        let payload = &statement["match"]["left"]["payload"];
        let is_port = payload["protocol"] == "tcp" && payload["field"] == "dport";
        is_port.then_some(&statement["match"]["right"])
    })
}

/// Returns whether a rule is for these ports.
fn is_to(rule: &Value, ports: PortRange) -> bool {
    let Some(port) = ports.only() else {
        return covers(rule, ports);
    };
    let number = serde_json::json!(port.port.get());
    let mut statements = rule[0].as_array().into_iter().flatten();
    statements.any(|statement| {
        let payload = &statement["match"]["left"]["payload"];
        payload["protocol"] == port.protocol.name()
            && payload["field"] == "dport"
            && statement["match"]["right"] == number
    })
}

/// Returns whether a rule is for a range.
fn covers(rule: &Value, ports: PortRange) -> bool {
    let range = serde_json::json!([ports.first().port.get(), ports.last().port.get()]);
    let mut statements = rule[0].as_array().into_iter().flatten();
    statements.any(|statement| {
        let payload = &statement["match"]["left"]["payload"];
        payload["protocol"] == ports.protocol().name()
            && payload["field"] == "dport"
            && statement["match"]["right"]["range"] == range
    })
}
