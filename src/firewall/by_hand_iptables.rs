//! Grants given and taken by the administrator, on the lists of iptables.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::backend::ByHand;
use super::by_hand::{Closing, End, GivenByHand, Request};
use super::{Failure, Iptables, list_size};
use crate::held::{Spared, granted_network};
use crate::policy::Name;
use crate::ruleset::Family;
use crate::ruleset::iptables::{self, Clearance, GrantList, Holder, Saved};

/// Each family with our chains in it, as they were read.
pub(super) struct SavedChains {
    pub iptables: Iptables,
    pub families: Vec<(Family, Saved)>,
}

impl ByHand for SavedChains {
    fn doors(&self) -> BTreeSet<Name> {
        let saved = self.families.iter().map(|(_, saved)| saved);
        saved.flat_map(iptables::doors).collect()
    }

    /// Puts the source on the list of those who were let in by hand for so long.
    fn open(&mut self, request: &Request<'_>) -> Result<GivenByHand, Failure> {
        let Request {
            door,
            source,
            open_for,
            caller,
        } = *request;
        let family = Family::of(source.addr());
        let mut of_family = self.families.iter().filter(|(f, _)| *f == family);
        let (_, saved) = of_family.next().ok_or_else(|| {
            Failure::unchanged(format!(
                "the running firewall guards nothing for {source}'s family"
            ))
        })?;
        if open_for.subsec_nanos() != 0 {
            return Err(Failure::unchanged(
                "iptables counts whole seconds: write for example `--for 90s`",
            ));
        }
        let prefix = iptables::prefix_of(saved).unwrap_or(family.longest_prefix());
        let network = granted_network(source, prefix).map_err(Failure::unchanged)?;
        let list = GrantList {
            family,
            prefix,
            door: door.clone(),
            holder: Holder::ByHand,
            seconds: open_for.as_secs(),
            once: false,
        };
        let guests = iptables::names::guests(family, prefix, door);
        let leaving = match list_size() {
            Some(size) => {
                let spared = Spared { network, caller };
                Iptables::lists()?.make_room(&list, network.addr(), size as usize, &spared)
            }
            None => Clearance::default(),
        };
        let new_list = iptables::add_list(saved, &list);
        if let Some(text) = &new_list {
            self.iptables.restore(family, text)?;
        }
        for (name, gone) in &leaving.off {
            Iptables::remove(name, *gone).map_err(Failure::after_a_part)?;
        }
        let known = Iptables::add(&guests, network.addr());
        known.map_err(
            |failure| match leaving.off.is_empty() && new_list.is_none() {
                true => failure,
                false => failure.after_a_part(),
            },
        )?;
        Iptables::add(&list.to_string(), network.addr()).map_err(Failure::after_a_part)?;
        // The last opening counts, whether it is longer or shorter.
        for held in Iptables::lists()
            .map_err(Failure::after_a_part)?
            .memberships()
        {
            let same = held.list.door == *door && held.source == network.addr() && !held.list.once;
            if same && held.list != list {
                Iptables::remove(&held.list.to_string(), held.source)
                    .map_err(Failure::after_a_part)?;
            }
        }
        let ended = leaving.ended.iter();
        let ended = ended.map(|grant| End::of(grant, iptables::doors(saved)));
        Ok(GivenByHand {
            network,
            ended: ended.collect(),
        })
    }

    fn close(&mut self, door: Option<&Name>, source: Option<IpNet>) -> Result<Closing, Failure> {
        let lists = Iptables::lists()?;
        let departure = lists.guests().close(door, source);
        for (number, (list, source)) in lists.places_of(&departure).into_iter().enumerate() {
            Iptables::remove(&list, source).map_err(|failure| failure.after(number))?;
        }
        Ok(Closing {
            ended: departure.count(),
            ..Closing::default()
        })
    }
}
