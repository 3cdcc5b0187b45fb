//! More grants than anybody knocks for.

use std::io;

use toctoc::lab::CLIENT;

use crate::frames::source;
use crate::place::{Place, until};

/// Adds grants of so many other sources like the one that there is, that of the client.
pub fn fill(place: &Place, count: u32) -> io::Result<()> {
    let mut script = String::new();
    for set in ["opened4", "grants4"] {
        let mut real = String::new();
        until("the grant of a knock is there", || {
            let listed = place.on_server(&["nft", "list", "set", "inet", "toctoc", set])?;
            let element = listed.split_once(CLIENT[0]).map(|(_, rest)| rest);
            let ids = element.and_then(|rest| rest.split_once(" timeout"));
            real = ids.map(|(ids, _)| ids.to_string()).unwrap_or_default();
            Ok(!real.is_empty())
        })?;
        let elements = (0..count).map(|number| format!("{}{real} timeout 1h", source(number)));
        let elements: Vec<String> = elements.collect();
        script += &format!(
            "add element inet toctoc {set} {{ {} }}\n",
            elements.join(", ")
        );
    }
    place.feed(&["nft", "-f", "-"], &script)?;
    Ok(())
}
