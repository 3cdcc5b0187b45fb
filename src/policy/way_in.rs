//! Tells whether a client that is in would get in again under a policy.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{DoorIndex, Policy};
use crate::knock::Knock;

/// Why there would be no way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shut {
    /// The port is that of a door, and no key opens it.
    NoKey(DoorIndex),
    /// The port is no door's, and `[firewall]` does not let it in.
    Dropped,
}

impl Policy {
    /// Why `from` could not connect to `port` again, whatever it knocks; `None` if it can. `now` is in
    /// seconds since 1970, `used_up` are the [ids](scratch_id) of scratch sequences that open no more.
    /// Interfaces are left aside.
    pub fn shuts_out(
        &self,
        from: IpAddr,
        port: Knock,
        now: i64,
        used_up: &BTreeSet<u32>,
    ) -> Option<Shut> {
        if from.is_loopback() {
            return None;
        }
        let Some(door) = self.door_at(port) else {
            let firewall = self.firewall.as_ref();
            let dropped = firewall.is_some_and(|firewall| !firewall.admits(from, port));
            let every_port = self.every_port();
            let opens = every_port.is_some_and(|door| self.lets_in(from, door, now, used_up));
            return (dropped && !opens).then_some(Shut::Dropped);
        };
        let mut asked = self.asked_for(door);
        let opens = asked.any(|door| self.lets_in(from, door, now, used_up));
        (!opens).then_some(Shut::NoKey(door))
    }

    /// Returns whether a door trusts a source, or some key opens it.
    fn lets_in(&self, from: IpAddr, door: DoorIndex, now: i64, used_up: &BTreeSet<u32>) -> bool {
        let keys = self.keys.iter().filter(|key| !key.expired(now));
        let mut keys = keys.filter(|key| key.scratch_left(used_up) != Some(0));
        self.door(door).trust.iter().any(|net| net.contains(&from))
            || keys.any(|key| key.opens.iter().any(|opening| opening.door == door))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knock::Protocol;

    const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

    const ALL: &str = "[firewall]\ndefault = \"drop\"\n[door.host]\nports = \"all\"\n";

    fn shuts_out(policy: &str, from: IpAddr) -> Option<Shut> {
        let policy = super::super::read("policy", policy).unwrap();
        let port = Knock::new(Protocol::Tcp, 22).unwrap();
        policy.shuts_out(from, port, 1_000_000_000, &BTreeSet::new())
    }

    #[test]
    fn a_key_that_is_used_up_opens_nothing() {
        let text = "[door.ssh]\nports = [22]\n[key.paper]\nopens = [\"ssh\"]\n\
                    scratch = [[4431, 2387, 9920], [5531, 2387, 9920]]\n";
        let policy = super::super::read("policy", text).unwrap();
        let port = Knock::new(Protocol::Tcp, 22).unwrap();
        let mut used_up = policy.scratch_ids();
        let shut = Some(Shut::NoKey(DoorIndex(0)));
        assert_eq!(policy.shuts_out(FROM, port, 0, &used_up), shut);
        used_up.pop_first();
        assert_eq!(policy.shuts_out(FROM, port, 0, &used_up), None);
    }

    #[test]
    fn who_has_no_key_is_shut_out() {
        let key = "[key.anna]\nopens = [\"DOOR\"]\nsequence = [443, 2387, 920, 18357, 50]\n";
        let ssh = "[door.ssh]\nports = [22]\n";
        let web = "[door.web]\nports = [8443]\n";
        let no_key = Some(Shut::NoKey(DoorIndex(0)));
        for (policy, shut) in [
            (ssh.to_string(), no_key),
            (format!("{ssh}{}", key.replace("DOOR", "ssh")), None),
            (format!("{ssh}{web}{}", key.replace("DOOR", "web")), no_key),
            (
                format!("{ssh}{}expires = 2001-01-01\n", key.replace("DOOR", "ssh")),
                no_key,
            ),
            (format!("{ssh}trust = [\"198.51.100.0/24\"]\n"), None),
            (format!("{ssh}trust = [\"198.51.101.0/24\"]\n"), no_key),
            (format!("{web}{}", key.replace("DOOR", "web")), None),
            (
                format!("{web}[firewall]\ndefault = \"drop\"\n"),
                Some(Shut::Dropped),
            ),
            (
                format!("{web}[firewall]\ndefault = \"drop\"\nallow = [22]\n"),
                None,
            ),
            (format!("{ALL}{}", key.replace("DOOR", "host")), None),
            (format!("{ssh}{ALL}{}", key.replace("DOOR", "host")), None),
            (ALL.to_string(), Some(Shut::Dropped)),
            (format!("{ssh}{ALL}"), no_key),
        ] {
            assert_eq!(shuts_out(&policy, FROM), shut, "{policy}");
        }
        assert_eq!(shuts_out(ssh, IpAddr::from([127, 0, 0, 1])), None);
    }
}
