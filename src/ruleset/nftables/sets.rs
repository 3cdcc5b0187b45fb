//! The table of our sets and maps. It says of each what it holds, who fills it, what an apply does with it, and how large
//! it is. Rendering, reading, carrying over, comparing and `docs/kernel.md` follow this table: a new set is a new row.

use std::fmt;
use std::time::Duration;

use crate::policy::{Log, Policy};
use crate::ruleset::Family;
use crate::ruleset::nftables::render::first_knocks_are_noted;

use AtApply::{Anew, Kept, Left, LeftWithoutFleet, Refilled};
use Filler::{Commands, Fleet, Packets, PacketsAndCommands};
use Form::{Families, Networks, One};
use Meaning::{Admits, Limits, Remembers, Rules};
use Need::{Always, Never};

/// A set or map of ours; of those with a [form](Form) by family, all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetId {
    Opened,
    Grants,
    Once,
    Stay,
    Use,
    Admitted,
    Elsewhere,
    Closed,
    Ended,
    Tokens,
    Spent,
    Tags,
    SpentElsewhere,
    Burnt,
    Burning,
    Revoked,
    RevokedElsewhere,
    Terms,
    Progress,
    First,
    Flood,
    Steady,
    Crowd,
    Logged,
    Claim,
    Repeats,
    Passed,
    Heard,
    Second,
    Ports,
    Steps,
    Arrivals,
    Signed,
    Seal,
}

/// A row of the table.
#[derive(Debug)]
pub struct Row {
    pub id: SetId,
    pub name: &'static str,
    pub form: Form,
    /// The types as nft writes them, a map with `:`. ADDRESS stands for the address type of the family.
    pub types: &'static str,
    pub filler: Filler,
    pub at_apply: AtApply,
    pub meaning: Meaning,
    pub size: Size,
    pub time: Time,
    pub need: Need,
    /// The comment in a script.
    pub about: &'static str,
}

/// The number of sets of a row, and their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One set of this name.
    One,
    /// Two: `opened4`, `opened6`.
    Families,
    /// Two, and grants by prefix carry the length in the name (`grants6-p64`): elements never change their meaning
    /// silently.
    Networks,
}

/// The origin of the elements. Drift compares what the policy fills, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filler {
    /// The script, and nobody else.
    Policy,
    Packets,
    PacketsAndCommands,
    /// Administrators and `toctoc fleet`, for or from other hosts. Declared as if packets did, as in earlier releases:
    /// an apply makes anew what is declared differently.
    Fleet,
    /// Other commands of ours.
    Commands,
}

/// The treatment of a set by an apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtApply {
    /// It makes the set anew.
    Anew,
    /// It fills the same set again. A packet that is under way while a transaction commits sees old rules and new
    /// elements: what closes doors must be there all the time.
    Refilled,
    /// It keeps the set with its elements, while the policy has such a set.
    Kept,
    /// It keeps the set even if the policy has none: there may be a way back, and what was used up stays so.
    Left,
    /// The same while the policy has no fleet: notes for other hosts.
    LeftWithoutFleet,
}

/// The meaning of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// It lets a source in, now or with a token or some more knocks.
    Admits,
    /// It says what was used up or ended, or which table this is.
    Remembers,
    /// It limits what a source may do.
    Limits,
    /// It is a part of the rules.
    Rules,
}

/// The size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Any,
    /// `max_sources`.
    Sources,
    /// All networks with all first knocks.
    FirstKnocks,
    /// Twice the tokens that are loaded at once.
    Tokens,
    Exactly(u32),
}

/// The life of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Time {
    Endless,
    /// Each element has its own.
    Each,
    /// `within`.
    Within,
    /// The longest time of a grant.
    LongestGrant,
    Always(Duration),
}

/// The policies that have such a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Always,
    /// With keys.
    Keys,
    /// With keys, and lines in the kernel's log.
    KernelLog,
    /// With grants for one connection.
    Once,
    /// With doors that extend their grants.
    Extension,
    Fleet,
    Tokens,
    /// With signed keys.
    Signed,
    /// With tokens or signed keys.
    Spent,
    /// With tokens and a fleet.
    FleetTokens,
    Scratch,
    /// With sequences whose first knock may be noted for a network.
    FirstKnocks,
    /// It is no part of a script.
    Never,
}

