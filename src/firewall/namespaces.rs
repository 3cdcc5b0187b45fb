//! Network namespaces of this machine: which one this is, and which are still there. Their numbers are given again
//! when one is gone, and it leaves its record behind.

use std::collections::HashSet;
use std::path::Path;
use std::{fmt, fs, io};

use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use serde::{Deserialize, Serialize};

use super::netlink_listing::{listing, word};

/// A name for a network namespace that no other one has had or gets since the start of the machine: the cookie of the
/// socket by which the kernel answers rtnetlink(7) there. (`SO_NETNS_COOKIE` takes a newer kernel, and code that Rust
/// cannot check.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cookie(u64);

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Cookie {
    /// The one of this thread's namespace. `None` where the kernel does not tell it (`CONFIG_NETLINK_DIAG`).
    pub fn own() -> Option<Cookie> {
        Cookie::ask().ok().flatten()
    }

    /// Asks for all sockets of rtnetlink in this namespace: the kernel's own one has no port (sock_diag(7),
    /// linux/netlink_diag.h).
    fn ask() -> io::Result<Option<Cookie>> {
        /// `SOCK_DIAG_BY_FAMILY`; `struct netlink_diag_req` for `AF_NETLINK` and `NETLINK_ROUTE`.
        const BY_FAMILY: u16 = 20;
        const QUESTION: [u8; 20] = {
            let mut question = [0; 20];
            question[0] = 16;
            question
        };
        let mut cookie = None;
        listing(NETLINK_SOCK_DIAG, BY_FAMILY, &QUESTION, |message| {
            cookie = cookie.or_else(|| kernels_own(message.body()).map(Cookie));
        })?;
        Ok(cookie)
    }
}

/// Returns whether this may be the network namespace with that cookie: it is, or one of the two is not known.
pub fn is_here(cookie: Option<Cookie>) -> bool {
    match (cookie, Cookie::own()) {
        (Some(cookie), Some(own)) => cookie == own,
        _ => true,
    }
}

/// The cookie of a socket, if it is the kernel's own: `struct netlink_diag_msg` has the port at 4, and the cookie in two
/// halves at 20.
fn kernels_own(socket: &[u8]) -> Option<u64> {
    let cookie = u64::from(word(socket, 20)?) | u64::from(word(socket, 24)?) << 32;
    (word(socket, 4)? == 0).then_some(cookie)
}

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
    fn the_socket_of_the_kernel_tells_its_cookie() {
        let mut socket = [0; 28];
        socket[20..28].copy_from_slice(&0x1_0000_0002_u64.to_ne_bytes());
        assert_eq!(kernels_own(&socket), Some(0x1_0000_0002));
        socket[4] = 7;
        assert_eq!(kernels_own(&socket), None);
        assert_eq!(kernels_own(&socket[..27]), None);
        let own = Cookie::own();
        assert!(own.is_some() && own == Cookie::own());
    }

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
