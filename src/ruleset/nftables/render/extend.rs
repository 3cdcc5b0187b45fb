//! Grants that stay while they are used.
//!
//! An opening is noted in `stay4/6` for `at_most`, and nothing renews that. A connection that the door lets in is noted in
//! `use4/6` for `extend`. A source passes by its grant, or by its last connection while its opening is noted too: so the
//! kernel ends it `at_most` after the opening, to the tick, and no set but `use4/6` is written when a connection comes.

use super::source;
use crate::policy::{Door, Opening, Policy};
use crate::ruleset::Family;
use crate::ruleset::nftables::script::{Chain, time};
use crate::ruleset::nftables::{SetId, classid};

/// The statements that note an opening. The last opening counts: what an earlier one has extended is over.
pub(super) fn opening(policy: &Policy, opening: &Opening, family: Family) -> String {
    let door = policy.door(opening.door);
    let Some(extension) = door.extension else {
        return String::new();
    };
    let (source, id) = (source(policy.grant, family), classid(door.name.id()));
    let [stay, last] = sets(policy, family);
    let at_most = time(extension.at_most);
    format!(
        "update @{stay} {{ {source} . {id} timeout {at_most} }} delete @{last} {{ {source} . {id} }} "
    )
}

/// The rule of a door, where `meta priority` is the door, for a source that holds a grant. Where the set is full, the grant is
/// not extended, and the next rule lets the source in.
pub(super) fn of_grant(chain: &mut Chain, policy: &Policy, door: &Door, family: Family) {
    let Some(extension) = door.extension else {
        return;
    };
    let source = source(policy.grant, family);
    let grants = SetId::Grants.of_network(family, family.prefix_of(policy.grant));
    let [stay, last] = sets(policy, family);
    let extend = time(extension.extend);
    chain.rule(format!(
        "{source} . meta priority @{grants} {source} . meta priority @{stay} \
         update @{last} {{ {source} . meta priority timeout {extend} }} goto leave"
    ));
}

/// The rules of a door for a source whose grant is over, and has been extended.
pub(super) fn of_use(chain: &mut Chain, policy: &Policy, door: &Door) {
    let Some(extension) = door.extension else {
        return;
    };
    chain.note(
        "The grant is over, and was used of late: it stays, while the opening is not too long ago.",
    );
    let extend = time(extension.extend);
    for family in Family::BOTH {
        let source = source(policy.grant, family);
        let [stay, last] = sets(policy, family);
        chain.rule(format!(
            "{source} . meta priority @{last} {source} . meta priority @{stay} \
             update @{last} {{ {source} . meta priority timeout {extend} }} goto leave"
        ));
    }
}

/// The sets of openings and of last connections.
fn sets(policy: &Policy, family: Family) -> [String; 2] {
    let prefix = family.prefix_of(policy.grant);
    [SetId::Stay, SetId::Use].map(|set| set.of_network(family, prefix))
}
