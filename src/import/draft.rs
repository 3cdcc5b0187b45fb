//! A policy being written: what was found, in the order of the other file.

use super::place::{Beside, Opened, Place, join};
use crate::knock::Knock;

/// The policy that will be printed.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub source: &'static str,
    /// Remarks about the whole, above everything.
    pub remarks: Vec<String>,
    /// Seconds.
    pub within: Option<u64>,
    pub interfaces: Vec<String>,
    pub items: Vec<Item>,
    /// The time that doors are open, in seconds, where no key says it.
    pub times: Vec<(Opened, u64)>,
}

/// Something of the other file, at its place.
#[derive(Debug)]
pub(super) enum Item {
    Key(DraftKey),
    Remark(String),
    /// A section, an array or a rule from which no key was made, and the reason.
    LeftOut {
        name: String,
        reason: String,
    },
}

/// A key and what it opens.
#[derive(Debug)]
pub(super) struct DraftKey {
    /// As it is called in the other file.
    pub called: String,
    pub opens: Vec<Opened>,
    /// It opens every port, whatever else it opens.
    pub everything: bool,
    pub way: DraftWay,
    /// Seconds.
    pub open_for: Option<u64>,
    pub remarks: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum DraftWay {
    Sequence(Vec<Knock>),
    /// A secret that cannot be carried over: a command makes a new key.
    New,
}

impl Draft {
    pub fn remark(&mut self, text: impl Into<String>) {
        self.items.push(Item::Remark(text.into()));
    }

    /// Notes a setting that has no counterpart.
    pub fn no_counterpart(&mut self, text: impl AsRef<str>) {
        self.remark(format!("no counterpart: {}", text.as_ref()));
    }

    pub fn leave_out(&mut self, name: impl Into<String>, reason: impl Into<String>) {
        self.items.push(Item::LeftOut {
            name: name.into(),
            reason: reason.into(),
        });
    }

    /// Keeps the longest time between knocks of several.
    pub fn widen(&mut self, seconds: Option<u64>) {
        self.within = self.within.max(seconds);
    }

    /// Adds a key. If a key has the same sequence already, it opens these ports too: one sequence, one key.
    pub fn add(&mut self, mut key: DraftKey) {
        let DraftWay::Sequence(knocks) = &key.way else {
            return self.items.push(Item::Key(key));
        };
        let around = |opened: &mut Opened| {
            let range = opened.ports;
            opened.is_at_this_host()
                && range.is_several()
                && knocks.iter().any(|knock| range.contains(*knock))
        };
        let around: Vec<Opened> = key.opens.extract_if(.., around).collect();
        for range in around {
            let reason =
                format!("opens {range}, which its own knocks are of: name the door you mean");
            if key.opens.is_empty() && !key.everything {
                // The first remark says where the key comes from.
                let from = key.remarks.into_iter().next().unwrap_or(key.called);
                return self.leave_out(from, reason);
            }
            key.remarks.push(format!("left out: {reason}"));
        }
        let same = self.items.iter_mut().find_map(|item| match item {
            Item::Key(known) if known.way == key.way => Some(known),
            _ => None,
        });
        let Some(known) = same else {
            self.items.push(Item::Key(key));
            return;
        };
        let both = known.open_for.zip(key.open_for);
        if let Some((one, other)) = both
            && one != other
        {
            let shorter = one.min(other);
            known.open_for = Some(shorter);
            known.remarks.push(format!(
                "the same sequence as {}: {one} s there and {other} s here, the shorter time counts",
                key.called
            ));
        } else {
            known.open_for = known.open_for.or(key.open_for);
        }
        known.everything |= key.everything;
        for range in key.opens {
            if !known.opens.contains(&range) {
                known.opens.push(range);
            }
        }
        let new: Vec<String> = key
            .remarks
            .into_iter()
            .filter(|remark| !known.remarks.contains(remark))
            .collect();
        known.remarks.extend(new);
    }

    /// Joins the rules of each key that are about one connection.
    pub fn join(&mut self, beside: &Beside) {
        for item in &mut self.items {
            let Item::Key(key) = item else {
                continue;
            };
            let joined = join(&mut key.opens, beside);
            key.remarks.extend(joined.remarks);
            if key.opens.is_empty() && !key.everything && !joined.reasons.is_empty() {
                *item = left_out(key, &joined.reasons);
                continue;
            }
            let left_out = joined.reasons.iter();
            key.remarks
                .extend(left_out.map(|reason| format!("left out: {reason}")));
        }
    }

    /// Leaves out of each key what no policy can have beside the doors of keys before it.
    pub fn settle(&mut self) {
        let mut known: Vec<Opened> = Vec::new();
        for item in &mut self.items {
            let Item::Key(key) = item else {
                continue;
            };
            let mut reasons = Vec::new();
            key.opens.retain(|opened| {
                let other = known.iter().find(|other| other.clashes(opened));
                if let Some(other) = other {
                    reasons.push(format!(
                        "opens {opened}, and there is a door of {other} already: one port has one door"
                    ));
                    return false;
                }
                known.push(opened.clone());
                true
            });
            if !reasons.is_empty() && key.opens.is_empty() && !key.everything {
                *item = left_out(key, &reasons);
                continue;
            }
            let left_out = reasons.iter().map(|reason| format!("left out: {reason}"));
            key.remarks.extend(left_out);
        }
        if known.iter().any(|opened| opened.place != Place::Here) {
            self.remarks.push(
                "`to` and `forward` need nftables, and a host that forwards packets. Other rules of FORWARD \
                 must let the doors' packets through."
                    .to_string(),
            );
        }
    }

    /// Returns whether some key opens every port.
    pub fn opens_everything(&self) -> bool {
        self.keys().any(|key| key.everything)
    }

    pub fn keys(&self) -> impl Iterator<Item = &DraftKey> {
        self.items.iter().filter_map(|item| match item {
            Item::Key(key) => Some(key),
            _ => None,
        })
    }
}

/// A key from which nothing is left. Its first remark says where it comes from.
fn left_out(key: &DraftKey, reasons: &[String]) -> Item {
    let from = key.remarks.first().unwrap_or(&key.called);
    Item::LeftOut {
        name: from.clone(),
        reason: reasons.join("; "),
    }
}
