//! Grants given and taken by the administrator, in the table of nftables.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use ipnet::IpNet;

use super::backend::ByHand;
use super::by_hand::{Closing, End, GivenByHand, Request, nothing_applied};
use super::nft::Edited;
use super::{Failure, Firewall, Left};
use crate::policy::Name;
use crate::ruleset::nftables::{self, Listing, Room};

/// The table as it was listed last.
pub(super) struct ListedTable<'f> {
    pub firewall: &'f Firewall,
    pub listing: Listing,
}

/// Attempts to open a door before it is given up, one after each [`PAUSE`]. An attempt fails when the sets have changed
/// meanwhile, or when elements whose time is over still take up room: the kernel tidies up once a second.
const TRIES: u32 = 40;

/// Attempts after which a live grant ends even if the listing shows room.
const TRIES_BEFORE_ONE_ENDS: u32 = 25;

const PAUSE: Duration = Duration::from_millis(100);

/// Closings before it is given up.
const CLOSINGS: u32 = 20;

impl ByHand for ListedTable<'_> {
    fn doors(&self) -> BTreeSet<Name> {
        self.listing.doors().into_iter().collect()
    }

    fn open(&mut self, request: &Request<'_>) -> Result<GivenByHand, Failure> {
        for number in 0..TRIES {
            let room = match number < TRIES_BEFORE_ONE_ENDS {
                true => Room::Listed,
                false => Room::Taken,
            };
            let opening = nftables::open(
                &self.listing,
                request.door,
                request.source,
                request.open_for,
                request.caller,
                room,
            )
            .map_err(Failure::unchanged)?;
            if self
                .firewall
                .nft
                .edit_as_listed(&opening.transaction.awake())?
                == Edited::Done
            {
                let ended = opening.ended.iter();
                let ended = ended.map(|grant| End::of(grant, self.listing.doors()));
                return Ok(GivenByHand {
                    network: opening.network,
                    ended: ended.collect(),
                });
            }
            thread::sleep(PAUSE);
            let again = self.firewall.nft.list_grants()?;
            self.listing = again.ok_or_else(|| nothing_applied(self.firewall))?;
        }
        Err(Failure::unchanged(
            "there is no room for one more grant, and none that may end for it: `toctoc close` ends grants, \
             `max_sources` makes room",
        ))
    }

    /// A set that is being tidied up, because many elements of it have expired, is listed with gaps: what is
    /// listed is ended until two listings in a row show nothing.
    fn close(&mut self, door: Option<&Name>, source: Option<IpNet>) -> Result<Closing, Failure> {
        let mut closed = Closing::default();
        let mut clean = 0;
        for _ in 0..CLOSINGS {
            let change = nftables::close(&self.listing, door, source);
            if !change.transaction.is_empty() {
                let edited = self.firewall.nft.edit(&change.transaction.awake());
                edited.map_err(|failure| failure.after(closed.ended))?;
            }
            closed.ended += change.removed;
            closed.told |= change.noted;
            clean = if change.removed == 0 { clean + 1 } else { 0 };
            if clean == 2 {
                return Ok(closed);
            }
            let again = self.firewall.nft.list_grants();
            match again.map_err(|failure| failure.after(closed.ended))? {
                Some(again) => self.listing = again,
                None => return Ok(closed),
            }
        }
        Err(Failure {
            left: Left::Partly,
            message: format!(
                "{} grants are ended, and there are new ones each time: who knocks gets in again; \
                 take away the key (in the policy, then `toctoc apply`)",
                closed.ended
            ),
        })
    }
}
