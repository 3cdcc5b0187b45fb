//! Names to addresses, as the system does it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::process::{Command, Stdio};

/// A static program of glibc. Where nsswitch.conf names more than files and dns, its resolver would load
/// the host's module, with it the host's glibc, and die of it unless that is the release it was built
/// with (2.36 did on 2.31 and on 2.41). So it asks a program that belongs to the host.
const ASKS: bool = cfg!(all(target_env = "gnu", target_feature = "crt-static"));

/// The addresses of a host, in the order of the system. Their port is 0.
///
/// # Errors
/// When there are none, or nobody can be asked.
pub fn lookup(host: &str) -> io::Result<Vec<SocketAddr>> {
    if ASKS
        && is_name(host)
        && let Some(answer) = ask("getent", host)
    {
        return answer;
    }
    Ok((host, 0).to_socket_addrs()?.collect())
}

/// No address, for which nothing has to be loaded.
fn is_name(host: &str) -> bool {
    !host.contains(':') && host.parse::<Ipv4Addr>().is_err()
}

/// Asks the host's `getent`; `None` when there is none, or it says nothing that is understood.
fn ask(program: &str, host: &str) -> Option<io::Result<Vec<SocketAddr>>> {
    /// From getent(1): a key could not be found.
    const UNKNOWN: i32 = 2;
    let mut getent = Command::new(program);
    getent.args(["ahosts", "--", host]).stdin(Stdio::null());
    let output = getent.output().ok()?;
    if output.status.code() == Some(UNKNOWN) {
        let why = "the system knows no such name, or cannot ask for it";
        return Some(Err(io::Error::new(io::ErrorKind::NotFound, why)));
    }
    let said = String::from_utf8(output.stdout).ok()?;
    // "192.0.2.1       STREAM server.example", and the same for DGRAM and RAW.
    let streams = said.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next()?;
        (words.next()? == "STREAM").then_some(address)
    });
    let found: Vec<SocketAddr> = streams
        .filter_map(|address| (address, 0).to_socket_addrs().ok()?.next())
        .collect();
    (!found.is_empty()).then_some(Ok(found))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_knows_itself() {
        let asked = ask("getent", "localhost").unwrap().unwrap();
        assert!(asked.iter().all(|address| address.ip().is_loopback()));
        assert!(!lookup("localhost").unwrap().is_empty());
    }

    #[test]
    fn what_nobody_knows_is_not_found() {
        // RFC 6761: there is no such name.
        let asked = ask("getent", "door.invalid").unwrap();
        assert_eq!(asked.unwrap_err().kind(), io::ErrorKind::NotFound);
        let option = ask("getent", "--version").unwrap();
        assert_eq!(option.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn without_getent_the_program_looks_itself() {
        assert!(ask("/nowhere/getent", "localhost").is_none());
        assert!(ask("true", "localhost").is_none());
    }

    #[test]
    fn addresses_are_no_names() {
        for address in ["192.0.2.1", "2001:db8::1", "fe80::1%lo"] {
            assert!(!is_name(address), "{address}");
        }
        assert!(is_name("server.example") && is_name("192.0.2.example"));
    }
}
