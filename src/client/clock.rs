//! The difference between this clock and that of a host, as far as a stranger can find out: a web server there
//! says the time in each answer. Nobody vouches for it; it is a hint for a person.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Asks the web server of a host for its time, in seconds since 1970. `None` when there is none, or it
/// does not answer in a second or so. The port of `host` is not used.
pub fn time_at(host: SocketAddr) -> Option<i64> {
    const PATIENCE: Duration = Duration::from_secs(1);
    let mut address = host;
    address.set_port(80);
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    stream
        .write_all(b"HEAD / HTTP/1.0\r\nConnection: close\r\n\r\n")
        .ok()?;
    let mut answer = Vec::new();
    let mut part = [0; 1024];
    // No more than headers have, and no longer than a moment.
    let start = Instant::now();
    while answer.len() < 8 * part.len() && start.elapsed() < PATIENCE {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => break,
            Ok(length) => answer.extend_from_slice(&part[..length]),
        }
        if let Some(time) = date_of(&String::from_utf8_lossy(&answer)) {
            return Some(time);
        }
    }
    None
}

/// The `Date` of a whole line of an answer (RFC 9110, 5.6.7).
fn date_of(answer: &str) -> Option<i64> {
    let lines = answer
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    let mut dates = lines.filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("date").then_some(value.trim())
    });
    let date = dates.next()?.strip_suffix("GMT")?;
    let time = jiff::fmt::strtime::parse("%a, %d %b %Y %H:%M:%S ", date).ok()?;
    let time = time.to_datetime().ok()?;
    let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(time.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::date_of;

    #[test]
    fn a_date_is_read_once_its_line_is_whole() {
        let answer = "HTTP/1.0 200 OK\r\nServer: x\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n";
        assert_eq!(date_of(answer), Some(784_111_777));
        assert_eq!(date_of(&answer[..answer.len() - 4]), None);
        for odd in [
            "",
            "Date: now\r\n",
            "Date: Sun, 06 Nov 1994 08:49:37\r\n",
            "Date\r\n",
        ] {
            assert_eq!(date_of(odd), None, "{odd}");
        }
    }
}
