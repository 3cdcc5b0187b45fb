//! The engine that the hosts of a fleet share: where it is, and the password it asks for.

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

/// `redis://[USER@]HOST[:PORT][/NUMBER]`, or `rediss://` for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    pub tls: bool,
    pub user: Option<String>,
    /// A name, or an address (without brackets).
    pub host: String,
    pub port: u16,
    /// Which of its databases.
    pub database: u8,
}

/// Why a text names no engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineError {
    Scheme,
    Host,
    Port,
    Database,
    User,
    /// There is a password in it. It is not repeated.
    Password,
}

/// Where Redis and Valkey listen.
const PORT: u16 = 6379;

impl FromStr for Engine {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Engine, EngineError> {
        let (tls, rest) = match (
            text.strip_prefix("redis://"),
            text.strip_prefix("rediss://"),
        ) {
            (Some(rest), _) => (false, rest),
            (_, Some(rest)) => (true, rest),
            (None, None) => return Err(EngineError::Scheme),
        };
        let (user, rest) = match rest.rsplit_once('@') {
            Some((user, _)) if user.contains(':') => return Err(EngineError::Password),
            Some((user, rest)) => (Some(user.to_string()), rest),
            None => (None, rest),
        };
        let plain = |user: &String| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
            (1..=64).contains(&user.len()) && user.bytes().all(allowed)
        };
        if user.as_ref().is_some_and(|user| !plain(user)) {
            return Err(EngineError::User);
        }
        let (place, database) = match rest.split_once('/') {
            Some((place, "")) => (place, 0),
            Some((place, number)) => (place, number.parse().map_err(|_| EngineError::Database)?),
            None => (rest, 0),
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(inner) => {
                let (address, after) = inner.split_once(']').ok_or(EngineError::Host)?;
                address
                    .parse::<std::net::Ipv6Addr>()
                    .map_err(|_| EngineError::Host)?;
                (address, after.strip_prefix(':'))
            }
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let named = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
        if host.is_empty() || host.len() > 253 || !host.bytes().all(named) {
            return Err(EngineError::Host);
        }
        let port = match port {
            Some(port) => port.parse().ok().filter(|port| *port != 0),
            None => Some(PORT),
        };
        Ok(Engine {
            tls,
            user,
            host: host.to_string(),
            port: port.ok_or(EngineError::Port)?,
            database,
        })
    }
}

/// For messages: where it is, and nothing more.
impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "rediss" } else { "redis" };
        match self.host.contains(':') {
            true => write!(f, "{scheme}://[{}]:{}", self.host, self.port),
            false => write!(f, "{scheme}://{}:{}", self.host, self.port),
        }
    }
}

/// The password that the engine asks for. Wiped from memory when dropped; never printed, not even by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// In bytes.
    pub const LONGEST: usize = 512;

    /// Takes the first line of a text. `None` when there is nothing in it, more than one line, or more
    /// than [`LONGEST`](Password::LONGEST) bytes.
    pub fn parse(text: &str) -> Option<Password> {
        let line = text.strip_suffix('\n').unwrap_or(text);
        let line = line.strip_suffix('\r').unwrap_or(line);
        let fits = !line.is_empty() && line.len() <= Password::LONGEST;
        let single = !line.contains(['\n', '\r', '\0']);
        (fits && single).then(|| Password(Zeroizing::new(line.to_string())))
    }

    /// For the engine alone.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Engine, EngineError> {
        text.parse()
    }

    #[test]
    fn engines_are_read() {
        let engine = read("redis://192.0.2.10").unwrap();
        assert_eq!((engine.tls, engine.port, engine.database), (false, 6379, 0));
        assert_eq!((engine.host.as_str(), engine.user), ("192.0.2.10", None));
        let engine = read("rediss://toctoc@engine.example:7000/3").unwrap();
        assert_eq!((engine.tls, engine.port, engine.database), (true, 7000, 3));
        assert_eq!(engine.user.as_deref(), Some("toctoc"));
        let engine = read("redis://[2001:db8::10]:6380/").unwrap();
        assert_eq!((engine.host.as_str(), engine.port), ("2001:db8::10", 6380));
        assert_eq!(engine.to_string(), "redis://[2001:db8::10]:6380");
    }

    #[test]
    fn what_is_no_engine_is_told_apart() {
        for (text, error) in [
            ("http://192.0.2.10", EngineError::Scheme),
            ("192.0.2.10:6379", EngineError::Scheme),
            ("redis://", EngineError::Host),
            ("redis://:6379", EngineError::Host),
            ("redis://a b", EngineError::Host),
            ("redis://[192.0.2.10]", EngineError::Host),
            ("redis://[::1", EngineError::Host),
            ("redis://h:0", EngineError::Port),
            ("redis://h:x", EngineError::Port),
            ("redis://h:70000", EngineError::Port),
            ("redis://h/x", EngineError::Database),
            ("redis://a/b@h", EngineError::User),
            ("redis://@h", EngineError::User),
            ("redis://toctoc:hunter2@h", EngineError::Password),
            ("redis://:hunter2@h", EngineError::Password),
        ] {
            assert_eq!(read(text), Err(error), "{text}");
        }
    }

    #[test]
    fn a_password_is_one_line_and_never_shown() {
        let password = Password::parse("correct horse\n").unwrap();
        assert_eq!(password.reveal(), "correct horse");
        assert_eq!(format!("{password:?}"), "Password(..)");
        for odd in ["", "\n", "a\nb", "a\0", &"x".repeat(513)] {
            assert_eq!(Password::parse(odd), None, "{odd:?}");
        }
    }
}
