//! A policy being written: what was found, in the order of the other file.

use crate::knock::{Knock, PortRange};

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
    pub times: Vec<(PortRange, u64)>,
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
    pub opens: Vec<PortRange>,
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
        let around = |range: &mut PortRange| {
            range.is_several() && knocks.iter().any(|knock| range.contains(*knock))
        };
        let around: Vec<PortRange> = key.opens.extract_if(.., around).collect();
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