/// Far more than anybody revokes or burns in a day, and than there are good tokens in one.
const MANY: Size = Size::Exactly(1 << 16);

/// The same of a whole fleet, and of closings, none of which may fail for want of room. It takes memory for what is
/// there alone.
const VERY_MANY: Size = Size::Exactly(1 << 20);

/// A source that rests as long as this may do all it could at first.
const STEADY_FOR: Time = Time::Always(Duration::from_secs(5));

/// After such a rest there may be as many lines in the log as at first.
pub(super) const LINES_FOR: Duration = Duration::from_secs(10);

/// Far longer than two packets take that look at one grant at the same moment.
const CLAIM_FOR: Time = Time::Always(Duration::from_secs(10));

/// Far longer than a packet takes from one hook to the next.
const PASSED_FOR: Time = Time::Always(Duration::from_secs(1));

/// Both ends of a connection.
const FLOW: &str = "ADDRESS . ADDRESS . inet_proto . inet_service . inet_service";

/// All sets and maps of ours, in the order of a script.
#[rustfmt::skip]
pub static SETS: [Row; 34] = [
    Row { id: SetId::Opened, name: "opened", form: Families, types: "ADDRESS . classid . classid",
        filler: PacketsAndCommands, at_apply: Kept, meaning: Admits, size: Size::Sources, time: Time::Each, need: Always,
        about: "Openings: source . door . key, for as long as the grant was given." },
    Row { id: SetId::Grants, name: "grants", form: Networks, types: "ADDRESS . classid",
        filler: PacketsAndCommands, at_apply: Kept, meaning: Admits, size: Size::Sources, time: Time::Each, need: Always,
        about: "Grants: source . door. While an element is here, new connections pass." },
    Row { id: SetId::Once, name: "once", form: Networks, types: "ADDRESS . classid",
        filler: PacketsAndCommands, at_apply: Kept, meaning: Admits, size: Size::Sources, time: Time::Each, need: Need::Once,
        about: "Grants that are used up by their first connection." },
    Row { id: SetId::Stay, name: "stay", form: Networks, types: "ADDRESS . classid",
        filler: PacketsAndCommands, at_apply: Kept, meaning: Admits, size: Size::Sources, time: Time::Each, need: Need::Extension,
        about: "Openings of doors that extend their grants: a grant may stay while an element is here, and no longer." },
    Row { id: SetId::Use, name: "use", form: Networks, types: "ADDRESS . classid",
        filler: PacketsAndCommands, at_apply: Kept, meaning: Admits, size: Size::Sources, time: Time::Each, need: Need::Extension,
        about: "The last connection of each grant, for as long as it extends the grant." },
    Row { id: SetId::Admitted, name: "admitted", form: Families, types: FLOW,
        filler: Packets, at_apply: Kept, meaning: Admits, size: Size::Sources, time: Time::Each, need: Need::Once,
        about: "The connection that used up a grant: until it begins, its first packet may come again." },
    Row { id: SetId::Elsewhere, name: "elsewhere", form: Networks, types: "ADDRESS . classid",
        filler: Fleet, at_apply: Kept, meaning: Admits, size: Size::Sources, time: Time::Each, need: Need::Fleet,
        about: "Grants that other hosts of the fleet gave: source . door." },
    Row { id: SetId::Closed, name: "closed", form: Networks, types: "ADDRESS . classid",
        filler: Fleet, at_apply: LeftWithoutFleet, meaning: Remembers, size: VERY_MANY, time: Time::Each, need: Need::Fleet,
        about: "Grants that were ended by hand: the other hosts are told." },
    Row { id: SetId::Ended, name: "ended", form: Families, types: "ADDRESS . classid . classid",
        filler: Fleet, at_apply: Left, meaning: Remembers, size: VERY_MANY, time: Time::Each, need: Need::Fleet,
        about: "Grants that other hosts have ended, source . door . length: they do not come back." },
    Row { id: SetId::Tokens, name: "tokens", form: One, types: "@th,64,128 : meta priority",
        filler: Commands, at_apply: Kept, meaning: Admits, size: Size::Tokens, time: Time::Each, need: Need::Tokens,
        about: "Tokens that open: the first 16 bytes of the datagram -> whose it is." },
    Row { id: SetId::Spent, name: "spent", form: One, types: "@th,64,128",
        filler: PacketsAndCommands, at_apply: Left, meaning: Remembers, size: MANY, time: Time::Each, need: Need::Spent,
        about: "Tokens that have opened, and never will again." },
    Row { id: SetId::Tags, name: "tags", form: One, types: "@th,64,128",
        filler: Packets, at_apply: Left, meaning: Remembers, size: MANY, time: Time::Each, need: Need::Signed,
        about: "Signed datagrams that have come: a repeat ends there." },
    Row { id: SetId::SpentElsewhere, name: "spent-elsewhere", form: One, types: "@th,64,128",
        filler: Fleet, at_apply: Kept, meaning: Remembers, size: VERY_MANY, time: Time::Each, need: Need::FleetTokens,
        about: "Tokens and signed datagrams that have opened at another host of the fleet." },
    Row { id: SetId::Burnt, name: "burnt", form: One, types: "classid",
        filler: PacketsAndCommands, at_apply: Left, meaning: Remembers, size: MANY, time: Time::Endless, need: Need::Scratch,
        about: "Scratch sequences that have opened, and never will again." },
    Row { id: SetId::Burning, name: "burning", form: One, types: "classid",
        filler: Packets, at_apply: Left, meaning: Remembers, size: MANY, time: Time::Each, need: Need::Scratch,
        about: "Those that are just opening: the first of several at one moment may." },
    Row { id: SetId::Revoked, name: "revoked", form: One, types: "classid",
        filler: Fleet, at_apply: Left, meaning: Remembers, size: MANY, time: Time::Each, need: Need::Fleet,
        about: "Keys that were revoked: the other hosts are told." },
    Row { id: SetId::RevokedElsewhere, name: "revoked-elsewhere", form: One, types: "classid",
        filler: Fleet, at_apply: Left, meaning: Remembers, size: MANY, time: Time::Each, need: Need::Fleet,
        about: "Keys that other hosts have revoked." },
    Row { id: SetId::Terms, name: "terms", form: One, types: "classid",
        filler: Filler::Policy, at_apply: Anew, meaning: Rules, size: Size::Any, time: Time::Endless, need: Need::Fleet,
        about: "What this policy says to a fleet, as a number." },
    Row { id: SetId::Progress, name: "progress", form: Families, types: "ADDRESS : classid",
        filler: Packets, at_apply: Anew, meaning: Admits, size: Size::Sources, time: Time::Within, need: Always,
        about: "Progress: source -> state, forgotten when the next knock is late." },
    Row { id: SetId::First, name: "first", form: Families, types: "ADDRESS . classid",
        filler: Packets, at_apply: Anew, meaning: Admits, size: Size::FirstKnocks, time: Time::Within, need: Need::FirstKnocks,
        about: "First knocks for which there was no room: group of addresses around the source . state." },
    Row { id: SetId::Flood, name: "flood", form: One, types: "nf_proto",
        filler: Packets, at_apply: Anew, meaning: Limits, size: Size::Exactly(256), time: Time::Within, need: Need::FirstKnocks,
        about: "Families in which first knocks were noted of late: without a flood nobody looks for them." },
    Row { id: SetId::Steady, name: "steady", form: Families, types: "ADDRESS",
        filler: Packets, at_apply: Anew, meaning: Limits, size: Size::Sources, time: STEADY_FOR, need: Always,
        about: "How many steps a source makes: no more than it takes to knock." },
    Row { id: SetId::Crowd, name: "crowd", form: One, types: "ipv6_addr . classid",
        filler: Packets, at_apply: Anew, meaning: Limits, size: Size::Sources, time: Time::LongestGrant, need: Need::Keys,
        about: "How many grants each IPv6 network has got by a key." },
    Row { id: SetId::Logged, name: "logged", form: Families, types: "ADDRESS . classid",
        filler: Packets, at_apply: Anew, meaning: Limits, size: Size::Sources, time: Time::Always(LINES_FOR), need: Need::KernelLog,
        about: "How often a source has opened of late with a key: the log does not tell of all." },
    Row { id: SetId::Claim, name: "claim", form: Families, types: "ADDRESS . classid",
        filler: Packets, at_apply: Anew, meaning: Limits, size: Size::Sources, time: CLAIM_FOR, need: Need::Once,
        about: "Claims: of two packets that use the same grant at once, only the first passes." },
    Row { id: SetId::Repeats, name: "repeats", form: Families, types: FLOW,
        filler: Packets, at_apply: Anew, meaning: Limits, size: Size::Sources, time: CLAIM_FOR, need: Need::Once,
        about: "How often a first packet has come again." },
    Row { id: SetId::Passed, name: "passed", form: Families, types: FLOW,
        filler: Packets, at_apply: Anew, meaning: Limits, size: Size::Sources, time: PASSED_FOR, need: Need::Once,
        about: "Packets between their door and the input hook." },
    Row { id: SetId::Heard, name: "heard", form: One, types: "inet_service",
        filler: Filler::Policy, at_apply: Refilled, meaning: Rules, size: Size::Any, time: Time::Endless, need: Always,
        about: "TCP ports that mean something from anybody: doors, first knocks and second ones." },
    Row { id: SetId::Second, name: "second-knocks", form: One, types: "inet_service",
        filler: Filler::Policy, at_apply: Anew, meaning: Rules, size: Size::Any, time: Time::Endless, need: Need::FirstKnocks,
        about: "TCP ports that are only second knocks: they mean something while first ones are noted." },
    Row { id: SetId::Ports, name: "ports", form: One, types: "inet_proto . inet_service : verdict",
        filler: Filler::Policy, at_apply: Refilled, meaning: Rules, size: Size::Any, time: Time::Endless, need: Always,
        about: "Ports that are not knocks: doors and ignored ones." },
    Row { id: SetId::Steps, name: "steps", form: One, types: "classid . inet_proto . inet_service : classid",
        filler: Filler::Policy, at_apply: Anew, meaning: Rules, size: Size::Any, time: Time::Endless, need: Always,
        about: "The automaton: state . protocol . port -> next state. What is not here leads nowhere." },
    Row { id: SetId::Arrivals, name: "arrivals", form: One, types: "classid : verdict",
        filler: Filler::Policy, at_apply: Anew, meaning: Rules, size: Size::Any, time: Time::Endless, need: Always,
        about: "What a step can be besides progress, and whose a token is." },
    Row { id: SetId::Signed, name: "signed", form: One, types: "classid : verdict",
        filler: Filler::Policy, at_apply: Anew, meaning: Rules, size: Size::Any, time: Time::Endless, need: Need::Signed,
        about: "Whose a signed datagram is." },
    Row { id: SetId::Seal, name: "seal", form: One, types: "ipv6_addr",
        filler: Commands, at_apply: Left, meaning: Remembers, size: Size::Any, time: Time::Each, need: Never,
        about: "Which table this is, and since when: a ruleset that was saved and loaded again is told by it." },
];

