//! What is about to be delivered to this host, whichever way it came: table mangle, chain INPUT.

use super::Plan;
use crate::policy::Interfaces;
use crate::ruleset::Family;
use crate::ruleset::iptables::names::chain;
use crate::ruleset::iptables::script::Table;

impl Plan<'_> {
    pub(super) fn inner(&self, table: &mut Table) {
        if self.family == Family::V6 {
            self.headers(table);
        }
    }

    /// Once a fragment has been put together, nothing shows that it was one, and the stack may read what
    /// follows these headers differently. (The nftables backend looks before fragments are put together;
    /// there is no table of iptables there.)
    fn headers(&self, table: &mut Table) {
        let from = chain("inner");
        table.jumps.push(("INPUT", from.clone()));
        table.part("Headers behind which the stack may find another packet than this firewall.");
        for interface in self.judged() {
            for header in ["dst", "route"] {
                table.rule(
                    &from,
                    format!("{interface} -m ipv6header --soft --header {header} -j DROP"),
                );
            }
        }
    }

    /// The matches for packets that these rules judge: on all interfaces with `[firewall]`.
    fn judged(&self) -> Vec<String> {
        match self.policy.firewall {
            Some(_) => super::way_in::guarded(&Interfaces::AllButLoopback),
            None => self.guarded(),
        }
    }
}
