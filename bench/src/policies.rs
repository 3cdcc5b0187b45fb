//! Policies of so many keys, and the classic script for as many: the same sequences for everybody.

use std::collections::HashSet;
use std::fmt::Write;
use std::io;

use toctoc::single_use::Secret;

use crate::place::Place;
use crate::random::Random;

/// The door's port.
pub const DOOR: u16 = 22;

/// Where tokens go.
pub const TOKEN_PORT: u16 = 40_123;

/// Five knocks that open.
pub type Sequence = [u16; 5];

/// As many sequences as are wanted, always the same ones. Ports go up and down in turn, so that no sweep
/// opens; the first one comes twice in none, so that no wrong knock is half right.
pub fn sequences(count: usize) -> Vec<Sequence> {
    let mut random = Random::new(1);
    let mut port = |low: u16, high: u16| loop {
        let port = low + random.below(u32::from(high - low)) as u16;
        if port != TOKEN_PORT {
            return port;
        }
    };
    let mut beginnings = HashSet::new();
    let mut all = Vec::with_capacity(count);
    while all.len() < count {
        let low = |port: &mut dyn FnMut(u16, u16) -> u16| port(1_024, 16_000);
        let high = |port: &mut dyn FnMut(u16, u16) -> u16| port(16_000, 60_000);
        let sequence = [
            low(&mut port),
            high(&mut port),
            low(&mut port),
            high(&mut port),
            low(&mut port),
        ];
        if beginnings.insert([sequence[0], sequence[1]])
            && sequence[0] != sequence[2]
            && sequence[2] != sequence[4]
        {
            all.push(sequence);
        }
    }
    all
}

/// A port that is in no sequence of [`sequences`].
pub fn unrelated(number: u32) -> u16 {
    60_100 + (number % 5_000) as u16
}

/// A policy with a key for each sequence, all for one door.
pub fn policy(more: &str, sequences: &[Sequence]) -> String {
    let mut text = format!("{more}\n[door.ssh]\nports = [{DOOR}]\n");
    for (number, sequence) in sequences.iter().enumerate() {
        let _ = write!(
            text,
            "\n[key.key{number}]\nopens = [\"ssh\"]\nsequence = {sequence:?}\n"
        );
    }
    text
}

/// The secrets of keys that are tokens, always the same ones.
pub fn secrets(keys: usize) -> Vec<Secret> {
    let mut random = Random::new(2);
    let mut secret = || {
        (0..4)
            .map(|_| format!("{:016x}", random.next()))
            .collect::<String>()
    };
    let parsed = (0..keys).map(|_| Secret::parse(&secret()));
    parsed
        .map(|secret| secret.expect("these are random enough"))
        .collect()
}

/// A policy with so many keys that are tokens; their secrets are written beside it.
///
/// # Errors
/// When a file cannot be written.
pub fn token_policy(place: &Place, keys: usize) -> io::Result<String> {
    with_secrets(place, keys, "token")
}

/// The same with signed keys.
///
/// # Errors
/// As for [`token_policy`].
pub fn signed_policy(place: &Place, keys: usize) -> io::Result<String> {
    with_secrets(place, keys, "signed")
}

fn with_secrets(place: &Place, keys: usize, kind: &str) -> io::Result<String> {
    let mut text = format!("token_port = {TOKEN_PORT}\n\n[door.ssh]\nports = [{DOOR}]\n");
    for (number, secret) in secrets(keys).iter().enumerate() {
        place.write(&format!("key{number}.secret"), &secret.hex())?;
        let _ = write!(
            text,
            "\n[key.key{number}]\nopens = [\"ssh\"]\n{kind} = \"key{number}.secret\"\n"
        );
    }
    Ok(text)
}

/// The classic script for as many sequences, as `iptables-restore` reads it: a chain `KNOCK22` with its
/// helpers for each, told apart by a letter and a number.
pub fn classic_script(sequences: &[Sequence]) -> String {
    let (mut chains, mut rules) = (String::new(), String::new());
    for (number, ports) in sequences.iter().enumerate() {
        let knock = format!("-A KNOCK{number} -p tcp -m state --state NEW");
        let list = |step: usize| format!("-m recent --name K{number}-{step}");
        let _ = writeln!(chains, ":KNOCK{number} - [0:0]");
        let _ = writeln!(
            rules,
            "{knock} -m tcp --dport {DOOR} {} --seconds 60 --rcheck -j ACCEPT",
            list(5)
        );
        for step in (2..=5).rev() {
            let (before, port, echo) = (list(step - 1), ports[step - 1], ports[step - 2]);
            let _ = writeln!(chains, ":KNOCK{number}-{step} - [0:0]");
            let _ = writeln!(
                rules,
                "-A KNOCK{number}-{step} {} --set -j RETURN",
                list(step)
            );
            let _ = writeln!(
                rules,
                "{knock} -m tcp --dport {port} {before} --remove -g KNOCK{number}-{step}"
            );
            let _ = writeln!(
                rules,
                "{knock} -m tcp --dport {echo} {before} --seconds 10 --rcheck -j RETURN"
            );
            let _ = writeln!(rules, "{knock} {before} --remove -j RETURN");
        }
        let _ = writeln!(
            rules,
            "{knock} -m tcp --dport {} {} --set -j RETURN",
            ports[0],
            list(1)
        );
        let _ = writeln!(rules, "-A INPUT -j KNOCK{number}");
    }
    format!(
        "*filter\n:INPUT DROP [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n{chains}\
         -A INPUT -m state --state ESTABLISHED,RELATED -j ACCEPT\n-A INPUT -f -j ACCEPT\n\
         -A INPUT -i lo -j ACCEPT\n{rules}COMMIT\n"
    )
}