impl SetId {
    /// The row of the table.
    pub fn row(self) -> &'static Row {
        &SETS[self as usize]
    }

    /// The name of the only set of its row.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// The name of the set of a family.
    pub fn of_family(self, family: Family) -> String {
        format!("{}{}", self.name(), family.digit())
    }

    /// The name of the set of a family, for grants of this length.
    pub fn of_network(self, family: Family, prefix: u8) -> String {
        let name = self.of_family(family);
        match self.row().form == Form::Networks && prefix != family.longest_prefix() {
            true => format!("{name}-p{prefix}"),
            false => name,
        }
    }

    /// Reads [`of_network`](SetId::of_network) back.
    pub fn by_family(name: &str) -> Option<(SetId, Family, u8)> {
        let (stem, prefix) = match name.split_once("-p") {
            Some((stem, prefix)) => (stem, Some(prefix.parse().ok()?)),
            None => (name, None),
        };
        let family = match stem.chars().last()? {
            '4' => Family::V4,
            '6' => Family::V6,
            _ => return None,
        };
        let stem = &stem[..stem.len() - 1];
        let row = SETS.iter().find(|row| row.name == stem)?;
        let fits = match row.form {
            Form::One => false,
            Form::Families => prefix.is_none(),
            Form::Networks => true,
        };
        fits.then(|| (row.id, family, prefix.unwrap_or(family.longest_prefix())))
    }

    /// The row of a set, by its whole name.
    pub fn of(name: &str) -> Option<&'static Row> {
        let only = |row: &&Row| row.form == Form::One && row.name == name;
        let by_family = || SetId::by_family(name).map(|(id, ..)| id.row());
        SETS.iter().find(only).or_else(by_family)
    }

    /// As nft calls it: a set, or a map.
    pub fn word(self) -> &'static str {
        self.row().word()
    }
}

