//! Elements of the sets that are kept, as commands of nft.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Duration;

use super::script::time;
use super::{Kept, TABLE, classid, set_name};
use crate::ruleset::{Family, Grant, Opened};

/// No element is given less time. Kernels before 6.12 (and stable ones of before October 2024) round what is less
/// than a tick to nothing, and an element without a time never ends.
pub(super) const SHORTEST: Duration = Duration::from_millis(20);

/// Adds an element with this time, whether it is there or not.
pub(super) fn put(text: &mut String, set: &str, element: &str, lasting: Duration) {
    remove(text, set, element);
    let lasting = time(lasting);
    let _ = writeln!(
        text,
        "add element {TABLE} {set} {{ {element} timeout {lasting} }}"
    );
}

/// An element that may have expired since it was listed can only be deleted after it was added:
/// deleting what is not there would fail the whole transaction.
pub(super) fn remove(text: &mut String, set: &str, element: &str) {
    let _ = writeln!(
        text,
        "add element {TABLE} {set} {{ {element} timeout 60s }}"
    );
    let _ = writeln!(text, "delete element {TABLE} {set} {{ {element} }}");
}

pub(super) fn remove_grant(text: &mut String, grant: &Grant, sets: &HashSet<String>) {
    remove_from(text, &grant_set(grant), grant, sets);
}

pub(super) fn remove_from(text: &mut String, set: &str, grant: &Grant, sets: &HashSet<String>) {
    if sets.contains(set) {
        remove(text, set, &grant_element(grant));
    }
}

pub(super) fn remove_opened(text: &mut String, opened: &Opened, sets: &HashSet<String>) {
    let set = opened_set(opened);
    if sets.contains(&set) {
        remove(text, &set, &opened_element(opened));
    }
}

pub(super) fn opened_set(opened: &Opened) -> String {
    let family = Family::of(opened.source);
    set_name(Kept::Opened, family, family.longest_prefix())
}

pub(super) fn grant_set(grant: &Grant) -> String {
    set_in(if grant.once { Kept::Once } else { Kept::Grants }, grant)
}

/// The set of a grant of another host.
pub(super) fn elsewhere_set(grant: &Grant) -> String {
    set_in(Kept::Elsewhere, grant)
}

fn set_in(kept: Kept, grant: &Grant) -> String {
    let family = Family::of(grant.source.addr());
    set_name(kept, family, grant.source.prefix_len())
}

/// A grant's set and its element there.
pub(super) fn in_set(grant: &Grant) -> (String, String) {
    (grant_set(grant), grant_element(grant))
}

pub(super) fn grant_element(grant: &Grant) -> String {
    format!("{} . {}", grant.source.addr(), classid(grant.door))
}

pub(super) fn opened_element(opened: &Opened) -> String {
    let (door, key) = (classid(opened.door), classid(opened.key));
    format!("{} . {door} . {key}", opened.source)
}
