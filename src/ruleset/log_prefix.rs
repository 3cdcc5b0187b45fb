//! The words that a rule puts before what it logs: which key opened which door.
//!
//! The kernel's log is believed only where it begins with one of these ([`log::Rules`](crate::log::Rules)).

/// The longest prefix of the LOG target of iptables, in bytes.
pub const ROOM_IN_LOG: usize = 29;

/// The longest prefix of its NFLOG target, in bytes.
pub const ROOM_IN_NFLOG: usize = 63;

/// The prefix where there is room for everything, as in nftables.
pub fn whole(door: &str, key: &str) -> String {
    format!("toctoc: opened door={door} key={key} ")
}

/// The prefix in at most `room` bytes. Names are cut where nothing else helps.
pub fn within(door: &str, key: &str, room: usize) -> String {
    for prefix in [
        whole(door, key),
        format!("toctoc: door={door} key={key} "),
        format!("toctoc: {door} {key} "),
    ] {
        if prefix.len() <= room {
            return prefix;
        }
    }
    let (door, key) = cut(door, key, room);
    format!("toctoc: {door} {key} ")
}

/// Both names, as far as there is room for them.
fn cut<'n>(door: &'n str, key: &'n str, room: usize) -> (&'n str, &'n str) {
    let each = (room - "toctoc:   ".len()) / 2;
    let door = &door[..door.len().min(each)];
    let key = &key[..key.len().min(2 * each - door.len())];
    (door, key)
}

/// Every prefix that a rule of either backend may have for an opening.
pub fn all(door: &str, key: &str) -> [String; 3] {
    [
        whole(door, key),
        within(door, key, ROOM_IN_LOG),
        within(door, key, ROOM_IN_NFLOG),
    ]
}

/// The names in a prefix of any of these forms, as they were written there.
pub fn names(prefix: &str) -> Option<(&str, &str)> {
    let words = prefix.strip_prefix("toctoc: ")?.strip_suffix(' ')?;
    let labelled = words.strip_prefix("opened ");
    let (door, key) = labelled.unwrap_or(words).split_once(' ')?;
    let pair = match (door.strip_prefix("door="), key.strip_prefix("key=")) {
        (Some(door), Some(key)) => (door, key),
        (None, None) if labelled.is_none() => (door, key),
        _ => return None,
    };
    let is_name = |name: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !name.is_empty() && name.chars().all(allowed)
    };
    (is_name(pair.0) && is_name(pair.1)).then_some(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_fits_and_its_names_are_read_back() {
        for (door, key, room, wanted) in [
            (
                "ssh",
                "yves",
                ROOM_IN_NFLOG,
                "toctoc: opened door=ssh key=yves ",
            ),
            ("ssh", "yves", ROOM_IN_LOG, "toctoc: door=ssh key=yves "),
            (
                "ssh",
                "alice-phone",
                ROOM_IN_LOG,
                "toctoc: ssh alice-phone ",
            ),
        ] {
            let prefix = within(door, key, room);
            assert_eq!(prefix, wanted);
            assert_eq!(names(&prefix), Some((door, key)));
        }
        let long = within(&"d".repeat(32), &"k".repeat(32), ROOM_IN_LOG);
        assert_eq!(long, "toctoc: ddddddddd kkkkkkkkk ");
        assert_eq!(names(&long), Some(("ddddddddd", "kkkkkkkkk")));
    }

    #[test]
    fn what_no_rule_writes_has_no_names() {
        for odd in [
            "",
            "toctoc: ",
            "toctoc: ssh ",
            "toctoc: ssh yves",
            "toctoc:  yves ",
            "toctoc: ssh yves x ",
            "toctoc: opened ssh yves ",
            "toctoc: door=ssh yves ",
            "toctoc: opened door=ssh key= ",
            "toctoc: ssh y[5]: ",
            " toctoc: ssh yves ",
            "toctoc: s\\x0ah yves ",
        ] {
            assert_eq!(names(odd), None, "{odd}");
        }
    }
}
