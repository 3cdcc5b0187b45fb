//! The messages of nft: whether one says that something is missing, and how it can be shown. Pure.

use crate::ruleset::nftables::TABLE;

/// nft repeats what it refuses: a token that has not been spent is a secret.
pub fn masked(said: &str) -> String {
    let mut parts = said.split("0x");
    let mut text = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let digits = part.bytes().take_while(u8::is_ascii_hexdigit).count();
        let shown = if digits > 16 { ".." } else { &part[..digits] };
        text.push_str(&format!("0x{shown}{}", &part[digits..]));
    }
    text
}

/// Returns whether nft says that the kernel has no nftables. That it may not ask the kernel is something else.
pub fn lacks_nftables(said: &str) -> bool {
    said.contains("not supported") && !said.contains("Address family not supported")
}

/// Returns whether nft, of whatever release, says that there is no such table. It quotes the command in the
/// line below its error; other files that it misses look different.
pub fn says_no_table(stderr: &str) -> bool {
    let lines: Vec<&str> = stderr.lines().collect();
    let command = format!("list table {TABLE}");
    lines.windows(2).any(|pair| {
        pair[0].starts_with("Error: No such file or directory") && pair[1].trim_end() == command
    })
}

#[cfg(test)]
mod tests {
    use super::{masked, says_no_table};

    #[test]
    fn a_token_is_not_repeated() {
        let said = "add element inet toctoc tokens { 0x00112233445566778899aabbccddeeff timeout 5s }\n 0x3fff 0x";
        assert_eq!(
            masked(said),
            "add element inet toctoc tokens { 0x.. timeout 5s }\n 0x3fff 0x"
        );
    }

    #[test]
    fn a_missing_table_is_told_from_other_missing_things() {
        for missing in [
            "Error: No such file or directory\nlist table inet toctoc\n                ^^^^^^\n",
            "Error: No such file or directory; did you mean table ‘toctoc’ in family ip?\n\
             list table inet toctoc\n                ^^^^^^\n",
        ] {
            assert!(says_no_table(missing), "{missing}");
        }
        for other in [
            "",
            "nft: error while loading shared libraries: libnftables.so.1: cannot open shared object \
             file: No such file or directory\n",
            "In file included from /etc/nft.conf:1:1:\nError: No such file or directory\n\
             include \"/nowhere\"\n",
            "Error: Could not process rule: No such file or directory\nlist table inet toctoc\n",
        ] {
            assert!(!says_no_table(other), "{other}");
        }
    }
}
