//! Which network namespaces of this machine are still there. They are told by numbers, and one that is gone
//! leaves its record behind.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// The number of the first namespace of processes, from which all are seen (`PROC_PID_INIT_INO`).
const ALL_PROCESSES: u64 = 0xEFFF_FFFC;

/// The numbers of the network namespaces that a process is in, has open, or sees mounted. `None` where not all
/// processes can be seen: nobody knows then which are gone.
pub fn living() -> Option<HashSet<u64>> {
    let own = fs::read_link("/proc/self/ns/pid").ok()?;
    if number("pid", own.to_str()?) != Some(ALL_PROCESSES) {
        return None;
    }
    let mut living = HashSet::new();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        if !name
            .to_string_lossy()
            .bytes()
            .all(|byte| byte.is_ascii_digit())
        {
            continue;
        }
        let path = process.path();
        let threads = fs::read_dir(path.join("task"))
            .into_iter()
            .flatten()
            .flatten();
        for thread in threads {
            // It has ended, or has more rights than we have: then it is none in which we were used.
            let link = fs::read_link(thread.path().join("ns/net")).ok();
            living.extend(link.and_then(|link| number("net", link.to_str()?)));
        }
        living.extend(opened(&path));
        let mounts = fs::read_to_string(path.join("mountinfo")).unwrap_or_default();
        let words = mounts.split_whitespace();
        living.extend(words.filter_map(|word| number("net", word)));
    }
    Some(living)
}

fn opened(process: &Path) -> Vec<u64> {
    let files = fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    let links = files.filter_map(|file| fs::read_link(file.path()).ok());
    let numbers = links.filter_map(|link| number("net", link.to_str()?));
    numbers.collect()
}

/// The number in "net:[4026531840]".
fn number(kind: &str, link: &str) -> Option<u64> {
    let number = link.strip_prefix(kind)?.strip_prefix(":[")?;
    number.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_told_by_its_number() {
        assert_eq!(number("net", "net:[4026531840]"), Some(4_026_531_840));
        for odd in ["net:[]", "net:[x]", "mnt:[1]", "net:1", ""] {
            assert_eq!(number("net", odd), None, "{odd}");
        }
        let own = fs::read_link("/proc/self/ns/net").unwrap();
        let own = number("net", own.to_str().unwrap()).unwrap();
        assert!(living().is_none_or(|living| living.contains(&own)));
    }
}
