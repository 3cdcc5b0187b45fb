//! The meaning of a program's refusal, and the way out, where both are known. Its own words follow.

use std::fs;

/// The oldest nft that our scripts are tested with (Debian 11).
const OLDEST_NFT: [u32; 3] = [0, 9, 8];

/// When the caller has not the right to change the firewall.
pub fn without_rights(said: &str) -> Option<String> {
    let words = [
        "Operation not permitted",
        "Permission denied",
        "you must be root",
    ];
    let meant = words.iter().any(|words| said.contains(words));
    meant.then(|| WITHOUT_RIGHTS.to_string())
}

const WITHOUT_RIGHTS: &str = "this needs root (or CAP_NET_ADMIN): try with sudo";

/// Returns whether a hint says all that there is to say: to an ordinary user, the program's own words add nothing.
pub fn is_all(hint: &str) -> bool {
    hint == WITHOUT_RIGHTS && !rustix::process::geteuid().is_root()
}

/// When nft is older than what our scripts need, or lacks what a packager left out. `version` is what
/// it prints for `--version`, asked only if it is needed.
pub fn unable_nft(said: &str, version: impl FnOnce() -> String) -> Option<String> {
    if said.contains("JSON support not compiled") {
        let hint = "this nft was built without JSON, which toctoc reads: install the full one \
                    (OpenWrt: nftables-json)";
        return Some(hint.to_string());
    }
    let version = version();
    let number = parse(&version)?;
    (number < OLDEST_NFT).then(|| {
        let text = |[major, minor, patch]: [u32; 3]| format!("{major}.{minor}.{patch}");
        let (found, oldest) = (text(number), text(OLDEST_NFT));
        format!(
            "nft {found} is too old: toctoc needs {oldest} or later (Debian 11, Ubuntu 22.04, ...); \
             `backend = \"iptables\"` does without nft"
        )
    })
}

/// When the kernel, not the program, has said no to something that it does not know.
pub fn unable_kernel(said: &str, modules: &str) -> Option<String> {
    let kernels_own = [
        "Could not process rule: ",
        "failed (",
        "missing kernel module",
    ];
    let unknown = [
        "not supported",
        "No such file or directory",
        "Invalid argument",
    ];
    let by_kernel = kernels_own.iter().any(|words| said.contains(words));
    let meant = by_kernel && unknown.iter().any(|words| said.contains(words));
    meant.then(|| {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let release = release.trim();
        format!("this kernel (Linux {release}) may lack what the ruleset needs ({modules})")
    })
}

/// "nftables v1.0.6 (Lester Gooch #5)" as a number. "v1.1" is 1.1.0.
fn parse(version: &str) -> Option<[u32; 3]> {
    let number = version.split_whitespace().nth(1)?.strip_prefix('v')?;
    let mut parts = number.split('.').map(|part| part.parse().ok());
    let major = parts.next()??;
    let rest = [parts.next(), parts.next()].map(|part| part.flatten().unwrap_or(0));
    Some([major, rest[0], rest[1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_nft_are_compared_as_numbers() {
        for (version, old) in [
            ("nftables v0.8.2 (Joe Btfsplk)", true),
            ("nftables v0.9 (Topsy)", true),
            ("nftables v0.9.8 (E.D.S.)", false),
            ("nftables v0.10.0 (x)", false),
            ("nftables v1.1.3 (Commodore Bullmoose #4)", false),
            ("something else", false),
            ("", false),
        ] {
            let hint = unable_nft("Error: syntax error", || version.to_string());
            assert_eq!(hint.is_some(), old, "{version}");
        }
    }

    /// A mistake in what we wrote is not blamed on the kernel.
    #[test]
    fn syntax_errors_are_not_blamed_on_the_kernel() {
        for (said, kernel) in [
            (
                "/dev/stdin:3:9-17: Error: Could not process rule: Operation not supported",
                true,
            ),
            (
                "Warning: Extension recent revision 0 not supported, missing kernel module?",
                true,
            ),
            (
                "iptables-restore: line 12: RULE_APPEND failed (No such file or directory)",
                true,
            ),
            ("Error: Could not process rule: File exists", false),
            ("Error: syntax error, unexpected th", false),
            ("Bad argument `x'\nError occurred at line: 2", false),
        ] {
            assert_eq!(unable_kernel(said, "m").is_some(), kernel, "{said}");
        }
    }
}
