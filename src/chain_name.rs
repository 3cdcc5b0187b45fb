//! Names of chains of iptables. They have room for 28 bytes, so a policy has to know them too: two names that are cut to
//! the same would be one.

/// The chain that everything begins with, and the beginning of every other chain's name.
pub const CHAIN: &str = "toctoc";

/// A chain's name has room for 28 bytes; what is longer ends in a hash of the whole.
pub fn chain(what: &str) -> String {
    const LONGEST: usize = 28;
    let name = format!("{CHAIN}-{what}");
    if name.len() <= LONGEST {
        return name;
    }
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    format!("{}~{hash:08x}", &name[..LONGEST - 9])
}

/// All chains that are called by this name, of a door or a key.
pub fn chains_of(name: &str) -> Vec<String> {
    let kinds = [
        "door",
        "inner-door",
        "renew",
        "over-2592000s",
        "opens",
        "gives",
        "forget",
        "knock",
    ];
    let chains = kinds.iter().map(|kind| match *kind {
        "knock" => chain(&format!("knock-{name}-31")),
        kind => chain(&format!("{kind}-{name}")),
    });
    chains.collect()
}
