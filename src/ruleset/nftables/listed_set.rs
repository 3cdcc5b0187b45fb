//! A set or map as nft lists it, and what its elements say.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use super::elements::Part;
use super::parse_classid;
use crate::held::Opened;
use crate::policy::{DoorId, KeyId};

#[derive(Debug, Default, Clone)]
pub(super) struct ListedSet {
    /// Types, size, timeout and flags.
    pub declaration: BTreeMap<&'static str, Value>,
    pub is_map: bool,
    pub elements: Vec<Value>,
}

impl ListedSet {
    /// Returns whether this is the set or map that `types` (`ipv4_addr . classid`), `size` and a timeout flag
    /// declare. Of what is taken from the packet (`@th,64,128`) each release of nft says something
    /// else, and only whether it is a map is looked at.
    pub fn is_declared(&self, types: &str, size: Option<u32>) -> bool {
        let flags = self.declaration.get("flags").map(Value::to_string);
        let taken = types.starts_with('@');
        self.is_map == types.contains(':')
            && (taken || self.types("type") == types)
            && self.size() == size.map(u64::from)
            && flags.is_some_and(|flags| flags.contains("\"timeout\""))
            && self.declares_only(&["type", "map", "size", "flags"])
    }

    /// As nft calls it: a set, or a map.
    pub fn word(&self) -> &'static str {
        if self.is_map { "map" } else { "set" }
    }

    /// The number of elements it has room for.
    pub fn size(&self) -> Option<u64> {
        self.declaration.get("size").and_then(Value::as_u64)
    }

    fn declares_only(&self, fields: &[&str]) -> bool {
        self.declaration.keys().all(|field| fields.contains(field))
    }

    /// Returns whether this is a set or map of `types` (`inet_proto . inet_service : verdict`) with nothing else said
    /// of it but, if `timeout`, that flag.
    pub fn is_plain(&self, types: &str, timeout: bool) -> bool {
        let own = match self.is_map {
            true => format!("{} : {}", self.types("type"), self.types("map")),
            false => self.types("type"),
        };
        let flags = self.declaration.get("flags");
        let flagged = match flags.filter(|flags| !flags.is_null()) {
            Some(flags) => timeout && flags.to_string().contains("\"timeout\""),
            None => !timeout,
        };
        own == types && flagged && self.declares_only(&["type", "map", "flags"])
    }

    fn types(&self, key: &str) -> String {
        match self.declaration.get(key) {
            Some(Value::Array(parts)) => {
                let parts: Vec<&str> = parts.iter().filter_map(Value::as_str).collect();
                parts.join(" . ")
            }
            Some(Value::String(one)) => one.clone(),
            _ => String::new(),
        }
    }
}

/// Returns whether an element is without any time.
pub(super) fn is_endless(element: &Value) -> bool {
    let inner = element.get("elem").unwrap_or(element);
    inner.get("timeout").is_none() && inner.get("expires").is_none()
}

/// Returns whether an element of a set or map stands for every key that has none of its own.
pub(super) fn is_for_all(element: &Value) -> bool {
    let key = element.get(0).unwrap_or(element);
    let key = key.get("elem").map_or(key, |elem| &elem["val"]);
    key == "*"
}

/// The parts of a set's element and its remaining time. An element is a bare value, or wrapped:
/// `{"elem": {"val": value, "timeout": 60, "expires": 41}}`; a value is one part or
/// `{"concat": [parts]}`.
pub(super) fn element_parts(element: &Value) -> Option<(Vec<&Value>, Duration)> {
    let (value, expires) = match element.get("elem") {
        Some(elem) => (elem.get("val")?, elem["expires"].as_u64()),
        None => (element, None),
    };
    let parts = match value.get("concat").and_then(Value::as_array) {
        Some(parts) => parts.iter().collect(),
        None => vec![value],
    };
    // An element without a remaining time cannot be one of ours: nothing here lasts for ever. It
    // is shown as ending now.
    Some((parts, Duration::from_secs(expires.unwrap_or_default())))
}

/// The parts of an element, if all of them are of types that our sets of grants have.
pub(super) fn key_of(element: &Value) -> Option<Vec<Part>> {
    if is_for_all(element) {
        return Some(vec![Part::Everything]);
    }
    let text = |text: &str| {
        let address = text.parse().ok().map(Part::Address);
        address.or_else(|| parse_classid(text).map(Part::Class))
    };
    let (parts, _) = element_parts(element)?;
    let mut key = Vec::new();
    for part in parts {
        match (part.as_str(), part.as_u64()) {
            (Some(several), _) => {
                for part in several.split(" . ") {
                    key.push(text(part)?);
                }
            }
            (None, Some(port)) => key.push(Part::Port(u16::try_from(port).ok()?)),
            (None, None) => return None,
        }
    }
    Some(key)
}

/// The rest of the life of an element in milliseconds, where the kernel was asked without nft.
pub const EXACTLY_LEFT: &str = "exactly";

/// The rest of the life of an element, as exactly as it is told.
pub(super) fn exactly_left(element: &Value) -> Duration {
    let elem = &element["elem"];
    match elem[EXACTLY_LEFT].as_u64() {
        Some(milliseconds) => Duration::from_millis(milliseconds),
        None => Duration::from_secs(elem["expires"].as_u64().unwrap_or_default()),
    }
}

/// An element of `opened4/6`.
pub(super) fn opened_of(element: &Value) -> Option<Opened> {
    let (parts, expires_in) = element_parts(element)?;
    let [source, door, key] = parts.as_slice() else {
        return None;
    };
    Some(Opened {
        source: address_of(source)?,
        door: DoorId(classid_of(door)?),
        key: KeyId(classid_of(key)?),
        expires_in,
        given_for: timeout_of(element),
    })
}

/// The least time since an element was given its time. What is left is told to the second below.
pub(super) fn ago(all: Duration, left: Duration) -> Duration {
    all.saturating_sub(left + Duration::from_secs(1))
}

/// The time that an element was given; none where nft does not say.
pub(super) fn timeout_of(element: &Value) -> Duration {
    let given = element.pointer("/elem/timeout").and_then(Value::as_u64);
    Duration::from_secs(given.unwrap_or_default())
}

pub(super) fn address_of(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}

pub(super) fn classid_of(value: &Value) -> Option<u32> {
    match value.as_str() {
        Some(text) => parse_classid(text),
        None => value.as_u64().and_then(|n| u32::try_from(n).ok()),
    }
}