/// The name of the only set of its row, as rules write it.
impl fmt::Display for SetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Row {
    /// As nft calls it: a set, or a map.
    pub fn word(&self) -> &'static str {
        if self.types.contains(':') {
            "map"
        } else {
            "set"
        }
    }

    /// Returns whether an apply keeps the elements.
    pub fn is_kept(&self) -> bool {
        !matches!(self.at_apply, Anew | Refilled)
    }

    /// The families of its sets.
    pub(super) fn families(&self) -> &'static [Option<Family>] {
        match self.form {
            One => &[None],
            Families | Networks => &[Some(Family::V4), Some(Family::V6)],
        }
    }

    /// The name of one of them in a script of a policy.
    pub(super) fn name_in(&self, policy: &Policy, family: Option<Family>) -> String {
        match family {
            None => self.name.to_string(),
            Some(family) => self.id.of_network(family, family.prefix_of(policy.grant)),
        }
    }

    /// The types of one of them.
    pub(super) fn types_of(&self, family: Option<Family>) -> String {
        match family {
            None => self.types.to_string(),
            Some(family) => self.types.replace("ADDRESS", family.address_type()),
        }
    }

    /// Returns whether the script of a policy has it.
    pub(super) fn is_needed(&self, policy: &Policy) -> bool {
        let has_tokens = || policy.token_port.is_some() && policy.has_tokens();
        let has_signed = || policy.token_port.is_some() && policy.has_signed();
        match self.need {
            Need::Always => true,
            Need::Keys => !policy.keys.is_empty(),
            Need::KernelLog => policy.log == Log::Kernel && !policy.keys.is_empty(),
            Need::Once => policy.has_once(),
            Need::Extension => policy.has_extensions(),
            Need::Fleet => policy.fleet.is_some(),
            Need::Tokens => has_tokens(),
            Need::Signed => has_signed(),
            Need::Spent => has_tokens() || has_signed(),
            Need::FleetTokens => policy.fleet.is_some() && (has_tokens() || has_signed()),
            Need::Scratch => policy.has_scratch(),
            Need::FirstKnocks => first_knocks_are_noted(policy),
            Need::Never => false,
        }
    }
}

/// Returns whether an apply keeps this set by source: grants, and notes about them. Every element of theirs has an end.
pub fn is_by_source(name: &str) -> bool {
    SetId::by_family(name).is_some_and(|(id, ..)| id.row().is_kept())
}

/// Returns whether what is in a set lets somebody in, now or with a token or some more knocks.
pub fn admits(name: &str) -> bool {
    SetId::of(name).is_some_and(|row| row.meaning == Meaning::Admits)
}

/// Returns whether the elements of a set are a matter of the policy alone. Those of a set that is not ours are too.
pub fn is_compared(name: &str) -> bool {
    SetId::of(name).is_none_or(|row| row.filler == Filler::Policy)
}

/// Returns whether a set stays that the rules do not have.
pub fn is_left(name: &str, has_fleet: bool) -> bool {
    SetId::of(name).is_some_and(|row| match row.at_apply {
        AtApply::Left => true,
        AtApply::LeftWithoutFleet => !has_fleet,
        AtApply::Anew | AtApply::Refilled | AtApply::Kept => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_their_ids_and_names_are_read_back() {
        for (number, row) in SETS.iter().enumerate() {
            assert_eq!(row.id as usize, number, "{}", row.name);
            for family in row.families() {
                let name = match family {
                    None => row.name.to_string(),
                    Some(family) => row.id.of_family(*family),
                };
                assert_eq!(SetId::of(&name).map(|row| row.id), Some(row.id));
                let read = SetId::by_family(&name);
                let wanted = family.map(|family| (row.id, family, family.longest_prefix()));
                assert_eq!(read, wanted, "{name}");
            }
        }
        assert_eq!(SetId::Grants.of_network(Family::V6, 64), "grants6-p64");
        assert_eq!(SetId::Opened.of_network(Family::V6, 64), "opened6");
        assert_eq!(
            SetId::by_family("once4-p24"),
            Some((SetId::Once, Family::V4, 24))
        );
        for foreign in [
            "",
            "4",
            "grants",
            "grants5",
            "steps4",
            "grants4-px",
            "opened4-p24",
            "spent-p4",
        ] {
            assert!(SetId::of(foreign).is_none(), "{foreign}");
        }
    }
}
